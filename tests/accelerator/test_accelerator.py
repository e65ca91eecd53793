"""The tests in cases.py, in a process of their own: the emulated device stays registered until the process ends."""

import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("cases.py")


def test_everything_runs_on_an_emulated_accelerator():
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", str(CASES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
