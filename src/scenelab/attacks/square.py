"""Square Attack (Andriushchenko et al. 2020): random search that sees scores alone, no gradient.

What it finds and gradients do not is a sign that gradients are masked.
"""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.attacks.gradient_ascent import look
from scenelab.attacks.objectives import Goal, margin
from scenelab.attacks.restarts import Bounds, attack_in_batches, generator_for, make_space
from scenelab.attacks.result import Attacked
from scenelab.attacks.threat import Linf, Space
from scenelab.classifier import BATCH, Advance, Model, check_count, silent
from scenelab.errors import LabError

FIRST_SHARE = 0.8  # as AutoAttack has it (Croce & Hein 2020)
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # of 10,000 queries, as in the authors' code


def share_at(query: int, queries: int) -> float:
    """The share of the picture that a square covers: halved at nine moments, scaled to the number of queries."""
    moment = query / queries * 10_000
    return FIRST_SHARE / 2 ** sum(moment > halving for halving in HALVINGS)


def square(
    model: Model,
    images: Float[Tensor, "n c h w"],
    labels: Int64[Tensor, " n"] | None = None,
    *,
    ball: Linf,
    queries: int = 1000,
    bounds: Bounds = (0.0, 1.0),
    eight_bit: bool = False,
    seed: int = 0,
    batch_size: int = BATCH,
    advance: Advance = silent,
) -> Attacked:
    """Stripes of ±ε, then squares of ±ε at random places, each kept where it raises the margin of a wrong class.

    Arguments as those of `pgd`.

    Args:
        queries: how often the model is asked about an image, at most; an image that is fooled leaves.

    Raises:
        LabError: the ball is not L∞, for which alone it is built; arguments that do not fit.
    """
    check_count("queries", queries)
    if not isinstance(ball, Linf):
        raise LabError(f"square is built for Linf alone, got {ball!r}")
    space = make_space(ball, bounds, eight_bit)
    return attack_in_batches(
        model, images, labels, lambda part, goal, rows: _search(model, part, goal, rows, space, queries, seed),
        space=space, seed=seed, batch_size=batch_size, advance=advance,
    )  # fmt: skip


def _search(
    model: Model, images: Tensor, goal: Goal, rows: Tensor, space: Space, queries: int, seed: int
) -> Float[Tensor, "n c h w"]:
    """Each image draws from a generator of its own, so that its way does not depend on the others."""
    generators = [generator_for((seed, row), torch.device("cpu")) for row in rows.tolist()]
    channels, height, width = images.shape[1:]
    stripes = torch.stack([_signs((channels, 1, width), generator) for generator in generators]).to(images)
    found = space.shown(images, space.project(images, images + space.ball.epsilon * stripes))
    scores, values, _ = look(model, found, goal, margin, slopes=False)
    active = torch.nonzero(~goal.reached(scores))[:, 0]
    for query in range(1, queries):
        if not len(active):
            break
        side = min(max(round(math.sqrt(share_at(query, queries) * height * width)), 1), height, width)
        squares = [_square(images.shape[1:], side, generators[place]) for place in active.tolist()]
        changed = torch.where(
            torch.stack([inside for inside, _ in squares]).to(images.device),
            images[active] + space.ball.epsilon * torch.stack([signs for _, signs in squares]).to(images),
            found[active],
        )
        shown = space.shown(images[active], space.project(images[active], changed))
        scores, tried, _ = look(model, shown, goal.of(active), margin, slopes=False)
        better = tried > values[active]
        chosen = active[better]
        found[chosen], values[chosen] = shown[better], tried[better]
        active = active[~(goal.of(active).reached(scores) & better)]
    return found


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(0, 2, shape, generator=generator) - 1


def _square(shape: torch.Size, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Which pixels lie in a random square, 1×H×W, and a sign a colour, C×1×1."""
    channels, height, width = shape
    top = int(torch.randint(0, height - side + 1, (), generator=generator))
    left = int(torch.randint(0, width - side + 1, (), generator=generator))
    inside = torch.zeros(1, height, width, dtype=torch.bool)
    inside[:, top : top + side, left : left + side] = True
    return inside, _signs((channels, 1, 1), generator)
