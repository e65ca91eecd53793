"""The kernels that stand in for native convolutions: right, counted, and the only ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scenelab.course.grading import sandbox


@pytest.fixture(scope="module")
def told():
    program = Path(__file__).parents[1] / "native_kernels.py"
    folder = str(Path(sandbox.__file__).parent)
    done = subprocess.run([sys.executable, str(program), folder], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_they_compute_what_native_does(told):
    """Float64; outputs, gradients and gradients of gradients, with groups, dilation, one dimension and transposed."""
    assert told["difference"] < 1e-8


def test_every_call_is_counted_traced_ones_too(told):
    first, traced, tracing, again = told["counts"]
    assert first > 50
    assert traced > first, "a function that was traced before"
    assert again == tracing + 1, "a function that was traced since: what it records is the operator"


def test_no_other_kernel_is_left(told):
    assert told["refused"] == dict.fromkeys(told["refused"], "NativeConvolutionError")
