"""Decode image files to square uint8 tensors.

Pillow is slower than libjpeg bindings, but reads every common format. Speed matters little: the result is cached.
"""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import ExifTags, Image, UnidentifiedImageError
from torch import Tensor
from torchvision.transforms.v2 import functional as transforms

from scenelab.errors import LabError
from scenelab.io import DISK

MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = 100_000_000
MAX_ASPECT = 8  # images with a larger ratio of the sides are cropped before they are resized
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")  # no EPS, for which Pillow runs Ghostscript
UPRIGHT = {  # inverse of each EXIF orientation; ImageOps.exif_transpose rewrites the tags too and fails on invalid ones
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: Path) -> UInt8[Tensor, "3 h w"]:
    """Decode an image file to 8-bit RGB, rotated upright according to its EXIF orientation.

    Only the first frame of an animation is decoded. An alpha channel is dropped.

    Raises:
        LabError: the file is missing, not an image, truncated, or too large to decode safely.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_FILE_BYTES:
            raise LabError(f"image {path} has {size} bytes; expected 1 to {MAX_FILE_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        fix = "; check its disk" if error.errno in DISK else ""
        raise LabError(f"image {path} cannot be read: {error.strerror or error}{fix}") from error
    try:
        return torch.from_numpy(_decode(data, path)).permute(2, 0, 1)
    except LabError:
        raise
    except UnidentifiedImageError as error:
        raise LabError(f"image {path} is not an image file; replace it or remove it from the list") from error
    except Exception as error:  # a damaged file makes Pillow raise any type, such as struct.error
        reason = str(error).splitlines()[0] if str(error) else "damaged"
        raise LabError(f"image {path} cannot be decoded ({reason}); replace it or remove it from the list") from error


def _decode(data: bytes, path: Path) -> UInt8[np.ndarray, "h w 3"]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about invalid EXIF tags, and about large images, which are checked below
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise LabError(f"image {path} is {image.width}×{image.height}; expected at most {MAX_PIXELS:,} pixels")
            transpose = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation, 1))
            upright = image if transpose is None else image.transpose(transpose)
            if upright.mode.startswith("I;16"):
                upright = Image.fromarray((np.asarray(upright) >> 8).astype(np.uint8))
            return np.array(upright.convert("RGB"))


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
