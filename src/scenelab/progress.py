"""A progress bar with rate and time left, on standard error, so that standard output stays for results."""

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
    """Show a bar while the block runs; the value bound is `advance(n)`, to be called after each n items.

    Args:
        description: what is being done, in a few words.
        total: number of items, or None where it is not known.
        unit: `bytes` shows sizes and a transfer rate, anything else counts.
    """
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
class Moment:
    """Where training stands after a step; `loss` is the mean since the last one shown, `rate` in images/s."""

    step: int
    total: int
    steps_per_epoch: int
    loss: float
    learning_rate: float
    top1: float
    rate: float

    @property
    def epoch(self) -> int:
        return max(0, self.step - 1) // self.steps_per_epoch


class Display(Protocol):
    """Shows the steps and the epochs of one training run; used as a context manager."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *details: object) -> None: ...
    def step(self, moment: Moment) -> None: ...
    def epoch(self, text: str) -> None: ...


class Bar:
    """A bar with loss, accuracy, images/s and time left; epochs scroll above it."""

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

    def step(self, moment: Moment) -> None:
        self._progress.update(
            self._task, completed=moment.step, total=moment.total, loss=moment.loss, top1=moment.top1, rate=moment.rate
        )

    def epoch(self, text: str) -> None:
        self._progress.console.print(text, highlight=False)


class Lines:
    """A line every so many steps or seconds, with the time left; epochs as they come."""

    def __init__(self, *, every_steps: int = 0, every_seconds: float = 10.0) -> None:
        self._every_steps, self._every_seconds = every_steps, every_seconds
        self._shown = time.monotonic()
        self._start: tuple[int, float] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None: ...

    def step(self, moment: Moment) -> None:
        now = time.monotonic()
        self._start = self._start or (moment.step - 1, now)
        by_time = not self._every_steps and now - self._shown >= self._every_seconds
        by_step = self._every_steps and moment.step % self._every_steps == 0
        if by_time or by_step or moment.step == moment.total:
            self._shown = now
            first, since = self._start
            left = (now - since) / max(1, moment.step - first) * (moment.total - moment.step)
            position = (moment.step - 1) % moment.steps_per_epoch + 1
            print(
                f"epoch {moment.epoch} [{position}/{moment.steps_per_epoch}]  loss {moment.loss:.4f}  "
                f"lr {moment.learning_rate:.5f}  train top-1 {moment.top1:.2f}  {moment.rate:.0f} images/s  "
                f"left {left / 60:.1f} min",
                flush=True,
            )

    def epoch(self, text: str) -> None:
        print(text, flush=True)


class Silent:
    """Shows nothing: of a process beside the one that does."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None: ...

    def step(self, moment: Moment) -> None: ...

    def epoch(self, text: str) -> None: ...


def choose_display() -> Display:
    """A bar where a person watches, lines where the output goes to a file."""
    return Bar() if sys.stderr.isatty() else Lines()
