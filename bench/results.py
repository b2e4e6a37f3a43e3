"""What a run found, as kept in JSON, and what follows from it: best times, ratios, geometric means.

    {"format": 1, "settings": {...}, "machine": {...}, "versions": {...}, "began": {...}, "ended": {...}, "bandwidth": {...},
     "layers": [{"name", "network", "problem", "flop", "bytes", "peak": {"avx2": flop/s, ...},
                 "subjects": {"fonio": {"title", "note", "minima": [s], "medians": [s], "calls": [n], "max_error", "rms_error",
                                        "failure"}, ...}}]}

Minima and medians have a number for each round. Errors are divided by the root mean square of the true output. `failure` is
None, or why there is no figure. `joined` makes one of several runs; "runs" then says of how many."""

import json
import math
import pathlib
import statistics

OURS = ("fonio", "fonio_functional")


def load(path):
    results = json.loads(pathlib.Path(path).read_text())
    if results.get("format") != 1:
        raise ValueError(f"{path} is no result of this benchmark")
    return results


COMPARED = {
    "processor": lambda run: run["machine"]["processor"],
    "instruction set": lambda run: run["versions"]["fonio_isa"],
    "pace (--quick)": lambda run: run["settings"]["quick"],
    "layers": lambda run: [layer["name"] for layer in run["layers"]],
    "peers": lambda run: [list(layer["subjects"]) for layer in run["layers"]],
}


def joined(runs):
    """Several runs of the same settings and layers as one, whose times and peaks are the medians of theirs. Its errors and
    failures are those of any run; it names the commits of all."""
    if len(runs) == 1:
        return runs[0]
    for what, part in COMPARED.items():
        if any(part(run) != part(runs[0]) for run in runs):
            raise ValueError(f"runs that are to be joined need the same {what}")
    commits = ", ".join(dict.fromkeys(str(run["versions"]["fonio_commit"]) for run in runs))
    versions = runs[-1]["versions"] | {"fonio_commit": commits}
    layers = [join_layers(same) for same in zip(*(run["layers"] for run in runs))]
    loads = [moment for run in runs for moment in (run["began"], run["ended"])]
    began, ended = (pick(loads, key=lambda moment: moment["time"]) for pick in (min, max))
    return runs[-1] | {"layers": layers, "began": began, "ended": ended, "runs": len(runs), "versions": versions}


def join_layers(same):
    """One layer of several runs: see `joined`."""
    subjects = {}
    for name, last in same[-1]["subjects"].items():
        found = [layer["subjects"][name] for layer in same]
        failure = next((one["failure"] for one in found if one["failure"]), None)
        subjects[name] = last | {"failure": failure}
        for error in ("max_error", "rms_error"):
            subjects[name][error] = max((one[error] for one in found if one[error] is not None), default=None)
        if not failure:
            subjects[name]["minima"] = [statistics.median(min(one["minima"]) for one in found)]
            subjects[name]["medians"] = [statistics.median(statistics.median(one["medians"]) for one in found)]
            subjects[name]["calls"] = [sum(sum(one["calls"]) for one in found)]
    peak = {isa: statistics.median(layer["peak"][isa] for layer in same) for isa in same[-1]["peak"]}
    return same[-1] | {"subjects": subjects, "peak": peak}


def subjects(results):
    """name: title of all who were measured, in their order."""
    return {name: one["title"] for layer in results["layers"] for name, one in layer["subjects"].items()}


def peers(results):
    return {name: title for name, title in subjects(results).items() if name not in OURS}


def seconds(layer, name, by="min"):
    """The time of a call: the least of all rounds, or the median of the rounds' medians. None where there is none."""
    one = layer["subjects"].get(name)
    if one is None or one["failure"]:
        return None
    return min(one["minima"]) if by == "min" else statistics.median(one["medians"])


def best_peer(layer, by="min"):
    """(name, seconds) of the fastest peer, or None."""
    times = {name: seconds(layer, name, by) for name in layer["subjects"] if name not in OURS}
    times = {name: time for name, time in times.items() if time is not None}
    return min(times.items(), key=lambda item: item[1]) if times else None


def ratio(layer, name, by="min", ours="fonio"):
    """How many times as long as Fonio a peer takes: above 1, Fonio is faster. None where either has no time."""
    time, own = seconds(layer, name, by), seconds(layer, ours, by)
    return time / own if time is not None and own is not None else None


def ratio_to_best(layer, by="min", ours="fonio"):
    best = best_peer(layer, by)
    return ratio(layer, best[0], by, ours) if best else None


def flops(layer, name, by="min"):
    time = seconds(layer, name, by)
    return layer["flop"] / time if time is not None else None


def peak(layer):
    """The most that the machine could do beside this layer, in flop/s; None where it was not measured."""
    return max(layer["peak"].values(), default=0) or None


def share_of_peak(layer, name="fonio", by="min"):
    rate, most = flops(layer, name, by), peak(layer)
    return rate / most if rate is not None and most else None


def geometric_mean(numbers):
    """Of those that are not None; None where there is none."""
    logarithms = [math.log(number) for number in numbers if number is not None]
    return math.exp(sum(logarithms) / len(logarithms)) if logarithms else None


def worst_errors(results):
    """(title, error, layer) of each subject: the largest rms error, and where."""
    found = []
    for name, title in subjects(results).items():
        known = [(layer["subjects"][name]["rms_error"], layer["name"]) for layer in results["layers"]]
        known = [one for one in known if one[0] is not None]
        if known:
            found.append((title, *max(known)))
    return found


def failures(results):
    """(layer, title, why) of each figure that is missing."""
    return [
        (layer["name"], one["title"], one["failure"])
        for layer in results["layers"]
        for one in layer["subjects"].values()
        if one["failure"]
    ]
