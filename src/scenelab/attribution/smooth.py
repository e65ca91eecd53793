"""SmoothGrad: gradients averaged over noisy copies of the image (Smilkov et al. 2017), and their variance."""

from typing import Literal

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
from scenelab.errors import LabError


def smooth_gradient(
    model: Model,
    images: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, " n"] | None = None,
    *,
    samples: int = 50,
    sigma: float = 0.1,
    statistic: Literal["mean", "variance"] = "mean",
    seed: int = 0,
    objective: Objective = score,
    batch_size: int = BATCH,
    advance: Advance = silent,
) -> Float[Tensor, "n c h w"]:
    """Mean (SmoothGrad) or variance (VarGrad, Adebayo et al. 2018b) of the gradients at image + σ·noise.

    The noise is normal and the same for all images and for a seed, whatever the batch size, so that an image's map does
    not depend on where it stands; noisy images are not cut to any range, as in the paper. Targets are chosen on the
    clean images.

    Args:
        samples: noisy copies an image.
        sigma: standard deviation of the noise in the images' units; the paper has 10 to 20 % of their range.
        statistic: the variance is that of the samples themselves, divided by their number.
        seed: of the noise; the caller's random state is not touched.
        advance: called with 1 after each image.

    Raises:
        LabError: arguments that do not fit.
    """
    check_count("samples", samples)
    check_count("batch_size", batch_size)
    if sigma < 0:
        raise LabError(f"sigma is {sigma}; expected 0 or more, in the images' units")
    if statistic not in ("mean", "variance"):
        raise LabError(f"statistic is {statistic!r}; expected mean or variance")
    with evaluating(model):
        targets = choose_targets(model, images, targets, batch_size=batch_size)
        parts = []
        for row in range(len(images)):
            parts.append(_one(model, images[row], targets[row], samples, sigma, statistic, seed, objective, batch_size))
            advance(1)
    return torch.stack(parts) if parts else torch.empty_like(images)


def _one(
    model: Model, image: Tensor, target: Tensor, samples: int, sigma: float, statistic: str, seed: int,
    objective: Objective, batch_size: int,
) -> Tensor:  # fmt: skip
    """Welford's sums in batches (Chan et al. 1983), so that memory does not grow with the samples."""
    generator = torch.Generator(device=image.device).manual_seed(seed)
    mean, squares, seen = torch.zeros_like(image), torch.zeros_like(image), 0
    while seen < samples:
        count = min(batch_size, samples - seen)
        copies = torch.stack([_noise(image, generator) for _ in range(count)]).mul_(sigma).add_(image.detach())
        values = gradient_of(model, copies, target.expand(count), objective)
        away = values.mean(dim=0) - mean
        if statistic == "variance":
            squares += values.var(dim=0, correction=0) * count + away.square() * (seen * count / (seen + count))
        mean += away * (count / (seen + count))
        seen += count
    return mean if statistic == "mean" else squares / samples


def _noise(image: Tensor, generator: torch.Generator) -> Tensor:
    """Drawn a sample at a time: normal draws of a longer tensor would be others."""
    return torch.randn(image.shape, generator=generator, dtype=image.dtype, device=image.device)
