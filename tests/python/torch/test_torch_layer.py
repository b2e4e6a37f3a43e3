"""fonio.torch.Conv2d: a torch.nn.Conv2d in all but speed, and what it keeps from call to call."""

import copy
import gc
import io
import os
import pickle
import resource
import threading

import pytest
import torch
from torch.nn.utils import parametrizations, parametrize
from torch.testing import assert_close

import fonio
import fonio._core
import fonio.torch

pytestmark = pytest.mark.filterwarnings("error:fonio.torch", "ignore:Using padding='same'")


def pair(*arguments, **keywords):
    """Fonio's layer and torch's, with the same parameters."""
    theirs = torch.nn.Conv2d(*arguments, **keywords)
    ours = fonio.torch.Conv2d(*arguments, **keywords)
    ours.load_state_dict(theirs.state_dict())
    return ours, theirs


def agree(ours, theirs, image, **bounds):
    assert_close(ours(image), torch.nn.Conv2d._conv_forward(theirs, image, theirs.weight, theirs.bias), **bounds)


# ---- A torch.nn.Conv2d ----

LAYERS = [
    dict(stride=2, padding=1),
    dict(padding="same", dilation=(2, 1)),
    dict(padding="valid", groups=2, bias=False),
    *(dict(padding=(2, 1), padding_mode=mode, stride=(1, 2)) for mode in ("reflect", "replicate", "circular")),
    *(dict(padding="same", padding_mode=mode) for mode in ("reflect", "circular")),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("keywords", LAYERS)
def test_agrees_with_torchs(keywords, dtype, only_fonio):
    ours, theirs = pair(4, 6, (3, 2), dtype=dtype, **keywords)
    assert repr(ours) == repr(theirs)
    for shape, last in (((2, 4, 9, 8), False), ((4, 9, 8), False), ((2, 4, 9, 8), True)):
        outcomes = []
        image = torch.randn(shape, dtype=dtype)
        if last:
            image = image.contiguous(memory_format=torch.channels_last)
        for layer in (theirs, ours):
            leaf = image.clone().requires_grad_()
            layer.zero_grad()
            with torch.enable_grad() if layer is theirs else only_fonio():
                output = layer(leaf)
                output.backward(torch.ones_like(output).cumsum(-1))
            with torch.no_grad(), torch.enable_grad() if layer is theirs else only_fonio():
                assert_close(layer.eval()(image), output)
            outcomes.append((output, leaf.grad, [parameter.grad for parameter in layer.parameters()]))
        assert_close(*outcomes[::-1], rtol=1e-4, atol=1e-4)
        assert outcomes[0][0].stride() == outcomes[1][0].stride()


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_second_derivatives_of_padding_modes(mode):
    layer = fonio.torch.Conv2d(2, 3, (3, 2), padding=(2, 1), padding_mode=mode, dtype=torch.float64)
    image = torch.randn(2, 2, 5, 4, dtype=torch.float64, requires_grad=True)

    def function(image, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, image)

    arguments = image, *layer.parameters()
    torch.autograd.gradcheck(function, arguments, fast_mode=True, check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(function, arguments, fast_mode=True, check_fwd_over_rev=True)


@pytest.mark.parametrize(
    ("keywords", "shape"),
    [
        (dict(padding=5, padding_mode="circular"), (1, 4, 4, 9)),  # which fonio.nn lifts
        (dict(padding=4, padding_mode="reflect"), (1, 4, 4, 9)),
        (dict(padding=1, padding_mode="reflect"), (4, 4)),
        (dict(padding=1), (1, 3, 8, 8)),
        (dict(padding=0), (1, 4, 2, 8)),
    ],
)
def test_errors_are_torchs(keywords, shape):
    texts = []
    for layer in pair(4, 6, 3, **keywords):
        with pytest.raises((RuntimeError, ValueError)) as caught:
            layer(torch.randn(shape))
        texts.append((type(caught.value), str(caught.value)))
    assert texts[0] == texts[1]
    for kind in (torch.nn.Conv2d, fonio.torch.Conv2d):
        with pytest.raises(ValueError, match="padding='same' is not supported for strided convolutions"):
            kind(4, 6, 3, padding="same", stride=2)


def test_copies_and_pickles():
    ours, theirs = pair(4, 6, 3)
    image = torch.randn(1, 4, 7, 7)
    ours.eval()
    with torch.no_grad():
        ours(image)
    assert ours._kept is not None
    file = io.BytesIO()
    torch.save(ours, file)
    file.seek(0)
    for other in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours)), torch.load(file, weights_only=False)):
        assert type(other) is fonio.torch.Conv2d and other._kept is None
        with torch.no_grad():
            agree(other, theirs, image)
            other.weight = torch.nn.Parameter(2 * other.weight)
            agree(other, other, image)
    with torch.no_grad():
        agree(ours, theirs, image)


def test_parametrised_weights(only_fonio):
    ours, theirs = pair(4, 6, 3)
    for layer in (ours, theirs):
        parametrizations.weight_norm(layer)
    image = torch.randn(1, 4, 7, 7)
    expected = theirs(image)
    torch.autograd.backward(expected.sum())
    with only_fonio():
        output = ours(image)
        output.sum().backward()
        assert_close(output, expected)
        with torch.no_grad():
            assert_close(ours(image), expected)
    for mine, other in zip(ours.parameters(), theirs.parameters()):
        assert_close(mine.grad, other.grad)
    parametrize.remove_parametrizations(ours, "weight")
    assert type(ours) is fonio.torch.Conv2d


# ---- What is kept ----


def writes():
    """Every way in which a weight changes: its name and what does it."""

    def step(layer):
        layer.weight.grad = torch.ones_like(layer.weight)
        torch.optim.SGD([layer.weight], lr=0.5).step()

    def adam(layer):
        layer.weight.grad = torch.ones_like(layer.weight)
        torch.optim.AdamW([layer.weight], lr=0.5, fused=True).step()

    def load(layer):
        layer.load_state_dict({name: tensor + 1 for name, tensor in layer.state_dict().items()})

    def assign(layer):
        layer.load_state_dict({name: tensor + 1 for name, tensor in layer.state_dict().items()}, assign=True)

    def replace(layer):
        layer.weight = torch.nn.Parameter(torch.randn_like(layer.weight))

    def swap(layer):
        torch.utils.swap_tensors(layer.weight, torch.nn.Parameter(torch.randn_like(layer.weight)))

    def data(layer):
        layer.weight.data = torch.randn_like(layer.weight)

    def in_place(layer):
        layer.weight.mul_(2)

    def element(layer):
        layer.weight[0, 0, 0, 0] = 7

    def view(layer):
        layer.weight.detach().view(-1)[3:5].zero_()

    def double(layer):
        layer.double().float().weight.add_(1)

    def layout(layer):
        layer.to(memory_format=torch.channels_last)

    return [step, adam, load, assign, replace, swap, data, in_place, element, view, double, layout]


@pytest.mark.parametrize("write", writes(), ids=lambda write: write.__name__)
@pytest.mark.parametrize("training", [False, True])
def test_no_stale_weight(write, training):
    layer = fonio.torch.Conv2d(8, 16, 3).train(training)
    image = torch.randn(1, 8, 12, 12)
    with torch.no_grad():
        for _ in range(3):
            agree(layer, layer, image, rtol=1e-4, atol=1e-4)
            write(layer)
        agree(layer, layer, image, rtol=1e-4, atol=1e-4)


def test_a_new_weight_in_the_place_of_the_old():
    """What is kept holds its memory, so that another weight at the same address is never taken for it."""
    layer = fonio.torch.Conv2d(8, 16, 3).eval()
    image = torch.randn(1, 8, 12, 12)
    with torch.no_grad():
        for _ in range(50):
            layer.weight = None
            layer.weight = torch.nn.Parameter(torch.randn(16, 8, 3, 3))
            agree(layer, layer, image, rtol=1e-4, atol=1e-4)


def test_uncounted_writes_need_repack():
    layer = fonio.torch.Conv2d(8, 16, 3).eval()
    image = torch.randn(1, 8, 12, 12)
    with torch.no_grad():
        layer(image)
        layer.weight.data.mul_(2)
        layer.weight.detach().numpy()[0] = 1
        layer.repack()
        agree(layer, layer, image, rtol=1e-4, atol=1e-4)
        layer.train()
        layer.weight.data.mul_(2)
        agree(layer.eval(), layer, image, rtol=1e-4, atol=1e-4)


def test_kept_in_eval_and_without_gradients_only():
    layer = fonio.torch.Conv2d(8, 16, 3)
    image = torch.randn(1, 8, 12, 12)
    layer(image)
    assert layer._kept is None
    with torch.no_grad():
        layer(image)
    kept = layer._kept
    assert kept is not None
    layer.eval()(image).sum().backward()
    assert layer._kept is kept
    assert "_kept" not in layer.state_dict() and list(layer.state_dict()) == ["weight", "bias"]


def test_steps_through_data_between_evaluations():
    """As loops of old do them, without train() and eval(): a call that records gradients drops what was kept."""
    layer = fonio.torch.Conv2d(8, 16, 3)
    image = torch.randn(1, 8, 12, 12)
    for _ in range(3):
        with torch.no_grad():
            agree(layer, layer, image, rtol=1e-4, atol=1e-4)
        layer(image).sum().backward()
        for parameter in layer.parameters():
            parameter.data.sub_(0.01 * parameter.grad)


@torch.no_grad()
def test_packed_once_for_all_calls():
    layer = fonio.torch.Conv2d(32, 32, 3, padding=1)
    for batch in (1, 1, 3, 2):
        layer(torch.randn(batch, 32, 28, 28))
    assert fonio._core.kept_count(layer._kept.order) == 1


def test_kept_for_every_size_and_inference_mode():
    layer = fonio.torch.Conv2d(16, 16, 3, padding=1).eval()
    with torch.inference_mode():
        for size in (1, 5, 14, 40, 7, 90):
            for batch in (1, 3):
                agree(layer, layer, torch.randn(batch, 16, size, size), rtol=1e-4, atol=1e-4)
        inside = fonio.torch.Conv2d(16, 16, 3, padding=1).eval()  # torch counts no writes to its weight
        agree(inside, inside, torch.randn(1, 16, 8, 8), rtol=1e-4, atol=1e-4)
        inside.weight.mul_(2)
        agree(inside, inside, torch.randn(1, 16, 8, 8), rtol=1e-4, atol=1e-4)


# ---- Long and wide use ----


def test_many_threads_on_one_layer_and_a_fork_in_the_middle():
    layer = fonio.torch.Conv2d(4, 8, 3, padding=1).eval()
    images = [torch.randn(1, 4, size, 6) for size in range(3, 11)]
    expected = [layer(image).detach() for image in images]
    wrong = []

    def work(place):
        with torch.no_grad():
            for turn in range(1000):
                this = (place + turn) % len(images)
                if not torch.equal(layer(images[this]), expected[this]):
                    wrong.append((place, turn))

    threads = [threading.Thread(target=work, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    child = os.fork()
    if child == 0:
        with torch.no_grad():
            os._exit(0 if torch.equal(layer(images[0]), expected[0]) else 1)
    for thread in threads:
        thread.join()
    assert os.waitpid(child, 0)[1] == 0
    assert not wrong


def test_backward_from_many_threads():
    layer = fonio.torch.Conv2d(4, 8, 3, padding=1)
    image = torch.randn(2, 4, 6, 6)
    expected = torch.autograd.grad(layer(image).sum(), layer.weight)[0]
    wrong = []

    def work():
        for _ in range(100):
            if not torch.equal(torch.autograd.grad(layer(image).sum(), layer.weight)[0], expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_ten_thousand_calls_hold_no_memory():
    layer = fonio.torch.Conv2d(4, 8, 3, padding=1)
    image = torch.randn(1, 4, 8, 8, requires_grad=True)

    def work(times):
        for turn in range(times):
            layer.train(turn % 2 == 0)
            output = layer(image)
            if turn % 2 == 0:
                torch.autograd.grad(output, (image, layer.weight), output.detach())
            else:
                with torch.no_grad():
                    layer(image)

    work(1000)
    gc.collect()
    blocks, peak = fonio._core.live_allocations(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    work(10_000)
    gc.collect()
    assert fonio._core.live_allocations() == blocks
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 4096  # KiB; one leaked output each is 80 MB
