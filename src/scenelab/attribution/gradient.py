"""The gradient of a class's score or loss with respect to the image (Simonyan et al. 2014)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.classifier import (
    BATCH,
    Advance,
    Model,
    Objective,
    check_count,
    choose_targets,
    evaluating,
    gradient_of,
    score,
    silent,
)


def gradient(
    model: Model,
    images: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, " n"] | None = None,
    *,
    objective: Objective = score,
    batch_size: int = BATCH,
    advance: Advance = silent,
) -> Float[Tensor, "n c h w"]:
    """∂ objective / ∂ image, signed, a value for each colour of each pixel.

    Args:
        model: any callable from images to N×K scores.
        images: in the model's own range.
        targets: a class an image; the model's first guess by default.
        objective: `score` (the target's own) or `loss` (its cross-entropy), or a function of scores and targets.
        batch_size: images that are computed at once.
        advance: called after each batch with its number of images.

    Raises:
        LabError: arguments that do not fit.
    """
    check_count("batch_size", batch_size)
    with evaluating(model):
        targets = choose_targets(model, images, targets, batch_size=batch_size)
        found = []
        for part, chosen in zip(images.split(batch_size), targets.split(batch_size), strict=True):
            found.append(gradient_of(model, part, chosen, objective))
            advance(len(part))
    return torch.cat(found) if found else torch.empty_like(images)


def saliency(
    model: Model,
    images: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, " n"] | None = None,
    *,
    objective: Objective = score,
    batch_size: int = BATCH,
    advance: Advance = silent,
) -> Float[Tensor, "n 1 h w"]:
    """The gradient's absolute value, the largest of the colours (Simonyan et al. 2014, section 3.1); as `gradient`."""
    return strongest(gradient(model, images, targets, objective=objective, batch_size=batch_size, advance=advance))


def strongest(values: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """The largest absolute value over the channels."""
    return values.abs().amax(dim=1, keepdim=True)


def gradient_times_input(
    model: Model,
    images: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, " n"] | None = None,
    *,
    objective: Objective = score,
    batch_size: int = BATCH,
    advance: Advance = silent,
) -> Float[Tensor, "n c h w"]:
    """Gradient times image, signed: of a linear model what each value adds to the score; as `gradient`."""
    return images.detach() * gradient(
        model, images, targets, objective=objective, batch_size=batch_size, advance=advance
    )
