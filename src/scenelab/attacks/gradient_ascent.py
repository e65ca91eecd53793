"""Gradient ascent within a threat model: the loop of all gradient-based attacks."""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool
from torch import Tensor

from scenelab.attacks.objectives import AttackLoss, Goal, cross_entropy, loss_values
from scenelab.attacks.threat import Threat
from scenelab.classifier import Images, Logits, Model, Values, logits_of, value_and_grad


class StepRule(Protocol):
    """Update rule of gradient ascent, which may hold state per image."""

    def next_points(self, images: Images, points: Images, values: Values, grads: Images, step: int) -> Images:
        """Return the next points, before projection; `values` and `grads` are the losses and gradients at `points`."""
        ...

    def select(self, rows: Bool[Tensor, " n"]) -> None:
        """Keep only the state of the images in the mask `rows`; all others leave the batch."""
        ...


@dataclass(frozen=True)
class AscentResult:
    """Result of gradient ascent: one point per image, its loss, and whether any evaluated point fooled the model.

    Without `keep_best`, the last point is not evaluated, so `values` and `fooled` describe the points before.
    """

    points: Images
    values: Values
    fooled: Bool[Tensor, " n"]


@dataclass(frozen=True, kw_only=True)
class GradientAscent:
    """Gradient ascent on a loss within a threat model, to be called inside `eval_mode(model)`.

    Attributes:
        early_stop: remove an image from the batch once it fools the model.
        keep_best: return the point with the largest loss per image, successful points first; if false, the last point.
    """

    threat: Threat
    steps: int
    loss_fn: AttackLoss = cross_entropy
    early_stop: bool = True
    keep_best: bool = True

    def __call__(self, model: Model, images: Images, goal: Goal, starts: Images, rule: StepRule) -> AscentResult:
        """Take `steps` steps of `rule` from the points `starts`; return the best or the last point per image."""
        best, best_values = starts.clone(), images.new_full((len(images),), float("-inf"))
        fooled = torch.zeros(len(images), dtype=torch.bool, device=images.device)
        rows, points = torch.arange(len(images), device=images.device), starts
        for step in range(self.steps + 1):
            is_last, candidates = step == self.steps, self.threat.quantized(images, points)
            if is_last and not self.keep_best:
                best[rows] = candidates
                break
            evaluate = loss_of if is_last else loss_and_grad
            logits, values, grads = evaluate(model, candidates, goal, self.loss_fn)
            success = goal.is_fooled(logits)
            if self.keep_best:
                before = fooled[rows]
                kept = (success & ~before) | ((success == before) & (values > best_values[rows]))
                best_values[rows[kept]] = values[kept]
            else:
                kept = success & self.early_stop  # points of images that leave the batch
                best_values[rows] = values
            if len(rows) == len(best) and bool(kept.all()):
                best.copy_(candidates)
            elif bool(kept.any()):
                best[rows[kept]] = candidates[kept]
            fooled[rows] |= success
            if is_last:
                break
            if self.early_stop and bool(success.any()):
                left = ~success
                rows, images, points, goal = rows[left], images[left], points[left], goal.select(left)
                values, grads = values[left], grads[left]
                rule.select(left)
            if not len(rows):
                break
            points = self.threat.project(images, rule.next_points(images, points, values, grads, step))
        return AscentResult(best, best_values, fooled)


Evaluation = tuple[Logits, Values, Images]
"""N×K logits, N loss values, and N×C×H×W gradients."""


def loss_and_grad(model: Model, points: Images, goal: Goal, loss_fn: AttackLoss) -> Evaluation:
    """Return logits, loss per image, and gradients of the loss with respect to `points`, with NaN replaced by 0.

    A scalar loss is expanded to one value per image.
    """
    logits, values, grads = value_and_grad(model, points, lambda logits: loss_values(logits, goal, loss_fn))
    return logits, values.expand(len(points)).to(points.dtype), grads.nan_to_num(0.0)


def loss_of(model: Model, points: Images, goal: Goal, loss_fn: AttackLoss) -> Evaluation:
    """Return logits, loss per image, and an empty tensor in place of gradients, without a backward pass."""
    with torch.no_grad():
        logits = logits_of(model, points)
        values = loss_values(logits, goal, loss_fn).expand(len(points)).to(points.dtype)
        return logits, values, points[:0]
