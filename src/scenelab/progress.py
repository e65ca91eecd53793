"""Progress displays with rate and remaining time: bars on standard error, log lines on standard output."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

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
from rich.text import Text
from typing_extensions import Self

from scenelab.errors import printable
from scenelab.terminal import say, silence

Advance = Callable[[int], None]


class NotebookBar(Progress):
    """Progress bar in the output of a notebook cell; rich's own display needs ipywidgets there."""

    def start(self) -> None:
        """Show the bar."""
        from IPython.display import display

        self._updated, self._output = time.monotonic(), cast(Any, display(self, display_id=True))

    def stop(self) -> None:
        """Show the last state."""
        self._output.update(self)

    def update(self, *arguments: Any, **changes: Any) -> None:
        """Update the bar's values; show them at most four times per second."""
        super().update(*arguments, **changes)
        if time.monotonic() - self._updated > 0.25:
            self._updated = time.monotonic()
            self._output.update(self)


def make_bar(*columns: ProgressColumn, refresh_per_second: float = 10) -> Progress:
    """Return a progress bar for a terminal's standard error or, in a notebook, for the output of a cell."""
    console = Console(stderr=True)
    kind = NotebookBar if console.is_jupyter else Progress
    return kind(*columns, console=console, refresh_per_second=refresh_per_second)


@contextmanager
def progress(description: str, total: int | None, *, unit: str = "images") -> Iterator[Advance]:
    """Show a progress bar during the block; yield a function `advance(n)` that adds n finished items.

    Args:
        description: text in front of the bar.
        total: number of items; None if unknown, 0 shows no bar.
        unit: name of the items; `bytes` shows file sizes and a transfer rate.
    """
    if total == 0:
        yield lambda count: None
        return
    if unit == "bytes":
        columns: list[ProgressColumn] = [DownloadColumn(), TransferSpeedColumn()]
    else:
        columns = [MofNCompleteColumn(), TextColumn(unit)]
    times = [TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()]
    name = TextColumn("{task.description}", markup=False)
    with make_bar(name, BarColumn(), *columns, *times) as bar:
        task = bar.add_task(printable(description), total=total)
        yield lambda count: bar.update(task, advance=count)


@dataclass(frozen=True, kw_only=True)
class StepStats:
    """Statistics after a training step: running means of the epoch (`top1` in percent), and `rate` in images/s."""

    step: int
    total: int
    steps_per_epoch: int
    loss: float
    learning_rate: float
    top1: float
    rate: float

    @property
    def epoch(self) -> int:
        """Epoch of the step, counted from 1."""
        return max(0, self.step - 1) // self.steps_per_epoch + 1


class TrainProgress:
    """Base class of progress displays of a training run (context managers); displays nothing itself."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None: ...

    def step(self, stats: StepStats) -> None:
        """Show the statistics after a step."""

    def epoch(self, text: str) -> None:
        """Show the summary text of an epoch."""


class RichProgress(TrainProgress):
    """Progress bar with loss, accuracy, images per second and remaining time; epoch summaries are printed above it."""

    def __init__(self) -> None:
        text = "loss {task.fields[loss]:.3f} · top-1 {task.fields[top1]:.1f} % · {task.fields[rate]:.0f} images/s"
        left = TimeRemainingColumn(elapsed_when_finished=True)
        columns = [MofNCompleteColumn(), BarColumn(10), TextColumn(text), TextColumn("left"), left]
        self._bar = make_bar(*columns, refresh_per_second=4)
        self._task = self._bar.add_task("train", total=None, loss=0.0, top1=0.0, rate=0.0)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._bar.stop()

    def step(self, stats: StepStats) -> None:
        """Update the bar with the statistics after a step."""
        self._bar.update(
            self._task, completed=stats.step, total=stats.total, loss=stats.loss, top1=stats.top1, rate=stats.rate
        )

    def epoch(self, text: str) -> None:
        """Print the summary text of an epoch above the bar."""
        self._bar.console.print(Text(printable(text)))


class LogProgress(TrainProgress):
    """Log lines on standard output, every `every_steps` steps, or if that is 0, every `every_seconds` seconds."""

    def __init__(self, *, every_steps: int = 0, every_seconds: float = 10.0) -> None:
        self._every_steps, self._every_seconds = every_steps, every_seconds
        self._printed = time.monotonic()
        self._start: tuple[int, float] | None = None

    def step(self, stats: StepStats) -> None:
        """Print a log line if the interval has passed or this is the last step."""
        now = time.monotonic()
        first, since = self._start = self._start or (stats.step - 1, now)
        late = now - self._printed >= self._every_seconds
        due = stats.step % self._every_steps == 0 if self._every_steps else late
        if due or stats.step == stats.total:
            self._printed = now
            left = (now - since) / max(1, stats.step - first) * (stats.total - stats.step)
            position = (stats.step - 1) % stats.steps_per_epoch + 1
            self._print(
                f"epoch {stats.epoch} [{position}/{stats.steps_per_epoch}]  loss {stats.loss:.4f}  "
                f"lr {stats.learning_rate:.5f}  train top-1 {stats.top1:.2f}  {stats.rate:.0f} images/s  "
                f"left {format_duration(left)}"
            )

    def epoch(self, text: str) -> None:
        """Print the summary text of an epoch."""
        self._print(text)

    def _print(self, text: str) -> None:
        try:
            say(text)
        except BrokenPipeError:  # training goes on if the reader of its log ends
            silence(sys.stdout)


def format_duration(seconds: float) -> str:
    """Format a duration as seconds, minutes, or hours and minutes.

    >>> format_duration(42), format_duration(200), format_duration(7_500)
    ('42 s', '3.3 min', '2 h 05 min')
    """
    if seconds < 59.5:
        return f"{seconds:.0f} s"
    if seconds < 3597:
        return f"{seconds / 60:.1f} min"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02d} min"


def make_progress() -> TrainProgress:
    """Return a progress bar if standard error is a terminal or the program is a notebook, else log lines."""
    return RichProgress() if sys.stderr.isatty() or Console().is_jupyter else LogProgress()
