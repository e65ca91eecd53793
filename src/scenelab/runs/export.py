"""Export a network for other programs, and keep the file only if its logits are those of the network."""

import os
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.errors import LabError
from scenelab.io import sync_folder, temporary_folder
from scenelab.runs.export_formats import WRITERS, Format, Predict
from scenelab.runs.network import Stored

TOLERANCE = 1e-3  # of a logit; runtimes sum in float32 in different orders
BATCH_SIZE = 16


def export(stored: Stored, images: Float[Tensor, "n 3 s s"], format: Format, path: Path) -> dict[str, Any]:
    """Write to a temporary file, read it back, compare it on images, and then rename it.

    Args:
        stored: the network.
        images: in [0, 1], at the network's size.
        format: "onnx", "pt2" or "safetensors".
        path: the file to write.

    Returns:
        Format, file, bytes, number of images, the largest difference of a logit and the share of equal predictions.

    Raises:
        LabError: The format's package is missing, the disk is full, or the logits differ.
    """
    try:
        with temporary_folder(path) as folder:
            temporary = folder / path.name
            predict = _write(stored, format, temporary)
            comparison = compare(stored, images, predict)
            if not comparison["largest_difference"] <= TOLERANCE:
                raise LabError(
                    f"{format} was not written: its logits differ from the network's by up to "
                    f"{comparison['largest_difference']:.2g} on {len(images)} images, more than {TOLERANCE:g}"
                )
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            os.replace(temporary, path)
            sync_folder(path.parent)
    except OSError as error:
        raise LabError(f"cannot write {path}: {error.strerror or error}; choose another with --out") from error
    size = path.stat().st_size
    return {"format": format, "file": str(path), "bytes": size, "tolerance": TOLERANCE, **comparison}


def _write(stored: Stored, format: Format, path: Path) -> Predict:
    try:
        return WRITERS[format](stored, path)
    except (LabError, OSError):
        raise
    except Exception as error:  # the exporters raise many types, undocumented
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise LabError(f"{stored.arch} cannot be exported as {format}: {reason}; try another --format") from error


@torch.no_grad()
def compare(stored: Stored, images: Float[Tensor, "n 3 s s"], predict: Predict) -> dict[str, Any]:
    """Compare the logits of the file and of the network on images, in batches of 1, of 16 and of the rest."""
    if not len(images):
        raise LabError("images is empty; the export is checked on at least one image")
    batches = [batch for batch in (images[:1], *images[1:].split(BATCH_SIZE)) if len(batch)]
    expected, logits = (torch.cat([model(batch) for batch in batches]) for model in (stored.model, predict))
    if logits.shape != expected.shape:
        raise LabError(
            f"the file returns shape {tuple(logits.shape)} for {len(images)} images, not {tuple(expected.shape)}"
        )
    return {
        "images": len(images),
        "largest_difference": (expected - logits).abs().max().item(),
        "largest_logit": expected.abs().max().item(),
        "same_first_guess": (expected.argmax(1) == logits.argmax(1)).double().mean().item(),
    }
