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


def summary_writer(folder: Path) -> "SummaryWriter":
    """Return a writer that adds events to those in `folder`; raise a LabError without TensorBoard."""
    TENSORBOARD.require()
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(event_folder(folder))


def open_writer(folder: Path) -> "SummaryWriter | None":
    """Return a writer of events in `folder`, whose earlier events are removed; without TensorBoard, None."""
    if not has_tensorboard():
        return None
    for path in folder.glob("events.out.tfevents.*"):
        path.unlink()
    for path in folder.glob("data_top[15]_accuracy_*"):  # by `add_scalars`
        shutil.rmtree(path)
    return summary_writer(folder)
