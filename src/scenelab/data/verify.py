"""Verify a data folder: count images per class, decode each image, and compare lists with files."""

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from posixpath import normpath

from scenelab.data.decode import read_image
from scenelab.data.image_files import ImageFiles, sort_unused
from scenelab.data.miniplaces import Listing
from scenelab.data.splits import open_split
from scenelab.errors import LabError
from scenelab.progress import progress


@dataclass(kw_only=True)
class SplitReport:
    """Result of verifying one split; paths are the list's, normalized (`val/1.jpg` for `./val//1.jpg`)."""

    split: str
    images: int = 0  # number of listed images, duplicates included
    per_class: dict[str, int] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)  # path → error message
    wrong_size: dict[str, tuple[int, int]] = field(default_factory=dict)  # path → height and width in pixels
    listed_twice: list[str] = field(default_factory=list)
    not_listed: list[str] = field(default_factory=list)  # not a fault
    unused: list[str] = field(default_factory=list)  # look like images and are not read; not a fault

    @property
    def faults(self) -> int:
        """Number of missing, unreadable, wrongly sized and duplicate paths."""
        return len(self.missing) + len(self.unreadable) + len(self.wrong_size) + len(self.listed_twice)


def verify(folder: Path, *, size: int | None = 128) -> list[SplitReport]:
    """Return reports on train and val after decoding every listed image and comparing lists with files.

    Args:
        folder: a data folder.
        size: required side of each image in pixels; None accepts any size.
    """
    return [_verify_split(open_split(folder, split), size) for split in ("train", "val")]


def _verify_split(listing: Listing, size: int | None) -> SplitReport:
    labels, paths = Counter(listing.labels), Counter(map(normpath, listing.paths))
    not_listed, unused = _unlisted(listing, set(paths))
    report = SplitReport(
        split=listing.split,
        images=len(listing),
        per_class={name: labels[label] for label, name in enumerate(listing.categories)},
        listed_twice=sorted(path for path, count in paths.items() if count > 1),
        not_listed=not_listed,
        unused=unused,
    )
    with progress(f"reading {listing.split}", len(paths)) as advance:
        for path in paths:
            try:
                height, width = read_image(listing.root / path).shape[-2:]
                if size is not None and (height, width) != (size, size):
                    report.wrong_size[path] = (height, width)
            except LabError as error:
                if (listing.root / path).is_file():
                    report.unreadable[path] = str(error)
                else:
                    report.missing.append(path)
            advance(1)
    return report


def _unlisted(listing: Listing, listed: set[str]) -> tuple[list[str], list[str]]:
    """Return the images that the list lacks, and the files that look like images and are not read."""
    folder = listing.root / listing.split
    if listing.root.name != "images" or not folder.is_dir():  # a tree's list is made from its files
        return [], list(listing.unused)
    files = ImageFiles(listing.root)
    return [path for path in files.below(folder) if path not in listed], [*sort_unused(files.unused)]
