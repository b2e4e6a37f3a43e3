"""PyTorch's nn.Conv2d, whole, in plain C.

    import fonio, numpy
    x, w = numpy.ones((1, 3, 8, 8), "float32"), numpy.ones((4, 3, 3, 3), "float32")
    y = fonio.conv2d(x, w, padding="same")      # an array of (1, 4, 8, 8)

conv2d, conv2d_input and conv2d_weight take NumPy arrays, torch tensors, JAX arrays and whatever else has a buffer or
speaks DLPack, read them where they lie, and give back what they were given. No library is imported before an array of
it comes.
"""

from fonio._config import explain, show_config
from fonio._core import (
    conv2d,
    conv2d_input,
    conv2d_weight,
    get_accuracy,
    get_num_threads,
    set_accuracy,
    set_num_threads,
)
from fonio._core import version as __version__
from fonio._dtypes import (
    Size,
    bfloat16,
    complex32,
    complex64,
    complex128,
    dtype,
    float8_e4m3fn,
    float8_e5m2,
    float16,
    float32,
    float64,
    int8,
    int16,
    int32,
    int64,
    uint8,
    uint16,
    uint32,
    uint64,
)
from fonio._dtypes import bool_ as bool
from fonio._dtypes import complex32 as chalf
from fonio._dtypes import complex64 as cfloat
from fonio._dtypes import complex128 as cdouble
from fonio._dtypes import float16 as half
from fonio._dtypes import float32 as float
from fonio._dtypes import float64 as double
from fonio._dtypes import int16 as short
from fonio._dtypes import int32 as int
from fonio._dtypes import int64 as long
from fonio._functions import (
    Generator,
    add,
    allclose,
    arange,
    argmax,
    div,
    empty,
    enable_grad,
    equal,
    exp,
    flatten,
    from_dlpack,
    from_numpy,
    full,
    initial_seed,
    is_grad_enabled,
    is_tensor,
    log,
    manual_seed,
    mean,
    mul,
    neg,
    no_grad,
    ones,
    ones_like,
    pow,
    rand,
    randint,
    randn,
    randperm,
    relu,
    seed,
    set_grad_enabled,
    set_printoptions,
    sub,
    sum,
    tensor,
    zeros,
    zeros_like,
)
from fonio._tensor import Tensor, channels_last, contiguous_format

TYPE_CHECKING = False
if TYPE_CHECKING:
    from fonio import autograd, nn, optim, torch
else:

    def __getattr__(name: str) -> object:
        """fonio.autograd, fonio.nn, fonio.optim and fonio.torch, which are imported when they are first asked for."""
        if name in ("autograd", "nn", "optim", "torch"):
            import importlib

            return importlib.import_module(f"fonio.{name}")
        raise AttributeError(f"module 'fonio' has no attribute '{name}'")


__all__ = [
    "Generator",
    "Size",
    "Tensor",
    "__version__",
    "add",
    "allclose",
    "arange",
    "argmax",
    "autograd",
    "bfloat16",
    "bool",
    "cdouble",
    "cfloat",
    "chalf",
    "channels_last",
    "complex128",
    "complex32",
    "complex64",
    "contiguous_format",
    "conv2d",
    "conv2d_input",
    "conv2d_weight",
    "div",
    "double",
    "dtype",
    "empty",
    "enable_grad",
    "equal",
    "exp",
    "explain",
    "flatten",
    "float",
    "float16",
    "float32",
    "float64",
    "float8_e4m3fn",
    "float8_e5m2",
    "from_dlpack",
    "from_numpy",
    "full",
    "get_accuracy",
    "get_num_threads",
    "half",
    "initial_seed",
    "int",
    "int16",
    "int32",
    "int64",
    "int8",
    "is_grad_enabled",
    "is_tensor",
    "log",
    "long",
    "manual_seed",
    "mean",
    "mul",
    "neg",
    "nn",
    "no_grad",
    "ones",
    "ones_like",
    "optim",
    "pow",
    "rand",
    "randint",
    "randn",
    "randperm",
    "relu",
    "seed",
    "set_accuracy",
    "set_grad_enabled",
    "set_num_threads",
    "set_printoptions",
    "short",
    "show_config",
    "sub",
    "sum",
    "tensor",
    "uint16",
    "uint32",
    "uint64",
    "uint8",
    "zeros",
    "zeros_like",
]
