"""A sharded data set opened for reading, from a folder or from a server; `scenelab.data.shards` writes it."""

import hashlib
import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from scenelab.data.blocks import Block, FetchedBlocks, LocalBlocks, Names
from scenelab.data.cache import Packed
from scenelab.data.shards import HEADER, INDEX, VERSION
from scenelab.data.stores import Folder, Server, address_of
from scenelab.errors import LabError
from scenelab.io import parse_json

SHARD_NAME = re.compile(r"(train|val)-[0-9]{5}\.tar")
LARGEST_INDEX = 256 << 20  # bytes; that of 10 million images has 2 MB
LARGEST = 2**48  # of a place in a file
MOST_BLOCK = 1 << 30  # bytes
MOST_IMAGES, MOST_CATEGORIES = 10**8, 10**5
LONGEST_NAME = 4096  # bytes of an image's path


def is_shards(data: Path) -> bool:
    """Whether a data folder holds shards; an address always does."""
    return address_of(data) is not None or (Path(data) / INDEX).is_file()


def read_index(data: Path) -> tuple[Folder | Server, dict[str, Any]]:
    """The index of a folder or an address, and where its files lie.

    Raises:
        LabError: there is none, or it is not one of these.
    """
    address = address_of(data)
    store = Folder(Path(data)) if address is None else Server(address)
    index = parse_json(store.whole(INDEX, LARGEST_INDEX), Path(f"{store}/{INDEX}"))
    try:
        fault = next((fault for fault, found in _faults(index) if found), None)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        fault = f"{type(error).__name__} {error}"
    if fault:
        raise LabError(f"{store}/{INDEX} is no index of shards ({fault[:80]}); write it with 'scenelab data shard'")
    return store, index


def _faults(index: Any) -> list[tuple[str, bool]]:
    """What could be wrong, and whether it is."""
    splits, size, categories = index["splits"], index["size"], index["categories"]
    blocks = [block for split in splits.values() for shard in split["shards"] for block in shard["blocks"]]
    names = [shard["name"] for split in splits.values() for shard in split["shards"]]
    texts = [
        index["digest"],
        *categories,
        *(text for split in splits.values() for entry in split["files"].items() for text in entry),
        *(text for split in splits.values() for one in split["skipped"] for text in one),
    ]
    return [
        ("another version", index["version"] != VERSION),
        ("size", type(size) is not int or not 16 <= size <= 4096),
        ("texts", not all(isinstance(text, str) for text in texts) or not 0 < len(set(categories)) == len(categories)),
        ("names of files", not all(SHARD_NAME.fullmatch(name) for name in names)),
        (
            "numbers of blocks",
            not all(type(value) is int and 0 <= value < LARGEST for block in blocks for value in block),
        ),
        ("blocks", not all(start > HEADER and rows > 0 for start, rows, _ in blocks)),
        ("a block too large", not all(rows * size * size * 3 <= MOST_BLOCK for _, rows, _ in blocks)),
        (
            "too much",
            len(categories) > MOST_CATEGORIES or any(_count(split) > MOST_IMAGES for split in splits.values()),
        ),
        ("how many images", any(_count(split) != split["images"] or not _count(split) for split in splits.values())),
    ]


def _count(split: dict[str, Any]) -> int:
    return sum(rows for shard in split["shards"] for _, rows, _ in shard["blocks"])


def open_shards(data: Path, split: str) -> Packed:
    """One split of a sharded data set; pictures are read when they are asked for.

    Raises:
        LabError: it cannot be reached, or it is damaged.
    """
    store, index = read_index(data)
    if split not in index["splits"]:
        raise LabError(f"{store} has no split {split!r}; it has {', '.join(index['splits'])}")
    found, size = index["splits"][split], index["size"]
    labels = _labels(store, found, f"{split}.labels.npy", len(index["categories"]))
    blocks = [Block(shard["name"], *block) for shard in found["shards"] for block in shard["blocks"]]
    images = LocalBlocks(store, blocks, size) if isinstance(store, Folder) else FetchedBlocks(store, blocks, size)

    def names() -> list[str]:
        name = f"{split}.paths.jsonl"
        lines = _file(store, found, name, LONGEST_NAME * len(labels)).splitlines()
        if len(lines) != len(labels):
            raise LabError(f"{store}/{name} has {len(lines)} lines; expected {len(labels)}")
        return [str(parse_json(line, Path(f"{store}/{name}"))) for line in lines]

    return Packed(
        images=images, labels=labels, paths=Names(names, np.arange(len(labels))), split=split,
        categories=tuple(index["categories"]), digest=f"{index['digest']} {split}",
        skipped=tuple((path, reason) for path, reason in found["skipped"]),
    )  # fmt: skip


def _labels(store: Folder | Server, split: dict[str, Any], name: str, classes: int) -> Int64[Tensor, " n"]:
    content = _file(store, split, name, 4 * split["images"] + 4096)
    try:
        labels = np.load(io.BytesIO(content), allow_pickle=False)
        if (
            labels.dtype != np.int32
            or labels.shape != (split["images"],)
            or not 0 <= labels.min() <= labels.max() < classes
        ):
            raise ValueError("labels")
    except Exception as error:  # numpy takes a header for Python: what it raises for a damaged one has no end
        raise LabError(f"{store}/{name} does not fit the index; get both again") from error
    return torch.from_numpy(labels).to(torch.int64)


def _file(store: Folder | Server, split: dict[str, Any], name: str, most: int) -> bytes:
    content = store.whole(name, most)
    if hashlib.sha256(content).hexdigest() != split["files"].get(name):
        raise LabError(f"{store}/{name} is not what was written; get it again")
    return content
