"""One torch tensor as an array of every library that the package knows, over the same memory."""

import numpy
import torch


class OnlyDLPack:
    """An array of a library that nobody knows: it speaks DLPack and nothing else. `versioned` as since version 1."""

    def __init__(self, tensor, versioned):
        self.tensor, self.versioned = tensor, versioned

    def __dlpack__(self, **keywords):
        if self.versioned:
            return self.tensor.__dlpack__(max_version=keywords["max_version"])
        if keywords:
            raise TypeError("__dlpack__() got an unexpected keyword argument")
        return self.tensor.__dlpack__()

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()

    def __array_namespace__(self):
        return Library(self.versioned)


class Library:
    def __init__(self, versioned):
        self.versioned = versioned

    def from_dlpack(self, array):
        return OnlyDLPack(torch.from_dlpack(array), self.versioned)


def values_of(array):
    """The values of any of these as a torch tensor."""
    if isinstance(array, OnlyDLPack):
        return array.tensor
    return array if isinstance(array, torch.Tensor) else torch.from_numpy(numpy.array(array))


# kind: (from a torch tensor, the type of what comes back, whether it knows strides)
KINDS = {
    "numpy": (lambda tensor: tensor.numpy(), numpy.ndarray, True),
    "torch": (lambda tensor: tensor, torch.Tensor, True),
    "memoryview": (lambda tensor: memoryview(tensor.numpy()), memoryview, True),
    "dlpack": (lambda tensor: OnlyDLPack(tensor, versioned=True), OnlyDLPack, False),
    "old dlpack": (lambda tensor: OnlyDLPack(tensor, versioned=False), OnlyDLPack, False),
}


def strides_of(array):
    """In elements."""
    if isinstance(array, torch.Tensor):
        return array.stride()
    return tuple(stride // array.itemsize for stride in array.strides)
