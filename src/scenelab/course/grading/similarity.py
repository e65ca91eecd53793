"""Submissions that are alike, for people to look at: compare50, where it is installed. It never touches points."""

import os
import shutil
import subprocess
from pathlib import Path

from scenelab.course.kit import files
from scenelab.course.kit.strip_solutions import YEARS
from scenelab.runtime import NEUTRAL

SECONDS = 3600


def compare(sources: dict[str, bytes], out: Path, scratch: Path) -> list[str]:
    """Write OUT/similarity/, compare50's pages, and tell where they are; nothing where compare50 is not installed.

    The kit's own code is subtracted: what everybody was given is no likeness.

    Args:
        sources: each team's file.
        out: the batch's folder.
        scratch: where copies are laid out.
    """
    python = _python()
    if len(sources) < 2 or python is None:
        return []
    folders = []
    for student, source in sources.items():
        folders.append(_lay_out(scratch / "alike" / student, source))
    given = [
        _lay_out(scratch / "alike-kit" / str(year), files(year)["code/student_code.py"].encode()) for year in YEARS
    ]
    target = out / "similarity"
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    try:
        done = subprocess.run(
            [python, "-I", "-m", "compare50", *folders, "--distro", *given, "--output", str(target),
             "--passes", "structure", "text"],
            capture_output=True, text=True, check=False, timeout=SECONDS, stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "50"}, cwd=NEUTRAL,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"similarity: compare50 did not work: {error}"]
    if done.returncode:
        return [f"similarity: compare50 did not work: {' '.join((done.stderr or done.stdout).split())[-200:]}"]
    return [f"similarity, for people to look at: {target / 'index.html'}"]


def _python() -> str | None:
    """The Python that compare50 is installed with: its pins want an environment of its own (pipx install compare50)."""
    script = shutil.which("compare50")
    python = Path(script).resolve().parent / "python3" if script else None
    return str(python) if python is not None and python.exists() else None


def _lay_out(folder: Path, source: bytes) -> str:
    folder.mkdir(parents=True)
    (folder / "student_code.py").write_bytes(source)
    return str(folder)
