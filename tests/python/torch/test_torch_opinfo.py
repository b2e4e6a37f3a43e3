"""torch's own cases of nn.functional.conv2d and nn.Conv2d, from the suite that torch is tested with."""

import pytest
import torch
from torch.testing import assert_close

import fonio.torch

pytest.importorskip("expecttest")
from torch.testing._internal.common_methods_invocations import op_db  # noqa: E402
from torch.testing._internal.common_modules import module_db  # noqa: E402

OPERATOR = next(entry for entry in op_db if entry.name == "nn.functional.conv2d")
MODULES = {entry.module_cls.__name__: entry for entry in module_db if entry.module_cls.__name__.endswith("Conv2d")}
DTYPES = [torch.float32, torch.float64]
pytestmark = pytest.mark.filterwarnings("error:fonio.torch", "ignore:Using padding='same'")


def samples(dtype):
    """Each sample as torch has it, and with its elements apart in memory."""
    for sample in OPERATOR.sample_inputs("cpu", dtype, requires_grad=True):
        yield sample
        yield sample.noncontiguous()


def leaves(sample):
    """The sample's tensors, for two runs that do not share gradients."""
    tensors = [sample.input, *sample.args]
    return [None if tensor is None else tensor.detach().requires_grad_() for tensor in tensors]


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_sample(dtype, only_fonio):
    count = 0
    for sample in samples(dtype):
        ours, theirs = leaves(sample), leaves(sample)
        expected = torch.nn.functional.conv2d(*theirs, **sample.kwargs)
        cotangent = torch.randn_like(expected)
        expected.backward(cotangent)
        with only_fonio():
            output = fonio.torch.conv2d(*ours, **sample.kwargs)
            output.backward(cotangent)
        assert_close(output, expected)
        assert output.stride() == expected.stride()
        for mine, other in zip(ours, theirs, strict=True):
            assert_close(
                None if mine is None else mine.grad, None if other is None else other.grad, rtol=1e-4, atol=1e-4
            )
        count += 1
    assert count >= 60


def test_derivatives_of_every_sample(only_fonio):
    """Of first and second order, backward and forward and one over the other, one at a time and batched."""
    for sample in OPERATOR.sample_inputs("cpu", torch.float64, requires_grad=True):

        def function(*tensors, keywords=sample.kwargs):
            return fonio.torch.conv2d(*tensors, **keywords)

        tensors = leaves(sample)
        with only_fonio():
            torch.autograd.gradcheck(
                function,
                tensors,
                fast_mode=True,
                check_forward_ad=True,
                check_batched_grad=True,
                check_batched_forward_grad=True,
            )
            torch.autograd.gradgradcheck(
                function, tensors, fast_mode=True, check_fwd_over_rev=True, check_rev_over_rev=True
            )


def raised(function, sample):
    with pytest.raises((RuntimeError, TypeError, ValueError)) as caught:
        function(sample.input, *sample.args, **sample.kwargs)
    return type(caught.value), str(caught.value)


def test_every_error():
    count = 0
    for error in OPERATOR.error_inputs("cpu"):
        expected = raised(torch.nn.functional.conv2d, error.sample_input)
        assert raised(fonio.torch.conv2d, error.sample_input) == expected
        count += 1
    assert count >= 10


def outcome(module, case):
    """What a call gives: the output, and the gradients of everything."""
    arguments = [argument.detach().requires_grad_() for argument in case.forward_input.args]
    output = module(*arguments)
    output.backward(torch.ones_like(output).cumsum(-1))
    return output, [tensor.grad for tensor in (*arguments, *module.parameters())]


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["Conv2d", "LazyConv2d"])
def test_every_module_case(name, dtype, training, seed, only_fonio):
    info = MODULES[name]
    count = 0
    for case in info.module_inputs_func(info, "cpu", dtype, requires_grad=True, training=training):
        make = case.constructor_input
        torch.manual_seed(seed)
        theirs = getattr(torch.nn, name)(*make.args, **make.kwargs, dtype=dtype).train(training)
        expected = outcome(theirs, case)
        torch.manual_seed(seed)
        ours = getattr(fonio.torch, name)(*make.args, **make.kwargs, dtype=dtype).train(training)
        with only_fonio():
            got = outcome(ours, case)
        assert type(ours) is fonio.torch.Conv2d
        assert repr(ours) == repr(theirs)
        assert_close(ours.state_dict(), theirs.state_dict(), rtol=0, atol=0)
        assert_close(got, expected)
        if case.reference_fn is not None:
            images = case.forward_input.args
            assert_close(ours(*images), case.reference_fn(theirs, *images))
        count += 1
    assert count == 4
