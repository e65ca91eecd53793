"""Logging of a run to metrics.jsonl, timings.jsonl and TensorBoard events.

metrics.jsonl contains no timings, so two runs with the same config and seed write identical files.
"""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from scenelab.errors import LabError
from scenelab.io import parse_json, read_plain
from scenelab.runs.events import open_writer
from scenelab.runs.run import Run

SHAPES = [
    set(keys.split()) for keys in ("step training_loss learning_rate", "epoch split fgsm pgd", "epoch split top1 top5")
]


class MetricsLogger:
    """Logger that discards all rows, for ranks that do not write files; base class of `RunLogger`."""

    def write(self, **row: Any) -> None:
        """Log the metrics of a step, of a split after an epoch, or of an overfitting check."""

    def time(self, **row: Any) -> None:
        """Log durations in seconds."""

    def sync(self) -> int:
        """Flush all rows to disk and return the size of metrics.jsonl in bytes; 0 in this base class."""
        return 0

    def close(self) -> None:
        """Flush all rows and close the files, if any."""


class RunLogger(MetricsLogger):
    """Logger that appends rows to the files of a run and, if TensorBoard is installed, to its events.

    Args:
        run: the run folder.
        keep_bytes: size of metrics.jsonl at the last checkpoint; later rows are removed.
        events: folder of the TensorBoard events, `run.events` by default; they are rewritten from the kept rows.

    Raises:
        LabError: the disk is full or broken, or the run folder was removed. All methods can raise it.
    """

    def __init__(self, run: Run, *, keep_bytes: int = 0, events: Path | None = None) -> None:
        self._run = run
        with self._writing():
            rows = _cut(run.metrics, keep_bytes)
            self._file = open(run.metrics, "ab")  # noqa: SIM115
            _end_line(run.timings)
            self._timings = open(run.timings, "ab")  # noqa: SIM115
            self._writer = open_writer(events or run.events)
            for row in rows:
                self._show(row)

    def write(self, **row: Any) -> None:
        """Append a row to metrics.jsonl and add its values to the TensorBoard events."""
        with self._writing():
            self._file.write(json.dumps(row).encode() + b"\n")
            self._file.flush()  # for those who watch the run
            self._show(row)

    def time(self, **row: Any) -> None:
        """Append a row to timings.jsonl."""
        with self._writing():
            self._timings.write(json.dumps(row).encode() + b"\n")
            self._timings.flush()

    def sync(self) -> int:
        """Flush all rows to disk and return the size of metrics.jsonl in bytes."""
        with self._writing():
            for file in (self._file, self._timings):
                file.flush()
                os.fsync(file.fileno())
            if self._writer:
                self._writer.flush()
            # without this check, saving the checkpoint would recreate a removed folder without its metrics
            if not os.path.samestat(os.fstat(self._file.fileno()), os.stat(self._run.metrics)):
                raise FileNotFoundError(errno.ENOENT, "it was replaced while the run was writing to it")
            return self._file.tell()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise LabError(
                f"cannot write {self._run.metrics}: {error.strerror or error}; free space or check the disk, "
                "then resume the run"
            ) from error

    def close(self) -> None:
        """Flush all rows to disk and close the files."""
        self.sync()
        self._file.close()
        self._timings.close()
        if self._writer:
            self._writer.close()

    def _show(self, row: dict[str, Any]) -> None:
        if self._writer is None:
            return
        if "training_loss" in row:
            self._writer.add_scalar("data/training_loss", row["training_loss"], row["step"])
            self._writer.add_scalar("data/learning_rate", row["learning_rate"], row["step"])
        elif "pgd" in row:
            for name in ("fgsm", "pgd"):
                self._writer.add_scalar(f"adversarial/{name}", row[name], row["epoch"])
        else:
            for name in ("top1", "top5"):
                self._writer.add_scalars(f"data/{name}_accuracy", {row["split"]: row[name]}, row["epoch"])


def _cut(path: Path, size: int) -> list[dict[str, Any]]:
    if not path.exists() or size == 0:
        path.write_bytes(b"")
        return []
    with open(path, "r+b") as file:
        if os.fstat(file.fileno()).st_size < size:
            raise LabError(f"{path} is shorter than its checkpoint says ({size} bytes); restore it or start a new run")
        file.truncate(size)
        return _rows(file.read(), path)


def size_until(path: Path, step: int) -> int:
    """Return the size in bytes of the rows of a metrics.jsonl up to a step; 0 if the file is missing."""
    size = 0
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        if not line.endswith(b"\n") or _rows(line, path)[0].get("step", 0) > step:
            break
        size += len(line)
    return size


def _end_line(path: Path) -> None:
    """Remove an incomplete last line from a file."""
    if path.exists():
        whole = path.read_bytes().rpartition(b"\n")
        os.truncate(path, len(whole[0]) + len(whole[1]))


def read_metrics(run: Run) -> list[dict[str, Any]]:
    """Return the rows of a run's metrics.jsonl without an incomplete last row; empty if the file is missing.

    Raises:
        LabError: a row is invalid.
    """
    if not run.metrics.exists():
        return []
    whole, _, _ = read_plain(run.metrics).rpartition(b"\n")
    return _rows(whole, run.metrics)


def _rows(text: bytes, path: Path) -> list[dict[str, Any]]:
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        row = parse_json(line, path)
        shape = next((shape for shape in SHAPES if isinstance(row, dict) and shape <= row.keys()), None)
        if shape is None or not all(isinstance(row[name], str if name == "split" else int | float) for name in shape):
            raise LabError(f"{path} line {number} is not a row of metrics; restore the file or start a new run")
        rows.append(row)
    return rows
