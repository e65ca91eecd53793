"""Cache of a split's decoded images: a memory-mapped uint8 array, a manifest, and the state of the source files."""

import hashlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Literal

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from scenelab.data.decode import fit, is_readable, read_image
from scenelab.data.file_state import FILES, hash_file, reraise_disk_error, stat_files
from scenelab.data.left_out import describe_left_out, require_classes
from scenelab.data.miniplaces import Listing
from scenelab.errors import LabError, printable
from scenelab.io import NO_LOCKS, atomic_dir, atomic_write, explain_write_errors, lock_folder
from scenelab.progress import progress
from scenelab.schema import FileName, Model
from scenelab.terminal import say

VERSION = 1
OnBadImage = Literal["refuse", "skip"]
SkippedRows = dict[int, tuple[str, str]]  # index into the listing → path and reason


class Manifest(Model):
    """Content of a cached split's `manifest.json`; `skipped` has index, path and reason of each omitted image."""

    version: int
    digest: str
    split: str
    images: int
    size: int
    source: FileName
    layout: str
    skipped: tuple[tuple[int, FileName, str], ...]


@dataclass(frozen=True, kw_only=True)
class MemmapDataset:
    """Data set of N labeled images, memory-mapped from disk.

    Attributes:
        images: M×H×W×3 uint8 RGB array; M may exceed N.
        labels: indices into `categories`.
        paths: relative paths of the N images.
        digest: SHA-256 of the image list and size, with a suffix in brackets per selection of images.
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
    return _digest(listing, size, on_bad_image, stat_files(listing))


def _digest(listing: Listing, size: int, on_bad_image: OnBadImage, files: np.ndarray) -> str:
    sha = hashlib.sha256(f"{VERSION} {size} {listing.split}\n".encode())
    if on_bad_image == "skip":
        sha.update(b"without damaged images\n")
    for path, label, length in zip(listing.paths, listing.labels, files["size"].tolist(), strict=True):
        sha.update(f"{path} {label} {'missing' if length < 0 else length}\n".encode(errors="surrogateescape"))
    missing = np.flatnonzero(files["size"] < 0)
    if len(missing) and on_bad_image == "refuse":
        raise LabError(
            f"{len(missing)} of {len(listing)} listed images are missing in {listing.root}, "
            f"first {listing.paths[missing[0]]}; list them with 'scenelab data verify DATA' "
            "or train or pack with --damaged skip"
        )
    return sha.hexdigest()


def pack(
    listing: Listing, folder: Path, *, size: int = 128, on_bad_image: OnBadImage = "refuse", verify: bool = False
) -> MemmapDataset:
    """Return a listing's images, memory-mapped from the cache, which is built first if it is missing or stale.

    A file whose size or modification time changed is compared by content. If two processes need the same cache, one
    builds it and the other waits.

    Args:
        listing: paths and labels of the images.
        folder: folder of all caches, with one subfolder per split and size.
        size: side of the cached images in pixels.
        on_bad_image: raise a LabError at a missing or damaged image (`refuse`), or omit it (`skip`).
        verify: decode every image and compare its pixels with the cache.
    """
    files = stat_files(listing)
    expected = _digest(listing, size, on_bad_image, files)
    target = Path(folder) / f"{listing.split}-{size}"
    opened = _open_current(listing, target, expected, size, files)
    if opened and verify and (different := _compare(listing, *opened, size)):
        count = f"{len(different)} of {len(listing)} images"
        say(f"{listing.split}: {count} differ from the cache, first {different[0]}; packing again", file=sys.stderr)
        opened = None
    images, skipped = opened or _build(listing, target, expected, size, on_bad_image, rebuild=verify)
    if skipped:
        path, reason = map(printable, next(iter(skipped.values())))
        count = f"{len(skipped)} of {len(listing)} listed images"
        say(f"{listing.split}: {count} are skipped, first {path} ({reason})", file=sys.stderr)
        expected += f"[without {hashlib.sha256(repr(sorted(skipped)).encode()).hexdigest()}]"
    require_classes(listing, {row: reason for row, (_, reason) in skipped.items()})
    if text := describe_left_out(listing):
        say(f"{listing.split} of {listing.root}: {text}", file=sys.stderr)
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


def _open_current(
    listing: Listing, target: Path, expected: str, size: int, files: np.ndarray
) -> tuple[np.ndarray, SkippedRows] | None:
    """Return the cached array and skipped rows, or None if they do not fit the digest `expected` or the `files`."""
    try:
        folder = os.stat(target)
        manifest = Manifest.read(target / "manifest.json")
        images, known = np.load(target / "images.npy", mmap_mode="r"), np.load(target / "files.npy")
        is_valid = images.shape == (len(listing) - len(manifest.skipped), size, size, 3) and images.dtype == np.uint8
        # another process may have replaced the folder since
        is_current = manifest.digest == expected and os.path.samestat(folder, os.stat(target))
        changed = np.flatnonzero(known[["size", "mtime"]] != files[["size", "mtime"]])
    except Exception:  # numpy parses the header as Python, so a damaged one raises any type
        return None
    if not (is_valid and is_current and known.dtype == FILES):
        return None
    is_other = any((hash_file(listing.file(row)) != known["sha256"][row]).any() for row in changed.tolist())
    if is_other or any(is_readable(listing.file(row)) for row, *_ in manifest.skipped):  # by a decoder installed since
        return None
    if len(changed):
        files["sha256"] = known["sha256"]
        with suppress(LabError):  # the cache may be on a read-only disk
            _write_files(target, files)
    return images, {row: (path, reason) for row, path, reason in manifest.skipped}


def _write_files(folder: Path, files: np.ndarray) -> None:
    with atomic_write(folder / "files.npy") as file:
        np.save(file, files)


def _compare(listing: Listing, images: np.ndarray, skipped: SkippedRows, size: int) -> list[str]:
    """Return the paths of images that do not decode to the cached pixels, or to an error if the cache skips them."""
    different, number = [], 0
    with progress(f"comparing {listing.split}", len(listing)) as advance:
        for row, name in enumerate(listing.paths):
            pixels = _decode(listing, row, size)
            if isinstance(pixels, LabError) or row in skipped:
                is_equal = isinstance(pixels, LabError) and row in skipped
            else:
                is_equal = np.array_equal(images[number], pixels)
            number += row not in skipped
            if not is_equal:
                different.append(printable(name))
            advance(1)
    return different


def _build(
    listing: Listing, target: Path, expected: str, size: int, on_bad_image: OnBadImage, *, rebuild: bool
) -> tuple[np.ndarray, SkippedRows]:
    """Build the cache under a lock, and return the memory-mapped array and the skipped rows.

    Without `rebuild`, a cache that another process has built in the meantime is opened instead.
    """
    fix = f"the image cache needs about {len(listing) * size**2 * 3 / 1e6:.0f} MB, choose another folder with --cache"
    with explain_write_errors(target, fix):
        target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(target):
            files = stat_files(listing)
            if not rebuild and (opened := _open_current(listing, target, expected, size, files)):
                return opened
            with atomic_dir(target, replace=True, fix=fix) as folder:
                skipped = _write_images(listing, folder / "images.npy", size, on_bad_image, files)
                _write_files(folder, files)
                Manifest(
                    version=VERSION,
                    digest=expected,
                    split=listing.split,
                    images=len(listing) - len(skipped),
                    size=size,
                    source=str(listing.root),
                    layout="N×H×W×3 uint8 RGB",
                    skipped=tuple((row, *entry) for row, entry in skipped.items()),
                ).write(folder / "manifest.json")
            return np.load(target / "images.npy", mmap_mode="r"), skipped


@contextmanager
def _locked(target: Path) -> Iterator[None]:
    """Hold the lock of a cache inside the block; the system releases it if the process dies."""
    try:
        handle = lock_folder(target.parent, f".{target.name}.lock", wait=True)
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        yield
        return
    try:
        yield
    finally:
        os.close(handle)


def _decode(listing: Listing, row: int, size: int) -> np.ndarray | LabError:
    """Return an image's pixels as a size×size×3 array, or the error of an image that cannot be read."""
    try:
        return fit(read_image(listing.file(row)), size).permute(1, 2, 0).contiguous().numpy()
    except LabError as error:
        reraise_disk_error(error.__cause__, listing.file(row))
        return error


def _write_images(listing: Listing, path: Path, size: int, on_bad_image: OnBadImage, files: np.ndarray) -> SkippedRows:
    """Decode the images to a uint8 .npy file, store their files' SHA-256 in `files`, and return the skipped rows.

    The file is not written through a memory map, where a full disk would end the process with SIGBUS.
    """
    skipped: SkippedRows = {}
    with open(path, "wb") as file, progress(f"packing {listing.split}", len(listing)) as advance:
        _write_header(file, len(listing), size)
        for row, name in enumerate(listing.paths):
            files["sha256"][row] = hash_file(listing.file(row))
            pixels = _decode(listing, row, size)
            if isinstance(pixels, np.ndarray):
                file.write(pixels.tobytes())
            elif on_bad_image == "refuse":
                raise LabError(f"{pixels}, or train or pack with --damaged skip") from pixels
            else:
                skipped[row] = (name, printable(str(pixels)))
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
