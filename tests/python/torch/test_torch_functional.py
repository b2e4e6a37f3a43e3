"""fonio.torch.conv2d under everything that torch does to a function."""

import itertools
import subprocess
import sys
import warnings

import pytest
import torch
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap
from torch.testing import assert_close

import fonio.torch

torch_conv2d = torch.nn.functional.conv2d
KEYWORDS = [
    {},
    {"stride": 2, "padding": 1},
    {"groups": 2, "dilation": (2, 1)},
    {"padding": "same"},
    {"stride": (2, 1), "padding": (2, 1), "groups": 2},
]
pytestmark = pytest.mark.filterwarnings("error:fonio.torch", "ignore:Using padding='same'")


def tensors(dtype=torch.float64, groups=1, batch=2, **_):
    return (
        torch.randn(batch, 4, 7, 6, dtype=dtype),
        torch.randn(6, 4 // groups, 3, 2, dtype=dtype),
        torch.randn(6, dtype=dtype),
    )


def both(keywords, through=lambda output: output):
    """Fonio's function and torch's, with these keywords."""
    return tuple(
        lambda *arguments, function=function: through(function(*arguments, **keywords))
        for function in (fonio.torch.conv2d, torch_conv2d)
    )


# ---- torch.func ----


@pytest.mark.parametrize("keywords", KEYWORDS)
def test_vmap(keywords, only_fonio):
    ours, theirs = both(keywords)
    for dims in itertools.product((0, None, -1), (0, None, 1), (0, None)):
        if dims == (None, None, None):
            continue
        arguments = [
            tensor if dim is None else torch.stack([tensor, -tensor, 2 * tensor], dim)
            for dim, tensor in zip(dims, tensors(**keywords))
        ]
        expected = vmap(theirs, dims)(*arguments)
        with only_fonio():
            assert_close(vmap(ours, dims)(*arguments), expected)


def along(function):
    """The function's tangent, along a direction that depends on where it is."""
    return lambda *arguments: jvp(function, arguments, tuple(argument.cos() for argument in arguments))[1]


TRANSFORMS = {
    "grad": lambda function: grad(function, (0, 1, 2)),
    "jacrev": lambda function: jacrev(function, 1),
    "jacfwd": lambda function: jacfwd(function, 1),
    "jvp": lambda function: lambda *arguments: jvp(function, arguments, arguments),
    "jvp of the bias": lambda function: (
        lambda *arguments: jvp(lambda bias: function(*arguments[:2], bias), arguments[2:], arguments[2:])
    ),
    "jvp of jvp": lambda function: along(along(function)),
    "jvp of jvp of jvp": lambda function: along(along(along(function))),
    "jvp of jvp of the bias": lambda function: (
        lambda *arguments: along(along(lambda bias: function(*arguments[:2], bias)))(arguments[2])
    ),
    "jvp of grad of jvp": lambda function: along(grad(along(function), 1)),
    "jvp of jvp of grad": lambda function: along(along(grad(function, 1))),
    "hessian": lambda function: hessian(function, 1),
    "grad of grad": lambda function: grad(lambda *arguments: grad(function, 1)(*arguments).sin().sum(), 0),
    "grad of jvp": lambda function: grad(lambda *arguments: jvp(function, arguments, arguments)[1]),
    "grads of samples": lambda function: (
        lambda images, *rest: vmap(grad(function, (1, 2)), (0, None, None))(images, *rest)
    ),
    "samples, each with weights of its own": lambda function: (
        lambda images, weight, bias: vmap(grad(function, (0, 1, 2)))(
            images, torch.stack([weight, -weight]), torch.stack([bias, bias])
        )
    ),
}


@pytest.mark.parametrize("keywords", KEYWORDS)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms(name, keywords, only_fonio):
    ours, theirs = (TRANSFORMS[name](function) for function in both(keywords, lambda output: output.sin().sum()))
    arguments = tensors(**keywords)
    expected = theirs(*arguments)
    with only_fonio():
        assert_close(ours(*arguments), expected)


def test_functional_call(only_fonio):
    layer = fonio.torch.Conv2d(4, 6, 3).eval()
    image = torch.randn(2, 4, 7, 6)
    other = {"weight": torch.randn(6, 4, 3, 3), "bias": torch.randn(6)}
    expected = torch_conv2d(image, other["weight"], other["bias"]), torch_conv2d(image, layer.weight, layer.bias)
    with only_fonio(), torch.no_grad():
        layer(image)
        assert_close(functional_call(layer, other, image), expected[0])
        assert_close(layer(image), expected[1])


# ---- Operators, compiling ----


def operator_cases():
    for dtype, last in itertools.product((torch.float32, torch.float64), (False, True)):
        image, weight, bias = tensors(dtype)
        if last:
            image = image.contiguous(memory_format=torch.channels_last)
        for padding, mode in (([1, 1, 1, 1], "zeros"), ([0, 1, 2, 1], "zeros"), ([1, 2, 1, 0], "reflect")):
            geometry = [1, 1], padding, [1, 2], 1, mode
            yield image.requires_grad_(), weight.requires_grad_(), bias.requires_grad_(), geometry


def test_operators_are_sound():
    """torch.library.opcheck: the schema, the registration for autograd, shapes and strides without data, compiling."""
    for image, weight, bias, geometry in operator_cases():
        output = torch.ops.fonio.conv2d(image, weight, bias, *geometry)
        cotangent = torch.randn_like(output).requires_grad_()
        last = output.is_contiguous(memory_format=torch.channels_last)
        for operator, arguments in (
            (torch.ops.fonio.conv2d, (image, weight, bias)),
            (torch.ops.fonio.conv2d, (image, weight, None)),
            (torch.ops.fonio.conv2d_input, (image.shape, weight, cotangent)),
            (torch.ops.fonio.conv2d_weight, (image, weight.shape, cotangent)),
        ):
            flag = () if operator is torch.ops.fonio.conv2d else (last,)
            tests = ("test_schema", "test_autograd_registration", "test_faketensor")
            torch.library.opcheck(operator.default, (*arguments, *geometry, *flag), test_utils=tests)
    torch.library.opcheck(torch.ops.fonio.conv2d.default, (image, weight, bias, *geometry))


@pytest.mark.parametrize("dynamic", [False, True])
def test_compile_without_a_break(dynamic, only_fonio):
    layer = fonio.torch.Conv2d(4, 6, 3, padding="same", padding_mode="reflect")
    image, weight, bias = (tensor.requires_grad_() for tensor in tensors(torch.float32))
    deep = torch.randn(6, 6, 3, 3)

    def function(image, weight, bias):
        return (
            fonio.torch.conv2d(layer(image).relu(), deep, bias, 2, (1, 2)).mean()
            + fonio.torch.conv2d(image[0], weight).sum()
        )

    expected = torch.autograd.grad(function(image, weight, bias), (image, weight, bias, layer.weight))
    compiled = torch.compile(function, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    with only_fonio():
        got = torch.autograd.grad(compiled(image, weight, bias), (image, weight, bias, layer.weight))
    assert_close(got, expected)


COMPILED = {
    "jvp": lambda function: lambda image: jvp(function, (image,), (image,)),
    "grad": grad,
    "jacfwd": jacfwd,
    "grad of jvp": lambda function: grad(lambda image: jvp(function, (image,), (image,))[1]),
    "jvp of jvp": lambda function: along(along(function)),
}


@pytest.mark.parametrize("name", COMPILED)
def test_compiled_transforms(name, only_fonio):
    """Under torch.compile forward_ad does not know of a level, and there are tangents all the same."""
    image, weight, bias = tensors()
    ours, theirs = (
        COMPILED[name](lambda image, function=function: function(image, weight, bias).sin().sum())
        for function in (fonio.torch.conv2d, torch_conv2d)
    )
    expected = theirs(image)
    with only_fonio():
        assert_close(torch.compile(ours, backend="aot_eager", fullgraph=True)(image), expected)


def test_export_and_fx():
    layer = torch.nn.Sequential(fonio.torch.Conv2d(4, 6, 3), torch.nn.ReLU()).eval()
    image = tensors(torch.float32)[0]
    exported = torch.export.export(layer, (image,))
    assert any(node.target is torch.ops.fonio.conv2d.default for node in exported.graph.nodes)
    assert_close(exported.module()(image), layer(image))
    traced = torch.fx.symbolic_trace(layer)
    assert any(node.target is fonio.torch.conv2d for node in traced.graph.nodes)
    assert_close(traced(image), layer(image))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_traces_hold_the_operator():
    layer = fonio.torch.Conv2d(4, 6, 3).eval()
    image = tensors(torch.float32)[0]
    traced = torch.jit.trace(layer, image)
    assert "fonio::conv2d" in str(traced.inlined_graph)
    assert_close(traced(image + 1), layer(image + 1))


def test_profilers_see_no_convolution_of_torchs():
    image, weight, bias = (tensor.requires_grad_() for tensor in tensors(torch.float32))
    with torch.autograd.profiler.profile() as profile:
        fonio.torch.conv2d(image, weight, bias).sum().backward()
    names = {event.name for event in profile.function_events}
    assert names and not [
        name
        for name in names
        if "conv" in name.lower()
        and not name.startswith(("Conv2dFunction", "autograd::engine::evaluate_function: Conv2dFunction"))
    ]


# ---- What autograd is asked to do ----


def test_modes_see_the_operator():
    from torch.utils._python_dispatch import TorchDispatchMode

    seen = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            seen.append(str(function))
            return function(*args, **(kwargs or {}))

    image, weight, bias = (tensor.requires_grad_() for tensor in tensors())
    with Watch():
        fonio.torch.conv2d(image, weight, bias).sum().backward()
    assert {"fonio.conv2d.default", "fonio.conv2d_input.default", "fonio.conv2d_weight.default"} <= set(seen)
    assert not [name for name in seen if "aten" in name and "conv" in name]


def test_a_written_input_is_noticed():
    image, weight, _ = (tensor.requires_grad_() for tensor in tensors())
    output = fonio.torch.conv2d(image, weight)
    with torch.no_grad():
        weight.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_gradients_in_batches(only_fonio):
    """is_grads_batched and checkpoint, which run backward in ways of their own."""
    arguments = [tensor.requires_grad_() for tensor in tensors()]
    cotangents = torch.randn(3, 2, 6, 5, 5, dtype=torch.float64)
    outcomes = []
    for function in both({}):
        output = function(*arguments)
        outcomes.append(torch.autograd.grad(output, arguments, cotangents, is_grads_batched=True))
        loss = torch.utils.checkpoint.checkpoint(function, *arguments, use_reentrant=False).square().sum()
        outcomes[-1] += torch.autograd.grad(loss, arguments)
    assert_close(*outcomes)


def test_only_what_is_wanted():
    for wanted in itertools.product((False, True), repeat=3):
        arguments = [tensor.requires_grad_(want) for tensor, want in zip(tensors(), wanted)]
        output = fonio.torch.conv2d(*arguments)
        assert output.requires_grad == any(wanted)
        if any(wanted):
            output.sum().backward()
        assert [tensor.grad is not None for tensor in arguments] == list(wanted)


def test_strides_of_every_kind(only_fonio, rng):
    """Tensors are read where they lie: transposed, turned, spread out, with a step, waiting to be negated."""
    for _ in range(20):
        pair = []
        for shape in ((2, 4, 7, 6), (6, 4, 3, 2)):
            order = rng.sample(range(4), 4)
            step = rng.choice((1, 2))
            sizes = [shape[dim] * step for dim in order]
            tensor = torch.randn(sizes)[tuple(slice(None, None, step) for _ in order)]
            tensor = tensor.permute([order.index(dim) for dim in range(4)])
            if rng.random() < 0.2:
                tensor = torch._neg_view(tensor)
            if rng.random() < 0.2:
                tensor = tensor[:1].expand_as(tensor)
            pair.append(tensor)
        expected = torch_conv2d(*pair)
        with only_fonio():
            output = fonio.torch.conv2d(*pair)
        assert_close(output, expected)
        assert output.stride() == expected.stride()


def test_empty_batches(only_fonio):
    for shape in ((0, 4, 7, 6), (2, 0, 7, 6)):
        image = torch.randn(shape, requires_grad=True)
        weight = torch.randn(6, shape[1], 3, 3, requires_grad=True)
        expected = torch_conv2d(image, weight)
        gradients = torch.autograd.grad(expected.sum(), (image, weight))
        with only_fonio():
            output = fonio.torch.conv2d(image, weight)
            assert output.shape == expected.shape
            assert_close(torch.autograd.grad(output.sum(), (image, weight)), gradients)


# ---- What goes to torch ----


class Subclass(torch.Tensor):
    pass


FALLS = {
    "float16": lambda image, weight: (image.half(), weight.half()),
    "bfloat16": lambda image, weight: (image.bfloat16(), weight.bfloat16()),
    "complex128": lambda image, weight: (image + 1j * image, weight + 1j * weight),
    "int64": lambda image, weight: (image.long(), weight.long()),
    "Subclass": lambda image, weight: (image.as_subclass(Subclass), weight),
    "meta": lambda image, weight: (image.to("meta"), weight.to("meta")),
    "mkldnn": lambda image, weight: (image.float().to_mkldnn(), weight.float().to_mkldnn()),
}


@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("name", FALLS)
def test_goes_to_torch_with_one_warning(name):
    from fonio.torch import _functional

    _functional._warned.clear()
    image, weight = FALLS[name](*tensors()[:2])
    expected = torch_conv2d(image, weight)
    with pytest.warns(UserWarning, match="fonio.torch: torch computes this convolution: .*" + name):
        output = fonio.torch.conv2d(image, weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fonio.torch.conv2d(image, weight)
    assert type(output) is type(expected) and output.dtype == expected.dtype
    if name not in ("meta", "mkldnn"):
        assert_close(output, expected)


@pytest.mark.filterwarnings("default")
def test_autocast_goes_to_torch():
    from fonio.torch import _functional

    _functional._warned.clear()
    image, weight, bias = tensors(torch.float32)
    with torch.autocast("cpu"), pytest.warns(UserWarning, match="autocast is on"):
        assert fonio.torch.conv2d(image, weight, bias).dtype == torch.bfloat16


def test_default_device_is_no_obstacle(only_fonio):
    image, weight, bias = tensors(torch.float32)
    with torch.device("cpu"), only_fonio():
        fonio.torch.conv2d(image, weight, bias)


LIFTED = [
    {"padding": (1, 1, 1, 1)},
    {"padding": "same", "stride": 2},
    {"padding": "same_lower"},
    {"stride": True},
    {"stride": (1, 1, 1)},
    {"padding": [1, 2, 3]},
    {"dilation": 0},
    {"stride": 1.0},
    {"groups": "1"},
    {"padding": -1},
    {"padding": None},
]


@pytest.mark.parametrize("keywords", LIFTED)
def test_errors_are_torchs(keywords):
    image, weight, bias = tensors()
    outcomes = []
    for function in (torch_conv2d, fonio.torch.conv2d):
        with pytest.raises((RuntimeError, TypeError, ValueError)) as caught:
            function(image, weight, bias, **keywords)
        # Where types are wrong torch lists what was given, by place or by name, and that is not known here.
        outcomes.append((type(caught.value), str(caught.value).split(" - got")[0]))
    assert outcomes[0] == outcomes[1]


def test_arguments_that_torch_takes():
    image, weight, bias = tensors()
    for keywords in (
        {"stride": [2]},
        {"padding": [1]},
        {"stride": torch.Size([2, 1])},
        {"padding": (1,), "dilation": [1, 2]},
    ):
        assert_close(fonio.torch.conv2d(image, weight, bias, **keywords), torch_conv2d(image, weight, bias, **keywords))
    assert_close(fonio.torch.conv2d(input=image, weight=weight), torch_conv2d(image, weight))
    for wrong in ((image, weight.tolist()), (None, weight), (image, weight, 3)):
        with pytest.raises(TypeError, match=r"conv2d\(\)"):
            fonio.torch.conv2d(*wrong)


def test_importing_fonio_does_not_import_torch():
    code = "import sys, fonio; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
