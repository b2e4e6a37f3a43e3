"""How much memory a layer takes, Fonio's and each peer's: scripts/bench memory --help. Each figure comes from a process of its own:
what it holds once everything is loaded and the input and weight are there, and the most that it held beyond that while the layer was
made ready and called three times."""

import argparse
import os
import subprocess
import sys

LAYERS = ("lenet", "r50_3x3_64", "r50_3x3_512", "r50_1x1_512_128", "vgg_2", "mnv2_dw_96s2", "cyclegan", "sd_unet")
MIB = 2**20


def status(field, process="self"):
    """A line of /proc/PROCESS/status, in bytes."""
    with open(f"/proc/{process}/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return 1024 * int(line.split()[1])
    raise RuntimeError(f"/proc/{process}/status tells no {field}")


def forget_peak(process="self"):
    with open(f"/proc/{process}/clear_refs", "w") as file:
        file.write("5")


def measure(name, text):
    """(held with everything loaded, most beyond that) in bytes, of this process, which does nothing else."""
    import torch

    from bench import layers, ours, peers

    peers.pin_torch(1)
    ours.set_up(1, None)
    maker = ours.planned if name == "fonio" else lambda layer: peers.PEERS[name][1](layer, 1)
    with torch.inference_mode():
        # A small layer first: what a library sets up once is not this layer's.
        small = maker(layers.make("small", "", "n1c8h8w8k8r3s3p1tf32lnchw"))
        small.call()
        layer = layers.make("layer", "", text)
        forget_peak()
        held = status("VmRSS")
        ready = maker(layer)
        for _ in range(3):
            kept = ready.call()
        del kept
    return held, status("VmHWM") - held


def in_a_process(name, text):
    """measure(), in a process of its own; what it failed with, where it failed."""
    run = subprocess.run(
        [sys.executable, "-m", "bench.memory", "--one", name, text], capture_output=True, text=True, env=environment()
    )
    if run.returncode:
        return None, (run.stderr.strip().splitlines() or ["no reason given"])[-1]
    return tuple(map(int, run.stdout.split())), None


def environment():
    return os.environ | {"OMP_NUM_THREADS": "1", "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT"}


def own_arrays(text):
    """Bytes of the output: a part of every figure, because each peer makes one."""
    from bench import library

    p = library.parse(text)
    return 4 * p.batch * p.out_channels * p.out_height * p.out_width


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="scripts/bench memory",
        description="The most memory that a layer takes beyond its input and weight: output, packed weights, workspace.",
        epilog="example: scripts/bench memory --layers vgg_2 n1c64h56w56k64r3s3p1",
    )
    parser.add_argument("--layers", nargs="+", default=LAYERS, metavar="LAYER", help="names of the suite or problem strings")
    parser.add_argument("--one", nargs=2, metavar=("WHO", "PROBLEM"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(*measure(*options.one))
        return 0
    from bench import layers, peers

    try:
        rows = layers.choose(options.layers)
    except ValueError as error:
        parser.error(str(error))
    subjects = {"fonio": "Fonio"} | {name: peer[0] for name, peer in peers.PEERS.items()}
    print("| MiB | the output alone | " + " | ".join(subjects.values()) + " |\n|---|---:|" + "---:|" * len(subjects))
    failures = []
    for name, _, text in rows:
        text = layers.problem_string(text, None, "f32", "nchw")
        cells = []
        for subject in subjects:
            found, failure = in_a_process(subject, text)
            cells.append(f"{found[1] / MIB:.1f}" if found else "fails")
            failures += [f"{subject} on {name}: {failure}"] if failure else []
        print(f"| {name} | {own_arrays(text) / MIB:.1f} | " + " | ".join(cells) + " |", flush=True)
    print("\n".join(failures), end="\n" if failures else "", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
