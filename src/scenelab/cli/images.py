"""Check image files named on the command line, some of which may be broken."""

import sys
from pathlib import Path

from scenelab.errors import LabError
from scenelab.terminal import say


def select_readable(paths: list[Path], size: int) -> tuple[list[Path], list[str]]:
    """Return the image files that can be decoded, and the errors of the others; raise a LabError if none can be."""
    from scenelab.data.decode import read_images

    good, errors = [], []
    for path in paths:
        try:
            read_images([path], size)
            good.append(path)
        except LabError as error:
            errors.append(str(error))
    if not good:
        report_broken(errors, len(paths))
    return good, errors


def report_broken(errors: list[str], count: int) -> None:
    """Print all errors but the last and raise the last as a LabError, if any; `count` is the number of images."""
    for error in errors[:-1]:
        say(f"scenelab: error: {error}", file=sys.stderr)
    if errors:
        counts = f"; {len(errors)} of {count} images are left out" if count > 1 else ""
        raise LabError(f"{errors[-1]}{counts}")
