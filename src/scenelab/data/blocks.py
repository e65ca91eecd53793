"""Pictures in numbered blocks, read as they are needed.

Both kinds of `Blocks` stand where the packed cache has its memory-mapped array: they are indexed by row. Of either, the
blocks that were used last are kept in memory, a bounded number of them.
"""

import mmap
import queue
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from scenelab.data.stores import Folder, Server
from scenelab.errors import LabError

WINDOW = 16  # blocks that the images of a batch are drawn from
HELD = 2 * WINDOW  # blocks in memory: the window's, those read ahead, and those that are not quite used up
READERS = 4  # that wait for a server's answers at once


@dataclass(frozen=True)
class Block:
    """Where a block lies: the file, the first byte of its first picture, how many pictures, CRC-32 of their bytes."""

    name: str
    start: int
    rows: int
    checksum: int


class Blocks:
    """N×S×S×3 uint8 in blocks."""

    dtype = np.dtype(np.uint8)

    def __init__(self, blocks: Sequence[Block], size: int) -> None:
        self.blocks = blocks
        self.starts = np.cumsum([0, *(block.rows for block in blocks)])
        self.shape = (int(self.starts[-1]), size, size, 3)
        self.row_bytes = size * size * 3
        self._sound: set[int] = set()

    @property
    def nbytes(self) -> int:
        return len(self) * self.row_bytes

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: np.ndarray | slice) -> np.ndarray:
        """Rows in the order asked for.

        Raises:
            LabError: a block cannot be read, or is not what was written.
        """
        rows = np.arange(len(self))[index] if isinstance(index, slice) else np.asarray(index)
        result = np.empty((len(rows), *self.shape[1:]), np.uint8)
        self._fill(result, rows, self.numbers(rows))
        return result

    def numbers(self, rows: np.ndarray) -> np.ndarray:
        """The blocks that rows are in."""
        return np.searchsorted(self.starts, rows, side="right") - 1

    def ahead(self, rows: np.ndarray) -> None:
        """Begin to read the blocks of rows that will be asked for soon."""
        for number in np.unique(self.numbers(rows)):
            self._prepare(int(number))

    def _fill(self, result: np.ndarray, rows: np.ndarray, numbers: np.ndarray) -> None:
        raise NotImplementedError

    def _prepare(self, number: int) -> object:
        raise NotImplementedError

    def _check(self, number: int, data: bytes | memoryview) -> None:
        """Sum a block up, once a process: what was whole stays so."""
        block = self.blocks[number]
        if number not in self._sound:
            if zlib.crc32(data) != block.checksum:
                raise LabError(f"{block.name} is damaged at byte {block.start}; write or fetch that file again")
            self._sound.add(number)


def _by_block(numbers: np.ndarray) -> Iterator[tuple[int, slice | np.ndarray]]:
    """Each block with the places where it stands in `numbers`: a slice where they are sorted, as batches are."""
    if (numbers[1:] >= numbers[:-1]).all():
        found, starts = np.unique(numbers, return_index=True)
        for number, start, end in zip(found.tolist(), starts, [*starts[1:], len(numbers)], strict=True):
            yield number, slice(start, end)
    else:
        for number in np.unique(numbers).tolist():
            yield number, np.flatnonzero(numbers == number)


class LocalBlocks(Blocks):
    """In files of a folder, mapped into memory; of blocks that were not used for some time the pages are let go.

    Args:
        held: blocks whose pages are kept at most.
    """

    def __init__(self, folder: Folder, blocks: Sequence[Block], size: int, *, held: int = HELD) -> None:
        super().__init__(blocks, size)
        self.folder, self.held = folder, held
        self._used: OrderedDict[int, np.ndarray] = OrderedDict()

    def _fill(self, result: np.ndarray, rows: np.ndarray, numbers: np.ndarray) -> None:
        for number, places in _by_block(numbers):
            pictures = self._prepare(number)
            self._check(number, pictures.reshape(-1).data)
            if isinstance(places, slice):
                np.take(pictures, rows[places] - self.starts[number], axis=0, out=result[places], mode="clip")
            else:
                result[places] = pictures[rows[places] - self.starts[number]]

    def _prepare(self, number: int) -> np.ndarray:
        if number not in self._used:
            block = self.blocks[number]
            data = self.folder.view(block.name, block.start, block.rows * self.row_bytes)
            self._used[number] = np.frombuffer(data, np.uint8).reshape(block.rows, *self.shape[1:])
            self._advise(number, mmap.MADV_WILLNEED)
            while len(self._used) > self.held:
                self._advise(self._used.popitem(last=False)[0], mmap.MADV_DONTNEED)
        self._used.move_to_end(number)
        return self._used[number]

    def _advise(self, number: int, advice: int) -> None:
        block = self.blocks[number]
        self.folder.advise(block.name, block.start, block.rows * self.row_bytes, advice)


class FetchedBlocks(Blocks):
    """From a server, by threads of their own.

    Args:
        held: blocks in memory at most.
    """

    def __init__(self, server: Server, blocks: Sequence[Block], size: int, *, held: int = HELD) -> None:
        super().__init__(blocks, size)
        self.server, self.held = server, held
        self._lock = threading.Lock()
        self._cache: OrderedDict[int, Future[np.ndarray]] = OrderedDict()
        self._asked: queue.SimpleQueue[tuple[int, Future[np.ndarray]]] = queue.SimpleQueue()
        self._readers: list[threading.Thread] = []

    def _fill(self, result: np.ndarray, rows: np.ndarray, numbers: np.ndarray) -> None:
        for number in np.unique(numbers)[: self.held].tolist():  # as many as fit, before the first is waited for
            self._ask(number)
        for number, places in _by_block(numbers):
            future = self._ask(number)
            result[places] = future.result()[rows[places] - self.starts[number]]

    def _prepare(self, number: int) -> None:
        self._ask(number)

    def _ask(self, number: int) -> "Future[np.ndarray]":
        with self._lock:
            future = self._cache.get(number)
            if future is None or (future.done() and future.exception() is not None):
                future = self._cache[number] = Future()
                self._asked.put((number, future))
                if len(self._readers) < READERS:
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
        data = self.server.read(block.name, block.start, block.rows * self.row_bytes)
        self._check(number, data)
        return np.frombuffer(data, np.uint8).reshape(block.rows, *self.shape[1:])


class Names:
    """Names of images that are read when the first is asked for: a million of them take 100 MB."""

    def __init__(self, load: Callable[[], list[str]], rows: np.ndarray) -> None:
        self._load, self._rows = load, rows
        self._names: list[str] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[str]:
        return (self[row] for row in range(len(self)))

    def __getitem__(self, index: int) -> str:
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
