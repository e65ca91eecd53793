"""A data set as numbered tar files of blocks of decoded pictures, for what does not fit on the disk beside the images.

A shard `train-00000.tar` holds pairs `000000.images.npy` (rows × side × side × 3, uint8) and `000000.labels.npy`, named
as WebDataset groups them. `index.json` says where each block begins, so that any of them can be read by itself, from
a folder or with a range request; it is written last, and without it there is no data set. Training images are in
random order, once and for all, so that a block is a sample of the whole.
"""

import hashlib
import io
import json
import tarfile
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from scenelab.data.cache import Damaged, array_header, digest, leave_out, refuse_nothing
from scenelab.data.decode import fit, read_image
from scenelab.data.miniplaces import Listing
from scenelab.data.splits import open_split
from scenelab.errors import LabError
from scenelab.io import PART, atomic_write, read_json, write_json
from scenelab.progress import progress

VERSION = 1
INDEX = "index.json"
BLOCK = 256  # images; with fewer a batch comes from more places, and takes longer to gather
SHARD_BYTES = 256 << 20
SEED = 20261125  # of the order in which training images are written
HEADER = 512  # bytes of a tar member's


@dataclass(frozen=True)
class _Shard:
    """What one tar file holds, and which images of the listing came to it."""

    name: str
    until: int  # of the order of writing: where the next shard goes on
    rows: list[int]
    blocks: list[tuple[int, int, int]]  # first byte, rows, CRC-32
    skipped: list[tuple[str, str]]


def write_shards(
    data: Path,
    out: Path,
    *,
    size: int = 128,
    damaged: Damaged = "refuse",
    block: int = BLOCK,
    shard_bytes: int = SHARD_BYTES,
) -> dict[str, Any]:
    """Write both splits of a data folder; a call that was broken off goes on after the last whole shard.

    Args:
        size: side of the square pictures in pixels.
        damaged: whether an image that is missing or cannot be decoded ends it, or is left out.
        block: images of a block, which is what is read from a server at once.
        shard_bytes: of a tar file, about.

    Returns:
        What index.json holds.

    Raises:
        LabError: bad data, a folder that holds something else, or a full disk.
    """
    listings = {split: open_split(data, split) for split in ("train", "val")}
    settings = f"{VERSION} {size} {block} {shard_bytes} {SEED}"
    sources = "".join(digest(listing, size, damaged) for listing in listings.values())
    plan = {"digest": hashlib.sha256(f"{settings} {sources}".encode()).hexdigest()}
    _settle(out, plan)
    if (out / INDEX).exists():
        _tidy(out)
        return _whole(read_json(out / INDEX), out)
    splits = {
        split: _write_split(listing, out, size, damaged, block, shard_bytes) for split, listing in listings.items()
    }
    categories = list(listings["train"].categories)
    index = {"version": VERSION, **plan, "size": size, "block": block, "categories": categories, "splits": splits}
    write_json(out / INDEX, index)
    _tidy(out)
    return index


def _whole(index: dict[str, Any], out: Path) -> dict[str, Any]:
    """The index, if the files that it names are there."""
    names = [name for split in index["splits"].values() for name in split["files"]]
    names += [shard["name"] for split in index["splits"].values() for shard in split["shards"]]
    missing = [name for name in names if not (out / name).is_file()]
    if missing:
        raise LabError(f"{out} has lost {missing[0]}; remove the folder and write it again")
    return index


def _tidy(out: Path) -> None:
    """Remove the notes on single shards, which the index has made superfluous."""
    for record in out.glob(".*.tar.json"):
        record.unlink()


def _settle(out: Path, plan: dict[str, str]) -> None:
    """Make the folder of this data set, or make sure that it is."""
    path = out / ".plan.json"
    if path.exists():
        if read_json(path) != plan:
            raise LabError(f"{out} holds shards of other images or settings; choose a new folder")
    elif out.exists() and any(path.suffix != PART for path in out.iterdir()):
        raise LabError(f"{out} is not empty and holds no shards; choose a new folder")
    else:
        write_json(path, plan)


def _write_split(
    listing: Listing, out: Path, size: int, damaged: Damaged, block: int, shard_bytes: int
) -> dict[str, Any]:
    order = np.arange(len(listing))
    if listing.split == "train":
        order = np.random.Generator(np.random.PCG64(SEED)).permutation(order)
    images = block * max(1, round(shard_bytes / (block * size * size * 3)))
    shards: list[_Shard] = []
    with progress(f"writing {listing.split}", len(listing)) as advance, ThreadPoolExecutor() as pool:
        at = 0
        while at < len(listing):
            shard = _write_shard(listing, out, f"{listing.split}-{len(shards):05}.tar", order, at, images, size,
                                 damaged, block, pool)  # fmt: skip
            advance(shard.until - at)
            at = shard.until
            shards.append(shard)
    rows = [row for shard in shards for row in shard.rows]
    refuse_nothing(len(rows), listing)
    files = {
        f"{listing.split}.labels.npy": _array(np.array([listing.labels[row] for row in rows], np.int32)),
        f"{listing.split}.paths.jsonl": "".join(json.dumps(listing.paths[row]) + "\n" for row in rows).encode(),
    }
    for name, content in files.items():
        with atomic_write(out / name) as file:
            file.write(content)
    return {
        "images": len(rows),
        "files": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "shards": [{"name": shard.name, "blocks": shard.blocks} for shard in shards if shard.blocks],
        "skipped": [entry for shard in shards for entry in shard.skipped],
    }


def _write_shard(
    listing: Listing, out: Path, name: str, order: np.ndarray, at: int, images: int, size: int, damaged: Damaged,
    block: int, pool: ThreadPoolExecutor,
) -> _Shard:  # fmt: skip
    record = out / f".{name}.json"
    if record.exists() and (out / name).exists():
        return _Shard(**read_json(record))
    shard = _Shard(name, min(at + images, len(listing)), [], [], [])
    with atomic_write(out / name) as file, tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        pictures = _decode(listing, order[at : shard.until], size, damaged, shard, pool)
        while some := [picture for _, picture in zip(range(block), pictures, strict=False)]:
            labels = np.array([listing.labels[row] for row in shard.rows[-len(some) :]], np.int64)
            data = np.stack(some).tobytes()
            head = array_header(len(some), size)
            start = tar.offset + HEADER + len(head)
            key = f"{len(shard.blocks):06}"
            _add(tar, f"{key}.images.npy", head + data)
            _add(tar, f"{key}.labels.npy", _array(labels))
            shard.blocks.append((start, len(some), zlib.crc32(data)))
    write_json(record, vars(shard))
    return shard


def _decode(
    listing: Listing, rows: np.ndarray, size: int, damaged: Damaged, shard: _Shard, pool: ThreadPoolExecutor
) -> Iterator[np.ndarray]:
    """Pictures of the rows in their order; which they are and which were left out is added to `shard`."""

    def one(row: int) -> np.ndarray | LabError:
        try:
            return fit(read_image(listing.file(row)), size).permute(1, 2, 0).contiguous().numpy()
        except LabError as error:
            return error

    at_once = max(1, min(8 * BLOCK, SHARD_BYTES // (size * size * 3)))
    for start in range(0, len(rows), at_once):
        part = rows[start : start + at_once].tolist()
        for row, picture in zip(part, pool.map(one, part), strict=True):
            if isinstance(picture, LabError):
                shard.skipped.append(leave_out(picture, listing, row, damaged))
                continue
            shard.rows.append(row)
            yield picture


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    tar.addfile(entry, io.BytesIO(content))


def _array(values: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()
