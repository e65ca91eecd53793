"""Write a network for other programs, and call it written only when the file says what the network says."""

import os
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.errors import LabError
from scenelab.io import sync_folder, temporary_folder
from scenelab.runs.export.formats import WRITERS, Format
from scenelab.runs.network import Stored

TOLERANCE = 1e-3  # of a logit; two runtimes sum in float32 in different orders
BATCH = 16


def export(stored: Stored, images: Float[Tensor, "n 3 s s"], form: Format, path: Path) -> dict[str, Any]:
    """Write, read back, compare on images, and only then give the file its name.

    Args:
        images: in [0, 1], at the network's size.
        path: of the file.

    Returns:
        Format, file, bytes, number of images, the largest difference of a logit and the share of equal first guesses.

    Raises:
        LabError: the format's package is missing, the disk is full, or the file says something else than the network.
    """
    try:
        with temporary_folder(path) as folder:
            temporary = folder / path.name
            read = _write(stored, form, temporary)
            found = compare(stored, images, read)
            if not found["largest_difference"] <= TOLERANCE:
                raise LabError(
                    f"{form} was not written: its logits differ from the network's by up to "
                    f"{found['largest_difference']:.2g} on {len(images)} images, more than {TOLERANCE:g}"
                )
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror or error}; choose another with --out") from error
    return {
        "format": form, "file": str(path), "bytes": path.stat().st_size, "tolerance": TOLERANCE, **found,
    }  # fmt: skip


def _write(stored: Stored, form: Format, path: Path) -> Any:
    try:
        return WRITERS[form](stored, path)
    except (LabError, OSError):
        raise
    except Exception as error:  # the exporters raise types of their own, many and undocumented
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise LabError(f"{stored.arch} cannot be written as {form}: {reason}; try another --format") from error


@torch.no_grad()
def compare(stored: Stored, images: Float[Tensor, "n 3 s s"], read: Any) -> dict[str, Any]:
    """The file against the network on the same images, in batches of 1, of 16, and of what is left."""
    if not len(images):
        raise LabError("there is no image to check the export on")
    parts = [images[:1], *images[1:].split(BATCH)]
    parts = [part for part in parts if len(part)]
    own = torch.cat([stored.model(part) for part in parts])
    other = torch.cat([read(part) for part in parts])
    if other.shape != own.shape:
        raise LabError(f"the file returns {tuple(other.shape)} for {len(images)} images, not {tuple(own.shape)}")
    return {
        "images": len(images),
        "largest_difference": (own - other).abs().max().item(),
        "largest_logit": own.abs().max().item(),
        "same_first_guess": (own.argmax(1) == other.argmax(1)).double().mean().item(),
    }
