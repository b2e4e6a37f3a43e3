"""The few functions of libfonio.so that the benchmark calls, through ctypes. The tests take the structs from here
(tests/parity/fonio_c.py)."""

import ctypes
import os
import pathlib
from ctypes import POINTER, c_bool, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build"
DTYPES = {"f32": 0, "f64": 1}  # fonio_dtype
ACCURACIES = ("unset", "strict", "default", "fast")  # fonio_accuracy
DIRECTIONS = ("forward", "input_gradient", "weight_gradient")  # fonio_conv_direction
PADDING_MODES = ("zeros", "reflect", "replicate", "circular")  # fonio_padding_mode


class Args(ctypes.Structure):
    """fonio_conv2d_args."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("stride", c_int64 * 2),
        ("padding", c_int64 * 2),
        ("padding_sides", c_int64 * 4),
        ("padding_name", c_char_p),
        ("padding_mode", c_char_p),
        ("dilation", c_int64 * 2),
        ("groups", c_int64),
    ]


class Problem(ctypes.Structure):
    """fonio_conv_problem."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("dtype", c_int),
        *((name, c_int64) for name in ("batch", "in_channels", "in_height", "in_width")),
        *((name, c_int64) for name in ("out_channels", "out_height", "out_width", "kernel_height", "kernel_width")),
        ("stride", c_int64 * 2),
        ("dilation", c_int64 * 2),
        ("padding", c_int64 * 4),
        ("padding_mode", c_int),
        ("groups", c_int64),
        ("has_bias", c_bool),
        ("has_residual", c_bool),
        ("activation", c_int),
        ("slope", c_double),
        ("prelu_stride", c_int64),
        ("batched", c_bool),
        ("input_strides", c_int64 * 4),
        ("weight_strides", c_int64 * 4),
        ("bias_stride", c_int64),
        ("output_strides", c_int64 * 4),
    ]


class Buffers(ctypes.Structure):
    """fonio_conv_buffers."""

    _fields_ = [
        *((name, c_void_p) for name in "input weight packed bias residual prelu output".split()),
        *((name, c_void_p) for name in "grad_output grad_input grad_weight grad_bias workspace".split()),
        ("workspace_bytes", c_int64),
    ]


class PlanOptions(ctypes.Structure):
    """fonio_conv_plan_options."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("direction", c_int),
        ("algorithm", c_char_p),
        ("accuracy", c_int),
        ("measure", c_bool),
        ("weight_changes", c_bool),
    ]


RELEASE = ctypes.CFUNCTYPE(None, c_void_p, c_void_p)
sizes = POINTER(c_int64)

# name without fonio_: (result, arguments)
SIGNATURES = {
    "version": (c_char_p, []),
    "isa": (c_char_p, []),
    "last_error": (c_char_p, []),
    "num_threads": (c_int, []),
    "set_num_threads": (c_int, [c_int]),
    "set_accuracy": (c_int, [c_int]),
    "get_accuracy": (c_int, []),
    "conv2d_args_default": (Args, []),
    "conv_problem_parse": (c_int, [POINTER(Problem), c_char_p]),
    "conv_plan_new": (c_void_p, [POINTER(Problem), c_void_p]),
    "conv_plan_release": (None, [c_void_p]),
    "conv_plan_algorithm": (c_char_p, [c_void_p]),
    "conv_plan_workspace_bytes": (c_int64, [c_void_p, c_int]),
    "conv_plan_pack": (c_void_p, [c_void_p, c_void_p]),
    "conv_packed_release": (None, [c_void_p]),
    "conv_plan_run": (c_int, [c_void_p, POINTER(Buffers)]),
    "tensor_wrap": (c_void_p, [c_int, c_void_p, c_int, sizes, sizes, RELEASE, c_void_p]),
    "tensor_release": (None, [c_void_p]),
    "tensor_const_data": (c_void_p, [c_void_p]),
    "tensor_conv2d_with": (c_void_p, [c_void_p] * 3 + [POINTER(Args)]),
}


class Library:
    """The functions of the library; each is looked up and declared when first asked for."""

    def __init__(self, path, signatures):
        self._library, self._signatures = ctypes.CDLL(str(path)), signatures

    def __getattr__(self, name):
        try:
            function = getattr(self._library, "fonio_" + name)
        except AttributeError:
            raise RuntimeError(f"this libfonio has no fonio_{name}") from None
        function.restype, function.argtypes = self._signatures[name]
        setattr(self, name, function)
        return function


lib = Library(os.environ.get("FONIO_LIBRARY", BUILD / "libfonio.so"), SIGNATURES)


def check(status):
    """Raises unless `status` is FONIO_OK."""
    if status != 0:
        raise RuntimeError(lib.last_error().decode())


def new(made):
    """What a function made, unless it is NULL."""
    if not made:
        raise RuntimeError(lib.last_error().decode())
    return made


def parse(text):
    """fonio_conv_problem_parse."""
    problem = Problem()
    check(lib.conv_problem_parse(ctypes.byref(problem), text.encode()))
    if problem.struct_bytes != ctypes.sizeof(Problem):
        raise RuntimeError("fonio_conv_problem is not what bench/library.py takes it for")
    return problem
