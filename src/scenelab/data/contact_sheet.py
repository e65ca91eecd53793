"""Contact sheet: images side by side in one image."""

from pathlib import Path

import torch.nn.functional as F
from jaxtyping import Float
from PIL import Image
from torch import Tensor

from scenelab.io import atomic_write

COLUMNS = 8


def contact_sheet(images: Float[Tensor, "n c s s"]) -> Float[Tensor, "c h w"]:
    """Return images in rows of eight, from left to right; the rest of the last row is 0."""
    side, rows = images.shape[-1], -(-len(images) // COLUMNS)
    values = F.pad(images.flatten(1).T, (0, rows * COLUMNS - len(images)))
    return F.fold(values, (rows * side, COLUMNS * side), kernel_size=side, stride=side)


def write_contact_sheet(images: Float[Tensor, "n 3 s s"], path: Path) -> None:
    """Write a contact sheet of images in [0, 1] as a JPEG file."""
    pixels = contact_sheet(images.cpu()).clamp(0, 1).mul(255).round().byte().permute(1, 2, 0)
    with atomic_write(path) as file:
        Image.fromarray(pixels.numpy()).save(file, "jpeg", quality=90)
