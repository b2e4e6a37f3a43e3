"""Trees of modules: their text, their state dictionaries, and what load_state_dict says and does."""

import nn_c
import pytest
import torch
from fonio_c import DTYPES, Tensor, check, lib
from torch import nn

# ---- Trees, the same for both ----


class Branch(nn.Module):
    def __init__(self, extra=""):
        super().__init__()
        self.extra = extra

    def extra_repr(self):
        return self.extra


def draw_conv(rng):
    arguments = dict(kernel_size=rng.randint(1, 3), bias=rng.random() < 0.7, dtype=rng.choice([torch.float32, torch.float64]))
    channels = rng.randint(1, 3), rng.randint(1, 3)
    return nn.Conv2d(*channels, **arguments), nn_c.Conv2d(*channels, **arguments)


def draw_tree(rng, depth=0):
    """A random tree, torch's and ours; a module may stand in it twice."""
    if depth == 3 or (depth > 0 and rng.random() < 0.4):
        return draw_conv(rng)
    if rng.random() < 0.3:
        theirs, ours = nn.Sequential(), nn_c.Sequential()
    else:
        extra = rng.choice(["", "", "one line", "two\nlines", "a\n \n\nb", "\n"])
        theirs, ours = Branch(extra), nn_c.Module.new("Branch", extra)
    last = None
    for i in range(rng.randint(0, 3)):
        last = last if last and rng.random() < 0.2 else draw_tree(rng, depth + 1)
        add(theirs, ours, str(i) if isinstance(theirs, nn.Sequential) else rng.choice("abc") + str(i), last)
    if rng.random() < 0.3:
        value = torch.randn(rng.choice([(), (1,), (2, 2)]))
        theirs.scale = nn.Parameter(value.clone())
        ours.set_parameter("scale", value.clone())
    if rng.random() < 0.3:
        value = torch.arange(3)
        theirs.register_buffer("steps", value.clone())
        ours.set_buffer("steps", value.clone())
    return theirs, ours


def add(theirs, ours, name, both):
    theirs.add_module(name, both[0])
    ours.add(name, both[1])


def copied(state):
    return {name: tensor.detach().clone() for name, tensor in state.items()}


def same(ours, theirs):
    assert list(ours) == list(theirs)
    for name, tensor in ours.items():
        expected = theirs[name]
        assert tensor.dtype == expected.dtype and tensor.shape == expected.shape, name
        assert torch.equal(tensor, expected), name


def test_trees_as_torch(rng, cases):
    for _ in range(cases(200)):
        theirs, ours = draw_tree(rng)
        assert str(ours) == str(theirs)
        assert ours.load(copied(theirs.state_dict())) == ([], [])
        same(ours.state_dict(), theirs.state_dict())
        parameters = nn_c.taken(lib.module_named_parameters(ours.handle))
        same({name: tensor.torch() for name, tensor in parameters.items()}, dict(theirs.named_parameters()))


def test_a_long_name_and_a_long_tree():
    theirs, ours = draw_long(200)
    assert str(ours) == str(theirs)
    same(ours.state_dict(), {name: ours.parameter(name).torch() for name in theirs.state_dict()})


def draw_long(depth):
    theirs, ours = nn.Conv2d(1, 1, 1), nn_c.Conv2d(1, 1, 1)
    for _ in range(depth):
        outer_theirs, outer_ours = Branch(), nn_c.Module.new("Branch")
        add(outer_theirs, outer_ours, "a" * 20, (theirs, ours))
        theirs, ours = outer_theirs, outer_ours
    return theirs, ours


# ---- Loading ----


def spoil(rng, state):
    """A dictionary with some keys missing, some too many, some of other shapes and dtypes."""
    spoilt = copied(state)
    for name in list(spoilt):
        change = rng.random()
        if change < 0.15:
            del spoilt[name]
        elif change < 0.3:
            spoilt[name] = torch.randn(rng.choice([(), (1,), (2,), (2, 2), (3, 1, 1, 1), (0, 3), (1,) * 6]))
        elif change < 0.4:
            spoilt[name] = spoilt[name].to(rng.choice([torch.float64, torch.float16, torch.int64, torch.bool]))
    names = list(state) or ["weight"]
    for _ in range(rng.choice([0, 0, 1, 2, 4])):
        name = rng.choice(names)
        parent = name.rpartition(".")[0]
        key = rng.choice(
            [
                *("x", "", ".", "..", "_extra_state", "x.y.z", 'q"uo\\te', "wei\nght", "weight.", ".weight", "bïas"),
                *(name + ".x", parent, parent + ".", parent + ".x", parent + "._extra_state", parent + "x", name[:-1]),
            ]
        )
        spoilt.setdefault(key, torch.randn(2))
    items = list(spoilt.items())
    if rng.random() < 0.3:
        rng.shuffle(items)
    return dict(items)


def outcome(load):
    try:
        missing, unexpected = load()
        return list(missing), list(unexpected)
    except RuntimeError as error:
        return str(error)


def test_loads_as_torch(rng, cases):
    failures = 0
    for _ in range(cases(400)):
        theirs, ours = draw_tree(rng)
        ours.load(copied(theirs.state_dict()))
        spoilt, strict = spoil(rng, theirs.state_dict()), rng.random() < 0.7
        expected = outcome(lambda: theirs.load_state_dict(copied(spoilt), strict=strict))
        assert outcome(lambda: ours.load(copied(spoilt), strict)) == expected
        # What fitted was copied, whether the call failed or not.
        same(ours.state_dict(), theirs.state_dict())
        failures += isinstance(expected, str)
    assert failures > cases(400) // 4


def test_a_message_with_many_keys():
    theirs, ours = nn.Sequential(), nn_c.Sequential()
    for i in range(600):
        add(theirs, ours, f"a_rather_long_name_{i}", (nn.Conv2d(1, 1, 1), nn_c.Conv2d(1, 1, 1)))
    message = outcome(lambda: theirs.load_state_dict({}))
    assert len(message) > 30000
    assert outcome(lambda: ours.load({})) == message


def test_loading_what_it_holds_changes_nothing(rng):
    for _ in range(20):
        theirs, ours = draw_tree(rng)
        before = ours.state_dict()
        assert ours.load(ours.state()) == ([], [])
        same(ours.state_dict(), before)


def test_the_state_shares_the_memory():
    layer = nn_c.Conv2d(1, 2, 1)
    state = layer.state()
    check(lib.init_constant(state["weight"].handle, 7))
    assert not lib.tensor_requires_grad(state["weight"].handle)
    assert torch.equal(layer.parameter("weight").torch(), torch.full((2, 1, 1, 1), 7.0))
    del layer
    assert torch.equal(state["weight"].torch(), torch.full((2, 1, 1, 1), 7.0))


def test_a_parameter_whose_elements_share_memory():
    theirs, ours = nn.Conv2d(1, 2, 1), nn_c.Conv2d(1, 2, 1)
    expanded = torch.ones(1, 1, 1, 1).expand(2, 1, 1, 1)
    theirs.weight = nn.Parameter(expanded)
    ours.set_parameter("weight", expanded)
    state = copied(nn.Conv2d(1, 2, 1).state_dict()) | {"x": torch.ones(1)}
    expected = outcome(lambda: theirs.load_state_dict(copied(state)))
    assert "an exception occurred" in expected
    assert outcome(lambda: ours.load(state)) == expected
    same(ours.state_dict(), theirs.state_dict())


def lazy_pair(**arguments):
    return nn.LazyConv2d(3, 2, **arguments), nn_c.LazyConv2d(3, 2, **arguments)


def test_lazy_layers_take_what_is_loaded():
    state = nn.Conv2d(2, 3, 2).state_dict()
    theirs, ours = lazy_pair()
    assert str(ours.parameter("weight")) != ""
    assert list(ours.state()) == list(theirs.state_dict())
    theirs.load_state_dict(state)
    assert ours.load(copied(state)) == ([], [])
    same(ours.state_dict(), theirs.state_dict())
    assert str(ours) == str(theirs) == "LazyConv2d(0, 3, kernel_size=(2, 2), stride=(1, 1))"
    x = torch.randn(1, 2, 5, 5)
    torch.testing.assert_close(ours(x).torch(), theirs(x))
    assert str(ours) == str(theirs) == "Conv2d(0, 3, kernel_size=(2, 2), stride=(1, 1))"


def test_lazy_layers_half_loaded():
    theirs, ours = lazy_pair()
    half = {"weight": torch.ones(2, 2)}
    expected = outcome(lambda: theirs.load_state_dict(half))
    assert outcome(lambda: ours.load(half)) == expected
    with pytest.raises(AssertionError) as error:
        theirs(torch.ones(1, 2, 4, 4))
    with pytest.raises(RuntimeError, match=str(error.value)):
        ours(torch.ones(1, 2, 4, 4))


def test_lazy_state_into_lazy_and_other_layers():
    theirs, ours = lazy_pair()
    assert ours.load(nn_c.LazyConv2d(3, 2).state()) == ([], [])
    with pytest.raises(RuntimeError) as error:
        nn.Conv2d(2, 3, 2).load_state_dict(theirs.state_dict())
    assert outcome(lambda: nn_c.Conv2d(2, 3, 2).load(ours.state())) == str(error.value)


def test_lazy_parameters_cannot_be_frozen_yet():
    theirs, ours = lazy_pair()
    with pytest.raises(ValueError) as error:
        theirs.requires_grad_(False)
    with pytest.raises(ValueError) as our_error:
        check(lib.module_set_requires_grad(ours.handle, False))
    assert str(our_error.value) == str(error.value)
    theirs.double()
    check(lib.module_to(ours.handle, DTYPES.index(torch.float64)))
    x = torch.ones(1, 2, 4, 4, dtype=torch.float64)
    assert ours(x).dtype == theirs(x).dtype == torch.float64


# ---- Names and paths ----


def test_paths_as_torch():
    theirs, ours = Branch(), nn_c.Module.new("Branch")
    add(theirs, ours, "x", (nn.Conv2d(1, 1, 1), nn_c.Conv2d(1, 1, 1)))
    add(theirs, ours, "y", (nn.Sequential(nn.Conv2d(1, 1, 1)), nn_c.Sequential(nn_c.Conv2d(1, 1, 1))))
    theirs.w = nn.Parameter(torch.ones(1))
    ours.set_parameter("w", torch.ones(1))
    paths = ["", "x", "y.0", "w", "x.weight", "y.0.bias", "x.", ".x", "x..y", "z", "x.z", "z.z", "w.x", "x.weight.z", ".", "y.1"]
    for path in paths:
        for name in ("get_submodule", "get_parameter"):
            expected = found = None
            try:
                getattr(theirs, name)(path)
            except AttributeError as error:
                expected = str(error)
            if not getattr(lib, "module_" + name)(ours.handle, path.encode()):
                found = lib.last_error().decode()
            assert found == expected, (name, path)


def test_names_as_torch():
    theirs, ours = Branch(), nn_c.Module.new("Branch")
    add(theirs, ours, "child", (nn.Module(), nn_c.Module.new("Module")))
    theirs.w = nn.Parameter(torch.ones(1))
    ours.set_parameter("w", torch.ones(1))
    theirs.register_buffer("b", torch.ones(1))
    ours.set_buffer("b", torch.ones(1))
    plain = Tensor.wrap(torch.ones(1))
    parameter = nn_c.parameter_of(plain)
    for name in ("child", "w", "b", "a.b", ".", "", "new"):
        encoded = name.encode()
        for register, our_register in [
            (lambda: theirs.register_parameter(name, nn.Parameter(torch.ones(1))), lambda: lib.module_set_parameter(ours.handle, encoded, parameter.handle)),
            (lambda: theirs.register_parameter(name, torch.ones(1)), lambda: lib.module_set_parameter(ours.handle, encoded, plain.handle)),
            (lambda: theirs.register_buffer(name, torch.ones(1)), lambda: lib.module_set_buffer(ours.handle, encoded, plain.handle)),
            (lambda: theirs.add_module(name, nn.Module()), lambda: ours.add(name, nn_c.Module.new("Module"))),
        ]:
            expected = found = None
            try:
                register()
            except (KeyError, TypeError) as error:
                expected = type(error), error.args[0]
            try:
                check(our_register() or 0)
            except (KeyError, TypeError) as error:
                found = type(error), error.args[0]
            assert found == expected, name
    assert str(ours) == str(theirs)


# ---- module.to ----


def test_to_as_torch():
    for dtype in DTYPES:
        theirs, ours = nn.Conv2d(2, 2, 1), nn_c.Conv2d(2, 2, 1)
        ours.load(copied(theirs.state_dict()))
        expected = found = None
        try:
            theirs.to(dtype)
        except TypeError as error:
            expected = str(error)
        with nn_c.warnings_caught() as texts:
            try:
                check(lib.module_to(ours.handle, DTYPES.index(dtype)))
            except TypeError as error:
                found = str(error)
        assert found == expected
        assert len(texts) == dtype.is_complex
        same_bits = [torch.equal(a.view(torch.uint8), b.detach().view(torch.uint8)) for a, b in zip(ours.state_dict().values(), theirs.state_dict().values())]
        assert all(same_bits), dtype


def test_a_graph_from_before_a_conversion_cannot_be_gone_back():
    layer = nn_c.Conv2d(2, 2, 1, dtype=torch.float64)
    x = Tensor.wrap(torch.ones(1, 2, 3, 3, dtype=torch.float64), requires_grad=True)
    y = layer(x)
    total = Tensor(lib.tensor_sum(y.handle))
    check(lib.module_to(layer.handle, DTYPES.index(torch.float32)))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        check(lib.tensor_backward_with(total.handle, None, False, False))
