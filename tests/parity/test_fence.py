"""Nobody reads or writes beyond an array: random problems with every array of torch's and of the library's at the end of
a page (fence.c). A sanitizer does not see what torch's generated code does, nor every access of a kernel."""

import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
TESTS = [str(HERE), str(HERE.parent)]


def test_random_problems_between_fences(tmp_path, library_path, seed, cases):
    fence, count = tmp_path / "fence.so", cases(1000)
    compiler = os.environ.get("CC", "cc").split()
    subprocess.run([*compiler, "-O1", "-shared", "-fPIC", "-o", fence, HERE / "fence.c"], check=True)
    environment = os.environ | {
        "LD_PRELOAD": str(fence),
        "FONIO_LIBRARY": str(library_path),
        "PYTHONPATH": os.pathsep.join(TESTS),
    }
    command = [sys.executable, HERE / "fenced.py", fence, str(seed), str(count)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    lines = run.stdout.splitlines()  # one for each problem
    assert run.returncode == 0, f"{run.stderr[-3000:]}\nlast: {lines[-3:]}, seed={seed} number={len(lines) - 2}"
    assert int(lines[-1].split()[0]) > 50 * count, lines[-1]
