"""A learner's path without any package that an installation without extras does not have."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "programs" / "no_extras.py"
TINY = "--epochs 1 --threads 1 --schedule.sizes 0 16 --stored-size 32 --eval-size 32"
PATH = f"""
kit kit
data synth scenes --train 6 --val 3 --size 32
train demo --data scenes --out run {TINY}
evaluate run
predict run scenes/images/test/00000001.jpg
explain run --limit 1 --methods gradient
attack run --limit 2 --steps 2
export run --format safetensors
predict run/export/model.safetensors scenes/images/test/00000001.jpg
report run --out out --card
doctor
"""
MISSING = {
    "app none": "the explorer needs starlette; install it with: ",
    "export none": "export to ONNX needs onnx; install it with: ",
    "grade none --out grades": "grading needs tensorboard; install it with: ",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("core")


def run(folder: Path, *commands: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, PROGRAM, *commands], cwd=folder, capture_output=True, text=True, check=False)


def test_the_path_of_a_learner(folder):
    done = run(folder, *PATH.strip().splitlines())
    assert done.returncode == 0, done.stderr
    assert (folder / "out" / "report.html").exists()
    assert not (folder / "out" / "report.pdf").exists()
    assert not (folder / "run" / "tensorboard").exists()
    assert "tensorboard --logdir" not in done.stdout
    assert done.stderr.count("so no events are written for it; install it with: ") == 1
    assert done.stderr.count("only HTML is written: the report as PDF needs weasyprint; install it with: ") == 1
    assert done.stdout.count('pip install "scenelab[') == 5  # by doctor


def test_a_command_that_needs_an_extra_names_it_at_once(folder):
    """Before the arguments are read: there is no folder `none`."""
    done = run(folder, *MISSING)
    assert done.returncode == 1
    for line, message in zip(done.stderr.splitlines(), MISSING.values(), strict=True):
        assert line.startswith(f"scenelab: error: {message}")


def test_a_planted_import_is_caught(folder):
    program = "import no_extras; no_extras.hide(); import {0}"
    for module, status in {"pandas": 1, "rich": 0, "jinja2": 0, "torch.utils.tensorboard": 1}.items():
        command = [sys.executable, "-c", program.format(module)]
        done = subprocess.run(command, cwd=PROGRAM.parent, capture_output=True, text=True, check=False)
        assert done.returncode == status, module
        assert ("ModuleNotFoundError" in done.stderr) == bool(status)
