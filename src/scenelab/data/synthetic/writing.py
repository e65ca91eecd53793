"""Write a whole data set of scenes in MiniPlaces' own layout."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from scenelab.errors import LabError
from scenelab.io import sync_folder
from scenelab.progress import Advance, progress

Render = Callable[..., np.ndarray]
TRAIN, VAL, TEST = 0, 1, 2


def image_seed(seed: int, split: int, number: int) -> int:
    """The seed of one image; distinct for every (seed, split, number), with number below 2^32."""
    return ((seed * 3 + split) << 32) + number


def write_splits(
    folder: Path,
    kinds: tuple[str, ...],
    render: Render,
    *,
    seed: int,
    train_per_class: int,
    val_per_class: int,
    test: int,
    size: int,
) -> None:
    """Write every image and list below `folder`, showing a bar."""
    total = len(kinds) * (train_per_class + val_per_class) + test
    dice = np.random.Generator(np.random.PCG64(np.random.SeedSequence([seed, len(kinds)])))
    with progress("painting scenes", total) as advance:
        _write_train(folder, kinds, render, seed, train_per_class, size, advance)
        order = dice.permutation(np.repeat(np.arange(len(kinds)), val_per_class))
        lines = []
        for number, label in enumerate(order, start=1):
            path = f"val/{number:08d}.jpg"
            _save(folder / "images" / path, kinds[label], render, image_seed(seed, VAL, number), size)
            lines.append(f"{path} {label}\n")
            advance(1)
        (folder / "val.txt").write_text("".join(lines), encoding="utf-8")
        for number, label in enumerate(dice.permutation(np.arange(test) % len(kinds)), start=1):
            _save(
                folder / "images" / f"test/{number:08d}.jpg", kinds[label], render, image_seed(seed, TEST, number), size
            )
            advance(1)
    names = "".join(f"/{kind[0]}/{kind} {label}\n" for label, kind in enumerate(kinds))
    (folder / "categories.txt").write_text(names, encoding="utf-8")


def _write_train(
    folder: Path, kinds: tuple[str, ...], render: Render, seed: int, count: int, size: int, advance: Advance
) -> None:
    lines = []
    for label, kind in enumerate(kinds):
        for number in range(1, count + 1):
            path = f"train/{kind[0]}/{kind}/{number:08d}.jpg"
            _save(folder / "images" / path, kind, render, image_seed(seed, TRAIN, number), size)
            lines.append(f"{path} {label}\n")
            advance(1)
    (folder / "train.txt").write_text("".join(lines), encoding="utf-8")


def _save(path: Path, kind: str, render: Render, seed: int, size: int) -> None:
    """Write one JPEG; its quality, 60 to 95, is drawn from the seed too."""
    quality = int(np.random.Generator(np.random.PCG64(seed)).integers(60, 96))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(render(kind, seed=seed, size=size)).save(path, "JPEG", quality=quality)


def fresh_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Call `fill` on a temporary folder beside `folder`, then rename it; on any exception nothing is left behind.

    Raises:
        LabError: `folder` is a file, is not empty or cannot be written.
    """
    folder = Path(os.path.abspath(folder))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise LabError(f"folder {folder} exists and is not empty; choose a new folder or remove this one")
    temporary: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
        fill(temporary)
        temporary.chmod(0o777 & ~_umask())
        os.replace(temporary, folder)
        sync_folder(folder.parent)
    except OSError as error:
        raise LabError(
            f"cannot write folder {folder}: {error.strerror or error}; free space or choose a writable folder"
        ) from error
    finally:
        if temporary is not None and temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
