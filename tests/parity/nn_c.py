"""Modules for the tests: fonio/nn.h through ctypes, on top of fonio_c.

    layer = Conv2d(3, 8, 3, padding="same")         # a fonio_conv2d, with torch's arguments
    net = Module.new("Net", conv=layer)             # a module with children
    str(net), net.state_dict(), net.load(state)     # text; {name: torch tensor}; (missing, unexpected) or an exception
"""

import contextlib
import ctypes
from ctypes import POINTER, c_bool, c_char_p, c_double, c_int, c_int64, c_size_t, c_void_p

import fonio_c
import torch
from fonio_c import BOTH, DTYPES, Tensor, check, int64s, last_failure, lib


class Options(ctypes.Structure):
    """fonio_conv2d_options."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("in_channels", c_int64),
        ("out_channels", c_int64),
        ("kernel_size", c_int64 * 2),
        ("stride", c_int64 * 2),
        ("padding", c_int64 * 2),
        ("padding_sides", c_int64 * 4),
        ("padding_name", c_char_p),
        ("dilation", c_int64 * 2),
        ("groups", c_int64),
        ("bias", c_bool),
        ("padding_mode", c_char_p),
        ("dtype", c_int),
    ]


class Keys(ctypes.Structure):
    """fonio_incompatible_keys."""

    _fields_ = [
        ("missing_count", c_int64),
        ("unexpected_count", c_int64),
        ("missing", POINTER(c_char_p)),
        ("unexpected", POINTER(c_char_p)),
    ]


class Class(ctypes.Structure):
    """fonio_module_class."""

    _fields_ = [
        ("struct_bytes", c_size_t),
        ("module_bytes", c_size_t),
        ("name", c_char_p),
        ("forward", c_void_p),
        ("extra_repr", c_void_p),
        ("release", c_void_p),
    ]


EXTRA_REPR = ctypes.CFUNCTYPE(c_size_t, c_void_p, c_void_p, c_size_t)
handle = c_void_p

fonio_c.SIGNATURES |= {
    "dict_new": (handle, []),
    "dict_release": (None, [handle]),
    "dict_set": (c_int, [handle, c_char_p, handle]),
    "dict_size": (c_int64, [handle]),
    "dict_name_at": (c_char_p, [handle, c_int64]),
    "dict_tensor_at": (handle, [handle, c_int64]),
    "module_new": (handle, [POINTER(Class)]),
    "module_retain": (handle, [handle]),
    "module_release": (None, [handle]),
    "module_add_child": (c_int, [handle, c_char_p, handle]),
    "module_get_submodule": (handle, [handle, c_char_p]),
    "module_get_parameter": (handle, [handle, c_char_p]),
    "module_set_parameter": (c_int, [handle, c_char_p, handle]),
    "module_set_buffer": (c_int, [handle, c_char_p, handle]),
    "module_named_parameters": (handle, [handle]),
    "module_set_requires_grad": (c_int, [handle, c_bool]),
    "module_to": (c_int, [handle, c_int]),
    "module_forward": (handle, [handle, handle]),
    "module_state_dict": (handle, [handle]),
    "module_load_state_dict": (c_int, [handle, handle, c_bool, POINTER(POINTER(Keys))]),
    "incompatible_keys_release": (None, [POINTER(Keys)]),
    "module_to_text": (c_void_p, [handle]),
    "parameter_new": (handle, [handle, c_bool]),
    "conv2d_options_default": (Options, []),
    "conv2d_new_with": (handle, [POINTER(Options)]),
    "lazy_conv2d_new_with": (handle, [POINTER(Options)]),
    "conv2d_weight": (handle, [handle]),
    "conv2d_bias": (handle, [handle]),
    "conv2d_set_weight": (c_int, [handle, handle]),
    "conv2d_reset_parameters": (c_int, [handle]),
    "sequential_new": (handle, []),
    "sequential_append_child": (c_int, [handle, handle]),
    "init_uniform": (c_int, [handle, c_double, c_double]),
    "init_normal": (c_int, [handle, c_double, c_double]),
    "init_constant": (c_int, [handle, c_double]),
    "init_ones": (c_int, [handle]),
    "init_zeros": (c_int, [handle]),
    "init_dirac": (c_int, [handle, c_int64]),
    "init_xavier_uniform": (c_int, [handle, c_double]),
    "init_xavier_normal": (c_int, [handle, c_double]),
    "init_kaiming_uniform": (c_int, [handle, c_double, c_char_p, c_char_p]),
    "init_kaiming_normal": (c_int, [handle, c_double, c_char_p, c_char_p]),
    "init_calculate_gain": (c_int, [c_char_p, c_double, POINTER(c_double)]),
}


@contextlib.contextmanager
def warnings_caught():
    """The texts of the library's warnings, in a list."""
    texts = []
    handler = fonio_c.WARNING(lambda text, _user: texts.append(text.decode()))
    lib.set_warning_handler(handler, None)
    try:
        yield texts
    finally:
        lib.set_warning_handler(fonio_c.WARNING(0), None)


def borrowed(handle):
    """A Tensor of one's own for a borrowed handle."""
    if not handle:
        raise last_failure()
    return Tensor(lib.tensor_retain(handle))


def parameter_of(tensor):
    """nn.Parameter(tensor) of a Tensor."""
    return Tensor(lib.parameter_new(tensor.handle, True))


class Dict:
    """A fonio_dict of torch tensors."""

    def __init__(self, tensors):
        self.handle = lib.dict_new()
        for name, tensor in tensors.items():
            wrapped = tensor if isinstance(tensor, Tensor) else Tensor.wrap(tensor)
            check(lib.dict_set(self.handle, name.encode(), wrapped.handle))

    def __del__(self):
        lib.dict_release(self.handle)


def taken(dict_handle):
    """{name: Tensor} of a fonio_dict, which is released."""
    if not dict_handle:
        raise last_failure()
    names = [lib.dict_name_at(dict_handle, i).decode() for i in range(lib.dict_size(dict_handle))]
    tensors = [borrowed(lib.dict_tensor_at(dict_handle, i)) for i in range(lib.dict_size(dict_handle))]
    lib.dict_release(dict_handle)
    return dict(zip(names, tensors))


class Module:
    """A reference to a fonio_module, given back when this object goes."""

    def __init__(self, handle):
        if not handle:
            raise last_failure()
        self.handle = handle

    def __del__(self):
        if lib and hasattr(self, "handle"):
            lib.module_release(self.handle)

    @classmethod
    def new(cls, class_name, extra=None, **children):
        """A module without a forward; `extra` is what its extra_repr gives."""
        module_class = Class(ctypes.sizeof(Class), 8, class_name.encode())
        if extra is not None:
            bytes_ = extra.encode() + b"\0"

            def extra_repr(_module, text, room):
                if room:
                    ctypes.memmove(text, bytes_[: room - 1] + b"\0", min(room, len(bytes_)))
                return len(bytes_) - 1

            function = EXTRA_REPR(extra_repr)
            module_class.extra_repr = ctypes.cast(function, c_void_p)
        module = cls(lib.module_new(ctypes.byref(module_class)))
        module.kept = (module_class, locals().get("function"))
        for child_name, child in children.items():
            module.add(child_name, child)
        return module

    def add(self, name, child):
        self.kept = (*getattr(self, "kept", ()), child)
        check(lib.module_add_child(self.handle, name.encode(), lib.module_retain(child.handle)))

    def append(self, child):
        self.kept = (*getattr(self, "kept", ()), child)
        check(lib.sequential_append_child(self.handle, lib.module_retain(child.handle)))

    def set_parameter(self, name, tensor):
        parameter = parameter_of(Tensor.wrap(tensor))
        check(lib.module_set_parameter(self.handle, name.encode(), parameter.handle))

    def set_buffer(self, name, tensor):
        buffer = Tensor.wrap(tensor)
        check(lib.module_set_buffer(self.handle, name.encode(), buffer.handle))

    def __str__(self):
        text = lib.module_to_text(self.handle)
        if not text:
            raise last_failure()
        copied = ctypes.string_at(text).decode()
        lib.text_release(text)
        return copied

    def parameter(self, path):
        return borrowed(lib.module_get_parameter(self.handle, path.encode()))

    def state(self):
        """{name: Tensor}, over the module's memory."""
        return taken(lib.module_state_dict(self.handle))

    def state_dict(self):
        """{name: torch tensor}, copied."""
        return {name: tensor.torch() for name, tensor in self.state().items()}

    def load(self, tensors, strict=True):
        """load_state_dict: the missing and the unexpected keys."""
        keys = POINTER(Keys)()
        given = Dict(tensors)
        check(lib.module_load_state_dict(self.handle, given.handle, strict, ctypes.byref(keys)))
        found = keys.contents
        lists = found.missing[: found.missing_count], found.unexpected[: found.unexpected_count]
        decoded = tuple([key.decode() for key in one] for one in lists)
        lib.incompatible_keys_release(keys)
        return decoded

    def __call__(self, tensor):
        wrapped = tensor if isinstance(tensor, Tensor) else Tensor.wrap(tensor)
        return Tensor(lib.module_forward(self.handle, wrapped.handle))


def options_of(*channels, kernel_size=BOTH, bias=True, dtype=torch.float32, **arguments):
    """fonio_conv2d_options from Python's arguments; channels that are not given stay so."""
    options = lib.conv2d_options_default()
    args = fonio_c.conv2d_args(**arguments)
    for name in "stride padding padding_sides padding_name padding_mode dilation groups".split():
        setattr(options, name, getattr(args, name))
    options.in_channels, options.out_channels = [*channels, BOTH, BOTH][:2]
    options.kernel_size = int64s(kernel_size if isinstance(kernel_size, (tuple, list)) else (kernel_size, BOTH))
    options.bias = bias
    options.dtype = DTYPES.index(dtype)
    return options


def Conv2d(in_channels, out_channels, kernel_size, stride=1, padding=0, dilation=1, groups=1, bias=True, **rest):
    """nn.Conv2d with its arguments; padding also takes four sides and "same_lower"."""
    shape = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    options = options_of(in_channels, out_channels, kernel_size=kernel_size, bias=bias, **shape, **rest)
    return Module(lib.conv2d_new_with(ctypes.byref(options)))


def LazyConv2d(out_channels, kernel_size, **arguments):
    """nn.LazyConv2d."""
    options = options_of(BOTH, out_channels, kernel_size=kernel_size, **arguments)
    return Module(lib.lazy_conv2d_new_with(ctypes.byref(options)))


def Sequential(*children):
    """nn.Sequential."""
    sequential = Module(lib.sequential_new())
    for child in children:
        sequential.append(child)
    return sequential
