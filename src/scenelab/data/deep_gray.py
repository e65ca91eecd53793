"""Convert gray images of more than 8 bits or of signed values to 8 bits, because Pillow converts them wrongly."""

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from PIL import Image

BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339  # TIFF 6.0
WHITE_IS_ZERO, SIGNED = 0, 2
OVERSHOOT = 0.1  # of floats, left by a resampling filter
MIN_SHARE = 1 / 32  # of a larger range that an image must use: below, the range is a guess


def is_deep(image: Image.Image) -> bool:
    """Return whether an image has gray values of more than 8 bits or signed ones, which Pillow converts wrongly."""
    is_signed = getattr(image, "tag_v2", {}).get(SAMPLE_FORMAT) == (SIGNED,)
    return image.mode in ("I", "F") or image.mode.startswith("I;16") or (image.mode == "L" and is_signed)


def to_8_bits(image: Image.Image) -> Callable[[Image.Image], Image.Image]:
    """Return a function that converts crops of `image` to 8 bits (mode L); `is_deep(image)` must be true.

    Integers of at most 16 bits are scaled from their full range. Other values are scaled from the smallest range that
    contains the image: 8, 16 or 32 bits for integers; [0, 1], [0, 255] or [0, 65535] for floats.

    Raises:
        ValueError: no range fits, or (on conversion) a value is not finite.
    """
    tags = getattr(image, "tag_v2", {})
    bits = tags.get(BITS, (16,))[0] - (tags.get(SAMPLE_FORMAT, (1,))[0] == SIGNED)
    low, high = (0, 0) if image.mode.startswith("I;16") else cast(tuple[float, float], image.getextrema())
    if image.mode == "F":
        top = _smallest_range(low, high, (1, 255, 2**16 - 1), OVERSHOOT)
    elif bits == 32 and low < 0:  # Pillow's integers are signed
        top = 2**32 - 1
    else:
        top = _smallest_range(low, high, (255, 2**16 - 1, 2**bits - 1) if bits > 16 else (2**bits - 1,), 0)
    scale, offset = (255, 0.5) if top == 1 else (256 / (top + 1), 0)

    def convert(part: Image.Image) -> Image.Image:
        values = np.asarray(part)
        if not np.isfinite(values).all():
            raise ValueError("it has gray values that are not finite")
        values = values.view(np.uint32) if top == 2**32 - 1 else values
        gray = np.clip(values * scale + offset, 0, 255).astype(np.uint8)
        return Image.fromarray(255 - gray if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO else gray)

    return convert


def _smallest_range(low: float, high: float, tops: Sequence[int], overshoot: float) -> int:
    """Return the first `top` of the ascending `tops` with low and high in [0, top]; floats may exceed it by a tenth."""
    for top in tops:
        if low >= -overshoot * top and high <= (1 + overshoot) * top and (top == tops[0] or high >= MIN_SHARE * top):
            return top
    raise ValueError(f"its gray values go from {low:g} to {high:g}; expected 0 to {', 0 to '.join(map(str, tops))}")
