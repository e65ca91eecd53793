"""What a network says about single pictures."""

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.data.decode import fit, read_image
from scenelab.runs.network import Stored


def rank(logits: Float[Tensor, "1 k"], categories: tuple[str, ...], *, count: int) -> list[tuple[str, float]]:
    """The most likely categories of one image with their probabilities."""
    best = logits.softmax(dim=1)[0].topk(min(count, logits.shape[1]))
    return [
        (categories[index], share) for index, share in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]


@torch.no_grad()
def predict_files(stored: Stored, paths: list[Path], *, guesses: int = 5) -> list[dict[str, Any]]:
    """The most likely categories of each image file with their probabilities, mirror-averaged.

    Images of any size are accepted: the shorter side is resized to the network's size and the centre is cut out.

    Raises:
        LabError: a file is missing or cannot be decoded.
    """
    results = []
    for path in paths:
        image = fit(read_image(path), stored.size).float().div(255)[None]
        logits = (stored.model(image) + stored.model(image.flip(-1))) / 2
        pairs = rank(logits, stored.categories, count=guesses)
        ranked = [{"category": category, "probability": share} for category, share in pairs]
        results.append({"image": str(path), "guesses": ranked})
    return results
