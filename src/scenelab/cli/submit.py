"""scenelab submit: check a submission and zip it."""

import sys
from pathlib import Path

from tyro.conf import Positional


def submit(
    folder: Positional[Path] = Path("."), *, out: Path | None = None, anyway: bool = False, test: bool = True
) -> None:
    """Check the folders that the handout asks for, then write submission.zip.

    The same as the kit's zip_submission.py. The same files give the same bytes.

    Example: scenelab submit homework

    Args:
        folder: the folder with code/, writeup/ and results/.
        out: the file; FOLDER/submission.zip by default.
        anyway: zip despite the problems.
        test: also run code/test_conv.py.
    """
    from scenelab.course.submission import check_and_zip

    if status := check_and_zip(folder, out or folder / "submission.zip", anyway=anyway, test=test):
        sys.exit(status)
