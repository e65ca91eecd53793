"""Logits over a split, and metrics from logits: top-k accuracy, accuracy per class, and confusion matrix."""

import math
from contextlib import nullcontext

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from scenelab.classifier import eval_mode, no_progress
from scenelab.data.augment import resize
from scenelab.data.cache import MemmapDataset
from scenelab.evaluation.accuracy_results import ClassScore, ConfusedPair
from scenelab.progress import progress

BATCH = 100


def predict_logits(
    model: nn.Module,
    dataset: MemmapDataset,
    *,
    size: int,
    mirror: bool = False,
    device: torch.device | None = None,
    show: bool = True,
) -> Float[Tensor, "n k"]:
    """Return the logits of every image of a split, on the CPU, in the split's order.

    Images are resized to `size` pixels and moved to `device`, by default the device of the model's parameters. `mirror`
    averages the logits of image and mirror image. `show` displays a progress bar.
    """
    device, outputs = device or next(model.parameters()).device, []
    bar = progress(f"evaluating {dataset.split}", len(dataset)) if show else nullcontext(no_progress)
    with eval_mode(model), torch.no_grad(), bar as advance:
        for start in range(0, len(dataset), BATCH):
            rows = slice(start, start + BATCH)
            outputs.append(batch_logits(model, dataset, rows, size=size, mirror=mirror, device=device).mean(dim=0))
            advance(len(outputs[-1]))
    return torch.cat(outputs)


def batch_logits(
    model: nn.Module, dataset: MemmapDataset, rows: np.ndarray | slice, *, size: int, mirror: bool, device: torch.device
) -> Float[Tensor, "v n k"]:
    """Return the logits of the images at `rows`, and with `mirror` of their mirror images, computed as one batch."""
    images = resize(dataset.gather(rows).to(device).float().div_(255), size)
    images = torch.cat([images, images.flip(-1)]) if mirror else images
    logits = model(images.contiguous(memory_format=torch.channels_last)).float().cpu()
    return logits.unflatten(0, (1 + mirror, -1))


def is_undefined(logits: Float[Tensor, "n k"]) -> Bool[Tensor, " n"]:
    """Return a mask of the images without probabilities: a logit is NaN or +∞, or all are -∞."""
    return logits.softmax(dim=1).isnan().any(dim=1)


def max_logit(logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"]:
    """Return the largest logit per image (MaxLogit of Hendrycks et al. 2022); -∞ if it is undefined."""
    return torch.where(is_undefined(logits), -math.inf, logits.max(dim=1).values)


def hits(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], k: int) -> Bool[Tensor, " n"]:
    """Return a mask of the images with the label among the k largest logits; false where they are undefined.

    With at most k classes, the mask is true for every other image.
    """
    is_hit = (logits.topk(min(k, logits.shape[1]), dim=1).indices == labels[:, None]).any(dim=1)
    return is_hit & ~is_undefined(logits)


def top_k(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"], k: int) -> float:
    """Return the top-k accuracy in percent."""
    return 100 * hits(logits, labels, k).double().mean().item()


def confusion(predicted: Int64[Tensor, " n"], labels: Int64[Tensor, " n"], classes: int) -> Int64[Tensor, "k k"]:
    """Return the confusion matrix: counts by true class (rows) and predicted class (columns)."""
    return torch.bincount(labels * classes + predicted, minlength=classes**2).view(classes, classes)


def per_class(matrix: Int64[Tensor, "k k"], totals: Int64[Tensor, " k"] | None = None) -> Float[Tensor, " k"]:
    """Return the top-1 accuracy per class in percent; NaN for a class without images.

    `totals` are the numbers of images per class, by default the sums of the matrix's rows.
    """
    totals = matrix.sum(dim=1) if totals is None else totals
    return 100 * matrix.diagonal().double() / totals.double()


def class_scores(matrix: Int64[Tensor, "k k"], totals: Int64[Tensor, " k"]) -> list[ClassScore]:
    """Return precision, recall, their harmonic mean F1 and support of each class; arguments as for `per_class`."""
    right, predicted = matrix.diagonal().double(), matrix.sum(dim=0)
    columns = [100 * right / predicted, 100 * right / totals, 200 * right / (predicted + totals), totals]
    rows = zip(*(column.tolist() for column in columns), strict=True)
    return [ClassScore(precision=row[0], recall=row[1], f1=row[2], support=row[3]) for row in rows]


def most_confused(
    matrix: Int64[Tensor, "k k"],
    categories: tuple[str, ...],
    count: int = 10,
    *,
    totals: Int64[Tensor, " k"] | None = None,
) -> list[ConfusedPair]:
    """Return at most `count` confused pairs of classes, most frequent first, ties in class order.

    `totals` are as for `per_class`.
    """
    errors = matrix.clone().fill_diagonal_(0).flatten()
    totals = matrix.sum(dim=1) if totals is None else totals
    order = [place for place in errors.argsort(descending=True, stable=True)[:count].tolist() if errors[place]]
    cells = [(int(errors[place]), *divmod(place, len(categories))) for place in order]
    return [
        ConfusedPair(true=categories[row], predicted=categories[column], count=mistakes, of=int(totals[row]))
        for mistakes, row, column in cells
    ]
