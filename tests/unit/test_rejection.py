"""The threshold of "none of these", its error rates, and the commands that use it."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchmetrics.functional.classification import binary_auroc

import scenelab
from scenelab.cli import main
from scenelab.evaluation.accuracy_results import EvaluationResult
from scenelab.evaluation.metrics import max_logit
from scenelab.evaluation.rejection import fit_threshold, measure_rejection
from scenelab.evaluation.results import share_of
from scenelab.models.registry import create_model
from scenelab.runs.checkpoint import save_checkpoint
from scenelab.runs.config import RunConfig, TrainConfig
from scenelab.runs.loading import open_network
from scenelab.runs.network import to_values
from scenelab.runs.run import Run

KINDS = ("cat", "dog", "owl")


def test_the_score_is_the_largest_logit_and_undefined_logits_have_the_least():
    logits = torch.tensor([[1.0, 3], [-2, -5], [math.nan, 9], [math.inf, 0], [-math.inf, -math.inf]])
    assert max_logit(logits).tolist() == [3, -2, -math.inf, -math.inf, -math.inf]


def test_the_threshold_refuses_at_most_one_in_twenty_of_further_images_on_average():
    assert fit_threshold(torch.arange(39.0).flip(0)) == 1  # the second smallest of 39
    assert fit_threshold(torch.arange(19.0)) == 0
    assert fit_threshold(torch.arange(18.0)) is None
    assert fit_threshold(torch.full((19,), -math.inf)) is None
    draws = torch.randn(4000, 59, generator=torch.Generator().manual_seed(0))
    thresholds = torch.tensor([fit_threshold(row) for row in draws])
    assert torch.special.ndtr(thresholds).mean().item() == pytest.approx(3 / 60, abs=0.002)


def test_the_area_under_the_curve_is_that_of_torchmetrics():
    model = create_model("residual-small", num_classes=1)
    model.threshold = 0.5
    generator = torch.Generator().manual_seed(0)
    known, unknown = (torch.randint(low, low + 9, (80, 1), generator=generator) / 16 for low in (2, 0))  # with ties
    truth = torch.cat([torch.ones(80), torch.zeros(80)]).int()
    result = measure_rejection(model, known, unknown, is_fitted=False)
    assert result.auroc == pytest.approx(binary_auroc(torch.cat([known, unknown])[:, 0], truth).item(), abs=1e-6)
    assert measure_rejection(model, known, torch.tensor([[math.nan]]), is_fitted=False).auroc == 1


def test_no_image_is_judged_by_a_threshold_that_it_helped_to_fit():
    model = create_model("residual-small", num_classes=2)
    model.threshold, model.temperature = 1.0, 2.0
    scores = torch.cat([torch.arange(40.0), torch.arange(40.0) + 10]).view(2, 40).T.flatten()  # low, high, low, …
    known = torch.stack([2 * scores, torch.full((80,), -99.0)], dim=1)
    fitted = measure_rejection(model, known, None, is_fitted=True)
    assert fitted.known.images == 69  # without those of the low half below 11, the second smallest of the high one
    other = measure_rejection(model, known, known[:4], is_fitted=False)
    assert other.known == share_of(79, 80)
    assert other.unknown == share_of(1, 4)
    assert measure_rejection(model, known[:37], None, is_fitted=True).known is None  # halves of 19 and 18


@pytest.fixture
def run(tmp_path) -> Run:
    """A run with random weights and 60 val images of noise, and a folder `other` of smooth images."""
    generator = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 20)):
        for name in KINDS:
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for index in range(count):
                pixels = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "data" / split / name / f"{index}.png")
    (tmp_path / "other" / "sub").mkdir(parents=True)
    for index in range(12):
        small = Image.fromarray(generator.integers(0, 256, (2, 2, 3), dtype=np.uint8))
        small.resize((32, 32)).save(tmp_path / "other" / ("sub" if index % 2 else "") / f"{index}.png")
    run = Run(tmp_path / "run")
    run.create(RunConfig(data=str(tmp_path / "data"), train=TrainConfig(stored_size=32, threads=1)))
    torch.manual_seed(0)
    network = create_model("residual-small", num_classes=3)
    network.network.fc.weight.data *= 100
    save_checkpoint(run.best, to_values(network, arch="residual-small", categories=KINDS, size=32, epoch=1))
    return run


def refused(network: Path, images: Path, capsys) -> list[bool]:
    capsys.readouterr()
    assert main.run(["predict", str(network), str(images), "--json"]) == 0
    return [entry["none_of_these"] for entry in json.loads(capsys.readouterr().out)]


def test_evaluate_fits_the_threshold_and_predict_says_none_of_these(run, tmp_path, capsys):
    other, val = tmp_path / "other", tmp_path / "data" / "val"
    assert refused(run.folder, other, capsys) == [None] * 12
    assert main.run(["evaluate", str(run.folder), "--unknown", str(other)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    rejection = EvaluationResult.read(run.results / "val.json").rejection
    assert rejection.threshold == json.loads(run.calibration.read_text())["threshold"]
    assert (
        f"none of these: {rejection.known.images} of 60, {rejection.known.text} %, images of the classes are " in said
    )
    share = f"{rejection.unknown.images} of 12, {rejection.unknown.text} %"
    assert f"none of these: {share}, other images are recognized, AUROC {rejection.auroc:.3f}" in said
    answers = refused(run.folder, other, capsys)
    assert sum(answers) == rejection.unknown.images
    assert sum(refused(run.folder, val, capsys)) in (2, 3)  # the third smallest score is the threshold itself
    assert main.run(["export", str(run.folder), "--format", "safetensors", "--limit", "4"]) == 0
    assert refused(run.folder / "export" / "model.safetensors", other, capsys) == answers
    assert open_network(run.folder)[1].model.threshold is None  # without temperature, logits have another scale
    assert main.run(["evaluate", str(run.folder), "--data", str(val), "--unknown", str(other), "--json"]) == 0
    again = json.loads(capsys.readouterr().out)["rejection"]
    assert again["unknown"]["images"] == rejection.unknown.images
    assert again["known"]["images"] == 58


def test_a_folder_without_images_and_a_network_without_threshold_are_named(run, tmp_path, capsys):
    for name in ("cat", "dog"):
        for path in (tmp_path / "data" / "val" / name).iterdir():
            path.unlink()
    assert main.run(["evaluate", str(run.folder), "--unknown", str(run.folder)]) == 1
    assert f"{run.folder} has no images; name a folder of images" in capsys.readouterr().err
    for index in range(2):
        (tmp_path / "data" / "val" / "owl" / f"{index}.png").unlink()
    assert main.run(["evaluate", str(run.folder), "--unknown", str(tmp_path / "other")]) == 1
    assert "fit one with 'scenelab evaluate RUN' on at least 19 held-out images" in capsys.readouterr().err


def test_text_csv_copies_and_python_say_none_of_these(run, tmp_path, capsys):
    assert main.run(["evaluate", str(run.folder)]) == 0
    values = json.loads(run.calibration.read_text())
    run.calibration.write_text(json.dumps(values | {"threshold": 1e9}))
    image = tmp_path / "data" / "val" / "cat" / "0.png"
    capsys.readouterr()
    assert main.run(["predict", str(run.folder), str(image), "--top", "1"]) == 0
    assert capsys.readouterr().out.startswith(f"{image}: none of these; the nearest classes are\n")
    out, copies = tmp_path / "out.csv", tmp_path / "copies"
    assert main.run(["predict", str(run.folder), str(image), "--csv", str(out), "--copy-into", str(copies)]) == 0
    assert capsys.readouterr().err.endswith("1 of 1 images are predicted, 1 of them as none of these\n")
    [row] = csv.DictReader(out.read_text().splitlines())
    assert row["none of these"] == "yes"
    assert row["class"] in KINDS
    assert (copies / "none of these" / "0.png").exists()
    guesses = scenelab.load(run.folder)(image)
    assert guesses.none_of_these is True
    run.calibration.write_text(json.dumps(values | {"threshold": -1e9}))
    guesses = scenelab.load(run.folder)(image)
    assert guesses.none_of_these is False
