"""Scores per class, accuracy against coverage, and the temperature: fitted on held-out images, used by all commands."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_precision, multiclass_recall

from scenelab.cli import main
from scenelab.evaluation.accuracy_results import EvaluationResult
from scenelab.evaluation.calibration import coverage_curve, cross_calibrate, fit_temperature
from scenelab.evaluation.metrics import class_scores, confusion
from scenelab.io import read_json
from scenelab.models.registry import create_model
from scenelab.runs.checkpoint import save_checkpoint
from scenelab.runs.config import RunConfig, TrainConfig
from scenelab.runs.loading import open_network
from scenelab.runs.network import read_classifier, to_values
from scenelab.runs.run import Run

KINDS = ("cat", "dog", "owl")


def drawn(count: int, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits that are calibrated at a temperature: labels are drawn from the softmax of logits / temperature."""
    generator = torch.Generator().manual_seed(0)
    logits = 3 * torch.randn(count, 5, generator=generator)
    return logits, torch.multinomial((logits / temperature).softmax(1), 1, generator=generator)[:, 0]


def test_scores_per_class_are_those_of_torchmetrics():
    logits, labels = drawn(400, 2.0)
    labels[labels == 4] = 3
    predicted = logits.argmax(1)
    scores = class_scores(confusion(predicted, labels, 5), labels.bincount(minlength=5))
    options = {"num_classes": 5, "average": "none"}
    for name, metric in {
        "precision": multiclass_precision,
        "recall": multiclass_recall,
        "f1": multiclass_f1_score,
    }.items():
        ours = torch.tensor([getattr(score, name) for score in scores])
        torch.testing.assert_close(ours.nan_to_num(), 100 * metric(predicted, labels, **options))
    assert [score.support for score in scores] == [int((labels == label).sum()) for label in range(5)]
    assert math.isnan(scores[4].recall)
    [none, _] = class_scores(torch.tensor([[0, 2], [0, 3]]), torch.tensor([4, 3]))
    assert (math.isnan(none.precision), none.recall, none.f1, none.support) == (True, 0, 0, 4)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_temperature_is_the_one_that_the_labels_were_drawn_with_and_the_best_of_a_grid(temperature):
    logits, labels = drawn(4000, temperature)
    fitted = fit_temperature(logits, labels)
    assert fitted == pytest.approx(temperature, rel=0.08)
    grid = np.exp(np.linspace(math.log(0.25), math.log(8), 400))
    losses = [cross_entropy(logits / value, labels).item() for value in grid]
    assert fitted == pytest.approx(grid[int(np.argmin(losses))], rel=0.01)


def test_no_image_is_calibrated_by_itself():
    logits, labels = drawn(200, 3.0)
    halves = cross_calibrate(logits, labels)
    assert torch.equal(halves[::2], logits[::2] / fit_temperature(logits[1::2], labels[1::2]))
    assert torch.equal(halves[1::2], logits[1::2] / fit_temperature(logits[::2], labels[::2]))


def test_too_few_images_or_mistakes_are_not_calibrated():
    logits, labels = drawn(200, 3.0)
    assert cross_calibrate(logits[:49], labels[:49]) is None
    assert cross_calibrate(logits, logits.argmax(1)) is None
    logits[7, 0] = math.nan
    assert cross_calibrate(logits, labels) is None
    logits, labels = drawn(200, 8.0)
    labels[::2] = logits[::2].argmax(1)  # the halves need opposite temperatures, so neither helps the other
    assert cross_calibrate(logits, labels) is None


def test_accuracy_against_coverage_by_hand():
    confidences = torch.tensor([0.9, 0.6, 0.8, math.nan, 0.7])
    logits = torch.stack([confidences, 1 - confidences], dim=1).log()
    curve = {point.images: point for point in coverage_curve(logits, torch.tensor([0, 1, 0, 0, 1]))}
    assert {count: round(point.accuracy, 6) for count, point in curve.items()} == {
        5: 40,
        4: 50,
        3: 66.666667,
        2: 100,
        1: 100,
    }
    assert {count: round(point.confidence, 6) for count, point in curve.items()} == {
        5: 0,
        4: 0.6,
        3: 0.7,
        2: 0.8,
        1: 0.9,
    }
    assert curve[2].coverage == 40
    assert curve[1].interval[0] == pytest.approx(20.65, abs=0.01)


@pytest.fixture
def run(tmp_path) -> Run:
    """A run with random weights and 60 val images, of noise."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 20)):
        for name in KINDS:
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{index}.png")
    run = Run(tmp_path / "run")
    run.create(RunConfig(data=str(tmp_path / "data"), train=TrainConfig(stored_size=32, threads=1)))
    torch.manual_seed(0)
    network = create_model("residual-small", num_classes=3)
    network.network.fc.weight.data *= 100  # very sure of itself
    save_checkpoint(run.best, to_values(network, arch="residual-small", categories=KINDS, size=32, epoch=1))
    return run


def predict(path: Path, image: Path, capsys) -> torch.Tensor:
    capsys.readouterr()
    assert main.run(["predict", str(path), str(image), "--json"]) == 0
    guesses = {guess["category"]: guess["probability"] for guess in json.loads(capsys.readouterr().out)[0]["guesses"]}
    return torch.tensor([guesses[name] for name in KINDS])


def test_evaluate_calibrates_on_held_out_images_and_every_command_uses_it(run, capsys):
    image = run.folder.parent / "data" / "val" / "cat" / "0.png"
    before = predict(run.folder, image, capsys)
    assert main.run(["evaluate", str(run.folder)]) == 0
    said = capsys.readouterr().out
    kept = read_json(run.calibration)
    temperature = kept["temperature"]
    assert temperature > 1.5
    assert (kept["split"], kept["images"]) == ("val", 60)
    assert f"calibration error with temperature {temperature:.2f}: " in said
    assert "each half of the images calibrated by the other" in said
    expected = (before.log() / temperature).softmax(0)
    torch.testing.assert_close(predict(run.folder, image, capsys), expected, atol=1e-4, rtol=1e-3)
    assert open_network(run.folder)[1].model.temperature == 1  # for attacks, which stay the same
    assert open_network(run.folder, calibrated=True)[1].model.temperature == temperature
    assert main.run(["export", str(run.folder), "--format", "safetensors", "--limit", "4"]) == 0
    exported = run.folder / "export" / "model.safetensors"
    torch.testing.assert_close(predict(exported, image, capsys), expected, atol=1e-4, rtol=1e-3)
    assert main.run(["export", str(run.folder), "--format", "pt2", "--limit", "4"]) == 0
    module = torch.export.load(run.folder / "export" / "model.pt2").module()
    pixels = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(module(pixels), read_classifier(run.best).model(pixels), atol=1e-3, rtol=1e-3)
    first = EvaluationResult.read(run.results / "val.json")
    assert main.run(["evaluate", str(run.folder)]) == 0
    again = EvaluationResult.read(run.results / "val.json")
    assert again.calibrated == first.calibrated
    assert first.calibrated.ece < first.mirror.ece
    assert again.mirror == first.mirror
    values = torch.load(run.best, weights_only=True)
    values["state_dict"]["fc.bias"] += 1
    save_checkpoint(run.best, values)
    assert read_classifier(run.best).model.temperature == 1  # it is of other weights


def test_another_labeled_folder_is_judged_with_the_temperature_and_fits_none(run, tmp_path, capsys):
    assert main.run(["evaluate", str(run.folder)]) == 0
    kept = run.calibration.read_bytes()
    (tmp_path / "data" / "val").rename(tmp_path / "test")
    (tmp_path / "test" / "owl").rename(tmp_path / "test" / "bat")
    assert main.run(["evaluate", str(run.folder), "--data", str(tmp_path / "test"), "--split", "all"]) == 0
    said = capsys.readouterr()
    assert "20 of 60 images are not judged: of the class 'bat' (did you mean 'cat'?), which the network" in said.err
    assert "all 40 images of" in said.out
    assert "fitted on held-out images" in said.out
    assert "no images of 1 of 3 classes: owl" in said.out
    assert run.calibration.read_bytes() == kept
    results = run.results / "on-test"
    result = EvaluationResult.read(results / "all.json")
    assert [score.support for score in result.scores.values()] == [20, 20, 0]
    assert result.coverage[0].accuracy == pytest.approx(result.mirror.top1)
    rows = list(csv.reader((results / "all_confusion.csv").read_text().splitlines()))
    assert [row[0] for row in rows] == ["true, then predicted as", *KINDS]
    assert [[int(cell) for cell in row[1:]] for row in rows[1:]] == result.confusion
    assert (results / "all_coverage.png").exists()
    assert main.run(["evaluate", str(run.folder), "--split", "all"]) == 1
    assert "include those of the training; choose the split val or test" in capsys.readouterr().err
