"""A training step, Fonio's and torch's: scripts/bench training --help. The network of examples/train.c, with the same weights, on the
same 64 pictures: forward, cross entropy, backward, a step of SGD with momentum. Everyone in a process of its own; they take turns."""

import argparse
import copy
import json
import pathlib
import statistics
import subprocess
import sys
import time

from bench import memory

ROOT = pathlib.Path(__file__).resolve().parent.parent
SUBJECTS = {"fonio": "Fonio", "torch": "torch", "torch_channels_last": "torch c.last"}


def serve(memory_format):
    """What bench/training.c does, in torch."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)
    nn = torch.nn
    blocks = [[nn.Conv2d(a, b, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)] for a, b in ((1, 16), (16, 32))]
    net = nn.Sequential(*blocks[0], *blocks[1], nn.Flatten(), nn.Linear(32 * 7 * 7, 10))
    images, labels = torch.rand(64, 1, 28, 28), torch.arange(64) % 10
    net, images = net.to(memory_format=memory_format), images.contiguous(memory_format=memory_format)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
    nn.functional.cross_entropy(copy.deepcopy(net)(images[:1]), labels[:1]).backward()
    for line in sys.stdin:
        value, took = 0, []
        for _ in range(int(line)):
            began = time.thread_time()
            loss = nn.functional.cross_entropy(net(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            value = loss.item()
            took.append(time.thread_time() - began)
        print(value, *took, flush=True)


class Contestant:
    def __init__(self, name):
        this = [sys.executable, "-m", "bench.training", "--serve", name]
        command = [ROOT / "build" / "bench" / "training"] if name == "fonio" else this
        pipe = subprocess.PIPE
        environment = memory.environment() | {"FONIO_NUM_THREADS": "1"}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment, cwd=ROOT)
        self.steps(0)  # torch has loaded by then what it loads for a first image
        memory.forget_peak(self.process.pid)
        self.held = memory.status("VmRSS", self.process.pid)
        self.taken = []

    def steps(self, count):
        """The last loss and the seconds of each."""
        print(count, file=self.process.stdin, flush=True)
        loss, *seconds = map(float, self.process.stdout.readline().split())
        return loss, seconds

    def end(self):
        most = memory.status("VmHWM", self.process.pid) - self.held
        self.process.communicate()
        return {"seconds": self.taken, "bytes": most}


def measure(rounds, steps):
    """{who: {"seconds": of each step, "bytes": the most held beyond what was there before}}."""
    contestants = {name: Contestant(name) for name in SUBJECTS}
    losses = {name: one.steps(4)[0] for name, one in contestants.items()}
    if max(losses.values()) - min(losses.values()) > 1e-4:
        raise SystemExit(f"the losses differ: {losses}")
    for _ in range(rounds):
        for one in contestants.values():
            one.taken += one.steps(steps)[1]
    return {name: one.end() for name, one in contestants.items()}


def table(found):
    rows = ["| a training step | least ms | median ms | to Fonio's | most memory, MiB |", "|---|---:|---:|---:|---:|"]
    ours = min(found["fonio"]["seconds"])
    for name, one in found.items():
        least, middle = min(one["seconds"]), statistics.median(one["seconds"])
        rows.append(
            f"| {SUBJECTS[name]} | {1e3 * least:.1f} | {1e3 * middle:.1f} | {least / ours:.2f} | {one['bytes'] / memory.MIB:.1f} |"
        )
    return "\n".join(rows)


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="scripts/bench training",
        description="A training step of the network of examples/train.c on 64 pictures, beside torch in both layouts: time of the one "
        "thread, and memory beyond what is held when all is loaded (in torch after an image).",
    )
    parser.add_argument("--rounds", type=int, default=10, help="in which everyone takes a turn (10)")
    parser.add_argument("--steps", type=int, default=20, help="in a turn (20)")
    parser.add_argument("--json", action="store_true", help="every step's seconds, and the bytes")
    parser.add_argument("--serve", choices=list(SUBJECTS)[1:], help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.serve:
        import torch

        serve(torch.channels_last if given.serve == "torch_channels_last" else torch.contiguous_format)
        return 0
    found = measure(given.rounds, given.steps)
    print(json.dumps(found) if given.json else table(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
