"""Goals of attacks: labels, targets, the success criterion, and the losses to maximize."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor
from torch.nn import functional as F

from scenelab.classifier import Labels, Logits, Values, check_classes
from scenelab.errors import LabError, printable

TINY = 1e-12  # keeps the DLR loss finite where the largest logits are equal


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Labels and target classes of an attack, and its success criterion.

    Attack losses increase as the logits favor `targets` or, if `targets` is None, any class except `labels`. The attack
    succeeds if the model predicts the target (`targeted=True`), or any class except the label (`targeted=False`).
    """

    labels: Labels
    targets: Labels | None = None
    targeted: bool = False

    def is_fooled(self, logits: Logits) -> Bool[Tensor, " n"]:
        """Return a mask of the images on which the attack succeeds; false where a logit is NaN."""
        predictions = logits.argmax(dim=1)
        fooled = predictions == self.targets if self.targeted else predictions != self.labels
        return fooled & ~logits.isnan().any(dim=1)

    def select(self, rows: Any) -> "Goal":
        """Return the goal for a subset of the images, by indices or a boolean mask."""
        targets = None if self.targets is None else self.targets[rows]
        return Goal(labels=self.labels[rows], targets=targets, targeted=self.targeted)

    def check(self, logits: Logits) -> None:
        """Raise LabError unless there are at least two logits, and labels and targets are valid class indices."""
        if logits.shape[1] < 2:
            raise LabError(f"the model has {logits.shape[1]} class; an attack needs at least two")
        check_classes(logits, self.labels, name="labels")
        if self.targets is not None:
            check_classes(logits, self.targets)


AttackLoss = Callable[[Tensor, Goal], Tensor]
"""Function from N×K logits and the goal to the loss to maximize: N values, or one for the batch."""


def check_loss(loss_fn: object) -> None:
    """Raise LabError unless `loss_fn` can be called."""
    if not callable(loss_fn):
        got = printable(repr(loss_fn))
        raise LabError(f"loss_fn is {got}; expected cross_entropy, margin, dlr or a function of logits and goal")


def loss_values(logits: Logits, goal: Goal, loss_fn: AttackLoss) -> Tensor:
    """Return the loss, N values or one, after checks of goal and loss; raise LabError for NaN from finite logits."""
    goal.check(logits)
    values = loss_fn(logits, goal)
    count = len(logits)
    is_float = isinstance(values, Tensor) and values.is_floating_point() and values.layout == torch.strided
    if not is_float or values.shape not in ((), (1,), (count,)):
        got = f"{tuple(values.shape)} of {values.dtype}" if isinstance(values, Tensor) else type(values).__name__
        raise LabError(f"loss_fn must return {count} values of a floating type, one per image, or one value, got {got}")
    if (values.isnan() & logits.isfinite().all(dim=1)).any():
        raise LabError("loss_fn returned NaN for finite logits; it must return a number for each image")
    return values


def cross_entropy(logits: Logits, goal: Goal) -> Values:
    """Return the cross-entropy of the label per image (Madry et al. 2018) or, with targets, minus the target's."""
    if goal.targets is None:
        return F.cross_entropy(logits, goal.labels, reduction="none")
    return -F.cross_entropy(logits, goal.targets, reduction="none")


def margin(logits: Logits, goal: Goal) -> Values:
    """Return the margin max_{i≠y} z_i - z_y per image, with logits z and label y (Carlini & Wagner 2017).

    With a target t, the margin is z_t - max_{i≠t} z_i.
    """
    classes = goal.labels if goal.targets is None else goal.targets
    logit = logits.gather(1, classes[:, None])[:, 0]
    others = logits.scatter(1, classes[:, None], float("-inf")).amax(dim=1)
    return others - logit if goal.targets is None else logit - others


def dlr(logits: Logits, goal: Goal) -> Values:
    """Return the scale-invariant difference of logits ratio (DLR) per image (Croce & Hein 2020, equations 6 and 7).

    Untargeted: -(z_y - max_{i≠y} z_i) / (z_(1) - z_(3)). Targeted: -(z_y - z_t) / (z_(1) - (z_(3) + z_(4)) / 2). The
    sorted logits are z_(1) ≥ z_(2) ≥ …. The model must have at least three classes, or four with targets.
    """
    needed = 3 if goal.targets is None else 4
    if logits.shape[1] < needed:
        raise LabError(f"the model has {logits.shape[1]} classes; the DLR loss needs {needed}, use cross_entropy")
    ordered = logits.topk(needed, dim=1).values
    if goal.targets is None:
        return margin(logits, goal) / (ordered[:, 0] - ordered[:, 2] + TINY)
    label, target = (logits.gather(1, classes[:, None])[:, 0] for classes in (goal.labels, goal.targets))
    return (target - label) / (ordered[:, 0] - (ordered[:, 2] + ordered[:, 3]) / 2 + TINY)


def least_likely(logits: Logits, labels: Labels) -> Labels:
    """Return the class with the smallest logit, except the label, per image (Kurakin et al. 2017)."""
    return logits.scatter(1, labels[:, None], float("inf")).argmin(dim=1)


def random_targets(labels: Labels, num_classes: int, *, seed: int = 0) -> Labels:
    """Return one random class per image, drawn uniformly from all classes except the label."""
    generator = torch.Generator().manual_seed(seed % 2**64)
    offsets = torch.randint(1, num_classes, labels.shape, generator=generator)
    return (labels + offsets.to(labels.device)) % num_classes
