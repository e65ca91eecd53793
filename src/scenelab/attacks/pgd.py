"""Projected gradient descent (Kurakin et al. 2017; Madry et al. 2018) and, with one full step, FGSM (Goodfellow et al.
2015): steps along the gradient's steepest direction, each followed by the way back into the ball.
"""

from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from scenelab.attacks.gradient_ascent import Climbed, climb
from scenelab.attacks.objectives import Goal, Objective, cross_entropy
from scenelab.attacks.restarts import Bounds, Targets, attack_in_batches, draw_starts, make_space, try_again
from scenelab.attacks.result import Attacked
from scenelab.attacks.threat import Ball
from scenelab.classifier import BATCH, Advance, Model, check_count, silent
from scenelab.errors import LabError

CROSSING = 2.5  # ε that all steps together can go (Madry et al. 2018, appendix)


@dataclass
class Steepest:
    """Steps of one size along the gradient, or along its running sum (momentum; Dong et al. 2018, equation 6)."""

    ball: Ball
    size: float
    momentum: float = 0.0
    total: Tensor | None = field(default=None, repr=False)

    def move(self, images: Tensor, points: Tensor, values: Tensor, slopes: Tensor, step: int) -> Tensor:
        if self.momentum:
            scale = slopes.abs().mean(dim=(1, 2, 3), keepdim=True)
            slopes = slopes / torch.where(scale > 0, scale, torch.ones_like(scale))
            slopes = slopes if self.total is None else slopes + self.momentum * self.total
            self.total = slopes
        return points + self.ball.step(slopes, points.new_full((len(points),), self.size))

    def select(self, rows: Bool[Tensor, " n"]) -> None:
        self.total = None if self.total is None else self.total[rows]


def pgd(
    model: Model,
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"] | None = None,
    *,
    ball: Ball,
    steps: int = 10,
    step_size: float | None = None,
    targets: Targets = None,
    random_start: bool = False,
    restarts: int = 1,
    momentum: float = 0.0,
    objective: Objective = cross_entropy,
    leave: bool = True,
    best: bool = True,
    bounds: Bounds = (0.0, 1.0),
    eight_bit: bool = False,
    seed: int = 0,
    batch_size: int = BATCH,
    advance: Advance = silent,
) -> Attacked:
    """x ← P(x + α·steepest(∇ objective(x))), where steepest is the sign for L∞ and the unit vector for L2.

    Args:
        model: any callable from images to N×K scores.
        images: in the range of `bounds`.
        labels: what the images show; by default what the model says of them.
        ball: `Linf(epsilon)` or `L2(epsilon)`.
        steps: each has a forward and a backward pass; with 0 the start is returned.
        step_size: α, in the images' units; by default 2.5 ε / steps.
        targets: classes to move towards, or how they are chosen from the clean images once; None moves away from the
            labels.
        random_start: begin at a point drawn from the ball; the draws depend on seed and row alone.
        restarts: how often an image that is not fooled begins anew at another point; of its ends the worst is kept.
        momentum: 0 for none; Dong et al. (2018) have 1.
        objective: what is raised: `cross_entropy`, `margin`, `logits_ratio`, or a function of scores and goal.
        leave: an image that is fooled takes no further steps; whether it is fooled does not change by that.
        best: return the best point of the way, one that fools before one that does not, in place of the last.
        bounds: range of pixel values, or None.
        eight_bit: return whole levels of 8 bits, so that a PNG file holds the images exactly.
        batch_size: images that are computed at once; the results do not depend on it.
        advance: called after each batch with its number of images.

    Raises:
        LabError: arguments that do not fit.
    """
    size = _check(ball, steps, step_size, restarts, momentum, random_start=random_start, best=best)
    space = make_space(ball, bounds, eight_bit)

    def attempt(part: Tensor, goal: Goal, rows: Tensor, number: int) -> Climbed:
        starts = draw_starts(part, space, rows, (seed, number)) if random_start else part
        rule = Steepest(ball, size, momentum)
        return climb(
            model, part, goal, starts, rule, space=space, objective=objective, steps=steps, leave=leave, best=best
        )

    return attack_in_batches(
        model, images, labels, lambda part, goal, rows: try_again(part, goal, rows, attempt, tries=restarts),
        space=space, targets=targets, spare=random_start and best, seed=seed, batch_size=batch_size, advance=advance,
    )  # fmt: skip


def fgsm(
    model: Model,
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"] | None = None,
    *,
    ball: Ball,
    targets: Targets = None,
    objective: Objective = cross_entropy,
    bounds: Bounds = (0.0, 1.0),
    eight_bit: bool = False,
    seed: int = 0,
    batch_size: int = BATCH,
    advance: Advance = silent,
) -> Attacked:
    """One step to the ball's border, x + ε·sign(∇ loss(x)) for L∞; arguments as those of `pgd`."""
    return pgd(
        model, images, labels, ball=ball, steps=1, step_size=ball.epsilon, targets=targets, objective=objective,
        leave=False, best=False, bounds=bounds, eight_bit=eight_bit, seed=seed, batch_size=batch_size, advance=advance,
    )  # fmt: skip


def _check(
    ball: Ball, steps: int, step_size: float | None, restarts: int, momentum: float, *, random_start: bool, best: bool
) -> float:
    """The step size, once all fits together."""
    check_count("steps", steps, least=0)
    check_count("restarts", restarts)
    if restarts > 1 and not (random_start and best):
        raise LabError(f"restarts is {restarts}; it needs random_start=True and best=True")
    if not 0 <= momentum <= 1:
        raise LabError(f"momentum is {momentum}; expected a number in [0, 1]")
    size = CROSSING * ball.epsilon / max(1, steps) if step_size is None else step_size
    if not 0 <= size < float("inf"):
        raise LabError(f"step_size is {size}; expected 0 or more, in the images' units, such as 2/255")
    return size
