"""What a second thread gains while another process spins on one core: scripts/bench neighbour --help. Everyone calls a layer over and
over in a process of its own, in turns with the others, first on one thread and then on all."""

import argparse
import os
import subprocess
import sys
import time

LAYERS = ("r50_3x3_128", "r50_1x1_64_64")
WHO = ("fonio", "torch")


def spin():
    """A process that takes the last core that this one may use."""
    code = f"import os; os.sched_setaffinity(0, {{{max(os.sched_getaffinity(0))}}})\nwhile True: pass"
    return subprocess.Popen([sys.executable, "-c", code])


def measure(who, threads, text, seconds):
    """The times of the calls that fit into so many seconds, of this process."""
    import torch

    from bench import layers, ours, peers

    peers.pin_torch(threads)
    ours.set_up(threads, None)
    layer = layers.make("layer", "", text)
    with torch.inference_mode():
        ready = ours.planned(layer) if who == "fonio" else peers.PEERS[who][1](layer, threads)
        times, clock = [], time.perf_counter
        for _ in range(10):
            ready.call()
        end = clock() + seconds
        while not times or clock() < end:
            start = clock()
            ready.call()
            times.append(clock() - start)
    return times


def in_a_process(who, threads, text, seconds):
    """measure(), in a process of its own."""
    command = [sys.executable, "-m", "bench.neighbour", "--one", who, str(threads), text, str(seconds)]
    environment = os.environ | {"OMP_NUM_THREADS": str(threads), "ONEDNN_DEFAULT_FPMATH_MODE": "STRICT"}
    run = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=environment, check=True)
    return [float(word) for word in run.stdout.split()]


def main(arguments=None):
    parser = argparse.ArgumentParser(
        prog="scripts/bench neighbour",
        description="Mean and 99th percentile of a call, in milliseconds, while another process spins on one core.",
        epilog="example: scripts/bench neighbour --layers vgg_11 --seconds 2",
    )
    parser.add_argument("--layers", nargs="+", default=LAYERS, metavar="LAYER", help="names of the suite or problem strings")
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="beside one (2)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of everyone (3)")
    parser.add_argument("--seconds", type=float, default=1, metavar="S", help="of a turn (1)")
    parser.add_argument("--one", nargs=4, metavar=("WHO", "THREADS", "PROBLEM", "SECONDS"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        who, threads, text, seconds = options.one
        print(*measure(who, int(threads), text, float(seconds)))
        return 0
    from bench import layers

    try:
        rows = layers.choose(options.layers)
    except ValueError as error:
        parser.error(str(error))
    print("| ms beside a spinning process | threads | Fonio mean | Fonio 99 % | torch mean | torch 99 % |\n|---|---:|---:|---:|---:|---:|")
    neighbour = spin()
    try:
        for name, _, text in rows:
            text = layers.problem_string(text, None, "f32", "nchw")
            ways = [(who, threads) for threads in (1, options.threads) for who in WHO]
            times = {way: [] for way in ways}
            for _ in range(options.rounds):
                for way in ways:
                    times[way] += in_a_process(*way, text, options.seconds)
            for threads in (1, options.threads):
                cells = []
                for who in WHO:
                    found = sorted(times[who, threads])
                    cells += [f"{1e3 * sum(found) / len(found):.3f}", f"{1e3 * found[int(0.99 * len(found))]:.3f}"]
                print(f"| {name} | {threads} | " + " | ".join(cells) + " |", flush=True)
    finally:
        neighbour.kill()
        neighbour.wait()
    return 0


if __name__ == "__main__":
    sys.exit(main())
