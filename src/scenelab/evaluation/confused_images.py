"""Sheet of misclassified images of the pairs of classes that a network confuses most."""

from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor

from scenelab.data.cache import MemmapDataset
from scenelab.evaluation.accuracy_results import ConfusedPair
from scenelab.evaluation.figures import label, new_figure

PAIRS, EACH = 6, 4  # pairs of classes on the sheet, and images of each


def draw_confused(
    dataset: MemmapDataset, predicted: Int64[Tensor, " n"], pairs: list[ConfusedPair], path: Path
) -> None:
    """Write a PNG of misclassified images, two pairs of classes per row; without pairs, delete the file."""
    path.unlink(missing_ok=True)  # of an earlier evaluation
    pairs = pairs[:PAIRS]
    if not pairs:
        return
    labels = {name: number for number, name in enumerate(dataset.categories)}
    beside = min(2, len(pairs))
    rows, columns = -(-len(pairs) // beside), EACH + 1  # the last one stays empty
    size, grid = (4.6 * beside, 1.4 * rows), {"left": 0.005, "right": 1, "wspace": 0.08, "hspace": 0.5}
    grid |= {"bottom": 0.02, "top": 1 - 0.38 / size[1]}  # titles are wider than an image, so nothing is fitted to them
    with new_figure(path, rows, columns * beside, size=size, images=True, layout="none", gridspec_kw=grid) as (_, axes):
        for axis in axes.flat:
            axis.axis("off")
        for pair, line in zip(pairs, axes.reshape(-1, columns), strict=False):
            is_mistake = (dataset.labels == labels[pair.true]) & (predicted == labels[pair.predicted])
            images = dataset.gather(torch.nonzero(is_mistake)[:EACH, 0].numpy()).permute(0, 2, 3, 1).numpy()
            for axis, image in zip(line, images, strict=False):
                axis.imshow(image, interpolation="nearest")
            names = [label(name.replace("_", " ")) for name in (pair.true, pair.predicted)]
            title = f"{names[0]}\ntaken for {names[1]}, {pair.count} of {pair.of}"
            line[0].set_title(title, fontsize=9, loc="left")
