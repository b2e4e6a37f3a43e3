"""Whole networks under torch, as they are and with fonio.torch.accelerate: scripts/bench models --help."""

import argparse
import copy
import json
import os
import pathlib
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


def contestants(network):
    """The network as it is, with Fonio's layers, and with what follows them folded in as well."""
    made = {"torch": network, "fonio": copy.deepcopy(network), "fonio, folded": copy.deepcopy(network)}
    fonio.torch.accelerate(made["fonio"])
    fonio.torch.accelerate(made["fonio, folded"], fold_batchnorm=True, fuse_activation=True)
    return made


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


def best(calls, rounds):
    """Each one's least time of this thread, in seconds; they take turns, so that all meet the same machine."""
    times = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.thread_time()
            call()
            times[name] = min(times[name], time.thread_time() - began)
    return times


def compare(name, job, batch, last, rounds, size):
    """The times of one network at one job, after a call of each to see that all agree."""
    torch.manual_seed(0)
    network, images = NETWORKS[name][0](), torch.randn(batch, 3, size, size)
    if last:
        network = network.to(memory_format=torch.channels_last)
        images = images.contiguous(memory_format=torch.channels_last)
    made = contestants(network)
    if job is training_step:
        del made["fonio, folded"]
    calls = {title: job(model, images) for title, model in made.items()}
    outputs = {title: call() for title, call in calls.items()}
    expected = outputs["torch"]
    off = max(float((output - expected).abs().max() / expected.abs().max()) for output in outputs.values())
    if not off < 1e-2:
        raise SystemExit(f"{name}: the results differ by {off:.3g} of the largest")
    return best(calls, rounds), off


def line(result):
    times = result["seconds"]
    figures = [f"{title} {1e3 * seconds:8.1f} ms" for title, seconds in times.items()]
    ratios = [f"{times['torch'] / seconds:5.2f}x" for title, seconds in times.items() if title != "torch"]
    return f"{result['network']:14} {result['job']:13} {', '.join(figures)}  ({', '.join(ratios)})"


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="scripts/bench models",
        description="Whole networks in eval mode and in training, torch as it is and with fonio.torch.accelerate. One "
        "thread; the least time of several rounds, in which all take turns.",
        epilog="example: scripts/bench models --networks resnet50 unet --rounds 5",
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--jobs", nargs="+", choices=("eval", "train"), default=["eval", "train"], metavar="JOB")
    parser.add_argument(
        "--batch", type=int, default=1, help="images in eval mode (default: 1); training takes twice as many"
    )
    parser.add_argument("--size", type=int, default=SIZE, help=f"of the images (default: {SIZE})")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--channels-last", action="store_true", help="the layout of weights and images")
    parser.add_argument("--json", action="store_true", help="one line of JSON for each network and job")
    given = parser.parse_args(arguments)
    torch.set_num_threads(1)
    fonio.set_num_threads(1)
    for name in given.networks:
        for title in given.jobs:
            job, batch = (forward, given.batch) if title == "eval" else (training_step, 2 * given.batch)
            times, off = compare(name, job, batch, given.channels_last, given.rounds, given.size)
            result = {"network": name, "job": title, "batch": batch, "size": given.size, "seconds": times, "off": off}
            print(json.dumps(result) if given.json else line(result), flush=True)


if __name__ == "__main__":
    main()
