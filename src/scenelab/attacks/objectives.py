"""What an attack wants: when a model counts as fooled, and what is raised until it is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

from scenelab.classifier import check_classes
from scenelab.errors import LabError


@dataclass(frozen=True, kw_only=True)
class Goal:
    """For each image, the class that should not be said and, where there is one, the class to move towards.

    Attributes:
        labels: what the images show.
        targets: the class that an attack moves towards; None moves away from the labels.
        exact: fooled means that the target is said; else that anything but the label is said.
    """

    labels: Int64[Tensor, " n"]
    targets: Int64[Tensor, " n"] | None = None
    exact: bool = False

    def reached(self, scores: Float[Tensor, "n k"]) -> Bool[Tensor, " n"]:
        """Whether the model is fooled."""
        guesses = scores.argmax(dim=1)
        return guesses == self.targets if self.exact else guesses != self.labels

    def of(self, rows: Any) -> "Goal":
        """The goal of some of the images."""
        targets = None if self.targets is None else self.targets[rows]
        return Goal(labels=self.labels[rows], targets=targets, exact=self.exact)

    def check(self, scores: Float[Tensor, "n k"]) -> None:
        """Raise unless labels and targets are classes of the model."""
        check_classes(scores, self.labels, name="labels")
        if self.targets is not None:
            check_classes(scores, self.targets)


Objective = Callable[[Tensor, Goal], Tensor]
"""From N×K scores to what an attack raises: a value an image, or one number for all."""


def cross_entropy(scores: Float[Tensor, "n k"], goal: Goal) -> Float[Tensor, " n"]:
    """The labels' cross-entropy, or minus the targets' (Madry et al. 2018; Kurakin et al. 2017)."""
    if goal.targets is None:
        return F.cross_entropy(scores, goal.labels, reduction="none")
    return -F.cross_entropy(scores, goal.targets, reduction="none")


def margin(scores: Float[Tensor, "n k"], goal: Goal) -> Float[Tensor, " n"]:
    """How far the best other class lies above the label, or the target above the best other (Carlini & Wagner 2017)."""
    chosen = goal.labels if goal.targets is None else goal.targets
    own = scores.gather(1, chosen[:, None])[:, 0]
    others = scores.scatter(1, chosen[:, None], float("-inf")).amax(dim=1)
    return others - own if goal.targets is None else own - others


def logits_ratio(scores: Float[Tensor, "n k"], goal: Goal) -> Float[Tensor, " n"]:
    """The difference of logits ratio, DLR, which no scale of the scores changes (Croce & Hein 2020, equations 6 and 7).

    Untargeted -(z_y - max_{i≠y} z_i) / (z_(1) - z_(3)), targeted -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2), with
    z_(1) ≥ z_(2) ≥ … the sorted scores.

    Raises:
        LabError: the model has fewer than three classes, or with targets four.
    """
    needed = 3 if goal.targets is None else 4
    if scores.shape[1] < needed:
        raise LabError(f"the DLR loss needs {needed} classes, the model has {scores.shape[1]}; use cross_entropy")
    ordered = scores.topk(needed, dim=1).values
    if goal.targets is None:
        return margin(scores, goal) / _positive(ordered[:, 0] - ordered[:, 2])
    own, other = (scores.gather(1, chosen[:, None])[:, 0] for chosen in (goal.labels, goal.targets))
    return (other - own) / _positive(ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2)


def _positive(values: Tensor) -> Tensor:
    """Where the best scores are all equal there is nothing to divide by."""
    return values + 1e-12


def least_likely(scores: Float[Tensor, "n k"], labels: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """The class, other than the label, that the model believes in least (Kurakin et al. 2017)."""
    return scores.scatter(1, labels[:, None], float("inf")).argmin(dim=1)


def draw_other(labels: Int64[Tensor, " n"], classes: int, *, seed: int = 0) -> Int64[Tensor, " n"]:
    """For each label another class, all equally likely."""
    generator = torch.Generator().manual_seed(seed)
    away = torch.randint(1, classes, labels.shape, generator=generator)
    return (labels + away.to(labels.device)) % classes
