"""The explorer without a browser: what it answers, what it refuses, and that an attack can be stopped."""

import shutil
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from conftest import make_untrained
from scenelab.app.errors_gallery import read_album
from scenelab.app.handlers import ELSE, FIRST, LEAST, Answers
from scenelab.app.session import Fooled, Lens, draw_difference, draw_view, open_lens
from scenelab.data.decode import read_image
from scenelab.errors import LabError
from scenelab.evaluation.predict import predict_files
from scenelab.runs.loading import open_images
from scenelab.runs.run import Run


@pytest.fixture(scope="module")
def lens(untrained) -> Lens:
    return open_lens(untrained.folder)


@pytest.fixture(scope="module")
def answers(untrained, lens) -> Answers:
    dataset, _ = open_images(untrained, lens.stored)
    return Answers([lens], read_album(untrained, dataset))


@pytest.fixture(scope="module")
def photo(scenes) -> str:
    return str(sorted((scenes / "images" / "val").rglob("*.jpg"))[0])


def run_attack(answers, path, **changes):
    options = {"method": "PGD", "levels": 8.0, "steps": 5, "target": ELSE, "stop": threading.Event(), **changes}
    return list(answers.fool(path, "untrained", **options))


def test_the_top_five_are_those_of_predict(answers, lens, photo):
    found, message = answers.guess(photo, "untrained")
    (expected,) = predict_files(lens.stored, [Path(photo)])
    assert message == ""
    assert list(found) == [guess["category"] for guess in expected["guesses"]]
    assert list(found.values()) == pytest.approx([guess["probability"] for guess in expected["guesses"]])


def test_maps_by_every_method_on_any_class(answers, lens, photo):
    for method in lens.methods:
        view, drawn, said = answers.look(photo, "untrained", method, FIRST, 0.6)
        assert drawn.dtype == "uint8"
        assert drawn.shape == (32, 32, 3)
        assert 0 <= view.values.min() <= view.values.max() <= 1
        assert view.category in said
    category = lens.stored.categories[3]
    assert answers.look(photo, "untrained", "gradient", category, 0.6)[0].category == category


def test_opacity_from_the_picture_to_the_colours(lens, photo):
    view = lens.look(read_image(Path(photo)), "gradient", None)
    drawn = [draw_view(view, opacity).astype(float) for opacity in (0, 0.5, 1)]
    picture = (view.picture.permute(1, 2, 0) * 255).round().numpy()
    assert (drawn[0] == picture).all()
    grey = picture.mean(axis=2, keepdims=True)
    assert abs(drawn[1] - (grey + drawn[2]) / 2).max() <= 1


def test_an_attack_tells_what_came_out(answers, photo):
    *waiting, last = run_attack(answers, photo, steps=3)
    assert all("passes through the network: " in entry[-1] for entry in waiting)
    original, adversarial, difference, after, told = last
    assert original.shape == adversarial.shape == difference.shape == (32, 32, 3)
    assert 0 < abs(original.astype(int) - adversarial.astype(int)).max() <= 8
    assert "**Fooled.**" in told
    assert "PGD, ε = 8/255, 3 steps, towards anything else" in told
    assert next(iter(after)) in told


def test_a_long_attack_tells_how_far_it_is(answers, photo):
    """At most some ten times a second, however fast its passes are."""
    stop = threading.Event()
    began = time.monotonic()
    told = []
    for entry in answers.fool(photo, "untrained", "Square (no gradient)", 0.0, 100, ELSE, stop):
        told.append(entry[-1])
        if len(told) == 5:
            stop.set()
    assert time.monotonic() - began >= 0.4
    passes = [int(line.rpartition(" ")[2]) for line in told]
    assert passes == sorted(set(passes))


def test_the_downloaded_png_is_the_adversarial_image(answers, lens, photo, tmp_path):
    *_, (_, adversarial, _, after, _) = run_attack(answers, photo)
    Image.fromarray(adversarial).save(tmp_path / "adversarial.png")
    with torch.no_grad():
        logits = lens.fused(lens.see(read_image(tmp_path / "adversarial.png")))
    assert list(lens.most_likely(logits)) == list(after)


def test_an_attack_towards_the_least_likely(answers, lens, photo):
    *_, last = run_attack(answers, photo, target=LEAST, levels=16, steps=20)
    assert "least likely" in last[-1] or "**Fooled.**" in last[-1]


def test_no_change_is_no_fooling(lens, photo):
    *_, found = lens.fool(read_image(Path(photo)), "pgd", 0.0, 3, None, threading.Event())
    assert isinstance(found, Fooled)
    assert not found.success
    assert torch.equal(found.image, found.adversarial)
    assert draw_difference(found)[1] == 1


def test_an_attack_stops_when_told_to(answers, photo):
    stop = threading.Event()
    running = answers.fool(photo, "untrained", "Square (no gradient)", 0.5, 100, ELSE, stop)
    next(running)
    stop.set()
    rest = list(running)
    assert len(rest) <= 1


def test_an_attack_stops_when_nobody_listens(lens, photo):
    before = threading.active_count()
    passes = []

    def slow(images):
        passes.append(len(images))
        time.sleep(0.02)
        return lens.fused(images)

    stop = threading.Event()
    running = replace(lens, fused=slow).fool(read_image(Path(photo)), "square", 0.0, 100, None, stop)
    next(running)
    running.close()
    assert not stop.is_set()  # which may be that of the next network's attack as well
    deadline = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before
    assert len(passes) < 50  # of 2,500


def test_many_at_once_get_what_one_gets(answers, photo):
    """Grad-CAM hangs hooks on the network: without turns the maps of one would be those of another."""
    alone = answers.look(photo, "untrained", "cam", FIRST, 0.6)[1]
    found, errors = [], []

    def ask(method):
        try:
            for _ in range(5):
                if method == "guess":
                    answers.guess(photo, "untrained")
                else:
                    found.append(answers.look(photo, "untrained", "cam", FIRST, 0.6)[1])
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=ask, args=(name,)) for name in ("guess", "cam", "cam", "guess")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert all((drawn == alone).all() for drawn in found)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"this is no picture", "is not an image file"),
        (b"", "has 0 bytes"),
        (b"\xff\xd8\xff\xe0" + b"\x00" * 40, "image"),
        (b"GIF89a", "image"),
    ],
)
def test_what_is_no_picture_gets_a_message_without_the_servers_path(answers, tmp_path, content, message):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(content)
    for answer in (
        answers.guess(str(path), "untrained"),
        answers.look(str(path), "untrained", "gradient", FIRST, 0.6),
        run_attack(answers, str(path))[-1],
    ):
        assert answer[-1].startswith("⚠ ")
        assert message in answer[-1]
        assert str(tmp_path) not in answer[-1]
        assert all(part is None for part in answer[:-1])


@pytest.mark.parametrize(("side", "message"), [(12_000, "at most 100,000,000 pixels"), (20_000, "decompression bomb")])
def test_a_bomb_is_not_decoded(answers, tmp_path, side, message):
    path = tmp_path / "bomb.png"
    Image.new("1", (side, side)).save(path)
    assert path.stat().st_size < 100_000
    assert message in answers.guess(str(path), "untrained")[1]


def test_no_picture_yet(answers):
    assert answers.guess(None, "untrained") == (None, "")
    assert answers.look(None, "untrained", "gradient", FIRST, 0.6) == (None, None, "")
    assert "no picture" in run_attack(answers, None)[-1][-1]


def test_the_album_shows_the_mistakes_of_the_evaluation(untrained, answers):
    album = answers.album
    assert album.confident == sorted(album.confident, key=lambda mistake: -mistake.confidence)
    for mistake in album.confident:
        assert mistake.is_ == album.category(mistake.row)
        assert mistake.taken_for != mistake.is_
        assert f"taken for {mistake.taken_for}" in mistake.caption
    pixels, said = answers.take(album.dataset.categories[2])
    assert pixels.shape == (album.dataset.size, album.dataset.size, 3)
    assert album.dataset.categories[2] in said
    assert answers.take("nowhere")[1] == "⚠ there is no category 'nowhere'"


def test_mistakes_of_other_images_are_not_shown(untrained, lens, tmp_path, scenes):
    shutil.copytree(untrained.folder, tmp_path / "run")
    run = Run(tmp_path / "run")
    path = run.results / "val.json"
    path.write_text(path.read_text().replace('"digest": "', '"digest": "0'))
    dataset, _ = open_images(untrained, lens.stored)
    assert not read_album(run, dataset).evaluated
    path.unlink()
    assert not read_album(run, dataset).evaluated


def test_mistakes_of_other_weights_are_not_shown(untrained, lens, tmp_path, scenes):
    shutil.copytree(untrained.folder, tmp_path / "run")
    dataset, _ = open_images(untrained, lens.stored)
    assert read_album(Run(tmp_path / "run"), dataset).evaluated
    (tmp_path / "run" / "model_best.pth.tar").write_bytes(b"other")
    assert not read_album(Run(tmp_path / "run"), dataset).evaluated


def test_networks_without_maps_have_no_grad_cam(scenes, tmp_path):
    lens = open_lens(make_untrained(tmp_path / "vit", scenes, model="vit").folder)
    assert "cam" not in lens.methods
    with pytest.raises(LabError, match=r"vit has no maps by 'cam'; choose gradient"):
        lens.look(torch.zeros(3, 32, 32, dtype=torch.uint8), "cam", None)
    with pytest.raises(LabError, match="vit does not know 'nowhere'"):
        lens.look(torch.zeros(3, 32, 32, dtype=torch.uint8), "gradient", "nowhere")


def test_a_picture_that_is_shown_again_is_whole_while_it_is_read(photo, tmp_path):
    """An attack shows the original at each step: a browser that fetched it meanwhile got a part of it."""
    pytest.importorskip("gradio")
    from scenelab.app.page import show_pixels

    shown = show_pixels("original", "original", height=250, alt="")
    shown.GRADIO_CACHE = str(tmp_path)
    pixels = read_image(Path(photo)).permute(1, 2, 0).numpy()
    first = shown.postprocess(pixels)
    assert first is not None
    assert (read_image(Path(first.path)).permute(1, 2, 0).numpy() == pixels).all()
    whole, sizes, done = Path(first.path).stat().st_size, set(), threading.Event()

    def read():
        while not done.is_set():
            sizes.add(Path(first.path).stat().st_size)
            sizes.add(len(Path(first.path).read_bytes()))

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(100):
        again = shown.postprocess(pixels)
        assert again is not None
        assert again.path == first.path
    done.set()
    reader.join()
    assert sizes == {whole}
    assert list(tmp_path.rglob("*.part")) == []
