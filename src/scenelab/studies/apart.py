"""The runs of a study, each trained in a process of its own, so that its peak memory is its own."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from scenelab.errors import Diverged, Interrupted, LabError
from scenelab.progress import TrainProgress
from scenelab.runs.config import TrainConfig, from_plain, to_plain
from scenelab.runs.run import Run
from scenelab.runtime import NEUTRAL, python_command
from scenelab.training.session import resume_run, start_run

STOPPED_EARLY = b'{"kind": "Interrupted", "message": "stopped"}'  # before there was a step to save
FAILURES = {kind.__name__: kind for kind in (LabError, Diverged)}
CODE = (
    "import sys; from scenelab.runtime import prepare; prepare(); "
    "from scenelab.studies.apart import worker; worker(sys.argv[1:])"
)


def train_here(folder: Path, data: Path, config: TrainConfig, *, display: TrainProgress | None = None) -> None:
    """Train one run of a study in this process, or resume it.

    Raises:
        LabError: bad data, an unwritable folder, divergence.
        Interrupted: training was asked to stop and has saved itself.
    """
    if Run(folder).config.exists():
        resume_run(folder, display=display)
    else:
        start_run(folder, data, config, display=display)


def train_apart(folder: Path, data: Path, config: TrainConfig) -> None:
    """`train_here` in a fresh process, which stops with a checkpoint when this one is stopped or dies.

    Its standard input is a pipe that nobody writes to: once this process is gone or closes it, the other end reads
    that. The process has a session of its own, so that Ctrl-C reaches it this way alone, and once.

    Raises:
        LabError: as `train_here`, or the process died; Diverged where training did.
        Interrupted: Ctrl-C.
    """
    command = python_command(["-c", CODE, str(folder.resolve()), str(data.resolve()), json.dumps(to_plain(config))])
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True, cwd=NEUTRAL
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stopped = False
    with process.stdin, process.stdout:
        try:
            answer = process.stdout.read()
        except KeyboardInterrupt:
            process.stdin.close()
            answer = process.stdout.read() or STOPPED_EARLY
            stopped = True
        finally:
            process.wait()
    if not answer:
        raise LabError(f"training in {folder} failed: the process ended with {process.returncode}")
    report = json.loads(answer.splitlines()[-1])
    if report["kind"] == "Interrupted":
        raise Interrupted(f"{report['message']}; the same command goes on from there")
    if report["kind"] != "finished":
        raise FAILURES.get(report["kind"], LabError)(report["message"])
    if stopped:
        raise Interrupted(f"stopped when {folder} was finished; the same command goes on from there")


def worker(arguments: list[str]) -> None:
    """Train one run in this process and print how it ended as JSON; `train_apart` starts it."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    folder, data, config = arguments
    report = {"kind": "finished", "message": ""}
    with redirect_stdout(sys.stderr):
        try:
            train_here(Path(folder), Path(data), from_plain(json.loads(config)))
        except (LabError, Interrupted) as stop:
            report = {"kind": type(stop).__name__, "message": str(stop)}
    print(json.dumps(report))


def require_same(folder: Path, data: Path, config: TrainConfig) -> None:
    """Make sure that a run that is there already is of the same study.

    Raises:
        LabError: it was begun with other data or another config; the message names what differs.
    """
    run = Run(folder)
    if not run.config.exists():
        return
    stored = run.read_config()
    asked = {"data": str(data.resolve()), **to_plain(config)}
    refuse_difference(folder, asked, {"data": stored.data, **to_plain(stored.train)})


def refuse_difference(folder: Path, asked: dict[str, Any], found: dict[str, Any]) -> None:
    """Raise a LabError that names which settings of a begun run or study are others."""
    different = [name for name, value in asked.items() if found.get(name) != value]
    if different:
        raise LabError(f"{folder} was begun with another {', '.join(different)}; name another --out or remove it")


def finished(folder: Path) -> bool:
    """Whether the run in this folder has its accounting, which is written last."""
    return (Run(folder).results / "training.json").exists()


def _stop_with_parent() -> None:
    """Wait for the end of standard input, then ask this process to stop."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
