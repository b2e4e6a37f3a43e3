"""Training with fonio: losses, optimisers and generators print what torch's do."""

import copy

import pytest
import torch

import fonio
from same import both, each_line

LOOP = """
torch.manual_seed(seed)
model = nn.Sequential(
    nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.AvgPool2d(2, 1), nn.Flatten(), nn.Linear(36, 10)
)
print(model)
images, classes = torch.rand(16, 1, 8, 8), torch.randint(0, 10, (16,))
loss_of, optimiser = nn.CrossEntropyLoss(), make(torch, model.parameters())
for step in range(5):
    optimiser.zero_grad()
    loss = loss_of(model(images), classes)
    loss.backward()
    optimiser.step()
    losses.append(loss.item())
    optimiser.param_groups[0]["lr"] *= 0.5
with torch.no_grad():
    print((model(images).argmax(1) == classes).shape)
state = optimiser.state_dict()
print(sorted(state["state"].get(0, {})), state["param_groups"][0]["lr"], state["param_groups"][0]["params"])
"""

MAKERS = [
    lambda torch, params: torch.optim.SGD(params, lr=0.1),
    lambda torch, params: torch.optim.SGD(params, 0.1, 0.9, weight_decay=1e-3, nesterov=True),
    lambda torch, params: torch.optim.Adam(params, lr=0.01, betas=(0.8, 0.99), amsgrad=True),
    lambda torch, params: torch.optim.AdamW(params, lr=0.01, weight_decay=0.1),
]


@pytest.mark.parametrize("make", MAKERS)
def test_a_training_loop(make, seed):
    losses = []
    assert "Linear(in_features=36, out_features=10, bias=True)" in both(LOOP, make=make, seed=seed, losses=losses)
    assert losses[5:] == pytest.approx(losses[:5], rel=1e-3)


def test_losses_and_pooling():
    each_line(
        """
        nn.MSELoss()(torch.arange(4.0), torch.ones(4)), nn.MSELoss(reduction='sum')(torch.ones(2), torch.zeros(2))
        nn.functional.mse_loss(torch.arange(3.0), torch.ones(3), reduction='none')
        nn.functional.cross_entropy(torch.arange(6.0).reshape(2, 3), torch.tensor([2, 0]))
        nn.CrossEntropyLoss(ignore_index=0, label_smoothing=0.1)(torch.arange(6.0).reshape(2, 3), torch.tensor([2, 0]))
        nn.NLLLoss(reduction='sum')(nn.functional.log_softmax(torch.arange(6.0).reshape(2, 3), dim=1), torch.tensor([1, 1]))
        nn.functional.cross_entropy(torch.ones(2, 3), torch.tensor([3, 0]))
        nn.functional.cross_entropy(torch.ones(2, 3), torch.tensor([0, 0, 0]))
        nn.functional.cross_entropy(torch.ones(2, 3), torch.tensor([0, 0]), reduction='all')
        nn.functional.max_pool2d(torch.arange(16.0).reshape(1, 4, 4), 2), nn.functional.max_pool2d(torch.ones(1, 1, 3, 3), (2, 1), 1, (1, 0), 1, True).shape
        nn.functional.avg_pool2d(torch.arange(16.0).reshape(1, 4, 4), 2, 1, 1, False, False), nn.AvgPool2d(2, divisor_override=3)(torch.ones(1, 2, 2))
        nn.functional.avg_pool2d(torch.ones(1, 2, 2), 2, divisor_override=0)
        nn.MaxPool2d(3, 2, 1), nn.AvgPool2d((2, 1)), nn.Flatten(), nn.Flatten(0, 1), nn.Linear(2, 3, bias=False), nn.MSELoss(), nn.CrossEntropyLoss()
        torch.ones(2, 3, 4).flatten(1).shape, torch.ones(2, 3, 4).flatten(0, -2).shape, torch.tensor(1.0).flatten().shape
        torch.ones(2, 3).flatten(1, 0)
        torch.ones(2, 3).flatten(2)
        torch.tensor([[1, 3, 2], [9, 0, 4]]).argmax(), torch.tensor([[1, 3, 2], [9, 0, 4]]).argmax(1, keepdim=True), torch.argmax(torch.tensor(3.0))
        """
    )


def test_optimisers_refuse_as_torchs():
    each_line(
        """
        torch.optim.SGD([], lr=0.1)
        torch.optim.SGD([1], lr=0.1)
        torch.optim.SGD([torch.ones(1, requires_grad=True) * 2], lr=0.1)
        torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=-1.0)
        torch.optim.Adam([torch.ones(1, requires_grad=True)], betas=(1.0, 0.9))
        torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1, nesterov=True)
        """
    )


def test_groups_closures_and_states():
    both(
        """
        torch.manual_seed(1)
        a, b = torch.rand(3, requires_grad=True), torch.rand(2, requires_grad=True)
        optimiser = torch.optim.SGD([{"params": [a]}, {"params": b, "lr": 0.5, "momentum": 0.9}], lr=0.1)
        def closure():
            optimiser.zero_grad(set_to_none=False)
            loss = (a * a).sum() + (b * b * b).sum()
            loss.backward()
            return loss
        for _ in range(3):
            print(optimiser.step(closure).shape)
        print([group["lr"] for group in optimiser.param_groups], optimiser.state_dict()["state"].keys())
        c, d = a.detach().clone().requires_grad_(), b.detach().clone().requires_grad_()
        other = torch.optim.SGD([{"params": [c]}, {"params": d, "lr": 0.5, "momentum": 0.9}], lr=0.1)
        other.load_state_dict(copy.deepcopy(optimiser.state_dict()))
        ((c * c).sum() + (d * d * d).sum()).backward()
        other.step()
        optimiser.step(closure)
        print(torch.equal(a, c), torch.equal(b, d))
        """,
        copy=copy,
    )


def test_torchs_state_goes_on_here():
    weight = torch.rand(4, requires_grad=True)
    theirs = torch.optim.Adam([weight], lr=0.1)
    (weight * weight).sum().backward()
    theirs.step()
    here = fonio.from_dlpack(weight).clone().requires_grad_()
    ours = fonio.optim.Adam([here])
    ours.load_state_dict(theirs.state_dict())
    for one, optimiser in ((weight, theirs), (here, ours)):
        one.grad = None
        (one * one).sum().backward()
        optimiser.step()
    assert here.detach().numpy() == pytest.approx(weight.detach().numpy(), rel=1e-6)


def test_what_is_missing_says_so():
    tensor = fonio.rand(3, 2)
    for index in (tensor > 0.5, fonio.arange(2), [0, 1], (slice(None), fonio.arange(2))):
        with pytest.raises(NotImplementedError, match="indexed by numbers"):
            tensor[index]
    with pytest.raises(TypeError, match="an iterable of Tensors"):
        fonio.optim.SGD(tensor)
    optimiser = fonio.optim.SGD([fonio.ones(1, requires_grad=True)], lr=0.1)
    optimiser.param_groups[0]["momentum"] = 0.5
    with pytest.raises(NotImplementedError, match="momentum"):
        optimiser.step()
    with pytest.raises(NotImplementedError, match="probabilities"):
        fonio.nn.functional.cross_entropy(tensor, tensor)
    with pytest.raises(NotImplementedError):
        fonio.Generator("cuda")


def test_generators(seed):
    both(
        """
        generator = torch.Generator()
        print(generator.initial_seed(), generator.manual_seed(seed) is generator, generator.initial_seed())
        print(torch.rand(3, generator=generator), torch.randn(20, generator=generator))
        print(torch.randint(5, (7,), generator=generator), torch.randint(-4, 9, (2, 3), generator=generator))
        print(torch.randperm(9, generator=generator), torch.rand(2, dtype=torch.float64, generator=generator))
        print(torch.randint(3, 3, (1,), generator=generator))
        """,
        seed=seed,
    )
