"""Folders that vanish in mid-run, and reads that fail."""

import json

import pytest

from faults.cases import assert_same_training, training
from faults.tally import FULL
from faults.test_disks import assert_refused

pytestmark = pytest.mark.timeout(3600 if FULL else 300)
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
