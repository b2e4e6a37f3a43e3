"""C sources are as clang-format 14 lays them out (make format)."""

import re
import subprocess

import pytest


def test_sources_are_formatted(root):
    version = subprocess.run(["clang-format", "--version"], check=True, capture_output=True, text=True).stdout
    if not re.search(r"version 14\.", version):
        pytest.skip(f"the layout is held to clang-format 14, not {version.strip()}")
    tracked = subprocess.run(["git", "ls-files", "*.c", "*.h"], cwd=root, check=True, capture_output=True, text=True)
    files = tracked.stdout.split()
    command = ["clang-format", "--dry-run", "-Werror", *files]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True)
    wrong = sorted(set(re.findall(r"^([^:\s]+):\d+:\d+: error", result.stderr, re.MULTILINE)))
    assert result.returncode == 0, f"run make format; wrong: {wrong}"
