"""Describe a data folder: classes, sizes and shapes of images, duplicates within and across splits, contact sheet."""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float32
from PIL import Image, ImageDraw, ImageFont

from scenelab.data.pixels import read_pixels
from scenelab.data.splits import existing_splits, open_split
from scenelab.errors import LabError, printable
from scenelab.io import atomic_write
from scenelab.progress import progress

SIDE = 16  # of the thumbnails that are compared
SIMILAR = 0.95  # correlation from which two images are near-duplicates; docs/data.md has how often that is right
MIN_CONTRAST = 1.0  # standard deviation in 1/255; flatter images have no pattern to compare
BLOCK = 512  # images compared at once
SQUARE = 1.05  # largest ratio of the sides
SHEET_COLUMNS, SHEET_ROWS, TILE, LINE = 8, 100, 96, 16  # images per row, rows, pixels


@dataclass(frozen=True, kw_only=True)
class Duplicate:
    """Image `path` that repeats the image `of`; `splits` and `labels` have the values of `path`, then of `of`."""

    path: str
    of: str
    splits: tuple[str, str]
    labels: tuple[str, str]
    is_exact: bool
    correlation: float


@dataclass(kw_only=True)
class Description:
    """Images of a data folder: `counts` by split and class, typical `sizes` (width, height), `shapes`, duplicates."""

    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    shapes: dict[str, int] = field(default_factory=dict)
    unused: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    duplicates: list[Duplicate] = field(default_factory=list)


def _shape(width: int, height: int) -> str:
    if max(width, height) <= SQUARE * min(width, height):
        return "square"
    return "landscape" if width > height else "portrait"


def describe(data: Path, sheet: Path, rows: Mapping[str, str] | None = None) -> Description:
    """Read every image of a data folder or CSV file, describe them, and write a contact sheet (JPEG) to `sheet`.

    `rows` has paths of images to show in further rows at the top of the sheet, in this order, with the row's title.

    Raises:
        LabError: there is no such data, or no image can be read.
    """
    result, rows, tiles, thumbnails = Description(), rows or {}, {}, {}
    vectors, hashes, origins, sizes = [], [], [], []
    for split in existing_splits(data):
        listing = open_split(data, split)
        counts = Counter(listing.labels)
        result.counts[split] = {name: counts[label] for label, name in enumerate(listing.categories)}
        result.unused += [path for path in listing.unused if path not in result.unused]
        with progress(f"reading {split}", len(listing)) as advance:
            for row, path in enumerate(listing.paths):
                advance(1)
                try:
                    pixels = read_pixels(listing.file(row))
                except LabError as error:
                    result.unreadable[path] = str(error)
                    continue
                label = listing.categories[listing.labels[row]]
                hashes.append(hashlib.sha256(pixels.tobytes()).digest())
                vectors.append(_vector(pixels, hashes[-1]))
                sizes.append((pixels.shape[1], pixels.shape[0]))
                origins.append((path, split, label))
                tiles.setdefault(label, [])
                if path in rows or len(tiles[label]) < SHEET_COLUMNS:
                    thumbnails[path] = Image.fromarray(pixels)
                    thumbnails[path].thumbnail((TILE, TILE))
                    tiles[label].append(thumbnails[path])
    if not vectors:
        raise LabError(f"none of the images of {data} can be read; get them again")
    ranked = sorted(sizes, key=lambda size: size[0] * size[1])
    result.sizes = {"smallest": ranked[0], "median": ranked[len(ranked) // 2], "largest": ranked[-1]}
    result.shapes = dict(Counter(_shape(*size) for size in ranked))
    result.duplicates = _find_duplicates(np.stack(vectors), hashes, origins)
    top: dict[str, list[Image.Image]] = {}
    for path in filter(thumbnails.get, rows):
        top.setdefault(rows[path], []).append(thumbnails[path])
    _write_sheet({**top, **tiles}, sheet)
    return result


def _vector(pixels: np.ndarray, digest: bytes) -> Float32[np.ndarray, " d"]:
    """Return a thumbnail with mean 0 and norm 1; of a flat image, noise that depends on its content."""
    thumbnail = Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
    colors = np.asarray(thumbnail, np.float32).reshape(-1, 3)
    vector = (colors - colors.mean()).ravel()
    if colors.std(axis=0).max() < MIN_CONTRAST:
        vector = np.random.default_rng(list(digest)).standard_normal(vector.size, np.float32)
    return vector / np.linalg.norm(vector)


def _find_duplicates(
    vectors: Float32[np.ndarray, "n d"], hashes: list[bytes], origins: list[tuple[str, str, str]]
) -> list[Duplicate]:
    """Return near-duplicates: an image with the most similar earlier one in its split, and in the splits before."""
    splits, duplicates = np.array([split for _, split, _ in origins]), []
    for start in range(0, len(vectors), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(vectors)))
        similar = vectors[block] @ vectors[: block[-1] + 1].T
        is_earlier = np.arange(similar.shape[1]) < block[:, None]
        is_within = splits[: similar.shape[1]] == splits[block, None]
        for mask in (is_earlier & is_within, is_earlier & ~is_within):
            masked = np.where(mask, similar, -1)
            nearest = masked.argmax(axis=1)
            for row in np.flatnonzero(masked.max(axis=1, initial=-1) >= SIMILAR):
                ours, theirs = int(block[row]), int(nearest[row])
                (path, split, label), (of, other, class_of) = origins[ours], origins[theirs]
                is_exact = hashes[ours] == hashes[theirs]
                pair = {"splits": (split, other), "labels": (label, class_of), "is_exact": is_exact}
                duplicates.append(Duplicate(path=path, of=of, correlation=round(float(masked[row].max()), 4), **pair))
    return duplicates


def _write_sheet(tiles: dict[str, list[Image.Image]], path: Path) -> None:
    """Write a JPEG with a row of eight uncropped thumbnails per title, for the first 100 titles."""
    lines = list(tiles.items())[:SHEET_ROWS]
    sheet = Image.new("RGB", (SHEET_COLUMNS * TILE, len(lines) * (TILE + LINE)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default()
    for row, (name, images) in enumerate(lines):
        top = row * (TILE + LINE)
        draw.text((2, top + 2), printable(name)[:100], fill="black", font=font)
        for column, image in enumerate(images[:SHEET_COLUMNS]):
            sheet.paste(image, (column * TILE, top + LINE))
    with atomic_write(path) as file:
        sheet.save(file, "JPEG", quality=85)
