"""Open one split of a data folder that has MiniPlaces' lists or one folder per class, or of a CSV file."""

import hashlib
from collections import Counter
from pathlib import Path

from scenelab.data.cache import MemmapDataset, OnBadImage, pack
from scenelab.data.cache_folder import default_cache
from scenelab.data.image_files import ImageFiles, describe_unused, sort_unused
from scenelab.data.miniplaces import Listing, is_miniplaces, read_split
from scenelab.data.table import read_table
from scenelab.errors import LabError, find_url, suggest_path

VAL_SHARE = 0.1
ALL = "all"  # name of the split that has all images of a folder
LEVELS = {"train": ("train", "training"), "val": ("val", "valid", "validation", "dev"), "test": ("test", "testing")}
"""Names of the folder of each split, in any case."""
SPLITS = {word: name for name, words in LEVELS.items() for word in words}


def open_split(folder: Path, split: str) -> Listing:
    """Return the image list of a split, from MiniPlaces' lists, one folder per class, or a CSV file.

    The CSV file has the columns path and label, and may have a column split.
    """
    folder = Path(folder)
    if url := find_url(folder):
        raise LabError(f"data is the URL {url}; expected a folder, download it first")
    if _is_table(folder):
        return read_csv(folder, split)
    if not folder.is_dir():
        what = "is a file" if folder.is_file() else f"does not exist{suggest_path(folder)}"
        raise LabError(f"data folder {folder} {what}; check the path")
    return read_split(folder, split) if is_miniplaces(folder) else read_tree(folder, split)


def has_own_splits(data: Path) -> bool:
    """Return whether lists, folders or a column say which images are val; else a tenth of each class is."""
    if _is_table(data):
        return any(row.split for row in read_table(data, SPLITS))
    return is_miniplaces(data) or (data.is_dir() and split_folder(data, "train") is not None)


def existing_splits(data: Path) -> list[str]:
    """Return the names of the splits of a data folder or CSV file, `train` first."""
    if is_miniplaces(data):
        return [name for name in LEVELS if (data / f"{name}.txt").is_file()]
    names = {"train", "val"}
    if _is_table(data):
        names = {row.split for row in read_table(data, SPLITS)} - {""} or names
    elif data.is_dir() and split_folder(data, "train"):
        names = {name for name in LEVELS if split_folder(data, name)}
    return [name for name in LEVELS if name in names]


def _is_table(data: Path) -> bool:
    return data.suffix.lower() in (".csv", ".tsv") and data.is_file()


def open_dataset(
    data: Path, cache: Path | None, split: str, size: int, on_bad_image: OnBadImage = "refuse"
) -> MemmapDataset:
    """Return one split of the folder `data` as memory-mapped images of `size`×`size` pixels.

    See `default_cache` for the default of `cache`, and `pack` for `on_bad_image`.
    """
    return pack(open_split(data, split), cache or default_cache(data), size=size, on_bad_image=on_bad_image)


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

    Raises:
        LabError: there is no such split, or a class has no image that can be read.
    """
    folder = Path(folder)
    if split != ALL and split_folder(folder, "train"):
        return _read_presplit(folder, split)
    if split not in ("train", "val", ALL):
        raise LabError(f"{folder} has no {split} folder; choose another split")
    files = ImageFiles(folder)
    classes = {path.name: files.below(path) for path in files.folders(folder)}
    require_readable(classes, folder, files.unused)
    files.unused += [f"{name}/" for name, images in classes.items() if not images]
    classes = {name: images for name, images in classes.items() if images}
    hint = _hint(files.unused)
    if len(classes) < (1 if split == ALL else 2):
        count = "1 folder" if len(classes) == 1 else f"{len(classes)} folders"
        raise LabError(f"{folder} has {count} with images; expected train.txt or one folder per class{hint}")
    entries = split_classes(classes, split, folder, hint)
    files.note_loose(folder)
    return _listing(folder, split, entries, tuple(classes), [] if split == "val" else files.unused)


def split_classes(classes: dict[str, list[str]], split: str, source: Path, hint: str = "") -> list[tuple[str, int]]:
    """Return the (path, label) pairs of a split, with a tenth of each class as val; `ALL` has all images."""
    entries: list[tuple[str, int]] = []
    for label, (name, images) in enumerate(classes.items()):
        if len(images) < 2 and split != ALL:
            raise LabError(
                f"class {name!r} in {source} has {len(images)} image; at least 2 are needed to split it{hint}"
            )
        val = val_paths(images)
        entries += [(path, label) for path in images if split == ALL or (path in val) == (split == "val")]
    return entries


def require_readable(classes: dict[str, list[str]], folder: Path, unused: list[str]) -> None:
    """Raise a LabError for a class folder without images that has files that look like images."""
    for name, images in classes.items():
        lost = [path for path in unused if f"{name}/" in path and not path.endswith("/")] if not images else []
        if lost:
            raise LabError(f"class {name!r} in {folder} would be lost: {describe_unused(lost)}; convert them to JPEG")


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
    classes = {name: files.below(root / name) for name in names}
    require_readable(classes, root, files.unused)
    files.note_loose(root)
    entries = [(path, label) for label, images in enumerate(classes.values()) for path in images]
    empty = [name for name, images in classes.items() if not images]
    if not entries:
        raise LabError(f"{root} has no images in its class folders{_hint(files.unused)}")
    if empty and root == train:
        raise LabError(f"class {empty[0]!r} in {train} has no images; add some, or remove the folder")
    return _listing(folder, split, entries, tuple(names), files.unused)


def read_csv(path: Path, split: str) -> Listing:
    """Return the image list of a split from a CSV file; see `table.read_table`.

    Without a column split, a tenth of each class is `val`.
    """
    rows = read_table(path, SPLITS)
    classes: dict[str, list[str]] = {name: [] for name in sorted({row.label for row in rows})}
    if len(classes) < 2 and split != ALL:
        raise LabError(f"{path} has {len(classes)} class; at least 2 are needed")
    for row in rows:
        if not row.split or split in (row.split, ALL):
            classes[row.label].append(row.path)
    if rows[0].split:
        entries = [(name, label) for label, images in enumerate(classes.values()) for name in images]
        counts = Counter(row.label for row in rows if row.split == "train")
        empty = [name for name in classes if not counts[name]]
        if split == "train" and empty:
            raise LabError(f"class {empty[0]!r} in {path} has no train images; add some, or remove its rows")
    elif split in ("train", "val", ALL):
        entries = split_classes(classes, split, path)
    else:
        entries = []
    if not entries:
        raise LabError(f"{path} has no rows with the split {split}; choose another split")
    return _listing(path.parent, split, entries, tuple(classes), [])


def _hint(unused: list[str]) -> str:
    return f"; {describe_unused(unused)}" if unused else ""


def _listing(
    folder: Path, split: str, entries: list[tuple[str, int]], categories: tuple[str, ...], unused: list[str]
) -> Listing:
    paths, labels = zip(*entries, strict=True)
    return Listing(
        root=folder, split=split, paths=paths, labels=labels, categories=categories, unused=sort_unused(unused)
    )
