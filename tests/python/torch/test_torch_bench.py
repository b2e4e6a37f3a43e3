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
    assert set(results[0]["seconds"]) == {"torch", "fonio", "fonio, folded"}
    assert all(result["off"] < 1e-3 and min(result["seconds"].values()) > 0 for result in results)
