"""Generation of folders for the assignment: the student's kit, the solution, and an autograder for Gradescope."""

import json
import re
import shutil
import subprocess
import tempfile
from importlib import metadata, resources
from pathlib import Path

import scenelab
from scenelab.course.kit.strip_solutions import cut
from scenelab.errors import LabError
from scenelab.extras import GRADING
from scenelab.io import atomic_write
from scenelab.runtime import NEUTRAL, python_command

CODE = ("student_code.py", "main.py", "test_conv.py", "check.py", "miniplaces.py")
ROOT = ("README.md", "download_dataset.sh", "notebooks/show_steps.py")
NOTEBOOKS = ("1_convolution", "2_attention", "3_attack")
CHECKS = """
    scenelab/course/submission scenelab/course/unfilled scenelab/course/years scenelab_runner/gpu
    scenelab_runner/message scenelab_runner/networks scenelab_runner/operations scenelab_runner/record
    scenelab_runner/stand_ins
""".split()
"""Modules that the grader's checks need. In the kit they are beside the checks, in one package."""
PACKAGES = ("scenelab", "scenelab_runner", "scenelab_scenes")

SETUP = f"""#!/usr/bin/env bash
# Gradescope runs this once, when it builds the image that submissions are graded in.
set -euo pipefail
apt-get update && apt-get install -y python3 python3-pip python3-venv bubblewrap libseccomp2 util-linux
python3 -m venv /autograder/venv
/autograder/venv/bin/pip install /autograder/source/scenelab {" ".join(GRADING.packages)}
"""
RUN = """#!/usr/bin/env bash
# Gradescope runs this for each submission; what it writes to /autograder/results is the grade.
set -euo pipefail
# --unsafe: where the container allows no sandbox inside it, it is the sandbox itself.
exec /autograder/venv/bin/scenelab grade /autograder/submission --out /autograder/work --unsafe \\
  --rubric /autograder/source/rubric.toml --gradescope /autograder/results/results.json
"""
PROJECT = """[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "scenelab"
version = {version}
requires-python = {python}
dependencies = {needs}

[project.scripts]
scenelab = "scenelab.cli:entry_point"

[tool.hatch.build.targets.wheel]
packages = {packages}
"""


def files(year: int, *, solution: bool = False) -> dict[str, str]:
    """Return the kit's files of 2019 or 2022 as a dict from relative path to text, with the answers if `solution`."""
    texts = {f"code/{name}": cut(_kit_text(name), year, solution=solution) for name in CODE}
    texts |= {name: _kit_text(name) for name in ROOT}
    for name in NOTEBOOKS:
        texts[f"notebooks/{name}.ipynb"] = notebook(_kit_text(f"notebooks/{name}.py"))
    texts |= check_files()
    texts["zip_submission.py"] = (resources.files("scenelab.course") / "submission.py").read_text("utf-8")
    return texts


def check_files() -> dict[str, str]:
    """Return the grader's checks as a package `checks` that needs only torch and numpy, by relative path."""
    root = Path(scenelab.__file__).parents[1]
    paths = [root / f"{name}.py" for name in CHECKS]
    for folder in ("scenelab/course/grading/checks", "scenelab/course/kit/files/checks"):
        paths += sorted((root / folder).glob("*.py"))
    package = re.compile(r"\b(scenelab\.course\.grading\.checks|scenelab\.course(?=\.)|scenelab_runner)\b")
    return {f"checks/{path.name}": package.sub("checks", path.read_text("utf-8")) for path in paths}


def run_checks(folder: Path, part: str, hint: int) -> int:
    """Run the kit's check.py of this version on FOLDER/code/student_code.py; return its exit status.

    It runs in a process of its own, in which scenelab is not imported.

    Args:
        folder: the folder with code/, or code/ itself.
        part: a part of the assignment, or "all".
        hint: number of the hint to print, or 0.

    Raises:
        LabError: there is no student_code.py.
    """
    paths = [path.resolve() for path in (folder / "code" / "student_code.py", folder / "student_code.py")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise LabError(f"FOLDER is {folder}, which has no code/student_code.py; give the folder of your assignment")
    with tempfile.TemporaryDirectory() as place:
        texts = check_files() | {"code/check.py": _kit_text("check.py")}
        for name, text in texts.items():
            with atomic_write(Path(place, name), "w") as file:
                file.write(text)
        command = [str(Path(place, "code", "check.py")), *([] if part == "all" else [part])]
        command += ["--file", str(path), "--hint", str(hint)]
        return subprocess.run(python_command(command), cwd=NEUTRAL, check=False).returncode


def _kit_text(name: str) -> str:
    return (resources.files("scenelab.course.kit") / "files" / name).read_text("utf-8")


def notebook(source: str) -> str:
    """Return the JSON text of a Jupyter notebook from Python source with cells that begin with `# %%`.

    In cells that begin with `# %% [markdown]`, each line is a comment.
    """
    cells = []
    for number, part in enumerate(re.split(r"^# %%", source, flags=re.MULTILINE)[1:]):
        head, _, text = part.partition("\n")
        cell = {"cell_type": "code", "execution_count": None, "id": f"cell-{number}", "metadata": {}, "outputs": []}
        if "markdown" in head:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
            cell = {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}}
        cells.append(cell | {"source": text.strip().splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def make_kit(folder: Path, *, year: int, solution: bool = False) -> None:
    """Write the kit of 2019 or 2022 to a new or empty folder, with the answers if `solution`.

    Raises:
        LabError: the folder is not empty or cannot be written, or there is no kit for this year.
    """
    _write(folder, files(year, solution=solution))
    for name in ("writeup", "results"):
        (folder / name).mkdir(exist_ok=True)


def make_gradescope(folder: Path, *, rubric: str) -> None:
    """Write an autograder for Gradescope: setup.sh, run_autograder, `rubric` (TOML text), and scenelab's source code.

    Raises:
        LabError: the folder is not empty or cannot be written.
    """
    project = PROJECT.format(
        version=json.dumps(metadata.version("scenelab")),
        python=json.dumps(metadata.metadata("scenelab")["Requires-Python"]),
        needs=json.dumps([need for need in metadata.requires("scenelab") or [] if "extra ==" not in need]),
        packages=json.dumps([f"src/{name}" for name in PACKAGES]),
    )
    texts = {"setup.sh": SETUP, "run_autograder": RUN, "rubric.toml": rubric, "scenelab/pyproject.toml": project}
    _write(folder, texts)
    source = folder / "scenelab" / "src"
    for name in PACKAGES:
        ignore = shutil.ignore_patterns("__pycache__", "*.pyc")
        shutil.copytree(Path(scenelab.__file__).parents[1] / name, source / name, ignore=ignore)
    shutil.rmtree(source / "scenelab" / "course" / "kit" / "files")  # the solution, which submissions could read


def _write(folder: Path, texts: dict[str, str]) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabError(f"DIR is {folder}, which has content; give a new folder")
    for name, text in texts.items():
        with atomic_write(folder / name, "w") as file:
            file.write(text)
        if text.startswith("#!"):
            (folder / name).chmod(0o755)
