"""Calibration: expected calibration error and the bins of the reliability diagram (Guo et al. 2017)."""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.evaluation.metrics import is_undefined

BINS = 15  # section 2


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Predictions with confidence in (low, high]: their count, and their mean confidence and accuracy in [0, 1]."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def expected_calibration_error(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> float:
    """Return the expected calibration error Σ_b count_b / n · |accuracy_b − confidence_b| in percent (eq. 3).

    It is NaN if the probabilities of an image are undefined.
    """
    if is_undefined(logits).any():
        return math.nan
    gaps = (part.count * abs(part.accuracy - part.confidence) for part in reliability(logits, labels))
    return 100 * sum(gaps) / len(labels)


def reliability(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> list[Bin]:
    """Return the non-empty bins, out of 15 of equal width, in ascending order of confidence."""
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    correct = (predicted == labels).double()
    bins = []
    for low, high in pairwise(torch.linspace(0, 1, BINS + 1, dtype=torch.float64).tolist()):
        inside = (confidence > low) & (confidence <= high)
        if count := int(inside.sum()):
            means = {"confidence": confidence[inside].mean().item(), "accuracy": correct[inside].mean().item()}
            bins.append(Bin(low=low, high=high, count=count, **means))
    return bins
