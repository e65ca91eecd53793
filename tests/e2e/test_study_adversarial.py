"""scenelab study adversarial on synthetic scenes, each run for a moment: table, figure, and going on where it was."""

import json

import pytest

from scenelab.cli import main
from scenelab.evaluation.robustness import Effort
from scenelab.io import read_json


@pytest.mark.slow
def test_four_ways_of_training_are_compared(scenes, tmp_path, capsys, monkeypatch):
    few = Effort(steps=3, targeted_steps=2, classes=2, queries=20)
    monkeypatch.setattr("scenelab.studies.adversarial.Effort", lambda: few)
    command = [
        "study", "adversarial", "--data", str(scenes), "--out", str(tmp_path / "study"), "--minutes", "0.05",
        "--epsilons", "4/255", "--images", "3", "--json",
    ]  # fmt: skip
    assert main.run(command) == 0
    study = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in study["variants"]] == ["normal", "fast", "free", "pgd"]
    for row in study["variants"]:
        assert row["clean"]["accuracy"] >= row["worst"][-1]["accuracy"]
    text = (tmp_path / "study" / "adversarial.md").read_text()
    assert "| training | what | minutes | epochs | clean top-1 % | ε = 4/255 |" in text
    assert "are trained against L∞ perturbations of 4/255" in text
    assert (tmp_path / "study" / "adversarial.png").exists()
    before = read_json(tmp_path / "study" / "fast" / "results" / "training.json")
    assert main.run(command) == 0
    assert json.loads(capsys.readouterr().out)["variants"] == study["variants"]
    assert read_json(tmp_path / "study" / "fast" / "results" / "training.json") == before
