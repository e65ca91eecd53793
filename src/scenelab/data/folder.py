"""Any folder with one sub-folder a class, with or without its own `train` and `val` folders."""

import hashlib
from pathlib import Path, PurePath

from scenelab.data.miniplaces import Listing
from scenelab.errors import LabError
from scenelab.io import files_below, is_file

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif"})
VAL_SHARE = 0.1


def _subfolders(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))
    return sorted(path for path in found if path.name != "lost+found")  # of a disk, not of a data set


def _images(folder: Path, root: Path) -> list[str]:
    above = folder.relative_to(root)
    return sorted(
        (above / path).as_posix()
        for path in map(PurePath, files_below(folder, hidden=False))  # thumbnails and editors' copies are no images
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and is_file(folder / path)
    )


def held_out(paths: list[str], share: float = VAL_SHARE) -> set[str]:
    """The part of one class that is held out: the `share` with the smallest SHA-256 of their path, at least one.

    A function of the names alone, so it is the same on every machine and does not depend on the order of listing.
    """
    ranked = sorted(paths, key=lambda path: hashlib.sha256(path.encode(errors="surrogateescape")).digest())
    return set(ranked[: max(1, round(share * len(paths)))])


def read_tree(folder: Path, split: str) -> Listing:
    """Read a split of a folder-per-class tree.

    `folder/train/CLASS/…` and `folder/val/CLASS/…` are taken as they are; for `folder/CLASS/…` a tenth of each
    class is held out as `val`.

    Raises:
        LabError: fewer than two classes, a class with fewer than two images to split, or a val class unknown to train.
    """
    folder = Path(folder)
    if (folder / "train").is_dir():
        return _read_presplit(folder, split)
    classes = [path for path in _subfolders(folder) if _images(path, folder)]
    if len(classes) < 2:
        raise LabError(f"{folder} has {len(classes)} folders with images; expected train.txt or one folder a class")
    chosen: list[tuple[str, int]] = []
    for label, path in enumerate(classes):
        names = _images(path, folder)
        if len(names) < 2:
            raise LabError(f"class {path.name!r} in {folder} has {len(names)} image; at least 2 are needed to split it")
        out = held_out(names)
        chosen += [(name, label) for name in names if (name in out) == (split == "val")]
    return _listing(folder, split, chosen, [path.name for path in classes])


def _read_presplit(folder: Path, split: str) -> Listing:
    root = folder / split
    if not root.is_dir():
        raise LabError(f"{folder} has a train folder but no {split} folder; make one, or drop the train level")
    names = [path.name for path in _subfolders(folder / "train")]
    if len(names) < 2:
        raise LabError(f"{folder / 'train'} has {len(names)} class folders; at least 2 are needed to tell them apart")
    unknown = [path.name for path in _subfolders(root) if path.name not in names]
    if unknown:
        raise LabError(f"{root} has the class {unknown[0]!r}, which {folder / 'train'} has not")
    chosen = [(path, label) for label, name in enumerate(names) for path in _images(root / name, folder)]
    if not chosen:
        raise LabError(f"{root} holds no images below its class folders")
    return _listing(folder, split, chosen, names)


def _listing(folder: Path, split: str, chosen: list[tuple[str, int]], categories: list[str]) -> Listing:
    paths, labels = zip(*chosen, strict=True)
    return Listing(root=folder, split=split, paths=paths, labels=labels, categories=tuple(categories))
