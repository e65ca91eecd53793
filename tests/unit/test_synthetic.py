"""The painted data set: reproducible, in MiniPlaces' layout, whole or not there, and worth looking at."""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from scenelab.cli.data import draw_scenes
from scenelab.errors import LabError
from scenelab_scenes import KINDS, camera, render, write_scenes, writing


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scenes") / "new"
    write_scenes(folder, seed=3, train_per_class=3, val_per_class=2, test=5, size=32)
    return folder


def test_there_are_at_least_twelve_kinds_in_order() -> None:
    assert len(KINDS) >= 12
    assert list(KINDS) == sorted(set(KINDS))


@pytest.mark.parametrize("kind", KINDS)
def test_a_scene_is_a_pure_function_of_kind_seed_and_size(kind: str) -> None:
    before = repr(np.random.get_state())
    first, second = render(kind, seed=5, size=48), render(kind, seed=5, size=48)
    assert repr(np.random.get_state()) == before
    assert first.shape == (48, 48, 3)
    assert first.dtype == np.uint8
    assert np.array_equal(first, second)
    assert not np.array_equal(first, render(kind, seed=6, size=48))


def test_a_scene_is_the_same_in_another_process_without_torch() -> None:
    code = """import sys
sys.modules["torch"] = sys.modules["scenelab"] = None
from scenelab_scenes import render
sys.stdout.buffer.write(render("harbor", seed=9, size=32).tobytes())"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert done.stdout == render("harbor", seed=9, size=32).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_no_scene_is_dark_or_flat_or_the_same_as_another(kind: str) -> None:
    scenes = np.stack([render(kind, seed=seed, size=32) for seed in range(12)]).astype(float)
    assert scenes.mean(axis=(1, 2, 3)).min() > 30
    assert scenes.mean(axis=(1, 2, 3)).max() < 235
    assert scenes.std(axis=(1, 2, 3)).min() > 10
    far = np.abs(scenes[:, None] - scenes[None]).mean(axis=(2, 3, 4))
    assert far[~np.eye(len(scenes), dtype=bool)].min() > 6


def test_a_dark_painting_is_exposed_longer() -> None:
    night = Image.new("RGB", (64, 64), (18, 20, 26))
    for seed in range(10):
        picture = camera.expose(night, np.random.Generator(np.random.PCG64(seed)), 32)
        assert 30 < picture.mean() < 70


@pytest.mark.parametrize("size", [16, 17, 130])
def test_any_size_from_sixteen_works(size: int) -> None:
    for kind in KINDS:
        assert render(kind, seed=1, size=size).shape == (size, size, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "cost"}, f"kind is 'cost'; choose one of {', '.join(KINDS)}"),
        ({"kind": "coast", "seed": -1}, "seed is -1; give an integer of at least 0"),
        ({"kind": "coast", "size": 15}, "size is 15; give an integer of at least 16"),
        ({"kind": "coast", "size": 32.0}, "size is 32.0; give an integer of at least 16"),
    ],
)
def test_render_names_the_argument_that_is_wrong(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        render(**{"seed": 0, **arguments})


@pytest.mark.parametrize("name", ["train_per_class", "val_per_class", "test"])
def test_write_scenes_refuses_an_empty_split(tmp_path: Path, name: str) -> None:
    with pytest.raises(LabError, match=f"^{name} is 0; give an integer of at least 1$"):
        draw_scenes(tmp_path / "new", **{name: 0})
    assert list(tmp_path.iterdir()) == []


def test_the_lists_and_the_images_agree(written: Path) -> None:
    train = [line.split(" ") for line in (written / "train.txt").read_text().splitlines()]
    val = [line.split(" ") for line in (written / "val.txt").read_text().splitlines()]
    assert train[0] == [f"train/{KINDS[0][0]}/{KINDS[0]}/00000001.jpg", "0"]
    assert all(path.split("/")[1:3] == [KINDS[int(label)][0], KINDS[int(label)]] for path, label in train)
    assert [path for path, _ in val] == [f"val/{number:08d}.jpg" for number in range(1, 2 * len(KINDS) + 1)]
    assert Counter(int(label) for _, label in train) == dict.fromkeys(range(len(KINDS)), 3)
    assert Counter(int(label) for _, label in val) == dict.fromkeys(range(len(KINDS)), 2)
    assert [label for _, label in val] != sorted(label for _, label in val)
    listed = {path for path, _ in train + val} | {f"test/{number:08d}.jpg" for number in range(1, 6)}
    images = {str(path.relative_to(written / "images")) for path in (written / "images").rglob("*.jpg")}
    assert images == listed
    categories = (written / "categories.txt").read_text().splitlines()
    assert categories == [f"/{kind[0]}/{kind} {label}" for label, kind in enumerate(KINDS)]


def test_a_listed_image_shows_its_label(written: Path) -> None:
    path, label = (written / "val.txt").read_text().splitlines()[4].split(" ")
    with Image.open(written / "images" / path) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (32, 32))
        pixels = np.asarray(image).astype(float)
    seed = writing.image_seed(3, writing.VAL, 5)
    painted = {kind: np.abs(render(kind, seed=seed, size=32) - pixels).mean() for kind in KINDS}
    assert min(painted, key=lambda kind: painted[kind]) == KINDS[int(label)]


def test_no_two_images_share_a_seed_or_content(written: Path) -> None:
    images = [content for name, content in tree(written).items() if name.endswith(".jpg")]
    assert len(set(images)) == len(images)
    seeds = [
        writing.image_seed(seed, split, number)
        for seed in (0, 1, 2)
        for split in (0, 1, 2)
        for number in (1, 2, 2**32 - 1)
    ]
    assert len(set(seeds)) == len(seeds)


def test_the_same_seed_gives_the_same_bytes_and_another_does_not(tmp_path: Path, written: Path) -> None:
    write_scenes(tmp_path / "again", seed=3, train_per_class=3, val_per_class=2, test=5, size=32)
    write_scenes(tmp_path / "other", seed=4, train_per_class=3, val_per_class=2, test=5, size=32)
    again, other = tree(tmp_path / "again"), tree(tmp_path / "other")
    assert again == tree(written)
    assert again.keys() == other.keys()
    assert not {again[name] for name in again if name.endswith(".jpg")} & set(other.values())


def test_a_folder_with_content_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    for write, error in ((draw_scenes, LabError), (write_scenes, FileExistsError)):
        with pytest.raises(error, match=r"exists and is not empty; choose a new folder or remove this one$"):
            write(tmp_path, train_per_class=1, val_per_class=1, test=1, size=16)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_a_run_that_breaks_off_leaves_nothing_and_the_next_fills_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException | type[BaseException]
) -> None:
    calls = []
    (tmp_path / "empty").mkdir()

    def broken(kind: str, *, seed: int, size: int) -> np.ndarray:
        calls.append(kind)
        if len(calls) == 20:
            assert not any((tmp_path / "empty").iterdir())
            raise error
        return np.zeros((size, size, 3), dtype=np.uint8)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "render", broken)
        with pytest.raises(KeyboardInterrupt if error is KeyboardInterrupt else LabError):
            draw_scenes(tmp_path / "empty", train_per_class=2, val_per_class=1, test=1, size=16)
    assert len(calls) == 20
    assert [path.name for path in tmp_path.rglob("*")] == ["empty"]
    draw_scenes(tmp_path / "empty", train_per_class=1, val_per_class=1, test=1, size=16)
    assert (tmp_path / "empty" / "val.txt").is_file()
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]
