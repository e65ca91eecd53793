"""scenelab data describe --run: labels that a network disagrees with, judged by networks that have not seen them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scenelab.cli import main
from scenelab.data.splits import open_dataset
from scenelab.evaluation import suspicious_labels
from scenelab.evaluation.suspicious_labels import find_suspicious_labels, suspect
from scenelab.models.registry import create_model
from scenelab.runs.checkpoint import save_checkpoint
from scenelab.runs.config import RunConfig, TrainConfig
from scenelab.runs.network import to_values
from scenelab.runs.run import Run

COLORS = ("blue", "green", "red")  # in the order of labels
WRONG = ("train/green/9.png", "train/red/9.png", "val/blue/9.png")


def test_labels_are_suspicious_by_the_thresholds_of_both_classes():
    probabilities = torch.tensor(
        [
            [0.9, 0.1, 0.0],  # class 0: threshold 0.5
            [0.5, 0.5, 0.0],  # not below it
            [0.1, 0.6, 0.3],  # class 1 is more likely, but below its threshold of 0.8
            [0.05, 0.8, 0.15],  # suspicious
            [0.95, 0.05, 0.0],
            [0.0, 1.0, 0.0],  # class 1: threshold 0.7
            [0.6, 0.4, 0.0],  # suspicious, by a smaller difference
            [0.0, 1.0, 0.0],
        ]
    )
    labels = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1])
    assert suspect(probabilities, labels) == [(3, 1), (6, 0)]
    assert suspect(probabilities[:, [0, 2, 1]], labels.where(labels < 1, 2)) == [(3, 2), (6, 0)]  # a class of no images
    assert suspect(probabilities[:1], labels[:1]) == []


@pytest.fixture
def data(tmp_path) -> Path:
    """Images of a noisy color in folders of its name, three of them in a wrong one."""
    generator = np.random.default_rng(0)
    for split in ("train", "val"):
        for label, name in enumerate(COLORS):
            (tmp_path / "data" / split / name).mkdir(parents=True)
            for index in range(10):
                path = tmp_path / "data" / split / name / f"{index}.png"
                is_wrong = path.relative_to(tmp_path / "data").as_posix() in WRONG
                pixels = generator.integers(0, 100, (32, 32, 3), dtype=np.uint8)
                pixels[..., 2 - (label + is_wrong) % 3] += 90 if split == "val" else 120 + label
                Image.fromarray(pixels).save(path)
    return tmp_path / "data"


def make_run(folder: Path, data: Path, categories=COLORS, **config) -> Run:
    run, digest = Run(folder), open_dataset(data, None, "train", 32).digest
    config = TrainConfig(stored_size=32, threads=1, **config)
    run.create(RunConfig(data=str(data), train_digest=digest, train=config))
    network = create_model("residual-small", num_classes=len(categories))
    save_checkpoint(run.best, to_values(network, arch="residual-small", categories=categories, size=32, epoch=1))
    return run


@pytest.fixture
def judged(monkeypatch) -> list[tuple[float, tuple[str, ...]]]:
    """Replace networks by one that sees the color; return the first weight and the paths of each call."""
    calls = []

    def predict(model, dataset, *, size, mirror):
        calls.append((model.network.fc.weight[0, 0].item(), dataset.paths))
        return dataset.gather(slice(0, len(dataset))).float().mean((2, 3)).flip(1) / 20

    monkeypatch.setattr(suspicious_labels, "predict_logits", predict)
    return calls


def test_they_are_listed_and_shown_most_suspicious_first(data, judged, tmp_path, capsys):
    run = make_run(tmp_path / "run", data)
    assert main.run(["data", "describe", str(data), "--run", str(run.folder)]) == 0
    said = capsys.readouterr().out
    assert "suspicious labels: 3; few, as the network was trained on these images" in said
    assert "train/green/9.png is labeled green (" in said
    assert " and looks like red (" in said
    sheet = tmp_path / "sheet.jpg"
    assert main.run(["data", "describe", str(data), "--run", str(run.folder), "--sheet", str(sheet), "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["judged_unseen"] is False
    entries = result["suspicious_labels"]
    assert {entry["path"] for entry in entries} == set(WRONG)
    assert entries[-1]["path"] == "val/blue/9.png"
    assert {(entry["label"], entry["other"]) for entry in entries} == {
        ("green", "red"),
        ("red", "blue"),
        ("blue", "green"),
    }
    gaps = [entry["other_probability"] - entry["label_probability"] for entry in entries]
    assert gaps == sorted(gaps, reverse=True)
    with Image.open(sheet) as image:
        assert image.size == (8 * 96, 6 * (96 + 16))
        for row, entry in enumerate(entries):  # the image, then an empty place
            color = np.asarray(image)[row * 112 + 20 : row * 112 + 44, 4:28].mean((0, 1))
            assert COLORS[2 - color.argmax()] == entry["other"]
            assert np.asarray(image)[row * 112 + 20 : row * 112 + 44, 100:190].min() > 250


def test_each_training_image_is_judged_by_the_fold_that_holds_it_out(data, judged, tmp_path):
    run = make_run(tmp_path / "run", data)
    folds = [make_run(run.folder / "folds" / str(fold + 1), data, holdout=0.5, fold=fold) for fold in range(2)]
    weights = [
        float(torch.load(each.best, weights_only=True)["state_dict"]["fc.weight"][0, 0]) for each in (*folds, run)
    ]
    labels, is_unseen = find_suspicious_labels(run, data)
    assert (is_unseen, [weight for weight, _ in judged]) == (True, weights)
    first, second, val = (set(paths) for _, paths in judged)
    assert (len(first), len(second), len(val)) == (15, 15, 30)
    assert not first & second
    assert {(entry.split, entry.path) for entry in labels} == {(path.split("/")[0], path) for path in WRONG}
    (data / "train" / "red" / "0.png").unlink()  # the folds no longer fit
    assert find_suspicious_labels(run, data)[1] is False
    assert [weight for weight, _ in judged[3:]] == [weights[-1]] * 2


def test_other_classes_are_refused(data, judged, tmp_path, capsys):
    run = make_run(tmp_path / "run", data, categories=("a", "b", "c"))
    assert main.run(["data", "describe", str(data), "--run", str(run.folder)]) == 1
    assert "has other classes than" in capsys.readouterr().err
