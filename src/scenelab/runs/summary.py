"""Read run folders while they are written: a summary of each run, and its metrics from an offset on."""

import json
import math
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import psutil
from pydantic import ConfigDict, ValidationError

from scenelab.data.cache_folder import default_cache
from scenelab.errors import LabError, printable
from scenelab.io import LOCK, read_object
from scenelab.runs.config import RunConfig
from scenelab.runs.pretrained import is_pretrained
from scenelab.runs.provenance import TrainingResult
from scenelab.runs.run import Run
from scenelab.schema import Model

READ_BYTES = 2**22  # at once
MAX_COUNT = 1e15  # of a number in a row of metrics
RECENT_SECONDS = 600.0  # a run on another machine is running if it has written within this time
State = tuple[float, ...]


class RunSummary(Model):
    """Progress of a run; None means unknown. Times are in seconds, top-1 in percent, memory in bytes."""

    model_config = ConfigDict(allow_inf_nan=True)
    id: str
    state: Literal["running", "finished", "broken off", "unreadable", "shipped"]
    problem: str = ""
    recipe: str = ""
    model: str = ""
    size: int = 0
    batch_size: int = 0
    has_network: bool = False
    batch_time: float = 0.0
    parameters: int | None = None
    top1: float | None = None
    step: float | None = None
    steps: int | None = None
    seconds: float | None = None
    seconds_left: float | None = None
    rate: float | None = None
    memory: int | None = None


class Summaries:
    """Cache of run summaries, renewed if a file has changed or a process is training."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[State, RunSummary]] = {}

    def of(self, runs: dict[str, Run]) -> list[RunSummary]:
        """Return the summaries of runs by id, and forget all others."""
        known = {}
        for name, run in runs.items():
            files = (run.config, run.metrics, run.timings, run.best, run.results / "training.json", run.folder / LOCK)
            state = tuple(_modified(path) for path in files)
            earlier = self._known.get(name)
            is_current = earlier and earlier[0] == state and earlier[1].state != "running"
            known[name] = earlier if earlier and is_current else (state, summarize(name, run))
        self._known = known
        return [summary for _, summary in known.values()]


def summarize(name: str, run: Run) -> RunSummary:
    """Return a run's summary; if the run cannot be read, `problem` says why."""
    try:
        return _summarize(name, run)
    except (LabError, OSError, ValidationError) as error:
        reason = printable(str(error).replace(str(run.folder), run.folder.name))
        return RunSummary(id=name, state="unreadable", problem=reason)


def _summarize(name: str, run: Run) -> RunSummary:
    settings, (is_running, memory) = run.read_config(), _writer(run)
    config, path = settings.train, run.results / "training.json"
    result = TrainingResult.read(path) if path.exists() and not is_running else None
    metrics = read_from(run.metrics, -READ_BYTES)[0]
    times = _last(read_from(run.timings, -READ_BYTES)[0], "training_seconds")
    known: dict[str, Any] = {
        "step": _last(metrics, "learning_rate").get("step"),
        "steps": None if config.minutes else _total_steps(settings),
        "seconds": times.get("training_seconds"),
        "memory": memory,
    }
    if (seconds := known["seconds"]) and times["step"]:
        known["rate"] = times["step"] * config.batch_size / seconds
        total = 60 * config.minutes or (known["steps"] or 0) / times["step"] * seconds
        known["seconds_left"] = max(0.0, total - seconds) if is_running and total else None
    if result:
        known |= {"step": result.steps, "steps": result.steps, "seconds": 60 * result.minutes}
        known |= {"rate": result.images_per_second, "memory": result.peak_memory_bytes}
        known |= {"parameters": result.parameters, "problem": printable(result.stopped)}
    return RunSummary(
        id=name,
        state="running" if is_running else "finished" if result else "shipped" if is_pretrained(run) else "broken off",
        recipe=config.recipe + (f", {config.adversarial.method}" if config.adversarial else ""),
        model=config.model,
        size=config.eval_size,
        batch_size=config.batch_size,
        has_network=run.best.exists(),
        batch_time=_modified(run.batch),
        top1=_last(metrics, "top1").get("top1"),
        **known,
    )


def _writer(run: Run) -> tuple[bool, int | None]:
    """Return whether a process writes the run, by the note in its lock, and the bytes of memory that it uses."""
    lock = run.folder / LOCK
    with suppress(OSError, ValueError, psutil.Error):
        _, number, _, host = lock.read_text(errors="replace")[:300].split(" ", 3)
        process_id = int(number)
        if host != socket.gethostname():
            return time.time() - _modified(run.metrics) < RECENT_SECONDS, None
        process = psutil.Process(process_id)
        if process.create_time() <= _modified(lock) + 1:  # else the number is another process's by now
            return True, process.memory_info().rss
    return False, None


def _total_steps(settings: RunConfig) -> int | None:
    """Return the number of steps of a run, from the number of images in its cache; None if that is not there."""
    config = settings.train
    cache = Path(settings.cache) if settings.cache else default_cache(Path(settings.data))
    with suppress(LabError, KeyError, TypeError):
        images = read_object(cache / f"train-{config.stored_size}" / "manifest.json")["images"]
        return max(1, round(config.epochs * math.ceil(round(images * (1 - config.holdout)) / config.batch_size)))
    return None


def _modified(path: Path) -> float:
    with suppress(OSError):
        return os.stat(path).st_mtime
    return 0.0


def read_from(path: Path, offset: int) -> tuple[bytes, int]:
    """Return at most READ_BYTES of a file's complete lines from an offset on, and the offset.

    A negative offset counts from the end. If the file is shorter than the offset, it is read from its beginning; if it
    has vanished, it is empty.
    """
    with suppress(OSError), open(path, "rb") as file:
        length = file.seek(0, os.SEEK_END)
        start = max(0, length + offset) if offset < 0 else offset if offset <= length else 0
        file.seek(start)
        content = file.read(READ_BYTES)
        return content[: content.rfind(b"\n") + 1], start
    return b"", 0


def _last(lines: bytes, key: str) -> dict[str, Any]:
    """Return the last row with numbers as `key` and `step` that is not of the training images, or an empty one."""
    end, word = len(lines), f'"{key}"'.encode()
    while (place := lines.rfind(word, 0, end)) >= 0:
        end = lines.rfind(b"\n", 0, place) + 1
        line = lines[end : lines.find(b"\n", place)]
        with suppress(ValueError, RecursionError):
            row = json.loads(line)
            if isinstance(row, dict) and row.get("split") != "train" and _are_counts(row.get("step"), row.get(key)):
                return row
    return {}


def _are_counts(*values: Any) -> bool:
    return all(isinstance(value, int | float) and 0 <= value < MAX_COUNT for value in values)
