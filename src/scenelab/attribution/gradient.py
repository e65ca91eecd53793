"""Gradients of a class score with respect to the image, and their mean and variance over noisy copies."""

from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor

from scenelab.attribution.attribution import Attribution, Batch, ScoreFn, memory_format_of, sum_dtype, target_logit
from scenelab.classifier import Images, check_count
from scenelab.errors import LabError


@dataclass(frozen=True, kw_only=True)
class Gradient(Attribution):
    """Gradient of the score with respect to the image, signed, N×C×H×W (Simonyan et al. 2014).

    Attributes:
        score_fn: `target_logit`, `target_loss` (cross-entropy), or any function of logits and targets.
    """

    score_fn: ScoreFn = target_logit

    def __post_init__(self) -> None:
        if not callable(self.score_fn):
            raise LabError(f"score_fn is {self.score_fn!r}; expected a function such as target_logit")

    def attribute(self, batch: Batch) -> Images:
        """Return the gradients of the score, N×C×H×W."""
        return batch.grad(batch.images, self.score_fn)


@dataclass(frozen=True, kw_only=True)
class Saliency(Gradient):
    """Saliency map: largest absolute gradient over the channels, N×1×H×W (Simonyan et al. 2014, section 3.1)."""

    channels: ClassVar[int | None] = 1

    def attribute(self, batch: Batch) -> Images:
        """Return the largest absolute gradient over the channels, N×1×H×W."""
        return super().attribute(batch).abs().amax(dim=1, keepdim=True)


@dataclass(frozen=True, kw_only=True)
class GradientTimesInput(Gradient):
    """Gradient times image, signed, N×C×H×W: for a linear model, the contribution of each pixel value to the score."""

    def attribute(self, batch: Batch) -> Images:
        """Return the elementwise products of images and gradients, N×C×H×W."""
        return batch.images.detach() * super().attribute(batch)


@dataclass(frozen=True, kw_only=True)
class SmoothGrad(Gradient):
    """SmoothGrad: mean gradient over noisy copies of the image, N×C×H×W (Smilkov et al. 2017).

    Every image gets the same noise, for any batch size. Noisy images are not clamped, as in the paper.

    Attributes:
        samples: number of noisy copies per image.
        sigma: standard deviation of the noise in pixel units; the paper uses 10 to 20 % of the pixel range.
        seed: seed of the noise; the global random state does not change.
    """

    samples: int = 50
    sigma: float = 0.1
    seed: int = 0

    one_by_one: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count("samples", self.samples)
        if not isinstance(self.sigma, Real) or not 0 <= self.sigma < float("inf"):
            raise LabError(f"sigma is {self.sigma!r}; expected at least 0, in the images' units")
        check_count("seed", self.seed, minimum=0)
        if self.seed >= 2**64:
            raise LabError(f"seed is {self.seed}; expected an integer below 2**64")

    def attribute(self, batch: Batch) -> Images:
        """Return the mean gradient over noisy copies of the only image of `batch`, 1×C×H×W."""
        return self._moments(batch)[0][None]

    def _moments(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Return mean and variance of one image's gradients over noisy copies, C×H×W (method of Chan et al. 1983)."""
        image = batch.images[0].detach()
        generator = torch.Generator(device=image.device).manual_seed(self.seed)
        dtype = sum_dtype(image)
        mean, squares, seen = torch.zeros_like(image, dtype=dtype), torch.zeros_like(image, dtype=dtype), 0
        while seen < self.samples:
            count = min(batch.batch_size, self.samples - seen)
            noise = torch.empty((count, *image.shape), dtype=image.dtype, device=image.device)
            for sample in noise:  # one draw for the batch would depend on its size
                torch.randn(image.shape, generator=generator, out=sample)
            points = noise.mul_(self.sigma).add_(image).contiguous(memory_format=memory_format_of(batch.images))
            grads = batch.grad(points, self.score_fn).to(dtype)
            variance, offset = torch.var_mean(grads, dim=0, correction=0)
            offset -= mean
            squares += variance * count + offset.square() * (seen * count / (seen + count))
            mean += offset * (count / (seen + count))
            seen += count
        return mean.to(image.dtype), (squares / self.samples).to(image.dtype)


@dataclass(frozen=True, kw_only=True)
class VarGrad(SmoothGrad):
    """VarGrad: population variance of the gradients over noisy copies, N×C×H×W (Adebayo et al. 2018b)."""

    def attribute(self, batch: Batch) -> Images:
        """Return the variance of the gradients over noisy copies of the only image of `batch`, 1×C×H×W."""
        return self._moments(batch)[1][None]
