"""One image file to one square uint8 picture."""

from pathlib import Path

import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms.v2 import functional as transforms

from scenelab.errors import LabError

MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 100_000_000


def read_image(path: Path) -> UInt8[Tensor, "3 h w"]:
    """Decode a JPEG, PNG, WebP or GIF file to RGB, upright.

    Grayscale, palette, alpha and CMYK images become RGB; the EXIF orientation is applied.

    Raises:
        LabError: the file is missing, not an image, truncated, or too large to decode safely.
    """
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_FILE_BYTES:
            raise LabError(f"image {path} has {size} bytes; expected 1 to {MAX_FILE_BYTES}")
        data = torch.frombuffer(bytearray(path.read_bytes()), dtype=torch.uint8)
    except OSError as error:
        raise LabError(f"image {path} cannot be read: {error.strerror or error}") from error
    _refuse_bomb(path)
    try:
        image = decode_image(data, mode=ImageReadMode.RGB, apply_exif_orientation=True)
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0].rpartition(".cpp:")[2].partition(", ")[2] or "damaged"
        raise LabError(f"image {path} cannot be decoded ({reason}); replace it or take it out of the list") from error
    return image[-1] if image.ndim == 4 else image


def _refuse_bomb(path: Path) -> None:
    """Read the size from the header alone: a file of a few kilobytes can promise gigabytes of pixels."""
    try:
        with Image.open(path) as header:
            pixels = header.width * header.height
    except Image.DecompressionBombError as error:
        raise LabError(f"image {path} is too large: {error}") from error
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError) as error:
        raise LabError(f"image {path} cannot be decoded (not an image file); replace it or take it out") from error
    if pixels > MAX_PIXELS:
        raise LabError(f"image {path} has {pixels} pixels; at most {MAX_PIXELS} are decoded")


def fit(image: UInt8[Tensor, "3 h w"], size: int) -> UInt8[Tensor, "3 size size"]:
    """Resize the shorter side to `size` (bilinear, antialiased), then cut the centre square."""
    height, width = image.shape[-2:]
    if (height, width) == (size, size):
        return image
    scale = size / min(height, width)
    shape = [max(size, round(height * scale)), max(size, round(width * scale))]
    return transforms.center_crop(transforms.resize(image, shape, antialias=True), [size, size])
