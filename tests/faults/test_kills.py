"""SIGKILL at random moments of the real commands: what is there afterwards is whole, and they go on."""

import os
import random
import shutil
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import psutil
import pytest

from faults.cases import (
    Case,
    assert_few_leftovers,
    assert_nothing_half_written,
    assert_run_whole,
    assert_same_training,
    named,
)
from faults.tally import FULL, SEED, rounds
from folders import tree, wait_for


@pytest.fixture
def moments(request):
    print(f"moments of seed {SEED}")
    return random.Random(f"{request.node.name} {SEED}")


def kill_often(server, case: Case, work: Path, moments, tally, wanted: int, check) -> None:
    """Kill a command at moments drawn evenly over its duration and start it again, a few times; then let it end."""
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
                check(folder)
        with tally.fault(f"going on after SIGKILL of {case.name}") if killed > earlier else nullcontext():
            case.go_on(server, folder, expected)
        shutil.rmtree(folder)


KILLS = {"train": (4, 200), "pack": (3, 100), "download": (4, 100), "report": (2, 50), "grade": (1, 50)}  # few, many


@pytest.mark.timeout(3600 if FULL else 300)
@pytest.mark.parametrize("name", [*list(KILLS)[:-1], pytest.param("grade", marks=pytest.mark.slow)])
def test_a_killed_command_goes_on_to_the_same_end(server, scenes, clean, site, tmp_path, moments, tally, name):
    """Training and its weights bit for bit, a download without fetching all again, grades without processes left."""

    def check(folder: Path) -> None:
        if name == "train":
            assert_run_whole(folder / "run", clean)
        elif name == "grade":
            wait_for(lambda: not sandboxed(folder), 5)

    case = named(name, scenes, clean, site, tmp_path)
    kill_often(server, case, tmp_path, moments, tally, rounds(*KILLS[name]), check)
    if name == "download" and FULL:  # of few kills none may fall into the archive
        assert any(asked for path, asked, _ in site.seen if path == "/data.tar.gz"), "none was continued"


def sandboxed(folder: Path) -> list[psutil.Process]:
    """Processes that see a stage of this batch."""
    others = [process for process in psutil.process_iter(["cmdline"]) if process.pid != os.getpid()]
    return [process for process in others if str(folder) in " ".join(process.info["cmdline"] or [])]


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
