"""Square Attack (Andriushchenko et al. 2020): random search without gradients, which reveals gradient masking."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from scenelab.attacks.attack import Attack, Batch, generator_for
from scenelab.attacks.gradient_ascent import loss_of
from scenelab.attacks.objectives import margin
from scenelab.attacks.threat import Linf, Threat
from scenelab.classifier import Images, check_count

FIRST_SHARE = 0.8  # initial fraction of the area, as in AutoAttack (Croce & Hein 2020)
HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)  # queries out of 10,000, as in the authors' code


def area_share(query: int, queries: int) -> float:
    """Return the fraction of the image area that the square covers at query number `query` of `queries`."""
    moment = query / queries * 10_000
    return FIRST_SHARE / 2 ** sum(moment > halving for halving in HALVINGS)


@dataclass(frozen=True, kw_only=True)
class Square(Attack):
    """Square Attack: start from vertical stripes of ±ε, then keep random squares of ±ε that increase the margin.

    Attributes:
        queries: maximum number of forward passes per image.
    """

    queries: int = 1000

    threats: ClassVar[type[Threat]] = Linf

    def __post_init__(self) -> None:
        check_count("queries", self.queries)

    def perturb(self, batch: Batch) -> Images:
        """Return the perturbed image with the largest `margin` found, per image."""
        images, threat = batch.images, batch.threat
        channels, height, width = images.shape[1:]
        generators = [generator_for((batch.seed, row), torch.device("cpu")) for row in batch.rows.tolist()]
        stripes = torch.stack([_signs((channels, 1, width), generator) for generator in generators]).to(images)
        points = threat.quantized(images, threat.project(images, images + threat.epsilon * stripes))
        logits, values, _ = loss_of(batch.model, points, batch.goal, margin)
        active = torch.nonzero(~batch.goal.is_fooled(logits))[:, 0]
        for query in range(1, self.queries):
            if not len(active):
                break
            side = min(max(round(math.sqrt(area_share(query, self.queries) * height * width)), 1), height, width)
            squares = [_square(images.shape[1:], side, generators[row]) for row in active.tolist()]
            masks, signs = (torch.stack(parts).to(images.device) for parts in zip(*squares, strict=True))
            moved = torch.where(masks, images[active] + threat.epsilon * signs.to(images), points[active])
            candidates = threat.quantized(images[active], threat.project(images[active], moved))
            goal = batch.goal.select(active)
            logits, candidate_values, _ = loss_of(batch.model, candidates, goal, margin)
            better = candidate_values > values[active]
            points[active[better]], values[active[better]] = candidates[better], candidate_values[better]
            active = active[~(goal.is_fooled(logits) & better)]
        return points


def _signs(shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    return 2.0 * torch.randint(0, 2, shape, generator=generator) - 1


def _square(shape: torch.Size, side: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Return the 1×H×W mask of a random square, and a random sign per channel as a C×1×1 tensor."""
    channels, height, width = shape
    top = int(torch.randint(0, height - side + 1, (), generator=generator))
    left = int(torch.randint(0, width - side + 1, (), generator=generator))
    mask = torch.zeros(1, height, width, dtype=torch.bool)
    mask[:, top : top + side, left : left + side] = True
    return mask, _signs((channels, 1, 1), generator)
