"""Corruptions of images by hand, and the accuracy on them that `scenelab robustness --corruptions` writes."""

import json
import shutil
from itertools import pairwise

import pytest
import torch
from torch import Generator

from scenelab.cli import main
from scenelab.evaluation.corruption_results import CorruptionResult
from scenelab.evaluation.corruptions import CORRUPTIONS, blur, brighten, crop, rotate
from scenelab.io import read_json
from scenelab.runs.run import Run


def generator() -> Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def images() -> torch.Tensor:
    """Smooth images with values from 0 to 1."""
    coarse = torch.rand(4, 3, 6, 6, generator=generator())
    images = torch.nn.functional.interpolate(coarse, size=(48, 48), mode="bicubic").clamp(0, 1)
    assert images.min() == 0
    assert images.max() == 1
    return images


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_grows_with_its_strength_and_stays_in_range(images, name):
    before, distances = images.clone(), []
    for value in CORRUPTIONS[name].values:
        changed = CORRUPTIONS[name].apply(images, value, generator())
        assert changed.shape == images.shape
        assert changed.min() >= 0
        assert changed.max() <= 1 + 1e-6
        assert torch.equal(changed, CORRUPTIONS[name].apply(images, value, generator()))
        distances.append((changed - images).abs().mean().item())
    assert torch.equal(images, before)
    assert len(distances) == 5
    assert all(first < second for first, second in pairwise([0, *distances]))


@pytest.mark.parametrize(("side", "center"), [(64, 0.159), (128, 0.0398)])
def test_blur_scales_with_the_image(side, center):
    """The center of a blurred dot is 1 / (2 π σ²), for a σ of 1 and of 2 pixels."""
    dot = torch.zeros(1, 1, side, side)
    dot[0, 0, side // 2, side // 2] = 1
    assert blur(dot, 1.0, generator()).max().item() == pytest.approx(center, abs=0.004)


def test_brightness_keeps_hue_and_saturation():
    pixels = torch.tensor([[0.2, 0.4, 0.1], [0.0, 0.0, 0.0], [0.5, 0.95, 0.5], [1.0, 1.0, 1.0]]).T.reshape(1, 3, 2, 2)
    expected = torch.tensor([[0.25, 0.5, 0.125], [0.1] * 3, [0.5 / 0.95, 1, 0.5 / 0.95], [1.0, 1.0, 1.0]])
    torch.testing.assert_close(brighten(pixels, 0.1, generator()).reshape(3, 4).T, expected)


def test_noise_has_the_deviation_and_jpeg_keeps_gray():
    gray = torch.full((1, 3, 64, 64), 128 / 255)
    assert CORRUPTIONS["noise"].apply(gray, 0.1, generator()).std().item() == pytest.approx(0.1, rel=0.03)
    torch.testing.assert_close(CORRUPTIONS["JPEG"].apply(gray, 25, generator()), gray)


def test_a_quarter_turn_goes_either_way_and_no_corner_comes_from_outside(images):
    turned = rotate(images, 90, generator())
    sides = [next(k for k in (1, -1) if torch.allclose(one, image.rot90(k, (1, 2)), atol=1e-4))
             for one, image in zip(turned, images, strict=True)]  # fmt: skip
    assert set(sides) == {1, -1}
    white = torch.ones(8, 3, 20, 20)
    for degrees in (5, 30, 45):
        torch.testing.assert_close(rotate(white, degrees, generator()), white)


def test_a_crop_is_a_part_at_a_random_place():
    ramp = torch.linspace(0, 1, 40).expand(8, 3, 40, 40)
    parts = crop(ramp, 0.5, generator())
    torch.testing.assert_close(parts[..., -1] - parts[..., 0], torch.full((8, 3, 40), 0.5), atol=0.01, rtol=0)
    assert len({round(part[0, 0, 0].item(), 3) for part in parts}) == 8
    torch.testing.assert_close(crop(torch.ones(64, 3, 20, 20), 0.6, generator()), torch.ones(64, 3, 20, 20))


@pytest.fixture
def run(untrained, tmp_path) -> Run:
    return Run(shutil.copytree(untrained.folder, tmp_path / "run"))


def test_the_command_writes_accuracies_with_intervals_and_figures(run, capsys, monkeypatch):
    """Without corruption the accuracy is that of `evaluate`, and with it that of the corrupted images."""
    command = ["robustness", str(run.folder), "--corruptions"]
    assert main.run([*command, "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == read_json(run.results / "corruptions.json")
    assert result["clean"]["accuracy"] == pytest.approx(read_json(run.results / "val.json")["mirror"]["top1"])
    for name, curve in CorruptionResult.read(run.results / "corruptions.json").curves.items():
        assert curve.values == CORRUPTIONS[name].values
        assert all(share.interval[0] <= share.accuracy <= share.interval[1] for share in curve.accuracy)
        assert [share.of for share in curve.accuracy] == [result["images"]] * 5
    files = {path.name for path in (run.results / "corruptions").iterdir()}
    assert files == {"corruptions.png", "corruptions.svg", "samples.png"}
    always_right = {"brightness": CORRUPTIONS["darkness"]._replace(apply=lambda images, value, generator: images)}
    monkeypatch.setattr("scenelab.evaluation.corruptions.CORRUPTIONS", always_right)
    assert main.run(command) == 0
    (curve,) = read_json(run.results / "corruptions.json")["curves"].values()
    assert curve["accuracy"] == [result["clean"]] * 5
    text = capsys.readouterr().out
    assert "as they are; accuracy in % with" in " ".join(text.split())
    assert "strengths of brightness: 0.8, 0.65, 0.5, 0.35, 0.2 (factor)" in text
    assert f"figures: {run.results / 'corruptions'}" in text


@pytest.mark.parametrize("flag", ["--thorough", "--epsilons 4/255"])
def test_flags_of_attacks_are_refused(run, flag, capsys):
    assert main.run(["robustness", str(run.folder), "--corruptions", *flag.split()]) == 1
    assert "--corruptions attacks nothing; leave them out" in capsys.readouterr().err
