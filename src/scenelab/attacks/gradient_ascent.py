"""The loop of all attacks that follow a gradient: ask, keep the best point, move, come back into the space.

A rule says where to go next; everything else stands here once. Images that are fooled leave the batch, so that later
steps cost less. No step keeps a graph of the one before.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scenelab.attacks.objectives import Goal, Objective
from scenelab.attacks.threat import Space
from scenelab.classifier import Model, ask
from scenelab.errors import LabError


class Rule(Protocol):
    """How an attack moves. It may keep something an image, from which `select` drops those that have left."""

    def move(
        self,
        images: Float[Tensor, "n c h w"],
        points: Float[Tensor, "n c h w"],
        values: Float[Tensor, " n"],
        slopes: Float[Tensor, "n c h w"],
        step: int,
    ) -> Float[Tensor, "n c h w"]:
        """The next points, from the objective's values and gradients at these ones."""
        ...

    def select(self, rows: Bool[Tensor, " n"]) -> None: ...


@dataclass(frozen=True)
class Climbed:
    """Points found, the objective there, and whether the model was fooled on the way."""

    points: Float[Tensor, "n c h w"]
    values: Float[Tensor, " n"]
    fooled: Bool[Tensor, " n"]


def climb(
    model: Model,
    images: Float[Tensor, "n c h w"],
    goal: Goal,
    starts: Float[Tensor, "n c h w"],
    rule: Rule,
    *,
    space: Space,
    objective: Objective,
    steps: int,
    leave: bool = True,
    best: bool = True,
) -> Climbed:
    """So many moves from the starts; call it under `scenelab.classifier.evaluating`.

    Args:
        leave: an image takes no further steps once its point fools the model.
        best: of each image the best point, one that fools before one that does not, then by the objective; else the
            last one.
    """
    found, highest = starts.clone(), images.new_full((len(images),), float("-inf"))
    fooled = torch.zeros(len(images), dtype=torch.bool, device=images.device)
    rows = torch.arange(len(images), device=images.device)
    points = starts
    for step in range(steps + 1):
        shown = space.shown(images, points)
        if step == steps and not best:
            found[rows] = shown
            break
        scores, values, slopes = look(model, shown, goal, objective, slopes=step < steps)
        reached = goal.reached(scores)
        if best:
            better = (reached & ~fooled[rows]) | ((reached == fooled[rows]) & (values > highest[rows]))
            chosen = rows[better]
            found[chosen], highest[chosen] = shown[better], values[better]
        else:
            found[rows], highest[rows] = shown, values
        fooled[rows] |= reached
        if step == steps:
            break
        if leave and bool(reached.any()):
            stay = ~reached
            rows, images, points, goal = rows[stay], images[stay], points[stay], goal.of(stay)
            values, slopes = values[stay], slopes[stay]
            rule.select(stay)
        if not len(rows):
            break
        points = space.project(images, rule.move(images, points, values, slopes, step))
    return Climbed(found, highest, fooled)


def look(
    model: Model, points: Float[Tensor, "n c h w"], goal: Goal, objective: Objective, *, slopes: bool
) -> tuple[Float[Tensor, "n k"], Float[Tensor, " n"], Float[Tensor, "n c h w"]]:
    """Scores, objective and, where it is asked for, the objective's gradient at some points.

    An objective of one number for all has that number as everybody's value.

    Raises:
        LabError: the scores do not depend on the images.
    """
    if not slopes:
        with torch.no_grad():
            scores = ask(model, points)
            goal.check(scores)
            values = objective(scores, goal)
        return scores, values.expand(len(points)), points
    with torch.enable_grad():
        leaf = points.detach().requires_grad_()
        scores = ask(model, leaf)
        goal.check(scores)
        values = objective(scores, goal)
        total = values.sum()
        if total.requires_grad:
            found = torch.autograd.grad(total, leaf, allow_unused=True)[0]
            if found is not None:
                return scores.detach(), values.detach().expand(len(points)), found
    raise LabError("the model's scores do not depend on its images by operations that have a gradient")
