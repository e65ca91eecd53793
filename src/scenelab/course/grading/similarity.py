"""Comparison of submissions with each other by compare50, if installed, for manual review only."""

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
    """Compare submissions with compare50, and write a report to OUT/similarity/; return a list with one message.

    The list is empty without compare50 or with fewer than two submissions. `sources` maps students to code. The kit's
    code does not count as similar. Temporary copies are stored in `scratch`.
    """
    script = shutil.which("compare50")  # in its own environment: pipx install compare50
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
