"""Folders that vanish in mid-run, and reads that fail."""

import json
import random
import shutil

import pytest

from faults.cases import (
    Case,
    assert_nothing_half_written,
    assert_same_training,
    contents,
    on_run,
    packing,
    reporting,
    training,
)
from faults.tally import FULL, SEED, rounds
from faults.test_disks import assert_goes_on, assert_refused
from faults.tracing import READS, fail_at, read_trace, watch

pytestmark = pytest.mark.timeout(3600 if FULL else 300)
LOSE = "faults.acts:lose"


def test_the_run_folder_vanishes(server, scenes, tmp_path, tally):
    """The run ends with one line; it is not carried on in a new folder that would lack the rows so far."""
    command = training(scenes).command(tmp_path)
    with tally.fault("run folder removed during train"):
        ended = server.run(str(tmp_path / "run"), *command, call=LOSE)
        assert_refused(ended, tmp_path / "run")
        assert not (tmp_path / "run" / "checkpoint.pth.tar").exists()


def test_the_packed_images_vanish(server, scenes, clean, tmp_path, tally):
    """They are mapped: the run goes on to the same end."""
    command = training(scenes).command(tmp_path)
    with tally.fault("packed images removed during train"):
        ended = server.run(str(tmp_path / "cache"), *command, call=LOSE)
        assert ended.status == 0, ended.err
        assert_same_training(tmp_path / "run", clean)


def test_a_row_of_times_that_a_kill_cut_off(server, scenes, tmp_path):
    """What comes after it is not glued to it."""
    case = training(scenes)
    assert server.run(str(tmp_path / "run"), *case.command(tmp_path), call=LOSE).status == 1
    assert server.run(*case.command(tmp_path), call=case.call).status == 0
    with open(tmp_path / "run" / "timings.jsonl", "ab") as file:
        file.write(b'{"epoch": 1, "sec')
    assert server.run("resume", str(tmp_path / "run"), call=case.call).status == 0
    for line in (tmp_path / "run" / "timings.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.fixture(params=["train", "pack", "report", "challenge", "explain"])
def reader(request, scenes, clean) -> Case:
    """Commands that read a run folder or images."""
    made = {"challenge": "results/challenge.json", "explain": "results/attribution.json"}
    flags = {"challenge": (), "explain": ("--limit", "1", "--methods", "gradient")}
    if request.param in made:
        return on_run(request.param, clean, *flags[request.param], made=made[request.param])
    return {
        "train": lambda: training(scenes),
        "pack": lambda: packing(scenes),
        "report": lambda: reporting(clean, pdf=False),
    }[request.param]()


@pytest.mark.usefixtures("strace")
def test_each_read_may_fail(server, reader, scenes, clean, tmp_path, tally):
    """EIO from an open or a read of images, packed images or a run's files: one line, or of no account."""
    expected = tmp_path / "expected"
    reader.prepare(expected)
    ended = server.run(*reader.command(expected), call=reader.call, trace=watch(READS))
    assert ended.status == 0, ended.err
    places = (expected, scenes, clean)
    calls = [each for each in read_trace(ended.trace) if any(each.touches(place) for place in places)]
    drawn = random.Random(f"{reader.name} {SEED}").sample(calls, min(rounds(2, 20), len(calls)))
    for number, call in enumerate(drawn):
        work = tmp_path / f"work{number}"
        reader.prepare(work)
        kept = contents(work)
        ended = server.run(*reader.command(work), call=reader.call, trace=fail_at(call, "EIO", READS))
        failed = [each for each in read_trace(ended.trace) if each.injected]
        hit = [each for each in failed if any(each.touches(place) for place in (work, scenes, clean))]
        if not hit:
            continue  # another thread's
        with tally.fault(f"EIO from a read of {reader.name}"):
            if ended.status:
                assert_refused(ended, next(place for place in (work, scenes, clean) if hit[0].touches(place)))
            assert_nothing_half_written(work, kept)
            assert_goes_on(server, reader, work, expected)
        shutil.rmtree(work)
