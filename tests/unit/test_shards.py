"""Shards: the same pictures as packed ones, in an order that needs few blocks, from a folder and from a server."""

import errno
import io
import json
import os
import tarfile
import threading
import zlib
from http.server import ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch

from range_server import Range
from scenelab.data import shards as module
from scenelab.data import stores
from scenelab.data.blocks import HELD, Block, FetchedBlocks, stream_order
from scenelab.data.cache import Packed, digest, pack
from scenelab.data.shards import BLOCK as BLOCK_ROWS
from scenelab.data.shards import write_shards
from scenelab.data.splits import open_split
from scenelab.data.stores import address_of
from scenelab.data.streamed import is_shards, open_shards, read_index
from scenelab.errors import LabError
from scenelab.io import read_json, write_json
from scenelab.runs.config import TrainConfig
from scenelab.training.batches import TrainingBatches

SIZE = 24
BLOCK = 64
SMALL = 3 * BLOCK * SIZE * SIZE * 3 // 5  # bytes of a shard: one block each


@pytest.fixture(scope="module")
def sharded(scenes, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("shards") / "shards"
    write_shards(scenes, out, size=SIZE, block=BLOCK, shard_bytes=SMALL)
    return out


def by_path(packed) -> dict[str, tuple[int, bytes]]:
    rows = packed.rows(slice(None))
    return {path: (int(label), rows[row].numpy().tobytes())
            for row, (path, label) in enumerate(zip(packed.paths, packed.labels, strict=True))}  # fmt: skip


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_pictures_are_those_of_the_packed_cache(scenes, sharded, tmp_path, split):
    packed = pack(open_split(scenes, split), tmp_path, size=SIZE)
    found = open_shards(sharded, split)
    assert by_path(found) == by_path(packed)
    assert len(found) == len(packed)
    assert found.size == SIZE
    assert found.categories == packed.categories
    assert list(found.paths) != list(packed.paths) or split == "val"  # training images are mixed
    some = found.subset(np.array([5, 1, 7]), split="some", name="some")
    assert [some.paths[1], some.paths[2]] == [found.paths[1], found.paths[7]]
    assert torch.equal(some.rows(np.array([0, 2])), found.rows(np.array([5, 7])))


def test_a_shard_is_a_tar_file_of_arrays(sharded):
    """Named as WebDataset groups them; read here with the standard library and numpy alone."""
    found, rows = open_shards(sharded, "train"), []
    for name in sorted(sharded.glob("train-*.tar")):
        with tarfile.open(name) as tar:
            arrays = {entry.name: np.load(io.BytesIO(tar.extractfile(entry).read())) for entry in tar}
        assert len(arrays) % 2 == 0
        for key in sorted({entry.partition(".")[0] for entry in arrays}):
            rows += list(zip(arrays[f"{key}.images.npy"], arrays[f"{key}.labels.npy"], strict=True))
    assert len(list(sharded.glob("train-*.tar"))) == 2
    assert [int(label) for _, label in rows] == found.labels.tolist()
    assert all(np.array_equal(found.images[np.array([row])][0], image) for row, (image, _) in enumerate(rows))
    assert not [path for path in sharded.iterdir() if path.suffix == ".part" or path.name.endswith(".tar.json")]


@pytest.mark.parametrize(("count", "block", "batch"), [(1000, 10, 32), (257, 64, 64), (5, 64, 2), (64, 1, 8)])
def test_an_epoch_sees_each_image_once_and_needs_few_blocks(count, block, batch):
    numbers = np.arange(count) // block
    order = stream_order(numbers, batch, np.random.default_rng(0), window=8)
    assert sorted(order.tolist()) == list(range(count))
    assert not np.array_equal(order, stream_order(numbers, batch, np.random.default_rng(1), window=8))
    assert np.array_equal(order, stream_order(numbers, batch, np.random.default_rng(0), window=8))
    batches = [set(numbers[order[start : start + batch]].tolist()) for start in range(0, count, batch)]
    first = {number: min(at for at, some in enumerate(batches) if number in some) for number in set(numbers.tolist())}
    last = {number: max(at for at, some in enumerate(batches) if number in some) for number in first}
    for at in range(len(batches)):
        live = [number for number in first if first[number] <= at <= last[number]]
        assert len(live) <= 8 + 2 + -(-2 * batch // block)
    if count == 1000:
        assert np.mean([len(some) for some in batches]) > 6  # a batch is a sample of many of them


class Counting(stores.Server):
    def __init__(self, data: bytes) -> None:
        super().__init__("http://nowhere")
        self.data, self.reads = data, []

    def read(self, name: str, start: int, length: int) -> bytes:
        self.reads.append(start)
        return self.data[start : start + length]


def counted(blocks: int, rows: int, held: int) -> tuple[FetchedBlocks, Counting]:
    pixels = np.random.default_rng(0).integers(0, 256, (blocks * rows, 2, 2, 3), dtype=np.uint8)
    step = rows * 12
    parts = [pixels.tobytes()[at * step : (at + 1) * step] for at in range(blocks)]
    store = Counting(pixels.tobytes())
    places = [Block("x", at * step, rows, zlib.crc32(part)) for at, part in enumerate(parts)]
    return FetchedBlocks(store, places, 2, held=held), store


@pytest.mark.parametrize("batch", [64, 128, 256, 512, 1024])
def test_training_fetches_each_block_once_an_epoch(batch):
    """With the distance that training reads ahead, and the number of blocks that it keeps."""
    images, store = counted(blocks=120, rows=BLOCK_ROWS, held=HELD)
    packed = Packed(images=images, labels=torch.zeros(len(images), dtype=torch.int64), paths=("",) * len(images),
                    categories=("a",), split="train", digest="")  # fmt: skip
    batches = TrainingBatches(packed, TrainConfig(batch_size=batch, epochs=2), torch.device("cpu"))
    for step in range(batches.steps_per_epoch):
        batches.batch(step, 2)
    assert len(store.reads) == 120


def test_few_blocks_are_in_memory_and_each_is_read_once_an_epoch():
    images, store = counted(blocks=200, rows=4, held=24)
    expected = np.frombuffer(store.data, np.uint8).reshape(images.shape)
    order = stream_order(images.numbers(np.arange(800)), 16, np.random.default_rng(0), window=12)
    for start in range(0, 800, 16):
        part = order[start : start + 16]
        images.ahead(order[start + 16 : start + 32])
        assert np.array_equal(images[part], expected[part])
        assert len(images._cache) <= 24
    assert len(store.reads) == 200


def test_what_a_process_reads_of_shared_batches():
    """Two processes that share each batch read little more than half of the blocks each."""
    numbers = np.arange(6400) // 16
    order = stream_order(numbers, 64, np.random.default_rng(0), window=64)
    reads = [set(), set()]
    for start in range(0, 6400, 64):
        part = numbers[order[start : start + 64]]
        for rank in (0, 1):
            reads[rank] |= set(part[rank * 32 : (rank + 1) * 32].tolist())
    assert all(len(some) < 0.7 * 400 for some in reads), [len(some) for some in reads]


def test_a_damaged_block_is_noticed(sharded, tmp_path):
    for path in sharded.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    target = tmp_path / "val-00000.tar"
    data = bytearray(target.read_bytes())
    data[2000] ^= 1
    target.write_bytes(data)
    with pytest.raises(LabError, match=r"^val-00000\.tar is damaged at byte 640; write or fetch that file again$"):
        open_shards(tmp_path, "val").rows(slice(0, 3))
    target.write_bytes(data[:3000])
    with pytest.raises(LabError, match=r"val-00000\.tar ends at byte 3000, before its time"):
        open_shards(tmp_path, "val").rows(slice(0, 3))
    target.unlink()
    with pytest.raises(
        LabError, match=r"^cannot read .*val-00000\.tar: No such file or directory; get that file again$"
    ):
        open_shards(tmp_path, "val").rows(slice(0, 3))
    (tmp_path / "val.labels.npy").write_bytes(b"nonsense")
    with pytest.raises(LabError, match=r"val\.labels\.npy is not what was written"):
        open_shards(tmp_path, "val")


@pytest.mark.parametrize(
    "change",
    [
        lambda index: index.update(version=2), lambda index: index.update(size=10**9),
        lambda index: index.pop("splits"),
        lambda index: index["splits"]["val"]["shards"][0].update(name="../../etc/passwd"),
        lambda index: index["splits"]["val"]["shards"][0].update(name="http://elsewhere/val-00000.tar"),
        lambda index: index["splits"]["val"].update(images=10**12),
        lambda index: index["splits"]["val"]["shards"][0]["blocks"][0].__setitem__(0, -1),
        lambda index: index["splits"]["val"]["shards"][0]["blocks"][0].__setitem__(1, 2.5),
        lambda index: index.update(categories=[1, 2]),
        lambda index: index.update(size=24.5),
        lambda index: index["splits"]["val"].update(skipped=[[1, 2]]),
        lambda index: index["splits"]["val"]["shards"][0]["blocks"][0].__setitem__(1, 10**30),
        lambda index: index.update(splits=[]),
    ],
)  # fmt: skip
def test_an_index_that_lies_is_refused(sharded, tmp_path, change):
    index = read_json(sharded / "index.json")
    change(index)
    write_json(tmp_path / "index.json", index)
    with pytest.raises(LabError, match=r"index\.json is no index of shards"):
        read_index(tmp_path)


def test_a_file_that_was_lost_is_named(scenes, tmp_path):
    write_shards(scenes, tmp_path / "out", size=SIZE)
    (tmp_path / "out" / "train-00000.tar").unlink()
    with pytest.raises(LabError, match=r"out has lost train-00000\.tar; remove the folder and write it again$"):
        write_shards(scenes, tmp_path / "out", size=SIZE)


def test_a_pipe_is_no_shard(sharded, tmp_path):
    for path in sharded.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    for name, told in (("val-00000.tar", "cannot read"), ("val.labels.npy", "not a regular file")):
        (tmp_path / name).unlink()
        os.mkfifo(tmp_path / name)
        with pytest.raises(LabError, match=told):
            open_shards(tmp_path, "val").rows(slice(0, 2))


def test_many_shards_need_few_open_files(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(stores, "MOST_MAPS", 2)
    write_shards(scenes, tmp_path / "out", size=SIZE, block=4, shard_bytes=1)
    found = open_shards(tmp_path / "out", "train")
    assert len(list((tmp_path / "out").glob("train-*.tar"))) == 18
    assert by_path(found) == by_path(open_shards(tmp_path / "out", "train"))
    assert len(found.images.folder._maps) == 2


def test_a_broken_disk_is_no_damaged_image(scenes, tmp_path, monkeypatch):
    read = Path.read_bytes

    def broken(path):
        if path.suffix == ".jpg":
            raise OSError(errno.EIO, "Input/output error")
        return read(path)

    listing = open_split(scenes, "train")
    digest(listing, SIZE)
    monkeypatch.setattr(Path, "read_bytes", broken)
    for write in (lambda: pack(listing, tmp_path / "cache", size=SIZE, damaged="skip"),
                  lambda: write_shards(scenes, tmp_path / "out", size=SIZE, damaged="skip")):  # fmt: skip
        with pytest.raises(
            LabError, match=r"^cannot read .*: Input/output error; mend that, then run the command again$"
        ):
            write()


def test_writing_goes_on_after_the_last_whole_file(scenes, tmp_path, monkeypatch):
    whole, out = tmp_path / "whole", tmp_path / "out"
    write_shards(scenes, whole, size=SIZE, block=BLOCK, shard_bytes=SMALL)
    calls = []

    def stop_at_second(path):
        calls.append(path)
        if len(calls) == BLOCK + 3:
            raise KeyboardInterrupt
        return read(path)

    read = module.read_image
    monkeypatch.setattr(module, "read_image", stop_at_second)
    with pytest.raises(KeyboardInterrupt):
        write_shards(scenes, out, size=SIZE, block=BLOCK, shard_bytes=SMALL)
    assert [path.name for path in out.glob("*.tar")] == ["train-00000.tar"]
    with pytest.raises(LabError, match="not a MiniPlaces folder|does not exist|folders with images"):
        open_shards_or_split(out)
    before = (out / "train-00000.tar").stat().st_mtime_ns
    monkeypatch.setattr(module, "read_image", read)
    write_shards(scenes, out, size=SIZE, block=BLOCK, shard_bytes=SMALL)
    assert (out / "train-00000.tar").stat().st_mtime_ns == before
    files = {path.name: path.read_bytes() for path in whole.iterdir()}
    assert {path.name: path.read_bytes() for path in out.iterdir()} == files
    (out / ".val-00000.tar.json").write_text("{}")  # killed while it tidied up
    write_shards(scenes, out, size=SIZE, block=BLOCK, shard_bytes=SMALL)
    assert {path.name for path in out.iterdir()} == set(files)
    with pytest.raises(LabError, match="holds shards of other images or settings; choose a new folder"):
        write_shards(scenes, out, size=SIZE + 8, block=BLOCK, shard_bytes=SMALL)
    with pytest.raises(LabError, match="is not empty and holds no shards"):
        write_shards(scenes, scenes, size=SIZE)


def open_shards_or_split(folder: Path):
    return open_shards(folder, "train") if is_shards(folder) else open_split(folder, "train")


@pytest.fixture
def server(sharded):
    handler = type("Handler", (Range,), {"folder": sharded})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as served:
        thread = threading.Thread(target=served.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{served.server_port}", handler
        served.shutdown()
        thread.join()


def test_a_server_gives_what_the_folder_gives(sharded, server):
    address = Path(server[0])  # as the command line hands it over
    assert address_of(address) == server[0]
    for split in ("train", "val"):
        assert by_path(open_shards(address, split)) == by_path(open_shards(sharded, split))


def test_a_broken_answer_is_continued(sharded, server, capsys):
    address, handler = server
    handler.drops = 3
    store = stores.Server(address, pause=0.01)
    data = (sharded / "train-00000.tar").read_bytes()
    assert store.read("train-00000.tar", 100, 5000) == data[100:5100]
    assert handler.drops == 0
    assert capsys.readouterr().err.count("trying again") == 3


def test_a_server_that_cannot_be_read_is_named(server, monkeypatch):
    address, handler = server
    handler.ranges = False
    with pytest.raises(LabError, match=r"val-00000\.tar answers 200; expected 206: choose a server that knows range"):
        open_shards(Path(address), "val").rows(slice(0, 2))
    with pytest.raises(LabError, match=r"index\.json answers 302; expected 200: give the address that it leads to$"):
        read_index(Path(f"{address}/elsewhere"))
    monkeypatch.setattr(stores, "ATTEMPTS", 2)
    with pytest.raises(LabError, match=r"^cannot read on \(ConnectionError at http://127\.0\.0\.1:9/index\.json\)"):
        read_index(Path("http://127.0.0.1:9"))


def test_damaged_images_are_left_out_of_shards(scenes, tmp_path):
    import shutil

    data = tmp_path / "data"
    shutil.copytree(scenes, data, ignore=shutil.ignore_patterns("packed"))
    listing = open_split(data, "train")
    listing.file(3).write_bytes(b"")
    with pytest.raises(LabError, match=r"has 0 bytes; expected .*, or go on without it \(--damaged skip\)$"):
        write_shards(data, tmp_path / "refused", size=SIZE)
    index = write_shards(data, tmp_path / "shards", size=SIZE, damaged="skip")
    assert [path for path, _ in index["splits"]["train"]["skipped"]] == [listing.paths[3]]
    found = open_shards(tmp_path / "shards", "train")
    assert len(found) == len(listing) - 1
    assert found.skipped[0][0] == listing.paths[3]
    assert set(found.paths) == set(listing.paths) - {listing.paths[3]}
    assert json.loads((tmp_path / "shards" / "index.json").read_text())["splits"]["train"]["images"] == len(found)
