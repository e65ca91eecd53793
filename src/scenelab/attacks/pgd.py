"""Projected gradient descent (Kurakin et al. 2017; Madry et al. 2018) and FGSM (Goodfellow et al. 2015)."""

from dataclasses import dataclass, field
from numbers import Real
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from scenelab.attacks.attack import Attack, Batch, with_restarts
from scenelab.attacks.gradient_ascent import AscentResult, GradientAscent
from scenelab.attacks.objectives import AttackLoss, check_loss, cross_entropy
from scenelab.attacks.threat import Threat, check_length
from scenelab.classifier import Images, Values, check_count
from scenelab.errors import LabError, printable

TOTAL_STEP = 2.5  # length of all steps together, in radii of the ball (Madry et al. 2018, appendix)


@dataclass
class FixedStep:
    """Step rule of PGD: a fixed step size along the gradient, optionally with momentum (Dong et al. 2018, eq. 6)."""

    threat: Threat
    size: float
    momentum: float = 0.0
    velocity: Tensor | None = field(default=None, repr=False)

    def next_points(self, images: Images, points: Images, values: Values, grads: Images, step: int) -> Images:
        """Return the points after one step along the gradient or, with momentum, the accumulated gradient."""
        if self.momentum:
            scale, largest = (take(grads.abs(), dim=(1, 2, 3), keepdim=True) for take in (torch.mean, torch.amax))
            scale = torch.where((scale > 0) & scale.isfinite(), scale, largest)  # the mean may overflow or underflow
            grads = grads / torch.where(scale > 0, scale, torch.ones_like(scale))
            grads = grads if self.velocity is None else grads + self.momentum * self.velocity
            self.velocity = grads
        return points + self.threat.steepest(grads, points.new_full((len(points),), self.size))

    def select(self, rows: Bool[Tensor, " n"]) -> None:
        """Keep only the accumulated gradients of the images in the mask `rows`."""
        self.velocity = None if self.velocity is None else self.velocity[rows]


@dataclass(frozen=True, kw_only=True)
class PGD(Attack):
    """Projected gradient descent: x ← P(x + α·steepest(∇ loss(x))), with P the projection into the threat model.

    The steepest direction is the sign of the gradient for L∞ and the normalized gradient for L2.

    Attributes:
        steps: number of steps, each a forward and a backward pass; 0 returns the starting points.
        step_size: α in pixel units, at most 1e30; 2.5 ε / steps by default.
        restarts: maximum number of runs per image; more than one implies random starts.
        random_start: start from a random point in the ball, not from the image.
        momentum: decay of the accumulated gradient, in [0, 1]; Dong et al. (2018) use 1.
        loss_fn: `cross_entropy`, `margin`, `dlr`, or any function of logits and goal.
        early_stop: stop an image's run once it fools the model; with `keep_best`, the success rate does not change.
        keep_best: return the point with the largest loss, successful points first; if false, the last point.
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
        if not isinstance(self.momentum, Real) or not 0 <= self.momentum <= 1:
            raise LabError(f"momentum is {printable(repr(self.momentum))}; expected a number in [0, 1]")
        if self.step_size is not None:
            check_length("step_size", self.step_size, "at least 0, in the images' units, such as 2/255")
        check_loss(self.loss_fn)

    @property
    def skip_fooled(self) -> bool:
        """Whether images that already fool the model stay unchanged; true for random starts with `keep_best`."""
        return (self.random_start or self.restarts > 1) and self.keep_best

    def perturb(self, batch: Batch) -> Images:
        """Return one point per image: the best over all restarts, or the last one with `keep_best=False`."""
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
    """Fast gradient sign method: one step to the border of the ball, x + ε·sign(∇ loss(x)) for L∞."""

    loss_fn: AttackLoss = cross_entropy

    takes_targets: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_loss(self.loss_fn)

    @property
    def skip_fooled(self) -> bool:
        """False: images that already fool the model are perturbed too."""
        return False

    def perturb(self, batch: Batch) -> Images:
        """Return the images after one PGD step of size ε."""
        one_step = PGD(steps=1, step_size=batch.threat.epsilon, loss_fn=self.loss_fn, early_stop=False, keep_best=False)
        return one_step.perturb(batch)
