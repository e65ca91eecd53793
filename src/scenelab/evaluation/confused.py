"""Draw images of the most confused classes."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Int64
from matplotlib import pyplot as plt
from torch import Tensor

from scenelab.data.cache import MemmapDataset
from scenelab.evaluation.figures import STYLE, save

PAIRS, EACH = 6, 4


def draw_confused(
    dataset: MemmapDataset, predicted: Int64[Tensor, " n"], pairs: list[dict[str, Any]], path: Path
) -> None:
    """Draw one row per pair of classes with its first misclassified images; without mistakes, remove the figure.

    Args:
        dataset: the evaluated split.
        predicted: predicted classes of all its images.
        pairs: `true` and `predicted` category, the most confused first.
        path: of the PNG.
    """
    path.unlink(missing_ok=True)  # of an earlier evaluation
    pairs = pairs[:PAIRS]
    if not pairs:
        return
    labels = {name: label for label, name in enumerate(dataset.categories)}
    figsize = (1.35 * EACH + 0.2, 1.62 * len(pairs) + 0.1)
    with plt.rc_context({**STYLE, "axes.grid": False}):
        figure, axes = plt.subplots(len(pairs), EACH, figsize=figsize, squeeze=False)
        for pair, line in zip(pairs, axes, strict=True):
            is_mistake = (dataset.labels == labels[pair["true"]]) & (predicted == labels[pair["predicted"]])
            images = dataset.gather(torch.nonzero(is_mistake)[:EACH, 0].numpy()).permute(0, 2, 3, 1).numpy()
            for axis in line:
                axis.axis("off")
            for axis, image in zip(line, images, strict=False):
                axis.imshow(image, interpolation="nearest")
            title = f"{pair['true']} taken for {pair['predicted']}, {pair['count']} of {pair['of']}"
            line[0].set_title(title.replace("_", " ").replace("$", r"\$"), fontsize=8, loc="left")
        save(figure, path)
