"""Logits of images and mirror images: in bfloat16 on CPUs where it is faster, and close decisions again in float32."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scenelab.data.cache import MemmapDataset
from scenelab.evaluation.metrics import BATCH, batch_logits
from scenelab.models.inference import prepare_for_inference
from scenelab.models.normalize import Classifier
from scenelab.progress import progress

Precision = Literal["auto", "float32"]
Forward = Callable[[np.ndarray], Float[Tensor, "2 n k"]]
"""Function from indices of images to the logits of the images and of their mirror images."""

MIN_SPEEDUP = 1.1  # bfloat16 is used only if it is faster than float32 by this factor
MIN_IMAGES, PROBED, ROUNDS = 1000, 16, 3
"""Least number of images for which speeds are measured, images per measurement, and measurements per precision."""
MARGIN = 4.0
"""Difference of the two largest logits, in RMS errors of a bfloat16 logit, below which a decision is close.

Normal, independent errors change the order of two logits that differ by more in one of 400 cases at the boundary.
"""


@dataclass(frozen=True, kw_only=True)
class Predicted:
    """Logits of images (`plain`), means over image and mirror image (`mirrored`), and the precision in words."""

    plain: Float[Tensor, "n k"]
    mirrored: Float[Tensor, "n k"]
    precision: str


def predict_mirrored(
    model: Classifier, dataset: MemmapDataset, *, size: int, precision: Precision = "auto"
) -> Predicted:
    """Return the logits of every image of a split, on the CPU, in the split's order.

    Each image and its mirror image are in one batch, and batch normalization is folded into convolutions.

    Args:
        model: the classifier.
        dataset: images of the split.
        size: side of the images in pixels.
        precision: `float32`, or `auto` for bfloat16 on CPUs where it is faster, and again float32 for images whose two
            largest logits, alone or averaged with the mirror image, are close.
    """
    device, model = next(model.parameters()).device, prepare_for_inference(model)
    forward, error = partial(batch_logits, model, dataset, size=size, mirror=True, device=device), None
    with torch.no_grad():
        if precision == "auto" and device.type == "cpu" and len(dataset) >= MIN_IMAGES:
            with suppress(RuntimeError, TypeError):  # of a student's layer that takes no bfloat16
                error = measure_bfloat16(forward)
        with _autocast(error is not None):
            logits = _run(forward, np.arange(len(dataset)), f"evaluating {dataset.split}")
        used = "float32"
        if error is not None:
            close = _is_close(logits[0], MARGIN * error) | _is_close(logits.mean(dim=0), MARGIN * error)
            used = f"bfloat16, {close.sum()} of {len(dataset)} images again in float32"
            if close.any():
                logits[:, close] = _run(forward, close.nonzero()[:, 0].numpy(), "again in float32")
    return Predicted(plain=logits[0], mirrored=logits.mean(dim=0), precision=used)


def measure_bfloat16(forward: Forward) -> float | None:
    """Return the RMS error of logits in bfloat16, or None if it is not more than `MIN_SPEEDUP` times as fast.

    The precisions are measured in turns, and the fastest round counts, as in the plan of a timed training. If bfloat16
    is much slower with two images, as on CPUs without bfloat16 instructions, more are not measured.
    """
    logits = [torch.empty(0)] * 2
    for count, rounds, speedup in ((2, 2, 0.5), (PROBED, ROUNDS, MIN_SPEEDUP)):
        rows, seconds = np.arange(count), [math.inf, math.inf]
        for _ in range(rounds):
            for is_half in (False, True):
                began = time.perf_counter()
                with _autocast(is_half):
                    logits[is_half] = forward(rows)
                seconds[is_half] = min(seconds[is_half], time.perf_counter() - began)
        if seconds[False] <= speedup * seconds[True]:
            return None
    return (logits[True] - logits[False]).square().mean().sqrt().item()


def _autocast(is_half: bool) -> torch.autocast:
    return torch.autocast("cpu", torch.bfloat16, enabled=is_half)


def _run(forward: Forward, rows: np.ndarray, what: str) -> Float[Tensor, "2 n k"]:
    with progress(what, len(rows)) as advance:
        parts = []
        for start in range(0, len(rows), BATCH):
            parts.append(forward(rows[start : start + BATCH]))
            advance(parts[-1].shape[1])
    return torch.cat(parts, dim=1)


def _is_close(logits: Float[Tensor, "n k"], margin: float) -> Bool[Tensor, " n"]:
    """Return a mask of the images whose two largest logits differ by less than `margin` or are not finite."""
    top = logits.topk(min(2, logits.shape[1]), dim=1).values
    return ~(top[:, 0] - top[:, -1] >= margin)
