"""Decode once: a split as one memory-mapped uint8 array beside a manifest that says what it was made from.

Damaged and missing images are refused, or skipped where that is asked for: then they are counted and named.
"""

import errno
import fcntl
import hashlib
import io
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from scenelab.data.blocks import Blocks, Names, stream_order
from scenelab.data.decode import fit, read_image
from scenelab.data.miniplaces import Listing
from scenelab.errors import LabError
from scenelab.io import read_json, sync_folder, write_json
from scenelab.progress import progress

VERSION = 1
OWN_FAULTS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES)  # an image's
Damaged = Literal["refuse", "skip"]
Skipped = tuple[tuple[str, str], ...]  # path and reason
SkippedRows = dict[int, tuple[str, str]]  # by place in the listing


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A split whose `images`, M×H×W×3 uint8, live on disk or on a server until a row is read.

    Attributes:
        chosen: which N of the M images belong to the split, in its order; None for all of them.
        skipped: listed images that are not among them, each with the reason.
    """

    images: np.ndarray | Blocks
    labels: Int64[Tensor, " n"]
    paths: tuple[str, ...] | Names
    categories: tuple[str, ...]
    split: str
    digest: str
    chosen: np.ndarray | None = None
    skipped: Skipped = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> int:
        return self.images.shape[1]

    def rows(self, indices: np.ndarray | slice) -> UInt8[Tensor, "n 3 h w"]:
        """Copy rows out as a channels-last N×3×H×W tensor in [0, 255]."""
        if self.chosen is not None:
            indices = self.chosen[indices]
        found = self.images[indices]
        mapped = isinstance(self.images, np.ndarray) and isinstance(indices, slice)  # else they are a copy already
        return torch.from_numpy(np.array(found) if mapped else np.asarray(found)).permute(0, 3, 1, 2)

    def order(self, batch_size: int, generator: np.random.Generator) -> np.ndarray:
        """A permutation of the images for one epoch; of images in blocks one that needs few of them at a time."""
        if isinstance(self.images, np.ndarray):
            return generator.permutation(len(self))
        return stream_order(self.images.numbers(self._stored(np.arange(len(self)))), batch_size, generator)

    def ahead(self, indices: np.ndarray) -> None:
        """Say which rows will be asked for soon."""
        if isinstance(self.images, Blocks):
            self.images.ahead(self._stored(indices))

    def _stored(self, indices: np.ndarray) -> np.ndarray:
        return indices if self.chosen is None else self.chosen[indices]

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
            paths=_some(self.paths, indices), categories=self.categories, split=split,
            digest=f"{self.digest}[{name}]", chosen=indices if self.chosen is None else self.chosen[indices],
            skipped=self.skipped,
        )  # fmt: skip


def _digest_without(whole: str, skipped: SkippedRows) -> str:
    """Which images could be read is part of what was trained on."""
    return f"{whole}[without {hashlib.sha256(repr(sorted(skipped)).encode()).hexdigest()}]" if skipped else whole


def _some(paths: tuple[str, ...] | Names, indices: np.ndarray) -> tuple[str, ...] | Names:
    return paths.some(indices) if isinstance(paths, Names) else tuple(paths[index] for index in indices)


def digest(listing: Listing, size: int, damaged: Damaged = "refuse") -> str:
    """SHA-256 of everything that decides the array's content: paths, labels, file sizes, picture size, version.

    Raises:
        LabError: listed images are missing and are not to be skipped; the message counts them and names the first.
    """
    text = hashlib.sha256(f"{VERSION} {size} {listing.split}\n".encode())
    if damaged == "skip":
        text.update(b"without damaged images\n")
    missing = []
    for path, label in zip(listing.paths, listing.labels, strict=True):
        try:
            line = f"{path} {label} {os.stat(listing.root / path).st_size}\n"
        except OSError as error:
            refuse_disk(error, listing.root / path)
            missing.append(path)
            line = f"{path} {label} missing\n"
        text.update(line.encode(errors="surrogateescape"))
    if missing and damaged == "refuse":
        raise LabError(
            f"{len(missing)} of {len(listing)} listed images are missing below {listing.root}, first {missing[0]}; "
            f"'scenelab data verify {listing.root.parent}' lists them, --damaged skip goes on without them"
        )
    return text.hexdigest()


def pack(listing: Listing, folder: Path, *, size: int = 128, damaged: Damaged = "refuse") -> Packed:
    """Open the packed form of a listing, building it first where it is missing or stale.

    The array is built under a temporary name and renamed when it is whole, under a lock: of two processes one
    builds and the other waits. A kill leaves at most a `.partial` folder that the next build removes.

    Args:
        folder: where packed splits live, one folder each; created if need be.
        size: side of the square pictures in pixels.
        damaged: whether an image that is missing or cannot be decoded ends it, or is left out.

    Raises:
        LabError: an image is missing or cannot be decoded and is not to be skipped, no image is left, the folder cannot
            be written, or the disk is full.
    """
    expected = digest(listing, size, damaged)
    target = Path(folder) / f"{listing.split}-{size}"
    found = _open_current(target, expected, len(listing), size)
    if found is None:
        try:
            with _locked(target):
                found = _open_current(target, expected, len(listing), size)
                if found is None:
                    skipped = _build(listing, target, expected, size, damaged)
                    found = np.load(target / "images.npy", mmap_mode="r"), skipped
        except OSError as error:
            raise LabError(
                f"cannot write the packed images to {target}: {error.strerror or error}; about "
                f"{len(listing) * size * size * 3 / 1e6:.0f} MB are needed, another place is chosen with --cache"
            ) from error
    images, skipped = found
    if skipped:
        path, reason = next(iter(skipped.values()))
        print(
            f"{listing.split}: {len(skipped)} of {len(listing)} listed images are skipped, first {path} ({reason})",
            file=sys.stderr,
        )
    kept = [row for row in range(len(listing)) if row not in skipped]
    labels = torch.tensor([listing.labels[row] for row in kept], dtype=torch.int64)
    return Packed(
        images=images, labels=labels, paths=tuple(listing.paths[row] for row in kept), categories=listing.categories,
        split=listing.split, digest=_digest_without(expected, skipped), skipped=tuple(skipped.values()),
    )  # fmt: skip


def _open_current(target: Path, expected: str, count: int, size: int) -> tuple[np.ndarray, SkippedRows] | None:
    """Map the array if it is whole and was made from what is expected.

    The manifest is read again once the array is open: another process may have replaced both in between.
    """
    try:
        manifest = read_json(target / "manifest.json")
        if manifest.get("digest") != expected:
            return None
        skipped = {int(row): (str(path), str(reason)) for row, path, reason in manifest.get("skipped", [])}
        images = np.load(target / "images.npy", mmap_mode="r")
        fits = images.shape == (count - len(skipped), size, size, 3) and images.dtype == np.uint8
        same = read_json(target / "manifest.json").get("digest") == expected
    except Exception:  # numpy takes a header for Python: what it raises for a damaged one has no end
        return None
    return (images, skipped) if fits and same else None


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold an advisory lock that the kernel releases when the process dies."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.parent / f".{target.name}.lock", "w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(listing: Listing, target: Path, expected: str, size: int, damaged: Damaged) -> SkippedRows:
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        skipped = _fill(listing, partial / "images.npy", size, damaged)
        manifest = {
            "version": VERSION, "digest": expected, "split": listing.split, "images": len(listing) - len(skipped),
            "size": size, "source": str(listing.root), "layout": "N×H×W×3 uint8 RGB",
            "skipped": [[row, *why] for row, why in skipped.items()],
        }  # fmt: skip
        write_json(partial / "manifest.json", manifest)
        shutil.rmtree(target, ignore_errors=True)
        os.rename(partial, target)
        sync_folder(target.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return skipped


def _fill(listing: Listing, path: Path, size: int, damaged: Damaged) -> SkippedRows:
    """Write the array through `write`, not through the map: a full disk is then an error and not a SIGBUS."""
    skipped: SkippedRows = {}
    with open(path, "wb") as file, progress(f"packing {listing.split}", len(listing)) as advance:
        file.write(array_header(len(listing), size))
        for row in range(len(listing)):
            try:
                picture = fit(read_image(listing.file(row)), size)
                file.write(picture.permute(1, 2, 0).contiguous().numpy().tobytes())
            except LabError as error:
                skipped[row] = leave_out(error, listing, row, damaged)
            advance(1)
        if skipped:
            refuse_nothing(len(listing) - len(skipped), listing)
            file.seek(0)
            file.write(array_header(len(listing) - len(skipped), size))
        file.flush()
        os.fsync(file.fileno())
    return skipped


def refuse_disk(error: BaseException | None, path: Path) -> None:
    """What the disk or the system is to blame for is no damaged image: it ends the command, whatever was asked for."""
    if isinstance(error, OSError) and error.errno not in (None, *OWN_FAULTS):  # None: Pillow's own
        raise LabError(
            f"cannot read {path}: {error.strerror or error}; mend that, then run the command again"
        ) from error


def leave_out(error: LabError, listing: Listing, row: int, damaged: Damaged) -> tuple[str, str]:
    """Path and reason of an image that could not be read, where it may be left out; otherwise it ends the command."""
    refuse_disk(error.__cause__, listing.file(row))
    if damaged == "refuse":
        raise LabError(f"{error}, or go on without it (--damaged skip)") from error
    return listing.paths[row], str(error)


def array_header(count: int, size: int) -> bytes:
    """The beginning of a .npy file of `count` pictures; as long for any count, since numpy leaves room for growth."""
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def refuse_nothing(left: int, listing: Listing) -> None:
    """A split of which all images were skipped is an error whatever was asked for."""
    if not left:
        raise LabError(f"none of the {len(listing)} listed images below {listing.root} can be read; get them again")
