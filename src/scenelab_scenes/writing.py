"""Write a data set of scenes in the folder layout of MiniPlaces."""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from PIL import Image

from .kinds import KINDS, MIN_SIZE, check_at_least, render

TRAIN, VAL, TEST = 0, 1, 2
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], object]]]
"""Context manager called with a description and the number of images; yields a function that counts new images."""


def write_scenes(
    folder: Path,
    *,
    seed: int = 0,
    train_per_class: int = 200,
    val_per_class: int = 50,
    test: int = 50,
    size: int = 128,
    progress: Progress = lambda description, total: nullcontext(lambda count: None),
) -> None:
    """Write a data set in the layout of MiniPlaces; equal arguments and libraries give identical files.

    `train.txt` and `val.txt` contain lines `path label`, and `categories.txt` contains lines `/c/coast 1`. The JPEG
    files are `images/train/c/coast/00000001.jpg`, `images/val/00000001.jpg` (kinds shuffled) and
    `images/test/00000001.jpg` (without labels). The label is the index in `KINDS`. After an error the caller should
    remove the folder.

    Args:
        folder: the folder to write to, new or empty.
        seed: any integer ≥ 0; different images, also of different seeds, never share a random state.
        train_per_class: number of training images per kind, ≥ 1.
        val_per_class: number of validation images per kind, ≥ 1.
        test: total number of unlabeled test images, ≥ 1.
        size: side of the images in pixels, ≥ 16.
        progress: called with a description and the number of images; returns a context manager that yields a function
            `advance(n)`, which is called after n images. By default, no progress is shown.

    Raises:
        ValueError: an argument is out of range.
        FileExistsError: `folder` is a file or is not empty.
        OSError: `folder` cannot be written.
    """
    check_at_least("seed", seed, 0)
    for name, value in (("train_per_class", train_per_class), ("val_per_class", val_per_class), ("test", test)):
        check_at_least(name, value, 1)
    check_at_least("size", size, MIN_SIZE)
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"folder {folder} exists and is not empty; choose a new folder or remove this one")
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, len(KINDS)])))
    val = rng.permutation(np.repeat(np.arange(len(KINDS)), val_per_class))
    unlabeled = rng.permutation(np.arange(test) % len(KINDS))
    with progress("painting scenes", len(KINDS) * (train_per_class + val_per_class) + test) as advance:

        def paint(split: int, paths: Iterable[tuple[str, int, int]]) -> str:
            """Write the images of (path, number, label) triples; return one line `path label` per image."""
            lines = ""
            for path, number, label in paths:
                _save(folder / "images" / path, KINDS[label], image_seed(seed, split, number), size)
                lines += f"{path} {label}\n"
                advance(1)
            return lines

        numbers = range(1, train_per_class + 1)
        train = ((f"train/{k[0]}/{k}/{n:08d}.jpg", n, label) for label, k in enumerate(KINDS) for n in numbers)
        (folder / "train.txt").write_text(paint(TRAIN, train), encoding="utf-8")
        (folder / "val.txt").write_text(paint(VAL, _numbered("val", val)), encoding="utf-8")
        paint(TEST, _numbered("test", unlabeled))
    names = (f"/{kind[0]}/{kind} {label}\n" for label, kind in enumerate(KINDS))
    (folder / "categories.txt").write_text("".join(names), encoding="utf-8")


def image_seed(seed: int, split: int, number: int) -> int:
    """Return the seed of one image, unique per (seed, split, number) for numbers below 2^32."""
    return ((seed * 3 + split) << 32) + number


def _numbered(split: str, labels: np.ndarray) -> Iterable[tuple[str, int, int]]:
    return ((f"{split}/{number:08d}.jpg", number, int(label)) for number, label in enumerate(labels, start=1))


def _save(path: Path, kind: str, seed: int, size: int) -> None:
    """Render a scene and write it as JPEG, with a random quality from 60 to 95 drawn from the seed."""
    quality = int(np.random.Generator(np.random.PCG64(seed)).integers(60, 96))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render(kind, seed=seed, size=size)).save(path, "JPEG", quality=quality)
