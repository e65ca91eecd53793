"""A run folder as version 0.1.0 wrote it is still read, and evaluates to the same numbers."""

import json
import shutil
from pathlib import Path

import pytest

from scenelab.cli import main
from scenelab.report.collect import read_run
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.header import ResumableHeader, read_header

RUN = Path(__file__).parents[1] / "data" / "run-0.1"


@pytest.fixture
def run(tmp_path) -> Path:
    return Path(shutil.copytree(RUN, tmp_path / "run"))


def test_a_kept_run_evaluates_to_the_same_numbers(run, tmp_path, capsys):
    data = tmp_path / "scenes3"
    assert main.run(["data", "synth", str(data), "--train", "12", "--val", "6", "--size", "40"]) == 0
    capsys.readouterr()
    assert main.run(["evaluate", str(run), "--data", str(data), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 72
    assert result["digest"] == "c04734b9537a265005266df4a1d571713d2c539ea038a0159ba84fe975817214"
    expected = {
        "plain": {"top1": 8.333333333333332, "top5": 43.05555555555556, "loss": 2.48540997505188},
        "mirror": {"top1": 8.333333333333332, "top5": 43.05555555555556, "loss": 2.4853992462158203},
    }
    for name, values in expected.items():
        assert {key: result[name][key] for key in values} == pytest.approx(values, rel=1e-5)
    intervals = [*result["plain"]["top1_interval"], *result["plain"]["top5_interval"]]
    assert intervals == pytest.approx([3.8752424730, 17.0123553065, 32.2579057084, 54.5566939215], rel=1e-6)
    assert {name for name, top1 in result["per_class"].items() if top1} == {"mountain"}


def test_a_kept_run_is_read_for_the_report_and_to_resume(run):
    read = read_run(run)
    assert (read.config.recipe, read.config.epochs, read.training and read.training.steps) == ("kept", 2, 10)
    header = read_header(run, load_checkpoint(run / "checkpoint.pth.tar"), ResumableHeader)
    assert (header.step, header.epoch, len(header.categories)) == (10, 2, 12)
