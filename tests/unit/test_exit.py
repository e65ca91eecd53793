"""Programs that call `prepare` exit without a search for garbage among PyTorch's objects."""

import subprocess
import sys

import pytest

PROGRAM = """
import gc, sys
from scenelab.runtime import prepare

class Cycle:
    def __init__(self):
        self.itself = self
    def __del__(self):
        print("collected", flush=True)

gc.disable()
if sys.argv[1] == "prepared":
    prepare()
Cycle()
"""


@pytest.mark.parametrize(("how", "output"), [("prepared", ""), ("plain", "collected\n")])
def test_python_looks_for_no_garbage_when_it_exits(how, output):
    command = [sys.executable, "-c", PROGRAM, how]
    assert subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout == output
