"""Save checkpoints, and load untrusted ones without running code or allocating more memory than the file's size.

`torch.load(weights_only=True)` runs no code from the file, but a file of 400 bytes can make it allocate any amount of
memory (`bytearray(10**10)`, compressed storages). Therefore the file is checked first: it may contain only what
`torch.save` writes for plain values and tensors, and only tensors that fit into the file.
"""

import io
import math
import os
import pickle
import pickletools
import struct
import zipfile
from pathlib import Path
from typing import IO, Any, ClassVar, NamedTuple

import torch

from scenelab.errors import LabError, suggest_path
from scenelab.io import atomic_write
from scenelab.runs.header import Header, find_weights, read_header

LEGACY = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19"  # pickled magic number of files from torch before 1.6
MAX_DIRECTORY = 1 << 20  # bytes of the archive's central directory, 90 per entry; 60 layers have 250 entries
MAX_STEPS = 500_000  # opcodes; a resumable checkpoint of 60 layers takes 12,000
MAX_DIMENSIONS = 8
MAX_KEY = 2**31  # bound of integer keys: larger keys can be chosen with equal hashes, which makes a dict slow
ENCRYPTED = 0x61  # zip flag bits: encrypted, patch data, strong encryption
OPCODES = """
    PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE GLOBAL EMPTY_TUPLE TUPLE
    TUPLE1 TUPLE2 TUPLE3 EMPTY_LIST APPEND APPENDS EMPTY_DICT SETITEM SETITEMS BINPUT LONG_BINPUT BINGET LONG_BINGET
    BINPERSID REDUCE BUILD
""".split()
KINDS = "ComplexDouble:16 ComplexFloat:8 Double:8 Long:8 Float:4 Int:4 Half:2 BFloat16:2 Short:2 Char:1 Byte:1 Bool:1"
STORAGES = {f"torch.{kind}Storage": int(size) for kind, _, size in (item.partition(":") for item in KINDS.split())}
STORAGES["torch.storage.UntypedStorage"] = 1
"""Bytes per number of each type of storage."""

NEW_DTYPES = """
    uint16 uint32 uint64 complex32 float8_e4m3fn float8_e5m2 float8_e4m3fnuz float8_e5m2fnuz float8_e8m0fnu
""".split()  # without a type of storage; the saved tensor names its dtype
DTYPES = {f"torch.{name}": getattr(torch, name).itemsize for name in NEW_DTYPES if hasattr(torch, name)}
MAX_SHARING, FREE_BYTES = 4, 1 << 20  # the bytes of all tensors are at most this multiple of the file's, plus this many


class CorruptError(Exception):
    """Error for a damaged file, whose bytes `torch.save` cannot have written."""


class DisallowedError(Exception):
    """Error for a file with content other than plain values and tensors, or with tensors much larger than the file."""


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


class _Storage(NamedTuple):
    kind: str
    numbers: int


class Dictionary(dict[Any, Any]):
    """Dictionary that accepts only strings and small integers as keys."""

    __slots__ = ()

    def __setitem__(self, key: Any, value: Any) -> None:
        if not (type(key) is str or (type(key) is int and abs(key) < MAX_KEY)):
            raise DisallowedError("a key that is neither a string nor a small integer")
        super().__setitem__(key, value)


class PickleCheck(pickle._Unpickler):
    """Unpickler that accepts only `OPCODES`, and replaces the functions that torch's unpickler calls by checks.

    Args:
        content: the pickle.
        sizes: size in bytes of each storage's archive entry, by key.
        max_bytes: maximum total size of all tensors in bytes.
    """

    append: Any
    stack: list[Any]
    dispatch: ClassVar[dict[int, Any]] = {
        ord(opcode.code): pickle._Unpickler.dispatch[ord(opcode.code)]
        for opcode in pickletools.opcodes
        if opcode.name in OPCODES
    }

    def __init__(self, content: bytes, sizes: dict[str, int], max_bytes: int) -> None:
        super().__init__(io.BytesIO(content))
        self.content, self.sizes, self.bytes_left, self.steps_left = content, sizes, max_bytes, MAX_STEPS
        self.storages: dict[str, _Storage] = {}

    def check(self) -> None:
        """Raise DisallowedError unless the pickle builds only plain values and tensors; CorruptError if invalid."""
        try:
            for opcode, _, _ in pickletools.genops(self.content):
                self._spend(1)
                if opcode.name not in OPCODES:
                    raise DisallowedError(f"the opcode {opcode.name}")
            self.load()
        except DisallowedError:
            raise
        except Exception as error:  # inconsistent opcodes make the unpickler raise any type
            raise CorruptError("its pickle is invalid") from error

    def _spend(self, steps: int) -> None:
        self.steps_left -= steps
        if self.steps_left < 0:
            raise DisallowedError(f"more than {MAX_STEPS:,} opcodes")

    def find_class(self, module: str, name: str) -> Any:
        """Return the check of an allowed function, or the name of a storage type or dtype; raise for other names."""
        functions = {
            "collections.OrderedDict": lambda: Dictionary(),
            "collections.Counter": self._counter,
            "torch._utils._rebuild_tensor_v2": self._tensor,
            "torch._utils._rebuild_tensor_v3": self._typed_tensor,
            "torch._utils._rebuild_parameter": self._parameter,
        }
        path = f"{module}.{name}"
        if not any(path in names for names in (functions, STORAGES, DTYPES)):
            raise DisallowedError(f"the name {path[:80]!r}")
        return functions.get(path, path)

    def persistent_load(self, pid: Any) -> _Storage:
        """Return a storage's type and number of elements; raise unless its size matches its archive entry."""
        match pid:
            case ("storage", str(kind), str(key), str(), int(count)) if kind in STORAGES:
                claimed, present = count * STORAGES[kind], self.sizes.get(key, 0)
                if claimed != present or key not in self.sizes:
                    raise DisallowedError(f"a storage of {claimed:,} bytes whose entry has {present:,}")
                if self.storages.setdefault(key, _Storage(kind, count)) != (kind, count):
                    raise DisallowedError("two types of one storage")
                return self.storages[key]
        raise DisallowedError("a reference to something outside")

    def _load_empty_dictionary(self) -> None:
        self.append(Dictionary())

    def _load_build(self) -> None:
        """Handle the opcode BUILD (set attributes): discard `_metadata`, set by `nn.Module.state_dict`, else raise."""
        state = self.stack.pop()
        if type(self.stack[-1]) is not Dictionary or type(state) is not Dictionary or state.keys() - {"_metadata"}:
            raise DisallowedError("an object with attributes")

    dispatch[ord("}")], dispatch[ord("b")] = _load_empty_dictionary, _load_build

    def _counter(self, counts: Any) -> Dictionary:
        if type(counts) is not Dictionary:
            raise DisallowedError("a counter of something else than a dictionary")
        self._spend(len(counts))  # torch's unpickler copies the dictionary
        return Dictionary()

    def _parameter(self, tensor: Any, requires_grad: bool, hooks: Any) -> Any:
        if type(hooks) is not Dictionary or hooks:
            raise DisallowedError("a tensor with hooks")
        return tensor

    def _tensor(
        self, storage: _Storage, first: int, size: Any, stride: Any, requires_grad: bool, hooks: Any, flags: Any = None
    ) -> Any:
        return self._sized_tensor(STORAGES[storage.kind], storage, first, size, stride, hooks, flags)

    def _typed_tensor(self, storage: _Storage, *values: Any) -> Any:
        first, size, stride, _, hooks, dtype, *flags = values
        return self._sized_tensor(DTYPES[dtype], storage, first, size, stride, hooks, flags[0] if flags else None)

    def _sized_tensor(
        self, item_bytes: int, storage: _Storage, first: int, size: Any, stride: Any, hooks: Any, flags: Any
    ) -> Any:
        """Check a tensor's shape, its flags, and its extent in the storage, with `item_bytes` per element."""
        if not all(type(value) is int and 0 <= value < 2**40 for value in (first, *size, *stride)):
            raise DisallowedError("a tensor without a plain shape")
        if flags is not None and (type(flags) is not Dictionary or flags.keys() - {"conj", "neg"}):
            raise DisallowedError("a tensor with attributes")
        count = math.prod(size)
        last = first + sum((side - 1) * step for side, step in zip(size, stride, strict=True)) if count else 0
        present = storage.numbers * STORAGES[storage.kind]
        if len(size) > MAX_DIMENSIONS or (last + 1) * item_bytes > max(item_bytes, present):
            raise DisallowedError(f"a tensor of {len(size)} dimensions and {count:,} numbers in {present:,} bytes")
        self.bytes_left -= count * item_bytes
        if self.bytes_left < 0:
            raise DisallowedError(f"tensors of over {MAX_SHARING} times the bytes of the file")
        return self._parameter(None, False, hooks)
