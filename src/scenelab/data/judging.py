"""List the images of data folders that a network was not trained on, to evaluate it on them."""

import dataclasses
from pathlib import Path

from scenelab.data.miniplaces import Listing, is_miniplaces
from scenelab.data.splits import ALL, LEVELS, open_split, read_tree, split_folder
from scenelab.errors import LabError, suggest


def open_judged(folder: Path, split: str | None, categories: tuple[str, ...]) -> Listing:
    """Return the list of a folder's images, with labels as indices into a network's `categories`.

    Args:
        folder: data folder, which may have some of the categories.
        split: split to evaluate. None selects all images of a folder without splits, else val, else test.
        categories: class names of the network.

    Raises:
        LabError: the folder has a class that the network does not know, or no images of the split.
    """
    if not folder.is_dir() or is_miniplaces(folder):
        return open_split(folder, split or "val")
    levels = {name: path for name in LEVELS if (path := split_folder(folder, name)) and path.name not in categories}
    if split is None:
        split = next((name for name in ("val", "test", "train") if name in levels), ALL)
    if split in levels:
        listing = dataclasses.replace(read_tree(levels[split], ALL), split=split)
    else:
        listing = read_tree(folder, split)
    return _with_labels_of(listing, folder, categories)


def _with_labels_of(listing: Listing, folder: Path, categories: tuple[str, ...]) -> Listing:
    for name in listing.categories:
        if name not in categories:
            known = ", ".join(categories[:5]) + (", …" if len(categories) > 5 else "")
            raise LabError(
                f"{folder} has the class {name!r}{suggest(name, categories)}, which the network does not know; "
                f"expected folders of its classes: {known}"
            )
    labels = tuple(categories.index(listing.categories[label]) for label in listing.labels)
    return dataclasses.replace(listing, labels=labels, categories=categories)


def describe_images(count: int, split: str) -> str:
    """Return `N SPLIT images`, or `all N images`."""
    return f"all {count} images" if split == ALL else f"{count} {split} images"
