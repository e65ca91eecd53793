"""MiniPlaces' own layout: lists of `path label` lines, images below `images/` (github.com/CSAILVision/miniplaces)."""

from dataclasses import dataclass
from pathlib import Path

from scenelab.errors import LabError

LISTS = ("train.txt", "val.txt")


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
        LabError: the list is missing, empty, or a line is not a path and a whole number from 0.
    """
    path = Path(path)
    entries = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name or not (label.isascii() and label.isdigit()):
            raise LabError(f"{path} line {number} is {line.strip()[:80]!r}; expected 'path label' with a label from 0")
        entries.append((_inside(name.strip(), path, number), int(label)))
    if not entries:
        raise LabError(f"{path} lists no images; get it again with 'scenelab data download' or 'scenelab data import'")
    return entries


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except FileNotFoundError as error:
        raise LabError(
            f"{path} does not exist; give a folder made by 'scenelab data download', 'import' or 'synth'"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise LabError(f"{path} cannot be read: {error}") from error


def _inside(name: str, path: Path, number: int) -> str:
    if name.startswith("/") or ".." in Path(name).parts:
        raise LabError(f"{path} line {number} names {name!r}, which leaves the data folder; use a path below images/")
    return name


def read_categories(folder: Path, labels: list[int]) -> tuple[str, ...]:
    """Category names in label order, from `categories.txt` (`/a/abbey 0`), or numbers where that file is missing."""
    path = folder / "categories.txt"
    if not path.exists():
        return tuple(f"class {label}" for label in range(max(labels) + 1))
    entries = sorted(read_list_of_categories(path), key=lambda entry: entry[1])
    if [label for _, label in entries] != list(range(len(entries))):
        raise LabError(f"{path} must number its categories 0, 1, 2, … without gaps")
    return tuple(name for name, _ in entries)


def read_list_of_categories(path: Path) -> list[tuple[str, int]]:
    """Read `/a/abbey 0` lines as (`abbey`, 0); deeper names keep their parts: `/a/apartment_building/outdoor`."""
    entries = []
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        name, _, label = line.strip().rpartition(" ")
        if not name or not (label.isascii() and label.isdigit()):
            raise LabError(f"{path} line {number} is {line.strip()[:80]!r}; expected '/a/abbey 0'")
        parts = [part for part in name.strip().split("/") if part]
        if not parts:
            raise LabError(f"{path} line {number} is {line.strip()[:80]!r}; expected '/a/abbey 0'")
        entries.append(("/".join(parts[1:] if len(parts[0]) == 1 and len(parts) > 1 else parts), int(label)))
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
    categories = read_categories(folder, [label for _, label in entries])
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
    root = Path(folder) / "images"
    paths = tuple(sorted(str(path.relative_to(root)) for path in (root / "test").glob("*.jpg")))
    return Listing(root=root, split="test", paths=paths, labels=(-1,) * len(paths), categories=())
