"""Every error of a convolution: the kind and the text that PyTorch 2.13.0 raises, and where a call has two or three
faults, the one that it finds first. A failed call gives nothing back, leaves the problem alone and keeps no memory."""

import ctypes
import dataclasses
import pathlib
import random
import re
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F

import fonio_c
import problems

# ---- Calls ----


@dataclasses.dataclass
class Call:
    """The arguments of one call, right until something is done to them. `late` counts the faults that torch leaves to
    its back ends, of which each looks at them in an order of its own."""

    batch: int
    input: tuple = (4, 8, 8)
    weight: tuple = (6, 4, 3, 3)
    bias: tuple | None = (6,)
    stride: int | tuple = 1
    padding: int | tuple | str = 0
    dilation: int | tuple = 1
    groups: int = 1
    mode: str | None = None
    input_dtype: torch.dtype = torch.float32
    weight_dtype: torch.dtype = torch.float32
    bias_dtype: torch.dtype | None = None

    def tensors(self):
        shape = self.input if self.batch is None else (self.batch, *self.input)
        bias_dtype = self.bias_dtype or self.weight_dtype
        bias = torch.zeros(self.bias, dtype=bias_dtype) if self.bias is not None else None
        return torch.zeros(shape, dtype=self.input_dtype), torch.zeros(self.weight, dtype=self.weight_dtype), bias

    def arguments(self):
        return dict(
            stride=self.stride,
            padding=self.padding,
            dilation=self.dilation,
            groups=self.groups,
            padding_mode=self.mode,
        )


def by_torch(call):
    """F.conv2d, or nn.Conv2d's forward."""
    input, weight, bias = call.tensors()
    if call.mode is None:
        return F.conv2d(input, weight, bias, call.stride, call.padding, call.dilation, call.groups)
    dilation = problems.pair(call.dilation)
    (top, bottom), (left, right) = problems.sides_of(call.padding, weight.shape[2:], dilation)
    padded = F.pad(input, [left, right, top, bottom], mode=call.mode)
    return F.conv2d(padded, weight, bias, call.stride, 0, call.dilation, call.groups)


def outcome_of(function, call):
    """What a call raises, as ("ValueError", "the text"); None where it raises nothing."""
    try:
        function(call)
    except Exception as error:
        return type(error).__name__, str(error).split("\n")[0]
    return None


def by_problem(call):
    """fonio_conv_problem_init, which leaves the problem alone where it fails."""
    problem = fonio_c.Problem()
    ctypes.memset(ctypes.byref(problem), 0x5A, ctypes.sizeof(problem))
    before = bytes(problem)
    arrays = [fonio_c.array_of(tensor) for tensor in call.tensors()]
    pointers = [ctypes.byref(array) if array is not None else None for array in arrays]
    args = fonio_c.conv2d_args(**call.arguments())
    status = fonio_c.lib.conv_problem_init(ctypes.byref(problem), *pointers, ctypes.byref(args))
    if status != 0:
        assert bytes(problem) == before
    fonio_c.check(status)


def by_tensors(call):
    """fonio_tensor_conv2d_with, which keeps no memory where it fails."""
    tensors = [fonio_c.Tensor.wrap(tensor) if tensor is not None else None for tensor in call.tensors()]
    blocks = fonio_c.lib.live_allocations()
    try:
        fonio_c.conv2d(*tensors, **call.arguments())
    finally:
        assert fonio_c.lib.live_allocations() == blocks


# ---- Faults, in torch's words at run time ----

FLOATS = (torch.float32, torch.float64)
REFUSED = (torch.bool, torch.uint16, torch.uint32, torch.uint64, torch.float8_e4m3fn, torch.float8_e5m2)
NOT_YET = (torch.float16, torch.bfloat16, torch.complex64, torch.complex128, torch.complex32)
NOT_YET += (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


def put(**choices):
    """A fault that puts one of some values in place of a field's."""

    def fault(rng, call):
        for name, values in choices.items():
            setattr(call, name, rng.choice(values))

    return fault


def unbatched(*shapes):
    def fault(rng, call):
        call.batch, call.input = None, rng.choice(shapes)

    return fault


def weight_side(side, *values):
    def fault(rng, call):
        if len(call.weight) == 4:
            call.weight = (*call.weight[:side], *rng.choice(values), *call.weight[side + len(values[0]) :])

    return fault


def image_side(*values):
    def fault(rng, call):
        if len(call.input) == 3:
            call.input = (call.input[0], *rng.choice(values))

    return fault


# Faults that torch's convolution finds itself, in one order.
EARLY = {
    "bias dtype": put(bias_dtype=[torch.float64, torch.float16, torch.int32, torch.bool, torch.int64, torch.uint16]),
    "input rank": unbatched((), (8,), (8, 8), (1, 2, 3, 8, 8), (2, 1, 2, 3, 8, 8)),
    "unbatched": unbatched((4, 8, 8), (4, 8, 0), (3, 8, 8)),
    "weight rank": put(weight=[(), (6,), (6, 4), (6, 4, 3), (6, 4, 3, 3, 3)]),
    "groups": put(groups=[0, -1, 2, 4, 5, 7]),
    "stride": put(stride=[0, -1, (1, 0), (0, 1), (1, -2)]),
    "negative padding": put(padding=[-1, (0, -1), (-1, 0), (1, -3)]),
    "large padding": put(padding=[2**62, (0, 2**62), 2**63 - 1]),
    "wide padding": put(padding=[8, 9, (9, 1), (1, 9)]),
    "negative dilation": put(dilation=[-1, (1, -2), (-1, 0), (0, -1)]),
    "out_channels": weight_side(0, (0,), (1,), (5,)),
    "in_channels": weight_side(1, (0,), (1,), (5,)),
    "bias shape": put(bias=[(), (5,), (6, 1), (0,), (1, 6)]),
    "large kernel": weight_side(2, (20, 3), (3, 20), (30, 30)),
    "dilation": put(dilation=[9, (1, 9), (100, 1)]),
    "empty image": image_side((0, 8), (8, 0), (0, 0)),
    "no channels": lambda rng, call: setattr(call, "input", (0, *call.input[1:])),
    "empty batch": put(batch=[0]),
    "complex": put(input_dtype=[torch.complex64, torch.complex128]),
    "name": put(padding=["same", "same", "valid", "foo", ""]),
    "mode": put(mode=["reflect", "replicate", "circular"]),
}

# Faults that torch leaves to its back ends: each has its own order and words.
LATE = {
    "empty kernel": weight_side(2, (0, 3), (3, 0), (0, 0)),
    "dilation of 0": put(dilation=[0, (1, 0), (0, 1)]),
    "weight dtype": put(
        weight_dtype=[torch.float64, torch.float16, torch.int32, torch.bool, torch.complex64], bias=[None]
    ),
    "input dtype": put(input_dtype=[torch.float64, torch.float16, torch.int32, torch.bool, torch.uint16], bias=[None]),
    "refused dtype": lambda rng, call: put_both(call, rng.choice(REFUSED)),
}


def put_both(call, dtype):
    call.input_dtype = call.weight_dtype = dtype


def beyond_torch(names, call):
    """What Fonio allows, or refuses, on its own account; below are tests of it."""
    named = isinstance(call.padding, str)
    return (
        (named and call.padding == "same" and ("stride" in names or "empty kernel" in names or call.groups < 1))
        or (named and call.padding in ("foo", "") and call.mode is not None)
        or (named and "bias dtype" in names)
        or (call.mode is not None and ("negative padding" in names or (named and "negative dilation" in names)))
        or (call.mode is not None and named and len(call.weight) != 4)
        or (call.mode is not None and "large padding" in names)
        or (call.mode == "circular" and ("wide padding" in names or (named and {"dilation", "large kernel"} & set(names))))
        or (bool({"empty batch", "no channels"} & set(names)) and bool(set(LATE) & set(names)))
    )


# Where torch has several texts for a fault, Fonio has the first, word for word as another call of torch has it. (A
# NotImplementedError is a RuntimeError.)
SAME_FAULT = [
    ("kernel size should be greater than zero, but got", "could not create a primitive descriptor"),
    ("dilation should be greater than zero, but got", "non-positive dilation is not supported"),
    ("expected scalar type", "Input type (torch.FloatTensor) and weight type"),
    ("expected scalar type", '"slow_conv_dilated<>" not implemented for'),
    ('"slow_conv2d_cpu" not implemented for', '"slow_conv_dilated<>" not implemented for'),
]


NARROWER = ("RuntimeError", "NotImplementedError")


def not_computed_yet(dtype):
    return "NotImplementedError", f"conv2d of {str(dtype).removeprefix('torch.')} is not implemented"


def agree(ours, theirs, call):
    if ours == theirs or (
        theirs is None and call.input_dtype in NOT_YET and ours == not_computed_yet(call.input_dtype)
    ):
        return True
    if ours is None or theirs is None or (ours[0] != theirs[0] and (ours[0], theirs[0]) != NARROWER):
        return False
    return any(ours[1].startswith(texts[0]) and theirs[1].startswith(texts) for texts in SAME_FAULT)


def draw(rng):
    """A call with one to three faults, at most one of them late."""
    while True:
        call = Call(batch=rng.choice([1, 2]), bias=rng.choice([None, (6,)]), padding=rng.choice([0, 1]))
        names = rng.sample(list(EARLY), rng.choice([0, 1, 1, 2, 2]))
        names += ["mode"] if rng.random() < 0.2 else []
        names += rng.sample(list(LATE), 1) if not names or rng.random() < 0.3 else []
        for name in rng.sample(names, len(names)):
            {**EARLY, **LATE}[name](rng, call)
        if not beyond_torch(names, call):
            return names, call


def test_random_faults(seed, cases):
    rng, wrong, seen = random.Random(seed), [], set()
    for _ in range(cases(6000)):
        names, call = draw(rng)
        theirs = outcome_of(by_torch, call)
        for function in (by_problem, by_tensors):
            ours = outcome_of(function, call)
            if not agree(ours, theirs, call):
                wrong.append(f"{function.__name__} {names}: {ours}, torch {theirs}: {call}")
        seen.add(re.sub(r"\d+", "#", theirs[1])[:60] if theirs else "none")
    assert not wrong, "\n".join([f"{len(wrong)} calls differ", *wrong[:20]])
    assert len(seen) > 30, sorted(seen)


# ---- One by one: texts that are ours, and torch's where Fonio is stricter ----


def refuse(call, kind, text):
    assert outcome_of(by_problem, call) == (kind, text)
    assert outcome_of(by_tensors, call) == (kind, text)


@pytest.mark.parametrize("dtype", NOT_YET)
def test_dtypes_that_are_not_computed_yet(dtype):
    call = Call(batch=2, input_dtype=dtype, weight_dtype=dtype)
    assert outcome_of(by_torch, call) is None
    refuse(call, *not_computed_yet(dtype))
    call.weight = (5, 4, 3, 3)  # torch's own checks come first
    assert outcome_of(by_torch, call) is not None
    refuse(call, *outcome_of(by_torch, call))


def test_bias_of_another_dtype_with_a_named_padding():
    """torch takes it without a word where oneDNN is not asked, such as for one small image."""
    call = Call(batch=1, padding="same", bias_dtype=torch.float64)
    assert outcome_of(by_torch, call) is None
    refuse(call, "RuntimeError", "Input type (float) and bias type (double) should be the same")


def test_faults_that_torch_does_not_see_without_elements():
    for empty in (dict(batch=0), dict(batch=2, input=(0, 8, 8), weight=(6, 0, 3, 3))):
        call = Call(**empty, dilation=0)
        assert outcome_of(by_torch, call) is None
        refuse(call, "RuntimeError", "dilation should be greater than zero, but got [0, 0]")
        call = Call(**empty, weight_dtype=torch.float64, bias=None)
        assert outcome_of(by_torch, call) is None
        refuse(call, "RuntimeError", "expected scalar type Float but found Double")
        call = Call(**empty)
        call.weight = (*call.weight[:2], 0, 3)
        text = "kernel size should be greater than zero, but got kernel_height: 0 kernel_width: 3"
        refuse(call, "RuntimeError", text)


def test_negative_padding_with_a_mode():
    """torch cuts the image."""
    for mode in ("reflect", "replicate", "circular"):
        call = Call(batch=2, mode=mode, padding=-1)
        assert outcome_of(by_torch, call) is None
        refuse(call, "RuntimeError", "negative padding is not supported")


def test_named_padding_with_a_stride_or_a_mode():
    refuse(Call(batch=2, padding="same", stride=0), "RuntimeError", "non-positive stride is not supported")
    refuse(Call(batch=2, padding="same", stride=2, groups=0), "RuntimeError", "non-positive groups is not supported")
    refuse(Call(batch=2, padding="foo", mode="reflect"), "RuntimeError", "Invalid padding string: 'foo'")
    text = "Expected 3-dimensional input for 3-dimensional weight[6, 4, 3], "
    text += "but got 4-dimensional input of size [2, 4, 8, 8] instead"
    refuse(Call(batch=2, padding="same", mode="reflect", weight=(6, 4, 3)), "RuntimeError", text)


def test_four_sides():
    too_large = "Padding size should be less than the corresponding input dimension, but got: padding"
    text = f"Argument #4: {too_large} (8, 1) at dimension 3 of input [2, 4, 8, 8]"
    refuse(Call(batch=2, padding=(7, 7, 8, 1), mode="reflect"), "RuntimeError", text)
    text = f"Argument #6: {too_large} (7, 9) at dimension 1 of input [4, 8, 8]"
    refuse(Call(batch=None, padding=(7, 9, 7, 1), mode="reflect"), "RuntimeError", text)
    refuse(Call(batch=2, padding=(0, 0, 0, -1)), "RuntimeError", "negative padding is not supported")
    text = "Calculated padded input size per channel: (9 x 10). Kernel size: (11 x 3). "
    text += "Kernel size can't be greater than actual input size"
    refuse(Call(batch=2, padding=(1, 0, 0, 2), weight=(6, 4, 11, 3)), "RuntimeError", text)


def test_circular_padding_of_nothing():
    """Wrapping more than once is allowed, but not around nothing."""
    call = Call(batch=2, input=(4, 0, 8), mode="circular", padding=1)
    assert outcome_of(by_torch, call) == ("RuntimeError", "Padding value causes wrapping around more than once.")
    refuse(call, "RuntimeError", "Padding value causes wrapping around more than once.")


def test_unknown_padding_mode():
    """torch's constructor lists the modes in an order that varies."""
    with pytest.raises(ValueError) as torchs:
        torch.nn.Conv2d(4, 6, 3, padding_mode="foo")
    text = "padding_mode must be one of {'zeros', 'reflect', 'replicate', 'circular'}, but got padding_mode='foo'"
    assert sorted(str(torchs.value)) == sorted(text)
    refuse(Call(batch=2, mode="foo"), "ValueError", text)


def test_padding_given_twice():
    args = fonio_c.conv2d_args(padding=(1, 1, 1, 1))
    args.padding_name = b"same"
    tensors = [fonio_c.Tensor.wrap(tensor) for tensor in Call(batch=2).tensors()]
    with pytest.raises(ValueError, match="^padding_name and padding_sides cannot both be given$"):
        fonio_c.Tensor(fonio_c.lib.tensor_conv2d_with(*(tensor.handle for tensor in tensors), ctypes.byref(args)))


def test_uneven_same_warns_once_in_a_process():
    script = """
import sys, warnings
sys.path.insert(0, sys.argv[1])
import fonio_c, torch
seen = []
handler = fonio_c.WARNING(lambda message, user: seen.append(message.decode()))
fonio_c.lib.set_warning_handler(handler, None)
input, even, odd = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 3, 3)
fonio_c.problem_init(input, odd, padding="same")
fonio_c.problem_init(input, even, padding="same", dilation=2)
fonio_c.problem_init(input, even, padding="same", padding_mode="reflect")
fonio_c.problem_init(input, even, padding="same_lower")
fonio_c.problem_init(input, even, padding="same", stride=2)
assert seen == [], seen
for _ in range(3):
    fonio_c.problem_init(input, even, padding="same")
with warnings.catch_warnings(record=True) as theirs:
    torch.nn.functional.conv2d(input, even, padding="same")
assert len(seen) == len(theirs) == 1
assert str(theirs[0].message).startswith(seen[0] + " ("), (seen, theirs)
"""
    here = str(pathlib.Path(__file__).parent)
    subprocess.run([sys.executable, "-c", script, here], check=True)


@pytest.mark.parametrize("missing", ["input", "weight", "bias", "output"])
def test_a_run_without_a_buffer_writes_nothing(missing):
    input, weight, bias = Call(batch=2).tensors()
    plan = fonio_c.Plan(fonio_c.problem_init(input, weight, bias))
    buffers = dict(input=input, weight=weight, bias=bias, output=torch.full((2, 6, 6, 6), 7.0))
    output = buffers["output"]
    blocks = fonio_c.lib.live_allocations()
    with pytest.raises(ValueError, match=f"the convolution needs its {missing}, which is NULL"):
        plan.run(**{name: tensor for name, tensor in buffers.items() if name != missing})
    assert (output == 7).all()
    assert fonio_c.lib.live_allocations() == blocks
