"""Collect the images of several data folders as rows of one CSV file."""

import os
import sys
from pathlib import Path

from scenelab.data.image_files import ImageFiles, describe_unused
from scenelab.data.splits import LEVELS, existing_splits, open_split, require_readable, split_folder, val_paths
from scenelab.data.table import Row
from scenelab.errors import LabError
from scenelab.terminal import say


def collect_rows(sources: list[Path], folder: Path, *, nested: bool) -> list[Row]:
    """Return the images of data folders with their labels and splits; classes of one name become one.

    Args:
        sources: data folders.
        folder: the folder that the paths are relative to.
        nested: each folder that has images is a class, named by its path, such as `birds/owl`.

    Raises:
        LabError: a source is no data folder, or a class has no image that can be read.
    """
    rows = []
    for source in sources:
        for path, label, split in _nested(source) if nested else _listed(source):
            rows.append(Row(os.path.relpath(path, folder), label, split))
    return rows


def _listed(source: Path) -> list[tuple[Path, str, str]]:
    rows, unused = [], set()
    for split in existing_splits(source):
        listing = open_split(source, split)
        labels = [listing.categories[label] for label in listing.labels]
        rows += [(listing.file(index), label, split) for index, label in enumerate(labels)]
        unused |= {*listing.unused}
    _say_unused(source, [*unused])
    return rows


def _nested(source: Path) -> list[tuple[Path, str, str]]:
    if not source.is_dir():
        raise LabError(f"{source} is not a folder; --nested needs folders of images")
    rows, levels = [], {name: path for name in LEVELS if (path := split_folder(source, name))}
    for split, root in (levels if "train" in levels else {"": source}).items():
        files = ImageFiles(root)
        classes: dict[str, list[str]] = {}
        for image in files.below(root):
            if "/" in image:
                classes.setdefault(image.rpartition("/")[0], []).append(image)
            else:
                files.unused.append(image)
        lost = {path.rpartition("/")[0]: [] for path in files.unused if "/" in path.rstrip("/")}
        require_readable(lost | classes, root, files.unused)
        for name, images in classes.items():
            val = set() if split else val_paths(images)
            rows += [(root / image, name, split or ("val" if image in val else "train")) for image in images]
        _say_unused(root, files.unused)
    if not rows:
        raise LabError(f"{source} has no images in folders")
    return rows


def _say_unused(source: Path, unused: list[str]) -> None:
    if unused:
        say(f"{source}: {describe_unused(unused)}", file=sys.stderr)
