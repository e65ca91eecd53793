"""The MiniPlaces challenge: guesses, their file and score, and the limits of a submission."""

import dataclasses
import json
import re

import pytest
import torch
from torch import nn

from scenelab.cli import main
from scenelab.data.miniplaces import list_test
from scenelab.errors import LabError
from scenelab.evaluation.challenge import guess, make_card, read_guesses, score, write_guesses
from scenelab.models.normalize import Classifier
from scenelab.progress import LogProgress
from scenelab.runs.config import ScheduleConfig, TrainConfig
from scenelab.runs.network import Stored
from scenelab.runs.run import Run
from scenelab.training.session import start_run


def test_the_score_by_hand(tmp_path, capsys):
    labels = tmp_path / "val.txt"
    labels.write_text("val/1.jpg 7\nval/2.jpg 3\nval/3.jpg 9\nval/4.jpg 0\n")
    guesses = {
        "val/1.jpg": (7, 1, 2, 3, 4),  # first guess correct
        "val/2.jpg": (1, 3, 2, 4, 5),  # second
        "val/3.jpg": (1, 2, 3, 4, 9),  # fifth
        "val/4.jpg": (1, 2, 3, 4, 5),  # none
    }
    assert score(guesses, labels) == [75, 50, 50, 50, 25]
    path = tmp_path / "guesses.txt"
    write_guesses(path, guesses)
    assert path.read_text().splitlines()[0] == "val/1.jpg 7 1 2 3 4"
    assert read_guesses(path) == guesses
    assert main.run(["score", str(path), str(labels), "--json"]) == 0
    errors = {"error_at_1": 75, "error_at_2": 50, "error_at_3": 50, "error_at_4": 50, "error_at_5": 25}
    assert json.loads(capsys.readouterr().out) == errors


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2 3 4\n", "line 1 is 'a 1 2 3 4'; expected a name and five labels from 0"),
        ("a 1 2 3 4 5\nb 1 2 3 4 x\n", "line 2 is 'b 1 2 3 4 x'"),
        ("a 1 2 3 4 5\na 1 2 3 4 5\n", "line 2 repeats a; keep one line per image"),
        (None, "does not exist"),
    ],
)
def test_an_invalid_file_of_guesses_is_refused(tmp_path, text, message):
    path = tmp_path / "guesses.txt"
    if text is not None:
        path.write_text(text)
    with pytest.raises(LabError, match=re.escape(message)):
        read_guesses(path)


def test_both_files_must_name_the_same_images(tmp_path):
    labels = tmp_path / "val.txt"
    labels.write_text("a 1\nb 2\n")
    five = (1, 2, 3, 4, 5)
    with pytest.raises(LabError, match="^1 images have no guesses, first b; both files must name the same$"):
        score({"a": five}, labels)
    with pytest.raises(LabError, match="^1 images have no label, first c; both"):
        score({"a": five, "b": five, "c": five}, labels)


class Brightness(nn.Module):
    """Logits of label times mean brightness."""

    def forward(self, images):
        return images.mean(dim=(1, 2, 3))[:, None] * torch.arange(10.0)


def test_guesses_are_the_most_likely_labels(scenes):
    stored = Stored(model=Classifier(Brightness()), arch="", categories=tuple("abcdefghij"), size=16, epoch=0)
    names = list_test(scenes)
    assert len(names) == 2
    for row in guess(stored, scenes / "images", names).values():
        assert row in ((9, 8, 7, 6, 5), (0, 1, 2, 3, 4))  # by the sign of the normalized brightness
    with pytest.raises(LabError, match="the model has 3 classes; the challenge needs at least 5"):
        guess(dataclasses.replace(stored, categories=tuple("abc")), scenes / "images", [])


def test_a_submission_over_the_limits_is_refused(tmp_path):
    run = Run(tmp_path)
    run.results.mkdir(parents=True, exist_ok=True)
    with pytest.raises(LabError, match="has no finished training; finish it with 'scenelab resume"):
        make_card(run)
    names = "steps images_seen epochs minutes seconds_in_steps images_per_second peak_memory_bytes parameters threads"
    accounting = dict.fromkeys([*names.split(), "processes"], 1) | {"device": "cpu"}
    accounting |= {"training_flops": int(6.1776e15), "checkpoint_bytes": 9_999_999}
    (run.results / "training.json").write_text(json.dumps(accounting))
    card = make_card(run)
    assert card.share_of_k40_peak == pytest.approx(0.1)
    assert card.k40_budget_flops == pytest.approx(6.2e16, rel=0.01)
    assert card.to_json()["device"] == "cpu"
    for change, message in (
        ({"checkpoint_bytes": 10_000_001}, "10,000,001 bytes; the challenge allows 10,000,000"),
        ({"training_flops": 0}, "has no count of operations"),
        ({"training_flops": int(6.2e16)}, "took 6.2e+16 operations; the challenge allows 6.18e+16"),
        ({"threads": "two"}, "training.json is refused: threads: got 'two'; expected an integer"),
    ):
        (run.results / "training.json").write_text(json.dumps(accounting | change))
        with pytest.raises(LabError, match=re.escape(message)):
            make_card(run)


def test_the_command_writes_the_model_the_guesses_and_a_card(scenes, tmp_path, capsys):
    sizes = {"stored_size": 32, "eval_size": 32, "schedule": ScheduleConfig(sizes=((0.0, 32),))}
    config = TrainConfig(model="simplenet-small", epochs=1, batch_size=16, threads=2, half=True, **sizes)
    run = Run(tmp_path / "run")
    start_run(run.folder, scenes, config, display=LogProgress(every_steps=10**9))
    capsys.readouterr()
    assert main.run(["challenge", str(run.folder), "--json"]) == 0
    card = json.loads(capsys.readouterr().out)
    assert card == json.loads((run.results / "challenge.json").read_text())
    assert (run.results / "model_best.pth.tar").read_bytes() == run.best.read_bytes()
    assert len(read_guesses(run.results / "test_predictions.txt")) == card["images"] == 2
    assert card["val_images"] == 36
    assert main.run(["challenge", str(run.folder), "--split", "val"]) == 0
    assert score(read_guesses(run.results / "val_predictions.txt"), scenes / "val.txt") == card["val_errors"]
    assert "error on val" in capsys.readouterr().out
