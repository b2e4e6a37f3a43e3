"""Measures Fonio and its peers side by side, in one process: scripts/bench --help."""

import argparse
import json
import os
import pathlib
import sys

ERROR_LIMITS = {"f32": 5e-5, "f64": 1e-13}  # a larger rms error is no rounding: bf16, TF32 or a fault
DIRECTIONS = ("forward", "input_gradient", "weight_gradient")
PEERS = ("torch", "torch_channels_last", "torch_packed", "onnxruntime", "openvino", "ncnn")


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(
        prog="scripts/bench",
        description="Measures Fonio and its peers side by side, in one process, and checks everyone's result.",
        epilog="Ratios are the peer's time over Fonio's: above 1, Fonio is faster. docs/performance.md tells how to read them.",
    )
    add = parser.add_argument
    add("--layers", nargs="+", metavar="LAYER", help="names of the suite, regular expressions, problem strings (all)")
    add("--list", action="store_true", help="print the layers and stop")
    add("--peers", nargs="*", default=PEERS, choices=PEERS, metavar="PEER", help=f"some of: {' '.join(PEERS)} (all)")
    add("--threads", type=int, default=1, metavar="N", help="for everyone (1)")
    add("--batch", type=int, metavar="N", help="images at a time (as the suite says: mostly 1)")
    add("--dtype", choices=("f32", "f64"), default="f32", help="f64 has torch as its only peer (f32)")
    add("--layout", choices=("nchw", "nhwc"), default="nchw", help="of Fonio's input and output (nchw)")
    add("--accuracy", choices=("strict", "default", "fast"), help="of Fonio (the environment's FONIO_ACCURACY, or default)")
    add("--direction", choices=DIRECTIONS, default="forward", help="the gradients have torch as their only peer (forward)")
    add("--functional", action="store_true", help="also fonio_tensor_conv2d, which packs its weight in each call")
    add("--rounds", type=int, metavar="N", help="turns of everyone (3)")
    add("--quick", action="store_true", help="few calls, to try things out: the figures are rough")
    add("--by", choices=("min", "median"), default="min", help="what the table shows (min); the JSON file has both")
    add("--out", type=pathlib.Path, metavar="DIR", help="for results.json, table.md and charts (out/bench/...)")
    add("--no-charts", action="store_true", help="do without matplotlib")
    options = parser.parse_args(arguments)
    if options.functional and options.direction != "forward":
        parser.error("--functional goes with --direction forward only")
    for name in ("threads", "batch", "rounds"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            parser.error(f"--{name} is at least 1")
    if options.out is None:
        batch = f"-n{options.batch}" if options.batch else ""
        accuracy = f"-{options.accuracy}" if options.accuracy else ""
        direction = f"{options.direction}-" if options.direction != "forward" else ""
        options.out = pathlib.Path(f"out/bench/{direction}{options.dtype}-{options.layout}-t{options.threads}{batch}{accuracy}")
    return parser, options


class Progress:
    """One line on a terminal that changes while a layer is measured; nothing elsewhere."""

    def __init__(self, total):
        self.total, self.done, self.shown = total, 0, sys.stderr.isatty()

    def tell(self, text):
        if self.shown:
            print(f"\r\x1b[K[{self.done + 1}/{self.total}] {text}", end="", file=sys.stderr, flush=True)

    def clear(self):
        if self.shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def reason(error):
    """An exception in one line."""
    return f"{type(error).__name__}: {error}".strip().splitlines()[0][:200]


def get_ready(layer, options):
    """name: (title, Ready or the exception) of everyone who is to be measured."""
    from bench import gradients, ours, peers

    forward = options.direction == "forward"
    makers = {"fonio": ("Fonio", ours.planned if forward else gradients.ours(options.direction))}
    if options.functional:
        makers["fonio_functional"] = ("Fonio functional", ours.functional)
    known = peers.PEERS if forward else gradients.peers(options.direction)
    for name in options.peers:
        if name not in known:
            continue
        title, maker, dtypes = known[name]
        if options.dtype in dtypes:
            makers[name] = (title, lambda layer, maker=maker: maker(layer, options.threads))
    ready = {}
    for name, (title, maker) in makers.items():
        try:
            ready[name] = (title, maker(layer))
        except Exception as error:
            ready[name] = (title, error)
    return ready


def errors(output, truth):
    """(largest, rms) error over the root mean square of the truth."""
    if output.shape != truth.shape:
        raise ValueError(f"wrong: shape {tuple(output.shape)} in place of {tuple(truth.shape)}")
    difference, scale = output.double() - truth, truth.square().mean().sqrt()
    return (difference.abs().max() / scale).item(), (difference.square().mean().sqrt() / scale).item()


def check_output(ready, truth, limit):
    """A subject's part of the results, with its errors; `failure` where it cannot be measured or is wrong."""
    title, made = ready
    subject = {"title": title, "note": "", "max_error": None, "rms_error": None, "failure": None}
    subject |= {"minima": [], "medians": [], "calls": []}
    if isinstance(made, Exception):
        return subject | {"failure": reason(made)}
    subject["note"] = made.note
    try:
        made.call()
        subject["max_error"], subject["rms_error"] = errors(made.output(), truth)
    except Exception as error:
        return subject | {"failure": reason(error)}
    if not subject["rms_error"] <= limit:
        subject["failure"] = f"wrong: rms error {subject['rms_error']:.1e}"
    return subject


def measure_layer(row, options, pace, yardstick, progress):
    """One layer's part of the results."""
    import statistics

    from bench import blocks, gradients, layers

    name, network, text = row
    progress.tell(f"{name}: making everyone ready")
    layer = layers.make(name, network, layers.problem_string(text, options.batch, options.dtype, options.layout))
    truth = layers.truth(layer) if options.direction == "forward" else gradients.truth(layer, options.direction)
    ready = get_ready(layer, options)
    subjects = {key: check_output(one, truth, ERROR_LIMITS[options.dtype]) for key, one in ready.items()}
    del truth
    calls = {key: ready[key][1].call for key, subject in subjects.items() if not subject["failure"]}
    peaks = {isa: 0 for isa in yardstick.isas}

    def measure_peak():
        peaks.update({isa: max(peaks[isa], yardstick.flops(isa)) for isa in peaks})

    def tell(turn, key):
        progress.tell(f"{name}: round {turn + 1} of {pace.rounds}, {subjects[key]['title']}")

    for key, times in blocks.in_turns(calls, pace, measure_peak, tell).items():
        if isinstance(times, Exception):
            subjects[key]["failure"] = reason(times)
            continue
        subjects[key] |= {
            "minima": [min(one) for one in times],
            "medians": [statistics.median(one) for one in times],
            "calls": [len(one) for one in times],
        }
    found = {"name": name, "network": network, "problem": layer.text, "flop": layer.flop, "bytes": layer.bytes}
    return found | {"peak": peaks, "subjects": subjects}


def write_whole(path, text):
    """Writes a file that is never seen in part, whenever the run ends."""
    beside = path.with_suffix(".part")
    beside.write_text(text)
    beside.replace(path)


def measure(rows, options):
    """The whole run; a line for each layer goes to the terminal, the file is written after each."""
    import torch

    from bench import blocks, machine, ours, peers, table

    pace = blocks.QUICK if options.quick else blocks.Pace()
    pace.rounds = options.rounds or pace.rounds
    peers.pin_torch(options.threads)
    ours.set_up(options.threads, options.accuracy)
    yardstick, progress = machine.Yardstick(options.dtype, options.threads), Progress(len(rows))
    settings = {key: str(value) if isinstance(value, pathlib.Path) else value for key, value in vars(options).items()}
    results = {"format": 1, "settings": settings | {"pace": vars(pace)}, "machine": machine.describe()}
    results |= {"versions": machine.versions(), "began": machine.moment(), "bandwidth": yardstick.bandwidth()}
    results["layers"] = []
    columns = None
    for row in rows:
        with torch.inference_mode():
            layer = measure_layer(row, options, pace, yardstick, progress)
        results["layers"].append(layer)
        results["ended"] = machine.moment()
        write_whole(options.out / "results.json", json.dumps(results, indent=1) + "\n")
        progress.clear()
        if columns is None:
            columns = table.widths(results, [row[0] for row in rows])
            print(table.terminal_line(table.heads(results), columns))
        print(table.terminal_line(table.row(results, layer, options.by), columns), flush=True)
        progress.done += 1
    print(table.terminal_line(table.last_row(results, options.by), columns))
    return results


def main(arguments=None):
    parser, options = parse_arguments(arguments)
    # Before the peers are loaded, which read these only once.
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["ONEDNN_DEFAULT_FPMATH_MODE"] = "STRICT"
    from bench import layers, report, table

    try:
        rows = layers.choose(options.layers)
    except ValueError as error:
        parser.error(str(error))
    if options.list:
        for name, network, text in rows:
            print(f"{name:18} {text:40} {network}")
        return 0
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        results = measure(rows, options)
    except KeyboardInterrupt:
        done = options.out / "results.json"
        print(f"\nscripts/bench: interrupted; scripts/bench report {done} makes table and charts of what was measured", file=sys.stderr)
        return 130
    print()
    print("\n".join(table.summary(results, options.by)))
    report.write(results, options.out, options.by, charts=not options.no_charts)
    print(f"Written to {options.out}")
    return 1 if any(layer["subjects"]["fonio"]["failure"] for layer in results["layers"]) else 0


if __name__ == "__main__":
    sys.exit(main())
