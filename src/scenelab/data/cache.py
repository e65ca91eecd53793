"""Cache a split's decoded images as a memory-mapped uint8 array beside a manifest of its source."""

import errno
import hashlib
import os
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Int64, UInt8
from torch import Tensor

from scenelab.data.decode import fit, read_image
from scenelab.data.miniplaces import Listing
from scenelab.errors import LabError, printable
from scenelab.io import atomic_dir, explain_write_errors
from scenelab.progress import progress
from scenelab.schema import Model

VERSION = 1
OnBadImage = Literal["refuse", "skip"]
FILE_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES)
"""Errors of one image file; any other error of the system is the disk's."""

SkippedRows = dict[int, tuple[str, str]]  # path and reason by row of the listing


class Manifest(Model):
    """Content of a cached split's `manifest.json`; `skipped` has row, path and reason of each image left out."""

    version: int
    digest: str
    split: str
    images: int
    size: int
    source: str
    layout: str
    skipped: tuple[tuple[int, str, str], ...]


@dataclass(frozen=True, kw_only=True)
class MemmapDataset:
    """A split whose images stay on disk until they are gathered.

    Attributes:
        images: M×H×W×3 uint8 RGB.
        paths: relative paths of the N images of the split.
        digest: SHA-256 that identifies the images and their labels.
        rows: the N rows of `images` that belong to the split, in order; None for all.
        skipped: path and reason of each listed image that was left out.
    """

    images: np.ndarray
    labels: Int64[Tensor, " n"]
    paths: tuple[str, ...]
    categories: tuple[str, ...]
    split: str
    digest: str
    rows: np.ndarray | None = None
    skipped: tuple[tuple[str, str], ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> int:
        """Side of the square images in pixels."""
        return self.images.shape[1]

    def gather(self, indices: np.ndarray | slice) -> UInt8[Tensor, "n 3 h w"]:
        """Copy images into a channels-last tensor with values in [0, 255]."""
        if self.rows is not None:
            indices = self.rows[indices]
        images = self.images[indices]  # a view for a slice, a copy for an array
        images = np.array(images) if isinstance(indices, slice) else np.asarray(images)
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def head(self, count: int | None) -> "MemmapDataset":
        """Return the first `count` images, or the data set itself for None."""
        return self if count is None else self.subset(np.arange(len(self))[:count], split=self.split, name=f":{count}")

    def subset(self, indices: np.ndarray, *, split: str, name: str) -> "MemmapDataset":
        """Return the images at `indices`, in that order and without a copy; `name` becomes part of the digest."""
        return replace(
            self,
            labels=self.labels[torch.from_numpy(indices)],
            paths=tuple(self.paths[index] for index in indices),
            split=split,
            digest=f"{self.digest}[{name}]",
            rows=indices if self.rows is None else self.rows[indices],
        )


def digest(listing: Listing, size: int, on_bad_image: OnBadImage = "refuse") -> str:
    """Return the SHA-256 of all that decides the array: paths, labels, file sizes, image size and version."""
    sha = hashlib.sha256(f"{VERSION} {size} {listing.split}\n".encode())
    if on_bad_image == "skip":
        sha.update(b"without damaged images\n")
    missing = []
    for path, label in zip(listing.paths, listing.labels, strict=True):
        try:
            length = str(os.stat(listing.root / path).st_size)
        except OSError as error:
            _reraise_disk_error(error, listing.root / path)
            missing.append(path)
            length = "missing"
        sha.update(f"{path} {label} {length}\n".encode(errors="surrogateescape"))
    if missing and on_bad_image == "refuse":
        raise LabError(
            f"{len(missing)} of {len(listing)} listed images are missing in {listing.root}, first {missing[0]}; "
            f"list them with 'scenelab data verify {listing.root.parent}' or skip them with --damaged skip"
        )
    return sha.hexdigest()


def _reraise_disk_error(error: BaseException | None, path: Path) -> None:
    """Raise if the disk or the system failed, and not the image: such an error is never skipped."""
    if isinstance(error, OSError) and error.errno not in (None, *FILE_ERRORS):  # None: Pillow's own
        cause = error.strerror or error
        raise LabError(f"cannot read {path}: {cause}; fix the disk, then run the command again") from error


def pack(listing: Listing, folder: Path, *, size: int = 128, on_bad_image: OnBadImage = "refuse") -> MemmapDataset:
    """Open the cache of a listing, and build it first if it is missing or stale.

    Of two processes one builds and the other waits. The folder has a subfolder per split and size.
    """
    expected = digest(listing, size, on_bad_image)
    target = Path(folder) / f"{listing.split}-{size}"
    images, skipped = _open_current(target, expected, len(listing), size) or _build(
        listing, target, expected, size, on_bad_image
    )
    if skipped:
        path, reason = next(iter(skipped.values()))
        count = f"{len(skipped)} of {len(listing)} listed images"
        print(f"{listing.split}: {count} are skipped, first {path} ({reason})", file=sys.stderr)
        expected += f"[without {hashlib.sha256(repr(sorted(skipped)).encode()).hexdigest()}]"
    rows = [row for row in range(len(listing)) if row not in skipped]
    return MemmapDataset(
        images=images,
        labels=torch.tensor([listing.labels[row] for row in rows], dtype=torch.int64),
        paths=tuple(listing.paths[row] for row in rows),
        categories=listing.categories,
        split=listing.split,
        digest=expected,
        skipped=tuple(skipped.values()),
    )


def _open_current(target: Path, expected: str, count: int, size: int) -> tuple[np.ndarray, SkippedRows] | None:
    """Map the array, or return None if it is missing, damaged or of another source."""
    try:
        manifest = Manifest.read(target / "manifest.json")
        images = np.load(target / "images.npy", mmap_mode="r")
        is_valid = images.shape == (count - len(manifest.skipped), size, size, 3) and images.dtype == np.uint8
        # another process may have replaced both files since the manifest was read
        is_current = manifest.digest == expected == Manifest.read(target / "manifest.json").digest
    except Exception:  # numpy evaluates the header as Python, so a damaged one raises almost anything
        return None
    return (
        (images, {row: (path, reason) for row, path, reason in manifest.skipped}) if is_valid and is_current else None
    )


def _build(
    listing: Listing, target: Path, expected: str, size: int, on_bad_image: OnBadImage
) -> tuple[np.ndarray, SkippedRows]:
    """Build the array under a lock, unless another process does so meanwhile, and map it."""
    megabytes = len(listing) * size * size * 3 / 1e6
    fix = f"the image cache needs about {megabytes:.0f} MB, choose another folder with --cache"
    with explain_write_errors(target, fix):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{target.name}.lock"):  # the system releases it when the process dies
            if opened := _open_current(target, expected, len(listing), size):
                return opened
            with atomic_dir(target, replace=True, fix=fix) as folder:
                skipped = _write_images(listing, folder / "images.npy", size, on_bad_image)
                Manifest(
                    version=VERSION,
                    digest=expected,
                    split=listing.split,
                    images=len(listing) - len(skipped),
                    size=size,
                    source=printable(str(listing.root)),
                    layout="N×H×W×3 uint8 RGB",
                    skipped=tuple((row, *entry) for row, entry in skipped.items()),
                ).write(folder / "manifest.json")
            return np.load(target / "images.npy", mmap_mode="r"), skipped


def _write_images(listing: Listing, path: Path, size: int, on_bad_image: OnBadImage) -> SkippedRows:
    """Decode the images into a .npy file; through `write`, since a full disk under a memory map is a SIGBUS."""
    skipped: SkippedRows = {}
    with open(path, "wb") as file, progress(f"packing {listing.split}", len(listing)) as advance:
        _write_header(file, len(listing), size)
        for row, name in enumerate(listing.paths):
            try:
                image = fit(read_image(listing.file(row)), size)
                file.write(image.permute(1, 2, 0).contiguous().numpy().tobytes())
            except LabError as error:
                _reraise_disk_error(error.__cause__, listing.file(row))
                if on_bad_image == "refuse":
                    raise LabError(f"{error}, or skip it with --damaged skip") from error
                skipped[row] = (printable(name), printable(str(error)))
            advance(1)
        if len(skipped) == len(listing):
            raise LabError(f"none of the {len(listing)} listed images in {listing.root} can be read; get them again")
        file.seek(0)
        _write_header(file, len(listing) - len(skipped), size)
        file.flush()
        os.fsync(file.fileno())
    return skipped


def _write_header(file: IO[bytes], count: int, size: int) -> None:
    """Write a .npy header; its length is the same for every count, since numpy leaves room to grow."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)
