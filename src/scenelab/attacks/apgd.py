"""Auto-PGD (Croce & Hein 2020): PGD with an adaptive step size per image."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool
from torch import Tensor

from scenelab.attacks.attack import Attack, Batch, with_restarts
from scenelab.attacks.gradient_ascent import AscentResult, GradientAscent
from scenelab.attacks.objectives import AttackLoss, Goal, check_loss, cross_entropy, dlr, margin
from scenelab.attacks.threat import Threat
from scenelab.classifier import Images, Values, check_count

MOMENTUM = 0.75  # α, section 3.1
RISING = 0.75  # ρ, section 3.2: fraction of steps that must increase the loss
FIRST, SHRINK, SHORTEST = 0.22, 0.03, 0.06  # section 3.3: gaps between checkpoints, as fractions of all steps
DLR_CLASSES = 4  # minimum for the targeted DLR loss; with fewer classes, the margin replaces it


def checkpoints(steps: int) -> list[int]:
    """Return the checkpoints: the steps, in ascending order, at which the step size may be halved (section 3.3)."""
    result, before, share = [], 0.0, FIRST
    while share < 1:
        result.append(math.ceil(round(share * steps, 9)))
        before, share = share, share + max(share - before - SHRINK, SHORTEST)
    return sorted(set(result))


@dataclass
class AdaptiveState:
    """State of Auto-PGD for a batch: points and gradients of shape N×C×H×W, all other tensors of shape N."""

    value: Tensor
    previous_points: Tensor
    step_size: Tensor
    step_size_at_checkpoint: Tensor
    best_value: Tensor
    best_value_at_checkpoint: Tensor
    best_points: Tensor
    best_grads: Tensor
    rises: Tensor


@dataclass
class AdaptiveStep:
    """Step rule of Auto-PGD (algorithm 1).

    Each step has momentum. At a checkpoint, images without progress return to their best point with half the step size.
    """

    threat: Threat
    steps: int
    state: AdaptiveState | None = field(default=None, repr=False)

    def next_points(self, images: Images, points: Images, values: Values, grads: Images, step: int) -> Images:
        """Return the points after a step, before projection (equation 2); at checkpoints, first adapt the step size."""
        if step == 0 or self.state is None:
            size, best = values.new_full(values.shape, 2 * self.threat.epsilon), values.clone()
            rises = torch.zeros_like(values)
            self.state = AdaptiveState(values, points, size, size, best, values, points.clone(), grads.clone(), rises)
        state, schedule = self.state, [0, *checkpoints(self.steps)]
        if step > 0:
            state.rises += values > state.value
            better = values > state.best_value
            state.best_value[better] = values[better]
            state.best_points[better], state.best_grads[better] = points[better], grads[better]
        if step in schedule[1:]:
            span = step - schedule[schedule.index(step) - 1]
            points, values, grads = self._apply_checkpoint(state, points, values, grads, span)
        state.value = values
        ahead = self.threat.project(images, points + self.threat.steepest(grads, state.step_size))
        if step > 0:
            ahead = points + MOMENTUM * (ahead - points) + (1 - MOMENTUM) * (points - state.previous_points)
        state.previous_points = points
        return ahead

    def _apply_checkpoint(
        self, state: AdaptiveState, points: Tensor, values: Tensor, grads: Tensor, span: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return points, values and gradients after a checkpoint (section 3.2).

        Images without progress continue from their best point, and their step size in `state` is halved. `span` is the
        number of steps since the previous checkpoint.
        """
        same_step = state.step_size == state.step_size_at_checkpoint
        stuck = same_step & (state.best_value <= state.best_value_at_checkpoint)
        back = (state.rises < RISING * span) | stuck
        state.step_size_at_checkpoint = state.step_size.clone()
        state.best_value_at_checkpoint = state.best_value.clone()
        state.step_size = torch.where(back, state.step_size / 2, state.step_size)
        state.rises = torch.zeros_like(state.rises)
        values, back = torch.where(back, state.best_value, values), back.view(-1, 1, 1, 1)
        return torch.where(back, state.best_points, points), values, torch.where(back, state.best_grads, grads)

    def select(self, rows: Bool[Tensor, " n"]) -> None:
        """Keep only the state of the images in the mask `rows`."""
        if self.state is not None:
            self.state = AdaptiveState(*(values[rows] for values in vars(self.state).values()))


def _ascend(batch: Batch, goal: Goal, restart: int, steps: int, loss_fn: AttackLoss) -> AscentResult:
    ascend = GradientAscent(threat=batch.threat, steps=steps, loss_fn=loss_fn)
    rule = AdaptiveStep(batch.threat, steps)
    return ascend(batch.model, batch.images, goal, batch.random_starts(restart), rule)


@dataclass(frozen=True, kw_only=True)
class APGD(Attack):
    """Untargeted Auto-PGD from random starts; with `loss_fn=dlr`, APGD-DLR."""

    steps: int = 100
    restarts: int = 1
    loss_fn: AttackLoss = cross_entropy

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("restarts", self.restarts)
        check_loss(self.loss_fn)

    def perturb(self, batch: Batch) -> Images:
        """Return one adversarial image per image: the best point over all restarts."""

        def run_once(batch: Batch, restart: int) -> AscentResult:
            return _ascend(batch, batch.goal, restart, self.steps, self.loss_fn)

        return with_restarts(batch, run_once, self.restarts)


@dataclass(frozen=True, kw_only=True)
class TargetedAPGD(Attack):
    """Auto-PGD on the targeted DLR loss, toward one class after another (APGD-T).

    Any wrong prediction is a success. For models with fewer than four classes, the loss is the margin.

    Attributes:
        steps: steps per target class.
        classes: number of classes to target per image, by descending logit, without the label.
    """

    steps: int = 100
    classes: int = 9

    def __post_init__(self) -> None:
        check_count("steps", self.steps)
        check_count("classes", self.classes)

    def perturb(self, batch: Batch) -> Images:
        """Return one adversarial image per image: the best point over all target classes."""
        logits = batch.clean_logits()
        num_classes = logits.shape[1]
        loss_fn = dlr if num_classes >= DLR_CLASSES else margin
        ranked = logits.scatter(1, batch.goal.labels[:, None], float("-inf")).argsort(dim=1, descending=True)
        rows = batch.rows  # in ascending order, as searchsorted needs

        def run_once(batch: Batch, restart: int) -> AscentResult:
            targets = ranked[torch.searchsorted(rows, batch.rows), restart]
            return _ascend(batch, Goal(labels=batch.goal.labels, targets=targets), restart, self.steps, loss_fn)

        return with_restarts(batch, run_once, min(self.classes, num_classes - 1))
