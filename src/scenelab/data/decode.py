"""Decode image files to square uint8 tensors.

Pillow is slower than libjpeg bindings, but reads every common format. Speed matters little: the result is cached.
"""

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from scenelab.data.pixels import read_pixels
from scenelab.errors import LabError

MAX_ASPECT = 8  # images with a larger ratio of the sides are cropped before they are resized


def read_image(path: Path) -> UInt8[Tensor, "3 h w"]:
    """Return an image file's pixels as `read_pixels` does, as a tensor."""
    return torch.from_numpy(read_pixels(path)).permute(2, 0, 1)


def fit(image: UInt8[Tensor, "3 h w"], size: int) -> UInt8[Tensor, "3 size size"]:
    """Return the image with its shorter side resized to `size` pixels (antialiased), cropped to the center square."""
    height, width = image.shape[-2:]
    if (height, width) == (size, size):
        return image
    limit = MAX_ASPECT * min(height, width)
    if max(height, width) > limit:  # else 1×100,000 pixels would become 128×12,800,000
        image = _center_crop(image, min(height, limit), min(width, limit))
        height, width = image.shape[-2:]
    scale = size / min(height, width)
    shape = [max(size, round(height * scale)), max(size, round(width * scale))]
    if shape != [height, width]:
        image = F.interpolate(image[None], shape, mode="bilinear", antialias=True)[0]
    return _center_crop(image, size, size)


def _center_crop(image: UInt8[Tensor, "3 h w"], height: int, width: int) -> UInt8[Tensor, "3 rows cols"]:
    top, left = (round((have - want) / 2) for have, want in zip(image.shape[1:], (height, width), strict=True))
    return image[:, top : top + height, left : left + width]


def is_readable(path: Path) -> bool:
    """Return whether an image file can be decoded."""
    try:
        read_image(path)
    except LabError:
        return False
    return True


def read_images(paths: list[Path], size: int) -> Float[Tensor, "n 3 s s"]:
    """Return a batch of decoded images in [0, 1], each resized and center-cropped to `size`×`size` pixels."""
    return torch.stack([fit(read_image(path), size) for path in paths]).float().div_(255)
