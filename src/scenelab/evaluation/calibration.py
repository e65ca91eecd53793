"""Calibration: its error, the reliability diagram, temperature, and accuracy against coverage (Guo et al. 2017)."""

import math
from itertools import pairwise

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import cross_entropy

from scenelab.evaluation.accuracy_results import Bin, Coverage
from scenelab.evaluation.intervals import wilson
from scenelab.evaluation.metrics import hits, is_undefined

BINS = 15  # section 2
MIN_IMAGES, MIN_MISTAKES = 50, 5  # to fit a temperature
INVERSE_TEMPERATURES = (0.125, 4.0)


def fit_temperature(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> float:
    """Return the temperature T that minimizes the mean cross-entropy of logits / T (section 4.2), in [1/4, 8].

    The loss is convex in 1 / T; the zero of its derivative is found by bisection.
    """
    low, high = INVERSE_TEMPERATURES
    logits = logits.double()
    true = logits.gather(1, labels[:, None]).sum()
    for _ in range(50):
        middle = (low + high) / 2
        slope = ((middle * logits).softmax(dim=1) * logits).sum() - true
        low, high = (middle, high) if slope < 0 else (low, middle)
    return 2 / (low + high)


def cross_calibrate(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> Float[Tensor, "n k"] | None:
    """Return the logits of each half of the images, divided by the temperature fitted on the other half.

    Return None if there are fewer than 50 images or 5 mistakes, if logits are not finite, or if the cross-entropy does
    not fall.
    """
    mistakes = int((~hits(logits, labels, 1)).sum())
    if len(labels) < MIN_IMAGES or mistakes < MIN_MISTAKES or not logits.isfinite().all():
        return None
    result = logits.clone()
    for ours, theirs in ((slice(0, None, 2), slice(1, None, 2)), (slice(1, None, 2), slice(0, None, 2))):
        result[ours] /= fit_temperature(logits[theirs], labels[theirs])
    return result if cross_entropy(result, labels) < cross_entropy(logits, labels) else None


def coverage_curve(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> list[Coverage]:
    """Return the accuracy on the most confident 100, 90, …, 10 % of the images; undefined ones are the least confident.

    This is the risk-coverage curve of El-Yaniv & Wiener 2010.
    """
    confidence = logits.double().softmax(dim=1).max(dim=1).values.nan_to_num(nan=0.0)
    order = confidence.argsort(descending=True, stable=True)
    right = hits(logits, labels, 1)[order].cumsum(0)
    curve = []
    for tenths in range(10, 0, -1):
        count = math.ceil(tenths * len(labels) / 10)
        correct = int(right[count - 1])
        curve.append(
            Coverage(
                confidence=confidence[order[count - 1]].item(),
                coverage=100 * count / len(labels),
                images=count,
                accuracy=100 * correct / count,
                interval=wilson(correct, count),
            )
        )
    return curve


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
