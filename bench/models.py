"""Whole networks under torch, as they are and with fonio.torch.accelerate: scripts/bench models --help. Each contestant has a process of
its own, as whoever uses it would: whether memory comes new from the system or was there already counts for some percent."""

import argparse
import json
import multiprocessing
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
# The options of accelerate, None for torch as it is; and whether network and images are channels_last.
ALL = {"linear": True, "fold_batchnorm": True, "fuse_activation": True}
CONTESTANTS = {
    "torch": (None, False),
    "fonio": ({}, False),
    "fonio all": (ALL, False),
    "torch c.last": (None, True),
    "fonio c.last": ({}, True),
    "fonio all c.last": (ALL, True),
}


def contestant(name, title, batch, size):
    """The network and its images, the same for all but for what the contestant makes of them."""
    options, channels_last = CONTESTANTS[title]
    torch.manual_seed(0)
    network, images = NETWORKS[name][0](), torch.randn(batch, 3, size, size)
    if options is not None:
        fonio.torch.accelerate(network, **options)
    if channels_last:
        network, images = (what.to(memory_format=torch.channels_last) for what in (network, images))
    return network, images


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


JOBS = {"eval": forward, "train": training_step}


def serve(pipe, job, *what):
    """In a process of its own: the result of a first call, then the seconds of this thread for each call that is asked for."""
    torch.set_num_threads(1)
    fonio.set_num_threads(1)
    call = JOBS[job](*contestant(*what))
    pipe.send(call().numpy())
    while pipe.recv():
        began = time.thread_time()
        call()
        pipe.send(time.thread_time() - began)


def compare(name, job, batch, rounds, size):
    """{contestant: its times}, in which they take turns, after a call of each to see that all agree."""
    fork = multiprocessing.get_context("fork")  # with torch loaded, and nothing run
    pipes = {}
    for title in [title for title in CONTESTANTS if job == "eval" or "all" not in title]:
        pipes[title], theirs = fork.Pipe()
        fork.Process(target=serve, args=(theirs, job, name, title, batch, size), daemon=True).start()
        theirs.close()
    outputs = {title: pipe.recv() for title, pipe in pipes.items()}
    expected = outputs["torch"]
    off = max(float(abs(output - expected).max() / abs(expected).max()) for output in outputs.values())
    if not off < 1e-2:
        raise SystemExit(f"{name}: the results differ by {off:.3g} of the largest")
    times = {title: [] for title in pipes}
    for _ in range(rounds):
        for title, pipe in pipes.items():
            pipe.send(True)
            times[title].append(pipe.recv())
    for pipe in pipes.values():
        pipe.send(False)
    return times, off


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
        "thread; the least and the median time of several rounds, in which all take turns, everyone in a process of its own; each in both "
        "layouts.",
        epilog="example: scripts/bench models --networks resnet50 unet --rounds 5",
    )
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=list(NETWORKS), metavar="NETWORK")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=list(JOBS), metavar="JOB")
    parser.add_argument(
        "--batch", type=int, default=1, help="images in eval mode (default: 1); training takes twice as many"
    )
    parser.add_argument("--size", type=int, default=SIZE, help=f"of the images (default: {SIZE})")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one line of JSON for each network and job")
    given = parser.parse_args(arguments)
    for name in given.networks:
        for job in given.jobs:
            batch = given.batch if job == "eval" else 2 * given.batch
            times, off = compare(name, job, batch, given.rounds, given.size)
            result = {"network": name, "job": job, "batch": batch, "size": given.size, "seconds": times, "off": off}
            print(json.dumps(result) if given.json else "\n".join(lines(result)), flush=True)


if __name__ == "__main__":
    main()
