"""Whole networks under torch, as they are and with fonio.torch.accelerate: scripts/bench models --help."""

import argparse
import copy
import json
import os
import pathlib
import statistics
import sys
import time

for _name in ("OMP_NUM_THREADS", "FONIO_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import torch  # noqa: E402

import fonio  # noqa: E402
import fonio.torch  # noqa: E402

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "tests" / "python" / "torch"))
from architectures import NETWORKS  # noqa: E402

SIZE = 224


def contestants(network, images, folded):
    """The network as it is, with Fonio's layers, and if `folded` with what follows them joined to them; each in either
    layout. With its images."""
    made = {"torch": network, "fonio": copy.deepcopy(network)}
    fonio.torch.accelerate(made["fonio"])
    if folded:
        made["fonio folded"] = copy.deepcopy(network)
        fonio.torch.accelerate(made["fonio folded"], fold_batchnorm=True, fuse_activation=True)
    both = {title: (model, images) for title, model in made.items()}
    images = images.contiguous(memory_format=torch.channels_last)
    for title, model in made.items():
        both[f"{title} c.last"] = copy.deepcopy(model).to(memory_format=torch.channels_last), images
    return both


def forward(network, images):
    """One call in eval mode, its result kept for comparing."""
    network.eval()

    def call():
        with torch.inference_mode():
            return network(images)

    return call


def training_step(network, images):
    """Forward, backward and a step of SGD."""
    network.train()
    optimiser = torch.optim.SGD(network.parameters(), lr=1e-6)

    def call():
        optimiser.zero_grad()
        output = network(images)
        output.square().mean().backward()
        optimiser.step()
        return output.detach()

    return call


def measure(calls, rounds):
    """Each one's times of this thread, in seconds; they take turns, so that all meet the same machine."""
    times = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.thread_time()
            call()
            times[name].append(time.thread_time() - began)
    return times


def compare(name, job, batch, rounds, size):
    """The times of one network at one job, after a call of each to see that all agree."""
    torch.manual_seed(0)
    network, images = NETWORKS[name][0](), torch.randn(batch, 3, size, size)
    made = contestants(network, images, folded=job is forward)
    calls = {title: job(*what) for title, what in made.items()}
    outputs = {title: call() for title, call in calls.items()}
    expected = outputs["torch"]
    off = max(float((output - expected).abs().max() / expected.abs().max()) for output in outputs.values())
    if not off < 1e-2:
        raise SystemExit(f"{name}: the results differ by {off:.3g} of the largest")
    return measure(calls, rounds), off


def lines(result):
    """A line for each contestant: its least and its median time, and how much faster than torch each is."""
    times, torchs = result["seconds"], result["seconds"]["torch"]
    for title, seconds in times.items():
        figures = [f"{1e3 * of(seconds):8.1f} ms {of(torchs) / of(seconds):5.2f}x" for of in (min, statistics.median)]
        yield f"{result['network']:14} {result['job']:6} {title:20} least {figures[0]}   median {figures[1]}"


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="scripts/bench models",
        description="Whole networks in eval mode and in training, torch as it is and with fonio.torch.accelerate. One "
        "thread; the least and the median time of several rounds, in which all take turns; each in both layouts.",
        epilog="example: scripts/bench models --networks resnet50 unet --rounds 5",
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--jobs", nargs="+", choices=("eval", "train"), default=["eval", "train"], metavar="JOB")
    parser.add_argument(
        "--batch", type=int, default=1, help="images in eval mode (default: 1); training takes twice as many"
    )
    parser.add_argument("--size", type=int, default=SIZE, help=f"of the images (default: {SIZE})")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one line of JSON for each network and job")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    fonio.set_num_threads(1)
    for name in given.networks:
        for title in given.jobs:
            job, batch = (forward, given.batch) if title == "eval" else (training_step, 2 * given.batch)
            times, off = compare(name, job, batch, given.rounds, given.size)
            result = {"network": name, "job": title, "batch": batch, "size": given.size, "seconds": times, "off": off}
            print(json.dumps(result) if given.json else "\n".join(lines(result)), flush=True)


if __name__ == "__main__":
    main()
