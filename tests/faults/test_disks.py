"""Disks that are full, read-only or broken, folders that vanish: one line names place and fix, nothing good is lost."""

import errno
import json
import os
import random
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faults.cases import Case, assert_nothing_half_written, assert_run_whole, assert_same_training, named, training
from faults.forking import Ended
from faults.tally import FULL, SEED, rounds
from faults.tracing import CHANGES, READS, Call, fail_at, read_trace, watch
from folders import tree
from mutants import solution, write

NAMES = ["train", "pack", "download", "report", "export", "challenge", "explain", "grade"]
QUICK = NAMES if FULL else ["train", "pack", "report"]
pytestmark = pytest.mark.timeout(3600 if FULL else 300)
BYTES = 48 << 20


class Disk:
    """A small file system of our own, ext4 in a file, that can be filled and emptied."""

    def __init__(self, image: Path, place: Path) -> None:
        self.place, self.ballast = place, place / "ballast"
        with open(image, "wb") as file:
            file.truncate(BYTES)
        make = ["mkfs.ext4", "-q", "-m", "0", "-E", "root_owner=0:0", str(image)]
        for command in (make, ["mount", "-o", "loop", str(image), str(place)]):
            try:
                done = subprocess.run(command, capture_output=True, text=True, check=False)
            except FileNotFoundError as error:
                pytest.skip(f"{error.filename} is not there")
            if done.returncode:
                pytest.skip(f"no file system can be mounted here: {done.stderr.strip()[:100]}")

    def leave(self, free: int) -> None:
        """Fill it but for so many bytes."""
        found = os.statvfs(self.place)
        handle = os.open(self.ballast, os.O_WRONLY | os.O_CREAT)
        try:
            os.posix_fallocate(handle, 0, max(1, found.f_bavail * found.f_frsize - free))
        except OSError as error:
            if error.errno != errno.ENOSPC:  # it needs blocks of its own and has taken the last one
                raise
        finally:
            os.close(handle)

    def free(self) -> None:
        self.ballast.unlink()

    def remount(self, how: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{how}", str(self.place)], check=True, capture_output=True)

    def used(self) -> int:
        found = os.statvfs(self.place)
        return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.fixture(scope="module")
def mounted(own_mounts, tmp_path_factory) -> Iterator[Disk]:
    if os.geteuid():
        pytest.skip("only root may mount a file system")
    folder = tmp_path_factory.mktemp("disk")
    (folder / "place").mkdir()
    made = Disk(folder / "image", folder / "place")
    yield made
    subprocess.run(["umount", "--lazy", str(made.place)], check=True)


@pytest.fixture
def disk(mounted) -> Iterator[Disk]:
    """Empty."""
    yield mounted
    for path in mounted.place.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@pytest.fixture
def case(request, scenes, clean, site, tmp_path_factory) -> Case:
    return named(request.param, scenes, clean, site, tmp_path_factory.mktemp("in"))


def assert_refused(ended: Ended, place: Path) -> None:
    """One line that names a path there and says what to do; no traceback."""
    lines = [line for line in ended.err.splitlines() if line.startswith("scenelab: error: ")]
    assert ended.status == 1, ended
    assert "Traceback" not in ended.err + ended.out, ended.err
    assert len(lines) == 1, ended.err
    assert str(place) in lines[0]
    assert re.search(r"; ['\w]", lines[0]), lines[0]


@pytest.mark.parametrize("case", QUICK, indirect=True)
def test_a_full_disk_is_named_and_the_command_goes_on(server, disk, case, clean, tally):
    """A disk with room for a part of what a command writes: it says so, and goes on when there is room."""
    expected, work = disk.place / "expected", disk.place / "work"
    before = disk.used()
    case.run_undisturbed(server, expected)
    needed = max(8192, disk.used() - before)
    shares = random.Random(f"{case.name} {SEED}")
    for number in range(rounds(1, 5 if case.slow else 20)):
        shutil.rmtree(work, ignore_errors=True)
        case.prepare(work)
        disk.leave(int(needed * shares.uniform(0, 0.9)) if number else 0)
        kept = tree(work)
        ended = case.run(server, work)
        if ended.status == 0:
            disk.free()
            continue
        with tally.fault(f"full disk under {case.name}"):
            assert_refused(ended, work)
            assert_nothing_half_written(work, kept)
            if case.name == "train":
                assert_run_whole(work / "run", clean)
            disk.free()
            case.go_on(server, work, expected)
    shutil.rmtree(work)
    shutil.rmtree(expected)


def test_a_full_disk_costs_no_points(server, disk, tmp_path, tally):
    """A hand-in that there is no room to unpack is not called damaged; with room it gets what it deserves."""
    handed, grades = tmp_path / "handed", disk.place / "grades"
    write(handed, {**solution(), "results/large.bin": os.urandom(4 << 20)})
    disk.leave(3 << 20)
    ended = server.run("grade", str(handed), "--out", str(grades))
    with tally.fault("full disk under the unpacking of a hand-in"):
        assert_refused(ended, grades)
        assert not list(grades.rglob("result.json"))
        disk.free()
        ended = server.run("grade", str(handed), "--out", str(grades))
        assert ended.status == 0, ended.err
        assert "handed: 8 of 8" in ended.out


@pytest.mark.parametrize("case", QUICK, indirect=True)
def test_a_read_only_disk_is_named(server, disk, case, tally):
    work = disk.place / "work"
    case.prepare(work)
    kept = tree(work)
    disk.remount("ro")
    try:
        ended = case.run(server, work)
    finally:
        disk.remount("rw")
    with tally.fault(f"read-only disk under {case.name}"):
        assert_refused(ended, work)
        assert tree(work) == kept
    shutil.rmtree(work)


def touches(call: Call, places: list[Path]) -> Path | None:
    return next((place for place in places if call.touches(place)), None)


def fail_some_calls(server, case, work, clean, tally, *, places=(), kind="write", calls=CHANGES, count=1) -> None:
    """Fail calls that touch the folder of the command or these places, drawn at random, with EIO.

    They are refused as a full disk is, or of no account.
    """
    expected = work / "expected"
    trace = read_trace(case.run_undisturbed(server, expected, trace=watch(calls)).trace)
    seen = [call for call in trace if touches(call, [expected, *places])]
    for number, call in enumerate(random.Random(f"{case.name} {SEED}").sample(seen, min(count, len(seen)))):
        folder = work / f"work{number}"
        case.prepare(folder)
        kept = tree(folder)
        ended = case.run(server, folder, trace=fail_at(call, "EIO", calls))
        failed = [touches(each, [folder, *places]) for each in read_trace(ended.trace) if each.injected]
        if not any(failed):
            continue  # another thread's, or of what the command prints
        with tally.fault(f"EIO from a {kind} of {case.name}"):
            if ended.status:
                assert_refused(ended, next(filter(None, failed)))
            assert_nothing_half_written(folder, kept)
            if case.name == "train" and kind == "write":
                assert_run_whole(folder / "run", clean)
            case.go_on(server, folder, expected)
        shutil.rmtree(folder)


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("case", QUICK, indirect=True)
def test_each_write_may_fail(server, case, clean, tmp_path, tally):
    fail_some_calls(server, case, tmp_path, clean, tally, count=rounds(1, 10 if case.slow else 40))


@pytest.mark.usefixtures("strace")
@pytest.mark.parametrize("case", ["train", "pack", "report", "challenge", "explain"], indirect=True)
def test_each_read_may_fail(server, case, scenes, clean, tmp_path, tally):
    """Of images, packed images or a run's files."""
    options = {"kind": "read", "calls": READS, "count": rounds(2, 20)}
    fail_some_calls(server, case, tmp_path, clean, tally, places=(scenes, clean), **options)


LOSE = "faults.acts:lose"


def test_a_run_without_its_folder_ends_with_one_line(server, scenes, tmp_path, tally):
    """It is not carried on in a new folder that would lack the rows so far."""
    command = training(scenes).command(tmp_path)
    with tally.fault("run folder removed during train"):
        ended = server.run(str(tmp_path / "run"), *command, call=LOSE)
        assert_refused(ended, tmp_path / "run")
        assert not (tmp_path / "run" / "checkpoint.pth.tar").exists()


def test_a_run_goes_on_without_its_packed_images(server, scenes, clean, tmp_path, tally):
    """They are mapped."""
    command = training(scenes).command(tmp_path)
    with tally.fault("packed images removed during train"):
        ended = server.run(str(tmp_path / "cache"), *command, call=LOSE)
        assert ended.status == 0, ended.err
        assert_same_training(tmp_path / "run", clean)


def test_nothing_is_glued_to_a_row_of_times_that_a_kill_cut_off(server, scenes, tmp_path):
    case = training(scenes)
    assert server.run(str(tmp_path / "run"), *case.command(tmp_path), call=LOSE).status == 1
    case.run_undisturbed(server, tmp_path)
    with open(tmp_path / "run" / "timings.jsonl", "ab") as file:
        file.write(b'{"epoch": 1, "sec')
    assert server.run("resume", str(tmp_path / "run"), call=case.call).status == 0
    for line in (tmp_path / "run" / "timings.jsonl").read_text().splitlines():
        json.loads(line)
