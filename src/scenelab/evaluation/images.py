"""Images of a split as tensors, and the model's predictions on them."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.classifier import Model
from scenelab.data.augment import resize
from scenelab.data.cache import MemmapDataset

BATCH_SIZE = 50


def load_images(dataset: MemmapDataset, rows: list[int], side: int) -> Float[Tensor, "n 3 s s"]:
    """Return images of a split in [0, 1] at the evaluation size of a network."""
    if not rows:
        return torch.empty(0, 3, side, side)
    index = torch.tensor(rows, dtype=torch.int64).numpy()
    images = resize(dataset.gather(index).float().div_(255), side).clamp(0, 1)  # resizing can overshoot
    return images.contiguous(memory_format=torch.channels_last)


def spread_rows(total: int, count: int) -> list[int]:
    """Return at most `count` row indices, evenly spread over the total."""
    return torch.linspace(0, total - 1, min(total, count)).long().tolist()


def top1(
    model: Model, images: Float[Tensor, "n 3 h w"], *, batch_size: int = BATCH_SIZE
) -> tuple[Float[Tensor, " n"], Int64[Tensor, " n"]]:
    """Return confidence and class of the model's predictions."""
    with torch.no_grad():
        best = torch.cat([model(part) for part in images.split(batch_size)]).softmax(dim=1).max(dim=1)
    return best.values, best.indices
