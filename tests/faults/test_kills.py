"""SIGKILL at random moments of the real commands: what is there afterwards is whole, and they go on."""

import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import pytest

from faults.cases import (
    Case,
    assert_few_leftovers,
    assert_nothing_half_written,
    assert_run_whole,
    assert_same_training,
    downloading,
    grading,
    packing,
    reporting,
    submit_some,
    training,
)
from faults.forking import Ended
from faults.tally import FULL, SEED, rounds
from folders import tree

LONG = pytest.mark.timeout(3600 if FULL else 300)


@pytest.fixture
def moments(request):
    print(f"moments of seed {SEED}")
    return random.Random(f"{request.node.name} {SEED}")


def kill_often(server, case: Case, work: Path, moments, tally, wanted: int, check=lambda folder, ended: None) -> None:
    """Kill a command at moments drawn evenly over its duration and start it again, a few times; then let it end.

    Args:
        check: what else must hold after a kill.
    """
    expected = work / "expected"
    whole = case.run_undisturbed(server, expected)
    again, killed, number = case.again or case.command, 0, 0
    while killed < wanted:
        number, earlier = number + 1, killed
        folder = work / str(number)
        case.prepare(folder)
        before = tree(folder)
        for _ in range(moments.randint(1, 5)):
            after = moments.uniform(0, whole.seconds)
            ended = server.run(*again(folder), call=case.call, kill_after=after)
            if not ended.killed:
                assert ended.status == 0, ended.err
                break
            killed += 1
            with tally.fault(f"SIGKILL of {case.name}"):
                assert_nothing_half_written(folder, before)
                check(folder, ended)
        with tally.fault(f"going on after SIGKILL of {case.name}") if killed > earlier else nullcontext():
            case.go_on(server, folder, expected)
        shutil.rmtree(folder)


@LONG
def test_train(server, scenes, clean, tmp_path, moments, tally):
    """A run ends with the same metrics and weights as the undisturbed one, bit for bit."""

    def check(folder: Path, ended: Ended) -> None:
        assert_run_whole(folder / "run", clean)

    kill_often(server, training(scenes), tmp_path, moments, tally, rounds(4, 200), check)


@LONG
def test_pack(server, scenes, tmp_path, moments, tally):
    kill_often(server, packing(scenes), tmp_path, moments, tally, rounds(3, 100))


@LONG
def test_download(server, scenes, site, tmp_path, moments, tally):
    """Every file has the SHA-256 that was sent; the lists and half the archive do not come twice."""
    kill_often(server, downloading(scenes, site), tmp_path, moments, tally, rounds(4, 100))
    if FULL:  # of few kills none may fall into the archive; tests/e2e/test_download.py breaks it off itself
        assert any(asked for path, asked, _ in site.seen if path == "/data.tar.gz"), "none was continued"


@LONG
@pytest.mark.parametrize("pdf", [False, True] if FULL else [False])
def test_report(server, clean, tmp_path, moments, tally, pdf):
    """Each file of a report is the old one or the new one."""
    kill_often(server, reporting(clean, pdf=pdf), tmp_path, moments, tally, rounds(2, 50))


@pytest.mark.slow
@LONG
def test_grade(server, tmp_path, moments, tally):
    """A batch goes on to the same grades, and no student's process outlives the grader."""
    submitted = submit_some(tmp_path / "submitted", 2 if FULL else 1)

    def check(folder: Path, ended: Ended) -> None:
        deadline = time.monotonic() + 5
        while (left := sandboxed(folder)) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert not left

    kill_often(server, grading(submitted), tmp_path, moments, tally, rounds(1, 50), check)


def sandboxed(folder: Path) -> list[str]:
    """Processes that see a stage of this batch."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if str(folder) in command and int(name) != os.getpid():
            found.append(command)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("share", [0.5, 0.7, 0.9] if FULL else [0.7])
def test_train_in_a_process_of_its_own(scenes, tmp_path, tally, share):
    """The command as a person starts it, not forked: killed, then continued, to the same curves in TensorBoard."""
    flags = ["--model", "simplenet-small", "--epochs", "2", "--batch-size", "24", "--threads", "1", "--seed", "3"]
    scenelab = [sys.executable, "-m", "scenelab"]
    train = [*scenelab, "train", "demo", "--data", str(scenes), "--checkpoint-seconds", "0", *flags]
    clean, run = tmp_path / "clean", tmp_path / "run"
    started = time.monotonic()
    start(*train, "--out", str(clean)).communicate()
    seconds = time.monotonic() - started
    process = start(*train, "--out", str(run))
    time.sleep(share * seconds)
    process.kill()
    process.communicate()
    with tally.fault("SIGKILL of train"):
        assert_few_leftovers(tmp_path)
        begun = (run / "config.json").exists()
        done = start(*scenelab, "resume", str(run)) if begun else start(*train, "--out", str(run))
        _, errors = done.communicate()
        assert done.returncode == 0, errors.decode()
        assert_same_training(run, clean)
        assert read_events(run) == read_events(clean)


def read_events(run: Path) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    curves = {}
    for folder in [run / "tensorboard", *(path for path in (run / "tensorboard").iterdir() if path.is_dir())]:
        events = EventAccumulator(str(folder)).Reload()
        for tag in events.Tags()["scalars"]:
            curves[f"{folder.name} {tag}"] = [(event.step, event.value) for event in events.Scalars(tag)]
    return curves


def start(*command: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
