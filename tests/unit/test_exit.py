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


@pytest.mark.parametrize("module", ["onnx", "triton._C.libtriton"])
def test_extension_modules_that_report_what_is_left_have_nothing_to_report(module):
    pytest.importorskip(module)
    program = f"import {module}\nfrom scenelab.runtime import prepare\nprepare()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert ended.stderr == ""
