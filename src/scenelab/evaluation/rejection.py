"""Out-of-distribution images: the score that says "none of these", its threshold, and its error rates."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.errors import LabError
from scenelab.evaluation.accuracy_results import Rejection
from scenelab.evaluation.metrics import max_logit
from scenelab.evaluation.results import share_of
from scenelab.models.normalize import Classifier

ONE_IN = 20  # images of the classes is refused, on average


def fit_threshold(scores: Float[Tensor, " n"]) -> float | None:
    """Return the threshold that refuses at most 5 % of the images of the classes, on average over held-out images.

    The threshold is the k-th smallest of n scores, k = ⌊(n + 1) / 20⌋: a further score from the same distribution is
    smaller with probability at most k / (n + 1) (conformal p-values; Bates et al. 2023). Return None if there are
    fewer than 19 scores, or if this score is -∞.
    """
    rank = (len(scores) + 1) // ONE_IN
    threshold = scores.kthvalue(rank).values.item() if rank else -math.inf
    return threshold if math.isfinite(threshold) else None


def measure_rejection(
    model: Classifier, known: Float[Tensor, "n k"], unknown: Float[Tensor, "m k"] | None, *, is_fitted: bool
) -> Rejection | None:
    """Return the error rates of a model's threshold from logits without temperature; None without a threshold.

    Raises:
        LabError: there are logits of unknown images, and no threshold.
    """
    threshold = model.threshold
    if threshold is None:
        if unknown is not None:
            fix = f"fit one with 'scenelab evaluate RUN' on at least {ONE_IN - 1} held-out images"
            fix += "; if the run has a holdout, add --split holdout"
            raise LabError(f"--unknown needs a threshold, which the network does not have; {fix}")
        return None
    scores = max_logit(known / model.temperature)
    halves = scores[::2], scores[1::2]
    limits = [fit_threshold(half) for half in reversed(halves)] if is_fitted else [threshold, threshold]
    kept = sum(int((half >= limit).sum()) for half, limit in zip(halves, limits, strict=True) if limit is not None)
    values = {"threshold": threshold, "known": None if None in limits else share_of(kept, len(scores))}
    if unknown is not None:
        others = max_logit(unknown / model.temperature)
        ordered = others.sort().values
        twice = torch.searchsorted(ordered, scores) + torch.searchsorted(ordered, scores, right=True)  # ties count half
        auroc = twice.double().mean().item() / (2 * len(others))
        values |= {"unknown": share_of(int((others < threshold).sum()), len(others)), "auroc": auroc}
    return Rejection(**values)
