"""Read MiniPlaces' lists of `path label` lines; images are in `images/` (github.com/CSAILVision/miniplaces)."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scenelab.errors import LabError
from scenelab.io import files_below, read_lines

LISTS = ("train.txt", "val.txt")
DRIVE = re.compile(r"[A-Za-z]:[/\\]")
LABEL = re.compile("[0-9]{1,6}")  # bounds the number of classes, even with a typo such as 10000000000


@dataclass(frozen=True, kw_only=True)
class Listing:
    """List of a split's images: paths relative to `root`, and labels as indices into `categories`.

    `unused` has the paths of files that look like images and are not listed.
    """

    root: Path
    split: str
    paths: tuple[str, ...]
    labels: tuple[int, ...]
    categories: tuple[str, ...]
    unused: tuple[str, ...] = ()

    def __post_init__(self) -> None:  # a class may be named by a folder, whose name may have bytes that are not UTF-8
        names = (os.fsencode(name).decode(errors="backslashreplace") for name in self.categories)
        object.__setattr__(self, "categories", tuple(names))

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, index: int) -> Path:
        """Return the path of the image at `index`, including `root`."""
        return self.root / self.paths[index]


def read_list(path: Path) -> list[tuple[str, int]]:
    """Return the (path, label) pairs of `relative/path.jpg label` lines; raise a LabError if the file is invalid."""
    path = Path(path)
    entries = []
    for number, name, label in _parse_lines(path, "'path label' with a label from 0 to 999999"):
        if "/" not in name:
            name = name.replace("\\", "/")  # a list made on Windows
        if name.startswith("/") or DRIVE.match(name) or ".." in Path(name).parts:
            raise LabError(f"{path} line {number} is {name!r}, outside the data folder; use a path below images/")
        entries.append((name, label))
    if not entries:
        raise LabError(f"{path} lists no images; get it again with 'scenelab data download' or 'scenelab data import'")
    return entries


def _parse_lines(path: Path, expected: str) -> Iterator[tuple[int, str, int]]:
    """Yield (line number, name, label) per non-blank line; an error message cites the `expected` format."""
    if not path.exists():
        raise LabError(f"{path} does not exist; give a folder made by 'scenelab data download', 'import' or 'synth'")
    for number, line in read_lines(path):
        name, _, label = line.rpartition(" ")
        if not name or "\0" in name or not LABEL.fullmatch(label):
            raise LabError(f"{path} line {number} is {line[:80]!r}; expected {expected}")
        yield number, name.strip(), int(label)


def read_categories(folder: Path) -> tuple[str, ...]:
    """Return the category names in label order, from the lines `/a/abbey 0` of `categories.txt`.

    Without this file the names are `class 0`, `class 1`, ….

    Raises:
        LabError: the file is empty, skips a label, or has a duplicate name or label.
    """
    path = folder / "categories.txt"
    if not path.exists():  # both lists are read, so that both splits have the same classes
        labels = [label for name in LISTS if (folder / name).is_file() for _, label in read_list(folder / name)]
        return tuple(f"class {label}" for label in range(max(labels) + 1))
    entries = sorted(read_list_of_categories(path), key=lambda entry: entry[1])
    if not entries:
        raise LabError(f"{path} is empty; get it again, or remove it to number the classes")
    if [label for _, label in entries] != list(range(len(entries))):
        raise LabError(f"{path} must number its categories 0, 1, 2, … without gaps")
    names = tuple(name for name, _ in entries)
    if len(set(names)) < len(names):
        duplicate = next(name for name in names if names.count(name) > 1)
        raise LabError(f"{path} lists the category {duplicate!r} more than once; give each label its own name")
    return names


def read_list_of_categories(path: Path) -> list[tuple[str, int]]:
    """Return (`abbey`, 0) per line `/a/abbey 0`; `/a/apartment_building/outdoor` keeps its inner slash."""
    entries = []
    for number, name, label in _parse_lines(path, "'/a/abbey 0'"):
        parts = [part for part in name.split("/") if part]
        if not parts:
            raise LabError(f"{path} line {number} is {f'{name} {label}'!r}; expected '/a/abbey 0'")
        entries.append(("/".join(parts[1:] if len(parts[0]) == 1 and len(parts) > 1 else parts), label))
    return entries


def is_miniplaces(folder: Path) -> bool:
    """Return whether a folder has `train.txt` or `val.txt`."""
    return any((folder / name).is_file() for name in LISTS)


def read_split(folder: Path, split: str) -> Listing:
    """Return the image list of a MiniPlaces folder's split, `train` or `val`; raise a LabError if it is invalid."""
    folder = Path(folder)
    source = folder / f"{split}.txt"
    entries = read_list(source)
    categories = read_categories(folder)
    for name, label in entries:
        if label >= len(categories):
            expected = f"0 to {len(categories) - 1}, as there are {len(categories)} categories"
            raise LabError(f"{source} gives {name} the label {label}; expected {expected}")
    paths, labels = zip(*entries, strict=True)
    return Listing(root=folder / "images", split=split, paths=paths, labels=labels, categories=categories)


def list_test(folder: Path) -> list[str]:
    """Return the sorted paths of the test images, `test/NAME.jpg`; raise a LabError if there are no test images."""
    test = Path(folder) / "images" / "test"
    names = sorted(f"test/{name}" for name in files_below(test) if name.endswith(".jpg") and "/" not in name)
    if not names:
        raise LabError(f"{test} has no .jpg files; the challenge needs MiniPlaces' test images")
    return names
