"""PyTorch's nn.Conv2d, whole, in plain C.

    import fonio, numpy
    x, w = numpy.ones((1, 3, 8, 8), "float32"), numpy.ones((4, 3, 3, 3), "float32")
    y = fonio.conv2d(x, w, padding="same")      # an array of (1, 4, 8, 8)

conv2d, conv2d_input and conv2d_weight take NumPy arrays, torch tensors, JAX arrays and whatever else has a buffer or
speaks DLPack, read them where they lie, and give back what they were given. No library is imported before an array of
it comes.
"""

from fonio._config import show_config
from fonio._core import (
    conv2d,
    conv2d_input,
    conv2d_weight,
    explain,
    get_accuracy,
    get_num_threads,
    set_accuracy,
    set_num_threads,
)
from fonio._core import version as __version__

__all__ = [
    "__version__",
    "conv2d",
    "conv2d_input",
    "conv2d_weight",
    "explain",
    "get_accuracy",
    "get_num_threads",
    "set_accuracy",
    "set_num_threads",
    "show_config",
]
