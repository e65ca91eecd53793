"""The packed cache: what is in it, when it is made anew, and that no accident leaves half of one."""

import dataclasses
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from scenelab.data import cache as module
from scenelab.data.cache import digest, pack
from scenelab.data.decode import fit, read_image
from scenelab.data.miniplaces import Listing
from scenelab.data.splits import open_split
from scenelab.errors import LabError
from scenelab.io import read_json, write_json

SIZE = 16


def photo(path: Path, seed: int, size: tuple[int, int] = (20, 28)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)).save(path, quality=90)


@pytest.fixture
def listing(tmp_path) -> Listing:
    """Five small JPEGs of two classes."""
    root = tmp_path / "images"
    paths = tuple(f"train/{index}.jpg" for index in range(5))
    for index, path in enumerate(paths):
        photo(root / path, index)
    return Listing(root=root, split="train", paths=paths, labels=(0, 1, 0, 1, 1), categories=("abbey", "beach"))


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "packed"


def contents(listing: Listing, size: int = SIZE) -> np.ndarray:
    """What must be in the array, decoded here one by one."""
    pictures = [fit(read_image(listing.file(index)), size) for index in range(len(listing))]
    return torch.stack(pictures).permute(0, 2, 3, 1).numpy()


def identity(cache: Path, name: str = f"train-{SIZE}") -> tuple[int, int]:
    """Which file the array is: another inode or another time of writing means that it was built again."""
    stat = (cache / name / "images.npy").stat()
    return stat.st_ino, stat.st_mtime_ns


def left_over(cache: Path) -> set[str]:
    return {path.name for path in cache.iterdir()} - {f".train-{SIZE}.lock"}


# What is in it


def test_content_equals_the_decoded_images(listing, cache):
    packed = pack(listing, cache, size=SIZE)
    assert np.array_equal(packed.images, contents(listing))
    assert packed.labels.tolist() == [0, 1, 0, 1, 1]
    assert packed.labels.dtype == torch.int64
    assert (packed.paths, packed.categories, packed.split) == (listing.paths, listing.categories, "train")
    assert (len(packed), packed.size, packed.digest) == (5, SIZE, digest(listing, SIZE))
    assert left_over(cache) == {f"train-{SIZE}"}


def test_the_manifest_says_what_it_was_made_from(listing, cache):
    pack(listing, cache, size=SIZE)
    assert read_json(cache / f"train-{SIZE}" / "manifest.json") == {
        "version": module.VERSION, "digest": digest(listing, SIZE), "split": "train", "images": 5, "size": SIZE,
        "source": str(listing.root), "layout": "N×H×W×3 uint8 RGB", "skipped": [],
    }  # fmt: skip


def test_scenes_of_the_right_size_are_packed_as_they_are(scenes, tmp_path):
    listing = open_split(scenes, "val")
    packed = pack(listing, tmp_path / "packed")
    assert packed.images.shape == (36, 128, 128, 3)
    for index in (0, 17, 35):
        with Image.open(listing.file(index)) as image:
            assert np.array_equal(packed.images[index], np.array(image))


def test_the_array_is_mapped_not_loaded(listing, cache):
    for _ in range(2):  # as built and as opened
        images = pack(listing, cache, size=SIZE).images
        assert isinstance(images, np.memmap)
        assert not images.flags.writeable
        assert Path(str(images.filename)) == (cache / f"train-{SIZE}" / "images.npy").resolve()


def test_rows_are_channels_last_copies(listing, cache):
    packed = pack(listing, cache, size=SIZE)
    expected = contents(listing)
    for indices in (np.array([3, 0, 3]), slice(1, 4)):
        rows = packed.gather(indices)
        assert rows.shape == (3, 3, SIZE, SIZE)
        assert rows.dtype == torch.uint8
        assert rows.is_contiguous(memory_format=torch.channels_last)
        assert np.array_equal(rows.permute(0, 2, 3, 1).numpy(), expected[indices])
        rows.fill_(7)  # a map opened for reading would end the process here
    assert np.array_equal(packed.images, expected)


def test_first(listing, cache):
    packed = pack(listing, cache, size=SIZE)
    assert packed.first(None) is packed
    part = packed.first(2)
    assert (len(part), part.paths, part.labels.tolist()) == (2, packed.paths[:2], [0, 1])
    assert torch.equal(part.rows(slice(None)), packed.gather(slice(2)))
    assert isinstance(part.images, np.memmap)
    assert part.digest != packed.digest
    assert (part.categories, part.split, part.size) == (packed.categories, packed.split, SIZE)
    assert len(packed.first(100)) == 5


# When it is made anew


def test_a_current_cache_is_used_again(listing, cache, monkeypatch):
    pack(listing, cache, size=SIZE)
    before = identity(cache)
    monkeypatch.setattr(module, "read_image", None)  # decoding anything would fail
    os.utime(listing.file(0))
    assert np.array_equal(pack(listing, cache, size=SIZE).images, np.load(cache / f"train-{SIZE}" / "images.npy"))
    assert identity(cache) == before


def test_a_current_cache_needs_no_lock(listing, cache):
    """So that it can lie on a disk that is only read."""
    pack(listing, cache, size=SIZE)
    (cache / f".train-{SIZE}.lock").unlink()
    pack(listing, cache, size=SIZE)
    assert not (cache / f".train-{SIZE}.lock").exists()


def test_splits_and_sizes_lie_side_by_side(listing, cache):
    pack(listing, cache, size=SIZE)
    before = identity(cache)
    pack(dataclasses.replace(listing, split="val"), cache, size=SIZE)
    pack(listing, cache, size=8)
    pack(listing, cache, size=SIZE)
    assert identity(cache) == before
    assert {path.name for path in cache.iterdir() if path.name[0] != "."} == {"train-16", "train-8", "val-16"}


def relabelled(listing: Listing, target: Path) -> Listing:
    return dataclasses.replace(listing, labels=(1, 1, 0, 1, 1))


def shortened(listing: Listing, target: Path) -> Listing:
    return dataclasses.replace(listing, paths=listing.paths[:4], labels=listing.labels[:4])


def reordered(listing: Listing, target: Path) -> Listing:
    order = (1, 0, 2, 3, 4)
    return dataclasses.replace(
        listing, paths=tuple(listing.paths[i] for i in order), labels=tuple(listing.labels[i] for i in order)
    )


def with_another_file(listing: Listing, target: Path) -> Listing:
    before = listing.file(2).stat().st_size
    photo(listing.file(2), 99, (40, 40))
    assert listing.file(2).stat().st_size != before
    return listing


def with_a_damaged_manifest(listing: Listing, target: Path) -> Listing:
    (target / "manifest.json").write_text('{"digest": ')
    return listing


def with_a_foreign_manifest(listing: Listing, target: Path) -> Listing:
    write_json(target / "manifest.json", ["no", "object"])
    return listing


def without_a_manifest(listing: Listing, target: Path) -> Listing:
    (target / "manifest.json").unlink()
    return listing


def without_the_array(listing: Listing, target: Path) -> Listing:
    (target / "images.npy").unlink()
    return listing


def with_a_truncated_array(listing: Listing, target: Path) -> Listing:
    os.truncate(target / "images.npy", (target / "images.npy").stat().st_size - 1)
    return listing


def with_an_empty_array(listing: Listing, target: Path) -> Listing:
    os.truncate(target / "images.npy", 0)
    return listing


def with_no_array_at_all(listing: Listing, target: Path) -> Listing:
    (target / "images.npy").write_bytes(b"no array" * 100)
    return listing


def with_an_archive_for_an_array(listing: Listing, target: Path) -> Listing:
    with open(target / "images.npy", "wb") as file:
        np.savez(file, images=np.zeros(3))
    return listing


def with_an_array_of_another_shape(listing: Listing, target: Path) -> Listing:
    np.save(target / "images.npy", np.zeros((5, SIZE, SIZE, 4), np.uint8))
    return listing


def with_an_array_of_another_type(listing: Listing, target: Path) -> Listing:
    np.save(target / "images.npy", np.zeros((5, SIZE, SIZE, 3), np.int16))
    return listing


CHANGES = [
    relabelled, shortened, reordered, with_another_file, with_a_damaged_manifest, with_a_foreign_manifest,
    without_a_manifest, without_the_array, with_a_truncated_array, with_an_empty_array, with_no_array_at_all,
    with_an_archive_for_an_array, with_an_array_of_another_shape, with_an_array_of_another_type,
]  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_stale_or_damaged_cache_is_made_anew(listing, cache, change):
    pack(listing, cache, size=SIZE)
    changed = change(listing, cache / f"train-{SIZE}")
    packed = pack(changed, cache, size=SIZE)
    assert np.array_equal(packed.images, contents(changed))
    assert packed.labels.tolist() == list(changed.labels)
    assert left_over(cache) == {f"train-{SIZE}"}
    before = identity(cache)
    pack(changed, cache, size=SIZE)
    assert identity(cache) == before


def test_a_cache_of_another_version_is_made_anew(listing, cache, monkeypatch):
    pack(listing, cache, size=SIZE)
    before = identity(cache)
    monkeypatch.setattr(module, "VERSION", module.VERSION + 1)
    pack(listing, cache, size=SIZE)
    assert identity(cache) != before
    assert read_json(cache / f"train-{SIZE}" / "manifest.json")["version"] == module.VERSION


def test_a_cache_that_another_process_replaces_while_it_is_opened(listing, cache, monkeypatch):
    """Between the manifest and the array lies a moment in which both may become those of another listing."""
    other = relabelled(reordered(listing, cache), cache)
    pack(listing, cache, size=SIZE)
    load, calls = np.load, []

    def load_late(path, **options):
        if not calls:
            calls.append(path)
            pack(other, cache, size=SIZE)
        return load(path, **options)

    monkeypatch.setattr(np, "load", load_late)
    assert np.array_equal(pack(listing, cache, size=SIZE).images, contents(listing))


def test_an_open_array_outlives_its_replacement(listing, cache):
    packed = pack(listing, cache, size=SIZE)
    expected = contents(listing)
    pack(reordered(listing, cache), cache, size=SIZE)
    assert np.array_equal(packed.images, expected)


# Accidents


def test_missing_images_are_counted(listing, cache):
    for index in (1, 3):
        listing.file(index).unlink()
    with pytest.raises(LabError) as caught:
        pack(listing, cache, size=SIZE)
    assert str(caught.value) == (
        f"2 of 5 listed images are missing below {listing.root}, first train/1.jpg; "
        f"'scenelab data verify {listing.root.parent}' lists them, --damaged skip goes on without them"
    )
    assert not cache.exists()


def damage(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


def test_a_damaged_image_in_the_middle_leaves_nothing(listing, cache):
    damage(listing.file(2))
    with pytest.raises(LabError, match=r"^image .*/train/2\.jpg cannot be decoded"):
        pack(listing, cache, size=SIZE)
    assert left_over(cache) == set()
    photo(listing.file(2), 2)
    assert np.array_equal(pack(listing, cache, size=SIZE).images, contents(listing))


def test_damaged_and_missing_images_are_skipped_where_that_is_asked_for(listing, cache, capsys):
    """Cut off, without a byte, changed in the middle, renamed: four of five; the fifth stays itself."""
    expected = contents(listing)
    damage(listing.file(0))
    listing.file(1).write_bytes(b"")
    listing.file(3).rename(listing.file(3).with_suffix(".jpeg"))
    listing.file(4).write_bytes(b"\0" + listing.file(4).read_bytes()[1:])
    for _ in range(2):  # as built and as opened
        packed = pack(listing, cache, size=SIZE, damaged="skip")
        assert np.array_equal(packed.images, expected[2:3])
        assert packed.paths == ("train/2.jpg",)
        assert packed.labels.tolist() == [0]
        assert [path for path, _ in packed.skipped] == [f"train/{row}.jpg" for row in (0, 1, 3, 4)]
        assert all(reason.startswith("image ") for _, reason in packed.skipped)
        assert (
            capsys.readouterr()
            .err.splitlines()[-1]
            .startswith("train: 4 of 5 listed images are skipped, first train/0.jpg (image ")
        )
    assert np.load(cache / f"train-{SIZE}" / "images.npy").shape == (1, SIZE, SIZE, 3)
    half = packed.subset(np.array([0]), split="part", name="part")
    assert half.skipped == packed.skipped


def test_what_was_skipped_is_not_what_is_asked_for_without_it(listing, cache):
    listing.file(1).write_bytes(b"")
    pack(listing, cache, size=SIZE, damaged="skip")
    with pytest.raises(LabError, match=r"1\.jpg has 0 bytes; .*, or go on without it \(--damaged skip\)$"):
        pack(listing, cache, size=SIZE)
    photo(listing.file(1), 1)
    assert np.array_equal(pack(listing, cache, size=SIZE, damaged="skip").images, contents(listing))


def test_a_split_without_one_readable_image_is_refused(listing, cache):
    for row in range(5):
        listing.file(row).write_bytes(b"")
    with pytest.raises(LabError, match=r"^none of the 5 listed images below .* can be read; get them again$"):
        pack(listing, cache, size=SIZE, damaged="skip")
    assert left_over(cache) == set()


def test_a_failed_build_leaves_the_older_cache(listing, cache):
    """Until a new array is whole the old one stays, and serves the listing that it was made from."""
    part = shortened(listing, cache)
    pack(part, cache, size=SIZE)
    before = identity(cache)
    damage(listing.file(4))
    with pytest.raises(LabError, match=r"train/4\.jpg"):
        pack(listing, cache, size=SIZE)
    assert left_over(cache) == {f"train-{SIZE}"}
    assert np.array_equal(pack(part, cache, size=SIZE).images, contents(part))
    assert identity(cache) == before


def test_a_cache_folder_that_cannot_be_made(listing, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabError, match=r"^cannot write the packed images to .*/file/train-16: .*with --cache$"):
        pack(listing, tmp_path / "file", size=SIZE)


# In processes of their own: forked from a server that has imported torch once, so that they start at once.
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["scenelab.data.cache"])


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def pack_on_a_full_disk(listing: Listing, cache: Path, told: Path) -> None:
    """A limit on the size of a file stands for the full disk: the kernel refuses the write in the same place."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500))
    try:
        pack(listing, cache, size=SIZE)
    except LabError as error:
        told.write_text(str(error))


def test_a_full_disk_is_one_line_and_leaves_nothing(listing, cache, tmp_path):
    told = tmp_path / "told"
    process = PROCESSES.Process(target=pack_on_a_full_disk, args=(listing, cache, told))
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert told.read_text() == (
        f"cannot write the packed images to {cache / 'train-16'}: File too large; "
        "about 0 MB are needed, another place is chosen with --cache"
    )
    assert left_over(cache) == set()


def test_a_really_full_disk(own_mounts, scenes, tmp_path):
    """The same on a file system of 1 MB, where this machine lets us mount one."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(place)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting a file system is not allowed here")
    try:
        with pytest.raises(LabError, match=r"No space left on device; about 2 MB are needed"):
            pack(open_split(scenes, "val"), place / "packed")
        assert [path.name for path in (place / "packed").iterdir()] == [".val-128.lock"]
    finally:
        subprocess.run(["umount", str(place)], check=True)


def pack_until_half(listing: Listing, cache: Path, half: Path) -> None:
    """Decode three images, tell so, and hang."""
    read, done = module.read_image, []

    def hanging(path):
        if len(done) == 3:
            half.touch()
            time.sleep(100)
        done.append(path)
        return read(path)

    module.read_image = hanging
    pack(listing, cache, size=SIZE)


def test_a_kill_in_the_middle_leaves_a_part_that_the_next_build_removes(listing, cache, tmp_path):
    process = PROCESSES.Process(target=pack_until_half, args=(listing, cache, tmp_path / "half"))
    process.start()
    try:
        wait_for((tmp_path / "half").exists)
    finally:
        process.kill()
        process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert left_over(cache) == {f".train-{SIZE}.partial"}
    assert np.array_equal(pack(listing, cache, size=SIZE).images, contents(listing))
    assert left_over(cache) == {f"train-{SIZE}"}


def pack_when_told(listing: Listing, cache: Path, ready: Path, go: Path) -> None:
    """Wait for the other process, pack slowly, and write down how many images were decoded and what came out."""
    read, done = module.read_image, []

    def slow(path):
        done.append(path)
        time.sleep(0.1)
        return read(path)

    module.read_image = slow
    ready.touch()
    wait_for(go.exists)
    packed = pack(listing, cache, size=SIZE)
    np.savez(ready.with_suffix(".npz"), images=packed.images, decoded=len(done))


def test_of_two_processes_one_builds_and_the_other_waits(listing, cache, tmp_path):
    ready, go = [tmp_path / "first", tmp_path / "second"], tmp_path / "go"
    both = [PROCESSES.Process(target=pack_when_told, args=(listing, cache, flag, go)) for flag in ready]
    try:
        for process in both:
            process.start()
        wait_for(lambda: all(flag.exists() for flag in ready))
        go.touch()
    finally:
        for process in both:
            process.join(60)
    assert [process.exitcode for process in both] == [0, 0]
    decoded = []
    for flag in ready:
        with np.load(flag.with_suffix(".npz")) as result:
            assert np.array_equal(result["images"], contents(listing))
            decoded.append(int(result["decoded"]))
    assert sorted(decoded) == [0, 5]
    assert left_over(cache) == {f"train-{SIZE}"}
    before = identity(cache)
    assert np.array_equal(pack(listing, cache, size=SIZE).images, contents(listing))
    assert identity(cache) == before


# The digest


def test_the_digest_knows_what_decides_the_content(listing):
    changes = [
        digest(listing, SIZE),
        digest(listing, SIZE + 1),
        digest(dataclasses.replace(listing, split="val"), SIZE),
        digest(dataclasses.replace(listing, labels=(0, 1, 0, 1, 0)), SIZE),
        digest(reordered(listing, listing.root), SIZE),
        digest(with_another_file(listing, listing.root), SIZE),
    ]
    assert len(set(changes)) == len(changes)


def test_the_digest_does_not_know_where_the_images_lie(listing, tmp_path):
    """So a data folder can be moved with its cache."""
    before = digest(listing, SIZE)
    listing.root.rename(tmp_path / "elsewhere")
    assert digest(dataclasses.replace(listing, root=tmp_path / "elsewhere"), SIZE) == before


def test_a_name_that_is_no_utf8_is_packed(tmp_path):
    name = os.fsdecode(b"abbey/caf\xe9.jpg")
    photo(tmp_path / "abbey" / "plain.jpg", 1)
    os.rename(tmp_path / "abbey" / "plain.jpg", tmp_path / name)
    listing = Listing(root=tmp_path, split="train", paths=(name,), labels=(0,), categories=("abbey",))
    assert len(pack(listing, tmp_path / "packed", size=SIZE)) == 1
