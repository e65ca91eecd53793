"""Several processes are one run: the same losses however many there are, through a killed worker as well."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from folders import wait_for
from runs_compared import read_rows

FLAGS = ["--model", "residual-small", "--epochs", "3", "--batch-size", "16", "--device", "cpu", "--threads", "1"]


PROGRAMS = Path(__file__).parents[1] / "programs"


def command(processes: int, *arguments: str | Path, restarts: int = 0) -> list[str | Path]:
    """A program or, with `-m`, a module under torchrun."""
    if processes == 1:
        return [sys.executable, *arguments]
    counts = [f"--nproc-per-node={processes}", f"--max-restarts={restarts}"]
    return [sys.executable, "-m", "torch.distributed.run", "--standalone", *counts, *arguments]


def train_command(processes: int, data: Path, out: Path, *extra: str, restarts: int = 0) -> list[str | Path]:
    train = ["-m", "scenelab", "train", "demo", "--data", data, "--out", out, *FLAGS, *extra]
    return command(processes, *train, restarts=restarts)


def run(arguments: list[str | Path]) -> None:
    done = subprocess.run(arguments, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr[-3000:]


def train(scenes: Path, out: Path, processes: int, *extra: str) -> list[dict]:
    run(train_command(processes, scenes, out, *extra))
    return read_rows(out)


def training_losses(rows: list[dict]) -> list[float]:
    return [row["loss"] for row in rows if row.get("split") == "train"]


@pytest.fixture(scope="module")
def alone(scenes, tmp_path_factory):
    return train(scenes, tmp_path_factory.mktemp("alone") / "run", 1)


@pytest.mark.slow
def test_losses_do_not_depend_on_the_number_of_processes(scenes, tmp_path, alone):
    """72 images in batches of 16: the last batch has 8, which 3 processes cannot share evenly.

    Sums in another order differ in the seventh digit, and Muon, which makes all singular values of an update alike,
    enlarges that with every step: a thousandth after fifteen.
    """
    rows = train(scenes, tmp_path / "run", 3)
    assert [row.keys() for row in rows] == [row.keys() for row in alone]
    steps = [[row["training_loss"] for row in each if "training_loss" in row] for each in (rows, alone)]
    assert steps[0] == pytest.approx(steps[1], rel=5e-3)
    assert steps[0][0] == pytest.approx(steps[1][0], rel=5e-4)
    assert training_losses(rows) == pytest.approx(training_losses(alone), rel=5e-3)
    accounting = json.loads((tmp_path / "run" / "results" / "training.json").read_text())
    assert (accounting["processes"], accounting["images_seen"]) == (3, 3 * 72)


@pytest.mark.slow
def test_statistics_and_weights_are_the_same_in_all_processes(scenes, tmp_path):
    """With each way of adversarial training too; the handout's, which goes past the averaging, is refused."""
    run(command(3, PROGRAMS / "shared_statistics.py"))
    run(command(2, PROGRAMS / "same_weights.py", scenes, tmp_path))


def workers_of(process: subprocess.Popen) -> list[int]:
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"scenelab" in Path(f"/proc/{child}/cmdline").read_bytes()]


def is_running(number: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(number).status() != psutil.STATUS_ZOMBIE
    return False


@pytest.mark.slow
def test_a_killed_worker_is_restarted_and_another_number_goes_on(scenes, tmp_path, alone):
    """torchrun starts all workers anew; they go on from the checkpoint. What is left one process finishes alone."""
    out = tmp_path / "run"
    checkpoint, quiet = out / "checkpoint.pth.tar", subprocess.DEVNULL
    arguments = train_command(2, scenes, out, "--checkpoint-seconds", "0", restarts=2)
    process = subprocess.Popen(arguments, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        wait_for(checkpoint.exists)
        before = workers_of(process)
        os.kill(before[1], signal.SIGKILL)
        wait_for(lambda: len(workers_of(process)) == 2 and not set(workers_of(process)) & set(before))
        stamp = checkpoint.stat().st_mtime_ns
        wait_for(lambda: checkpoint.stat().st_mtime_ns > stamp or process.poll() is not None)
    finally:
        workers = workers_of(process) if process.poll() is None else []
        for number in (process.pid, *workers):  # torchrun starts each worker in a session of its own
            with contextlib.suppress(ProcessLookupError):  # it has come to its end
                os.killpg(number, signal.SIGKILL)
        process.wait()
        wait_for(lambda: not any(map(is_running, workers)))
    if not (out / "results" / "training.json").exists():
        run(command(1, "-m", "scenelab", "resume", out))
    losses = training_losses(read_rows(out))
    assert len(losses) == 3
    assert losses[-1] == pytest.approx(training_losses(alone)[-1], rel=5e-3)
    assert json.loads((out / "environment.json").read_text())["resumed"]


@pytest.mark.slow
def test_parts_of_a_batch_learn_what_the_batch_learns(scenes, tmp_path):
    """Without batch normalization, whose statistics are those of a part."""
    simple = ["--model", "simplenet-small", "--epochs", "2"]
    whole = train(scenes, tmp_path / "whole", 1, *simple)
    parts = train(scenes, tmp_path / "parts", 1, *simple, "--accumulate", "4")
    assert training_losses(parts) == pytest.approx(training_losses(whole), rel=5e-3)
    assert len(parts) == len(whole) > 3
