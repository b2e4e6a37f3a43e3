"""The public C interface for the tests: libfonio.so through ctypes, and torch tensors over the same memory.

    x = Tensor.wrap(torch.randn(1, 3, 8, 8))        # a fonio tensor over torch's memory, strides and all
    y = conv2d(x, w, None, stride=2, padding="same")
    y.torch()                                       # a torch tensor with the values and strides of y
    lib.tensor_ndim(y.handle)                       # any function, by its name without fonio_

A failure becomes the Python exception that the status is named after, with fonio_last_error() as its text. A function
that a test needs is one line in SIGNATURES.
"""

import ctypes
import gc
import itertools
import os
import pathlib
import sys
from ctypes import POINTER, c_bool, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint64, c_void_p

import torch

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.append(str(ROOT))

from bench.library import RELEASE, Args, Buffers, Library, PlanOptions, Problem  # noqa: E402

BOTH = -(2**63)  # FONIO_BOTH
ZEROS, REFLECT, REPLICATE, CIRCULAR = range(4)  # fonio_padding_mode
FORWARD, INPUT_GRADIENT, WEIGHT_GRADIENT = range(3)  # fonio_conv_direction
UNSET, STRICT, DEFAULT, FAST = range(4)  # fonio_accuracy

# ---- Structs, as the headers have them: those that the benchmark does without ----


class Array(ctypes.Structure):
    """fonio_array."""

    _fields_ = [("dtype", c_int), ("ndim", c_int), ("shape", POINTER(c_int64)), ("strides", POINTER(c_int64))]


class PoolArgs(ctypes.Structure):
    """fonio_pool2d_args."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        *((name, c_int64 * 2) for name in ("kernel_size", "stride", "padding", "dilation")),
        ("ceil_mode", c_bool),
        ("count_include_pad", c_bool),
        ("divisor_override", c_int64),
    ]


class PrintOptions(ctypes.Structure):
    """fonio_printoptions."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("precision", c_int64),
        ("threshold", c_double),
        ("edgeitems", c_int64),
        ("linewidth", c_int64),
        ("profile", c_char_p),
        ("sci_mode", c_int),
    ]


# ---- Functions ----

WARNING = ctypes.CFUNCTYPE(None, c_char_p, c_void_p)
HOOK = ctypes.CFUNCTYPE(c_int, c_void_p, POINTER(c_void_p), c_void_p)
handle, sizes = c_void_p, POINTER(c_int64)

# name without fonio_: (result, arguments)
SIGNATURES = {
    "last_error": (c_char_p, []),
    "last_status": (c_int, []),
    "clear_error": (None, []),
    "status_name": (c_char_p, [c_int]),
    "set_warning_handler": (None, [WARNING, c_void_p]),
    "live_allocations": (c_int64, []),
    "isa": (c_char_p, []),
    "set_num_threads": (c_int, [c_int]),
    "num_threads": (c_int, []),
    "dtype_name": (c_char_p, [c_int]),
    "conv2d_args_default": (Args, []),
    "conv_problem_init": (c_int, [POINTER(Problem)] + [POINTER(Array)] * 3 + [POINTER(Args)]),
    "conv_problem_parse": (c_int, [POINTER(Problem), c_char_p]),
    "conv_problem_print": (c_size_t, [POINTER(Problem), c_char_p, c_size_t]),
    "set_accuracy": (c_int, [c_int]),
    "conv_plan_new": (handle, [POINTER(Problem), POINTER(PlanOptions)]),
    "conv_plan_release": (None, [handle]),
    "conv_plan_algorithm": (c_char_p, [handle]),
    "conv_plan_workspace_bytes": (c_int64, [handle, c_int]),
    "conv_plan_explain": (c_char_p, [handle]),
    "conv_plan_pack": (handle, [handle, c_void_p]),
    "conv_packed_release": (None, [handle]),
    "conv_plan_run": (c_int, [handle, POINTER(Buffers)]),
    "conv_algorithm_name": (c_char_p, [c_int]),
    "tensor_retain": (handle, [handle]),
    "tensor_empty": (handle, [c_int, c_int, sizes]),
    "tensor_zeros": (handle, [c_int, c_int, sizes]),
    "tensor_ones": (handle, [c_int, c_int, sizes]),
    "tensor_full": (handle, [c_int, c_double, c_int, sizes]),
    "tensor_arange": (handle, [c_int, c_double, c_double, c_double]),
    "tensor_from_data": (handle, [c_int, c_void_p, c_int, sizes]),
    "tensor_empty_channels_last": (handle, [c_int, sizes]),
    "tensor_size": (c_int64, [handle, c_int]),
    "tensor_storage_offset": (c_int64, [handle]),
    "tensor_is_contiguous": (c_bool, [handle]),
    "tensor_is_channels_last": (c_bool, [handle]),
    "tensor_version": (c_int64, [handle]),
    "tensor_item": (c_int, [handle, POINTER(c_double)]),
    "tensor_item_int64": (c_int, [handle, POINTER(c_int64)]),
    "tensor_at": (c_int, [handle, c_int, sizes, POINTER(c_double)]),
    "tensor_equal": (c_int, [handle, handle, POINTER(c_bool)]),
    "tensor_identical": (c_int, [handle, handle, POINTER(c_bool)]),
    "tensor_allclose": (c_int, [handle, handle, c_double, c_double, c_bool, POINTER(c_bool)]),
    "tensor_max_difference": (c_int, [handle, handle, POINTER(c_double)]),
    "tensor_select": (handle, [handle, c_int, c_int64]),
    "tensor_index": (handle, [handle, c_int, sizes]),
    "tensor_slice": (handle, [handle, c_int, c_int64, c_int64, c_int64]),
    "tensor_permute": (handle, [handle, c_int, sizes]),
    "tensor_expand": (handle, [handle, c_int, sizes]),
    "tensor_reshape": (handle, [handle, c_int, sizes]),
    "tensor_contiguous": (handle, [handle]),
    "tensor_channels_last": (handle, [handle]),
    "tensor_clone": (handle, [handle]),
    "tensor_to": (handle, [handle, c_int]),
    "tensor_fill": (c_int, [handle, c_double]),
    "tensor_copy": (c_int, [handle, handle]),
    "tensor_add": (handle, [handle, handle]),
    "tensor_mul": (handle, [handle, handle]),
    "tensor_sub": (handle, [handle, handle]),
    "tensor_div": (handle, [handle, handle]),
    "tensor_neg": (handle, [handle]),
    "tensor_exp": (handle, [handle]),
    "tensor_log": (handle, [handle]),
    "tensor_relu": (handle, [handle]),
    "tensor_pow": (handle, [handle, c_double]),
    "conv_activation_gradient": (c_int, [POINTER(Problem), c_void_p, c_void_p, c_void_p]),
    "tensor_conv2d_activated_with": (handle, [handle, handle, handle, POINTER(Args), c_int, c_double]),
    "tensor_pow_tensor": (handle, [handle, handle]),
    "number_pow_tensor": (handle, [c_double, handle]),
    "tensor_sum_dims": (handle, [handle, c_int, sizes, c_bool]),
    "tensor_mean_dims": (handle, [handle, c_int, sizes, c_bool]),
    "tensor_mm": (handle, [handle, handle]),
    "tensor_linear": (handle, [handle, handle, handle]),
    "tensor_flatten": (handle, [handle, c_int, c_int]),
    "pool2d_args_default": (PoolArgs, []),
    "tensor_max_pool2d_with": (handle, [handle, POINTER(PoolArgs)]),
    "tensor_avg_pool2d_with": (handle, [handle, POINTER(PoolArgs)]),
    "tensor_log_softmax": (handle, [handle, c_int]),
    "tensor_mse_loss": (handle, [handle, handle, c_int]),
    "tensor_nll_loss": (handle, [handle, handle, c_int64, c_int]),
    "tensor_cross_entropy": (handle, [handle, handle, c_int64, c_int, c_double]),
    "tensor_sum": (handle, [handle]),
    "tensor_mean": (handle, [handle]),
    "tensor_detach": (handle, [handle]),
    "tensor_release": (None, [handle]),
    "tensor_wrap": (handle, [c_int, c_void_p, c_int, sizes, sizes, RELEASE, c_void_p]),
    "tensor_dtype": (c_int, [handle]),
    "tensor_ndim": (c_int, [handle]),
    "tensor_shape": (sizes, [handle]),
    "tensor_strides": (sizes, [handle]),
    "tensor_numel": (c_int64, [handle]),
    "tensor_const_data": (c_void_p, [handle]),
    "tensor_conv2d_with": (handle, [handle] * 3 + [POINTER(Args)]),
    "tensor_conv2d_jvp_with": (handle, [handle] * 3 + [POINTER(Args)] + [handle] * 3),
    "tensor_register_hook": (c_int, [handle, HOOK, c_void_p, sizes]),
    "tensor_remove_hook": (c_int, [handle, c_int64]),
    "tensor_requires_grad": (c_bool, [handle]),
    "tensor_set_requires_grad": (c_int, [handle, c_bool]),
    "tensor_grad": (handle, [handle]),
    "tensor_grad_fn_name": (c_char_p, [handle]),
    "tensor_is_leaf": (c_bool, [handle]),
    "tensor_retain_grad": (c_int, [handle]),
    "tensor_set_grad": (c_int, [handle, handle]),
    "set_grad_enabled": (c_bool, [c_bool]),
    "grad_enabled": (c_bool, []),
    "tensor_backward_with": (c_int, [handle, handle, c_bool, c_bool]),
    "manual_seed": (None, [c_uint64]),
    "seed": (c_uint64, []),
    "initial_seed": (c_uint64, []),
    "generator_new": (handle, []),
    "generator_release": (None, [handle]),
    "generator_default": (handle, []),
    "generator_manual_seed": (c_int, [handle, c_uint64]),
    "generator_seed": (c_uint64, [handle]),
    "generator_initial_seed": (c_uint64, [handle]),
    "generator_randperm": (handle, [handle, c_int, c_int64]),
    "generator_uniform": (c_int, [handle, handle, c_double, c_double]),
    "generator_normal": (c_int, [handle, handle, c_double, c_double]),
    "generator_random": (c_int, [handle, handle, c_int64, c_int64]),
    "tensor_rand": (handle, [c_int, c_int, sizes]),
    "tensor_randn": (handle, [c_int, c_int, sizes]),
    "tensor_randint": (handle, [c_int, c_int64, c_int64, c_int, sizes]),
    "tensor_randperm": (handle, [c_int, c_int64]),
    "tensor_uniform": (c_int, [handle, c_double, c_double]),
    "tensor_normal": (c_int, [handle, c_double, c_double]),
    "tensor_random": (c_int, [handle, c_int64, c_int64]),
    "print": (c_int, [handle]),
    "tensor_to_text": (c_void_p, [handle]),
    "tensor_size_to_text": (c_void_p, [handle]),
    "dict_names_to_text": (c_void_p, [handle]),
    "text_release": (None, [c_void_p]),
    "set_printoptions_with": (c_int, [POINTER(PrintOptions)]),
    "get_printoptions": (PrintOptions, []),
    "printoptions_default": (PrintOptions, []),
    "grad": (c_int, [handle, c_int, POINTER(handle), handle, c_bool, c_bool, c_bool, POINTER(handle)]),
}


lib = Library(os.environ.get("FONIO_LIBRARY", ROOT / "build" / "libfonio.so"), SIGNATURES)

# ---- Failures ----

EXCEPTIONS = {
    1: MemoryError,
    2: ValueError,
    3: TypeError,
    4: RuntimeError,
    5: IndexError,
    6: KeyError,
    7: NotImplementedError,
    8: OSError,
}


def last_failure():
    """The last failure of this thread as an exception, ready to be raised."""
    return EXCEPTIONS[lib.last_status()](lib.last_error().decode())


def check(status):
    """Raises unless `status` is FONIO_OK."""
    if status != 0:
        assert status == lib.last_status()
        raise last_failure()


# ---- Tensors ----

DTYPES = (  # in the order of fonio_dtype
    *(torch.float32, torch.float64, torch.float16, torch.bfloat16),
    *(torch.complex64, torch.complex128, torch.complex32),
    *(torch.int8, torch.int16, torch.int32, torch.int64),
    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool),
    *(torch.float8_e4m3fn, torch.float8_e5m2),
)

_kept = {}  # the torch tensors whose memory the library holds
_keys = itertools.count(1)


def live_allocations():
    """fonio_live_allocations(), once Python has let go of what only cycles hold (a failure's traceback holds tensors)."""
    gc.collect()
    return lib.live_allocations()


@RELEASE
def _forget(_data, key):
    del _kept[key]


def int64s(values):
    """A C array of int64_t."""
    return (c_int64 * len(values))(*values)


class Tensor:
    """A reference to a fonio_tensor, given back when this object goes."""

    def __init__(self, handle):
        if not handle:
            raise last_failure()
        self.handle = handle

    def __del__(self):
        if lib and hasattr(self, "handle"):
            lib.tensor_release(self.handle)

    @classmethod
    def wrap(cls, tensor, requires_grad=False):
        """A fonio tensor over the memory of a torch tensor, which lives as long as the library needs it."""
        key = next(_keys)
        _kept[key] = tensor
        shape, strides = int64s(tensor.shape), int64s(tensor.stride())
        dtype = DTYPES.index(tensor.dtype)
        made = lib.tensor_wrap(dtype, tensor.data_ptr() or None, tensor.ndim, shape, strides, _forget, key)
        if not made:
            del _kept[key]
        wrapped = cls(made)
        if requires_grad:
            check(lib.tensor_set_requires_grad(wrapped.handle, True))
        return wrapped

    @property
    def shape(self):
        return tuple(lib.tensor_shape(self.handle)[: lib.tensor_ndim(self.handle)])

    def stride(self):
        return tuple(lib.tensor_strides(self.handle)[: lib.tensor_ndim(self.handle)])

    @property
    def dtype(self):
        return DTYPES[lib.tensor_dtype(self.handle)]

    def torch(self):
        """A copy as a torch tensor of the same shape and strides."""
        shape, strides = self.shape, self.stride()
        if 0 in shape:
            return torch.empty_strided(shape, strides, dtype=self.dtype)
        elements = 1 + sum((size - 1) * stride for size, stride in zip(shape, strides))
        copied = ctypes.string_at(lib.tensor_const_data(self.handle), elements * self.dtype.itemsize)
        return torch.frombuffer(bytearray(copied), dtype=self.dtype).as_strided(shape, strides)


def handle_of(tensor):
    return tensor.handle if tensor is not None else None


# ---- Convolution ----


def conv2d_args(stride=1, padding=0, dilation=1, groups=1, padding_mode=None):
    """fonio_conv2d_args from Python's arguments: numbers, pairs, four sides (top, bottom, left, right), names."""
    args = lib.conv2d_args_default()
    for name, value in (("stride", stride), ("dilation", dilation)):
        setattr(args, name, _pair(value))
    if isinstance(padding, str):
        args.padding_name = padding.encode()
    elif isinstance(padding, (tuple, list)) and len(padding) == 4:
        args.padding_sides = int64s(padding)
    else:
        args.padding = _pair(padding)
    args.padding_mode = padding_mode.encode() if padding_mode is not None else None
    args.groups = groups
    return args


def _pair(value):
    return int64s(value if isinstance(value, (tuple, list)) else (value, BOTH))


def conv2d(input, weight, bias=None, **arguments):
    """fonio_tensor_conv2d_with, on and to Tensors."""
    args = conv2d_args(**arguments)
    return Tensor(lib.tensor_conv2d_with(input.handle, weight.handle, handle_of(bias), ctypes.byref(args)))


def grad(output, inputs, grad_output=None, retain_graph=False, create_graph=False, allow_unused=False):
    """fonio_grad: the gradients of `inputs`, None for an unused one."""
    given = (c_void_p * len(inputs))(*(tensor.handle for tensor in inputs))
    made = (c_void_p * len(inputs))()
    flags = retain_graph, create_graph, allow_unused
    check(lib.grad(output.handle, len(inputs), given, handle_of(grad_output), *flags, made))
    return [Tensor(one) if one else None for one in made]


def backward(output, grad_output=None, retain_graph=False, create_graph=False):
    """fonio_tensor_backward_with."""
    check(lib.tensor_backward_with(output.handle, handle_of(grad_output), retain_graph, create_graph))


def gradient(tensor):
    """fonio_tensor_grad, or None."""
    borrowed = lib.tensor_grad(tensor.handle)
    return Tensor(lib.tensor_retain(borrowed)) if borrowed else None


def array_of(tensor):
    """fonio_array of a torch tensor (its shape and strides only), or None."""
    if tensor is None:
        return None
    return Array(DTYPES.index(tensor.dtype), tensor.ndim, int64s(tensor.shape), int64s(tensor.stride()))


def problem_init(input, weight, bias=None, **arguments):
    """fonio_conv_problem_init for torch tensors, of which only dtype, shape and strides are looked at."""
    problem = Problem()
    arrays = [array_of(tensor) for tensor in (input, weight, bias)]
    pointers = [ctypes.byref(array) if array is not None else None for array in arrays]
    check(lib.conv_problem_init(ctypes.byref(problem), *pointers, ctypes.byref(conv2d_args(**arguments))))
    return problem


def problem_string(problem):
    """fonio_conv_problem_print."""
    text = ctypes.create_string_buffer(1 + lib.conv_problem_print(ctypes.byref(problem), None, 0))
    lib.conv_problem_print(ctypes.byref(problem), text, len(text))
    return text.value.decode()


_nothing = ctypes.create_string_buffer(64)
_nowhere = ctypes.addressof(_nothing)


class Plan:
    """A fonio_conv_plan; run() takes torch tensors, or None, by the names of fonio_conv_buffers."""

    def __init__(self, problem, direction=FORWARD, algorithm=None):
        name = algorithm.encode() if algorithm else None
        options = PlanOptions(ctypes.sizeof(PlanOptions), direction, name, UNSET, False, False)
        self.handle = lib.conv_plan_new(ctypes.byref(problem), ctypes.byref(options))
        if not self.handle:
            raise last_failure()

    def __del__(self):
        if lib and getattr(self, "handle", None):
            lib.conv_plan_release(self.handle)

    @property
    def algorithm(self):
        return lib.conv_plan_algorithm(self.handle).decode()

    def run(self, **tensors):
        # torch has no address for a tensor without elements, and none is read or written; but NULL says that an array
        # is missing.
        pointers = {name: tensor.data_ptr() or _nowhere for name, tensor in tensors.items() if tensor is not None}
        check(lib.conv_plan_run(self.handle, ctypes.byref(Buffers(**pointers))))
