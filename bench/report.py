"""Turns results.json into a table and charts: python -m bench.report out/bench/*/results.json [--into docs/performance.md]

In a document, runs of the same settings become one, of their medians."""

import argparse
import pathlib
import re
import sys

from bench import results as r
from bench import table

BEGIN, END = "<!-- figures: written by scripts/bench report -->", "<!-- end of figures -->"


def describe(results):
    """On what and with what a run was made, in Markdown."""
    settings, machine, versions = (results[key] for key in ("settings", "machine", "versions"))
    peers = ", ".join(f"{name} {versions[name]}" for name in ("torch", "onnxruntime", "openvino", "ncnn") if versions[name])
    levels = ", ".join(
        f"{level} {area['read'] / 1e9:.0f} / {area['write'] / 1e9:.0f}" for level, area in results["bandwidth"].items()
    )
    began, ended = results["began"], results["ended"]
    lines = [
        f"{machine['processor']}{' (virtual)' if machine['virtual'] else ''}, {machine['cores']} cores, {machine['system']};"
        f" {settings['threads']} thread{'s' * (settings['threads'] > 1)}, {settings['dtype']}, Fonio in {settings['layout']}"
        f" with {versions['fonio_isa']}, accuracy {versions['fonio_accuracy']}.",
        f"Fonio {versions['fonio']} ({versions['fonio_commit']}), {peers}. {began['time']} to {ended['time']}, load"
        f" {began['load']} to {ended['load']}.",
        f"Bandwidth of one core, read / write in GB/s: {levels}." if levels else "",
        f"Times are the medians of {results['runs']} runs." if "runs" in results else "",
    ]
    return "\n".join(line for line in lines if line) + "\n"


def title(results):
    settings = results["settings"]
    threads = f"{settings['threads']} thread{'s' * (settings['threads'] > 1)}"
    batch = f", batch {settings['batch']}" if settings["batch"] else ""
    accuracy = f", {results['versions']['fonio_accuracy']}" * (results["versions"]["fonio_accuracy"] != "default")
    direction = settings.get("direction", "forward").replace("_", " ")
    return f"{direction}, {settings['dtype']}, {settings['layout']}, {threads}{batch}{accuracy}"


def section(results, by, images=None):
    """A part of a document: the charts where there are some, what was measured, the table."""
    pictures = "".join(f"![{name}]({images}-{name}.png)\n\n" for name in ("ratios", "roofline")) if images else ""
    rough = "**Made with --quick: rough figures.**\n\n" if results["settings"]["quick"] else ""
    text = "\n\n".join(table.summary(results, by))
    return f"### {title(results)}\n\n{rough}{describe(results)}\n{text}\n\n{pictures}{table.markdown(results, by)}"


def draw(results, by, stem):
    """The charts, as STEM-ratios.png and STEM-roofline.png."""
    from bench import charts

    charts.ratios(results, by, f"{stem}-ratios.png")
    charts.roofline(results, by, f"{stem}-roofline.png")


def write(results, folder, by, charts=True):
    """table.md and the charts beside results.json."""
    charts = charts and any(r.ratio_to_best(layer, by) for layer in results["layers"])
    if charts:
        draw(results, by, folder / "chart")
    (folder / "table.md").write_text(section(results, by, "chart" if charts else None))


def write_into(document, runs, by):
    """Puts the sections of several runs between the two marks of a document, and their charts in a folder beside it. Runs of one
    title are joined."""
    text = document.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{document} lacks the lines {BEGIN} and {END}")
    folder = document.with_suffix("")
    folder.mkdir(exist_ok=True)
    sections, titles = [], list(dict.fromkeys(map(title, runs)))
    for results in (r.joined([run for run in runs if title(run) == one]) for one in titles):
        stem = re.sub(r"\W+", "-", title(results))
        draw(results, by, folder / stem)
        sections.append(section(results, by, f"{folder.name}/{stem}"))
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    document.write_text(f"{before}{BEGIN}\n\n" + "\n".join(sections) + f"\n{END}{after}")


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="scripts/bench report", description="Turns results.json into a table and charts.")
    parser.add_argument("results", nargs="+", type=pathlib.Path, metavar="results.json")
    into = "put them between the marks of this document; of several runs with the same settings, the medians"
    parser.add_argument("--into", type=pathlib.Path, metavar="DOCUMENT", help=into)
    parser.add_argument("--by", choices=("min", "median"), default="min", help="what is shown (min)")
    options = parser.parse_args(arguments)
    try:
        runs = [r.load(path) for path in options.results]
        if options.into:
            write_into(options.into, runs, options.by)
        else:
            for path, results in zip(options.results, runs):
                write(results, path.parent, options.by)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
