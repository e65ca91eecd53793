"""Pictures in numbered blocks, read as they are needed, with a bounded number of blocks in memory.

`Blocks` stands where the packed cache has its memory-mapped array: it is indexed by row. Where the blocks come from is
a `Store`: a folder, or a server.
"""

import queue
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from scenelab.errors import LabError

WINDOW = 64  # blocks that the images of a batch are drawn from
HELD = 3 * WINDOW // 2  # blocks in memory: the window's, those read ahead, and those that are not quite used up


class Store(Protocol):
    """Where files lie: their bytes by name and place."""

    readers: int  # that may wait for bytes at once

    def read(self, name: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes of a file, from `start` on.

        Raises:
            LabError: they cannot be had.
        """
        ...

    def whole(self, name: str, most: int) -> bytes:
        """A file of at most `most` bytes."""
        ...


@dataclass(frozen=True)
class Block:
    """Where a block lies: the file, the first byte of its first picture, how many pictures, CRC-32 of their bytes."""

    name: str
    start: int
    rows: int
    checksum: int


class Blocks:
    """N×S×S×3 uint8 that is read block by block.

    Args:
        held: blocks in memory at most.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, store: Store, blocks: Sequence[Block], size: int, *, held: int = HELD) -> None:
        self.store, self.blocks, self.held = store, blocks, held
        self.starts = np.cumsum([0, *(block.rows for block in blocks)])
        self.shape = (int(self.starts[-1]), size, size, 3)
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, Future[np.ndarray]] = OrderedDict()
        self._asked: queue.SimpleQueue[tuple[int, Future[np.ndarray]]] = queue.SimpleQueue()
        self._readers: list[threading.Thread] = []
        self._sound: set[int] = set()

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        """Rows in the order asked for.

        Raises:
            LabError: a block cannot be read, or is not what was written.
        """
        rows = np.arange(len(self))[index] if isinstance(index, slice) else np.asarray(index)
        result = np.empty((len(rows), *self.shape[1:]), np.uint8)
        numbers = self.numbers(rows)
        wanted = [(number, self._ask(int(number))) for number in np.unique(numbers)]
        for number, future in wanted:
            places = np.flatnonzero(numbers == number)
            result[places] = future.result()[rows[places] - self.starts[number]]
        return result

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """The blocks that rows are in."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def ahead(self, rows: np.ndarray) -> None:
        """Begin to read the blocks of rows that will be asked for soon."""
        for number in np.unique(self.numbers(rows)):
            self._ask(int(number))

    def _ask(self, number: int) -> "Future[np.ndarray]":
        with self._lock:
            future = self._cache.get(number)
            if future is None or (future.done() and future.exception() is not None):
                future = self._cache[number] = Future()
                self._asked.put((number, future))
                if len(self._readers) < self.store.readers:
                    self._readers.append(threading.Thread(target=self._serve, daemon=True))
                    self._readers[-1].start()
            self._cache.move_to_end(number)
            while len(self._cache) > self.held:
                self._cache.popitem(last=False)
        return future

    def _serve(self) -> None:
        while True:
            number, future = self._asked.get()
            try:
                future.set_result(self._read(number))
            except Exception as error:
                future.set_exception(error)

    def _read(self, number: int) -> np.ndarray:
        block = self.blocks[number]
        data = self.store.read(block.name, block.start, block.rows * int(np.prod(self.shape[1:])))
        if number not in self._sound:  # summed up once a process: a file that was whole stays so
            if zlib.crc32(data) != block.checksum:
                raise LabError(f"{block.name} is damaged at byte {block.start}; write or fetch that file again")
            self._sound.add(number)
        return np.frombuffer(data, np.uint8).reshape(block.rows, *self.shape[1:])


class Names(Sequence[str]):
    """Names of images that are read when the first is asked for: a million of them take 100 MB."""

    def __init__(self, load: Callable[[], list[str]], rows: np.ndarray) -> None:
        self._load, self._rows = load, rows
        self._names: list[str] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> str:  # pyright: ignore[reportIncompatibleMethodOverride]
        if self._names is None:
            self._names = self._load()
        return self._names[self._rows[index]]

    def some(self, rows: np.ndarray) -> "Names":
        return Names(self._load, self._rows[rows])


def stream_order(
    numbers: np.ndarray, batch: int, generator: np.random.Generator, *, window: int = WINDOW
) -> np.ndarray:
    """A permutation of images for one epoch that needs few blocks at a time.

    Blocks are drawn in random order; each image is moved back by up to `window` blocks. So a batch has images of up to
    `window` blocks, and a block is used for about as long and then never again. Within a batch images are sorted by
    block, so that processes that share a batch read mostly different blocks.

    Args:
        numbers: the block that each image is in.
        batch: images of a batch.
    """
    place = generator.permutation(int(numbers.max()) + 1)
    order = np.argsort(place[numbers] + window * generator.random(len(numbers)), kind="stable")
    for start in range(0, len(order), batch):
        part = order[start : start + batch]
        part[:] = part[np.argsort(numbers[part], kind="stable")]
    return order
