"""Is a data folder whole? Counts a class, missing, unreadable and wrongly sized files, lists against files."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from scenelab.data.decode import read_image
from scenelab.data.folder import SUFFIXES
from scenelab.data.miniplaces import Listing
from scenelab.data.splits import open_split
from scenelab.errors import LabError
from scenelab.io import files_below
from scenelab.progress import progress


@dataclass(kw_only=True)
class SplitReport:
    """What was found of one split; every list holds paths as the split names them."""

    split: str
    images: int = 0
    per_class: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    wrong_size: dict[str, tuple[int, int]] = field(default_factory=dict)
    listed_twice: list[str] = field(default_factory=list)
    not_listed: list[str] = field(default_factory=list)

    @property
    def faults(self) -> int:
        return len(self.missing) + len(self.unreadable) + len(self.wrong_size) + len(self.listed_twice)


def verify(folder: Path, *, size: int | None = 128) -> list[SplitReport]:
    """Read every listed image of both splits and compare the lists with the files.

    Args:
        size: the side in pixels that each image must have; None accepts any (a tree of one's own).

    Raises:
        LabError: a split cannot be listed at all, or lists no images.
    """
    return [_verify_split(open_split(folder, split), size) for split in ("train", "val")]


def _verify_split(listing: Listing, size: int | None) -> SplitReport:
    report = SplitReport(split=listing.split, images=len(listing))
    counts = Counter(listing.labels)
    report.per_class = {name: counts[label] for label, name in enumerate(listing.categories)}
    report.listed_twice = sorted(path for path, count in Counter(listing.paths).items() if count > 1)
    different = dict.fromkeys(listing.paths)
    with progress(f"reading {listing.split}", len(different)) as advance:
        for path in different:
            _verify_image(listing.root, path, size, report)
            advance(1)
    report.not_listed = _not_listed(listing)
    return report


def _verify_image(root: Path, path: str, size: int | None, report: SplitReport) -> None:
    if not (root / path).is_file():
        report.missing.append(path)
        return
    try:
        height, width = read_image(root / path).shape[-2:]
    except LabError as error:
        report.unreadable[path] = str(error)
        return
    if size is not None and (height, width) != (size, size):
        report.wrong_size[path] = (height, width)


def _not_listed(listing: Listing) -> list[str]:
    """Images in the split's own folder that the list does not name (a cut list is no fault, but worth saying)."""
    if listing.root.name != "images":
        return []
    listed = set(listing.paths)
    return sorted(
        path
        for name in files_below(listing.root / listing.split)
        if PurePath(name).suffix.lower() in SUFFIXES and (path := f"{listing.split}/{name}") not in listed
    )
