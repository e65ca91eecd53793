"""Check of a checkpoint's pickle: opcodes, names and sizes of tensors, without running code or allocating tensors."""

import io
import math
import pickle
import pickletools
from typing import Any, ClassVar, NamedTuple

import torch

MAX_STEPS = 500_000  # opcodes; a resumable checkpoint of 60 layers takes 12,000
MAX_DIMENSIONS = 8
MAX_KEY = 2**31  # bound of integer keys: larger keys can be chosen with equal hashes, which makes a dict slow
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
