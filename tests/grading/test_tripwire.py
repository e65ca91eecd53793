"""The kernels that replace native convolutions: correct, counted, and the only ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scenelab.course.grading import sandbox


@pytest.fixture(scope="module")
def report():
    program = Path(__file__).parents[1] / "native_kernels.py"
    folder = str(Path(sandbox.__file__).parent)
    done = subprocess.run([sys.executable, str(program), folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_replacements_agree_with_native_kernels_up_to_second_gradients(report):
    assert report["difference"] < 1e-8


def test_every_call_is_counted_also_in_traced_functions(report):
    first, traced, tracing, again = report["counts"]
    assert first > 50
    assert traced > first, "a function that was traced before"
    assert again == tracing + 1, "a function that was traced since: what it records is the operator"


def test_no_other_kernel_can_be_called(report):
    assert report["refused"] == dict.fromkeys(report["refused"], "NativeConvolutionError")
