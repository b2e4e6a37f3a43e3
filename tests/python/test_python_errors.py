"""What the package says to wrong arguments: torch's exceptions with torch's texts, where torch has any."""

import ctypes
import subprocess
import sys

import numpy
import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode

import fonio


def outcome(function, *arguments, **keywords):
    """The exception and its text, without what torch adds of its own source."""
    try:
        function(*arguments, **keywords)
    except Exception as error:
        return type(error), str(error).split("      didn't match")[0].split("\nException raised")[0].rstrip("\n")
    return None


X, W, B = torch.zeros(2, 4, 8, 8), torch.zeros(6, 4, 3, 3), torch.zeros(6)

CALLS = [
    ((X.tolist(), W), {}),
    ((X, [1]), {}),
    ((None, W), {}),
    ((X, None), {}),
    ((X, W, [1]), {}),
    ((X, W, None, 1.5), {}),
    ((X, W, B, (1.5, 1)), {}),
    ((X, W, None, (1, 1, 1)), {}),
    ((X, W, None, ()), {}),
    ((X, W, None, 1, (1, 1, 1)), {}),
    ((X, W, None, 1, None), {}),
    ((X, W, None, 1, "foo"), {}),
    ((X, W, None, 1, 0, (1, 2, 3)), {}),
    ((X, W, None, 1, 0, 1, 2), {}),
    ((X, W, None, 1, 0, 1, 0), {}),
    ((X, W), {"stride": True}),
    ((X, W), {"stride": (True, 1)}),
    ((X, W), {"stride": None}),
    ((X, W), {"stride": 0}),
    ((X, W), {"stride": 2**70}),
    ((X, W), {"padding": -1}),
    ((X, W), {"padding": (-1, 0)}),
    ((X, W), {"dilation": 9}),
    ((X, W), {"dilation": -1}),
    ((X[0, 0], W), {}),
    ((X, W[0]), {}),
    ((X, W[0, 0]), {}),
    ((X[:, :3], W), {}),
    ((X, W, B[:5]), {}),
    ((X, W, B.double()), {}),
    ((X[:, :, :2], W), {}),
    ((X.bool(), W.bool()), {}),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
def test_conv2d_says_what_torch_says(number):
    arguments, keywords = CALLS[number]
    wanted = outcome(F.conv2d, *arguments, **keywords)
    assert wanted is not None
    if wanted[0] is TypeError:
        wanted = wanted[0], wanted[1].split("\n\n")[0]
    assert outcome(fonio.conv2d, *arguments, **keywords) == wanted


def test_padding_modes_say_what_torch_says():
    wanted = outcome(F.pad, X, (9, 9, 9, 9), mode="reflect")
    assert outcome(fonio.conv2d, X, W, padding=9, padding_mode="reflect") == wanted
    kind, text = outcome(fonio.conv2d, X, W, padding_mode="mirror")
    assert kind is ValueError and text.startswith("padding_mode must be one of {") and text.endswith("padding_mode='mirror'")


GRADIENTS = [
    ("conv2d_input", ((4, 8, 8), W, torch.zeros(2, 6, 6, 6))),
    ("conv2d_input", ((2, 5, 8, 8), W, torch.zeros(2, 6, 6, 6))),
    ("conv2d_input", ((2, 4, 8, 8), W, torch.zeros(2, 6, 6, 6).double())),
    ("conv2d_weight", (X, (6, 3, 3, 3), torch.zeros(2, 6, 6, 6))),
    ("conv2d_weight", (X, (6, 4, 3, 3), torch.zeros(2, 6, 6, 6).double())),
    ("conv2d_weight", (X, (6, 4, 3, 3), torch.zeros(2, 6, 6, 5))),
    ("conv2d_input", ((2, 4, 8, 8), W, torch.zeros(2, 5, 6, 6))),
    ("conv2d_input", ("abc", W, torch.zeros(2, 6, 6, 6))),
    ("conv2d_input", ((2, 4, -8, 8), W, torch.zeros(2, 6, 6, 6))),
    ("conv2d_input", ((2**62, 4, 2**62, 8), W, torch.zeros(2, 6, 6, 6))),
    ("conv2d_input", ((1,) * 9, W, torch.zeros(2, 6, 6, 6))),
    ("conv2d_weight", (X, (2**40, 4, 2**40, 3), torch.zeros(2, 6, 6, 6))),
]


@pytest.mark.parametrize("number", range(len(GRADIENTS)))
def test_gradients_refuse_what_torch_refuses(number):
    """The kind and the text where torch's is one for people; only that it is refused where oneDNN says it, or where
    torch computes an input of more dimensions than the weight's by accident."""
    name, arguments = GRADIENTS[number]
    wanted, found = outcome(getattr(torch.nn.grad, name), *arguments), outcome(getattr(fonio, name), *arguments)
    assert found is not None
    if wanted and wanted[0] is RuntimeError and wanted[1].startswith("Given groups"):
        assert found == wanted


def test_arrays_that_cannot_be_read():
    input, weight = numpy.zeros((1, 4, 8, 8), "f"), numpy.zeros((6, 4, 3, 3), "f")
    for bad, error, text in [
        (input.astype(">f4"), ValueError, "byte order different from the native byte order"),
        (input.astype("f2"), NotImplementedError, "conv2d of float16 is not implemented"),
        (numpy.zeros((1, 4, 8, 8), "U4"), TypeError, "are no numbers"),
        (numpy.zeros((1, 4, 8, 8), [("a", "f4"), ("b", "i2")])["a"], ValueError, "not a multiple of the element byte size"),
        (numpy.frombuffer(bytes(1025), "u1")[1:].view("f4").reshape(1, 4, 8, 8), ValueError, "multiples of their size"),
        (numpy.zeros((1,) * 9, "f"), ValueError, "at most 8 dimensions"),
        (torch.zeros(1, 4, 8, 8).requires_grad_(), RuntimeError, "does not record gradients"),
        (torch.zeros(1, 4, 8, 8, device="meta"), RuntimeError, "meta"),
        (bytes(9), TypeError, "invalid combination"),
        (numpy.ma.masked_equal(input, 1), TypeError, "masks are not looked at"),
    ]:
        with pytest.raises(error, match=text):
            fonio.conv2d(bad, torch.zeros(6, 4, 3, 3).to(torch.float16).numpy() if text.startswith("conv2d of") else weight)
    with torch.no_grad():
        fonio.conv2d(torch.zeros(1, 4, 8, 8).requires_grad_(), weight)


def freed(tensor):
    tensor.untyped_storage().resize_(0)
    return tensor


@pytest.mark.filterwarnings("ignore:Accessing the data pointer")
def test_tensors_without_memory_of_their_own():
    """torch's stand-ins: nothing is read through their address, and no result is written to one."""
    weight, mode = torch.zeros(6, 4, 3, 3), FakeTensorMode()
    for call in (
        lambda: fonio.conv2d(freed(X.clone()), weight),
        lambda: fonio.conv2d(freed(X.clone()[1:]), weight),
        lambda: fonio.conv2d(X, weight, out=freed(torch.zeros(3, 6, 6, 6)[1:])),
        lambda: fonio.conv2d(mode.from_tensor(X), weight),
        lambda: fonio.conv2d(mode.from_tensor(X)[1:], weight),
        lambda: fonio.conv2d(X.numpy(), mode.from_tensor(torch.zeros(7, 4, 3, 3))[1:]),
        lambda: torch.func.functionalize(lambda image: fonio.conv2d(image, weight))(X),
        lambda: torch.func.functionalize(lambda image: fonio.conv2d_weight(X.numpy(), (6, 4, 3, 3), image[1:]))(X),
        lambda: torch.func.functionalize(lambda image: fonio.conv2d_weight(X.numpy(), (6, 4, 3, 3), image))(X),
    ):
        with pytest.raises(RuntimeError, match="the array has no memory"):
            call()
    with mode, pytest.raises(RuntimeError, match="gives no memory"):
        fonio.conv2d(X, weight)
    assert fonio.conv2d(X, weight).shape == (2, 6, 6, 6)


VERSION, DELETER, FLAGS, DATA, DEVICE, BYTE_OFFSET = 0, 2, 3, 4, 5, 9  # places in a capsule, in words of 64 bits


class Altered:
    """torch's capsule, of whose words some are others. Python code gives the memory back."""

    delete_type = ctypes.CFUNCTYPE(None, ctypes.c_void_p)

    def __init__(self, words):
        self.tensor, self.words, self.given_back = torch.zeros(2, 4, 8, 8), words, []

    def __dlpack__(self, max_version):
        capsule = self.tensor.__dlpack__(max_version=max_version)
        get = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(("PyCapsule_GetPointer", ctypes.pythonapi))
        words = (ctypes.c_uint64 * 10).from_address(get(capsule, b"dltensor_versioned"))
        delete = self.delete_type(words[DELETER])
        self.kept = self.delete_type(lambda managed: self.given_back.append(True) or delete(managed))
        for place, word in {DELETER: ctypes.cast(self.kept, ctypes.c_void_p).value, **self.words}.items():
            words[place] = word
        return capsule


ALTERED = [
    ({VERSION: 2}, BufferError, "a version that is not known"),
    ({DATA: 0}, RuntimeError, "the array has no memory"),
    ({DATA: 0, BYTE_OFFSET: 64}, RuntimeError, "the array has no memory"),
    ({DEVICE: 2}, RuntimeError, "on another device"),
]


@pytest.mark.parametrize("words, error, text", ALTERED)
def test_the_owner_of_a_capsule_does_not_meet_the_exception(words, error, text):
    array = Altered(words)
    with pytest.raises(error, match=text):
        fonio.conv2d(array, W)
    assert array.given_back == [True]


@pytest.mark.parametrize("flags", [1, 2])
def test_no_result_is_written_to_a_copy(flags):
    out = Altered({FLAGS: flags})
    with pytest.raises(ValueError, match="output array is read-only"):
        fonio.conv2d(torch.ones(2, 4, 8, 8), torch.ones(4, 4, 1, 1), out=out)
    assert out.given_back == [True] and not out.tensor.any()


def test_a_tangent_is_not_lost():
    from torch.autograd import forward_ad

    with forward_ad.dual_level():
        fonio.conv2d(X, W)
        with pytest.raises(RuntimeError, match="the tensor has a tangent"):
            fonio.conv2d(forward_ad.make_dual(X, X), W)


def test_calls_that_do_not_fit():
    for arguments, keywords, text in [
        ((), {}, "missing required argument: 'input'"),
        ((X,), {}, "missing required argument: 'weight'"),
        ((X, W), {"foo": 1}, "unexpected keyword argument 'foo'"),
        ((X, W), {"weight": W}, "multiple values for argument 'weight'"),
        ((X, W, B, 1, 0, 1, 1, 1), {}, "at most 7 positional arguments"),
    ]:
        with pytest.raises(TypeError, match=text):
            fonio.conv2d(*arguments, **keywords)


def test_warnings_are_pythons():
    """Once in a process, as in torch, and an error where warnings are errors."""
    program = """
import fonio, numpy, warnings
x, w = numpy.ones((1, 1, 4, 4), "f"), numpy.ones((1, 1, 2, 2), "f")
with warnings.catch_warnings(record=True) as seen:
    fonio.conv2d(x, w, padding="same"), fonio.conv2d(x, w[:, :, :1], padding="same")
print([(one.category.__name__, str(one.message)) for one in seen])
"""
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    text = "Using padding='same' with even kernel lengths and odd dilation may require a zero-padded copy of the input be created"
    assert result.stdout == f"{[('UserWarning', text)]}\n"
    program = "import fonio, numpy; fonio.conv2d(numpy.ones((1, 1, 4, 4)), numpy.ones((1, 1, 2, 2)), padding='same')"
    result = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
    assert result.returncode == 1 and f"UserWarning: {text}" in result.stderr
