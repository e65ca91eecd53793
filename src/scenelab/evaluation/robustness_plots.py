"""Plots of robustness: accuracy against ε, and images beside their adversarial examples."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from matplotlib import pyplot as plt
from torch import Tensor

from scenelab.evaluation.attribution_plots import LINE_STYLES, show_image
from scenelab.evaluation.figures import STYLE, save

LEFTOVER = ("apgd-t", "square")  # these attack only images that resist the others
AMPLITUDE = 0.5  # the largest change of an image is drawn as this distance from gray


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image, its adversarial example, and the model's predictions on both."""

    image: Float[Tensor, "3 h w"]
    adversarial: Float[Tensor, "3 h w"]
    epsilon: str
    prediction: int
    confidence: float
    adversarial_prediction: int
    adversarial_confidence: float


def draw_robustness(result: dict[str, Any], path: Path) -> None:
    """Draw accuracy against ε: each attack that had all images, and the worst case with its 95 % interval."""
    entries = [entry for entry in result["epsilons"] if entry["attacks"]]
    names = [name for name in result["methods"] if name not in LEFTOVER]
    levels = [0.0, *(255 * entry["epsilon"] for entry in entries)]
    worst = [result["clean"], *(entry["worst"] for entry in entries)]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 4.3))
        for name, style in zip(names, LINE_STYLES[1:], strict=False):
            shares = [result["clean"], *(entry["attacks"][name]["left"] for entry in entries)]
            heights = [share["accuracy"] for share in shares]
            axis.plot(levels, heights, **{**style, "ms": 4, "lw": 1.2}, label=name)
        low, high = zip(*(share["interval"] for share in worst), strict=True)
        axis.fill_between(levels, low, high, color="0.6", alpha=0.35, lw=0, label="95 % of the worst case")
        heights = [share["accuracy"] for share in worst]
        axis.plot(levels, heights, "o-", color="black", ms=5, lw=1.8, label="worst case of all attacks")
        axis.set(xlabel="ε, levels of 255 (L∞)", ylim=(0, None), xlim=(0, None), xticks=levels)
        axis.set_ylabel(f"accuracy, % of {result['images']} {result['split']} images")
        axis.legend(fontsize=8)
        save(figure, path, vector=True)


def draw_samples(samples: list[Sample], categories: tuple[str, ...], path: Path) -> None:
    """Draw each image, its adversarial example and the amplified difference, with the predictions."""
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(len(samples), 3, figsize=(5.4, 1.95 * len(samples) + 0.3), squeeze=False)
        for sample, line in zip(samples, axes, strict=True):
            change = sample.adversarial - sample.image
            largest = change.abs().max().item()
            factor = AMPLITUDE / largest if largest else 1.0
            for axis, image in zip(line, (sample.image, sample.adversarial, 0.5 + factor * change), strict=True):
                show_image(axis, image.permute(1, 2, 0).numpy().clip(0, 1))
            after = f"{categories[sample.adversarial_prediction]} {100 * sample.adversarial_confidence:.0f} %"
            line[0].set_xlabel(f"{categories[sample.prediction]} {100 * sample.confidence:.0f} %", fontsize=7)
            line[1].set_xlabel(after, fontsize=7)
            line[2].set_xlabel(f"largest change {255 * largest:.0f} levels, shown {factor:.0f}×", fontsize=7)
        for axis, title in zip(axes[0], ("image", f"PGD, ε = {samples[0].epsilon}", "difference"), strict=True):
            axis.set_title(title, fontsize=9)
        save(figure, path)
