"""Loading images of a split, and predicting the classes of images and image files."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image, ImageOps
from torch import Tensor

from scenelab.classifier import Model
from scenelab.data.augment import resize
from scenelab.data.cache import MemmapDataset
from scenelab.data.decode import fit, read_images
from scenelab.errors import LabError
from scenelab.evaluation.metrics import max_logit
from scenelab.runs.loading import read_network
from scenelab.runs.network import Stored

BATCH_SIZE = 50


def load_images(dataset: MemmapDataset, rows: list[int], side: int) -> Float[Tensor, "n 3 s s"]:
    """Return the images at indices `rows` of a split, in [0, 1], resized to `side` pixels."""
    if not rows:
        return torch.empty(0, 3, side, side)
    index = torch.tensor(rows, dtype=torch.int64).numpy()
    images = resize(dataset.gather(index).float().div_(255), side).clamp(0, 1)  # resizing can overshoot
    return images.contiguous(memory_format=torch.channels_last)


def spread_rows(total: int, count: int) -> list[int]:
    """Return at most `count` indices, evenly spaced from 0 to `total` - 1."""
    return torch.linspace(0, total - 1, min(total, count)).long().tolist()


def top1(
    model: Model, images: Float[Tensor, "n 3 h w"], *, batch_size: int = BATCH_SIZE
) -> tuple[Float[Tensor, " n"], Int64[Tensor, " n"]]:
    """Return the probability in [0, 1] and the index of the predicted class, per image."""
    with torch.no_grad():
        best = torch.cat([model(part) for part in images.split(batch_size)]).softmax(dim=1).max(dim=1)
    return best.values, best.indices


class Guesses(list[tuple[str, float]]):
    """Likely classes of an image with their probabilities in [0, 1], most likely first.

    Attributes:
        none_of_these: whether the image is none of the classes, as its largest logit is below the threshold of
            `scenelab evaluate`; None without a threshold.
    """

    none_of_these: bool | None = None

    def to_json(self, image: Path) -> dict[str, Any]:
        """Return the values of an image file for JSON."""
        ranked = [{"category": category, "probability": share} for category, share in self]
        return {"image": str(image), "none_of_these": self.none_of_these, "guesses": ranked}


def rank(logits: Float[Tensor, "1 k"], categories: tuple[str, ...], *, count: int) -> list[tuple[str, float]]:
    """Return the `count` most likely categories of one image, and their probabilities in [0, 1]."""
    top = logits.softmax(dim=1)[0].topk(min(count, logits.shape[1]))
    return [(categories[label], share) for label, share in zip(top.indices.tolist(), top.values.tolist(), strict=True)]


class Predictor:
    """Function from an image to its most likely classes; see `load`.

    Attributes:
        stored: the network.
        categories: names of its classes.
    """

    def __init__(self, stored: Stored) -> None:
        self.stored, self.categories = stored, stored.categories

    @torch.no_grad()
    def __call__(self, image: Path | str | Image.Image | np.ndarray, *, top: int = 5) -> Guesses:
        """Return the `top` most likely classes of an image, and whether it is none of the classes.

        Logits are means over image and mirror image. The shorter side of the image is resized to the network's input
        size, and the center is cropped.

        Args:
            image: path of a file, PIL image, or h×w×3 array of 8-bit RGB values.
            top: number of classes.

        Raises:
            LabError: the file is missing or cannot be decoded, or the array has another shape or type.
        """
        if isinstance(image, Image.Image):
            image = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
        if isinstance(image, np.ndarray):
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
                raise LabError(f"image is {image.shape} of {image.dtype}; expected height, width, 3 of uint8, RGB")
            pixels = fit(torch.from_numpy(image.copy()).permute(2, 0, 1), self.stored.size)
            batch = pixels[None].float().div_(255)
        else:
            batch = read_images([Path(image)], self.stored.size)
        model = self.stored.model
        logits = (model(batch) + model(batch.flip(-1))) / 2
        guesses = Guesses(rank(logits, self.categories, count=top))
        if model.threshold is not None:
            guesses.none_of_these = max_logit(logits).item() < model.threshold
        return guesses


def load(network: Path | str | None = None) -> Predictor:
    """Return a trained network as a function from an image to its most likely classes.

    >>> import scenelab
    >>> classify = scenelab.load("runs/mine")  # doctest: +SKIP
    >>> classify("holiday.jpg")  # doctest: +SKIP
    [('beach', 0.93), ('pier', 0.04), …]

    Args:
        network: run folder, checkpoint file, safetensors file of `export`, or name of a network that ships, by default
            `miniplaces`.

    Raises:
        LabError: there is no such network, or it is invalid.
    """
    return Predictor(read_network(None if network is None else Path(network)))


def predict_files(stored: Stored, paths: list[Path], *, guesses: int = 5) -> list[dict[str, Any]]:
    """Return the `guesses` most likely categories of each image file; see `Predictor`.

    Each item has the keys `image` (path), `none_of_these` and `guesses`, a list of categories with probabilities.

    Raises:
        LabError: a file is missing or cannot be decoded.
    """
    predictor = Predictor(stored)
    return [predictor(path, top=guesses).to_json(path) for path in paths]
