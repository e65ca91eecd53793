"""Progress with rate and time left. Bars go to standard error; standard output is for results."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol, Self

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

Advance = Callable[[int], None]


@contextmanager
def progress(description: str, total: int | None, *, unit: str = "images") -> Iterator[Advance]:
    """Show a bar while the block runs; call the yielded `advance(n)` after each n items.

    Args:
        description: the activity, in a few words.
        total: number of items, or None if unknown; 0 shows no bar.
        unit: `bytes` shows sizes and a transfer rate, anything else counts.
    """
    if total == 0:
        yield lambda count: None
        return
    if unit == "bytes":
        columns: list[ProgressColumn] = [DownloadColumn(), TransferSpeedColumn()]
    else:
        columns = [MofNCompleteColumn(), TextColumn(unit)]
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
    with bar:
        task = bar.add_task(description, total=total)
        yield lambda count: bar.advance(task, count)


@dataclass(frozen=True, kw_only=True)
class StepStats:
    """Statistics of training after a step; `loss` and `top1` are means of the epoch so far, `rate` is in images/s."""

    step: int
    total: int
    steps_per_epoch: int
    loss: float
    learning_rate: float
    top1: float
    rate: float

    @property
    def epoch(self) -> int:
        """The epoch that the step belongs to, from 1."""
        return max(0, self.step - 1) // self.steps_per_epoch + 1


class TrainProgress(Protocol):
    """Shows the steps and epochs of one training run; used as a context manager."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *details: object) -> None: ...
    def step(self, stats: StepStats) -> None:
        """Show the state after a step."""

    def epoch(self, text: str) -> None:
        """Show the summary of an epoch."""


class NullProgress:
    """Show nothing; for all processes but the first."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None: ...

    def step(self, stats: StepStats) -> None:
        """Ignore the step."""

    def epoch(self, text: str) -> None:
        """Ignore the epoch."""


class RichProgress(NullProgress):
    """Show a bar with loss, accuracy, images per second and time left; epochs scroll above it."""

    def __init__(self) -> None:
        text = "loss {task.fields[loss]:.3f} · top-1 {task.fields[top1]:.1f} % · {task.fields[rate]:.0f} images/s"
        times = [TextColumn("left"), TimeRemainingColumn(elapsed_when_finished=True)]
        steps = TextColumn("{task.completed}/{task.total}")
        self._progress = Progress(
            steps, BarColumn(10), TextColumn(text), *times, console=Console(stderr=True), refresh_per_second=4
        )
        self._task = self._progress.add_task("train", total=None, loss=0.0, top1=0.0, rate=0.0)

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._progress.stop()

    def step(self, stats: StepStats) -> None:
        """Move the bar."""
        self._progress.update(
            self._task, completed=stats.step, total=stats.total, loss=stats.loss, top1=stats.top1, rate=stats.rate
        )

    def epoch(self, text: str) -> None:
        """Print the summary above the bar."""
        self._progress.console.print(text, highlight=False)


class LogProgress(NullProgress):
    """Print a line with the time left every `every_steps` steps, or else every `every_seconds` seconds."""

    def __init__(self, *, every_steps: int = 0, every_seconds: float = 10.0) -> None:
        self._every_steps, self._every_seconds = every_steps, every_seconds
        self._printed = time.monotonic()
        self._start: tuple[int, float] | None = None

    def step(self, stats: StepStats) -> None:
        """Print a line if one is due, and after the last step."""
        now = time.monotonic()
        self._start = self._start or (stats.step - 1, now)
        by_time = not self._every_steps and now - self._printed >= self._every_seconds
        by_step = self._every_steps and stats.step % self._every_steps == 0
        if by_time or by_step or stats.step == stats.total:
            self._printed = now
            first, since = self._start
            left = (now - since) / max(1, stats.step - first) * (stats.total - stats.step)
            position = (stats.step - 1) % stats.steps_per_epoch + 1
            print(
                f"epoch {stats.epoch} [{position}/{stats.steps_per_epoch}]  loss {stats.loss:.4f}  "
                f"lr {stats.learning_rate:.5f}  train top-1 {stats.top1:.2f}  {stats.rate:.0f} images/s  "
                f"left {duration(left)}",
                flush=True,
            )

    def epoch(self, text: str) -> None:
        """Print the summary."""
        print(text, flush=True)


def duration(seconds: float) -> str:
    """Return a time in the unit that fits it.

    >>> duration(42), duration(200), duration(57_700)
    ('42 s', '3.3 min', '16.0 h')
    """
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.1f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def make_progress() -> TrainProgress:
    """Return a bar for a terminal, lines for a file or pipe."""
    return RichProgress() if sys.stderr.isatty() else LogProgress()
