"""Size, modification time and content hash of source image files, to detect that a cache is stale."""

import errno
import os
from pathlib import Path

import numpy as np

from scenelab.data.miniplaces import Listing
from scenelab.errors import LabError
from scenelab.io import is_file, sha256

FILE_ERRORS = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EACCES)
"""Error numbers of a single bad image file; any other number means that the disk failed."""
FILES = np.dtype([("size", "<i8"), ("mtime", "<i8"), ("sha256", "u1", 32)])
"""Type of `files.npy`: size in bytes, modification time in nanoseconds, and content hash of each source file."""

MAX_TIME = 2**63 - 1  # after the year 2262, nanoseconds do not fit


def stat_files(listing: Listing) -> np.ndarray:
    """Return an array of dtype `FILES` with each image file's size (-1 if missing) and modification time."""
    states = []
    for path in listing.paths:
        try:
            status = os.stat(listing.root / path)
            states.append((status.st_size, status.st_mtime_ns & MAX_TIME))
        except OSError as error:
            reraise_disk_error(error, listing.root / path)
            states.append((-1, 0))
    files = np.zeros(len(listing), FILES)
    files["size"], files["mtime"] = np.array(states, np.int64).reshape(-1, 2).T
    return files


def hash_file(path: Path) -> np.ndarray:
    """Return the SHA-256 of a file's content as 32 bytes, or zeros if it is not a readable regular file."""
    try:
        if is_file(path):
            return np.frombuffer(sha256(path), np.uint8)
    except OSError as error:
        reraise_disk_error(error, path)
    return np.zeros(32, np.uint8)


def reraise_disk_error(error: BaseException | None, path: Path) -> None:
    """Raise a LabError if the disk failed, not just one file, to end the command even with `--damaged skip`."""
    if isinstance(error, OSError) and error.errno not in (None, *FILE_ERRORS):  # None: raised by Pillow
        cause = error.strerror or error
        raise LabError(f"cannot read {path}: {cause}; fix the disk, then run the command again") from error
