"""Occlusion: drop of the class score when a patch of the image is covered (Zeiler & Fergus 2014, section 4.2)."""

import math
from dataclasses import dataclass
from numbers import Real
from typing import ClassVar

import torch
from torch import Tensor

from scenelab.attribution.attribution import Attribution, Batch, memory_format_of, sum_dtype
from scenelab.classifier import Images, check_count
from scenelab.errors import LabError


@dataclass(frozen=True, kw_only=True)
class Occlusion(Attribution):
    """Occlusion: mean of logit(image) - logit(occluded image) over the windows that cover a pixel, signed, N×1×H×W.

    Windows start at 0, stride, 2·stride, … until every pixel is covered. The last windows are cropped at the border.

    Attributes:
        window: side of the square window in pixels; by default, an eighth of the image's width, but at least 4.
        stride: distance of neighboring windows in pixels, at most `window`; by default, half of `window`.
        fill: value of occluded pixels; by default 0.5, gray for images in [0, 1].
    """

    window: int | None = None
    stride: int | None = None
    fill: float = 0.5

    one_by_one: ClassVar[bool] = True
    channels: ClassVar[int | None] = 1

    def __post_init__(self) -> None:
        for name, value in (("window", self.window), ("stride", self.stride)):
            if value is not None:
                check_count(name, value)
        if not isinstance(self.fill, Real) or not math.isfinite(self.fill):
            raise LabError(f"fill is {self.fill!r}; expected a pixel value")

    def check(self, images: Images) -> None:
        """Raise LabError unless the images' dtype can represent `fill`."""
        if abs(float(self.fill)) > torch.finfo(images.dtype).max:
            raise LabError(f"fill is {self.fill}; expected a pixel value, of {images.dtype}")

    def attribute(self, batch: Batch) -> Tensor:
        """Return the mean drop of the target's logit per pixel of one image, 1×1×H×W."""
        image = batch.images[0].detach()
        height, width = image.shape[1:]
        window = self.window or max(4, width // 8)
        stride = self.stride or max(1, window // 2)
        if stride > window:
            raise LabError(f"stride is {stride}; expected at most the window's {window} pixels")
        tops, lefts = (window_starts(side, window, stride) for side in (height, width))
        windows = [(slice(top, top + window), slice(left, left + window)) for top in tops for left in lefts]
        drops, counts = torch.zeros(2, 1, 1, height, width, dtype=sum_dtype(image), device=image.device)
        with torch.no_grad():
            clean = batch.logit(batch.images)
            for first in range(0, len(windows), batch.batch_size):
                part = windows[first : first + batch.batch_size]
                copies = image.expand(len(part), -1, -1, -1).clone(memory_format=memory_format_of(batch.images))
                for copy, (rows, columns) in zip(copies, part, strict=True):
                    copy[:, rows, columns] = self.fill
                for drop, (rows, columns) in zip(clean - batch.logit(copies), part, strict=True):
                    drops[0, 0, rows, columns] += drop
                    counts[0, 0, rows, columns] += 1
        return (drops / counts).to(image.dtype)


def window_starts(side: int, window: int, stride: int) -> list[int]:
    """Return the first pixel of each window along an image side of `side` pixels; windows cover all pixels."""
    return list(range(0, max(1, side - window + stride), stride))
