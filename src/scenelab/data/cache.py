"""Cache a split's decoded images as a memory-mapped uint8 array beside a manifest of its source.

Missing and damaged images raise, or are skipped, counted and named.
"""

import errno
import hashlib
import io
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from filelock import FileLock
from jaxtyping import Int64, UInt8
from torch import Tensor

from scenelab.data.decode import fit, read_image
from scenelab.data.miniplaces import Listing
from scenelab.errors import LabError
from scenelab.io import read_json, sync_folder, write_json
from scenelab.progress import progress

VERSION = 1
OnBadImage = Literal["refuse", "skip"]
FILE_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES)
"""Errors of one image file; any other error of the system is the disk's."""

SkippedRows = dict[int, tuple[str, str]]  # path and reason by row of the listing


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
        if count is None:
            return self
        return self.subset(np.arange(len(self))[:count], split=self.split, name=f":{count}")

    def subset(self, indices: np.ndarray, *, split: str, name: str) -> "MemmapDataset":
        """Return the images at `indices`, in that order, without copying them.

        Args:
            indices: of this split's images.
            split: name of the new split.
            name: identifies this subset; it becomes part of the digest.
        """
        return MemmapDataset(
            images=self.images,
            labels=self.labels[torch.from_numpy(indices)],
            paths=tuple(self.paths[index] for index in indices),
            categories=self.categories,
            split=split,
            digest=f"{self.digest}[{name}]",
            rows=indices if self.rows is None else self.rows[indices],
            skipped=self.skipped,
        )


def digest(listing: Listing, size: int, on_bad_image: OnBadImage = "refuse") -> str:
    """Return the SHA-256 of all that decides the array: paths, labels, file sizes, image size and version.

    Raises:
        LabError: listed images are missing and must not be skipped.
    """
    sha = hashlib.sha256(f"{VERSION} {size} {listing.split}\n".encode())
    if on_bad_image == "skip":
        sha.update(b"without damaged images\n")
    missing = []
    for path, label in zip(listing.paths, listing.labels, strict=True):
        try:
            length = str(os.stat(listing.root / path).st_size)
        except OSError as error:
            reraise_disk_error(error, listing.root / path)
            missing.append(path)
            length = "missing"
        sha.update(f"{path} {label} {length}\n".encode(errors="surrogateescape"))
    if missing and on_bad_image == "refuse":
        raise LabError(
            f"{len(missing)} of {len(listing)} listed images are missing in {listing.root}, first {missing[0]}; "
            f"list them with 'scenelab data verify {listing.root.parent}' or skip them with --damaged skip"
        )
    return sha.hexdigest()


def pack(listing: Listing, folder: Path, *, size: int = 128, on_bad_image: OnBadImage = "refuse") -> MemmapDataset:
    """Open the cache of a listing, and build it first if it is missing or stale.

    The array is built under a temporary name and a lock, then renamed: of two processes one builds and the other
    waits. A killed build leaves at most a `.partial` folder, which the next build removes.

    Args:
        listing: the images and labels.
        folder: the cache folder, with one subfolder per split and size; created if missing.
        size: side of the square images in pixels.
        on_bad_image: raise for a missing or undecodable image, or skip it.

    Raises:
        LabError: an image is missing or undecodable and must not be skipped, no image is left, the folder is not
            writable, or the disk is full.
    """
    expected = digest(listing, size, on_bad_image)
    target = Path(folder) / f"{listing.split}-{size}"
    opened = _open_current(target, expected, len(listing), size)
    images, skipped = opened or _build(listing, target, expected, size, on_bad_image)
    if skipped:
        path, reason = next(iter(skipped.values()))
        print(
            f"{listing.split}: {len(skipped)} of {len(listing)} listed images are skipped, first {path} ({reason})",
            file=sys.stderr,
        )
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
        manifest = read_json(target / "manifest.json")
        if manifest.get("digest") != expected:
            return None
        skipped = {int(row): (str(path), str(reason)) for row, path, reason in manifest.get("skipped", [])}
        images = np.load(target / "images.npy", mmap_mode="r")
        is_valid = images.shape == (count - len(skipped), size, size, 3) and images.dtype == np.uint8
        # another process may have replaced both files since the manifest was read
        is_current = read_json(target / "manifest.json").get("digest") == expected
    except Exception:  # numpy evaluates the header as Python, so a damaged one raises almost anything
        return None
    return (images, skipped) if is_valid and is_current else None


def _build(
    listing: Listing, target: Path, expected: str, size: int, on_bad_image: OnBadImage
) -> tuple[np.ndarray, SkippedRows]:
    """Build the array under a lock, unless another process does so meanwhile, and map it."""
    partial = target.with_name(f".{target.name}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.parent / f".{target.name}.lock"):  # the system releases it when the process dies
            if opened := _open_current(target, expected, len(listing), size):
                return opened
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir()
            try:
                skipped = _write_images(listing, partial / "images.npy", size, on_bad_image)
                _write_manifest(listing, partial / "manifest.json", expected, size, skipped)
                shutil.rmtree(target, ignore_errors=True)
                os.rename(partial, target)
                sync_folder(target.parent)
            finally:
                shutil.rmtree(partial, ignore_errors=True)
            return np.load(target / "images.npy", mmap_mode="r"), skipped
    except OSError as error:
        raise LabError(
            f"cannot write the image cache {target}: {error.strerror or error}; it needs about "
            f"{len(listing) * size * size * 3 / 1e6:.0f} MB, choose another folder with --cache"
        ) from error


def _write_manifest(listing: Listing, path: Path, digest: str, size: int, skipped: SkippedRows) -> None:
    manifest = {
        "version": VERSION,
        "digest": digest,
        "split": listing.split,
        "images": len(listing) - len(skipped),
        "size": size,
        "source": str(listing.root),
        "layout": "N×H×W×3 uint8 RGB",
        "skipped": [[row, *reason] for row, reason in skipped.items()],
    }
    write_json(path, manifest)


def _write_images(listing: Listing, path: Path, size: int, on_bad_image: OnBadImage) -> SkippedRows:
    """Decode the images into a .npy file; through `write`, since a full disk under a memory map is a SIGBUS."""
    skipped: SkippedRows = {}
    with open(path, "wb") as file, progress(f"packing {listing.split}", len(listing)) as advance:
        file.write(_npy_header(len(listing), size))
        for row in range(len(listing)):
            try:
                image = fit(read_image(listing.file(row)), size)
                file.write(image.permute(1, 2, 0).contiguous().numpy().tobytes())
            except LabError as error:
                skipped[row] = skip_or_raise(error, listing, row, on_bad_image)
            advance(1)
        require_nonempty(len(listing) - len(skipped), listing)
        file.seek(0)
        file.write(_npy_header(len(listing) - len(skipped), size))
        file.flush()
        os.fsync(file.fileno())
    return skipped


def _npy_header(count: int, size: int) -> bytes:
    """Return a .npy header; its length is the same for every count, since numpy leaves room to grow."""
    stream = io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (count, size, size, 3)}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


def reraise_disk_error(error: BaseException | None, path: Path) -> None:
    """Raise if the disk or the system failed, and not the image: such an error is never skipped.

    Raises:
        LabError: `error` is an OSError other than those in `FILE_ERRORS`.
    """
    if isinstance(error, OSError) and error.errno not in (None, *FILE_ERRORS):  # None: Pillow's own
        raise LabError(
            f"cannot read {path}: {error.strerror or error}; fix the disk, then run the command again"
        ) from error


def skip_or_raise(error: LabError, listing: Listing, row: int, on_bad_image: OnBadImage) -> tuple[str, str]:
    """Return path and reason of an unreadable image, or raise if it must not be skipped.

    Raises:
        LabError: `on_bad_image` is "refuse", or the disk failed.
    """
    reraise_disk_error(error.__cause__, listing.file(row))
    if on_bad_image == "refuse":
        raise LabError(f"{error}, or skip it with --damaged skip") from error
    return listing.paths[row], str(error)


def require_nonempty(count: int, listing: Listing) -> None:
    """Raise if every image of a listing was skipped."""
    if not count:
        raise LabError(f"none of the {len(listing)} listed images in {listing.root} can be read; get them again")
