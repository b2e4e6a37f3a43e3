"""The figures as a table, for a terminal and for Markdown."""

from bench import results as r


def number(value, digits=2, unit=1.0):
    """Text with a sensible number of digits; a dash where there is no number."""
    if value is None:
        return "-"
    value *= unit
    return f"{value:.{digits}f}"


def milliseconds(value):
    return "-" if value is None else f"{1e3 * value:.4f}" if value < 1e-3 else f"{1e3 * value:.3f}"


def heads(results):
    """The titles of the columns; `row` fills them."""
    first = ["layer", "GFLOP", "Fonio ms", "GFLOP/s", "of peak"]
    if "fonio_functional" in r.subjects(results):
        first.append("functional ms")
    return first + list(r.peers(results).values()) + ["best peer", "to best"]


def ratio_text(layer, name, by):
    one = layer["subjects"].get(name)
    if one and one["failure"]:
        return "wrong" if one["failure"].startswith("wrong") else "fails"
    return number(r.ratio(layer, name, by))


def row(results, layer, by):
    cells = [
        layer["name"],
        f"{layer['flop'] / 1e9:.3g}",
        milliseconds(r.seconds(layer, "fonio", by)),
        number(r.flops(layer, "fonio", by), 1, 1e-9),
        "-" if r.share_of_peak(layer) is None else f"{100 * r.share_of_peak(layer, by=by):.0f}%",
    ]
    if "fonio_functional" in layer["subjects"]:
        cells.append(milliseconds(r.seconds(layer, "fonio_functional", by)))
    cells += [ratio_text(layer, name, by) for name in r.peers(results)]
    best = r.best_peer(layer, by)
    return cells + [r.subjects(results)[best[0]] if best else "-", number(r.ratio_to_best(layer, by))]


def last_row(results, by):
    """Geometric means over the layers where both have a figure."""
    layers = results["layers"]
    share = r.geometric_mean(r.share_of_peak(layer, by=by) for layer in layers)
    cells = ["geometric mean", "", "", "", "-" if share is None else f"{100 * share:.0f}%"]
    cells += [""] * ("fonio_functional" in r.subjects(results))
    cells += [number(r.geometric_mean(r.ratio(layer, name, by) for layer in layers)) for name in r.peers(results)]
    return cells + ["", number(r.geometric_mean(r.ratio_to_best(layer, by) for layer in layers))]


def widths(results, names):
    return [max(14, *map(len, names))] + [max(7, len(head)) for head in heads(results)[1:-2]] + [12, 7]


def terminal_line(cells, columns):
    first, *others = (cell.ljust(width) if i == 0 else cell.rjust(width) for i, (cell, width) in enumerate(zip(cells, columns)))
    return " ".join([first, *others])


def markdown(results, by):
    """The whole table, a row for each layer."""
    lines = [heads(results), ["---"] + ["---:"] * (len(heads(results)) - 1)]
    lines += [row(results, layer, by) for layer in results["layers"]]
    lines.append([f"**{cell}**" if cell else "" for cell in last_row(results, by)])
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def summary(results, by):
    """Who is faster, how exact everyone is, and what failed: a line each."""
    ratios = [r.ratio_to_best(layer, by) for layer in results["layers"]]
    ratios = [ratio for ratio in ratios if ratio is not None]
    faster, mean = sum(ratio > 1 for ratio in ratios), r.geometric_mean(ratios)
    lines = [f"Faster than every peer on {faster} of {len(ratios)} layers."]
    if mean is not None:
        lines[0] += f" The best peer of each layer takes {mean:.2f} times as long (geometric mean)."
    worst = ", ".join(f"{title} {error:.1e} ({layer})" for title, error, layer in r.worst_errors(results))
    lines.append(f"Largest rms error over the true output's size: {worst}.")
    for layer, title, why in r.failures(results):
        lines.append(f"No figure for {title} on {layer}: {why}")
    return lines
