"""Metrics of logits against plain loops and torchmetrics; prediction of splits and files."""

import json
import math
import shutil
import sys
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchmetrics.functional.classification import multiclass_accuracy, multiclass_calibration_error

from conftest import make_untrained
from scenelab.cli import main
from scenelab.data.cache import MemmapDataset
from scenelab.errors import LabError
from scenelab.evaluation.accuracy_results import EvaluationResult
from scenelab.evaluation.calibration import BINS, expected_calibration_error, reliability
from scenelab.evaluation.metrics import (
    BATCH,
    confusion,
    hits,
    is_undefined,
    most_confused,
    per_class,
    predict_logits,
    top_k,
)
from scenelab.evaluation.precision import Predicted
from scenelab.evaluation.predict import predict_files
from scenelab.io import read_json
from scenelab.models.normalize import Classifier
from scenelab.models.registry import create_model
from scenelab.report import collect
from scenelab.runs.network import Stored
from scenelab.runs.run import Run

EVALUATE = sys.modules["scenelab.evaluation.evaluate"]  # the package's function has the name of the module


def random_logits(count: int = 300, classes: int = 7, scale: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(classes, (count,), generator=generator)
    logits = scale * torch.randn(count, classes, generator=generator)
    logits[torch.arange(count), labels] += 1.5
    return logits, labels


# Accuracy


@pytest.mark.parametrize("k", [1, 3, 5, 7])
def test_top_k_is_torchmetrics_and_a_plain_loop(k):
    logits, labels = random_logits()
    theirs = multiclass_accuracy(logits, labels, num_classes=7, top_k=k, average="micro").item()
    assert top_k(logits, labels, k) == pytest.approx(100 * theirs, rel=1e-6)
    rows = zip(logits.tolist(), labels.tolist(), strict=True)
    assert hits(logits, labels, k).tolist() == [sum(value > row[label] for value in row) < k for row, label in rows]


def test_more_guesses_than_classes_are_always_correct():
    assert top_k(*random_logits(classes=3), 5) == 100


def test_confusion_counts_true_rows_and_predicted_columns():
    matrix = confusion(torch.tensor([0, 1, 1, 1, 0, 2]), torch.tensor([0, 0, 0, 1, 2, 2]), 4)
    assert matrix.tolist() == [[1, 2, 0, 0], [0, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]]
    accuracies = per_class(matrix)
    assert accuracies[:3].tolist() == pytest.approx([100 / 3, 100, 50])
    assert accuracies[3].isnan()  # no images


def test_the_most_confused_pairs_come_first_and_ties_in_class_order():
    matrix, names = torch.tensor([[9, 2, 0], [2, 5, 3], [1, 2, 0]]), ("abbey", "beach", "cave")
    rows = "beach cave 3 10, abbey beach 2 11, beach abbey 2 10, cave beach 2 3, cave abbey 1 3"
    pairs = most_confused(matrix, names)
    assert ", ".join(f"{pair.true} {pair.predicted} {pair.count} {pair.of}" for pair in pairs) == rows
    assert most_confused(matrix, names, 2) == pairs[:2]
    assert matrix[0, 0] == 9
    assert most_confused(torch.eye(3, dtype=torch.int64), names) == []


# Calibration


@pytest.mark.parametrize("scale", [0.1, 1.0, 4.0])
def test_calibration_error_is_torchmetrics(scale):
    logits, labels = random_logits(scale=scale)
    shares = logits.double().softmax(dim=1)
    theirs = multiclass_calibration_error(shares, labels, num_classes=7, n_bins=BINS, norm="l1").item()
    assert expected_calibration_error(logits, labels) == pytest.approx(100 * theirs, abs=1e-4)


def test_a_confidence_of_one_is_in_the_last_bin():
    """A softmax in float32 is often exactly 1: here half of them, the others are 0.95; 19 of 20 are correct."""
    logits = torch.tensor([[200.0, 0.0]] * 10 + [[math.log(19), 0.0]] * 10)
    labels = torch.tensor([0] * 9 + [1] + [0] * 10)
    bins = reliability(logits, labels)
    assert len(bins) == 1
    assert (bins[0].count, bins[0].accuracy) == (20, 0.95)
    assert (bins[0].low, bins[0].high) == (pytest.approx(14 / 15), 1.0)
    assert expected_calibration_error(logits, labels) == pytest.approx(100 * (0.975 - 0.95))


def test_the_bins_partition_the_predictions():
    logits, labels = random_logits()
    bins = reliability(logits, labels)
    assert sum(part.count for part in bins) == len(labels)
    for part in bins:
        assert part.low < part.confidence <= part.high
        assert 0 <= part.accuracy <= 1
    assert sum(part.count * part.accuracy for part in bins) / 3 == pytest.approx(top_k(logits, labels, 1))


# Prediction


def make_dataset(count: int) -> MemmapDataset:
    return MemmapDataset(
        images=np.random.default_rng(0).integers(0, 256, (count, 8, 8, 3), dtype=np.uint8),
        labels=torch.arange(count) % 3,
        paths=tuple(f"{index}.jpg" for index in range(count)),
        categories=("abbey", "beach", "cave"),
        split="val",
        digest="",
    )


class Probe(nn.Module):
    """A linear model with layers that act differently in train mode."""

    def __init__(self, side: int = 8) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3 * side * side, 3, generator=generator))
        self.drop = nn.Dropout(0.5)
        self.norm = nn.BatchNorm2d(3)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images):
        self.shapes.append(tuple(images.shape))
        return self.drop(self.norm(images)).flatten(1) @ self.weight

    def by_hand(self, pixels: np.ndarray) -> torch.Tensor:
        images = torch.from_numpy(pixels.copy()).permute(0, 3, 1, 2).float() / 255
        return (images / math.sqrt(1 + 1e-5)).flatten(1) @ self.weight.detach()


def test_nan_logits_are_no_hit_and_have_no_calibration_error():
    logits, labels = random_logits(4)
    logits[0, 3] = math.nan
    assert not hits(logits, labels, 7)[0]
    assert hits(logits, labels, 7)[1:].all()
    assert math.isnan(expected_calibration_error(logits, labels))


@pytest.mark.parametrize("row", [[math.inf, -1, -1], [math.inf] * 3, [-math.inf] * 3, [math.nan, 0, 0]], ids=str)
def test_images_without_probabilities_have_no_calibration_error_and_no_hit(row):
    logits = torch.full((10, 3), -1.0)
    logits[2] = torch.tensor(row)
    assert is_undefined(logits).tolist() == [index == 2 for index in range(10)]
    assert math.isnan(expected_calibration_error(logits, torch.ones(10, dtype=torch.int64)))
    assert not hits(logits, torch.zeros(10, dtype=torch.int64), 3)[2]
    logits[2] = torch.tensor([-math.inf, 0, 0])  # a masked class
    assert not is_undefined(logits).any()


def test_images_without_a_prediction_count_in_their_class():
    matrix, totals = torch.tensor([[1, 1], [0, 0]]), torch.tensor([4, 2])
    assert per_class(matrix, totals).tolist() == [25, 0]
    assert most_confused(matrix, ("abbey", "beach"), totals=totals)[0].of == 4


def test_undefined_scores_are_counted_and_have_empty_cells(tmp_path, monkeypatch):
    labels = torch.tensor([0, 0, 1, 1])
    dataset = MemmapDataset(
        images=np.zeros((4, 4, 4, 3), np.uint8),
        labels=labels,
        paths=("a", "b", "c", "d"),
        categories=("abbey", "beach"),
        split="val",
        digest="",
    )
    logits = torch.tensor([[1.0, 0.0], [math.nan, 0.0], [math.inf, 0.0], [0.0, 1.0]])
    outputs = Predicted(plain=logits, mirrored=logits, precision="float32")
    monkeypatch.setattr(EVALUATE, "predict_mirrored", lambda *_, **__: outputs)
    stamp = {"date": "", "command": "", "weights": None, "model": "", "size": 4}
    monkeypatch.setattr(EVALUATE, "stamp_result", lambda *_: stamp)
    model = create_model("simplenet-small", num_classes=2)
    stored = Stored(model=model, arch="x", categories=dataset.categories, size=4, epoch=1)
    result = EVALUATE.evaluate(Run(tmp_path), stored, dataset, source="")
    assert result.undefined == read_json(tmp_path / "results" / "val.json")["undefined"] == 2
    assert (result.mirror.top1, result.per_class) == (50, {"abbey": 50, "beach": 50})
    assert read_json(tmp_path / "results" / "val.json")["mirror"]["ece"] is None
    lines = (tmp_path / "results" / "val_predictions.csv").read_text().splitlines()
    assert lines[1:] == ["a,0,0.7311,0,1", "b,0,,,", "c,1,,,", "d,1,0.7311,1,0"]
    assert collect._read_predictions(tmp_path / "results" / "val_predictions.csv")[1]["b"] == ()
    logits.nan_to_num_(posinf=0)
    EVALUATE.evaluate(Run(tmp_path), stored, dataset, source="")
    written = read_json(tmp_path / "results" / "val.json")
    assert "undefined" not in written
    assert EvaluationResult.read(tmp_path / "results" / "val.json").undefined == 0


def test_a_class_without_images_has_no_accuracy(scenes, tmp_path):
    shutil.copytree(scenes, tmp_path / "data")
    lines = (scenes / "val.txt").read_text().splitlines(keepends=True)
    (tmp_path / "data" / "val.txt").write_text("".join(line for line in lines if not line.endswith(" 0\n")))
    run = make_untrained(tmp_path / "run", tmp_path / "data")
    assert main.run(["evaluate", str(run.folder)]) == 0
    accuracies = json.loads((run.results / "val.json").read_text(), parse_constant=pytest.fail)["per_class"]
    assert [name for name, value in accuracies.items() if value is None] == [next(iter(accuracies))]


def test_logits_are_in_order_and_do_not_depend_on_batches():
    dataset, model = make_dataset(2 * BATCH + 7), Probe()
    logits = predict_logits(model, dataset, size=8, show=False)
    assert [shape[0] for shape in model.shapes] == [BATCH, BATCH, 7]
    assert torch.allclose(logits, model.by_hand(dataset.images), atol=1e-4)
    assert not logits.requires_grad


def test_mirror_averages_the_logits_of_image_and_mirror_image():
    dataset, model = make_dataset(12), Probe()
    expected = (model.by_hand(dataset.images) + model.by_hand(dataset.images[:, :, ::-1])) / 2
    assert torch.allclose(predict_logits(model, dataset, size=8, mirror=True, show=False), expected, atol=1e-4)


def test_the_model_gets_images_of_the_given_size(capsys):
    model = Probe(side=6)
    predict_logits(model, make_dataset(3), size=6, show=True)
    assert model.shapes == [(3, 3, 6, 6)]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("fails", [False, True])
def test_the_state_of_the_model_is_restored(fails):
    model = Probe(side=8)
    model.train()
    model.drop.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(RuntimeError) if fails else nullcontext():
        predict_logits(model, make_dataset(3), size=5 if fails else 8, show=False)
    assert [module.training for module in (model, model.drop, model.norm)] == [True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.is_grad_enabled()
    assert model.weight.requires_grad
    assert model.weight.grad is None


# Single files


class LeftRight(nn.Module):
    """Return the mean of the left half, the mean of the right half, and 0 as logits."""

    def forward(self, images):
        half = images.shape[-1] // 2
        left, right = images[..., :half].mean(dim=(1, 2, 3)), images[..., half:].mean(dim=(1, 2, 3))
        return torch.stack([left, right, torch.zeros_like(left)], dim=1)


def test_guesses_are_ranked_mirror_averaged_and_sum_to_one(tmp_path):
    image, path = np.zeros((40, 60, 3), np.uint8), tmp_path / "a.png"
    image[:, :30] = 255
    Image.fromarray(image).save(path)
    model, categories = Classifier(LeftRight()).eval(), ("left", "right", "none")
    stored = Stored(model=model, arch="x", categories=categories, size=16, epoch=1)
    [result] = predict_files(stored, [path])
    assert result["image"] == str(path)
    shares = {guess["category"]: guess["probability"] for guess in result["guesses"]}
    assert sum(shares.values()) == pytest.approx(1, abs=1e-6)
    assert shares["left"] == pytest.approx(shares["right"], abs=1e-6)  # by averaging with the mirror image
    assert [guess["probability"] for guess in result["guesses"]] == sorted(shares.values(), reverse=True)
    assert len(predict_files(stored, [path], guesses=1)[0]["guesses"]) == 1
    path.unlink()
    with pytest.raises(LabError, match=r"a\.png cannot be read: No such file"):
        predict_files(stored, [path])
