"""Integrated gradients: the gradient's mean on the way from a baseline to the image (Sundararajan et al. 2017)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.classifier import (
    BATCH,
    Advance,
    Model,
    ask,
    check_count,
    choose_targets,
    evaluating,
    gradient_of,
    score,
    silent,
)
from scenelab.errors import LabError


@dataclass(frozen=True)
class Integrated:
    """What integrated gradients found.

    Attributes:
        values: signed, a value for each colour of each pixel.
        gap: for each image, the sum of the values minus what they should sum to, score(image) - score(baseline).
    """

    values: Float[Tensor, "n c h w"]
    gap: Float[Tensor, " n"]


def integrated_gradients(
    model: Model,
    images: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, " n"] | None = None,
    *,
    baseline: Tensor | float = 0.0,
    steps: int = 50,
    batch_size: int = BATCH,
    advance: Advance = silent,
) -> Integrated:
    """(x - x₀) · ∫₀¹ ∇ score(x₀ + t·(x - x₀)) dt, by Gauss and Legendre's rule of so many steps.

    Completeness (proposition 1): the values add up to score(x) - score(x₀). The gap that is returned is the error of
    the rule; where it is not small beside that difference, take more steps.

    Args:
        baseline: a number, or a tensor that broadcasts to the images; black by default for images in [0, 1].
        steps: points at which the gradient is taken; the rule is exact for polynomials of degree 2·steps - 1.
        advance: called with 1 after each image.

    Raises:
        LabError: arguments that do not fit.
    """
    check_count("steps", steps)
    check_count("batch_size", batch_size)
    nodes, weights = np.polynomial.legendre.leggauss(steps)
    with evaluating(model):
        targets = choose_targets(model, images, targets, batch_size=batch_size)
        start = torch.as_tensor(baseline, dtype=images.dtype, device=images.device).detach()
        try:
            start = start.expand_as(images)
        except RuntimeError as error:
            raise LabError(
                f"baseline has shape {tuple(start.shape)}; expected one that broadcasts to {tuple(images.shape)}"
            ) from error
        places = torch.as_tensor((nodes + 1) / 2, dtype=images.dtype, device=images.device)
        shares = torch.as_tensor(weights / 2, dtype=images.dtype, device=images.device)
        values = torch.empty_like(images)
        for row in range(len(images)):
            way = images[row].detach() - start[row]
            total = torch.zeros_like(way)
            for place, share in zip(places.split(batch_size), shares.split(batch_size), strict=True):
                points = start[row] + place.view(-1, 1, 1, 1) * way
                found = gradient_of(model, points, targets[row].expand(len(place)), score)
                total += torch.einsum("s,schw->chw", share, found)
            values[row] = way * total
            advance(1)
        with torch.no_grad():
            rise = images.new_empty(0)
            if len(images):
                rises = _scores(model, images, batch_size) - _scores(model, start, batch_size)
                rise = rises.expand(len(images), -1).gather(1, targets[:, None])[:, 0]
    return Integrated(values, values.sum(dim=(1, 2, 3)) - rise)


def _scores(model: Model, images: Float[Tensor, "n c h w"], batch_size: int) -> Float[Tensor, "n k"]:
    """The model's scores; of one image that is repeated by expanding it the one's, so that they broadcast."""
    if len(images) > 1 and images.stride(0) == 0:
        images = images[:1]
    return torch.cat([ask(model, part) for part in images.split(batch_size)])
