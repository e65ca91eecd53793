"""Projected gradient descent (Kurakin et al. 2017; Madry et al. 2018) and FGSM (Goodfellow et al. 2015)."""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from scenelab.attacks.attack import Attack, Batch, with_restarts
from scenelab.attacks.gradient_ascent import AscentResult, GradientAscent
from scenelab.attacks.objectives import AttackLoss, cross_entropy
from scenelab.attacks.threat import Threat
from scenelab.classifier import Images, Values, check_count
from scenelab.errors import LabError

TOTAL_STEP = 2.5  # radii that all steps together can cross (Madry et al. 2018, appendix)


@dataclass
class FixedStep:
    """Steps of one size along the gradient, or its running sum (momentum; Dong et al. 2018, equation 6)."""

    threat: Threat
    size: float
    momentum: float = 0.0
    velocity: Tensor | None = field(default=None, repr=False)

    def next_points(self, images: Images, points: Images, values: Values, grads: Images, step: int) -> Images:
        """Return points + size · steepest(grads)."""
        if self.momentum:
            scale = grads.abs().mean(dim=(1, 2, 3), keepdim=True)
            grads = grads / torch.where(scale > 0, scale, torch.ones_like(scale))
            grads = grads if self.velocity is None else grads + self.momentum * self.velocity
            self.velocity = grads
        return points + self.threat.steepest(grads, points.new_full((len(points),), self.size))

    def select(self, rows: Bool[Tensor, " n"]) -> None:
        """Keep only the velocity of these images."""
        self.velocity = None if self.velocity is None else self.velocity[rows]


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """x ← P(x + α·steepest(∇ loss(x))), where steepest is the sign for L∞ and the unit vector for L2.

    Attributes:
        steps: each has a forward and a backward pass; 0 returns the start.
        step_size: α in the images' units; 2.5 ε / steps by default.
        restarts: runs per image until it is fooled; several imply random starts.
        random_start: start at a point drawn from the ball.
        momentum: decay of the accumulated gradient; Dong et al. (2018) use 1.
        loss_fn: `cross_entropy`, `margin`, `dlr`, or any function of logits and goal.
        early_stop: a fooled image takes no further steps; this does not change success.
        keep_best: return the best point of all steps, else the last.
    """

    steps: int = 10
    step_size: float | None = None
    restarts: int = 1
    random_start: bool = False
    momentum: float = 0.0
    loss_fn: AttackLoss = cross_entropy
    early_stop: bool = True
    keep_best: bool = True

    takes_targets: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_count("steps", self.steps, minimum=0)
        check_count("restarts", self.restarts)
        if self.restarts > 1 and not self.keep_best:
            raise LabError(f"restarts is {self.restarts}; several restarts need keep_best=True")
        if not 0 <= self.momentum <= 1:
            raise LabError(f"momentum is {self.momentum}; expected a number in [0, 1]")
        if self.step_size is not None and not 0 <= self.step_size < float("inf"):
            raise LabError(f"step_size is {self.step_size}; expected at least 0, in the images' units, such as 2/255")

    @property
    def skip_fooled(self) -> bool:
        """A random start can lose what fools the model already; the best point cannot."""
        return (self.random_start or self.restarts > 1) and self.keep_best

    def perturb(self, batch: Batch) -> Images:
        """Return the best images of all restarts."""
        threat = batch.threat
        size = TOTAL_STEP * threat.epsilon / max(1, self.steps) if self.step_size is None else self.step_size
        ascend = GradientAscent(
            threat=threat, steps=self.steps, loss_fn=self.loss_fn, early_stop=self.early_stop, keep_best=self.keep_best
        )

        def run_once(batch: Batch, restart: int) -> AscentResult:
            is_random = self.random_start or self.restarts > 1
            starts = batch.random_starts(restart) if is_random else batch.images
            return ascend(batch.model, batch.images, batch.goal, starts, FixedStep(threat, size, self.momentum))

        return with_restarts(batch, run_once, self.restarts)


@dataclass(frozen=True, kw_only=True)
class FGSM(Attack):
    """One step to the border of the ball: x + ε·sign(∇ loss(x)) for L∞."""

    loss_fn: AttackLoss = cross_entropy

    takes_targets: ClassVar[bool] = True

    @property
    def skip_fooled(self) -> bool:
        """Every image takes the step."""
        return False

    def perturb(self, batch: Batch) -> Images:
        """Run PGD with one full step."""
        one_step = PGD(steps=1, step_size=batch.threat.epsilon, loss_fn=self.loss_fn, early_stop=False, keep_best=False)
        return one_step.perturb(batch)
