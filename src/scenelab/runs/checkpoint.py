"""A checkpoint file, of whoever made it, to tensors and plain values: no code runs, no claim of the file is believed.

Two forms are read: the zip archive that torch writes since 1.6, whose entries are not compressed, and the sequence of
pickles of before. Memory is bounded by the file's size. Unlike torch's own reader this one compares checksums.
"""

import os
import pickle
import struct
import sys
import zipfile
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from scenelab.runs.pickled import DamagedError, ForeignError, Machine, StorageId

MAGIC = 0x1950A86A20F9469CFC6C  # torch/serialization.py, as the next
PROTOCOL = 1001
BEGIN = pickle.dumps(MAGIC, protocol=2)
MOST_ENTRIES = 20_000  # of an archive; a resumable checkpoint of 60 layers has 250
MOST_DIRECTORY = 4 << 20  # bytes of its table of contents
MOST_PICKLE = 16 << 20  # bytes


def read(path: Path) -> Any:
    """What `torch.save` was given.

    Raises:
        DamagedError: the file is cut off, changed, or no checkpoint.
        ForeignError: it holds or claims more than tensors and plain values of its own size.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if file.read(4) == b"PK\x03\x04":
            try:
                return _read_zip(file, size)
            except (zipfile.BadZipFile, EOFError, struct.error, ValueError, NotImplementedError, RuntimeError) as error:
                raise DamagedError(str(error) or type(error).__name__) from error
        file.seek(0)
        if file.read(len(BEGIN)) != BEGIN:
            raise DamagedError("it does not begin as a checkpoint does")
        file.seek(0)
        return _read_sequence(file.read(), size)


def _read_zip(file: IO[bytes], size: int) -> Any:
    _bound_directory(file, size)
    with zipfile.ZipFile(file) as archive:
        entries = _plain_entries(archive, size)
        top = next((name.partition("/")[0] for name in entries if name.endswith("/data.pkl")), None)
        if top is None or f"{top}/data.pkl" not in entries:
            raise DamagedError("it has no data.pkl")
        if f"{top}/constants.pkl" in entries:
            raise ForeignError("a program of TorchScript")
        order = entries.get(f"{top}/byteorder")
        if order is not None and (order.file_size > 10 or archive.read(order) != sys.byteorder.encode()):
            raise ForeignError("numbers of another byte order")
        program = entries[f"{top}/data.pkl"]
        if program.file_size > MOST_PICKLE:
            raise ForeignError(f"a pickle of {program.file_size:,} bytes")
        read: dict[str, Tensor] = {}

        def fetch(storage: StorageId) -> Tensor:
            if storage.key not in read:
                entry = entries.get(f"{top}/data/{storage.key}")
                if entry is None or entry.file_size != storage.count * storage.dtype.itemsize:
                    raise ForeignError(f"{storage.count:,} numbers where {entry.file_size if entry else 0:,} bytes are")
                read[storage.key] = _numbers(bytearray(archive.read(entry)), storage.dtype)
            found = read[storage.key]
            if found.dtype != storage.dtype or len(found) != storage.count:
                raise ForeignError("two readings of the same numbers")
            return found

        return Machine(archive.read(program), fetch, size).read()


def _bound_directory(file: IO[bytes], size: int) -> None:
    """Look at the sizes that the archive's end claims before `zipfile` makes an object of each entry.

    The end record is the last 22 bytes; 20 bytes before it may point to a larger one (PKWARE's APPNOTE, 4.3.14-16).
    """
    file.seek(max(0, size - 98))
    end = file.read()
    plain = end[-22:]
    if len(plain) < 22 or plain[:4] != b"PK\x05\x06":
        raise DamagedError("the end of the archive is missing")
    entries, length = struct.unpack("<HI", plain[10:16])
    if end[-42:-38] == b"PK\x06\x07":
        large = end[-98:-42]
        if large[:4] != b"PK\x06\x06":
            raise DamagedError("the end of the archive is damaged")
        entries, length = struct.unpack("<QQ", large[32:48])
    if entries > MOST_ENTRIES or length > MOST_DIRECTORY:
        raise ForeignError(f"an archive of {entries:,} entries")


def _plain_entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """The entries by name: each one stored as it is, once, beside the others and not across them."""
    entries: dict[str, zipfile.ZipInfo] = {}
    end = 0
    found = archive.infolist()
    if len(found) > MOST_ENTRIES:
        raise ForeignError(f"an archive of {len(found):,} entries")
    for entry in sorted(found, key=lambda entry: entry.header_offset):
        name = entry.orig_filename
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise ForeignError(f"the compressed entry {name[:60]!r}")
        if entry.flag_bits & 0x61:  # encrypted, a patch, or strongly encrypted
            raise ForeignError(f"the encrypted entry {name[:60]!r}")
        if name in entries:
            raise ForeignError(f"the entry {name[:60]!r} twice")
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
            raise ForeignError(f"the name {name[:60]!r}")
        if entry.header_offset < end:
            raise ForeignError("entries that lie across each other")
        end = entry.header_offset + 30 + len(name) + entry.file_size
        entries[name] = entry
    if end > min(size, archive.start_dir):
        raise ForeignError(f"{end:,} bytes in a file of {size:,}")
    return entries


def _read_sequence(data: bytes, size: int) -> Any:
    """The form of before torch 1.6: magic number, version, system, the value, keys, then the numbers of each key.

    The value refers to numbers that come behind it, so it is read twice: once to find them, once with them.
    """
    wanted: dict[str, StorageId] = {}

    def note(storage: StorageId) -> Tensor:
        known = wanted.setdefault(storage.key, storage)
        if (known.dtype, known.count) != (storage.dtype, storage.count) or max(
            storage.count, (storage.view or (0, 0, 0))[2]
        ) > size:
            raise ForeignError(f"{storage.count:,} numbers in a file of {size:,} bytes")
        return torch.empty(storage.view[2] if storage.view else storage.count, dtype=storage.dtype, device="meta")

    machine = Machine(data, note, size)
    if machine.read() != MAGIC or machine.read() != PROTOCOL:
        raise DamagedError("it is of another version")
    system = machine.read()
    if not isinstance(system, dict) or system.get("little_endian") is not (sys.byteorder == "little"):
        raise ForeignError("numbers of another byte order")
    begin = machine.place
    machine.read()
    numbers = _numbers_behind(machine, wanted)

    def fetch(storage: StorageId) -> Tensor:
        if storage.view is None:
            return numbers[storage.key]
        _, first, count = storage.view
        if first + count > storage.count:
            raise ForeignError(f"{first + count:,} numbers in a storage of {storage.count:,}")
        return numbers[storage.key][first : first + count]

    again = Machine(data, fetch, size)
    again.place = begin
    return again.read()


def _numbers_behind(machine: Machine, wanted: dict[str, StorageId]) -> dict[str, Tensor]:
    keys = machine.read()
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != wanted.keys():
        raise DamagedError("the list of its storages is another")
    found: dict[str, Tensor] = {}
    for key in keys:
        storage = wanted[key]
        (count,) = struct.unpack("<q", machine.take(8))
        if count != storage.count or key in found:
            raise DamagedError("a storage has another size than it says")
        found[key] = _numbers(bytearray(machine.take(count * storage.dtype.itemsize)), storage.dtype)
    return found


def _numbers(data: bytearray, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)
