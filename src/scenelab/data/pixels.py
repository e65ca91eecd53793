"""Decode image files to arrays of 8-bit RGB pixels, with bounds on time and memory, and without torch."""

import io
import os
import warnings
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageFile, UnidentifiedImageError, features

from scenelab.data.containers import (
    RAW,
    RAW_SUFFIXES,
    Content,
    describe_tiff,
    read_orientation,
    recognize,
    recognize_other,
    strip,
)
from scenelab.data.deep_gray import is_deep, to_8_bits
from scenelab.errors import LabError, find_url
from scenelab.extras import HEIC, pip_install
from scenelab.io import DISK

MAX_FILE_BYTES = 256 * 2**20
MAX_PIXELS = {"WEBP": 40_000_000}  # libwebp needs 22 bytes per pixel, five times as much as the others
MAX_OTHER_PIXELS = 100_000_000
MAX_SIDE = 1_000_000  # Pillow needs 8 bytes per row, and for each jump of a compressed BMP up to 255 rows
MAX_SCAN_PIXELS = 2_000_000_000  # pixels times scans of a progressive JPEG: each scan goes through all pixels
MAX_TIFF_SCANS = 20  # per strip, if it is a progressive JPEG; libtiff's own limit is 100
os.environ.setdefault("LIBTIFF_JPEG_MAX_ALLOWED_SCAN_NUMBER", str(MAX_TIFF_SCANS))
FULL_PIXELS = 50_000_000  # larger images are halved while they are decoded
BAND_PIXELS = 2**22  # that are converted at once
UPRIGHT = {  # inverse of each EXIF orientation; ImageOps.exif_transpose rewrites the tags too and fails on invalid ones
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_pixels(path: Path) -> UInt8[np.ndarray, "h w 3"]:
    """Decode an image file to 8-bit RGB, rotated upright according to its EXIF orientation.

    Only the first frame of an animation is decoded. Alpha channels are dropped. Images of more than 50 million pixels
    are halved in width and height. Gray values of more than 8 bits are scaled as `to_8_bits` describes.

    Raises:
        LabError: the file is missing, not an image, truncated, or too large to decode safely.
    """
    path = Path(path)
    if url := find_url(path):
        raise LabError(f"image is the URL {url}; expected a file, download it first")
    try:
        size = path.stat().st_size
        if not 0 < size <= MAX_FILE_BYTES:
            raise LabError(f"image {path} has {size} bytes; expected 1 to {MAX_FILE_BYTES}")
        data = path.read_bytes()
    except OSError as error:
        fix = "; check its disk" if error.errno in DISK else ""
        raise LabError(f"image {path} cannot be read: {error.strerror or error}{fix}") from error
    return decode_pixels(data, path)


def decode_pixels(data: bytes, path: Path | str) -> UInt8[np.ndarray, "h w 3"]:
    """Decode the content of an image file as `read_pixels` does; `path` is its name in error messages."""
    kind = recognize(data)
    is_raw = kind in (None, "TIFF") and Path(path).suffix.lower() in RAW_SUFFIXES  # Pillow reads only the thumbnail
    if kind is None or is_raw:
        if other := RAW if is_raw else recognize_other(data):
            raise LabError(f"image {path} is {other}, which is not read; convert it to JPEG or PNG")
        raise LabError(f"image {path} is not an image file; replace it or remove it from the list")
    try:
        return _decode(strip(data, kind), kind)
    except Exception as error:  # a damaged file makes Pillow raise any type, such as struct.error
        reason = str(error).partition("\n")[0] or "damaged"
        if isinstance(error, UnidentifiedImageError | MemoryError):
            known = f"damaged or an unknown kind of {kind}{describe_tiff(data) if kind == 'TIFF' else ''}"
            reason = "out of memory" if isinstance(error, MemoryError) else known
        elif isinstance(error, Image.DecompressionBombError):  # Pillow's limit, which is higher
            reason = f"it is too large; expected at most {MAX_PIXELS.get(kind, MAX_OTHER_PIXELS):,} pixels"
        raise LabError(f"image {path} cannot be decoded ({reason}); replace it or remove it from the list") from error


def _decode(content: Content, kind: str) -> UInt8[np.ndarray, "h w 3"]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about large images, which are checked below
        _load_plugin(kind)
        ImageFile.LOAD_TRUNCATED_IMAGES = False  # other packages, such as WeasyPrint, switch it on for the process
        with Image.open(io.BytesIO(content.data), formats=(kind,)) as image:
            _check_size(image, kind, content.scans)
            shrink = 2 if image.width * image.height > FULL_PIXELS else 1
            if shrink > 1 and kind == "JPEG":
                image.draft(None, (image.width // shrink, image.height // shrink))
                shrink = 1
            array = _to_array(image, shrink)
            exif = image.info.get("exif", b"") if kind == "AVIF" else b""  # a HEIC image is upright already
    transpose = UPRIGHT.get(read_orientation(exif) if exif else content.orientation)
    return array if transpose is None else np.array(Image.fromarray(array).transpose(transpose))


def _load_plugin(kind: str) -> None:
    """Load what Pillow needs for an image format; raise a LabError if it is missing."""
    if kind == "HEIF":
        HEIC.require()
        import pillow_heif  # pyright: ignore[reportMissingImports]

        pillow_heif.register_heif_opener()
    elif kind == "AVIF" and not features.check("avif"):
        raise LabError(f"reading AVIF images needs Pillow 11.3; install it with: {pip_install('pillow>=11.3')}")


def _check_size(image: Image.Image, kind: str, scans: int) -> None:
    """Raise a ValueError if an image has too many pixels or JPEG scans, or too large sides or tiles, to be decoded."""
    pixels, limit = image.width * image.height, MAX_PIXELS.get(kind, MAX_OTHER_PIXELS)
    size = f"{image.width}×{image.height}"
    if pixels > limit or max(image.size) > MAX_SIDE:
        raise ValueError(f"it is {size}; expected at most {limit:,} pixels and {MAX_SIDE:,} per side")
    if kind == "TIFF":
        tile = [getattr(image, "tag_v2", {}).get(tag, 1) for tag in (322, 323)]
        if tile[0] * tile[1] > limit:
            raise ValueError(f"its tiles are {tile[0]}×{tile[1]}; expected at most {limit:,} pixels")
    if pixels * scans > MAX_SCAN_PIXELS:
        raise ValueError(f"it has {scans} scans of {size} pixels; expected at most {MAX_SCAN_PIXELS // pixels}")


def _to_array(image: Image.Image, shrink: int) -> UInt8[np.ndarray, "h w 3"]:
    """Return the pixels as RGB, downscaled by the integer `shrink`, converting some rows at a time to save memory."""
    image.load()
    convert = to_8_bits(image) if is_deep(image) else None
    array = np.empty((-(-image.height // shrink), -(-image.width // shrink), 3), np.uint8)
    band = shrink * max(1, BAND_PIXELS // image.width)
    for top in range(0, image.height, band):
        part = image.crop((0, top, image.width, min(top + band, image.height)))
        rows = (convert(part) if convert else part).convert("RGB")
        array[top // shrink : (top + band) // shrink] = np.asarray(rows if shrink == 1 else rows.reduce(shrink))
    return array
