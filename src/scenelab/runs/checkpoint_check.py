"""Check a checkpoint file before torch reads it: its zip directory, and what its pickle would build.

`torch.load(weights_only=True)` runs no code of the file, but a file of 400 bytes can make it allocate any amount of
memory (`bytearray(10**10)`, compressed storages). The check allows only what `torch.save` writes for plain values and
tensors, and only tensors that fit into the file.
"""

import math
import pickletools
import struct
import sys
import zipfile
from collections import Counter, OrderedDict
from typing import IO, Any, NamedTuple

MAX_ENTRIES = 20_000  # of an archive; a resumable checkpoint of 60 layers has 250
MAX_DIRECTORY = 4 << 20  # bytes of the archive's central directory
MAX_PICKLE = 16 << 20  # bytes
MAX_STEPS = 500_000  # opcodes; a resumable checkpoint of 60 layers takes 12,000
MAX_DIMENSIONS = 8
MAX_KEY = 2**31  # of an integer key: larger ones can be chosen so that all of them hash alike
ENCRYPTED = 0x61  # flag bits: encrypted, a patch, strongly encrypted
BYTES_PER_NUMBER = {
    "torch.DoubleStorage": 8,
    "torch.FloatStorage": 4,
    "torch.HalfStorage": 2,
    "torch.BFloat16Storage": 2,
    "torch.LongStorage": 8,
    "torch.IntStorage": 4,
    "torch.ShortStorage": 2,
    "torch.CharStorage": 1,
    "torch.ByteStorage": 1,
}
FUNCTIONS = [
    "collections.OrderedDict",
    "collections.Counter",
    "torch._utils._rebuild_tensor_v2",
    "torch._utils._rebuild_parameter",
]
CONSTANTS = ["BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINSTRING"]
LITERALS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class CorruptError(Exception):
    """These are not the bytes that `torch.save` wrote."""


class DisallowedError(Exception):
    """The file holds or claims more than plain values and tensors of its own size."""


class Global(str):
    """A name of the form `module.name` that the pickle refers to."""


class Storage(NamedTuple):
    """A storage's type and number of elements."""

    kind: str
    count: int


class Built:
    """A value whose content is of no interest: a list, a tensor."""


def check_archive(file: IO[bytes], size: int) -> None:
    """Raise unless the file is a zip archive of uncompressed entries whose pickle builds plain values and tensors.

    Raises:
        CorruptError: the file is truncated, changed, or not a checkpoint.
        DisallowedError: it holds more than plain values and tensors, or claims more than its size.
    """
    try:
        _check_end(file, size)
        with zipfile.ZipFile(file) as archive:
            entries = _plain_entries(archive, size)
            if damaged := archive.testzip():  # torch compares no checksums
                raise CorruptError(f"Bad CRC-32 for file {damaged[:60]!r}")
            top = next(iter(entries)).partition("/")[0] if entries else ""
            pickles = [name for name in entries if name.endswith("/data.pkl")]
            if pickles != [f"{top}/data.pkl"] or not all(name.startswith(f"{top}/") for name in entries):
                raise CorruptError("the archive has no data.pkl" if not pickles else "the archive has two folders")
            if f"{top}/constants.pkl" in entries:
                raise DisallowedError("a program of TorchScript")
            order = entries.get(f"{top}/byteorder")
            if order and (order.file_size > 10 or archive.read(order) != sys.byteorder.encode()):
                raise DisallowedError("numbers of another byte order")
            if entries[pickles[0]].file_size > MAX_PICKLE:
                raise DisallowedError(f"a pickle of {entries[pickles[0]].file_size:,} bytes")
            sizes = {name.removeprefix(f"{top}/data/"): entry.file_size for name, entry in entries.items()}
            PickleCheck(sizes, size).check(archive.read(pickles[0]))
    except (zipfile.BadZipFile, EOFError, struct.error, ValueError, NotImplementedError, RuntimeError) as error:
        raise CorruptError(str(error) or type(error).__name__) from error


def _check_end(file: IO[bytes], size: int) -> None:
    """Bound what the archive's end claims before `zipfile` makes an object of each entry.

    The end record is the last 22 bytes; 20 bytes before it may point to a larger one (PKWARE's APPNOTE, 4.3.14-16).
    """
    file.seek(max(0, size - 98))
    end = file.read()
    if len(end) < 22 or end[-22:-18] != b"PK\x05\x06":
        raise CorruptError("the end of the archive is missing")
    entries, length = struct.unpack("<HI", end[-12:-6])
    if end[-42:-38] == b"PK\x06\x07":
        if end[-98:-94] != b"PK\x06\x06":
            raise CorruptError("the end of the archive is damaged")
        entries, length = struct.unpack("<QQ", end[-66:-50])
    if entries > MAX_ENTRIES or length > MAX_DIRECTORY:
        raise DisallowedError(f"an archive of {entries:,} entries")


def _plain_entries(archive: zipfile.ZipFile, size: int) -> dict[str, zipfile.ZipInfo]:
    """Return the entries by name in the order of the file: uncompressed, each name once, none overlapping another."""
    entries: dict[str, zipfile.ZipInfo] = {}
    end = 0
    infos = archive.infolist()
    if len(infos) > MAX_ENTRIES:
        raise DisallowedError(f"an archive of {len(infos):,} entries")
    for entry in sorted(infos, key=lambda entry: entry.header_offset):
        name = entry.orig_filename
        if entry.compress_type != zipfile.ZIP_STORED or entry.compress_size != entry.file_size:
            raise DisallowedError(f"the compressed entry {name[:60]!r}")
        if entry.flag_bits & ENCRYPTED:
            raise DisallowedError(f"the encrypted entry {name[:60]!r}")
        if name in entries:
            raise DisallowedError(f"the entry {name[:60]!r} twice")
        if name.startswith("/") or "\\" in name or "\0" in name or ".." in name.split("/"):
            raise DisallowedError(f"the name {name[:60]!r}")
        if entry.header_offset < end:
            raise DisallowedError("overlapping entries")
        end = entry.header_offset + 30 + len(name) + entry.file_size
        entries[name] = entry
    if end > min(size, archive.start_dir):
        raise DisallowedError(f"{end:,} bytes in a file of {size:,}")
    return entries


def _allowed(name: str) -> Global:
    if name not in FUNCTIONS and name not in BYTES_PER_NUMBER:
        raise DisallowedError(f"the name {name[:80]!r}")
    return Global(name)


class PickleCheck:
    """Follow a pickle's opcodes with constants and stand-ins on the stack, and build nothing.

    Args:
        sizes: bytes of each storage's entry by key.
        max_bytes: of all tensors together; several may view one storage, but not more than the file holds.
    """

    def __init__(self, sizes: dict[str, int], max_bytes: int) -> None:
        self.sizes, self.bytes_left, self.steps_left = sizes, max_bytes, MAX_STEPS
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.storages: dict[str, Storage] = {}

    def check(self, pickle: bytes) -> None:
        """Raise unless the pickle builds plain values and tensors alone."""
        position: int | None = 0
        try:
            for opcode, argument, position in pickletools.genops(pickle):  # noqa: B007
                self._spend(1)
                self._step(opcode.name, argument)
        except (IndexError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise CorruptError(f"its pickle is invalid after byte {position or 0:,}") from error

    def _spend(self, steps: int) -> None:
        self.steps_left -= steps
        if self.steps_left < 0:
            raise DisallowedError(f"more than {MAX_STEPS:,} opcodes")

    def _step(self, name: str, argument: Any) -> None:
        stack = self.stack
        match name:
            case "PROTO" if argument == 2:
                pass
            case "STOP":
                stack.pop()
            case "MARK":
                self.marks.append(len(stack))
            case _ if name in CONSTANTS:
                stack.append(argument)
            case _ if name in LITERALS:
                stack.append(LITERALS[name])
            case "GLOBAL":
                stack.append(_allowed(argument.replace(" ", ".", 1)))
            case "EMPTY_LIST":
                stack.append(Built())
            case "EMPTY_DICT":
                stack.append({})
            case "TUPLE":
                stack.append(tuple(self._pop(len(stack) - self.marks.pop())))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(name[-1]))))
            case "APPEND":
                self._pop(1)
            case "APPENDS":
                self._pop(len(stack) - self.marks.pop())
            case "SETITEM":
                self._set(self._pop(2))
            case "SETITEMS":
                self._set(self._pop(len(stack) - self.marks.pop()))
            case "BINPUT" | "LONG_BINPUT":
                self.memo[argument] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(self.memo[argument])
            case "BINPERSID":
                stack.append(self._storage(*self._pop(1)))
            case "REDUCE":
                stack.append(self._call(*self._pop(2)))
            case "BUILD":
                self._build(*self._pop(1))
            case _:
                raise DisallowedError(f"the opcode {name}")

    def _pop(self, count: int) -> list[Any]:
        if not 0 <= count <= len(self.stack):
            raise IndexError(count)
        start = len(self.stack) - count
        items, self.stack[start:] = self.stack[start:], []
        return items

    def _set(self, items: list[Any]) -> None:
        keys = items[::2]
        if not all(type(key) is str or (type(key) is int and abs(key) < MAX_KEY) for key in keys):
            raise DisallowedError("a key that is neither a string nor a small integer")
        if len(items) % 2 or not isinstance(self.stack[-1], dict):
            raise TypeError
        self.stack[-1].update(dict.fromkeys(keys))

    def _build(self, state: Any) -> None:
        """Allow what `nn.Module.state_dict` sets: an ordered dictionary's `_metadata`."""
        if type(self.stack[-1]) is not OrderedDict or type(state) is not dict or state.keys() - {"_metadata"}:
            raise DisallowedError("an object with attributes")

    def _storage(self, reference: Any) -> Storage:
        match reference:
            case ("storage", Global() as kind, str(key), str(), int(count)) if kind in BYTES_PER_NUMBER:
                claimed, present = count * BYTES_PER_NUMBER[kind], self.sizes.get(key, 0)
                if claimed != present or key not in self.sizes:
                    raise DisallowedError(f"a storage of {claimed:,} bytes whose entry has {present:,}")
                storage = Storage(kind, count)
                if self.storages.setdefault(key, storage) != storage:
                    raise DisallowedError("two types of one storage")
                return storage
        raise DisallowedError("a reference to something outside")

    def _call(self, function: Any, arguments: Any) -> Any:
        if not isinstance(function, Global):
            raise TypeError
        match function, arguments:
            case "collections.OrderedDict", ():
                return OrderedDict()
            case "collections.Counter", (dict() as counts,):  # the milestones of torch's schedulers
                self._spend(len(counts))
                return Counter()
            case "torch._utils._rebuild_tensor_v2", (Storage() as storage, first, size, stride, bool(), hooks):
                if type(hooks) is OrderedDict and not hooks:
                    return self._tensor(storage, first, size, stride)
            case "torch._utils._rebuild_parameter", (Built() as tensor, bool(), OrderedDict()):
                return tensor
        raise DisallowedError(f"a call of {function[:80]!r}")

    def _tensor(self, storage: Storage, first: Any, size: Any, stride: Any) -> Built:
        shape = (first, *size, *stride)
        if not all(type(value) is int and 0 <= value < 2**40 for value in shape) or len(size) != len(stride):
            raise DisallowedError("a tensor without a plain shape")
        count = math.prod(size)
        last = first + sum((side - 1) * step for side, step in zip(size, stride, strict=True)) if count else 0
        if len(size) > MAX_DIMENSIONS or max(count, last + 1) > max(1, storage.count):
            raise DisallowedError(f"a tensor of {count:,} numbers in a storage of {storage.count:,}")
        self.bytes_left -= count * BYTES_PER_NUMBER[storage.kind]
        if self.bytes_left < 0:
            raise DisallowedError("tensors of more bytes than the file")
        return Built()
