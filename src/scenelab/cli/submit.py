"""scenelab submit: check a submission and zip it."""

import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from scenelab.cli.arguments import Flag


def submit(
    folder: Annotated[Positional[Path], arg(metavar="FOLDER")] = Path("."),
    *,
    out: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: FOLDER/submission.zip)")] = None,
    anyway: Flag = False,
    test: Flag = True,
) -> None:
    """Check a submission and zip it.

    Does the same as the kit's zip_submission.py. The same files always give the same zip, byte for byte.

    Example: scenelab submit homework

    Args:
        folder: folder with code/, writeup/ and results/.
        out: file to write.
        anyway: write the zip despite problems.
        test: do not run code/test_conv.py.
    """
    from scenelab.course.submission import check_and_zip

    if status := check_and_zip(folder, out or folder / "submission.zip", anyway=anyway, test=test):
        sys.exit(status)
