"""Generation of folders for the assignment: the student's kit, the solution, and a course folder.

A course folder holds what an instructor writes: `kit/`, the files of the solution with marks (strip_solutions.py),
`rubric.toml`, and `checks/`, the instructor's checks. The kit of this package is such a folder's `kit/`.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path

from scenelab.course.kit.strip_solutions import Mode, cut, cut_notebook
from scenelab.errors import LabError
from scenelab.io import atomic_write
from scenelab.runtime import NEUTRAL, python_command

BUILT_IN = Path(__file__).parent / "files"
COURSE = Path(__file__).parents[1]
SUBMIT = COURSE / "submission.py"
KIT, RUBRIC, CHECKS = "kit", "rubric.toml", "checks"  # in a course folder
CHECK = "code/check.py"  # in a kit; it needs the package `checks`
MODULES = """
    scenelab/course/submission scenelab/course/unfilled scenelab/course/years scenelab_runner/gpu
    scenelab_runner/message scenelab_runner/networks scenelab_runner/operations scenelab_runner/record
    scenelab_runner/stand_ins
""".split()
"""Modules that the grader's checks need. In the kit they are beside the checks, in one package."""
CELL = "# %%"
EXAMPLE = '''"""Your checks: each is a function whose docstring is what the student reads. Points: rubric.toml."""

import torch

from scenelab.course.grading.checks import CheckContext, CheckFailed, check


@check("convolution")
def conv_twice(context: CheckContext) -> None:
    """Calling the convolution twice gives the same values twice."""
    image, weight = torch.randn(1, 3, 6, 6), torch.randn(4, 3, 3, 3)
    first, second = (context.call_function("custom_conv2d", image, weight, None, 1, 0) for _ in range(2))
    if not torch.equal(first.tensors["output"], second.tensors["output"]):
        raise CheckFailed("the second call gives other values")
'''


def files(year: int, *, solution: bool = False) -> dict[str, str]:
    """Return the kit's files of 2019 or 2022 as a dict from relative path to text, with the answers if `solution`."""
    texts = {
        name: content.decode() for name, content in _read(BUILT_IN, year, "solution" if solution else "kit").items()
    }
    return texts | check_files() | {"zip_submission.py": SUBMIT.read_text("utf-8")}


def _read(folder: Path, year: int, mode: Mode) -> dict[str, bytes]:
    """Return the files of a folder of solution files, by path: answers replaced, kept, or kept with their marks."""
    contents = {}
    if not folder.is_dir():  # as in the copy for Gradescope
        raise FileNotFoundError(folder)
    for path in sorted(folder.rglob("*")):
        name, content = path.relative_to(folder).as_posix(), path.read_bytes() if path.is_file() else b""
        if not path.is_file() or "__pycache__" in path.parts or name.startswith("checks/"):
            continue
        try:
            if path.suffix in (".py", ".md"):
                text = cut(content.decode(), year, mode)
                if path.suffix == ".py" and text.startswith(CELL) and mode != "course":
                    name, text = f"{name[:-3]}.ipynb", notebook(text)
                content = text.encode()
            elif path.suffix == ".ipynb":
                content = cut_notebook(content.decode(), year, mode).encode()
        except (LabError, ValueError, KeyError, TypeError) as error:
            raise LabError(f"{path}: {error}") from error
        contents[name] = content
    return contents


def check_files() -> dict[str, str]:
    """Return the grader's checks as a package `checks` that needs only torch and numpy, by relative path."""
    paths = [COURSE.parents[1] / f"{name}.py" for name in MODULES]
    for folder in (COURSE / "grading" / "checks", BUILT_IN / "checks"):
        paths += sorted(folder.glob("*.py"))
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
        texts = check_files() | {CHECK: (BUILT_IN / CHECK).read_text("utf-8")}
        for name, text in texts.items():
            with atomic_write(Path(place, name), "w") as file:
                file.write(text)
        command = [str(Path(place, CHECK)), *([] if part == "all" else [part])]
        command += ["--file", str(path), "--hint", str(hint)]
        return subprocess.run(python_command(command), cwd=NEUTRAL, check=False).returncode


def notebook(source: str) -> str:
    """Return the JSON text of a Jupyter notebook from Python source with cells that begin with `# %%`.

    In cells that begin with `# %% [markdown]`, each line is a comment.
    """
    cells = []
    for number, part in enumerate(re.split(f"^{CELL}", source, flags=re.MULTILINE)[1:]):
        head, _, text = part.partition("\n")
        cell = {"cell_type": "code", "execution_count": None, "id": f"cell-{number}", "metadata": {}, "outputs": []}
        if "markdown" in head:
            text = re.sub(r"^# ?", "", text, flags=re.MULTILINE)
            cell = {"cell_type": "markdown", "id": f"cell-{number}", "metadata": {}}
        cells.append(cell | {"source": text.strip().splitlines(keepends=True)})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    content = {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"


def make_kit(folder: Path, *, year: int = 2019, solution: bool = False, course: Path | None = None) -> None:
    """Write a kit to a new or empty folder, with the answers if `solution`.

    Args:
        folder: new folder.
        year: year of the kit of this package, 2019 or 2022.
        solution: whether to write the answers.
        course: course folder; by default, the kit is that of this package.

    Raises:
        LabError: the folder is not empty or cannot be written, or there is no such kit, or its marks are inconsistent.
    """
    if course is None:
        contents = {name: text.encode() for name, text in files(year, solution=solution).items()}
    elif (course / KIT).is_dir():
        contents = _read(course / KIT, year, "solution" if solution else "kit")
        if CHECK in contents:
            contents |= {name: text.encode() for name, text in check_files().items()}
    else:
        raise LabError(f"--from {course} has no folder {KIT}; 'scenelab kit {course} --course' writes one")
    _write(folder, contents)
    for name in ("writeup", "results"):
        (folder / name).mkdir(exist_ok=True)


def make_course(folder: Path, *, year: int) -> None:
    """Write the kit of this package as a course folder, for an instructor to change.

    Raises:
        LabError: the folder is not empty or cannot be written, or there is no kit for this year.
    """
    from scenelab.course.grading.rubric import default_text  # it imports this module

    contents = {f"{KIT}/{name}": content for name, content in _read(BUILT_IN, year, "course").items()}
    contents[f"{KIT}/zip_submission.py"] = SUBMIT.read_bytes()
    _write(folder, contents | {RUBRIC: default_text().encode(), f"{CHECKS}/course.py": EXAMPLE.encode()})


def course_part(course: Path | None, name: str) -> Path | None:
    """Return the path of a part of a course folder, or None if there is no course or no such part."""
    if course is not None and not course.is_dir():
        raise LabError(f"--from {course} is not a folder")
    return course / name if course is not None and (course / name).exists() else None


def _write(folder: Path, contents: dict[str, bytes]) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabError(f"DIR is {folder}, which has content; give a new folder")
    for name, content in contents.items():
        with atomic_write(folder / name) as file:
            file.write(content)
        if content.startswith(b"#!"):
            (folder / name).chmod(0o755)
