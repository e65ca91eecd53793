"""The zip file that an instructor uploads to Gradescope as the autograder."""

import json
import re
import secrets
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path

import scenelab
from scenelab.course.grading.grade import load_hidden
from scenelab.course.grading.rubric import read_rubric
from scenelab.course.years import YEARS
from scenelab.errors import LabError
from scenelab.extras import GRADING
from scenelab.io import atomic_write

PACKAGES = ("scenelab", "scenelab_runner", "scenelab_scenes")
LEFT_OUT = ("scenelab/src/scenelab/course/kit/files/", "scenelab/src/scenelab/pretrained/")
NEEDS = """
    torch torchvision numpy matplotlib pillow psutil filelock rich tyro jaxtyping pydantic jinja2 tomli
    typing-extensions
""".split()
"""Packages that the grader imports, and those that students' files import, as does `GRADING`."""
DATE = (1980, 1, 1, 0, 0, 0)  # the same content gives the same bytes

SETUP = """#!/usr/bin/env bash
# Gradescope runs this once, when it builds the image that submissions are graded in: Ubuntu 22.04 or later.
set -euo pipefail
apt-get update
apt-get install -y --no-install-recommends python3 python3-venv bubblewrap libseccomp2 util-linux
python3 -m venv /autograder/venv
/autograder/venv/bin/pip install uv
# uv finds PyTorch's build without CUDA, which is a tenth of the size and takes half the memory.
/autograder/venv/bin/uv pip install --python /autograder/venv/bin/python --torch-backend cpu /autograder/source/scenelab
"""
RUN = """#!/usr/bin/env bash
# Gradescope runs this for each submission; what it writes to /autograder/results is the grade.
set -euo pipefail
# What the user that runs students' code must not read: hidden checks, the seed, and results while the checks run.
chmod -R go= /autograder/source /autograder/submission_metadata.json
mkdir -p -m 700 /autograder/work/students && install -m 600 /autograder/source/seed /autograder/work/seed
export OMP_NUM_THREADS=1  # the container has half a processor, whatever it sees
# --unsafe: where the container allows no sandbox inside it, it is the sandbox itself.
exec /autograder/venv/bin/scenelab grade /autograder/submission --out /autograder/work --unsafe --no-similarity \\
  --rubric /autograder/source/rubric.toml {hidden}--metadata /autograder/submission_metadata.json \\
  --gradescope /autograder/results/results.json
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


def make_gradescope(
    archive: Path,
    *,
    year: int = YEARS[0],
    rubric: Path | None = None,
    seed: int | None = None,
    checks: Sequence[Path] = (),
) -> None:
    """Write an autograder for Gradescope: setup.sh, run_autograder, rubric, seed, checks, and scenelab's source code.

    Args:
        archive: new zip file.
        year: handout whose rubric is used, if no other is given.
        rubric: TOML file.
        seed: random seed of all inputs to the checks, the same for every student; by default a random one.
        checks: folders of the instructor's checks, and of images and labels for the challenge.

    Raises:
        LabError: the archive exists or cannot be written, the rubric or a check is invalid, or two checks have one
            file name.
    """
    if archive.exists():
        raise LabError(f"--gradescope {archive} exists; remove it or give a new name")
    for folder in checks:
        load_hidden(folder)
    hidden = [pair for folder in checks for pair in _below(folder, "hidden")]
    if doubles := [name for name, count in Counter(name for name, _ in hidden).items() if count > 1]:
        raise LabError(f"{' and '.join(map(str, checks))} both have {doubles[0].partition('/')[2]}; rename one")
    text = read_rubric(rubric, year=year).text
    files = {
        "setup.sh": SETUP.encode(),
        "run_autograder": RUN.format(hidden="--hidden /autograder/source/hidden " if checks else "").encode(),
        "rubric.toml": text.encode(),
        "seed": f"{secrets.randbits(128) if seed is None else seed}\n".encode(),
        "scenelab/pyproject.toml": _project().encode(),
    }
    with atomic_write(archive) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as target:
        for name, content in files.items():
            _add(target, name, content)
        for name, path in [*_sources(), *hidden]:
            _add(target, name, path.read_bytes())


def _add(target: zipfile.ZipFile, name: str, content: bytes) -> None:
    info = zipfile.ZipInfo(name, DATE)
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, (0o755 if content[:2] == b"#!" else 0o644) << 16
    target.writestr(info, content)


def _sources() -> Iterator[tuple[str, Path]]:
    """Yield name and path of scenelab's files without the solution and the networks, which submissions could read."""
    root = Path(scenelab.__file__).parents[1]
    for package in PACKAGES:
        for name, path in _below(root / package, f"scenelab/src/{package}"):
            if not name.startswith(LEFT_OUT):
                yield name, path


def _below(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"{name}/{path.relative_to(folder).as_posix()}", path


def _project() -> str:
    requirements = dict.fromkeys([*NEEDS, *GRADING.packages], "")
    for line in metadata.requires("scenelab") or []:
        need, _, marker = map(str.strip, line.partition(";"))
        name = re.split(r"[^\w.-]", need)[0].lower()
        if name in requirements and marker in ("", f"extra == '{GRADING.extra}'"):
            requirements[name] = need
    return PROJECT.format(
        version=json.dumps(metadata.version("scenelab")),
        python=json.dumps(metadata.metadata("scenelab")["Requires-Python"]),
        needs=json.dumps([need or name for name, need in requirements.items()]),
        packages=json.dumps([f"src/{name}" for name in PACKAGES]),
    )
