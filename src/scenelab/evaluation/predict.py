"""Classify single image files."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.data.decode import read_images
from scenelab.runs.network import Stored


def rank(logits: Float[Tensor, "1 k"], categories: tuple[str, ...], *, count: int) -> list[tuple[str, float]]:
    """Return the `count` most likely categories of one image with their probabilities."""
    top = logits.softmax(dim=1)[0].topk(min(count, logits.shape[1]))
    return [(categories[label], share) for label, share in zip(top.indices.tolist(), top.values.tolist(), strict=True)]


@torch.no_grad()
def predict_files(stored: Stored, paths: list[Path], *, guesses: int = 5) -> list[dict[str, Any]]:
    """Return the most likely categories of each image file, averaged with its mirror image.

    Images may have any size: the shorter side is resized to the model's input and the center is cropped.

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
