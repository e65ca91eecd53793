"""The pickles that `torch.save` writes, read by a machine that can make plain values and tensors and nothing else.

A pickle is a program for a stack (Python's `pickletools` describes it). The machine knows the instructions that torch
writes (protocol 2) and calls nothing that a pickle names; four names stand for something (`_made`).
`torch.load(weights_only=True)` runs no code either, but lets a file of 400 bytes ask for any amount of memory
(`bytearray(10**10)`, `torch.FloatTensor(10**10)`, storages that inflate); here memory is bounded by the file's size.
"""

import math
import struct
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pickle import decode_long
from typing import Any

import torch
from torch import Tensor

MOST_STEPS = 500_000  # of the machine; a resumable checkpoint of 60 layers takes 12,000
MOST_DIMENSIONS = 8
LARGEST_KEY = 2**31  # of a number as a key: larger ones can be chosen so that all hash alike
DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
}


class DamagedError(Exception):
    """These are not the bytes that `torch.save` wrote."""


class ForeignError(Exception):
    """More is asked for than plain values and tensors."""


@dataclass(frozen=True, slots=True)
class Name:
    """What a pickle calls by name; never the thing itself."""

    module: str
    name: str


@dataclass(frozen=True, slots=True)
class StorageId:
    """A run of numbers that lies elsewhere in the file; `view` is (key, first, count) in files of before torch 1.6."""

    key: str
    dtype: torch.dtype
    count: int
    view: tuple[str, int, int] | None = None


Fetch = Callable[[StorageId], Tensor]
"""Gives the numbers of a storage, one-dimensional and of the type and count that its id says, or raises."""


class Machine:
    """Reads one pickle after the other from the same bytes.

    Args:
        data: the whole of it.
        fetch: gives the numbers of a storage.
        most_bytes: that all tensors may have together; several may look at one storage, but not at more than there is.
    """

    def __init__(self, data: bytes, fetch: Fetch, most_bytes: int) -> None:
        self.data, self.fetch = data, fetch
        self.left = most_bytes
        self.place = self.steps = 0

    def read(self) -> Any:
        """The next value.

        Raises:
            DamagedError: it ends early or makes no sense.
            ForeignError: it holds something else than plain values and tensors, or too much.
        """
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: dict[int, Any] = {}
        try:
            while (code := self.take(1)) != b".":
                self.steps += 1
                if self.steps > MOST_STEPS:
                    raise ForeignError(f"more than {MOST_STEPS:,} instructions")
                step = STEPS.get(code)
                if step is None:
                    raise ForeignError(f"the instruction {code!r}")
                step(self)
            return self.stack.pop()
        except (IndexError, KeyError, TypeError, ValueError, OverflowError, struct.error, RuntimeError) as error:
            raise DamagedError(f"its pickle breaks off at byte {self.place:,}") from error

    def take(self, count: int) -> bytes:
        part = self.data[self.place : self.place + count]
        if len(part) < count:
            raise DamagedError("its pickle breaks off")
        self.place += count
        return part

    def _number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def _text(self, count: int) -> str:
        return self.take(count).decode("utf-8", "surrogatepass")

    def _line(self) -> str:
        end = self.data.find(b"\n", self.place, self.place + 200)
        line = self.take(end - self.place if end >= 0 else len(self.data))
        self.place += 1
        return line.decode()

    def _mark(self) -> None:
        self.marks.append(self.stack)
        self.stack = []

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.marks.pop()
        return items

    def _gather(self) -> None:
        items = tuple(self._since_mark())
        self.stack.append(items)

    def _tuple(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        self.stack[-count:] = [tuple(self.stack[-count:])]

    def _extend(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError
        target.extend(items)

    def _set(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) not in (dict, OrderedDict) or len(items) % 2:
            raise TypeError
        for key, value in zip(items[::2], items[1::2], strict=True):
            if type(key) is not str and not (type(key) is int and -LARGEST_KEY < key < LARGEST_KEY):
                raise ForeignError("a key that is no text and no small number")
            target[key] = value

    def _build(self) -> None:
        """An ordered dictionary's attributes, `_metadata` of a state dict, are left out."""
        if type(self.stack.pop()) is not dict or type(self.stack[-1]) is not OrderedDict:
            raise ForeignError("an object with attributes")

    def _call(self) -> None:
        arguments, name = self.stack.pop(), self.stack[-1]
        if type(arguments) is not tuple or type(name) is not Name:
            raise TypeError
        self.stack[-1] = self._made(name, arguments)

    def _made(self, name: Name, arguments: tuple[Any, ...]) -> Any:
        match name.module, name.name, arguments:
            case "collections", "OrderedDict", ():
                return OrderedDict()
            case "collections", "Counter", (dict() as counts,):  # the milestones of a scheduler of torch's
                return counts
            case "torch._utils", "_rebuild_tensor_v2", (Tensor() as held, first, tuple() as size, tuple() as step, *_):
                return self._tensor(held, first, size, step)
            case "torch._utils", "_rebuild_parameter", (Tensor() as value, bool(), _):
                return value
        raise ForeignError(f"it calls {f'{name.module}.{name.name}'[:80]!r}")

    def _tensor(self, storage: Tensor, first: Any, size: Any, stride: Any) -> Tensor:
        whole = (first, *size, *stride)
        if not all(type(value) is int and 0 <= value < 2**40 for value in whole) or len(size) != len(stride):
            raise ForeignError("a tensor without a plain shape")
        count = math.prod(size)
        last = first + sum((side - 1) * step for side, step in zip(size, stride, strict=True)) if count else 0
        if len(size) > MOST_DIMENSIONS or max(count, last + 1) > max(1, len(storage)):
            raise ForeignError(f"a tensor of {count:,} numbers in a storage of {len(storage):,}")
        self.left -= count * storage.element_size()
        if self.left < 0:
            raise ForeignError("tensors that have more bytes than the file")
        return storage.as_strided(size, stride, first)

    def _storage(self) -> None:
        match self.stack.pop():
            case ("storage", Name("torch", kind), str(key), str(), int(count), *rest) if kind in DTYPES:
                view = None
                match rest:
                    case [(str(own), int(first), int(length))] if first >= 0 and length >= 0:
                        view = (own, first, length)
                    case [] | [None]:
                        pass
                    case _:
                        raise TypeError
                if count < 0:
                    raise ValueError
                self.stack.append(self.fetch(StorageId(key, DTYPES[kind], count, view)))
            case ("storage", Name("torch", kind), *_):
                raise ForeignError(f"numbers of kind {kind[:40]!r}")
            case _:
                raise ForeignError("a reference to something outside")


def _remember(form: str) -> Callable[[Machine], None]:
    return lambda m: m.memo.__setitem__(m._number(form), m.stack[-1])


def _recall(form: str) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(m.memo[m._number(form)])


def _push(make: Callable[[Machine], Any]) -> Callable[[Machine], None]:
    return lambda m: m.stack.append(make(m))


STEPS: dict[bytes, Callable[[Machine], None]] = {
    b"\x80": lambda m: m._number("B"),
    b"N": _push(lambda m: None),
    b"\x88": _push(lambda m: True),
    b"\x89": _push(lambda m: False),
    b"J": _push(lambda m: m._number("<i")),
    b"K": _push(lambda m: m._number("B")),
    b"M": _push(lambda m: m._number("<H")),
    b"\x8a": _push(lambda m: decode_long(m.take(m._number("B")))),
    b"G": _push(lambda m: m._number(">d")),
    b"X": _push(lambda m: m._text(m._number("<I"))),
    b"U": _push(lambda m: m._text(m._number("B"))),
    b"]": _push(lambda m: []),
    b"}": _push(lambda m: {}),
    b")": _push(lambda m: ()),
    b"(": Machine._mark,
    b"t": Machine._gather,
    b"\x85": lambda m: m._tuple(1),
    b"\x86": lambda m: m._tuple(2),
    b"\x87": lambda m: m._tuple(3),
    b"a": lambda m: m._extend([m.stack.pop()]),
    b"e": lambda m: m._extend(m._since_mark()),
    b"s": lambda m: m._set([m.stack.pop(-2), m.stack.pop()]),
    b"u": lambda m: m._set(m._since_mark()),
    b"h": _recall("B"),
    b"j": _recall("<I"),
    b"q": _remember("B"),
    b"r": _remember("<I"),
    b"c": _push(lambda m: Name(m._line(), m._line())),
    b"R": Machine._call,
    b"b": Machine._build,
    b"Q": Machine._storage,
}
