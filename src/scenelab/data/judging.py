"""List the images of data folders that a network was not trained on, to evaluate it on them."""

import dataclasses
import sys
import unicodedata
from pathlib import Path

from scenelab.data.cache import MemmapDataset, pack
from scenelab.data.cache_folder import default_cache
from scenelab.data.image_files import ImageFiles
from scenelab.data.miniplaces import Listing, is_miniplaces
from scenelab.data.splits import ALL, LEVELS, existing_splits, has_own_splits, open_split, read_tree, split_folder
from scenelab.errors import LabError, cut, suggest
from scenelab.terminal import say


def open_judged(folder: Path, split: str | None, categories: tuple[str, ...]) -> Listing:
    """Return the list of a folder's images, with labels as indices into a network's `categories`.

    A folder without splits is never split. Images of classes that the network does not know are left out and counted on
    standard error.

    Args:
        folder: data folder or CSV file, which may have some of the categories.
        split: split to evaluate. None selects all images of a folder or table without splits, else val, else test.
        categories: class names of the network.

    Raises:
        LabError: the network knows none of the classes, or there are no images of the split.
    """
    if is_miniplaces(folder) or not folder.exists():
        return open_split(folder, split or "val")
    if not folder.is_dir():
        named = existing_splits(folder) if has_own_splits(folder) else []
        split = split or next((name for name in ("val", "test") if name in named), ALL)
        return _with_labels_of(open_split(folder, split), folder, categories)
    levels = {name: path for name in LEVELS if (path := split_folder(folder, name)) and path.name not in categories}
    if split is None:
        split = next((name for name in ("val", "test", "train") if name in levels), ALL)
    if split != ALL and split not in levels:
        known = f"it has {', '.join(levels)}" if levels else "all of it is judged without --split"
        raise LabError(f"{folder} has no {split} folder; {known}")
    roots = list(levels.values()) if split == ALL else [levels[split]]
    parts = [_with_labels_of(read_tree(root, ALL), root, categories) for root in roots or [folder]]
    return _join(parts, folder if len(parts) > 1 else parts[0].root, split)


def open_unlabeled(folder: Path, size: int) -> MemmapDataset:
    """Return all images below a folder, of `size` pixels, as one class; raise a LabError if there are none."""
    paths = tuple(ImageFiles(folder).below(folder)) if folder.is_dir() else ()
    if not paths:
        raise LabError(f"{folder} has no images; name a folder of images, in sub-folders or not")
    listing = Listing(root=folder, split="unknown", paths=paths, labels=(0,) * len(paths), categories=("unknown",))
    return pack(listing, default_cache(folder), size=size, on_bad_image="skip")


def _join(parts: list[Listing], root: Path, split: str) -> Listing:
    """Return the images of all parts as one list, with paths relative to `root`."""
    below = [part.root.relative_to(root).as_posix() for part in parts]
    prefix = ["" if name == "." else f"{name}/" for name in below]
    return dataclasses.replace(
        parts[0],
        root=root,
        split=split,
        paths=tuple(start + path for start, part in zip(prefix, parts, strict=True) for path in part.paths),
        labels=tuple(label for part in parts for label in part.labels),
        unused=tuple(start + path for start, part in zip(prefix, parts, strict=True) for path in part.unused),
    )


def _with_labels_of(listing: Listing, folder: Path, categories: tuple[str, ...]) -> Listing:
    known = {unicodedata.normalize("NFC", name): label for label, name in enumerate(categories)}  # macOS has NFD
    labels = [known.get(unicodedata.normalize("NFC", name)) for name in listing.categories]
    unknown = [name for name, label in zip(listing.categories, labels, strict=True) if label is None]
    advice = f"{unknown[0]!r}{suggest(unknown[0], categories)}, which the network does not know" if unknown else ""
    if len(unknown) == len(labels):
        raise LabError(f"{folder} has the class {advice}; expected folders of its classes: {cut(categories)}")
    pairs = [(path, labels[label]) for path, label in zip(listing.paths, listing.labels, strict=True)]
    kept = [(path, label) for path, label in pairs if label is not None]
    if not kept:
        raise LabError(f"{folder} has no images of a class that the network knows: {cut(categories)}")
    if unknown:
        count = f"{len(pairs) - len(kept)} of {len(pairs)} images"
        more = f"; {len(unknown)} such classes: {cut(unknown)}" if len(unknown) > 1 else ""
        say(f"{folder}: {count} are not judged: of the class {advice}{more}", file=sys.stderr)
    paths, indices = zip(*kept, strict=True)
    return dataclasses.replace(listing, paths=paths, labels=indices, categories=categories)


def describe_images(count: int, split: str) -> str:
    """Return `N SPLIT images`, or `all N images`."""
    return f"all {count} images" if split == ALL else f"{count} {split} images"
