"""From a data folder of either kind to the listing of one split."""

import re
from pathlib import Path

from scenelab.data.folder import read_tree
from scenelab.data.miniplaces import Listing, is_miniplaces, read_split
from scenelab.errors import LabError

ADDRESS = re.compile("(https?):/+(.+)")


def address_of(data: Path) -> str | None:
    """The http or https address that a data folder is named by; as a path it has lost one of its two slashes."""
    found = ADDRESS.fullmatch(str(data))
    return f"{found[1]}://{found[2]}" if found else None


def open_split(folder: Path, split: str) -> Listing:
    """List a split of a MiniPlaces folder (with `train.txt`) or of a folder-per-class tree.

    Raises:
        LabError: the folder does not exist or is of neither kind.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LabError(f"data folder {folder} does not exist; make one with 'scenelab data download {folder}'")
    return read_split(folder, split) if is_miniplaces(folder) else read_tree(folder, split)
