"""An attack on many images in batches: arguments checked, goals fixed on clean images, the result asked again."""

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.attacks.gradient_ascent import Climbed
from scenelab.attacks.objectives import Goal, draw_other, least_likely
from scenelab.attacks.result import Attacked, judge
from scenelab.attacks.threat import Ball, Space
from scenelab.classifier import (
    BATCH,
    Advance,
    Model,
    ask,
    check_count,
    check_images,
    choose_targets,
    evaluating,
    silent,
)
from scenelab.errors import LabError

Targets = Tensor | Literal["least-likely", "random"] | None
Bounds = tuple[float, float] | None
"""Range of pixel values; None where there is none, as in a normalised space."""

One = Callable[[Tensor, Goal, Tensor], Tensor]
"""From a batch of images, their goal and their row numbers to adversarial ones."""

Attempt = Callable[[Tensor, Goal, Tensor, int], Climbed]
"""The same for a try with a number, with what was reached."""


def attack_in_batches(
    model: Model,
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"] | None,
    one: One,
    *,
    space: Space,
    targets: Targets = None,
    spare: bool = True,
    seed: int = 0,
    batch_size: int = BATCH,
    advance: Advance = silent,
) -> Attacked:
    """Attack batch by batch and judge what is returned; the model's state stays as it was, also when it raises.

    Args:
        spare: images that fool the model as they are stay so; without it `one` is given them as well.
        labels: what the images show; by default what the model says of them.
        targets: classes to move towards, or how they are chosen from the clean images once.

    Raises:
        LabError: arguments that do not fit.
    """
    check_count("batch_size", batch_size)
    check_count("seed", seed, least=0)
    check_images(images)
    images = images.detach().clone()
    space.check(images)
    with evaluating(model):
        goal = _fix_goal(model, images, labels, targets, seed=seed, batch_size=batch_size)
        rows = torch.arange(len(images), device=images.device)
        found = []
        for chosen in rows.split(batch_size):
            part, wanted = images[chosen], goal.of(chosen)
            left = torch.nonzero(~_fooled_already(model, part, wanted))[:, 0] if spare else torch.arange(len(chosen))
            if len(left):
                part[left] = one(part[left], wanted.of(left), chosen[left])
            found.append(part)
            advance(len(chosen))
        return judge(model, images, torch.cat(found), goal, space.ball, batch_size=batch_size)


def _fooled_already(model: Model, images: Tensor, goal: Goal) -> Tensor:
    if not len(images):
        return torch.zeros(0, dtype=torch.bool, device=images.device)
    with torch.no_grad():
        scores = ask(model, images)
    goal.check(scores)
    return goal.reached(scores)


def _fix_goal(
    model: Model, images: Tensor, labels: Tensor | None, targets: Targets, *, seed: int, batch_size: int
) -> Goal:
    """Labels and targets, those that are given checked, the others from the clean images' scores."""
    if isinstance(targets, str) and targets not in ("least-likely", "random"):
        raise LabError(f"targets is {targets!r}; expected class numbers, least-likely, random or None")
    if isinstance(targets, Tensor):
        targets = choose_targets(model, images, targets)
    if labels is not None:
        labels = choose_targets(model, images, labels, name="labels")
    if labels is None or isinstance(targets, str):
        with torch.no_grad():
            scores = torch.cat([ask(model, part) for part in images.split(batch_size)])
        labels = scores.argmax(dim=1) if labels is None else labels
        if targets == "least-likely":
            targets = least_likely(scores, labels)
        elif isinstance(targets, str):
            targets = draw_other(labels, scores.shape[1], seed=seed)
    return Goal(labels=labels, targets=targets, exact=targets is not None)


def try_again(images: Tensor, goal: Goal, rows: Tensor, attempt: Attempt, *, tries: int) -> Tensor:
    """The worst of several tries, image by image; who is fooled takes no further one."""
    best = attempt(images, goal, rows, 0)
    points, values, fooled = best.points, best.values, best.fooled
    for number in range(1, tries):
        left = torch.nonzero(~fooled)[:, 0]
        if not len(left):
            break
        again = attempt(images[left], goal.of(left), rows[left], number)
        better = again.fooled | (again.values > values[left])
        chosen = left[better]
        points[chosen], values[chosen], fooled[chosen] = (
            again.points[better],
            again.values[better],
            again.fooled[better],
        )
    return points


def draw_starts(
    images: Float[Tensor, "n c h w"], space: Space, rows: Int64[Tensor, " n"], seed: tuple[int, ...]
) -> Float[Tensor, "n c h w"]:
    """Points drawn from the ball around each image, a function of seed and row alone."""
    drawn = [
        space.ball.draw(image, generator_for((*seed, row), image.device))
        for image, row in zip(images, rows.tolist(), strict=True)
    ]
    return space.project(images, images + torch.stack(drawn))


def generator_for(seed: tuple[int, ...], device: torch.device) -> torch.Generator:
    """A generator of its own for each tuple of numbers."""
    return torch.Generator(device=device).manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))


def make_space(ball: Ball, bounds: Bounds, eight_bit: bool) -> Space:
    """The ball within the bounds.

    Raises:
        LabError: whole levels of 8 bits are asked for in another range than [0, 1].
    """
    if eight_bit and bounds != (0.0, 1.0):
        raise LabError(f"eight_bit needs images in [0, 1], bounds are {bounds}")
    low, high = bounds if bounds is not None else (float("-inf"), float("inf"))
    return Space(ball, low, high, whole=eight_bit)
