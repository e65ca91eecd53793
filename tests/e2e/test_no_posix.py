"""A learner's path without what Windows lacks, simulated: no POSIX modules and functions, no /proc."""

import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[1] / "programs" / "no_posix.py"
PLANTED = """
import sys; sys.path.insert(0, {0!r})
import no_posix; no_posix.hide()
import scenelab; exec({1!r}, vars(scenelab))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("windows")


def run(folder: Path, *arguments: object, status: int = 0) -> str:
    command = [sys.executable, PROGRAM, *map(str, arguments)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_the_path_of_a_learner(scenes, folder):
    run(folder, "kit", "kit")
    run(folder, "data", "pack", scenes, "--size", 32)
    train = ["train", "demo", "--data", scenes, "--out", "run", "--epochs", 1, "--threads", 1]
    run(folder, *train, "--schedule.sizes", 0, 16, "--stored-size", 32, "--eval-size", 32)
    run(folder, "evaluate", "run")
    run(folder, "explain", "run", "--limit", 1, "--methods", "gradient")
    run(folder, "attack", "run", "--limit", 2, "--steps", 2)
    run(folder, "report", "run", "--html-only", "--out", "out")
    assert (folder / "out" / "report.html").exists()
    assert "run holds" not in run(folder, "predict", "run", next((scenes / "images" / "val").rglob("*.*g")))


def test_a_submission_is_checked_and_grading_names_what_it_needs(folder):
    assert "writeup" in run(folder, "submit", "kit", status=1)
    assert "on Windows, run it in WSL" in run(folder, "grade", "kit", "--out", "grades", "--unsafe", status=1)


@pytest.mark.parametrize("code", ["import fcntl", "import os; os.fork()", "open('/proc/self/status')"])
def test_a_planted_mistake_is_caught(code):
    command = [sys.executable, "-c", PLANTED.format(str(PROGRAM.parent), code)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr.rstrip().splitlines()[-1].startswith(("ModuleNotFound", "AttributeError", "FileNotFound"))
