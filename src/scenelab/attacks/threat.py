"""Threat models: a norm ball around each image within pixel bounds, optionally restricted to multiples of 1/255."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor

from scenelab.classifier import Images, Values
from scenelab.errors import LabError, printable

Image = Float[Tensor, "c h w"]

LEVELS = 255
MAX_LENGTH = 1e30  # largest radius, step or bound: sums and products with pixel values stay finite in float32
HALF = (torch.float16, torch.bfloat16)
TOLERANCE = 1e-5  # accepted distance of a pixel value from the bounds or from a multiple of 1/255


def _widen(tensor: Tensor) -> Tensor:
    return tensor.to(torch.float32 if tensor.device.type == "mps" else torch.float64)


def check_length(name: str, value: float, expected: str) -> float:
    """Return `value`, the value of argument `name`, as a float; raise LabError unless it is in [0, 1e30]."""
    if not isinstance(value, Real) or not 0 <= value <= MAX_LENGTH:
        raise LabError(f"{name} is {printable(repr(value))}; expected {expected}, at most 1e30")
    return float(value)


def _check_bounds(bounds: Any) -> tuple[float, float]:
    """Return two numbers from a tuple, list, array or tensor; raise LabError for anything else."""
    values = bounds.tolist() if isinstance(bounds, (Tensor, np.ndarray)) else bounds
    pair: list[float] = list(values) if isinstance(values, (tuple, list)) else []
    pair = [value.item() if isinstance(value, (Tensor, np.ndarray)) and value.shape == () else value for value in pair]
    usable = all(isinstance(value, Real) and (abs(value) <= MAX_LENGTH or abs(value) == math.inf) for value in pair)
    if len(pair) == 2 and usable and pair[0] < pair[1]:
        return float(pair[0]), float(pair[1])
    raise LabError(
        f"bounds are {printable(repr(bounds))}; expected the lowest and the largest pixel value of all channels, as "
        "(0.0, 1.0), within ±1e30, or None"
    )


@dataclass(frozen=True)
class Threat(ABC):
    """Base class of threat models: the set of allowed adversarial images; subclasses define the norm.

    Attributes:
        epsilon: radius of the ball in pixel units, such as 8/255 for images in [0, 1]; at most 1e30.
        bounds: range of pixel values, two numbers for all channels; None for no bounds, as for normalized images.
        quantize: restrict pixel values to multiples of 1/255, so that a PNG file stores the images exactly.
        dtype: restrict pixel values to those of a 16-bit dtype; an attack sets it to the images' dtype.
    """

    epsilon: float
    bounds: tuple[float, float] | None = (0.0, 1.0)
    quantize: bool = False
    dtype: torch.dtype | None = field(default=None, repr=False)
    name: ClassVar[str]

    def __post_init__(self) -> None:
        expected = "a number of at least 0, in pixel units, as 8/255"
        object.__setattr__(self, "epsilon", check_length("epsilon", self.epsilon, expected))
        object.__setattr__(self, "bounds", None if self.bounds is None else _check_bounds(self.bounds))
        if self.dtype not in (None, *HALF, torch.float32, torch.float64):
            raise LabError(f"dtype is {self.dtype!r}; expected torch.float16, bfloat16, float32, float64 or None")
        if self.quantize and self.bounds != (0.0, 1.0):
            raise LabError(f"bounds are {self.bounds}; quantize=True needs images in [0, 1]")

    @abstractmethod
    def sample(self, image: Image, generator: Generator) -> Image:
        """Return a perturbation of one image, drawn uniformly from the ball."""

    @abstractmethod
    def steepest(self, grads: Images, size: Values) -> Images:
        """Return the perturbation of norm `size` with the largest inner product with `grads`, per image."""

    @abstractmethod
    def clip(self, perturbation: Images) -> Images:
        """Return the nearest perturbation inside the ball, per image."""

    @abstractmethod
    def norm(self, perturbation: Images) -> Values:
        """Return the norm of each perturbation, in pixel units."""

    @abstractmethod
    def is_inside(self, perturbation: Images) -> Bool[Tensor, "..."]:
        """Return a mask of the values (L∞) or images (L2, N×1×1×1) that are inside the ball, without tolerance."""

    @abstractmethod
    def round_levels(self, levels: Images) -> Images:
        """Return perturbations rounded to integers inside the ball; input and output are in units of 1/255."""

    @property
    def _range(self) -> tuple[float, float]:
        return self.bounds or (float("-inf"), float("inf"))

    def check(self, images: Images) -> None:
        """Raise LabError unless the clean images are within the bounds and, with `quantize`, multiples of 1/255."""
        if not images.numel():
            return
        (low, high), least, largest = self._range, images.min().item(), images.max().item()
        slack = TOLERANCE
        if self.dtype is not None and self.bounds:  # bounds such as 2.64 are rounded too
            slack = max(slack, torch.finfo(self.dtype).eps * max(map(abs, self.bounds)))
        if not (low - slack <= least <= largest <= high + slack):
            raise LabError(
                f"images have values in [{least:.4g}, {largest:.4g}]; expected [{low:g}, {high:g}]: attack the model "
                "with its normalization inside, or pass the bounds of the normalized space to the threat"
            )
        if self.quantize and not self._is_on_levels(images):
            raise LabError(
                "images are not on 8-bit levels, which quantize=True needs; round them: (255 * images).round() / 255"
            )

    def _is_on_levels(self, images: Images) -> bool:
        levels = (LEVELS * images).round()
        if self.dtype is not None:
            return bool(((levels / LEVELS).to(self.dtype) == images).all())
        return bool((LEVELS * images - levels).abs().max() <= LEVELS * TOLERANCE)

    def project(self, images: Images, points: Images) -> Images:
        """Return points projected into the ball around the images, then clamped to the bounds.

        The images are within the bounds, so clamping never makes a perturbation larger. In float32 and float64,
        rounding may leave the ball by a few units in the last place; `inside` removes that.
        """
        if images.dtype in HALF:
            wide, threat = images.float(), replace(self, dtype=images.dtype, quantize=False)
            return threat.quantized(wide, self.project(wide, points.float())).to(images.dtype)
        return self.clip(points - images).add_(images).clamp_(*self._range)

    def quantized(self, images: Images, points: Images) -> Images:
        """Return points in the ball, rounded to multiples of 1/255 (if `quantize`) and to `dtype` (if set)."""
        if images.dtype in HALF:
            threat = replace(self, dtype=images.dtype)
            return threat.quantized(images.float(), points.float()).to(images.dtype)
        if self.quantize:
            change = self.round_levels(LEVELS * (points - images))
            points = ((LEVELS * images).round_() + change).div_(LEVELS).clamp_(*self._range)
        return points if self.dtype is None else self._round(images, points, self.dtype)

    def _round(self, images: Images, points: Images, dtype: torch.dtype) -> Images:
        """Return `points` rounded to values of `dtype`: to the nearest one that is inside the ball and the bounds.

        The perturbation is inside the ball in exact arithmetic and in the arithmetic of `dtype`. Where the nearest
        value is not, a value closer to the image is returned.
        """
        images, points, limits = _widen(images), _widen(points), torch.finfo(dtype)
        nearest, (low, high) = points.to(dtype), self._range
        values = _widen(nearest)
        fits = self.is_inside(values - images) & self.is_inside(nearest - images.to(dtype))
        fits = fits & (values >= low) & (values <= high)
        if self.quantize:
            levels, change = (LEVELS * images).round(), (LEVELS * points).round() - (LEVELS * images).round()
            inner = (levels + change - change.sign()) / LEVELS
        else:
            change, spacing = points - images, limits.eps * values.abs().clamp_min(limits.tiny)
            inner = images + change.sign() * (change.abs() * (1 - 2 * limits.eps) - spacing).clamp_min_(0)
        return torch.where(fits, values, _widen(inner.to(dtype))).float()

    def inside(self, images: Images, points: Images, margin: int = 8) -> Images:
        """Return float32 or float64 points, moved toward the images where rounding left the ball.

        The perturbation is then inside the ball in exact arithmetic and in that of its dtype. Rounded points stay:
        multiples of 1/255, which are inside the ball in units of 1/255, and values of a 16-bit dtype.

        Args:
            images: clean images, N×C×H×W.
            points: points in the ball up to rounding, N×C×H×W.
            margin: units in the last place by which perturbations outside the ball shrink.
        """
        if not self.epsilon:  # also where an image is outside the bounds by less than the tolerance
            return images.clone()
        change = points - images
        outside = ~(self.is_inside(change) & self.is_inside(_widen(points) - _widen(images)))
        if self.quantize or self.dtype in HALF or not outside.any():
            return points
        shrink = max(0.0, 1 - margin * torch.finfo(points.dtype).eps)
        change = (self.clip(_widen(change)) * shrink).to(points.dtype)
        inner = images + change
        inner = torch.where((inner - images).abs() > change.abs(), inner.nextafter(images), inner)
        points = torch.where(outside, inner, points)
        if shrink == 0 or outside.shape == points.shape:  # one mask value per pixel value: no norm that rounds again
            return points
        return self.inside(images, points, 8 * margin)

    def contains(self, images: Images, points: Images) -> Bool[Tensor, " n"]:
        """Return a mask of the points that are within the bounds and, up to floating-point rounding, in the ball."""
        near = self.norm(points - images) <= self.epsilon * (1 + TOLERANCE) + TOLERANCE / LEVELS
        (low, high), values = self._range, points.flatten(1)
        return near & ((values >= low) & (values <= high)).all(dim=1)


@dataclass(frozen=True)
class Linf(Threat):
    """L∞ threat model: each pixel value changes by at most `epsilon`."""

    name = "L∞"

    def sample(self, image: Image, generator: Generator) -> Image:
        """Return a perturbation with values drawn uniformly from [-ε, ε]."""
        uniform = torch.rand(image.shape, generator=generator, dtype=image.dtype, device=image.device)
        return self.epsilon * (2 * uniform - 1)

    def steepest(self, grads: Images, size: Values) -> Images:
        """Return the sign of the gradients, times the size per image."""
        return grads.sign().mul_(size.view(-1, 1, 1, 1))

    def clip(self, perturbation: Images) -> Images:
        """Return the perturbation with every value clamped to [-ε, ε]."""
        return perturbation.clamp(-self.epsilon, self.epsilon)

    def norm(self, perturbation: Images) -> Values:
        """Return the largest absolute value of each perturbation."""
        return perturbation.flatten(1).abs().amax(dim=1)

    def is_inside(self, perturbation: Images) -> Bool[Tensor, "n c h w"]:
        """Return a mask of the values in [-ε, ε]."""
        return _widen(perturbation).abs() <= self.epsilon

    def round_levels(self, levels: Images) -> Images:
        """Return values, in units of 1/255, rounded to the nearest integer and clamped to the ball."""
        limit = min(math.floor(LEVELS * self.epsilon + TOLERANCE), LEVELS)
        return levels.round().clamp_(-limit, limit)


def _rescale(tensor: Tensor) -> tuple[Tensor, Values, Values]:
    """Return `tensor` divided by a scale per image, the Euclidean norms of the result, and the scales.

    A scale is the largest absolute value where squares would overflow or underflow, else 1.
    """
    length = tensor.flatten(1).norm(dim=1)
    limits = torch.finfo(torch.promote_types(tensor.dtype, torch.float32))  # squares of 16-bit values are float32
    scale, safe = torch.ones_like(length), (length > limits.tiny**0.5 / limits.eps**0.5) & (length < float("inf"))
    if not safe.all():
        largest = tensor.flatten(1).abs().amax(dim=1)
        scale = torch.where(~safe & (largest > 0) & largest.isfinite(), largest, scale)
        tensor = tensor / scale.view(-1, 1, 1, 1)
        length = torch.where(safe, length, tensor.flatten(1).norm(dim=1))
    return tensor, length, scale


@dataclass(frozen=True)
class L2(Threat):
    """L2 threat model: the Euclidean norm of the perturbation of an image is at most `epsilon`."""

    name = "L2"

    def sample(self, image: Image, generator: Generator) -> Image:
        """Return a random direction scaled to norm ε·u^(1/d), for u uniform in [0, 1] and an image of d values."""
        normal = torch.randn(image.shape, generator=generator, dtype=image.dtype, device=image.device)
        radius = torch.rand((), generator=generator, dtype=image.dtype, device=image.device) ** (1 / image.numel())
        return normal * (self.epsilon * radius / normal.norm())

    def steepest(self, grads: Images, size: Values) -> Images:
        """Return the gradients scaled to Euclidean norm `size`; a zero gradient stays zero."""
        grads, length, _ = _rescale(grads)
        return grads * torch.where(length > 0, size / length, 0.0).view(-1, 1, 1, 1)

    def clip(self, perturbation: Images) -> Images:
        """Return perturbations, scaled to norm ε where the norm exceeds ε."""
        length = self.norm(perturbation)
        share = self.epsilon / length.clamp_min(torch.finfo(length.dtype).tiny)  # torch multiplies by 1 / length
        return perturbation * torch.where(length > self.epsilon, share, 1.0).view(-1, 1, 1, 1)

    def norm(self, perturbation: Images) -> Values:
        """Return the Euclidean norm of each perturbation."""
        _, length, scale = _rescale(perturbation)
        return length * scale

    def is_inside(self, perturbation: Images) -> Bool[Tensor, "n 1 1 1"]:
        """Return a mask of the norms of at most ε; in 16-bit dtypes, with a margin for rounding errors."""
        slack = torch.finfo(perturbation.dtype).eps if perturbation.dtype in HALF else 0.0
        return (_widen(self.norm(perturbation)) * (1 + slack) <= self.epsilon).view(-1, 1, 1, 1)

    def round_levels(self, levels: Images) -> Images:
        """Return values truncated toward zero, with a tolerance for rounding errors, so that no norm grows."""
        return (levels * (1 + TOLERANCE)).trunc()
