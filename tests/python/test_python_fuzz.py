"""No argument takes the process down."""

import pathlib
import subprocess
import sys


def test_odd_arguments(seed, cases):
    calls = cases(4000)
    command = [sys.executable, "-X", "faulthandler", str(pathlib.Path(__file__).with_name("fuzz.py")), str(seed), str(calls)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, f"{' '.join(command)}\n{result.stderr}"
    # Some of the calls are good ones.
    assert calls / 50 < int(result.stdout) < calls
