"""Loading images of a split, and predicting the classes of images and image files."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.classifier import Model
from scenelab.data.augment import resize
from scenelab.data.cache import MemmapDataset
from scenelab.data.decode import read_images
from scenelab.runs.network import Stored

BATCH_SIZE = 50


def load_images(dataset: MemmapDataset, rows: list[int], side: int) -> Float[Tensor, "n 3 s s"]:
    """Return the images at indices `rows` of a split, in [0, 1], resized to `side` pixels."""
    if not rows:
        return torch.empty(0, 3, side, side)
    index = torch.tensor(rows, dtype=torch.int64).numpy()
    images = resize(dataset.gather(index).float().div_(255), side).clamp(0, 1)  # resizing can overshoot
    return images.contiguous(memory_format=torch.channels_last)


def spread_rows(total: int, count: int) -> list[int]:
    """Return at most `count` indices, evenly spaced from 0 to `total` - 1."""
    return torch.linspace(0, total - 1, min(total, count)).long().tolist()


def top1(
    model: Model, images: Float[Tensor, "n 3 h w"], *, batch_size: int = BATCH_SIZE
) -> tuple[Float[Tensor, " n"], Int64[Tensor, " n"]]:
    """Return the probability in [0, 1] and the index of the predicted class, per image."""
    with torch.no_grad():
        best = torch.cat([model(part) for part in images.split(batch_size)]).softmax(dim=1).max(dim=1)
    return best.values, best.indices


def rank(logits: Float[Tensor, "1 k"], categories: tuple[str, ...], *, count: int) -> list[tuple[str, float]]:
    """Return the `count` most likely categories of one image, and their probabilities in [0, 1]."""
    top = logits.softmax(dim=1)[0].topk(min(count, logits.shape[1]))
    return [(categories[label], share) for label, share in zip(top.indices.tolist(), top.values.tolist(), strict=True)]


@torch.no_grad()
def predict_files(stored: Stored, paths: list[Path], *, guesses: int = 5) -> list[dict[str, Any]]:
    """Return the `guesses` most likely categories of each image file, with probabilities in [0, 1].

    Each item has the keys `image` (path) and `guesses`. Logits are means over image and mirror image. The shorter
    side of an image is resized to the model's input size, and the center is cropped.

    Raises:
        LabError: a file is missing or cannot be decoded.
    """
    results = []
    for path in paths:
        image = read_images([path], stored.size)
        logits = (stored.model(image) + stored.model(image.flip(-1))) / 2
        pairs = rank(logits, stored.categories, count=guesses)
        ranked = [{"category": category, "probability": share} for category, share in pairs]
        results.append({"image": str(path), "guesses": ranked})
    return results
