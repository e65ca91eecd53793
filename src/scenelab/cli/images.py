"""Check image files named on the command line, some of which may be broken."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from scenelab.errors import LabError
from scenelab.terminal import say

if TYPE_CHECKING:
    from scenelab.data.cache import MemmapDataset
    from scenelab.runs.run import Run


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


def report_skipped(run: "Run", dataset: "MemmapDataset") -> None:
    """Raise a LabError that counts the broken images of a data folder, unless the run was trained to skip them."""
    if dataset.skipped and run.read_config().train.damaged == "refuse":
        count = len(dataset.skipped)
        raise LabError(
            f"{count} of {count + len(dataset)} images are left out, first {dataset.skipped[0][0]}; "
            "replace them or remove them from the folder"
        )
