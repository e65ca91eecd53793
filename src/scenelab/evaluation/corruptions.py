"""Accuracy on corrupted images: blur, noise, JPEG, light, rotation and crops, at five strengths each.

The strengths of blur, noise, JPEG and brightness are those of Tiny ImageNet-C, which has images of 64×64 pixels
(Hendrycks & Dietterich 2019; `make_tinyimagenet_c.py` in github.com/hendrycks/robustness). Darkness, rotation and
crop are not among their corruptions; their strengths are our choice.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Generator
from torchvision.transforms.v2.functional import gaussian_blur

from scenelab.classifier import Images, Model
from scenelab.data.augment import uniform, warp
from scenelab.data.cache import MemmapDataset
from scenelab.evaluation.adversarial import round_to_levels, through_file
from scenelab.evaluation.corruption_results import CorruptionCurve, CorruptionResult
from scenelab.evaluation.figures import new_figure, show_image
from scenelab.evaluation.metrics import hits
from scenelab.evaluation.predict import BATCH_SIZE, load_images, spread_rows
from scenelab.evaluation.results import Share, share_of, stamp_result
from scenelab.models.inference import prepare_for_inference
from scenelab.progress import progress
from scenelab.runs.network import Stored
from scenelab.runs.run import Run

COLUMNS = 4  # panels side by side


def blur(images: Images, sigma: float, generator: Generator) -> Images:
    """Blur with a Gaussian whose standard deviation is `sigma` 64ths of the image's side, cut off at 4 σ."""
    pixels = sigma * images.shape[-1] / 64
    return gaussian_blur(images, 2 * [2 * math.ceil(4 * pixels) + 1], 2 * [pixels])


def add_noise(images: Images, deviation: float, generator: Generator) -> Images:
    """Add Gaussian noise with this standard deviation, and clip to [0, 1]."""
    return (images + deviation * torch.randn(images.shape, generator=generator)).clamp_(0, 1)


def compress(images: Images, quality: float, generator: Generator) -> Images:
    """Save each image as JPEG of this quality, and read it."""
    return torch.stack([through_file(image, "JPEG", quality=int(quality)) for image in images])


def brighten(images: Images, change: float, generator: Generator) -> Images:
    """Add `change` to the value, the largest of a pixel's channels, at the same hue and saturation; clip it to 1."""
    value = images.amax(dim=1, keepdim=True)
    return torch.where(value > 0, images * ((value + change).clamp(max=1) / value), change)


def darken(images: Images, factor: float, generator: Generator) -> Images:
    """Multiply all values by `factor`."""
    return factor * images


def rotate(images: Images, degrees: float, generator: Generator) -> Images:
    """Rotate each image to a random side, and enlarge the largest central square without corners from outside."""
    angle = math.radians(degrees)
    cos, sin = (part / (math.cos(angle) + math.sin(angle)) for part in (math.cos(angle), math.sin(angle)))
    sign = (uniform(len(images), -1, 1, generator) < 0).float() * 2 - 1
    maps = torch.zeros(len(images), 2, 3)
    maps[:, 0, 0], maps[:, 0, 1], maps[:, 1, 0], maps[:, 1, 1] = cos, -sin * sign, sin * sign, cos
    return warp(images, maps, images.shape[-1])


def crop(images: Images, side: float, generator: Generator) -> Images:
    """Enlarge a square at a random place whose side is `side` times that of the image."""
    maps = torch.zeros(len(images), 2, 3)
    maps[:, 0, 0] = maps[:, 1, 1] = side
    room = (1 - side) * (1 - 1 / images.shape[-1])  # so that no pixel is interpolated with the outside
    maps[:, :, 2] = uniform(2 * len(images), -room, room, generator).view(-1, 2)
    return warp(images, maps, images.shape[-1])


class Corruption(NamedTuple):
    """Function of images, strength and generator; the meaning of a strength; five strengths, the mildest first."""

    apply: Callable[[Images, float, Generator], Images]
    unit: str
    values: tuple[float, ...]


CORRUPTIONS = {
    "blur": Corruption(blur, "σ in 64ths of the side", (0.5, 0.75, 1, 1.25, 1.5)),
    "noise": Corruption(add_noise, "standard deviation", (0.04, 0.08, 0.12, 0.15, 0.18)),
    "JPEG": Corruption(compress, "quality", (65, 58, 50, 40, 25)),
    "brightness": Corruption(brighten, "added to the value", (0.1, 0.2, 0.3, 0.4, 0.5)),
    "darkness": Corruption(darken, "factor", (0.8, 0.65, 0.5, 0.35, 0.2)),
    "rotation": Corruption(rotate, "degrees", (5, 10, 15, 20, 30)),
    "crop": Corruption(crop, "share of the side", (0.9, 0.8, 0.7, 0.6, 0.5)),
}


def measure_corruptions(
    run: Run, stored: Stored, dataset: MemmapDataset, *, count: int, seed: int = 0
) -> CorruptionResult:
    """Corrupt `count` evenly spaced images of a split, at the network's input size; write results and figures.

    As in `evaluate`, the logits are means over image and mirror image. Noise, sides and places are the same at all
    strengths.
    """
    rows = spread_rows(len(dataset), count)
    images, labels = round_to_levels(load_images(dataset, rows, stored.size)), dataset.labels[torch.tensor(rows)]
    model = prepare_for_inference(stored.model)
    curves, passes = {}, 1 + sum(len(kind.values) for kind in CORRUPTIONS.values())
    with progress("corrupting", passes * len(rows)) as advance:

        def measure(kind: Corruption, value: float) -> Share:
            generator, correct = torch.Generator().manual_seed(seed), 0
            for batch, truth in zip(images.split(BATCH_SIZE), labels.split(BATCH_SIZE), strict=True):
                logits = _mirrored(model, kind.apply(batch, value, generator))
                correct += int(hits(logits, truth, 1).sum())
                advance(len(batch))
            return share_of(correct, len(images))

        clean = measure(Corruption(lambda batch, value, generator: batch, "", ()), 0)
        for name, kind in CORRUPTIONS.items():
            accuracy = tuple(measure(kind, value) for value in kind.values)
            curves[name] = CorruptionCurve(unit=kind.unit, values=kind.values, accuracy=accuracy)
    header = {"split": dataset.split, "digest": dataset.digest, "images": len(rows), "seed": seed, "clean": clean}
    result = CorruptionResult(**stamp_result(run, stored.arch, stored.size), **header, curves=curves)
    result.write(run.results / "corruptions.json")
    draw_corruptions(result, run.results / "corruptions" / "corruptions.png")
    draw_corrupted(images[:1], result, run.results / "corruptions" / "samples.png")
    return result


@torch.no_grad()
def _mirrored(model: Model, images: Images) -> torch.Tensor:
    images = images.contiguous(memory_format=torch.channels_last)
    return (model(images) + model(images.flip(-1))) / 2


def draw_corruptions(result: CorruptionResult, path: Path) -> None:
    """Draw accuracy against strength with 95 % intervals, a panel per kind of corruption, as PNG and SVG."""
    lines = -(-len(result.curves) // COLUMNS)
    with new_figure(path, lines, COLUMNS, size=(9.6, 2.5 * lines), sharey=True, squeeze=False) as (figure, axes):
        for axis, (name, curve) in zip(axes.flat, result.curves.items(), strict=False):
            shares = [result.clean, *curve.accuracy]
            low, high = zip(*(share.interval for share in shares), strict=True)
            axis.fill_between(range(len(shares)), low, high, color="C0", alpha=0.25, lw=0, label="95 % interval")
            axis.plot([share.accuracy for share in shares], "o-", ms=4, color="C0", label="corrupted")
            axis.axhline(result.clean.accuracy, color="black", ls="--", lw=0.8, label="as they are")
            axis.set_xticks(range(len(shares)), ["none", *(f"{value:g}" for value in curve.values)], fontsize=8)
            axis.set(ylim=(0, 100))
            axis.set_title(name, fontsize=10)
            axis.set_xlabel(curve.unit, fontsize=9)
        for axis in axes.flat[len(result.curves) :]:
            axis.axis("off")
            axis.legend(*axes[0, 0].get_legend_handles_labels(), title="images", loc="center")
        figure.supylabel(f"top-1 accuracy, % of {result.images} images ({result.split})", fontsize=10)


def draw_corrupted(image: Images, result: CorruptionResult, path: Path) -> None:
    """Write a PNG of one image (a batch of one) under all corruptions; below each, strength and accuracy of all."""
    names, count = list(result.curves), max(len(curve.values) for curve in result.curves.values())
    size = (1.2 * count + 0.3, 1.35 * len(names))
    with new_figure(path, len(names), count, size=size, images=True, squeeze=False) as (_, axes):
        for name, line in zip(names, axes, strict=True):
            curve = result.curves[name]
            line[0].set_ylabel(name, fontsize=10)
            for axis, value, share in zip(line, curve.values, curve.accuracy, strict=True):
                generator = torch.Generator().manual_seed(result.seed)
                pixels = CORRUPTIONS[name].apply(image, value, generator)[0]
                show_image(axis, pixels.permute(1, 2, 0).numpy().clip(0, 1))
                axis.set_xlabel(f"{value:g}: {share.accuracy:.0f} %", fontsize=9)
