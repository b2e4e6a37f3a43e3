"""examples/train.c beside the same network in torch: the losses of 50 steps, from the same seed, in the same order; and that
a training that was broken off goes on as if it had not been. On pictures made up here: a spot for each class, and noise."""

import gzip
import pathlib
import signal
import struct
import subprocess
import time

import pytest
import torch

from fonio_c import lib

BATCH, COUNT = 64, 640
PROGRAM = pathlib.Path(lib._library._name).parent / "examples" / "train"
pytestmark = pytest.mark.skipif(not PROGRAM.exists(), reason="examples/train was not built")


def write_idx(path, tensor):
    sizes = struct.pack(f">{tensor.ndim}I", *tensor.shape)
    path.write_bytes(gzip.compress(struct.pack(">I", 0x800 + tensor.ndim) + sizes + tensor.numpy().tobytes(), 1))


def make_pictures(folder, kind, count, torch_rng):
    labels = torch.randint(0, 10, (count,), generator=torch_rng)
    images = torch.randint(0, 120, (count, 28, 28), generator=torch_rng)
    for image, label in zip(images, labels):
        image[2 * label : 2 * label + 8, 6:14] += 100
    images, labels = images.to(torch.uint8), labels.to(torch.uint8)
    write_idx(folder / f"{kind}-images-idx3-ubyte.gz", images)
    write_idx(folder / f"{kind}-labels-idx1-ubyte.gz", labels)
    return images, labels.long()


@pytest.fixture
def data(rng, tmp_path):
    """The folder of the files, and what is in those to learn from."""
    torch_rng = torch.Generator().manual_seed(rng.getrandbits(32))
    make_pictures(tmp_path, "t10k", 100, torch_rng)
    return tmp_path, *make_pictures(tmp_path, "train", COUNT, torch_rng)


def command(folder, out, seed, *more):
    (folder / out).mkdir(exist_ok=True)
    return [PROGRAM, "--data", folder, "--seed", str(seed), "--losses", *map(str, more), folder / out]


def losses(*arguments):
    done = subprocess.run(command(*arguments), capture_output=True, text=True, check=True, timeout=60)
    return [float(line) for line in done.stdout.split()]


def losses_in_torch(images, labels, seed, steps):
    torch.manual_seed(seed)
    nn = torch.nn
    blocks = [[nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)] for a, b in ((1, 16), (16, 32))]
    net = nn.Sequential(*blocks[0], *blocks[1], nn.Flatten(), nn.Linear(32 * 7 * 7, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    for step in range(steps):
        if step % (COUNT // BATCH) == 0:
            torch.manual_seed(seed + 1 + step // (COUNT // BATCH))
            order = torch.randperm(COUNT)
        places = order[step * BATCH % COUNT :][:BATCH]
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(images[places].unsqueeze(1) / 255), labels[places])
        loss.backward()
        optimizer.step()
        yield loss.item()


def test_losses_are_torchs(data, rng):
    folder, images, labels = data
    seed = rng.randrange(1000)
    made = losses(folder, "out", seed, "--epochs", 9, "--steps", 50)
    assert len(made) == 50
    assert made[-1] < made[0] / 2
    for step, (one, other) in enumerate(zip(made, losses_in_torch(images, labels, seed, 50))):
        # Differences of rounding grow as training goes on.
        assert one == pytest.approx(other, rel=2e-5 * 1.13**step, abs=1e-5), (seed, step)


def test_goes_on_after_ctrl_c(data, rng):
    folder, seed = data[0], rng.randrange(1000)
    child = subprocess.Popen(command(folder, "broken", seed, "--epochs", 5000), stdout=subprocess.PIPE, text=True)
    time.sleep(0.7)
    child.send_signal(signal.SIGINT)
    first = child.communicate(timeout=60)[0].split()
    assert child.returncode == 130
    assert (folder / "broken" / "train.npy").exists() == bool(first)
    steps = len(first) + 5
    rest = losses(folder, "broken", seed, "--epochs", 5000, "--steps", steps)
    whole = losses(folder, "whole", seed, "--epochs", 5000, "--steps", steps)
    assert [*map(float, first), *rest] == whole
    assert (folder / "broken" / "train.npy").read_bytes() == (folder / "whole" / "train.npy").read_bytes()
    assert sorted(path.name for path in (folder / "whole").iterdir()) == ["train.npy"]


@pytest.mark.parametrize("damage", [lambda state: state[:-4], lambda state: b"x" + state[1:], lambda state: b""])
def test_refuses_a_state_that_is_damaged(data, damage):
    folder = data[0]
    losses(folder, "out", 0, "--steps", 1)
    state = folder / "out" / "train.npy"
    state.write_bytes(damage(state.read_bytes()))
    done = subprocess.run(command(folder, "out", 0, "--steps", 2), capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "is no state of this network and seed" in done.stderr


def test_wrong_arguments(tmp_path):
    for arguments in ([], ["--steps", "-1", "out"], ["--steps"], ["a", "b"], ["--other", "a"]):
        done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=60)
        assert done.returncode == 2 and done.stderr.startswith("usage: train")
    done = subprocess.run([PROGRAM, "--data", tmp_path, tmp_path], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "No such file or directory" in done.stderr
