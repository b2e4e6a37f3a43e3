"""fonio.Tensor and the functions that make tensors: the same program prints the same under torch."""

import copy
import gc
import pickle

import numpy
import pytest
import torch

import fonio
from fonio import _core
from same import both, each_line


def test_new_tensors():
    each_line(
        """
        torch.zeros(2, 3)
        torch.zeros((2, 3), dtype=torch.int32)
        torch.zeros([2])
        torch.zeros(())
        torch.ones(2, 1, dtype=torch.float64, requires_grad=True)
        torch.ones(3, dtype=torch.bool)
        torch.full((2, 2), 7)
        torch.full((2,), 0.5)
        torch.full((2,), True)
        torch.full((2,), 3, dtype=torch.float16)
        torch.arange(5)
        torch.arange(5.)
        torch.arange(1, 8, 2)
        torch.arange(0, 1, 0.25)
        torch.arange(5, 1, -1)
        torch.arange(3, dtype=torch.float64)
        torch.empty(0, 3)
        torch.empty(2, 3).shape
        torch.zeros_like(torch.ones(2, dtype=torch.int8))
        torch.ones_like(torch.zeros(2, 2))
        torch.tensor([1, 2])
        torch.tensor([1, 2.])
        torch.tensor([[True, False]])
        torch.tensor(1+2j)
        torch.tensor(3)
        torch.tensor(2.5, dtype=torch.float64)
        torch.tensor([0.1, 1e300, 16777217.], dtype=torch.float64).tolist()
        torch.tensor([[0.1 + 1e-30j]], dtype=torch.complex128).tolist()
        torch.tensor([16777217., -2.9], dtype=torch.int64)
        torch.tensor([1 + 2**-8 + 2**-40, 65519.], dtype=torch.bfloat16), torch.tensor([1 + 2**-11 + 2**-40, 65519.], dtype=torch.float16)
        torch.tensor([])
        torch.tensor([1., 2.], requires_grad=True)
        torch.tensor(torch.ones(2))
        torch.tensor((1, 2), dtype=torch.bfloat16)
        torch.Size([1, 2]), torch.Size((2, 3)).numel(), torch.Size([1, 2, 3])[1:], torch.Size([1]) + (2,)
        torch.float32, torch.long, torch.half, torch.bool, torch.cdouble, torch.int, torch.float
        torch.float16.itemsize, torch.float16.is_floating_point, torch.complex64.is_complex
        torch.is_tensor(torch.ones(1)), torch.is_tensor(1)
        """
    )


def test_wrong_arguments_of_new_tensors():
    each_line(
        """
        torch.zeros(2.5)
        torch.zeros('a')
        torch.zeros([2, 'a'])
        torch.arange(5, 1)
        torch.arange(1, 5, 0)
        torch.rand(2, dtype=torch.int64)
        torch.tensor([[1, 2], [3]])
        torch.tensor([1, 2], requires_grad=True)
        torch.from_numpy([1])
        torch.manual_seed(2**64)
        torch.manual_seed(-2**63 - 1)
        torch.randint(5, 5, (2,))
        """
    )


def test_from_numpy():
    each_line(
        """
        torch.from_numpy(numpy.arange(6).reshape(2, 3))
        torch.from_numpy(numpy.arange(6, dtype='f4').reshape(2, 3).T)
        torch.from_numpy(numpy.arange(12, dtype='f8').reshape(2, 6)[:, ::2]).stride()
        torch.from_numpy(numpy.zeros(2, 'c8'))
        torch.from_numpy(numpy.zeros(2, '?'))
        torch.from_numpy(numpy.float32([1])[0:0])
        torch.from_numpy(numpy.arange(3)[::-1])
        torch.tensor(numpy.arange(3, dtype='i2'))
        torch.tensor(numpy.float64(3))
        torch.from_numpy(numpy.arange(4.)).numpy()
        torch.ones(2, 3).numpy().dtype, torch.ones(2, dtype=torch.bool).numpy(), torch.arange(6).reshape(2, 3).T.numpy()
        torch.ones(2, dtype=torch.bfloat16).numpy()
        torch.ones(2, requires_grad=True).numpy()
        torch.ones(2, requires_grad=True).numpy(force=True)
        numpy.asarray(torch.arange(3)), numpy.array(torch.ones(2)), numpy.sum(torch.ones(3).numpy())
        """,
        numpy=numpy,
    )


def test_memory_is_shared():
    array = numpy.zeros((2, 3), "f")
    tensor = fonio.from_numpy(array)
    tensor.fill_(7)
    assert (array == 7).all()
    array[0, 1] = 3
    assert tensor[0, 1].item() == 3
    back = tensor.numpy()
    back[1, 2] = 9
    assert array[1, 2] == 9
    theirs = torch.from_dlpack(tensor)
    theirs[0, 0] = 5
    assert array[0, 0] == 5
    assert fonio.from_dlpack(theirs).data_ptr() == theirs.data_ptr() == tensor.data_ptr()
    assert numpy.from_dlpack(tensor)[0, 0] == 5
    assert memoryview(tensor).shape == (2, 3)
    with pytest.raises(BufferError, match="require gradient"):
        torch.from_dlpack(fonio.ones(2, requires_grad=True))


def test_nothing_leaks():
    _core.clear_plans()
    gc.collect()
    before = _core.live_allocations()
    array = numpy.zeros((2, 3), "f")
    views = [fonio.from_numpy(array) for _ in range(3)]
    lent = [memoryview(views[0]), numpy.asarray(views[1]), torch.from_dlpack(views[2]), views[0].__dlpack__()]
    del views
    assert _core.live_allocations() > before
    del lent
    x = fonio.rand(1, 3, 8, 8, requires_grad=True)
    layer = fonio.nn.Conv2d(3, 4, 3)
    layer(x).sum().backward()
    copy.deepcopy(layer)(x)
    for wrong in (lambda: fonio.conv2d(x, x, groups=2), lambda: x[9], lambda: x.reshape(7), lambda: fonio.zeros(-1)):
        with pytest.raises((RuntimeError, IndexError)):
            wrong()
    del x, layer
    gc.collect()
    assert _core.live_allocations() == before


def test_indexing():
    both(
        """
        x = torch.arange(24.).reshape(2, 3, 4)
        for index in (0, -1, (1, 2), (1, -2, 3), slice(None), slice(1, None), slice(-1, None), slice(0, 0), (slice(None), 1),
                      (Ellipsis, 2), (0, Ellipsis), (0, Ellipsis, 1), Ellipsis, None, (0, None, slice(1, 3)), (slice(None), slice(0, 3, 2)),
                      (slice(None), None, 0), (None, Ellipsis, None), slice(0, 10), slice(-10, 1), ()):
            print(index, x[index], x[index].stride())
        print(len(x), [row[0, 0].item() for row in x], x.select(1, 2), x.narrow(2, 1, 2))
        x[0, 1] = 5
        x[1, :, 0] = torch.tensor([7., 8., 9.])
        x[..., 3] = -1
        print(x)
        """
    )
    each_line(
        """
        torch.zeros(2, 3)[2]
        torch.zeros(2, 3)[0, -4]
        torch.zeros(2, 3)[0, 0, 0]
        torch.zeros(2, 3)[1.5]
        torch.zeros(2, 3)[::-1]
        len(torch.tensor(1.))
        iter(torch.tensor(1.))
        torch.zeros(2, 3).size(2)
        torch.zeros(2, 3).size(-1)
        """
    )


def test_views_and_copies():
    both(
        """
        x = torch.arange(12.).reshape(3, 4)
        print(x.T, x.T.is_contiguous(), x.permute(1, 0).stride(), x.transpose(0, 1).contiguous().stride(), x.unsqueeze(1).shape)
        print(x.expand(2, 3, 4).stride(), x.view(-1).shape, x.view(2, 6), x.flatten(), x.reshape((4, 3)), x.T.reshape(-1))
        print(x.double(), x.to(torch.int64), x.half().dtype, x.to(torch.float32) is x, x.long(), x.dim(), x.element_size())
        y = torch.zeros(1, 2, 3, 3).contiguous(memory_format=torch.channels_last)
        print(y.stride(), y.is_contiguous(), y.is_contiguous(memory_format=torch.channels_last), y.clone().stride())
        """
    )
    each_line(
        """
        torch.zeros(6).reshape(4)
        torch.zeros(6).permute(0, 0)
        torch.zeros(2, 3).T.view(-1)
        torch.zeros(2, 3).expand(4, 3)
        """
    )


def test_numbers_of_python():
    both(
        """
        for value in (torch.tensor(2.5), torch.tensor(3), torch.tensor(True), torch.tensor([[7.]]), torch.tensor(1+2j)):
            print(value.item(), type(value.item()).__name__, bool(value), value.tolist())
        print(float(torch.tensor(2.5)), int(torch.tensor(2.5)), complex(torch.tensor(1.)), [1, 2, 3][torch.tensor(1)], f"{torch.tensor(1.5):.3f}")
        print(torch.arange(6).reshape(2, 3).tolist(), torch.equal(torch.ones(2), torch.ones(2)), torch.allclose(torch.ones(2), torch.ones(2) * 1.000001))
        """
    )
    each_line(
        """
        bool(torch.ones(2))
        bool(torch.ones(0))
        float(torch.ones(2))
        torch.ones(2).item()
        [1][torch.tensor(0.)]
        torch.ones(2) + 'a'
        torch.ones(2).foo
        """
    )


def test_arithmetic_and_comparison():
    both(
        """
        x, y = torch.arange(3.), torch.tensor([2., 1., 0.])
        print(x + y, x * y, x + 1, 2 * x, 1.5 + x, x * 0.1, x.add(y), x.mul(2), x.double() + x, x.reshape(3, 1) * y)
        print(x == y, x != y, x < y, x <= 1, x > 1, x >= y, (x == x).dtype, torch.tensor(1.) == 1)
        print(x.sum(), x.mean(), torch.ones(2, 2).sum().shape)
        x.zero_()
        print(x, x.fill_(3), x.copy_(torch.tensor(1.)), hash(x) == hash(x), x in {x: 1})
        """
    )


def test_numbers_of_numpy():
    for number in ("numpy.float32(1.5)", "numpy.float64(2)", "numpy.float16(0.5)", "numpy.int64(3)", "numpy.uint8(2)"):
        both(
            f"""
            n, x = {number}, torch.tensor([2., 3.], requires_grad=True)
            print(x + n, n + x, x - n, (n - x).detach(), x * n, n * x, x / n, n / x, x ** n, n ** x, x < n, n < x, x == n, n == x)
            print(x.mul(n), x.pow(n), torch.pow(n, x), torch.pow(x, n))
            numpy.ones(2) * x
            """,
            numpy=numpy,
        )


def test_quotients_of_a_number():
    theirs, ours = (7 / library.arange(1.0, 1000.0) for library in (torch, fonio))
    assert ours.tolist() == theirs.tolist()


def test_powers():
    both(
        """
        x = y = torch.tensor([2., 3.])
        x **= 2
        print(x, y, x.pow_(torch.tensor([0.5, 1.])), x is y)
        x.requires_grad_()
        print(x ** y.detach(), 2 ** x, x ** 2)
        x **= 2
        """
    )
    for arguments in ((2, 3), (fonio.ones(1), "a"), ("a", fonio.ones(1)), (None, 2.0)):
        theirs = [torch.ones(1) if isinstance(one, fonio.Tensor) else one for one in arguments]
        with pytest.raises(TypeError) as expected:
            torch.pow(*theirs)
        with pytest.raises(TypeError) as found:
            fonio.pow(*arguments)
        assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div", "pow"])
def test_methods_refuse_what_is_no_number(name):
    for library in (torch, fonio):
        with pytest.raises(TypeError):
            getattr(library.ones(1), name)("a")


def test_more_arithmetic():
    both(
        """
        x = torch.tensor([[1., 2., 3.], [4., 5., 6.]], requires_grad=True)
        y = torch.tensor([2., 1., 4.])
        print(x - y, x / y, x - 1, x / 4, -x, x ** 2, x ** 0.5, x.exp(), x.log(), (x - 3).relu(), x.sub(y), x.div(2), x.pow(3), x.neg())
        print((3 - y), (1 / y), torch.add(y, y), torch.sub(y, 1), torch.mul(y, 2), torch.div(y, y), torch.pow(y, 2), torch.neg(y), torch.exp(y), torch.log(y), torch.relu(y))
        print(x ** y, 2 ** y, 2.5 ** x, torch.pow(x, y), torch.pow(2, x), x.pow(y), y ** torch.tensor(2.), torch.tensor(2.) ** x)
        (0.5 ** (x ** y)).sum().backward()
        print(x.grad)
        x.grad = None
        print(x.sum(0), x.sum(1, True), x.sum((0, 1)), x.mean(-1), torch.sum(x), torch.mean(x, 0, keepdim=True), x.sum(dim=[1]), x.mean(dtype=torch.float64))
        ((x / y - x.exp() * 0.1).relu() ** 2).sum(1).mean().backward()
        print(x.grad)
        with torch.no_grad():
            x -= 0.1 * x.grad
            x *= 2
            x += y
            x /= 3
            x.add_(y, alpha=2), x.sub_(1, alpha=0.5)
        print(x)
        print(nn.Sequential(nn.ReLU(), nn.ReLU(inplace=True)), nn.functional.relu(x - 1), nn.ReLU()(-x).sum())
        """
    )
    each_line(
        """
        torch.ones(2, 3).sum(2)
        torch.ones(2, 3).sum((0, 0))
        torch.ones(2) - torch.ones(3)
        torch.ones(2) - 'a'
        """
    )
    both("x = torch.ones(2, requires_grad=True); x += 1")


def test_gradients_of_gradients():
    both(
        """
        x = torch.tensor([1., 2.], requires_grad=True)
        first, = torch.autograd.grad((x ** 3).sum(), x, create_graph=True)
        second, = torch.autograd.grad(first.sum(), x)
        print(first, second)
        w = torch.ones(1, 1, 2, 2, requires_grad=True)
        y = nn.functional.conv2d(torch.ones(1, 1, 3, 3), w)
        first, = torch.autograd.grad((y * y).sum(), w, create_graph=True)
        (first * first).sum().backward()
        print(first.detach(), w.grad)
        """
    )


def test_gradients():
    both(
        """
        x = torch.tensor([[1., 2.], [3., 4.]], requires_grad=True)
        y = (x * x + 3).sum()
        print(x.grad, x.is_leaf, y.is_leaf, y, y.requires_grad, y.grad_fn.name(), x.grad_fn, type(y.grad_fn).__name__ != '')
        y.backward()
        print(x.grad, x.grad.requires_grad)
        (x * 2).backward(torch.ones(2, 2))
        print(x.grad)
        x.grad = None
        z = x * 2
        z.retain_grad()
        z.sum().backward()
        print(z.grad, x.grad, x.detach().requires_grad, x.data)
        with torch.no_grad():
            print(torch.is_grad_enabled(), (x * 2).requires_grad)
            with torch.enable_grad():
                print((x * 2).requires_grad)
            x.fill_(1)
        @torch.no_grad()
        def f():
            return torch.is_grad_enabled()
        @torch.no_grad
        def g(a):
            return torch.is_grad_enabled(), a
        print(f(), g(1), torch.is_grad_enabled())
        torch.set_grad_enabled(False)
        print(torch.is_grad_enabled())
        torch.set_grad_enabled(True)
        with torch.set_grad_enabled(False):
            print(torch.is_grad_enabled())
        print(torch.is_grad_enabled())
        print(torch.autograd.grad((x * x).sum(), x), torch.autograd.grad((x * 2).sum(), [x]))
        x.data = torch.zeros(2)
        print(x)
        """
    )
    for wrong in (
        "torch.ones(2).requires_grad_(1)",
        "torch.ones(2, dtype=torch.int64).requires_grad_()",
        "torch.ones(2, requires_grad=True).backward()",
        "torch.ones(1).backward()",
        "x = torch.ones(2); x.grad = 3",
        "x = torch.ones(2); x.grad = torch.zeros(3)",
        "x = torch.ones(2); x.requires_grad = 3",
        "x = torch.ones(2, requires_grad=True); x.fill_(1)",
        "x = torch.ones(2, requires_grad=True); y = (x * x).sum(); y.backward(); y.backward()",
        "x = torch.ones(2, requires_grad=True); torch.autograd.grad(torch.ones(1, requires_grad=True), x)",
    ):
        both(wrong)


def test_random_numbers(rng, cases):
    for _ in range(cases(20)):
        both(
            f"""
            torch.manual_seed({rng.randrange(-(2**63), 2**64)})
            print(torch.rand({rng.randint(1, 40)}), torch.randn({rng.randint(1, 40)}), torch.randint(9, (7,)), torch.randperm(6))
            print(torch.randint(3, 90, (5,)), torch.rand(3, dtype=torch.float64), torch.empty(5).uniform_(-1, 1), torch.initial_seed())
            print(torch.zeros(20).normal_(1, 2))
            """
        )


def test_print_options():
    both(
        """
        x = torch.arange(2000.) * 0.142857
        for options in ({"precision": 2}, {"sci_mode": True}, {"edgeitems": 2, "linewidth": 40}, {"profile": "short"}, {"profile": "full"}, {"profile": "default"}):
            torch.set_printoptions(**options)
            print(x if options.get("profile") != "full" else x[:50])
        """
    )


def test_copies_of_objects():
    for tensor in (fonio.rand(2, 3), fonio.rand(2, requires_grad=True), fonio.nn.Parameter(fonio.rand(2)), fonio.arange(3)):
        for made in (copy.deepcopy(tensor), pickle.loads(pickle.dumps(tensor))):
            assert type(made) is type(tensor) and repr(made) == repr(tensor) and made.data_ptr() != tensor.data_ptr()
    assert pickle.loads(pickle.dumps(fonio.float32)) is fonio.float32


def test_conv2d_on_tensors():
    both(
        """
        conv2d = nn.functional.conv2d
        torch.manual_seed(1)
        x, w, b = torch.rand(2, 4, 5, 5, requires_grad=True), torch.rand(6, 2, 3, 3, requires_grad=True), torch.rand(6)
        y = conv2d(x, w, b, stride=2, padding=1, groups=2)
        print(y.shape, y.requires_grad, y.grad_fn.name())
        y.sum().backward()
        print(x.grad.shape, w.grad.shape, b.grad)
        """
    )
    each_line(
        """
        torch.conv2d(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 2, 2), None, 1)
        torch.conv2d(torch.ones(1, 2, 3, 3), torch.ones(1, 1, 2, 2))
        torch.conv2d(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 2, 2), padding='foo')
        nn.functional.conv2d(torch.ones(1, 2, 3, 3), torch.ones(1, 2, 2, 2), stride=(1, 1, 1))
        """
    )
    x, w = fonio.ones(1, 1, 3, 3), fonio.ones(1, 1, 3, 3)
    with pytest.raises(NotImplementedError, match="for arrays"):
        fonio.conv2d(x, w, activation=("prelu", numpy.ones(1, "f")))
    fonio.conv2d(x, w, activation="gelu")
    with pytest.raises(NotImplementedError, match="gelu does not tell its derivative"):
        fonio.conv2d(x, w.requires_grad_(), activation="gelu")


@pytest.mark.parametrize("activation", ["relu", "relu6", ("leaky_relu", 0.2), "sigmoid", "tanh"])
def test_conv2d_with_an_activation_on_tensors(activation):
    name, *slope = activation if isinstance(activation, tuple) else [activation]
    apart = getattr(torch.nn.functional, name, None) or getattr(torch, name)

    def program(library, conv2d):
        library.manual_seed(2)
        x, w = library.randn(2, 3, 6, 6).requires_grad_(), library.randn(4, 3, 3, 3).requires_grad_()
        y = conv2d(x, w, library.ones(4))
        (y * y).sum().backward()
        return y.grad_fn.name(), *(torch.tensor(one.tolist()) for one in (y, x.grad, w.grad))

    theirs = program(torch, lambda x, w, b: apart(torch.conv2d(x, w, b), *slope))
    ours = program(fonio, lambda x, w, b: fonio.conv2d(x, w, b, activation=activation))
    assert ours[0] == theirs[0]
    for one, other in zip(ours[1:], theirs[1:]):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)
