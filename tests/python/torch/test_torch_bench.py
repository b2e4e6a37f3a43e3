"""The comparison of whole networks, in short."""

import json
import subprocess
import sys


def test_compares_networks(root):
    arguments = "--networks convnext_tiny --size 32 --rounds 1 --json".split()
    run = subprocess.run(
        [sys.executable, "-m", "bench.models", *arguments], cwd=root, capture_output=True, text=True, timeout=120
    )
    assert run.returncode == 0, run.stderr
    results = [json.loads(line) for line in run.stdout.splitlines()]
    assert [result["job"] for result in results] == ["eval", "train"]
    titles = {"torch", "fonio", "fonio all"}
    assert set(results[0]["seconds"]) == titles | {f"{title} c.last" for title in titles}
    assert all(result["off"] < 1e-3 and min(min(times) for times in result["seconds"].values()) > 0 for result in results)
