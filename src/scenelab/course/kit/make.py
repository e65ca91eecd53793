"""The assignment as a folder: what a student receives, the solution, or what Gradescope needs to grade it."""

import json
import shutil
from importlib import metadata, resources
from pathlib import Path

import scenelab
from scenelab.course.kit.strip_solutions import cut
from scenelab.errors import LabError
from scenelab.io import atomic_write

CODE = ("student_code.py", "main.py", "test_conv.py", "miniplaces.py")
ROOT = ("README.md", "download_dataset.sh")

SETUP = """#!/usr/bin/env bash
# Gradescope runs this once, when it builds the image that submissions are graded in.
set -euo pipefail
apt-get update && apt-get install -y python3 python3-pip python3-venv bubblewrap libseccomp2 util-linux
python3 -m venv /autograder/venv
/autograder/venv/bin/pip install /autograder/source/scenelab
"""

RUN = """#!/usr/bin/env bash
# Gradescope runs this for each submission; what it writes to /autograder/results is the grade.
set -euo pipefail
# --unsafe: where the container allows no sandbox inside it, it is the sandbox itself.
exec /autograder/venv/bin/scenelab grade /autograder/submission --out /autograder/work --unsafe \\
  --rubric /autograder/source/rubric.toml --gradescope /autograder/results/results.json
"""


def files(year: int, *, solution: bool = False) -> dict[str, str]:
    """The kit's files by their paths in it.

    Raises:
        LabError: there is no kit of that year.
    """
    source = resources.files("scenelab.course.kit") / "files"
    texts = {f"code/{name}": cut((source / name).read_text("utf-8"), year, solution=solution) for name in CODE}
    texts |= {name: (source / name).read_text("utf-8") for name in ROOT}
    texts["zip_submission.py"] = (resources.files("scenelab.course") / "submission.py").read_text("utf-8")
    return texts


def make_kit(folder: Path, *, year: int, solution: bool = False) -> None:
    """Write the kit into a new folder, with empty writeup/ and results/.

    Raises:
        LabError: the folder has content or cannot be written, or there is no kit of that year.
    """
    texts = files(year, solution=solution)
    _require_new(folder)
    for name, text in texts.items():
        with atomic_write(folder / name, "w") as file:
            file.write(text)
        if text.startswith("#!"):
            (folder / name).chmod(0o755)
    for name in ("writeup", "results"):
        (folder / name).mkdir(exist_ok=True)


def make_gradescope(folder: Path, *, rubric: str) -> None:
    """Write what Gradescope takes as an autograder, zipped: setup.sh, run_autograder, the rubric and scenelab itself.

    Args:
        rubric: TOML, as `grading.rubric` reads it.

    Raises:
        LabError: the folder has content or cannot be written.
    """
    _require_new(folder)
    for name, text in (("setup.sh", SETUP), ("run_autograder", RUN), ("rubric.toml", rubric)):
        with atomic_write(folder / name, "w") as file:
            file.write(text)
    for name in ("setup.sh", "run_autograder"):
        (folder / name).chmod(0o755)
    package = Path(scenelab.__file__).parent
    copy = folder / "scenelab" / "src" / "scenelab"
    shutil.copytree(package, copy, ignore=shutil.ignore_patterns("__pycache__", "*.pyc"))
    shutil.rmtree(copy / "course" / "kit" / "files")  # the solution: a submission could read it there
    with atomic_write(folder / "scenelab" / "pyproject.toml", "w") as file:
        file.write(_project())


def _project() -> str:
    """A pyproject.toml for the copy: the installed version's requirements, extras aside."""
    needs = [need for need in metadata.requires("scenelab") or [] if "extra ==" not in need]
    return "\n".join([
        "[build-system]",
        'requires = ["hatchling"]',
        'build-backend = "hatchling.build"',
        "",
        "[project]",
        'name = "scenelab"',
        f"version = {json.dumps(metadata.version('scenelab'))}",
        f"requires-python = {json.dumps(metadata.metadata('scenelab')['Requires-Python'])}",
        f"dependencies = {json.dumps(needs)}",
        "",
        "[project.scripts]",
        'scenelab = "scenelab.cli:entry_point"',
        "",
    ])  # fmt: skip


def _require_new(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabError(f"DIR is {folder}, which has content; give a new folder")
