"""fonio.nn: the same program prints the same under torch."""

import copy
import html.parser
import pickle

import numpy
import pytest
import torch

import fonio
from arrays import KINDS, values_of
from fonio import nn
from same import both, each_line

SEED_PROGRAM = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv2d = nn.Conv2d(in_channels=3, out_channels=64, kernel_size=4, stride=2, padding=1)

    def forward(self, x):
        print(x.requires_grad)
        x = self.conv2d(x)
        return x

torch.manual_seed(seed)
net = Net()
print(net)
print(net.conv2d.weight)
print(net.conv2d.bias)
x = torch.rand(1, 3, 8, 8, requires_grad=True)
y = net(x)
print(y.shape)
print(y.dtype)
y.sum().backward()
print(net.conv2d.bias.grad)
print(list(net.state_dict()))
"""


def test_the_seeds_program(rng, cases):
    seeds = [0, 1, 2, 42, -1, 2**32, 2**63, 2**64 - 1, -(2**63)]
    for seed in seeds + [rng.randrange(-(2**63), 2**64) for _ in range(cases(20))]:
        assert "Conv2d(3, 64, kernel_size=(4, 4), stride=(2, 2), padding=(1, 1))" in both(SEED_PROGRAM, seed=seed)


def test_layers_and_their_text():
    each_line(
        """
        nn.Conv2d(1, 2, 3)
        nn.Conv2d(4, 8, (3, 5), (2, 1), (0, 2), (1, 3), 4, False, 'reflect')
        nn.Conv2d(2, 2, 3, padding='same')
        nn.Conv2d(2, 2, [3, 3], padding='valid', stride=2)
        nn.Conv2d(2, 2, 3, padding=(0, 0), dilation=1)
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Sequential(nn.Conv2d(2, 1, 1)), nn.Sequential())
        nn.ModuleList([nn.Conv2d(1, 2, 3), nn.Conv2d(2, 1, 1)])
        nn.Module()
        list(nn.Conv2d(1, 2, 3).state_dict()), nn.Conv2d(1, 2, 3, dtype=torch.float64).weight.dtype
        nn.Conv2d(1, 2, 3, bias=False).bias, nn.Conv2d(1, 2, 3, bias=False).state_dict().keys()
        [getattr(nn.Conv2d(2, 4, 3, 2, 1), name) for name in 'in_channels out_channels kernel_size stride padding dilation groups padding_mode transposed output_padding training'.split()]
        nn.Parameter(torch.ones(2)), nn.Parameter(torch.zeros(1), requires_grad=False), nn.Parameter(torch.arange(2))
        nn.Conv2d(2, 2, 1, device='cpu'), nn.Conv2d(1, 2, 1, 1, 0, 1, 1, True, 'zeros', None, torch.float64).weight.dtype
        nn.Linear(2, 3, True, None, torch.float64).weight.dtype
        nn.Conv2d(3, 3, 1, groups=0)
        nn.Conv2d(3, 4, 1, groups=2)
        nn.Conv2d(4, 3, 1, groups=2)
        """
    )


def test_what_torch_does_not_do():
    assert repr(nn.Conv2d(2, 2, 3, stride=2, padding="same")).endswith("padding=same)")
    assert nn.Conv2d(1, 1, 2, padding=(0, 1, 2, 3))(fonio.ones(1, 1, 4, 4)).shape == (1, 1, 4, 8)
    with pytest.raises(ValueError, match="padding_mode must be one of"):
        nn.Conv2d(1, 1, 1, padding_mode="mirror")
    with pytest.raises(ValueError, match="Invalid padding string"):
        nn.Conv2d(1, 1, 1, padding="foo")
    with pytest.raises(NotImplementedError, match="Fonio computes on the CPU, not on cuda"):
        nn.Conv2d(1, 1, 1, device="cuda")


def test_the_tree():
    both(
        """
        class Block(nn.Module):
            def __init__(self, channels):
                super().__init__()
                self.first = nn.Conv2d(channels, 2, 3)
                self.rest = nn.Sequential(nn.Conv2d(2, 2, 1), nn.Conv2d(2, channels, 1, bias=False))
                self.scale = nn.Parameter(torch.ones(1))
                self.register_buffer('mean', torch.zeros(2))
                self.register_buffer('scratch', torch.zeros(3), persistent=False)
                self.register_parameter('none', None)
                self.shared = self.first
                self.plain = 3
            def forward(self, x):
                return self.rest(self.first(x)) * self.scale
            def extra_repr(self):
                return 'plain=3'
        torch.manual_seed(3)
        block = Block(3)
        net = nn.Sequential(block, block)
        print(net)
        print([name for name, _ in net.named_parameters()], [name for name, _ in net.named_buffers()])
        print([name for name, _ in net.named_modules()], [name for name, _ in net.named_children()])
        print([name for name, _ in block.named_parameters(prefix='p', recurse=False)], list(net.state_dict()), len(list(net.parameters())))
        print(net.state_dict()._metadata, net.get_submodule('0.rest.1'), net.get_parameter('0.first.bias'), block.get_buffer('mean'))
        print(net(torch.rand(1, 3, 5, 5)), net.training, net.eval().training, block.rest[0].training, net.train() is net)
        block.mean = torch.ones(2)
        block.first = None
        del block.scale
        block.scale = 4
        print(net, 'scale' in dir(block), block.plain, hasattr(block, 'first'), block._buffers)
        block.apply(lambda module: print(type(module).__name__))
        print(net[0] is net[-1], len(net), net[:1], [type(one).__name__ for one in net])
        del net[0]
        print(net.append(nn.Conv2d(1, 1, 1)), list(net._modules))
        net[1] = nn.Conv2d(2, 2, 2)
        print(net)
        """
    )


def test_wrong_uses_of_a_module():
    for wrong in (
        "nn.Module()(1)",
        "nn.Module().foo",
        "nn.Module().get_submodule('a.b')",
        "nn.Conv2d(1, 1, 1).get_submodule('weight')",
        "nn.Conv2d(1, 1, 1).get_parameter('foo')",
        "nn.Conv2d(1, 1, 1).get_parameter('stride')",
        "nn.Conv2d(1, 1, 1).get_buffer('weight')",
        "nn.Conv2d(1, 1, 1).weight = torch.ones(1, 1, 1, 1)",
        "nn.Conv2d(1, 1, 1).weight = 3",
        "m = nn.Sequential(nn.Conv2d(1, 1, 1)); setattr(m, '0', 3)",
        "m = nn.Module(); m.register_buffer('a', torch.ones(1)); m.a = 3",
        "nn.Module().register_parameter('a.b', None)",
        "nn.Module().register_parameter('', None)",
        "nn.Module().register_parameter(3, None)",
        "nn.Module().register_parameter('training', None)",
        "nn.Module().register_parameter('a', 3)",
        "nn.Module().register_parameter('a', torch.ones(1))",
        "nn.Module().register_buffer('a.b', None)",
        "nn.Module().register_buffer('a', 3)",
        "nn.Module().add_module('a', 3)",
        "nn.Module().add_module('a.b', nn.Module())",
        "nn.Module().add_module('', nn.Module())",
        "nn.Module().add_module('forward', nn.Module())",
        "nn.Module().train(3)",
        "nn.Module().to(torch.int32)",
        "nn.Sequential()[0]",
        "nn.Conv2d(2, 1, 3)(torch.ones(1, 3, 8, 8))",
        "nn.Conv2d(2, 1, 3)(torch.ones(8, 8))",
        "nn.Conv2d(2, 1, 3)(torch.ones(1, 2, 2, 2))",
        """
        class A(nn.Module):
            def __init__(self):
                self.a = nn.Conv2d(1, 1, 1)
        A()
        """,
        """
        class A(nn.Module):
            def __init__(self):
                self.a = nn.Parameter(torch.ones(1))
        A()
        """,
    ):
        both(wrong)


def test_hooks():
    both(
        """
        net = nn.Conv2d(1, 1, 1)
        nn.init.ones_(net.weight), nn.init.zeros_(net.bias)
        first = net.register_forward_pre_hook(lambda module, args: (args[0] * 2,))
        second = net.register_forward_hook(lambda module, args, output: output + 1)
        print(net(torch.ones(1, 1, 2, 2)))
        first.remove()
        print(net(torch.ones(1, 1, 2, 2)))
        second.remove(), second.remove()
        print(net(torch.ones(1, 1, 2, 2)))
        """
    )


def test_init():
    both(
        """
        torch.manual_seed(5)
        w = torch.empty(4, 2, 3, 3)
        for fill in (nn.init.uniform_, nn.init.normal_, nn.init.ones_, nn.init.zeros_, nn.init.dirac_, nn.init.xavier_uniform_,
                     nn.init.xavier_normal_, nn.init.kaiming_uniform_, nn.init.kaiming_normal_):
            print(fill.__name__, fill(w) is w, w)
        print(nn.init.constant_(w, 2.5)[0], nn.init.kaiming_normal_(w, 0.2, 'fan_out', 'relu')[0], nn.init.uniform_(w, -1, 1)[0])
        print([nn.init.calculate_gain(name) for name in ('relu', 'tanh', 'selu', 'leaky_relu')], nn.init.calculate_gain('leaky_relu', 0.2))
        nn.init.kaiming_normal_(w, mode='foo')
        """
    )
    both("nn.init.xavier_uniform_(torch.empty(3))")
    both("nn.init.calculate_gain('foo')")


def test_parameters_stay_one_with_the_layer():
    both(
        """
        torch.manual_seed(2)
        net, x = nn.Conv2d(2, 2, 3, padding=1), torch.rand(1, 2, 3, 3)
        net(x)
        with torch.no_grad():
            net.weight.fill_(1)
        print(net(x))
        net.weight = nn.Parameter(torch.full((2, 2, 3, 3), 2.))
        print(net(x))
        net.bias = None
        print(net(x), net)
        net.weight.data = torch.zeros(2, 2, 3, 3)
        print(net(x))
        net.reset_parameters()
        print(net(x), net.weight.requires_grad)
        net.stride = (2, 2)
        net.padding = 'valid'
        print(net(x).shape, net)
        net.requires_grad_(False)
        print(net(x).requires_grad)
        net = nn.Conv2d(1, 1, 2).double()
        print(net(torch.ones(1, 2, 2, dtype=torch.float64)).dtype, net.weight.dtype, isinstance(net.weight, nn.Parameter))
        net(torch.ones(1, 2, 2, dtype=torch.float64)).sum().backward()
        print(net.bias.grad)
        print(net.float().bias.grad, net.zero_grad(), net.bias.grad)
        """
    )


def test_weights_written_from_outside():
    """The layer must not trust what it packed, once somebody may write to its weights."""
    layer, x = nn.Conv2d(8, 8, 3), fonio.rand(1, 8, 9, 9)
    layer(x)
    layer.weight.detach().numpy()[:] = 0
    layer.bias.detach().numpy()[:] = 0
    assert not layer(x).detach().numpy().any()


def test_lazy():
    both(
        """
        torch.manual_seed(4)
        net = nn.Sequential(nn.LazyConv2d(2, 3), nn.Conv2d(2, 1, 1))
        print(type(net[0]).__name__, net[0].in_channels)
        print(net(torch.ones(1, 3, 5, 5)), net, net[0].weight.shape, list(net.state_dict()))
        nn.LazyConv2d(2, 3)(torch.ones(3, 3))
        """
    )


def test_state_dict():
    both(
        """
        torch.manual_seed(6)
        a, b = nn.Sequential(nn.Conv2d(1, 2, 2), nn.Conv2d(2, 1, 1)), nn.Sequential(nn.Conv2d(1, 2, 2), nn.Conv2d(2, 1, 1))
        print(b.load_state_dict(a.state_dict()), torch.equal(a[0].weight, b[0].weight), a[0].weight is b[0].weight)
        state = a.state_dict()
        del state['0.bias']
        state['foo'], state['1.bar'] = torch.ones(1), torch.ones(1)
        print(b.load_state_dict(state, strict=False))
        """
    )
    for wrong in (
        "{}",
        "{'weight': torch.ones(2, 1, 2, 2), 'bias': torch.ones(3)}",
        "{'weight': torch.ones(2, 1, 2), 'bias': torch.ones(2), 'x': 1, 'a.b': 2}",
        "{'weight': [1], 'bias': torch.ones(2)}",
        "{'weight': torch.ones(2, 1, 2, 2), 'weight.a': 1}",
        "3",
    ):
        both(f"nn.Conv2d(1, 2, 2).load_state_dict({wrong})")
        both(f"nn.Conv2d(1, 2, 2).load_state_dict({wrong}, strict=False)")
    both("nn.Sequential(nn.Conv2d(1, 2, 2)).load_state_dict({'0.weight': torch.ones(1), '0': 1, '01': 2, 'x.y': 3})")


def test_state_dict_from_other_libraries():
    torch.manual_seed(8)
    theirs, ours = torch.nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
    assert repr(ours.load_state_dict(theirs.state_dict())) == "<All keys matched successfully>"
    assert repr(ours.weight) == repr(theirs.weight)
    ours.load_state_dict({"weight": numpy.ones((4, 3, 3, 3)), "bias": theirs.bias})
    assert ours.weight.dtype is fonio.float32 and (ours.weight.detach().numpy() == 1).all()
    ours.load_state_dict({"weight": theirs.weight.bfloat16(), "bias": theirs.bias.half()})
    assert repr(ours.weight) == repr(torch.nn.Parameter(theirs.weight.detach().bfloat16().float()))
    ours.load_state_dict(theirs.double().state_dict(), assign=True)
    assert ours.weight.dtype is fonio.float64
    assert ours(fonio.ones(1, 3, 3, 3, dtype=fonio.float64)).dtype is fonio.float64


def test_copies():
    torch.manual_seed(9)
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 1, 1))
    x = fonio.rand(1, 2, 6, 6)
    for made in (copy.deepcopy(net), pickle.loads(pickle.dumps(net))):
        assert repr(made) == repr(net) and repr(made(x)) == repr(net(x))
        nn.init.zeros_(made[1].weight)
        assert repr(made(x)) != repr(net(x))


def test_arrays_of_numpy_through_a_layer():
    layer, array = nn.Conv2d(2, 3, 3), numpy.ones((1, 2, 5, 5), "f")
    with fonio.no_grad():
        made = layer(array)
    assert isinstance(made, numpy.ndarray)
    assert numpy.array_equal(made, layer(fonio.from_numpy(array)).detach().numpy())


@pytest.mark.parametrize("kind", KINDS)
def test_arrays_of_every_kind_through_a_layer(kind):
    layer, tensor = nn.Conv2d(2, 3, 3), torch.ones(1, 2, 5, 5)
    convert, type_, _ = KINDS[kind]
    with fonio.no_grad():
        made = layer(convert(tensor))
        assert type(made) is type_
        assert numpy.array_equal(values_of(made), layer(tensor.numpy()))


class Rows(html.parser.HTMLParser):
    """The texts of a table's cells, row by row."""

    def __init__(self, text):
        super().__init__()
        self.rows = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data):
        self.rows[-1][-1] += data


def test_what_a_notebook_shows():
    net = nn.Sequential(nn.Conv2d(4, 8, (3, 1), padding=(1, 0), groups=2), nn.ReLU(), nn.Conv2d(8, 1, 1, bias=False))
    before = Rows(net._repr_html_()).rows
    assert before[0] == ["layer", "", "weight", "parameters", "input", "output", "multiply-adds"]
    assert before[1] == ["0", repr(net[0]), "8 x 2 x 3 x 1", "56", "", "", ""]
    assert before[-1] == ["sum", "", "", "64", "", "", ""]
    net(fonio.rand(2, 4, 5, 10))
    rows = Rows(net._repr_html_()).rows
    assert rows[1][4:] == ["2 x 4 x 5 x 10", "2 x 8 x 5 x 10", f"{2 * 8 * 50 * 6:,}"]
    assert rows[2] == ["2", repr(net[2]), "1 x 8 x 1 x 1", "8", "2 x 8 x 5 x 10", "2 x 1 x 5 x 10", "800"]
    assert rows[-1] == ["sum", "", "", "64", "", "", f"{2 * 8 * 50 * 6 + 800:,}"] and len(rows) == 4
    assert Rows(net[0]._repr_html_()).rows[1][0] == "Conv2d"
