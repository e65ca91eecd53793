"""Advice before a training: what the images allow to say, the time, and the question on a terminal."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from runs_compared import tiny
from scenelab.cli import main
from scenelab.cli.train import confirm
from scenelab.data.splits import open_split
from scenelab.errors import Interrupted, LabError
from scenelab.evaluation.intervals import wilson
from scenelab.models.registry import create_model
from scenelab.runs.checkpoint import save_checkpoint
from scenelab.runs.config import FinetuneConfig
from scenelab.runs.network import to_values
from scenelab.training import advice, memory
from scenelab.training.advice import advise, nearest_mean_hits


def make_images(folder: Path, counts: dict[str, int]) -> Path:
    """Images of a noisy gray level per class."""
    generator = np.random.default_rng(0)
    for label, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 30, (16, 16, 3)) + 80 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def network(tmp_path) -> Path:
    torch.manual_seed(0)
    path, model = tmp_path / "model.pth.tar", create_model("residual-small", num_classes=9)
    save_checkpoint(path, to_values(model, arch="residual-small", categories=tuple("abcdefghi"), size=32, epoch=1))
    return path


@pytest.fixture
def speed(monkeypatch) -> None:
    """A machine that trains on 10 images per second."""
    monkeypatch.setattr(advice, "measure_speeds", lambda subjects, categories: [10.0] * len(subjects))


def test_the_class_mean_of_an_image_leaves_it_out():
    features = torch.tensor([[0.0], [4.0], [5.0], [9.0], [9.0]])
    labels = torch.tensor([0, 0, 1, 1, 2])
    assert nearest_mean_hits(features, labels) == 1  # the 0, as its class is at 4 without it, and the others at 7 and 9
    generator = torch.Generator().manual_seed(0)
    features, labels = torch.randn(90, 3, generator=generator), torch.arange(90) % 3
    features[:, 0] += labels
    expected = 0
    for row in range(90):
        others = torch.arange(90) != row
        means = torch.stack([features[others & (labels == label)].mean(0) for label in range(3)])
        expected += int((features[row] - means).norm(dim=1).argmin() == labels[row])
    assert nearest_mean_hits(features, labels) == expected


def test_many_images_have_an_accuracy_to_expect_and_a_time(tmp_path, network, speed, monkeypatch):
    data = make_images(tmp_path / "data", {"dark": 44, "light": 33})
    finetune = FinetuneConfig(network=str(network))
    config = tiny(model="residual-small", epochs=30, holdout=0.1, balanced=True, finetune=finetune)
    text = advise(data, config, 5)
    assert text.startswith(
        f"fine-tuning {network} (residual-small) on 70 images of 2 classes, 30 (light) to 40 per class, drawn equally "
        "often: 5-fold cross-validation, at most 30 epochs per network, about 17.5 min on this machine. With so many "
        "images, training from scratch is usually less accurate than fine-tuning. Expect 100 % (95–100 %) or more: "
    )
    low, high = wilson(56, 70)
    assert text.endswith(f"With 70 images judged, an accuracy of 80 % is known to {low:.0f}–{high:.0f} %.")
    text = advise(data, config)
    assert "about 3.1 min on this machine" in text or "about 3.2 min" in text  # 30 epochs of nine tenths of 70 images
    assert "With 7 images judged" in text
    monkeypatch.setattr(advice, "SCRATCH", 70)
    text = advise(data, tiny(minutes=20))
    assert ": 20 minutes. With so many images, training from scratch may be as accurate as fine-tuning. " in text
    assert "What accuracy to expect is not known." in text
    assert f"With {len(open_split(data, 'val'))} images judged" in text


@pytest.mark.parametrize("counts", [{"a": 20, "b": 20}, {"a": 80, "b": 5}])
def test_too_few_images_say_nothing(tmp_path, network, speed, counts):
    text = advise(
        make_images(tmp_path / "data", counts),
        tiny(model="residual-small", finetune=FinetuneConfig(network=str(network))),
    )
    assert "To say what accuracy to expect, 50 images and 5 per class are needed." in text
    assert "Expect" not in text


class Terminal:
    """Standard input and output of a terminal on which a line is typed."""

    def __init__(self, line: str) -> None:
        self.line, self.written = line, ""

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.line

    def write(self, text: str) -> None:
        self.written += text

    def flush(self) -> None:
        pass


@pytest.mark.parametrize(
    ("line", "goes_on"), [("\n", True), ("Y\n", True), (" yes \n", True), ("n\n", False), ("", False)]
)
def test_a_terminal_is_asked(line, goes_on, monkeypatch):
    terminal = Terminal(line)
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr(sys, "stdout", terminal)
    if goes_on:
        confirm("advice", yes=False)
    else:
        with pytest.raises(Interrupted, match="nothing was trained"):
            confirm("advice", yes=False)
    assert terminal.written == "advice\ngo on? [Y/n] "
    confirm("more", yes=True)
    assert terminal.written.endswith("[Y/n] more\n")


def test_damaged_images_are_left_out_on_request(tmp_path, network, speed):
    data = make_images(tmp_path / "data", {"dark": 40, "light": 30})
    listing = open_split(data, "train")
    listing.file(3).write_bytes(b"damaged")
    with pytest.raises(LabError, match=listing.file(3).name):
        advice.expected_hits(listing, str(network))
    assert advice.expected_hits(listing, str(network), skips=True)[1] == len(listing) - 1


def test_the_time_is_measured_with_no_more_images_than_there_are_and_only_if_a_step_fits(tmp_path, monkeypatch):
    measured = []
    monkeypatch.setattr(
        advice,
        "measure_speeds",
        lambda subjects, _: [measured.append(config.batch_size) or 1.0 for config, _ in subjects],
    )
    data = make_images(tmp_path / "data", {"dark": 12, "light": 10})
    advise(data, tiny(holdout=0.1, batch_size=2**15))
    assert measured == [20]  # val is a tenth of each class
    monkeypatch.setattr(memory, "free_memory", lambda: 2**20)
    with pytest.raises(LabError, match="batch_size is 32768, with which a step needs about"):
        advise(data, tiny(holdout=0.1, batch_size=2**15))
    assert len(measured) == 1


def test_train_advises_on_own_images_before_a_new_run(tmp_path, scenes, monkeypatch, capsys):
    monkeypatch.setattr("scenelab.training.session.start_run", lambda *arguments, **options: 1 / 0)
    data = make_images(tmp_path / "data", {"a": 9, "b": 9})
    command = ["train", "laptop", "--out", str(tmp_path / "run"), "--minutes", "3", "--data"]
    with pytest.raises(ZeroDivisionError):
        main.run([*command, str(data)])
    assert capsys.readouterr().out.startswith("training from scratch (")
    with pytest.raises(ZeroDivisionError):
        main.run([*command, str(scenes)])
    assert "from scratch" not in capsys.readouterr().out
