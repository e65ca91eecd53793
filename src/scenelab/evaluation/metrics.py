"""Logits over a split, and what they say: top-k accuracy, accuracy a class, confusion."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn
from torchmetrics.functional.classification import multiclass_confusion_matrix

from scenelab.data.augment import resize
from scenelab.data.cache import Packed
from scenelab.progress import progress

BATCH = 100


@torch.no_grad()
def predict_logits(
    model: nn.Module,
    packed: Packed,
    *,
    size: int,
    mirror: bool = False,
    device: torch.device | None = None,
    show: bool = True,
) -> Float[Tensor, "n k"]:
    """Logits of every image of a split, on the CPU, in the split's order.

    The model is put into eval mode for the time of the call.

    Args:
        size: side in pixels at which the images are shown to the model.
        mirror: average the logits of each image and of its mirror image, as the handout's evaluation does.
        show: draw a progress bar.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    device = device or next(model.parameters()).device
    outputs = []
    try:
        for images in _batches(packed, size, device, show):
            logits = model(images)
            outputs.append(((logits + model(images.flip(-1))) / 2 if mirror else logits).float().cpu())
    finally:
        for module, mode in modes.items():
            module.training = mode
    return torch.cat(outputs)


def _batches(packed: Packed, size: int, device: torch.device, show: bool) -> Iterator[Tensor]:
    bar = progress(f"evaluating {packed.split}", len(packed)) if show else nullcontext(lambda count: None)
    with bar as advance:
        for start in range(0, len(packed), BATCH):
            images = packed.rows(slice(start, start + BATCH)).to(device).float().div_(255)
            yield resize(images, size).contiguous(memory_format=torch.channels_last)
            advance(len(images))


def hits(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], k: int) -> Bool[Tensor, " n"]:
    """Whether the label is among the k largest logits; with fewer than k classes always."""
    return (logits.topk(min(k, logits.shape[1]), dim=1).indices == labels[:, None]).any(dim=1)


def top_k(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], k: int) -> float:
    """Top-k accuracy in percent."""
    return 100 * hits(logits, labels, k).double().mean().item()


def confusion(predicted: Int64[Tensor, " n"], labels: Int64[Tensor, " n"], classes: int) -> Int64[Tensor, "k k"]:
    """Counts by true class (row) and predicted class (column)."""
    return multiclass_confusion_matrix(predicted, labels, num_classes=classes)


def per_class(matrix: Int64[Tensor, "k k"]) -> Float[Tensor, " k"]:
    """Top-1 accuracy a class in percent; NaN for a class without images."""
    return 100 * matrix.diagonal().double() / matrix.sum(dim=1).double()


@dataclass(frozen=True, kw_only=True)
class ConfusedPair:
    """How often images of one class were taken for another."""

    true: str
    predicted: str
    count: int
    of: int


def most_confused(matrix: Int64[Tensor, "k k"], categories: tuple[str, ...], count: int = 10) -> list[ConfusedPair]:
    """The largest entries off the diagonal, largest first, ties in class order."""
    off = matrix.clone()
    off.fill_diagonal_(0)
    totals = matrix.sum(dim=1)
    order = off.flatten().argsort(descending=True, stable=True)[:count].tolist()
    pairs = [divmod(position, len(categories)) for position in order]
    return [
        ConfusedPair(
            true=categories[row], predicted=categories[column], count=int(off[row, column]), of=int(totals[row])
        )
        for row, column in pairs
        if off[row, column] > 0
    ]


def wilson(correct: int, count: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's score interval for a proportion, in percent; 95 % with the default z (Wilson 1927)."""
    if count == 0:
        return 0.0, 100.0
    share = correct / count
    centre = share + z * z / (2 * count)
    spread = z * (share * (1 - share) / count + z * z / (4 * count * count)) ** 0.5
    scale = 1 + z * z / count
    low, high = 100 * (centre - spread) / scale, 100 * (centre + spread) / scale
    return low if correct else 0.0, high if correct < count else 100.0  # exact where rounding would pass the share
