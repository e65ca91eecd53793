"""Compare submissions with each other by compare50, if it is installed, for people to look at; costs no points."""

import os
import shutil
import subprocess
from pathlib import Path

from scenelab.course.kit import files
from scenelab.course.kit.strip_solutions import YEARS
from scenelab.runtime import NEUTRAL

SECONDS = 3600
FAILED = "similarity: compare50 did not work:"


def compare(sources: dict[str, bytes], out: Path, scratch: Path) -> list[str]:
    """Write compare50's pages to OUT/similarity/ and return a line on them; empty if compare50 is not installed.

    The kit's own code is subtracted, since everybody was given it. Copies are laid out in `scratch`.
    """
    script = shutil.which("compare50")  # with an environment of its own: pipx install compare50
    python = Path(script).resolve().parent / "python3" if script else None
    if len(sources) < 2 or python is None or not python.exists():
        return []
    folders = [_lay_out(scratch / "alike" / student, source) for student, source in sources.items()]
    kits = {year: files(year)["code/student_code.py"].encode() for year in YEARS}
    given = [_lay_out(scratch / "alike-kit" / str(year), source) for year, source in kits.items()]
    target = out / "similarity"
    out.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    options = ["--output", str(target), "--passes", "structure", "text"]
    try:
        done = subprocess.run(
            [str(python), "-I", "-m", "compare50", *folders, "--distro", *given, *options],
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "PYTHONHASHSEED": "50"},
            cwd=NEUTRAL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return [f"{FAILED} {error}"]
    if done.returncode:
        return [f"{FAILED} {' '.join((done.stderr or done.stdout).split())[-200:]}"]
    return [f"similarity, for people to look at: {target / 'index.html'}"]


def _lay_out(folder: Path, source: bytes) -> str:
    folder.mkdir(parents=True)
    (folder / "student_code.py").write_bytes(source)
    return str(folder)
