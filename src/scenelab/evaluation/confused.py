"""Images of the classes that are taken for each other most often."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from matplotlib import pyplot as plt
from torch import Tensor

from scenelab.data.cache import Packed
from scenelab.evaluation.figures import STYLE, save

PAIRS, EACH = 6, 4


def draw_confused(packed: Packed, predicted: Int64[Tensor, " n"], pairs: list[dict[str, Any]], path: Path) -> None:
    """A row a pair of classes with the first images that were mistaken; nothing where there was no mistake.

    Args:
        predicted: first guesses of all images of the split.
        pairs: `true` and `predicted` category, the most confused first.
    """
    path.unlink(missing_ok=True)  # of an earlier evaluation
    shown = pairs[:PAIRS]
    if not shown:
        return
    names = {name: number for number, name in enumerate(packed.categories)}
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(
            len(shown), EACH, figsize=(1.35 * EACH + 0.2, 1.62 * len(shown) + 0.1), squeeze=False
        )
        for pair, line in zip(shown, axes, strict=True):
            mistaken = (packed.labels == names[pair["true"]]) & (predicted == names[pair["predicted"]])
            rows = torch.nonzero(mistaken)[:EACH, 0]
            images = packed.rows(rows.numpy()).permute(0, 2, 3, 1).numpy()
            for axis in line:
                axis.axis("off")
            for axis, image in zip(line, images, strict=False):
                axis.imshow(image, interpolation="nearest")
            text = f"{pair['true']} taken for {pair['predicted']}, {pair['count']} of {pair['of']}"
            line[0].set_title(text.replace("_", " ").replace("$", r"\$"), fontsize=8, loc="left")
        save(figure, path)
