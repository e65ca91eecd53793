"""Evaluation of images and mirror images in one batch, and in bfloat16 where that is faster."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from scenelab.cli import main
from scenelab.data.cache import MemmapDataset
from scenelab.evaluation import precision
from scenelab.evaluation.metrics import BATCH, predict_logits
from scenelab.evaluation.precision import MARGIN, measure_bfloat16, predict_mirrored
from scenelab.io import read_json
from scenelab.models.inference import prepare_for_inference
from scenelab.models.normalize import Classifier
from scenelab.models.registry import create_model

SIDE, CLASSES = 16, 5


def make_dataset(count: int) -> MemmapDataset:
    return MemmapDataset(
        images=np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), dtype=np.uint8),
        labels=torch.arange(count) % CLASSES,
        paths=tuple(f"{index}.jpg" for index in range(count)),
        categories=tuple("abcde"),
        split="val",
        digest="",
    )


class Recorded(nn.Module):
    """A linear network that records whether each batch is in bfloat16, and its number of images."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.fc = nn.Linear(3 * SIDE * SIDE, CLASSES)
        self.batches: list[tuple[bool, int]] = []

    def forward(self, images):
        self.batches.append((torch.is_autocast_enabled("cpu"), len(images)))
        return self.fc(images.flatten(1))

    def __deepcopy__(self, memo):
        return self  # so that the test sees the batches


@pytest.fixture
def model(monkeypatch) -> Classifier:
    """A classifier; speeds are measured for any number of images."""
    monkeypatch.setattr(precision, "MIN_IMAGES", 1)
    return Classifier(Recorded()).eval()


def batches(model: Classifier) -> list[tuple[bool, int]]:
    assert isinstance(model.network, Recorded)
    return model.network.batches


def test_image_and_mirror_image_in_one_batch_have_the_same_logits_as_alone():
    torch.manual_seed(0)
    model = create_model("residual-small", num_classes=CLASSES)
    for _ in range(3):
        model.train()(torch.rand(8, 3, SIDE, SIDE))  # else batch normalization changes nothing
    model.eval()
    dataset = make_dataset(BATCH + 3)
    images = dataset.gather(slice(None)).float() / 255
    with torch.no_grad():
        alone, mirrored = (torch.cat([model(image[None]) for image in each]) for each in (images, images.flip(-1)))
    outputs = predict_mirrored(model, dataset, size=SIDE, precision="float32")
    expected = (alone + mirrored) / 2
    scale = expected.abs().max().item()
    for ours, theirs in ((outputs.plain, alone), (outputs.mirrored, expected)):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * scale)
    ours = predict_logits(model, dataset, size=SIDE, mirror=True, show=False)
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5 * scale)
    assert outputs.precision == "float32"
    assert any(isinstance(module, nn.BatchNorm2d) for module in model.modules())


def test_images_with_two_close_classes_are_computed_again_in_float32(model, monkeypatch):
    dataset, error = make_dataset(2 * BATCH + 7), 0.02
    exact = predict_mirrored(model, dataset, size=SIDE, precision="float32")
    monkeypatch.setattr(precision, "measure_bfloat16", lambda forward: error)
    batches(model).clear()
    outputs = predict_mirrored(model, dataset, size=SIDE)
    assert [size for is_half, size in batches(model) if is_half] == [2 * BATCH, 2 * BATCH, 14]
    repeated = sum(size for is_half, size in batches(model) if not is_half) // 2
    assert outputs.precision == f"bfloat16, {repeated} of {len(dataset)} images again in float32"
    is_exact = ((outputs.plain - exact.plain).abs() < 1e-6).all(dim=1)
    assert is_exact.sum() == repeated
    assert 0 < repeated < len(dataset)
    assert not torch.equal(outputs.plain, exact.plain)
    for ours, theirs in ((outputs.plain, exact.plain), (outputs.mirrored, exact.mirrored)):
        top = theirs.topk(2, dim=1).values
        assert is_exact[top[:, 0] - top[:, 1] < MARGIN * error - 0.01].all()  # margins in bfloat16 are a bit different
        assert torch.equal(ours.argmax(dim=1), theirs.argmax(dim=1))


@pytest.mark.parametrize(("precision_", "images"), [("float32", 40), ("auto", 30)])
def test_float32_by_choice_and_for_few_images(precision_, images, model, monkeypatch):
    monkeypatch.setattr(precision, "MIN_IMAGES", 40)
    monkeypatch.setattr(precision, "measure_bfloat16", lambda forward: 0.02)
    outputs = predict_mirrored(model, make_dataset(images), size=SIDE, precision=precision_)
    assert outputs.precision == "float32"
    assert batches(model) == [(False, 2 * images)]


def test_a_layer_that_takes_no_bfloat16_is_computed_in_float32(model, monkeypatch):
    def refuse(module, arguments):
        if torch.is_autocast_enabled("cpu"):
            raise RuntimeError("expected float32")

    model.network.register_forward_pre_hook(refuse)
    assert predict_mirrored(model, make_dataset(20), size=SIDE).precision == "float32"


@pytest.mark.parametrize(("gain", "is_used", "most"), [(3.0, True, 16), (1.05, False, 16), (0.2, False, 2)])
def test_bfloat16_is_used_where_it_is_faster_by_the_clock(gain, is_used, most, monkeypatch):
    """The first batch of each precision takes long, as it does where kernels are prepared."""
    clock, seen, counts = [0.0], set(), []
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    def forward(rows):
        is_half = torch.is_autocast_enabled("cpu")
        clock[0] += 1 / gain if is_half else 1.0
        clock[0] += 0 if is_half in seen else 10
        seen.add(is_half)
        counts.append(len(rows))
        return torch.full((2, len(rows), CLASSES), 0.5 if is_half else 0.0)

    assert measure_bfloat16(forward) == (0.5 if is_used else None)
    assert max(counts) == most


def test_undefined_logits_are_computed_again():
    logits = torch.tensor([[1.0, 0.0], [math.nan, 0.0], [math.inf, math.inf], [0.2, 0.1]])
    assert precision._is_close(logits, 0.5).tolist() == [False, True, True, True]
    assert precision._is_close(logits[:, :1], 0.5).all()  # one class


def test_only_plain_sequences_are_folded():
    class Twice(nn.Sequential):
        def forward(self, images):
            return self[1](self[0](images)) + self[0](images)

    torch.manual_seed(0)
    model = Classifier(nn.Sequential(Twice(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), nn.Flatten()))
    images = torch.rand(8, 3, SIDE, SIDE)
    model.train()(images)
    model.eval()
    torch.testing.assert_close(prepare_for_inference(model)(images), model(images), rtol=0, atol=1e-5)


def test_the_result_states_the_precision(untrained, monkeypatch, capsys):
    monkeypatch.setattr(precision, "MIN_IMAGES", 1)
    monkeypatch.setattr(precision, "measure_bfloat16", lambda forward: math.inf)
    for options, expected in (
        ([], "bfloat16, 36 of 36 images again in float32"),
        (["--precision", "float32"], "float32"),
    ):
        assert main.run(["evaluate", str(untrained.folder), *options]) == 0
        assert f"precision: {expected}\n" in capsys.readouterr().out
        assert read_json(untrained.results / "val.json")["precision"] == expected
