"""Decode once: a split as one memory-mapped uint8 array beside a manifest that says what it was made from."""

import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from scenelab.data.decode import fit, read_image
from scenelab.data.miniplaces import Listing
from scenelab.errors import LabError
from scenelab.files import read_json, sync_folder, write_json
from scenelab.progress import progress

VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A split in memory-mapped form: `images` is M×H×W×3 uint8 and lives on disk until a row is read.

    Attributes:
        chosen: which N of the M images belong to the split, in its order; None for all of them.
    """

    images: np.ndarray
    labels: Int64[Tensor, " n"]
    paths: tuple[str, ...]
    categories: tuple[str, ...]
    split: str
    digest: str
    chosen: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> int:
        return self.images.shape[1]

    def rows(self, indices: np.ndarray | slice) -> UInt8[Tensor, "n 3 h w"]:
        """Copy rows out as a channels-last N×3×H×W tensor in [0, 255]."""
        if self.chosen is not None:
            indices = self.chosen[indices]
        return torch.from_numpy(np.array(self.images[indices])).permute(0, 3, 1, 2)

    def first(self, count: int | None) -> "Packed":
        """The first `count` images, or all of them."""
        if count is None:
            return self
        return self.subset(np.arange(len(self))[:count], split=self.split, name=f":{count}")

    def subset(self, indices: np.ndarray, *, split: str, name: str) -> "Packed":
        """Some of the images, in the order of `indices`, as a split of their own; nothing is copied.

        Args:
            name: what tells this subset from others; it becomes part of the digest.
        """
        return Packed(
            images=self.images, labels=self.labels[torch.from_numpy(indices)],
            paths=tuple(self.paths[index] for index in indices), categories=self.categories, split=split,
            digest=f"{self.digest}[{name}]", chosen=indices if self.chosen is None else self.chosen[indices],
        )  # fmt: skip


def digest(listing: Listing, size: int) -> str:
    """SHA-256 of everything that decides the array's content: paths, labels, file sizes, picture size, version.

    Raises:
        LabError: listed images are missing; the message counts them and names the first.
    """
    text = hashlib.sha256(f"{VERSION} {size} {listing.split}\n".encode())
    missing = []
    for path, label in zip(listing.paths, listing.labels, strict=True):
        try:
            line = f"{path} {label} {os.stat(listing.root / path).st_size}\n"
            text.update(line.encode(errors="surrogateescape"))
        except OSError:
            missing.append(path)
    if missing:
        raise LabError(
            f"{len(missing)} of {len(listing)} listed images are missing below {listing.root}, first {missing[0]}; "
            f"'scenelab data verify {listing.root.parent}' lists them"
        )
    return text.hexdigest()


def pack(listing: Listing, folder: Path, *, size: int = 128) -> Packed:
    """Open the packed form of a listing, building it first where it is missing or stale.

    The array is built under a temporary name and renamed when it is whole, under a lock: of two processes one
    builds and the other waits. A kill leaves at most a `.partial` folder that the next build removes.

    Args:
        folder: where packed splits live, one folder each; created if need be.
        size: side of the square pictures in pixels.

    Raises:
        LabError: an image is missing or cannot be decoded, the folder cannot be written, or the disk is full.
    """
    expected = digest(listing, size)
    target = Path(folder) / f"{listing.split}-{size}"
    images = _open_current(target, expected, len(listing), size)
    if images is None:
        try:
            with _locked(target):
                images = _open_current(target, expected, len(listing), size)
                if images is None:
                    _build(listing, target, expected, size)
                    images = np.load(target / "images.npy", mmap_mode="r")
        except OSError as error:
            raise LabError(
                f"cannot write the packed images to {target}: {error.strerror or error}; about "
                f"{len(listing) * size * size * 3 / 1e6:.0f} MB are needed, another place is chosen with --cache"
            ) from error
    labels = torch.tensor(listing.labels, dtype=torch.int64)
    return Packed(
        images=images, labels=labels, paths=listing.paths, categories=listing.categories, split=listing.split,
        digest=expected,
    )  # fmt: skip


def _open_current(target: Path, expected: str, count: int, size: int) -> np.ndarray | None:
    """Map the array if it is whole and was made from what is expected.

    The manifest is read again once the array is open: another process may have replaced both in between.
    """
    try:
        if read_json(target / "manifest.json").get("digest") != expected:
            return None
        images = np.load(target / "images.npy", mmap_mode="r")
        fits = images.shape == (count, size, size, 3) and images.dtype == np.uint8
        same = read_json(target / "manifest.json").get("digest") == expected
    except (LabError, OSError, EOFError, ValueError, AttributeError):
        return None
    return images if fits and same else None


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold an advisory lock that the kernel releases when the process dies."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{target.name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(listing: Listing, target: Path, expected: str, size: int) -> None:
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        _fill(listing, partial / "images.npy", size)
        manifest = {
            "version": VERSION, "digest": expected, "split": listing.split, "images": len(listing), "size": size,
            "source": str(listing.root), "layout": "N×H×W×3 uint8 RGB",
        }  # fmt: skip
        write_json(partial / "manifest.json", manifest)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(partial, target)
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _fill(listing: Listing, path: Path, size: int) -> None:
    """Write the array through `write`, not through the map: a full disk is then an error and not a SIGBUS."""
    with open(path, "wb") as file, progress(f"packing {listing.split}", len(listing)) as advance:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(listing), size, size, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        for index in range(len(listing)):
            picture = fit(read_image(listing.file(index)), size)
            file.write(picture.permute(1, 2, 0).contiguous().numpy().tobytes())
            advance(1)
        file.flush()
        os.fsync(file.fileno())
