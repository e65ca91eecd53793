"""scenelab check: run the grader's checks on your own files."""

import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg


def check(
    part: Annotated[
        Positional[Literal["all", "convolution", "attack", "attention", "network", "packaging"]], arg(metavar="PART")
    ] = "all",
    *,
    folder: Annotated[Path, arg(metavar="FOLDER")] = Path("."),
    hint: Annotated[int, arg(metavar="N")] = 0,
) -> None:
    """Run the grader's checks on your own files.

    Does the same as the kit's check.py, and needs neither it nor the folder checks/ of the kit.

    Example: scenelab check convolution --hint 1

    Args:
        part: one part of the assignment, or all.
        folder: folder with code/student_code.py, or code/ itself.
        hint: print the N-th hint for the first check that failed.
    """
    from scenelab.course.kit import run_checks

    if status := run_checks(folder, part, hint):
        sys.exit(status)
