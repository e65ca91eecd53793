"""From a data folder of either kind to the listing of one split."""

from pathlib import Path

from scenelab.data.cache import Damaged, Packed, pack
from scenelab.data.folder import read_tree
from scenelab.data.miniplaces import Listing, is_miniplaces, read_split
from scenelab.errors import LabError

CACHE = "packed"


def open_split(folder: Path, split: str) -> Listing:
    """List a split of a MiniPlaces folder (with `train.txt`) or of a folder-per-class tree.

    Raises:
        LabError: the folder does not exist or is of neither kind.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise LabError(f"data folder {folder} does not exist; make one with 'scenelab data download {folder}'")
    return read_split(folder, split) if is_miniplaces(folder) else read_tree(folder, split)


def open_packed(data: Path, cache: Path | None, split: str, stored_size: int, damaged: Damaged = "refuse") -> Packed:
    """The packed form of one split, which lives in `data/packed` unless another place is named; shards as they are."""
    from scenelab.data.streamed import is_shards, open_shards

    if is_shards(data):
        return open_shards(data, split)
    return pack(open_split(data, split), cache or data / CACHE, size=stored_size, damaged=damaged)
