"""Decode image files to square uint8 tensors.

Pillow is slower than libjpeg bindings, but reads every common format. Speed matters little: the result is cached.
"""

from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from scenelab.data.pixels import read_pixels

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
        image = transforms.center_crop(image, [min(height, limit), min(width, limit)])
        height, width = image.shape[-2:]
    scale = size / min(height, width)
    shape = [max(size, round(height * scale)), max(size, round(width * scale))]
    return transforms.center_crop(transforms.resize(image, shape, antialias=True), [size, size])


def read_images(paths: list[Path], size: int) -> Float[Tensor, "n 3 s s"]:
    """Return a batch of decoded images in [0, 1], each resized and center-cropped to `size`×`size` pixels."""
    return torch.stack([fit(read_image(path), size) for path in paths]).float().div_(255)
