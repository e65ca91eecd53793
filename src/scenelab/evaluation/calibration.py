"""Is the network as sure as it is right? Expected calibration error and the bins behind it."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

BINS = 15  # Guo et al. 2017, section 2


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Predictions whose confidence lies in (low, high]; the means are shares in [0, 1]."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def expected_calibration_error(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> float:
    """Mean gap between confidence and accuracy over the bins, weighted by count, in percent (Guo et al. 2017, eq. 3).

    Σ_b count_b / n · |accuracy_b − confidence_b|. A confidence of exactly 1 belongs to the last bin.
    """
    gaps = (part.count * abs(part.accuracy - part.confidence) for part in reliability(logits, labels))
    return 100 * sum(gaps) / len(labels)


def reliability(logits: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> list[Bin]:
    """The bins of the reliability diagram; empty ones are left out."""
    confidence, predicted = logits.double().softmax(dim=1).max(dim=1)
    correct = (predicted == labels).double()
    edges = torch.linspace(0, 1, BINS + 1, dtype=torch.float64)
    bins = []
    for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            bins.append(
                Bin(
                    low=low,
                    high=high,
                    count=int(inside.sum()),
                    confidence=confidence[inside].mean().item(),
                    accuracy=correct[inside].mean().item(),
                )
            )
    return bins
