"""What an attack may do to an image: a norm ball around it, cut to the range of pixels, on request to whole levels.

A ball supplies the three pieces that attacks are made of: where to start, the steepest step, and the way back inside.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from scenelab.errors import LabError

LEVELS = 255
TOLERANCE = 1e-5  # of pixel values that should lie in the range or on a level


class Ball(Protocol):
    """All perturbations up to a size, which is in pixel units: 8/255 is eight levels of an 8-bit image."""

    @property
    def epsilon(self) -> float: ...

    @property
    def name(self) -> str: ...

    def draw(self, image: Float[Tensor, "c h w"], generator: torch.Generator) -> Float[Tensor, "c h w"]:
        """A perturbation drawn evenly from the ball."""
        ...

    def step(self, slopes: Float[Tensor, "n c h w"], size: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        """The perturbation of this size along which a linear function with these slopes rises most."""
        ...

    def project(self, change: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The nearest perturbation in the ball."""
        ...

    def norm(self, change: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        """The size of each perturbation."""
        ...

    def whole(self, levels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Whole numbers of levels of 8 bits near a perturbation of the ball, in the ball themselves."""
        ...


def _check(epsilon: float) -> None:
    if not isinstance(epsilon, int | float) or not 0 <= epsilon < float("inf"):
        raise LabError(f"epsilon is {epsilon!r}; expected a number from 0 in pixel units, such as 8/255")


@dataclass(frozen=True)
class Linf:
    """Every value of every pixel changes by at most epsilon."""

    epsilon: float
    name = "L∞"

    def __post_init__(self) -> None:
        _check(self.epsilon)

    def draw(self, image: Float[Tensor, "c h w"], generator: torch.Generator) -> Float[Tensor, "c h w"]:
        uniform = torch.rand(image.shape, generator=generator, dtype=image.dtype, device=image.device)
        return self.epsilon * (2 * uniform - 1)

    def step(self, slopes: Float[Tensor, "n c h w"], size: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        return slopes.sign().mul_(size.view(-1, 1, 1, 1))

    def project(self, change: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return change.clamp(-self.epsilon, self.epsilon)

    def norm(self, change: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        return change.flatten(1).abs().amax(dim=1)

    def whole(self, levels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """The nearest ones, at most ε: rounding towards nothing would take small steps back."""
        most = math.floor(LEVELS * self.epsilon + TOLERANCE)
        return levels.round().clamp_(-most, most)


@dataclass(frozen=True)
class L2:
    """The square root of the sum of all squared changes of an image is at most epsilon."""

    epsilon: float
    name = "L2"

    def __post_init__(self) -> None:
        _check(self.epsilon)

    def draw(self, image: Float[Tensor, "c h w"], generator: torch.Generator) -> Float[Tensor, "c h w"]:
        """A direction drawn evenly, and a radius as volume grows with it."""
        normal = torch.randn(image.shape, generator=generator, dtype=image.dtype, device=image.device)
        radius = torch.rand((), generator=generator, dtype=image.dtype, device=image.device) ** (1 / image.numel())
        return normal * (self.epsilon * radius / normal.norm())

    def step(self, slopes: Float[Tensor, "n c h w"], size: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
        length = self.norm(slopes)
        factor = torch.where(length > 0, size / length, torch.zeros_like(length))
        return slopes * factor.view(-1, 1, 1, 1)

    def project(self, change: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        length = self.norm(change)
        factor = torch.where(length > self.epsilon, self.epsilon / length, torch.ones_like(length))
        return change * factor.view(-1, 1, 1, 1)

    def norm(self, change: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
        return change.flatten(1).norm(dim=1)

    def whole(self, levels: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Towards nothing, which makes no change larger; a change that floats hold as 1.9999998 levels is two."""
        return (levels * (1 + TOLERANCE)).trunc()


@dataclass(frozen=True)
class Space:
    """Where adversarial images may lie.

    Attributes:
        ball: how far from the image.
        low, high: range of pixel values.
        whole: only whole levels of 8 bits: what a PNG file can hold.
    """

    ball: Ball
    low: float = 0.0
    high: float = 1.0
    whole: bool = False

    def check(self, images: Float[Tensor, "n c h w"]) -> None:
        """Raise unless the images themselves lie in the range and, where that is asked for, on whole levels.

        Raises:
            LabError: they do not.
        """
        if not images.numel():
            return
        low, high = images.min().item(), images.max().item()
        if not (self.low - TOLERANCE <= low <= high <= self.high + TOLERANCE):
            raise LabError(
                f"images have values in [{low:.4g}, {high:.4g}]; expected [{self.low:g}, {self.high:g}]: attack the "
                "model with its normalisation inside, or pass the range of a normalised space as bounds"
            )
        if self.whole and (LEVELS * images - (LEVELS * images).round()).abs().max() > LEVELS * TOLERANCE:
            raise LabError(
                "images are not on the levels of 8 bits that eight_bit asks for; round them first: "
                "(255 * images).round() / 255"
            )

    def project(self, images: Float[Tensor, "n c h w"], moved: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Back into the ball around the images and into the range; what is inside stays as it is.

        The image lies in the range, so that cutting to it makes no change larger.
        """
        return (images + self.ball.project(moved - images)).clamp_(self.low, self.high)

    def shown(self, images: Float[Tensor, "n c h w"], moved: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """What the model is given: the point itself, or whole levels near it within the ball."""
        if not self.whole:
            return moved
        change = self.ball.whole(LEVELS * (moved - images))
        return ((LEVELS * images).round_() + change).div_(LEVELS).clamp_(self.low, self.high)

    def holds(self, images: Float[Tensor, "n c h w"], moved: Float[Tensor, "n c h w"]) -> Bool[Tensor, " n"]:
        """Whether each lies in the ball and the range, but for rounding of floats."""
        near = self.ball.norm(moved - images) <= self.ball.epsilon * (1 + TOLERANCE) + TOLERANCE / LEVELS
        values = moved.flatten(1)
        return near & ((values >= self.low) & (values <= self.high)).all(dim=1)
