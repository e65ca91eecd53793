"""The cache: its content, when it is rebuilt, and that a failed build leaves nothing behind."""

import dataclasses
import io
import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from folders import limited_file_size, wait_for
from scenelab.data import cache as module
from scenelab.data.cache import digest, pack
from scenelab.data.decode import fit, read_image
from scenelab.data.miniplaces import Listing
from scenelab.errors import LabError
from scenelab.io import read_json

SIZE = 16
NAME = f"train-{SIZE}"


def write_photo(path: Path, seed: int, size: tuple[int, int] = (20, 28)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path, quality=90)


@pytest.fixture
def listing(tmp_path) -> Listing:
    """Five small JPEGs of two classes."""
    root = tmp_path / "images"
    paths = tuple(f"train/{index}.jpg" for index in range(5))
    for index, path in enumerate(paths):
        write_photo(root / path, index)
    return Listing(root=root, split="train", paths=paths, labels=(0, 1, 0, 1, 1), categories=("abbey", "beach"))


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "packed"


def decoded(listing: Listing, size: int = SIZE) -> np.ndarray:
    """Return the expected array, decoded image by image."""
    images = [fit(read_image(listing.file(index)), size) for index in range(len(listing))]
    return torch.stack(images).permute(0, 2, 3, 1).numpy()


def identity(cache: Path) -> tuple[int, int]:
    """Return inode and write time of the array, which change when it is rebuilt."""
    stat = (cache / NAME / "images.npy").stat()
    return stat.st_ino, stat.st_mtime_ns


def entries(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} - {f".{NAME}.lock"}


def test_the_cache_holds_the_decoded_images_and_a_manifest_of_their_source(listing, cache, tmp_path):
    for _ in range(2):  # as built and as opened
        dataset = pack(listing, cache, size=SIZE)
        assert np.array_equal(dataset.images, decoded(listing))
        assert isinstance(dataset.images, np.memmap)
        assert not dataset.images.flags.writeable
        assert (dataset.labels.tolist(), dataset.labels.dtype) == ([0, 1, 0, 1, 1], torch.int64)
        assert (dataset.paths, dataset.categories, dataset.split) == (listing.paths, listing.categories, "train")
        assert (len(dataset), dataset.size, dataset.digest) == (5, SIZE, digest(listing, SIZE))
    assert entries(cache) == {NAME}
    manifest = {"version": module.VERSION, "digest": digest(listing, SIZE), "split": "train", "images": 5, "size": SIZE}
    manifest |= {"source": str(listing.root), "layout": "N×H×W×3 uint8 RGB", "skipped": []}
    assert read_json(cache / NAME / "manifest.json") == manifest
    listing.root.rename(tmp_path / "elsewhere")  # a data folder can be moved with its cache
    assert digest(dataclasses.replace(listing, root=tmp_path / "elsewhere"), SIZE) == dataset.digest


@pytest.mark.parametrize("indices", [np.array([3, 0, 3]), slice(1, 4)], ids=["array", "slice"])
def test_gather_returns_channels_last_copies(listing, cache, indices):
    dataset = pack(listing, cache, size=SIZE)
    expected = decoded(listing)
    images = dataset.gather(indices)
    assert (images.shape, images.dtype) == ((3, 3, SIZE, SIZE), torch.uint8)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert np.array_equal(images.permute(0, 2, 3, 1).numpy(), expected[indices])
    images.fill_(7)  # a write to the read-only map would end the process
    assert np.array_equal(dataset.images, expected)


def test_head_is_a_view_of_the_first_images_with_its_own_digest(listing, cache):
    dataset = pack(listing, cache, size=SIZE)
    assert dataset.head(None) is dataset
    part = dataset.head(2)
    assert (len(part), part.paths, part.labels.tolist()) == (2, dataset.paths[:2], [0, 1])
    assert torch.equal(part.gather(slice(None)), dataset.gather(slice(2)))
    assert part.images is dataset.images
    assert part.digest != dataset.digest
    assert (part.categories, part.split, part.size) == (dataset.categories, dataset.split, SIZE)
    assert len(dataset.head(100)) == 5


def test_a_current_cache_is_used_without_decoding_or_locking(listing, cache, monkeypatch):
    pack(listing, cache, size=SIZE)
    before = identity(cache)
    (cache / f".{NAME}.lock").unlink()
    monkeypatch.setattr(module, "read_image", None)
    os.utime(listing.file(0))
    pack(listing, cache, size=SIZE)
    assert identity(cache) == before
    assert not (cache / f".{NAME}.lock").exists()  # so that it can lie on a read-only disk


def same_size(path: Path, seed: int = 99) -> bytes:
    """Return another photo of the file's byte count: JPEG readers ignore what is behind the end."""
    write_photo(path.parent / "other.jpg", seed, (8, 8))
    content, size = (path.parent / "other.jpg").read_bytes(), path.stat().st_size
    (path.parent / "other.jpg").unlink()
    assert len(content) <= size
    return content + bytes(size - len(content))


def overwrite(path: Path) -> None:
    path.write_bytes(same_size(path))


def replace_by_an_older_file(path: Path) -> None:
    other = path.with_name("older")
    other.write_bytes(same_size(path))
    os.utime(other, (10**9, 10**9))
    os.replace(other, path)


def overwrite_with_a_clock(path: Path, nanoseconds: int) -> None:
    path.write_bytes(same_size(path))
    os.utime(path, ns=(nanoseconds, nanoseconds))


def repoint_a_link(path: Path) -> None:
    other = path.with_name("target.jpg")
    other.write_bytes(same_size(path))
    path.unlink()
    path.symlink_to(other)


REPLACEMENTS: dict[str, Callable[[Path], object]] = {
    "changed in place": overwrite,
    "replaced by an older file": replace_by_an_older_file,
    "a nanosecond later": lambda path: overwrite_with_a_clock(path, path.stat().st_mtime_ns + 1),
    "a clock that ran back": lambda path: overwrite_with_a_clock(path, path.stat().st_mtime_ns - 10**12),
    "before 1970": lambda path: overwrite_with_a_clock(path, -(10**9)),
    "in a far future": lambda path: overwrite_with_a_clock(path, 2**63 + 10**9),
    "a link to another file": repoint_a_link,
}


@pytest.mark.parametrize("replace", REPLACEMENTS.values(), ids=REPLACEMENTS)
def test_an_image_replaced_by_another_of_its_size_is_packed_again(listing, cache, replace):
    pack(listing, cache, size=SIZE)
    before = decoded(listing)
    replace(listing.file(2))
    assert not np.array_equal(before, decoded(listing))
    assert_rebuilt_once(listing, cache)


def test_a_copy_with_other_times_needs_no_new_cache(listing, cache, tmp_path, monkeypatch):
    """Content decides where times differ, and is hashed only once."""
    pack(listing, cache, size=SIZE)
    before, reads = identity(cache), []
    for row in range(5):
        os.utime(listing.file(row), (10**9 + row, 10**9 + row))
    monkeypatch.setattr(module, "read_image", None)
    hashed = module.hash_file
    monkeypatch.setattr(module, "hash_file", lambda path: reads.append(path) or hashed(path))
    for _ in range(2):
        pack(listing, cache, size=SIZE)
    assert identity(cache) == before
    assert len(reads) == 5


def test_a_cache_on_a_read_only_disk_serves_files_with_other_times(listing, cache, monkeypatch):
    pack(listing, cache, size=SIZE)
    os.utime(listing.file(0), (10**9, 10**9))

    def fail(*_):
        raise LabError("cannot write")

    monkeypatch.setattr(module, "_write_files", fail)
    monkeypatch.setattr(module, "read_image", None)
    assert len(pack(listing, cache, size=SIZE)) == 5


def test_verify_compares_the_pixels_of_image_and_cache(listing, cache, capsys):
    """Neither a file changed under its old time nor a damaged array shows in size and time."""
    pack(listing, cache, size=SIZE)
    before = identity(cache)
    pack(listing, cache, size=SIZE, verify=True)
    assert identity(cache) == before
    status = listing.file(3).stat()
    overwrite(listing.file(3))
    os.utime(listing.file(3), ns=(status.st_atime_ns, status.st_mtime_ns))
    capsys.readouterr()
    assert np.array_equal(pack(listing, cache, size=SIZE, verify=True).images, decoded(listing))
    assert "train: 1 of 5 images differ from the cache, first train/3.jpg; packing again" in capsys.readouterr().err
    with open(cache / NAME / "images.npy", "r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)[0]
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last ^ 1]))
    assert np.array_equal(pack(listing, cache, size=SIZE, verify=True).images, decoded(listing))
    assert_rebuilt_once(listing, cache)


def test_verify_knows_images_that_were_skipped(listing, cache, capsys):
    os.truncate(listing.file(1), 200)
    pack(listing, cache, size=SIZE, on_bad_image="skip")
    before = identity(cache)
    assert len(pack(listing, cache, size=SIZE, on_bad_image="skip", verify=True)) == 4
    assert identity(cache) == before


def test_splits_and_sizes_lie_side_by_side(listing, cache):
    for split, size in (("train", SIZE), ("val", SIZE), ("train", 8)):
        pack(dataclasses.replace(listing, split=split), cache, size=size)
    before = identity(cache)
    pack(listing, cache, size=SIZE)
    assert identity(cache) == before
    assert {path.name for path in cache.iterdir() if path.name[0] != "."} == {"train-16", "train-8", "val-16"}


def head(listing: Listing) -> Listing:
    return dataclasses.replace(listing, paths=listing.paths[:4], labels=listing.labels[:4])


def reorder(listing: Listing) -> Listing:
    return dataclasses.replace(listing, paths=listing.paths[::-1], labels=listing.labels[::-1])


SHAPE = (5, SIZE, SIZE, 3)
CHANGES: dict[str, Callable[[Listing, Path, Path], Listing | object]] = {
    "other labels": lambda listing, array, manifest: dataclasses.replace(listing, labels=(1, 1, 0, 1, 0)),
    "fewer images": lambda listing, array, manifest: head(listing),
    "another order": lambda listing, array, manifest: reorder(listing),
    "another file": lambda listing, array, manifest: write_photo(listing.file(2), 99, (40, 40)),
    "manifest damaged": lambda listing, array, manifest: manifest.write_text('{"digest": '),
    "manifest of another kind": lambda listing, array, manifest: manifest.write_text("[]"),
    "manifest missing": lambda listing, array, manifest: manifest.unlink(),
    "file times missing": lambda listing, array, manifest: (array.parent / "files.npy").unlink(),
    "file times damaged": lambda listing, array, manifest: os.truncate(array.parent / "files.npy", 200),
    "file times of another type": lambda listing, array, manifest: np.save(array.parent / "files.npy", np.zeros(5)),
    "file times of fewer images": lambda listing, array, manifest: cut_times(array.parent / "files.npy"),
    "array missing": lambda listing, array, manifest: array.unlink(),
    "array truncated": lambda listing, array, manifest: os.truncate(array, array.stat().st_size - 1),
    "array empty": lambda listing, array, manifest: os.truncate(array, 0),
    "array damaged": lambda listing, array, manifest: array.write_bytes(b"no array" * 100),
    "archive instead of an array": lambda listing, array, manifest: array.write_bytes(npz(images=np.zeros(3))),
    "another shape": lambda listing, array, manifest: np.save(array, np.zeros((*SHAPE[:3], 4), np.uint8)),
    "another dtype": lambda listing, array, manifest: np.save(array, np.zeros(SHAPE, np.int16)),
}


def cut_times(path: Path) -> None:
    np.save(path, np.load(path)[:4])


def npz(**arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def assert_rebuilt_once(listing: Listing, cache: Path) -> None:
    dataset = pack(listing, cache, size=SIZE)
    assert np.array_equal(dataset.images, decoded(listing))
    assert dataset.labels.tolist() == list(listing.labels)
    assert entries(cache) == {NAME}
    before = identity(cache)
    pack(listing, cache, size=SIZE)
    assert identity(cache) == before


@pytest.mark.parametrize("change", CHANGES)
def test_a_stale_or_damaged_cache_is_rebuilt(listing, cache, change):
    pack(listing, cache, size=SIZE)
    changed = CHANGES[change](listing, cache / NAME / "images.npy", cache / NAME / "manifest.json")
    assert_rebuilt_once(changed if isinstance(changed, Listing) else listing, cache)


def test_a_cache_of_another_version_is_rebuilt_and_an_open_array_outlives_it(listing, cache, monkeypatch):
    dataset, before = pack(listing, cache, size=SIZE), identity(cache)
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    pack(listing, cache, size=SIZE)
    assert identity(cache) != before
    pack(reorder(listing), cache, size=SIZE)
    assert np.array_equal(dataset.images, decoded(listing))


def test_a_cache_that_another_process_replaces_while_it_is_opened_is_rebuilt(listing, cache, monkeypatch):
    """Another process replaces both files between the read of the manifest and that of the array."""
    pack(listing, cache, size=SIZE)
    load = np.load

    def load_late(path, **options):
        monkeypatch.setattr(np, "load", load)
        pack(reorder(listing), cache, size=SIZE)
        return load(path, **options)

    monkeypatch.setattr(np, "load", load_late)
    assert np.array_equal(pack(listing, cache, size=SIZE).images, decoded(listing))


def test_bad_images_are_skipped_and_named_on_request(listing, cache, capsys):
    """Four of five images are truncated, empty, renamed and damaged."""
    listing, expected = dataclasses.replace(listing, labels=(0,) * 5, categories=("abbey",)), decoded(listing)
    os.truncate(listing.file(0), 200)
    listing.file(1).write_bytes(b"")
    listing.file(3).rename(listing.file(3).with_suffix(".jpeg"))
    listing.file(4).write_bytes(b"\0" + listing.file(4).read_bytes()[1:])
    for _ in range(2):  # as built and as opened
        dataset = pack(listing, cache, size=SIZE, on_bad_image="skip")
        assert np.array_equal(dataset.images, expected[2:3])
        assert (dataset.paths, dataset.labels.tolist()) == (("train/2.jpg",), [0])
        assert [path for path, _ in dataset.skipped] == [f"train/{row}.jpg" for row in (0, 1, 3, 4)]
        assert all(reason.startswith("image ") for _, reason in dataset.skipped)
        message = capsys.readouterr().err.splitlines()[-1]
        assert message.startswith("train: 4 of 5 listed images are skipped, first train/0.jpg (image ")
    assert np.load(cache / NAME / "images.npy").shape == (1, SIZE, SIZE, 3)
    assert dataset.subset(np.array([0]), split="part", name="part").skipped == dataset.skipped


def test_a_skipped_image_that_can_be_decoded_later_is_packed(listing, cache, monkeypatch):
    decode = module._decode
    error = LabError("needs a package")
    monkeypatch.setattr(module, "_decode", lambda listing, row, size: error if row == 2 else decode(listing, row, size))
    assert len(pack(listing, cache, size=SIZE, on_bad_image="skip")) == 4
    monkeypatch.undo()  # the package is installed
    assert len(pack(listing, cache, size=SIZE, on_bad_image="skip")) == 5


def test_a_class_of_which_every_image_is_skipped_is_an_error(listing, cache, capsys):
    for row in (1, 3, 4):
        listing.file(row).write_bytes(b"")
    for _ in range(2):  # as built and as opened
        with pytest.raises(LabError, match=r"class 'beach' in train of .* would be lost: none of its 3 images can be"):
            pack(listing, cache, size=SIZE, on_bad_image="skip")
    write_photo(listing.file(4), 4)
    assert len(pack(listing, cache, size=SIZE, on_bad_image="skip")) == 3


def test_classes_without_images_are_said(listing, cache, capsys):
    pack(dataclasses.replace(listing, categories=("abbey", "beach", "cave")), cache, size=SIZE)
    assert capsys.readouterr().err.splitlines()[-1] == f"train of {listing.root}: no images of 1 of 3 classes: cave"


def test_a_cache_with_skipped_images_does_not_serve_a_call_that_refuses_them(listing, cache):
    listing.file(1).write_bytes(b"")
    pack(listing, cache, size=SIZE, on_bad_image="skip")
    with pytest.raises(LabError, match=r"1\.jpg has 0 bytes; .*, or train or pack with --damaged skip$"):
        pack(listing, cache, size=SIZE)
    write_photo(listing.file(1), 1)
    assert np.array_equal(pack(listing, cache, size=SIZE, on_bad_image="skip").images, decoded(listing))


def test_a_split_with_missing_or_without_readable_images_is_refused(listing, cache):
    for index in (1, 3):
        listing.file(index).unlink()
    with pytest.raises(LabError) as caught:
        pack(listing, cache, size=SIZE)
    assert str(caught.value) == (
        f"2 of 5 listed images are missing in {listing.root}, first train/1.jpg; "
        f"list them with 'scenelab data verify DATA' or train or pack with --damaged skip"
    )
    assert not cache.exists()
    for row in range(5):
        listing.file(row).write_bytes(b"")
    with pytest.raises(LabError, match=r"^none of the 5 listed images in .* can be read; get them again$"):
        pack(listing, cache, size=SIZE, on_bad_image="skip")
    assert entries(cache) == set()


def test_a_failed_build_keeps_the_older_cache(listing, cache):
    part = head(listing)
    pack(part, cache, size=SIZE)
    before = identity(cache)
    os.truncate(listing.file(4), 200)
    with pytest.raises(LabError, match=r"^image .*/train/4\.jpg cannot be decoded"):
        pack(listing, cache, size=SIZE)
    assert entries(cache) == {NAME}
    assert np.array_equal(pack(part, cache, size=SIZE).images, decoded(part))
    assert identity(cache) == before


def test_a_cache_folder_that_cannot_be_created_is_one_line(listing, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabError, match=r"^cannot write .*/file/train-16: .*the image cache needs .*with --cache$"):
        pack(listing, tmp_path / "file", size=SIZE)


# Several processes, forked from a server that has imported torch.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["scenelab.data.cache"])


def test_a_full_disk_is_one_line_and_leaves_nothing(listing, cache):
    with limited_file_size(2500), pytest.raises(LabError) as caught:
        pack(listing, cache, size=SIZE)
    assert str(caught.value) == (
        f"cannot write {cache / NAME}: File too large; "
        "the image cache needs about 0 MB, choose another folder with --cache"
    )
    assert entries(cache) == set()


def pack_on_signal(listing: Listing, cache: Path, ready: Path, go: Path) -> None:
    read, paths = module.read_image, []

    def read_slowly(path: Path) -> torch.Tensor:
        time.sleep(0.1)
        paths.append(path)
        return read(path)

    module.read_image = read_slowly
    ready.touch()
    wait_for(go.exists)
    dataset = pack(listing, cache, size=SIZE)
    np.savez(ready.with_suffix(".npz"), images=dataset.images, decoded=len(paths))


def test_of_two_processes_one_builds_and_the_other_waits(listing, cache, tmp_path):
    ready, go = [tmp_path / "first", tmp_path / "second"], tmp_path / "go"
    processes = [PROCESSES.Process(target=pack_on_signal, args=(listing, cache, flag, go)) for flag in ready]
    try:
        for process in processes:
            process.start()
        wait_for(lambda: all(flag.exists() for flag in ready))
        go.touch()
    finally:
        for process in processes:
            process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    results = [np.load(flag.with_suffix(".npz")) for flag in ready]
    assert all(np.array_equal(result["images"], decoded(listing)) for result in results)
    assert sorted(int(result["decoded"]) for result in results) == [0, 5]
    assert entries(cache) == {NAME}


def test_a_name_that_is_not_utf8_is_packed(tmp_path):
    name = os.fsdecode(b"abbey/caf\xe9.jpg")
    write_photo(tmp_path / "abbey" / "plain.jpg", 1)
    os.rename(tmp_path / "abbey" / "plain.jpg", tmp_path / name)
    listing = Listing(root=tmp_path, split="train", paths=(name,), labels=(0,), categories=("abbey",))
    assert len(pack(listing, tmp_path / "packed", size=SIZE)) == 1
