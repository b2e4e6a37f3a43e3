"""Fonio, ready to be called: prepacked through the plan API, or as one function of tensors."""

import ctypes
import dataclasses
import functools
from typing import Callable

import torch

from bench import library
from bench.library import check, lib, new


@dataclasses.dataclass
class Ready:
    """A layer that someone has made ready to be called over and over."""

    call: Callable[[], object]
    output: Callable[[], torch.Tensor]  # what a call computed, as (N, K, H, W); called once, after a call
    note: str = ""  # how it goes about it
    owner: object = None  # what has to live as long


def address(tensor):
    return tensor.data_ptr() if tensor is not None else None


def set_up(threads, accuracy):
    """The number of threads, and an accuracy class by its name; None leaves that as it is."""
    check(lib.set_num_threads(threads))
    if accuracy:
        check(lib.set_accuracy(library.ACCURACIES.index(accuracy)))


class Plan:
    """A plan with a workspace of its own, as the peers hold theirs. `arrays` by their names in fonio_conv_buffers."""

    def __init__(self, problem, direction, **arrays):
        self.plan, self.arrays = None, arrays
        options = library.PlanOptions(ctypes.sizeof(library.PlanOptions), library.DIRECTIONS.index(direction))
        self.plan = new(lib.conv_plan_new(ctypes.byref(problem), ctypes.byref(options)))
        workspace_bytes = lib.conv_plan_workspace_bytes(self.plan, lib.num_threads())
        self.workspace = torch.empty(workspace_bytes + 64, dtype=torch.uint8)
        self.buffers = library.Buffers(
            **{name: address(array) for name, array in arrays.items()},
            workspace=(address(self.workspace) + 63) // 64 * 64,
            workspace_bytes=workspace_bytes,
        )

    def pack(self, weight):
        self.buffers.packed = new(lib.conv_plan_pack(self.plan, address(weight)))

    def ready(self, output):
        """`output()` is what a call computes."""
        run = functools.partial(lib.conv_plan_run, self.plan, ctypes.byref(self.buffers))
        check(run())
        return Ready(run, output, lib.conv_plan_algorithm(self.plan).decode(), self)

    def __del__(self):
        if getattr(self, "buffers", None):
            lib.conv_packed_release(self.buffers.packed)
        lib.conv_plan_release(self.plan)


def planned(layer):
    """With packed weights."""
    p = layer.problem
    shape = (p.batch, p.out_channels, p.out_height, p.out_width)
    output = torch.empty_strided(shape, tuple(p.output_strides), dtype=layer.input.dtype)
    made = Plan(p, "forward", input=layer.input, bias=layer.bias, output=output)
    made.pack(layer.weight)
    return made.ready(lambda: output)


@library.RELEASE
def keep(_data, _user):
    """The memory of a wrapped tensor belongs to torch."""


class Functional:
    """fonio_tensor_conv2d: weights are packed and the output is taken anew in each call."""

    def __init__(self, layer):
        self.layer, self.tensors = layer, []
        for tensor in (layer.input, layer.weight, layer.bias):
            self.tensors.append(self.wrap(tensor))
        p, self.args = layer.problem, lib.conv2d_args_default()
        self.args.stride, self.args.dilation, self.args.groups = p.stride, p.dilation, p.groups
        self.args.padding_sides, self.args.padding_mode = p.padding, layer.mode.encode()

    def wrap(self, tensor):
        if tensor is None:
            return None
        shape, strides = ((ctypes.c_int64 * tensor.ndim)(*numbers) for numbers in (tensor.shape, tensor.stride()))
        dtype = list(library.DTYPES.values())[tensor.dtype == torch.float64]
        return new(lib.tensor_wrap(dtype, address(tensor), tensor.ndim, shape, strides, keep, None))

    def call(self):
        lib.tensor_release(lib.tensor_conv2d_with(*self.tensors, ctypes.byref(self.args)))

    def output(self):
        p = self.layer.problem
        made = new(lib.tensor_conv2d_with(*self.tensors, ctypes.byref(self.args)))
        numbers = p.batch * p.out_channels * p.out_height * p.out_width
        copied = bytearray(ctypes.string_at(lib.tensor_const_data(made), numbers * self.layer.input.element_size()))
        lib.tensor_release(made)
        shape = (p.batch, p.out_channels, p.out_height, p.out_width)
        return torch.frombuffer(copied, dtype=self.layer.input.dtype).as_strided(shape, tuple(p.output_strides))

    def __del__(self):
        for tensor in self.tensors:
            lib.tensor_release(tensor)


def functional(layer):
    made = Functional(layer)
    return Ready(made.call, made.output, "", made)
