"""The two sides of the study, each trained in a process of its own, so that its peak memory is its own."""

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from scenelab.errors import Interrupted, LabError
from scenelab.models.registry import CONVOLUTIONS
from scenelab.runs import Run
from scenelab.training.config import TrainConfig, from_plain, to_plain
from scenelab.training.session import resume_run, start_run

SIDES = tuple(CONVOLUTIONS)
STOPPED_EARLY = b'{"kind": "Interrupted", "message": "stopped"}'  # before there was a step to save
CODE = (
    "import sys; from scenelab.process import prepare; prepare(); "
    "from scenelab.studies.sides import worker; worker(sys.argv[1:])"
)


def train_side(folder: Path, data: Path, config: TrainConfig, **options: Any) -> None:
    """Train one side in this process, or continue it where it was broken off.

    Args:
        options: further fields of `Trainer` (display, events).

    Raises:
        LabError: bad data, an unwritable folder, divergence.
        Interrupted: training was asked to stop and has saved itself.
    """
    if Run(folder).config.exists():
        resume_run(folder, **options)
    else:
        start_run(folder, data, config, **options)


def train_side_apart(folder: Path, data: Path, config: TrainConfig) -> None:
    """`train_side` in a fresh process, which stops with a checkpoint when this one is stopped or dies.

    Its standard input is a pipe that nobody writes to: once this process is gone or closes it, the other end reads
    that. The process has a session of its own, so that Ctrl-C reaches it this way alone, and once.

    Raises:
        LabError: as `train_side`, or the process died.
        Interrupted: Ctrl-C.
    """
    arguments = [str(folder), str(data), json.dumps(to_plain(config))]
    command = [sys.executable, "-c", CODE, *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        try:
            answer = process.stdout.read()
        except KeyboardInterrupt:
            process.stdin.close()
            answer = process.stdout.read() or STOPPED_EARLY
        finally:
            process.wait()
    if not answer:
        raise LabError(
            f"training the {config.conv} side in {folder} failed: the process ended with {process.returncode}"
        )
    report = json.loads(answer.splitlines()[-1])
    if report["kind"] == "Interrupted":
        raise Interrupted(f"{report['message']}; the same command goes on from there")
    if report["kind"] == "LabError":
        raise LabError(report["message"])


def worker(arguments: list[str]) -> None:
    """Train one side in this process and print how it ended as JSON; `train_side_apart` starts it."""
    threading.Thread(target=_stop_with_parent, daemon=True).start()
    folder, data, config = arguments
    report = {"kind": "finished", "message": ""}
    with redirect_stdout(sys.stderr):
        try:
            train_side(Path(folder), Path(data), from_plain(json.loads(config)))
        except (LabError, Interrupted) as stop:
            report = {"kind": type(stop).__name__, "message": str(stop)}
    print(json.dumps(report))


def _stop_with_parent() -> None:
    """Wait for the end of standard input, then ask this process to stop."""
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
