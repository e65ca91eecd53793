"""Auto-PGD (Croce & Hein 2020): steps whose size adapts to how the attack goes, so that there is nothing to tune."""

import math
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from scenelab.attacks.gradient_ascent import Climbed, climb
from scenelab.attacks.objectives import Goal, Objective, cross_entropy, logits_ratio, margin
from scenelab.attacks.restarts import Bounds, attack_in_batches, draw_starts, make_space, try_again
from scenelab.attacks.result import Attacked
from scenelab.attacks.threat import Ball, Space
from scenelab.classifier import BATCH, Advance, Model, ask, check_count, silent

MOMENTUM = 0.75  # α, section 3.1
RISING = 0.75  # ρ, section 3.2: the share of steps that should have raised the objective
FIRST, SHRINK, LEAST = 0.22, 0.03, 0.06  # section 3.3: between checkpoints, as shares of all steps


DLR_CLASSES = 4  # that the targeted DLR loss needs; with fewer the margin takes its place


def checkpoints(steps: int) -> list[int]:
    """The steps at which the size is looked at, w_j = ⌈p_j N⌉ (section 3.3)."""
    found, before, share = [], 0.0, FIRST
    while share < 1:
        found.append(math.ceil(round(share * steps, 9)))
        before, share = share, share + max(share - before - SHRINK, LEAST)
    return sorted(set(found))


@dataclass
class Adaptive:
    """Algorithm 1: momentum, and at checkpoints half the size and back to the best point where it stopped paying."""

    space: Space
    steps: int
    state: dict[str, Tensor] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.checkpoints = [0, *checkpoints(self.steps)]

    def move(self, images: Tensor, points: Tensor, values: Tensor, slopes: Tensor, step: int) -> Tensor:
        if step == 0:
            self._begin(points, values, slopes)
        else:
            self._note(points, values, slopes)
        if step in self.checkpoints[1:]:
            span = step - self.checkpoints[self.checkpoints.index(step) - 1]
            points, values, slopes = self._look_back(points, values, slopes, span)
        state = self.state
        state["value"] = values
        ahead = self.space.project(images, points + self.space.ball.step(slopes, state["size"]))
        if step > 0:
            ahead = points + MOMENTUM * (ahead - points) + (1 - MOMENTUM) * (points - state["before"])
        state["before"] = points
        return ahead

    def _begin(self, points: Tensor, values: Tensor, slopes: Tensor) -> None:
        full = values.new_full(values.shape, 2 * self.space.ball.epsilon)
        self.state = {
            "size": full, "size then": full.clone(), "best value then": values.clone(), "best value": values.clone(),
            "best point": points.clone(), "best slope": slopes.clone(), "rises": torch.zeros_like(values),
        }  # fmt: skip

    def _note(self, points: Tensor, values: Tensor, slopes: Tensor) -> None:
        state = self.state
        state["rises"] += values > state["value"]
        better = values > state["best value"]
        state["best value"][better] = values[better]
        state["best point"][better], state["best slope"][better] = points[better], slopes[better]

    def _look_back(self, points: Tensor, values: Tensor, slopes: Tensor, span: int) -> tuple[Tensor, Tensor, Tensor]:
        """Conditions 1 and 2 of section 3.2; where one holds the size is halved and the best point is taken up."""
        state = self.state
        stuck = (state["size"] == state["size then"]) & (state["best value"] <= state["best value then"])
        back = (state["rises"] < RISING * span) | stuck
        state["size then"], state["best value then"] = state["size"].clone(), state["best value"].clone()
        state["size"] = torch.where(back, state["size"] / 2, state["size"])
        state["rises"] = torch.zeros_like(state["rises"])
        wide = back.view(-1, 1, 1, 1)
        return (
            torch.where(wide, state["best point"], points),
            torch.where(back, state["best value"], values),
            torch.where(wide, state["best slope"], slopes),
        )

    def select(self, rows: Bool[Tensor, " n"]) -> None:
        self.state = {name: values[rows] for name, values in self.state.items()}


def apgd(
    model: Model,
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"] | None = None,
    *,
    ball: Ball,
    steps: int = 100,
    restarts: int = 1,
    objective: Objective = cross_entropy,
    bounds: Bounds = (0.0, 1.0),
    eight_bit: bool = False,
    seed: int = 0,
    batch_size: int = BATCH,
    advance: Advance = silent,
) -> Attacked:
    """Auto-PGD from a random start, away from the labels; arguments as those of `pgd`.

    Args:
        objective: `cross_entropy` or `logits_ratio`, with which it is called APGD-CE and APGD-DLR.
    """
    check_count("steps", steps)
    check_count("restarts", restarts)
    space = make_space(ball, bounds, eight_bit)

    def attempt(part: Tensor, goal: Goal, rows: Tensor, number: int) -> Climbed:
        starts = draw_starts(part, space, rows, (seed, number))
        return climb(model, part, goal, starts, Adaptive(space, steps), space=space, objective=objective, steps=steps)

    return attack_in_batches(
        model, images, labels, lambda part, goal, rows: try_again(part, goal, rows, attempt, tries=restarts),
        space=space, seed=seed, batch_size=batch_size, advance=advance,
    )  # fmt: skip


def apgd_targeted(
    model: Model,
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"] | None = None,
    *,
    ball: Ball,
    steps: int = 100,
    classes: int = 9,
    bounds: Bounds = (0.0, 1.0),
    eight_bit: bool = False,
    seed: int = 0,
    batch_size: int = BATCH,
    advance: Advance = silent,
) -> Attacked:
    """APGD-T: the targeted DLR loss towards each of the most likely other classes in turn; fooled by any class.

    Args:
        classes: how many other classes are tried, the likeliest on the clean image first.
    """
    check_count("steps", steps)
    check_count("classes", classes)
    space = make_space(ball, bounds, eight_bit)

    def one(part: Tensor, goal: Goal, rows: Tensor) -> Tensor:
        with torch.no_grad():
            scores = ask(model, part)
        goal.check(scores)
        objective = logits_ratio if scores.shape[1] >= DLR_CLASSES else margin
        ranked = scores.scatter(1, goal.labels[:, None], float("-inf")).argsort(dim=1, descending=True)
        place = {row: number for number, row in enumerate(rows.tolist())}

        def attempt(part: Tensor, goal: Goal, rows: Tensor, number: int) -> Climbed:
            targets = ranked[[place[row] for row in rows.tolist()], number]
            starts = draw_starts(part, space, rows, (seed, number))
            aim = Goal(labels=goal.labels, targets=targets)
            rule = Adaptive(space, steps)
            return climb(model, part, aim, starts, rule, space=space, objective=objective, steps=steps)

        return try_again(part, goal, rows, attempt, tries=min(classes, scores.shape[1] - 1))

    return attack_in_batches(model, images, labels, one, space=space, seed=seed, batch_size=batch_size, advance=advance)
