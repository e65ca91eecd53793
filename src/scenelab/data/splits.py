"""Open one split of a data folder that has MiniPlaces' lists or one folder per class."""

import hashlib
from pathlib import Path

from scenelab.data.cache import MemmapDataset, OnBadImage, pack
from scenelab.data.image_files import ImageFiles, describe_unused, sort_unused
from scenelab.data.miniplaces import Listing, is_miniplaces, read_split
from scenelab.errors import LabError, find_url, suggest_path

CACHE = "packed"
VAL_SHARE = 0.1
ALL = "all"  # name of the split that has all images of a folder
LEVELS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
"""Names of the folder of each split, in any case."""


def open_split(folder: Path, split: str) -> Listing:
    """Return the image list of a split, from MiniPlaces' lists if there are any, else from one folder per class."""
    folder = Path(folder)
    if url := find_url(folder):
        raise LabError(f"data is the URL {url}; expected a folder, download it first")
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else f"does not exist{suggest_path(folder)}"
        raise LabError(f"data folder {folder} {what}; check the path")
    return read_split(folder, split) if is_miniplaces(folder) else read_tree(folder, split)


def open_dataset(
    data: Path, cache: Path | None, split: str, size: int, on_bad_image: OnBadImage = "refuse"
) -> MemmapDataset:
    """Return one split of the folder `data` as memory-mapped images of `size`×`size` pixels.

    The cache folder defaults to `packed` in the data folder; see `pack` for `on_bad_image`.
    """
    return pack(open_split(data, split), cache or data / CACHE, size=size, on_bad_image=on_bad_image)


def val_paths(paths: list[str], share: float = VAL_SHARE) -> set[str]:
    """Return the val paths of a class: the fraction `share`, at least one, with the smallest SHA-256 of the path."""
    ranked = sorted(paths, key=lambda path: hashlib.sha256(path.encode(errors="surrogateescape")).digest())
    return set(ranked[: max(1, round(share * len(paths)))])


def split_folder(folder: Path, split: str) -> Path | None:
    """Return the sub-folder with the images of a split, such as `valid` for val; None if there is none.

    A folder `train` without class folders is a class itself.
    """
    files = ImageFiles(folder)
    names = {path.name.lower(): path for path in files.folders(folder) if path.name.lower() in LEVELS.get(split, ())}
    paths = [names[name] for name in LEVELS.get(split, ()) if name in names]
    return next((path for path in paths if split != "train" or files.folders(path)), None)


def read_tree(folder: Path, split: str) -> Listing:
    """Return the image list of a split from a tree with one folder per class.

    The tree is `folder/SPLIT/CLASS/…` or `folder/CLASS/…`. In the second form, a tenth of each class is `val`, and the
    split `ALL` has all images.
    """
    folder = Path(folder)
    if split != ALL and split_folder(folder, "train"):
        return _read_presplit(folder, split)
    if split not in ("train", "val", ALL):
        raise LabError(f"{folder} has no {split} folder; choose another split")
    files = ImageFiles(folder)
    classes = [(path.name, images) for path in files.folders(folder) if (images := files.below(path))]
    hint = f"; {describe_unused(files.unused)}" if files.unused else ""
    if len(classes) < (1 if split == ALL else 2):
        count = "1 folder" if len(classes) == 1 else f"{len(classes)} folders"
        raise LabError(f"{folder} has {count} with images; expected train.txt or one folder per class{hint}")
    entries: list[tuple[str, int]] = []
    for label, (name, images) in enumerate(classes):
        if len(images) < 2 and split != ALL:
            raise LabError(
                f"class {name!r} in {folder} has {len(images)} image; at least 2 are needed to split it{hint}"
            )
        val = val_paths(images)
        entries += [(path, label) for path in images if split == ALL or (path in val) == (split == "val")]
    files.note_loose(folder)
    return _listing(folder, split, entries, [name for name, _ in classes], [] if split == "val" else files.unused)


def _read_presplit(folder: Path, split: str) -> Listing:
    train, root = split_folder(folder, "train"), split_folder(folder, split)
    if root is None or train is None:
        raise LabError(f"{folder} has a train folder but no {split} folder; add one, or remove the train level")
    files = ImageFiles(folder)
    names = [path.name for path in ImageFiles(folder).folders(train)]
    if len(names) < 2:
        raise LabError(f"{train} has {len(names)} class folders; at least 2 are needed")
    unknown = [path.name for path in files.folders(root) if path.name not in names]
    if unknown:
        raise LabError(f"{root} has the class {unknown[0]!r}, which is missing in {train}")
    entries = [(path, label) for label, name in enumerate(names) for path in files.below(root / name)]
    files.note_loose(root)
    if not entries:
        hint = f"; {describe_unused(files.unused)}" if files.unused else ""
        raise LabError(f"{root} has no images in its class folders{hint}")
    return _listing(folder, split, entries, names, files.unused)


def _listing(
    folder: Path, split: str, entries: list[tuple[str, int]], categories: list[str], unused: list[str]
) -> Listing:
    paths, labels = zip(*entries, strict=True)
    names, left_out = tuple(categories), sort_unused(unused)
    return Listing(root=folder, split=split, paths=paths, labels=labels, categories=names, unused=left_out)
