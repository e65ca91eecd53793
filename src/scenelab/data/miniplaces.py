"""MiniPlaces' own layout: lists of `path label` lines, images below `images/` (github.com/CSAILVision/miniplaces)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from scenelab.errors import LabError
from scenelab.io import files_below, read_text

LISTS = ("train.txt", "val.txt")
LABEL = re.compile("[0-9]{1,6}")  # a slip such as 10000000000 must not become that many classes


@dataclass(frozen=True, kw_only=True)
class Listing:
    """Which images belong to a split, and what they show.

    `paths[i]` is relative to `root`; `labels[i]` indexes `categories`, or is -1 where the label is not known.
    """

    root: Path
    split: str
    paths: tuple[str, ...]
    labels: tuple[int, ...]
    categories: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def file(self, index: int) -> Path:
        return self.root / self.paths[index]


def read_list(path: Path) -> list[tuple[str, int]]:
    """Read a list of `relative/path.jpg label` lines.

    Raises:
        LabError: the list is missing, empty, or a line is not a path below the folder and a whole number from 0.
    """
    path = Path(path)
    expected = "'path label' with a label from 0 to 999999"
    entries = [(_inside(name, path, number), label) for number, name, label in _pairs(path, expected)]
    if not entries:
        raise LabError(f"{path} lists no images; get it again with 'scenelab data download' or 'scenelab data import'")
    return entries


def _pairs(path: Path, expected: str) -> Iterator[tuple[int, str, int]]:
    """The lines of a list as (line number, name, label); blank lines are skipped."""
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name or "\0" in name or not LABEL.fullmatch(label):
            raise LabError(f"{path} line {number} is {line.strip()[:80]!r}; expected {expected}")
        yield number, name.strip(), int(label)


def _lines(path: Path) -> list[str]:
    if not path.exists():
        raise LabError(f"{path} does not exist; give a folder made by 'scenelab data download', 'import' or 'synth'")
    return read_text(path).splitlines()


def _inside(name: str, path: Path, number: int) -> str:
    if name.startswith("/") or ".." in Path(name).parts:
        raise LabError(f"{path} line {number} names {name!r}, which leaves the data folder; use a path below images/")
    return name


def read_categories(folder: Path) -> tuple[str, ...]:
    """Category names in label order, from `categories.txt` (`/a/abbey 0`).

    Where that file is missing they are numbers, as many as the lists together use: a class that only one of the
    lists shows counts for both.

    Raises:
        LabError: the file is empty, has gaps in its numbers or gives a name twice.
    """
    path = folder / "categories.txt"
    if not path.exists():
        used = [label for name in LISTS if (folder / name).is_file() for _, label in read_list(folder / name)]
        return tuple(f"class {label}" for label in range(max(used) + 1))
    entries = sorted(read_list_of_categories(path), key=lambda entry: entry[1])
    if not entries:
        raise LabError(f"{path} names no categories; get it again, or remove it to have the classes numbered")
    if [label for _, label in entries] != list(range(len(entries))):
        raise LabError(f"{path} must number its categories 0, 1, 2, … without gaps")
    names = tuple(name for name, _ in entries)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise LabError(f"{path} names the category {twice!r} more than once; give each label a name of its own")
    return names


def read_list_of_categories(path: Path) -> list[tuple[str, int]]:
    """Read `/a/abbey 0` lines as (`abbey`, 0); deeper names keep their parts: `/a/apartment_building/outdoor`."""
    entries = []
    for number, name, label in _pairs(path, "'/a/abbey 0'"):
        parts = [part for part in name.split("/") if part]
        if not parts:
            raise LabError(f"{path} line {number} is {f'{name} {label}'!r}; expected '/a/abbey 0'")
        entries.append(("/".join(parts[1:] if len(parts[0]) == 1 and len(parts) > 1 else parts), label))
    return entries


def is_miniplaces(folder: Path) -> bool:
    """Whether a folder has MiniPlaces' lists."""
    return any((folder / name).is_file() for name in LISTS)


def read_split(folder: Path, split: str) -> Listing:
    """Read one split (`train` or `val`) of a MiniPlaces folder.

    Raises:
        LabError: the list is missing or empty, or a label has no category.
    """
    folder = Path(folder)
    source = folder / f"{split}.txt"
    entries = read_list(source)
    categories = read_categories(folder)
    for name, label in entries:
        if label >= len(categories):
            raise LabError(
                f"{source} gives {name} the label {label}, but there are {len(categories)} categories; "
                f"labels run from 0 to {len(categories) - 1}"
            )
    paths, labels = zip(*entries, strict=True)
    return Listing(root=folder / "images", split=split, paths=paths, labels=labels, categories=categories)


def read_test(folder: Path) -> Listing:
    """The unlabelled test images, in the order of their names; empty where there are none."""
    root, paths = Path(folder) / "images", tuple(list_test(folder))
    return Listing(root=root, split="test", paths=paths, labels=(-1,) * len(paths), categories=())


def list_test(folder: Path) -> list[str]:
    """Names of the images in `images/test`, below `images`, sorted."""
    names = files_below(Path(folder) / "images" / "test")
    return sorted(f"test/{name}" for name in names if name.endswith(".jpg") and "/" not in name)
