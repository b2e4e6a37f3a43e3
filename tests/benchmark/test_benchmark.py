"""The benchmark: what it says of good, wrong and failing subjects, and a short run of it with torch as the peer."""

import copy
import json
import math
import subprocess
import sys

import pytest
import torch

from bench import __main__ as command
from bench import blocks, layers, report, table
from bench import results as r
from bench.ours import Ready

QUIET = blocks.Pace(rounds=3, calls=4, block_seconds=0, pause_seconds=0)


def subject(title, minima, failure=None):
    return {
        "title": title,
        "note": "",
        "minima": minima,
        "medians": [2 * time for time in minima],
        "calls": [20] * len(minima),
        "max_error": 1e-6,
        "rms_error": 1e-7,
        "failure": failure,
    }


@pytest.fixture
def results():
    """Two layers: Fonio takes 1 ms; the best peer 2 ms, then 0.5 ms; one peer fails on the second."""
    subjects = [
        {"fonio": subject("Fonio", [1e-3, 2e-3]), "a": subject("A", [3e-3, 2e-3]), "b": subject("B", [4e-3, 8e-3])},
        {"fonio": subject("Fonio", [1e-3]), "a": subject("A", [5e-4]), "b": subject("B", [], "ValueError: no")},
    ]
    measured = [
        {"name": f"l{i}", "network": "", "problem": "", "flop": 1e8, "bytes": 1e6, "peak": {"avx2": 2e11}, "subjects": one}
        for i, one in enumerate(subjects)
    ]
    moment = {"time": "2026-01-01T00:00:00+00:00", "load": 0.1}
    versions = {"fonio": "0", "fonio_isa": "avx2", "fonio_accuracy": "default", "fonio_commit": "0"}
    return {
        "format": 1,
        "settings": {"threads": 1, "dtype": "f32", "layout": "nchw", "batch": None, "quick": False},
        "machine": {"processor": "P", "virtual": False, "cores": 1, "system": "S"},
        "versions": versions | dict.fromkeys(("torch", "onnxruntime", "openvino", "ncnn")),
        "began": moment,
        "ended": moment,
        "bandwidth": {},
        "layers": measured,
    }


# ---- What figures mean ----


def test_ratios_and_means(results):
    first, second = results["layers"]
    assert r.best_peer(first) == ("a", 2e-3) and r.best_peer(second) == ("a", 5e-4)
    assert r.ratio_to_best(first) == pytest.approx(2) and r.ratio_to_best(second) == pytest.approx(0.5)
    assert r.seconds(first, "fonio", "median") == pytest.approx(3e-3)
    assert r.ratio(second, "b") is None
    assert r.share_of_peak(first) == pytest.approx(0.5)
    assert r.geometric_mean([2, None, 0.5]) == pytest.approx(1) and r.geometric_mean([None]) is None


def test_table_names_failures(results):
    text = table.markdown(results, "min")
    rows = [line.split("|")[1:-1] for line in text.splitlines()]
    assert [cell.strip() for cell in rows[3]][5:] == ["0.50", "fails", "A", "0.50"]
    assert len({len(row) for row in rows}) == 1
    summary = table.summary(results, "min")
    assert summary[0].startswith("Faster than every peer on 1 of 2 layers.")
    assert summary[-1] == "No figure for B on l1: ValueError: no"


def test_report_is_put_between_its_marks(results, tmp_path, monkeypatch):
    monkeypatch.setattr(report, "draw", lambda results, by, stem: None)
    document = tmp_path / "p.md"
    document.write_text(f"above\n{report.BEGIN}\nold\n{report.END}\nbelow\n")
    report.write_into(document, [results], "min")
    text = document.read_text()
    assert text.startswith("above\n") and text.endswith("\nbelow\n") and "old" not in text and "| l1 |" in text
    report.write_into(document, [results], "min")
    assert document.read_text() == text
    (tmp_path / "q.md").write_text("no marks\n")
    with pytest.raises(ValueError, match="lacks the lines"):
        report.write_into(tmp_path / "q.md", [results], "min")


def test_runs_of_the_same_settings_are_joined(results, tmp_path, monkeypatch):
    runs = [copy.deepcopy(results) for _ in range(3)]
    runs[1]["layers"][0]["subjects"]["fonio"] |= {"minima": [4e-3, 5e-3], "medians": [6e-3, 7e-3], "rms_error": 2e-7}
    runs[2]["layers"][0]["subjects"]["fonio"]["minima"] = [3e-3]
    runs[0]["layers"][0]["subjects"]["b"]["failure"] = "OSError: once"
    runs[2]["versions"]["fonio_commit"] = "1"
    runs[2]["layers"][0]["peak"]["avx2"] = runs[1]["layers"][0]["peak"]["avx2"] = 1e11
    one = r.joined(runs)
    first, second = one["layers"]
    assert r.seconds(first, "fonio") == 3e-3 and r.seconds(first, "fonio", "median") == pytest.approx(3e-3)
    assert r.peak(first) == 1e11 and first["subjects"]["fonio"]["rms_error"] == 2e-7
    assert r.seconds(first, "b") is None and ("l0", "B", "OSError: once") in r.failures(one)
    assert r.ratio_to_best(second) == pytest.approx(0.5) and r.joined(runs[:1]) is runs[0]
    monkeypatch.setattr(report, "draw", lambda results, by, stem: None)
    document = tmp_path / "p.md"
    document.write_text(f"{report.BEGIN}{report.END}")
    report.write_into(document, runs, "min")
    text = document.read_text()
    assert text.count("| l0 |") == 1 and "Times are the medians of 3 runs." in text and "Fonio 0 (0, 1)" in text
    with pytest.raises(ValueError, match="same layers"):
        r.joined([results, results | {"layers": results["layers"][:1]}])
    with pytest.raises(ValueError, match="same pace"):
        r.joined([results, results | {"settings": results["settings"] | {"quick": True}}])
    del runs[1]["layers"][1]["subjects"]["b"]
    with pytest.raises(ValueError, match="same peers"):
        r.joined(runs)


# ---- How everyone is checked and timed ----


@pytest.mark.parametrize(
    "output, failure",
    [
        (lambda truth: truth.float(), None),
        (lambda truth: truth.bfloat16(), "wrong: rms error"),
        (lambda truth: truth + math.nan, "wrong: rms error"),
        (lambda truth: truth[:, 1:], "wrong: shape"),
    ],
)
def test_outputs_are_checked(output, failure):
    truth = torch.randn(1, 4, 5, 6, dtype=torch.float64)
    found = command.check_output(("T", Ready(lambda: None, lambda: output(truth))), truth, command.ERROR_LIMITS["f32"])
    assert (found["failure"] is None) if failure is None else failure in found["failure"]


def test_who_fails_is_reported():
    found = command.check_output(("T", NotImplementedError("no such padding")), None, 1)
    assert found["failure"] == "NotImplementedError: no such padding"


def test_turns_rotate_and_failures_do_not_end_them():
    order, counted = [], []

    def fails():
        raise RuntimeError("third call")

    calls = {"a": lambda: counted.append("a"), "b": fails, "c": lambda: counted.append("c")}
    times = blocks.in_turns(calls, QUIET, lambda: order.append("peak"), lambda turn, name: order.append(name))
    assert order == ["peak", "a", "b", "c", "peak", "c", "a", "peak", "c", "a"]
    assert isinstance(times["b"], RuntimeError)
    assert [len(one) for one in times["a"]] == [4, 4, 4] and min(map(min, times["a"])) > 0


def test_pace():
    pace = blocks.Pace()
    assert pace.of(1e-6) == (100, 1000) and pace.of(0.01) == (2, 20) and pace.of(0.06) == (1, 3) and pace.of(5) == (0, 1)


# ---- The layers ----


def test_every_layer_of_the_suite_is_a_problem():
    suite = layers.read_suite()
    assert len({name for name, _, _ in suite}) == len(suite) > 50
    for name, _, text in suite:
        problem = layers.library.parse(layers.problem_string(text, 2, "f64", "nhwc"))
        assert problem.batch == 2 and problem.dtype == 1 and problem.input_strides[1] == 1, name


def test_choice_of_layers():
    assert [row[0] for row in layers.choose(["odd", "mnv3_.*", "odd"])] == ["odd", "mnv3_dw5s2", "mnv3_se"]
    assert layers.choose(["c1h8w8k1r3s3"]) == [("c1h8w8k1r3s3", "", "c1h8w8k1r3s3")]
    with pytest.raises(ValueError, match="no layer"):
        layers.choose(["lenex"])


@pytest.mark.parametrize(
    "word, message",
    [
        ("n1c64h56", "'w' is missing"),
        ("c8h8w8k8r77s3", "can't be greater"),
        ("c8h8w8k8r3s3arelu", "without a residual and an activation"),
        ("c8h8w8k8r3s3z1", "without a residual and an activation"),
        ("[", "no regular expression"),
    ],
)
def test_what_is_no_layer_is_told_before_anything_is_measured(word, message):
    with pytest.raises(ValueError, match=message):
        layers.choose(["lenet", word])


def test_a_run_that_is_interrupted_leaves_what_it_has(tmp_path, monkeypatch, capsys):
    def measure(rows, options):
        command.write_whole(options.out / "results.json", "{}\n")
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "measure", measure)
    assert command.main(["--layers", "lenet", "--out", str(tmp_path)]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("results.json", "{}\n")]


# ---- The whole ----


@pytest.mark.parametrize("dtype, layout", [("f32", "nchw"), ("f64", "nhwc")])
def test_short_run(root, tmp_path, dtype, layout):
    options = ["--quick", "--peers", "torch", "torch_channels_last", "--no-charts", "--batch", "2", "--out", str(tmp_path)]
    chosen = ["lenet", "odd", "n1c4h9w8k4r3s3p1,0,2,1mreflect"]
    run = subprocess.run(
        [sys.executable, "-m", "bench", *options, "--dtype", dtype, "--layout", layout, "--layers", *chosen],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert [layer["name"] for layer in results["layers"]] == chosen
    for layer in results["layers"]:
        assert list(layer["subjects"]) == ["fonio", "torch", "torch_channels_last"]
        assert layer["problem"].startswith("n2") and not any(one["failure"] for one in layer["subjects"].values())
    assert r.flops(results["layers"][0], "fonio") > 0
    assert chosen[2] in run.stdout and "| odd |" in (tmp_path / "table.md").read_text()


@pytest.mark.parametrize("direction", ["input_gradient", "weight_gradient"])
def test_gradients_are_measured(root, tmp_path, direction):
    """Every way of padding, groups, no bias."""
    problems = ["n2c3h9w8k4r3s3u2p1", "n1c4h7w9k6r3s2p1,0,2,1g2b0", "n1c2h8w7k3r3s3p2mreflect", "n1c2h8w7k3r3s3p1mreplicate"]
    run = subprocess.run(
        [sys.executable, "-m", "bench", "--quick", "--no-charts", "--rounds", "1", "--out", tmp_path]
        + ["--direction", direction, "--layers", *problems],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    for layer in r.load(tmp_path / "results.json")["layers"]:
        assert list(layer["subjects"]) == ["fonio", "torch", "torch_channels_last"]
        assert not any(one["failure"] for one in layer["subjects"].values())
    assert f"### {direction.replace('_', ' ')}, f32" in (tmp_path / "table.md").read_text()


def test_memory_is_measured(root):
    """An output of 8 MiB is seen, and little beyond it."""
    run = subprocess.run(
        [sys.executable, "-m", "bench.memory", "--one", "fonio", "n1c3h256w256k32r3s3p1"], cwd=root, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    held, beyond = map(int, run.stdout.split())
    assert held > 2**20 and 7 * 2**20 < beyond < 10 * 2**20


def test_training_step(root):
    """The losses must agree, or it says so and fails."""
    run = subprocess.run(
        [sys.executable, "-m", "bench.training", "--rounds", "1", "--steps", "2", "--json"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert list(found) == ["fonio", "torch", "torch_channels_last"]
    assert all(len(one["seconds"]) == 2 and min(one["seconds"]) > 0 and one["bytes"] > 0 for one in found.values())
