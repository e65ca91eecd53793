"""Save checkpoints, and load untrusted ones without running code or allocating more memory than the file's size.

`torch.load(weights_only=True)` runs no code from the file, but a file of 400 bytes can make it allocate any amount of
memory (`bytearray(10**10)`, compressed storages). Therefore the file is checked first: it may contain only what
`torch.save` writes for plain values and tensors, and only tensors that fit into the file.
"""

import os
import struct
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

from scenelab.errors import LabError, suggest_path
from scenelab.io import atomic_write
from scenelab.runs.header import Header, find_weights, read_header
from scenelab.runs.pickle_check import FREE_BYTES, MAX_SHARING, CorruptError, DisallowedError, PickleCheck

LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # pickled magic number of files from torch before 1.6
MAX_DIRECTORY = 1 << 20  # bytes of the archive's central directory, 90 per entry; 60 layers have 250 entries
ENCRYPTED = 0x61  # zip flag bits: encrypted, patch data, strong encryption


def save_checkpoint(path: Path, values: dict[str, Any]) -> None:
    """Write a dictionary of tensors and plain values to a checkpoint file, atomically; tensors are moved to the CPU."""
    values = _on_cpu(values)
    with atomic_write(path) as file:
        try:
            torch.save(values, file)
        except RuntimeError as error:  # after a failed write, torch's writer raises a second error
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def _on_cpu(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return value.cpu()
    if isinstance(value, dict):
        return {key: _on_cpu(item) for key, item in value.items()}
    return type(value)(map(_on_cpu, value)) if isinstance(value, list | tuple) else value


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Load an untrusted checkpoint file onto the CPU and validate its header.

    Raises:
        LabError: the file is missing, damaged, not a checkpoint, or has content other than tensors and plain values.
    """
    path = Path(path)
    if not path.is_file():
        raise LabError(f"checkpoint {path} does not exist{suggest_path(path)}; train first, or check the path")
    try:
        values = find_weights(_load(path))
    except OSError as error:
        cause = error.strerror or error
        raise LabError(f"checkpoint {path} cannot be read: {cause}; check its permissions and the disk") from error
    except (DisallowedError, CorruptError) as error:
        kind = "is damaged" if isinstance(error, CorruptError) else "holds more than tensors and plain values"
        raise LabError(f"checkpoint {path} {kind} and was not loaded ({error}); use one written by scenelab") from error
    if not isinstance(values, dict) or not isinstance(values.get("state_dict"), dict):
        raise LabError(f"checkpoint {path} has no 'state_dict'; use one of scenelab or of the handout's main.py")
    read_header(path, values, Header)
    return values


def _load(path: Path) -> Any:
    with path.open("rb") as file:
        if file.read(len(LEGACY)) == LEGACY:
            fix = "save it again with a newer torch: torch.save(torch.load(path), path)"
            raise LabError(f"checkpoint {path} has the format of torch before 1.6, which is not read; {fix}")
        check_archive(file, os.fstat(file.fileno()).st_size)
    try:
        # No memory map: the handout's main.py overwrites files in place, which would end this process (SIGBUS).
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except Exception as error:  # inconsistent values make torch's unpickler raise any type
        raise CorruptError(str(error).partition("\n")[0][:120] or type(error).__name__) from error


def check_archive(file: IO[bytes], size: int) -> None:
    """Check that a file of `size` bytes is an uncompressed zip archive with an allowed pickle.

    Raises:
        CorruptError: the archive or its pickle is damaged.
        DisallowedError: it has content other than plain values and tensors, or tensors much larger than the file.
    """
    try:
        start = _check_end(file)
        with zipfile.ZipFile(file) as archive:
            if archive.start_dir != start:  # zipfile tolerates bytes in front of the archive, torch does not
                raise CorruptError("bytes before or between the parts of the archive")
            sizes = _entry_sizes(archive.infolist(), size)
            if damaged := archive.testzip():  # torch does not verify checksums
                raise CorruptError(f"Bad CRC-32 for file {damaged[:60]!r}")
            top = next(iter(sizes), "").partition("/")[0]
            if f"{top}/data.pkl" not in sizes:
                raise CorruptError("the archive has no data.pkl")
            content = archive.read(f"{top}/data.pkl")
    except (zipfile.BadZipFile, EOFError, struct.error, ValueError, NotImplementedError, RuntimeError) as error:
        raise CorruptError(str(error) or type(error).__name__) from error
    PickleCheck(
        content, {name.removeprefix(f"{top}/data/"): sizes[name] for name in sizes}, MAX_SHARING * size + FREE_BYTES
    ).check()


def _check_end(file: IO[bytes]) -> int:
    """Return the central directory's byte offset; raise if it is too large, or if torch may use another offset."""
    end = zipfile._EndRecData(file)  # pyright: ignore[reportAttributeAccessIssue]
    if end is None:
        raise CorruptError("the end of the archive is missing")
    length, start, place = end[5], end[6], end[9]  # zipfile's _ECD_SIZE, _ECD_OFFSET and _ECD_LOCATION
    if length > MAX_DIRECTORY:
        raise DisallowedError("too many entries")  # zipfile creates an object per entry
    file.seek(max(0, place - 20))
    locator = file.read(20)  # locator of the Zip64 end record, 56 bytes before it (PKWARE's APPNOTE, 4.3.14-15)
    if locator[:4] == b"PK\x06\x07" and struct.unpack("<Q", locator[8:16]) != (place - 76,):
        raise CorruptError("the end of the archive is damaged")
    return start


def _entry_sizes(entries: list[zipfile.ZipInfo], size: int) -> dict[str, int]:
    """Return each entry's size in bytes by name, which includes its folder.

    Raise DisallowedError unless all entries are uncompressed, in one folder and distinct, and fit in the file's `size`.
    """
    sizes: dict[str, int] = {}
    for entry in entries:
        name = entry.orig_filename
        is_stored = entry.compress_type == zipfile.ZIP_STORED and entry.compress_size == entry.file_size
        if not is_stored or entry.flag_bits & ENCRYPTED:
            raise DisallowedError(f"the {'encrypted' if is_stored else 'compressed'} entry {name[:60]!r}")
        if "\0" in name or name.split("/")[0] != entries[0].orig_filename.split("/")[0]:
            raise DisallowedError(f"the name {name[:60]!r}, which is outside the first entry's folder")
        sizes[name] = entry.file_size
    if len({name.lower() for name in sizes}) < len(entries):  # torch's reader ignores case
        raise DisallowedError("an entry twice")
    if sum(sizes.values()) > size:
        raise DisallowedError(f"{sum(sizes.values()):,} bytes in a file of {size:,}")
    return sizes
