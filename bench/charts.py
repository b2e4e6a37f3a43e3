"""Two charts of a run: how long each peer takes beside Fonio, and where each layer stands under the roofline."""

import math

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
from matplotlib.ticker import FuncFormatter, NullFormatter

from bench import results as r

FASTER, SLOWER, LINE, TEXT = "#2a7f62", "#c8553d", "#222222", "#333333"
MARKS = ("o", "s", "D", "^", "v", "P")  # of the peers, in their order
COLORS = ("#4063d8", "#7fa6ff", "#1b2a6b", "#b8860b", "#8e44ad", "#7f7f7f")


def caption(results):
    settings, versions = results["settings"], results["versions"]
    threads = "1 thread" if settings["threads"] == 1 else f"{settings['threads']} threads"
    direction = settings.get("direction", "forward").replace("_", " ")
    where = f"{results['machine']['processor']}, {versions['fonio_isa']}, {threads}, {settings['dtype']}"
    return f"{where}, {settings['layout']}, {direction}"


def plain(value, _position=None):
    return f"{value:g}"


def ratios(results, by, path):
    """A bar for each layer: the time of its best peer over Fonio's. Marks: every peer. 1.0 is Fonio."""
    layers = [layer for layer in results["layers"] if r.ratio_to_best(layer, by) is not None]
    layers.sort(key=lambda layer: r.ratio_to_best(layer, by))
    height = 1.9 + 0.22 * len(layers)
    figure, axes = plt.subplots(figsize=(9, height), layout="constrained")
    rows = range(len(layers))
    best = [r.ratio_to_best(layer, by) for layer in layers]
    axes.barh(rows, [b - 1 for b in best], left=1, height=0.62, color=[FASTER if b > 1 else SLOWER for b in best], alpha=0.55)
    for (name, title), mark, color in zip(r.peers(results).items(), MARKS, COLORS):
        points = [(r.ratio(layer, name, by), row) for row, layer in zip(rows, layers)]
        points = [point for point in points if point[0] is not None]
        if points:
            axes.scatter(*zip(*points), s=24, marker=mark, color=color, label=title, zorder=3, edgecolors="white", linewidths=0.4)
    axes.axvline(1, color=LINE, linewidth=1.2, zorder=2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(plain))
    axes.xaxis.set_minor_formatter(NullFormatter())
    ticks = [tick for tick in (0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100) if inside(tick, axes.get_xlim())]
    axes.set_xticks(ticks)
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_yticks(rows, [layer["name"] for layer in layers], fontsize=8)
    axes.set_ylim(-0.7, len(layers) - 0.3)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("time of the peer / time of Fonio   (right of 1: Fonio is faster; bar: the best peer of the layer)")
    mean = r.geometric_mean(best)
    figure.suptitle(f"Fonio beside its peers: the best one takes {mean:.2f} times as long (geometric mean)", fontsize=11)
    axes.set_title(caption(results), fontsize=8.5, color=TEXT)
    figure.legend(loc="outside lower center", ncols=6, fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def inside(value, limits):
    return limits[0] <= value <= limits[1]


def roofs(results):
    """{title: bytes a second} of the levels below which a layer may lie."""
    return {level: area["read"] for level, area in results["bandwidth"].items() if level != "L1"}


def roofline(results, by, path):
    """flop/s over flop/byte. Winograd saves multiplications that the count includes, so it may pass the roof."""
    layers = [layer for layer in results["layers"] if r.seconds(layer, "fonio", by) is not None]
    figure, axes = plt.subplots(figsize=(9, 6), layout="constrained")
    intensity = [layer["flop"] / layer["bytes"] for layer in layers]
    mine = [r.flops(layer, "fonio", by) / 1e9 for layer in layers]
    axes.scatter(intensity, mine, s=26, color=FASTER, label="Fonio", zorder=4, linewidths=0)
    for x, y, layer in zip(intensity, mine, layers):
        best = r.best_peer(layer, by)
        if best is None:
            continue
        other = layer["flop"] / best[1] / 1e9
        axes.plot([x, x], [other, y], color=FASTER if y > other else SLOWER, linewidth=0.8, zorder=2)
        axes.scatter([x], [other], s=18, marker="o", facecolors="white", edgecolors="#666666", linewidths=0.9, zorder=3)
    axes.scatter([], [], s=18, facecolors="white", edgecolors="#666666", label="best peer of the layer")
    axes.set_xscale("log")
    axes.set_yscale("log")
    low, high = min(intensity) / 2, max(intensity) * 2
    floor = min([*mine, *(layer["flop"] / r.best_peer(layer, by)[1] / 1e9 for layer in layers if r.best_peer(layer, by))])
    axes.set_xlim(low, high)
    axes.set_ylim(floor / 2, max([*mine, peak_of(results) or 0]) * 2.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(plain))
    axes.grid(which="major", color="#e6e6e6", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("flop / byte that has to be moved at least")
    axes.set_ylabel("GFLOP/s of the plain sum, what Winograd saves not taken off")
    figure.suptitle("Each layer under the roofline", fontsize=11)
    axes.set_title(caption(results), fontsize=8.5, color=TEXT)
    draw_roofs(axes, results, low, high)
    axes.legend(loc="lower right", fontsize=8, frameon=False)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def peak_of(results):
    """The highest peak beside any layer, in GFLOP/s."""
    peaks = [r.peak(layer) / 1e9 for layer in results["layers"] if r.peak(layer)]
    return max(peaks, default=None)


def draw_roofs(axes, results, low, high):
    peak = peak_of(results)
    if peak is None:
        return
    axes.axhline(peak, color=LINE, linewidth=1.2)
    axes.annotate(
        f"multiply-add\npeak: {peak:.0f}", (high, peak), xytext=(5, 0), textcoords="offset points", fontsize=8, va="center"
    )
    axes.figure.draw_without_rendering()  # the slope on paper is known only then
    for shade, (level, rate) in zip(("#444444", "#777777", "#aaaaaa"), roofs(results).items()):
        rate *= results["settings"]["threads"] / 1e9
        knee = peak / rate
        if knee < 3 * low:  # no room for its name
            continue
        axes.plot([low, knee], [low * rate, peak], color=shade, linewidth=0.9, zorder=1)
        (x0, y0), (x1, y1) = axes.transData.transform([(low, low * rate), (knee, peak)])
        axes.annotate(
            f"read from {level}: {rate:.0f} GB/s",
            (low, low * rate),
            xytext=(10, 13),
            textcoords="offset points",
            fontsize=7.5,
            color=shade,
            rotation=math.degrees(math.atan2(y1 - y0, x1 - x0)),
            rotation_mode="anchor",
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        )
