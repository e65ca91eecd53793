"""Robustness in pictures: accuracy against ε, and images beside what an attack makes of them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from matplotlib import pyplot as plt
from torch import Tensor

from scenelab.evaluation.attention_figures import LOOKS
from scenelab.evaluation.figures import STYLE, save

LEFTOVER = ("apgd-t", "square")  # have only what the others leave
AMPLIFIED = 0.5  # of the range that the largest change of an image is shown as, up and down from grey


@dataclass(frozen=True, kw_only=True)
class Sample:
    """An image, its adversarial one, and what the model says of both."""

    image: Float[Tensor, "3 h w"]
    adversarial: Float[Tensor, "3 h w"]
    epsilon: str
    guess: int
    confidence: float
    fooled: int
    certainty: float


def draw_robustness(result: dict[str, Any], path: Path) -> None:
    """Accuracy against ε: each attack that had all images, and the worst of all, with its 95 % interval."""
    entries = [entry for entry in result["epsilons"] if entry["attacks"]]
    names = [name for name in result["methods"] if all("left" in entry["attacks"][name] for entry in entries)]
    names = [name for name in names if name not in LEFTOVER]
    clean = result["clean"]
    whole = [0.0, *(255 * entry["epsilon"] for entry in entries)]
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 4.3))
        for name, look in zip(names, LOOKS[1:], strict=False):
            heights = [clean["accuracy"], *(entry["attacks"][name]["left"]["accuracy"] for entry in entries)]
            axis.plot(whole, heights, **{**look, "ms": 4, "lw": 1.2}, label=name)
        worst = [clean, *(entry["worst"] for entry in entries)]
        heights = [share["accuracy"] for share in worst]
        axis.fill_between(
            whole, [share["interval"][0] for share in worst], [share["interval"][1] for share in worst],
            color="0.6", alpha=0.35, lw=0, label="95 % of the worst case",
        )  # fmt: skip
        axis.plot(whole, heights, "o-", color="black", ms=5, lw=1.8, label="worst case of all attacks found")
        axis.set(
            xlabel="ε, levels of 255 (L∞)", ylabel=f"accuracy, % of {result['images']} {result['split']} images",
            ylim=(0, None), xlim=(0, None),
        )  # fmt: skip
        axis.set_xticks(whole)
        axis.legend(fontsize=8)
        save(figure, path, vector=True)


def draw_samples(samples: list[Sample], categories: tuple[str, ...], path: Path) -> None:
    """Each image, its adversarial one and the amplified difference, with what the model says."""
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(len(samples), 3, figsize=(5.4, 1.95 * len(samples) + 0.3), squeeze=False)
        for sample, line in zip(samples, axes, strict=True):
            change = sample.adversarial - sample.image
            largest = change.abs().max().item()
            shown = 0.5 + AMPLIFIED * change / largest if largest else change + 0.5
            for axis, picture in zip(line, (sample.image, sample.adversarial, shown), strict=True):
                axis.imshow(picture.permute(1, 2, 0).numpy().clip(0, 1), interpolation="nearest")
                axis.set_xticks([])
                axis.set_yticks([])
                for spine in axis.spines.values():
                    spine.set_visible(False)
            line[0].set_xlabel(f"{categories[sample.guess]} {100 * sample.confidence:.0f} %", fontsize=7)
            line[1].set_xlabel(f"{categories[sample.fooled]} {100 * sample.certainty:.0f} %", fontsize=7)
            factor = AMPLIFIED / largest if largest else 1
            line[2].set_xlabel(f"largest change {255 * largest:.0f} levels, shown {factor:.0f}×", fontsize=7)
        axes[0][0].set_title("image", fontsize=9)
        axes[0][1].set_title(f"PGD, ε = {samples[0].epsilon}", fontsize=9)
        axes[0][2].set_title("difference", fontsize=9)
        save(figure, path)
