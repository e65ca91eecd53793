"""Cache of a split's decoded images: a memory-mapped uint8 array and a manifest."""

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
from scenelab.terminal import say

VERSION = 1
OnBadImage = Literal["refuse", "skip"]
FILE_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES)
"""Error numbers of a single bad image file; any other number means that the disk failed."""

SkippedRows = dict[int, tuple[str, str]]  # index into the listing → path and reason


class Manifest(Model):
    """Content of a cached split's `manifest.json`; `skipped` has index, path and reason of each omitted image."""

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
    """Data set of N labeled images, memory-mapped from disk.

    Attributes:
        images: M×H×W×3 uint8 RGB array; M may exceed N.
        labels: indices into `categories`.
        paths: relative paths of the N images.
        digest: SHA-256 of the image list and size, followed by the name of each selection of rows in brackets.
        rows: indices into `images` of the N images, in order; None for all.
        skipped: path and reason of each listed image that was omitted.
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
        """Return a copy of the images at `indices` as a uint8 tensor with channels-last memory layout."""
        if self.rows is not None:
            indices = self.rows[indices]
        images = self.images[indices]  # a view for a slice, a copy for an array
        images = np.array(images) if isinstance(indices, slice) else np.asarray(images)
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def head(self, count: int | None) -> "MemmapDataset":
        """Return a data set of the first `count` images, or this data set if `count` is None."""
        return self if count is None else self.subset(np.arange(len(self))[:count], split=self.split, name=f":{count}")

    def subset(self, indices: np.ndarray, *, split: str, name: str) -> "MemmapDataset":
        """Return a data set of the images at `indices`, in this order, without a copy; append `name` to the digest."""
        return replace(
            self,
            labels=self.labels[torch.from_numpy(indices)],
            paths=tuple(self.paths[index] for index in indices),
            split=split,
            digest=f"{self.digest}[{name}]",
            rows=indices if self.rows is None else self.rows[indices],
        )


def digest(listing: Listing, size: int, on_bad_image: OnBadImage = "refuse") -> str:
    """Return the SHA-256 of a listing's paths, labels and file sizes, of `size` and of the cache version.

    With `refuse`, raise a LabError if an image file is missing.
    """
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
    """Raise a LabError if `error` comes from the disk; disk errors end the run even with `--damaged skip`."""
    if isinstance(error, OSError) and error.errno not in (None, *FILE_ERRORS):  # None: raised by Pillow
        cause = error.strerror or error
        raise LabError(f"cannot read {path}: {cause}; fix the disk, then run the command again") from error


def pack(listing: Listing, folder: Path, *, size: int = 128, on_bad_image: OnBadImage = "refuse") -> MemmapDataset:
    """Return a listing's images, memory-mapped from the cache, which is built first if it is missing or stale.

    If two processes need the same cache, one builds it and the other waits.

    Args:
        listing: paths and labels of the images.
        folder: folder of all caches, with one subfolder per split and size.
        size: side of the cached images in pixels.
        on_bad_image: raise a LabError at a missing or damaged image (`refuse`), or omit it (`skip`).
    """
    expected = digest(listing, size, on_bad_image)
    target = Path(folder) / f"{listing.split}-{size}"
    images, skipped = _open_current(target, expected, len(listing), size) or _build(
        listing, target, expected, size, on_bad_image
    )
    if skipped:
        path, reason = next(iter(skipped.values()))
        count = f"{len(skipped)} of {len(listing)} listed images"
        say(f"{listing.split}: {count} are skipped, first {path} ({reason})", file=sys.stderr)
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
    """Return the memory-mapped array and the skipped rows, or None if the cache is missing, damaged or stale."""
    try:
        manifest = Manifest.read(target / "manifest.json")
        images = np.load(target / "images.npy", mmap_mode="r")
        is_valid = images.shape == (count - len(manifest.skipped), size, size, 3) and images.dtype == np.uint8
        # another process may have replaced both files since the manifest was read
        is_current = manifest.digest == expected == Manifest.read(target / "manifest.json").digest
    except Exception:  # numpy parses the header as Python, so a damaged one raises any type
        return None
    return (
        (images, {row: (path, reason) for row, path, reason in manifest.skipped}) if is_valid and is_current else None
    )


def _build(
    listing: Listing, target: Path, expected: str, size: int, on_bad_image: OnBadImage
) -> tuple[np.ndarray, SkippedRows]:
    """Build the cache under a lock, and return the memory-mapped array and the skipped rows.

    If another process has built the cache meanwhile, it is only opened.
    """
    megabytes = len(listing) * size * size * 3 / 1e6
    fix = f"the image cache needs about {megabytes:.0f} MB, choose another folder with --cache"
    with explain_write_errors(target, fix):
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{target.name}.lock"):  # released by the system if the process dies
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
    """Decode the images to a uint8 .npy file and return the skipped rows.

    The file is not written through a memory map, where a full disk would end the process with SIGBUS.
    """
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
    """Write the .npy header for `count` images; numpy pads it to a length that does not depend on `count`."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(file, header)
