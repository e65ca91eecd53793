"""Open one split of a data folder: MiniPlaces lists or one folder per class."""

from pathlib import Path

from scenelab.data.cache import MemmapDataset, OnBadImage, pack
from scenelab.data.folder import read_tree
from scenelab.data.miniplaces import Listing, is_miniplaces, read_split
from scenelab.errors import LabError

CACHE = "packed"


def open_split(folder: Path, split: str) -> Listing:
    """List a split of a MiniPlaces folder (with `train.txt`) or of a folder-per-class tree.

    Raises:
        LabError: the folder does not exist, is a URL, or is of neither kind.
    """
    folder = Path(folder)
    if folder.parts[:1] in (("http:",), ("https:",)):
        url = f"{folder.parts[0]}//{folder.relative_to(folder.parts[0])}"
        raise LabError(f"data is the URL {url}; expected a folder, download it first")
    if not folder.is_dir():
        raise LabError(
            f"data folder {folder} does not exist; check the path, or download MiniPlaces with 'scenelab data download'"
        )
    return read_split(folder, split) if is_miniplaces(folder) else read_tree(folder, split)


def open_dataset(
    data: Path, cache: Path | None, split: str, size: int, on_bad_image: OnBadImage = "refuse"
) -> MemmapDataset:
    """Open one split through its cache, which lies in `data/packed` by default.

    Raises:
        LabError: as `open_split` and `pack`.
    """
    return pack(open_split(data, split), cache or data / CACHE, size=size, on_bad_image=on_bad_image)
