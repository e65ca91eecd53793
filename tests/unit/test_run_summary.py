"""The table of runs: what is said of runs that train, have ended, were broken off, are damaged or vanish."""

import json
import os
import shutil
import socket

import pytest

from conftest import make_untrained
from scenelab.runs.run import Run
from scenelab.runs.summary import READ_BYTES, Summaries, read_from, summarize


@pytest.fixture
def run(scenes, tmp_path) -> Run:
    return make_untrained(tmp_path / "run", scenes)


def write_rows(run: Run, steps: int) -> None:
    """Ten steps of 256 images per epoch, each in two seconds."""
    with open(run.metrics, "w") as metrics, open(run.timings, "w") as times:
        for step in range(1, steps + 1):
            metrics.write(json.dumps({"step": step, "training_loss": 2.5, "learning_rate": 0.1}) + "\n")
            times.write(json.dumps({"step": step, "training_seconds": 2.0 * step}) + "\n")
            if step % 10 == 0:
                for split, top1 in (("train", 99.0), ("val", step / 10)):
                    row = {"epoch": step // 10, "step": step, "split": split, "loss": 1.0, "top1": top1, "top5": 0}
                    metrics.write(json.dumps(row) + "\n")


def lock(run: Run, process: int | str, host: str) -> None:
    (run.folder / "lock").write_text(f"process {process} on {host}")


def test_a_run_that_trains_has_progress_speed_and_memory(run):
    write_rows(run, 25)
    lock(run, os.getpid(), socket.gethostname())
    config = json.loads(run.config.read_text())
    config["train"]["minutes"] = 2.0
    run.config.write_text(json.dumps(config))
    summary = summarize("run", run)
    assert (summary.state, summary.step, summary.top1, summary.seconds) == ("running", 25, 2.0, 50.0)
    assert summary.rate == 128
    assert summary.seconds_left == 70
    assert summary.memory > 2**20
    assert summary.has_network


@pytest.mark.parametrize(
    ("process", "host", "state"),
    [(2**22 + 1, socket.gethostname(), "broken off"), (1, "elsewhere", "running"), ("x", "y", "broken off")],
    ids=["its process has ended", "on another machine", "no lock of ours"],
)
def test_who_writes_a_run_is_read_from_its_lock(run, process, host, state):
    write_rows(run, 5)
    lock(run, process, host)
    assert summarize("run", run).state == state
    os.utime(run.metrics, (0, 0))  # long ago
    assert summarize("run", run).state == "broken off"


def test_a_finished_run_has_the_totals_of_its_training(run):
    run.results.mkdir()
    numbers = "steps images_seen epochs training_flops minutes seconds_in_steps images_per_second peak_memory_bytes"
    result = dict.fromkeys(f"{numbers} parameters checkpoint_bytes threads processes".split(), 7) | {"device": "cpu"}
    (run.results / "training.json").write_text(json.dumps({**result, "stopped": "catastrophic overfitting"}))
    summary = summarize("run", run)
    assert (summary.state, summary.step, summary.steps, summary.parameters) == ("finished", 7, 7, 7)
    assert (summary.seconds, summary.problem) == (420, "catastrophic overfitting")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda run: run.config.write_text("{"),
        lambda run: run.config.write_text('{"version": 9}'),
        lambda run: (run.results.mkdir(), (run.results / "training.json").write_text("[]")),
        lambda run: shutil.rmtree(run.folder),
    ],
    ids=["no JSON", "another version", "a damaged result", "vanished"],
)
def test_a_run_that_cannot_be_read_says_why_without_its_place(run, spoil):
    spoil(run)
    summary = summarize("run", run)
    assert summary.state == "unreadable"
    assert summary.problem
    assert str(run.folder.parent) not in summary.problem


def test_rows_that_are_none_are_left_out(run):
    write_rows(run, 10)
    with open(run.metrics, "ab") as file:
        file.write(b'{"step": 11, "training_loss": NaN, "learning_rate": 1}\n["top1"]\n"top1\n{"top1": 99\n')
        file.write(
            b'{"step": "x", "learning_rate": 1}\n{"step": 1e99, "top1": 3}\n{"step": 20, "top1": "3"}\n{"top1": 9'
        )
    summary = summarize("run", run)
    assert (summary.step, summary.top1) == (11, 1.0)


def test_lines_are_read_from_an_offset_on_while_the_file_grows_shrinks_and_goes(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_from(path, 0) == (b"", 0)
    path.write_bytes(b"one\ntwo\nthr")
    assert read_from(path, 0) == (b"one\ntwo\n", 0)
    assert read_from(path, 4) == (b"two\n", 4)
    assert read_from(path, 8) == (b"", 8)
    assert read_from(path, -5) == (b"o\n", 6)
    assert read_from(path, -50) == (b"one\ntwo\n", 0)
    path.write_bytes(b"one\n")
    assert read_from(path, 8) == (b"one\n", 0)  # from the beginning
    path.write_bytes(b"x" * 99 + b"\n" + b"y" * READ_BYTES + b"\n")
    assert len(read_from(path, 0)[0]) == 100
    (tmp_path / "folder").mkdir()
    assert read_from(tmp_path / "folder", 0) == (b"", 0)


def test_a_hundred_runs_of_ten_thousand_steps_are_read_once(run, tmp_path, monkeypatch):
    write_rows(run, 10_000)
    runs = {str(number): Run(shutil.copytree(run.folder, tmp_path / str(number))) for number in range(100)}
    summaries, calls = Summaries(), []
    first = summaries.of(runs)
    assert {summary.step for summary in first} == {10_000}
    monkeypatch.setattr("scenelab.runs.summary._summarize", lambda name, run: calls.append(name) or first[0])
    assert summaries.of(runs) == first
    os.utime(runs["7"].metrics, (1, 1))
    summaries.of(runs)
    assert calls == ["7"]
