"""TensorBoard event files, written only if TensorBoard is installed."""

import shutil
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from scenelab.extras import TENSORBOARD
from scenelab.runs.run import event_folder
from scenelab.terminal import say

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


@cache
def has_tensorboard() -> bool:
    """Return whether TensorBoard is installed; if not, the first call prints a line with the fix."""
    if missing := TENSORBOARD.problem:
        fix = f"install it with: {TENSORBOARD.command}"
        say(f"TensorBoard is missing, so no events are written for it; {fix}", file=sys.stderr)
    return not missing


IMAGES = ".images"  # suffix of the event files of images, which a training that continues keeps


def image_writer(folder: Path) -> "SummaryWriter":
    """Return a writer of images that adds to the events in `folder`; raise a LabError without TensorBoard."""
    return _writer(folder, IMAGES)


def _writer(folder: Path, suffix: str = "") -> "SummaryWriter":
    TENSORBOARD.require()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(event_folder(folder), filename_suffix=suffix)


def open_writer(folder: Path) -> "SummaryWriter | None":
    """Return a writer of events in `folder`, whose earlier events but images are removed; None without TensorBoard."""
    if not has_tensorboard():
        return None
    for path in folder.glob("events.out.tfevents.*"):
        if path.suffix != IMAGES:
            path.unlink()
    for path in folder.glob("data_top[15]_accuracy_*"):  # by `add_scalars`
        shutil.rmtree(path)
    return _writer(folder)
