"""The kernels that replace native convolutions: correct, counted, and the only ones."""

import json
import subprocess
import sys
from pathlib import Path

import native_kernels
from scenelab.course.grading import sandbox


def test_kernels_agree_with_native_ones_and_are_counted_and_the_only_ones():
    """Agreement is up to second gradients."""
    command = [sys.executable, native_kernels.__file__, str(Path(sandbox.__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.splitlines()[-1])
    assert report["difference"] < 1e-8
    first, traced, tracing, again = report["counts"]
    assert first > 50
    assert traced > first, "a function that was traced before"
    assert again == tracing + 1, "a function that was traced since: what it records is the operator"
    assert report["refused"] == dict.fromkeys(report["refused"], "NativeConvolutionError")
