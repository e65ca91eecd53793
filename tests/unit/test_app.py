"""The explorer without a browser: what it answers, what it refuses, and that an attack can be stopped."""

import io
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from conftest import make_untrained
from folders import wait_for
from scenelab.app.errors_gallery import read_gallery
from scenelab.app.handlers import ANY_OTHER, LEAST_LIKELY, PREDICTED, Handlers
from scenelab.app.session import Attacked, Session, draw_difference, draw_map, open_session
from scenelab.data.decode import read_image
from scenelab.errors import LabError
from scenelab.evaluation.adversarial import AttackSettings
from scenelab.evaluation.predict import predict_files
from scenelab.runs.loading import open_images
from scenelab.runs.run import Run

NAME = "untrained"


@pytest.fixture(scope="module")
def session(untrained) -> Session:
    return open_session(untrained.folder)


@pytest.fixture(scope="module")
def dataset(untrained, session):
    return open_images(untrained, session.stored)[0]


@pytest.fixture(scope="module")
def handlers(untrained, session, dataset):
    handlers = Handlers([session], read_gallery(untrained, dataset))
    yield handlers
    handlers.decoder.close()


@pytest.fixture(scope="module")
def photo(scenes) -> str:
    return str(sorted((scenes / "images" / "val").rglob("*.jpg"))[0])


def attack(handlers, path, **changes):
    options = {"method": "PGD", "levels": 8.0, "steps": 5, "target": ANY_OTHER, "stop": threading.Event(), **changes}
    return handlers.attack(path, NAME, **options)


def test_the_top_five_are_those_of_predict(handlers, session, photo):
    result, message = handlers.predict(photo, NAME)
    (expected,) = predict_files(session.stored, [Path(photo)])
    assert message == ""
    assert list(result) == [guess["category"] for guess in expected["guesses"]]
    assert list(result.values()) == pytest.approx([guess["probability"] for guess in expected["guesses"]])


def test_every_method_explains_any_class(handlers, session, photo):
    for method in session.methods:
        result, pixels, note = handlers.explain(photo, NAME, method, PREDICTED, 0.6)
        assert (pixels.dtype, pixels.shape) == ("uint8", (32, 32, 3))
        assert 0 <= result.values.min() <= result.values.max() <= 1
        assert result.category in note
    category = session.stored.categories[3]
    assert handlers.explain(photo, NAME, "gradient", category, 0.6)[0].category == category


def test_opacity_goes_from_the_image_to_the_colors(session, photo):
    result = session.explain(read_image(Path(photo)), "gradient", None)
    none, half, full = (draw_map(result, opacity).astype(float) for opacity in (0, 0.5, 1))
    image = (result.image.permute(1, 2, 0) * 255).round().numpy()
    assert (none == image).all()
    assert abs(half - (image.mean(axis=2, keepdims=True) + full) / 2).max() <= 1


def test_an_attack_shows_its_result_which_can_be_downloaded(handlers, session, photo, tmp_path):
    *waiting, (original, adversarial, difference, after, message) = attack(handlers, photo, steps=3)
    assert all("forward passes: " in entry[-1] for entry in waiting)
    assert original.shape == adversarial.shape == difference.shape == (32, 32, 3)
    assert 0 < abs(original.astype(int) - adversarial.astype(int)).max() <= 8
    assert "**The attack succeeded.**" in message
    assert "PGD, ε = 8/255, 3 steps, target: any other class" in message
    assert next(iter(after)) in message
    Image.fromarray(adversarial).save(tmp_path / "adversarial.png")
    with torch.no_grad():
        logits = session.fused(session.resize(read_image(tmp_path / "adversarial.png")))
    assert list(session.rank(logits)) == list(after)
    *_, last = attack(handlers, photo, target=LEAST_LIKELY, levels=16, steps=20)
    assert "least likely" in last[-1]


def test_a_target_that_is_predicted_already_is_said(handlers, session, photo):
    with torch.no_grad():
        category = next(iter(session.rank(session.fused(session.resize(read_image(Path(photo)))))))
    *_, last = attack(handlers, photo, target=category)
    assert f"**The image is classified as {category} without an attack; choose another target.**" in last[-1]
    assert "succeeded" not in last[-1]


def test_an_attack_without_room_changes_nothing(session, photo):
    settings = AttackSettings(method="pgd", epsilon=0.0, steps=3)
    *_, result = session.attack(read_image(Path(photo)), settings, threading.Event())
    assert isinstance(result, Attacked)
    assert not result.success
    assert torch.equal(result.image, result.adversarial)
    assert draw_difference(result)[1] == 0


def test_a_long_attack_reports_its_progress_until_it_is_stopped(handlers, photo):
    stop = threading.Event()
    running = attack(handlers, photo, method="Square (no gradient)", levels=0.0, steps=100, stop=stop)
    passes = [int(next(running)[-1].rpartition(" ")[2]) for _ in range(5)]
    assert passes == sorted(set(passes))
    stop.set()
    assert len(list(running)) <= 1


def test_an_attack_stops_when_nobody_listens(session, photo):
    before, passes = threading.active_count(), []

    def slow(images):
        passes.append(len(images))
        time.sleep(0.02)
        return session.fused(images)

    stop, settings = threading.Event(), AttackSettings(method="square", epsilon=0.0, steps=100)
    running = replace(session, fused=slow).attack(read_image(Path(photo)), settings, stop)
    next(running)
    running.close()
    assert not stop.is_set()  # which may be that of the next network's attack as well
    wait_for(lambda: threading.active_count() <= before)
    assert len(passes) < 500  # of 2,500


def test_many_at_once_get_what_one_gets(handlers, photo):
    """Grad-CAM hangs hooks on the network: without turns the maps of one would be those of another."""
    expected = handlers.explain(photo, NAME, "cam", PREDICTED, 0.6)[1]

    def ask(number):
        if number % 2:
            return handlers.predict(photo, NAME)[1] == ""
        return (handlers.explain(photo, NAME, "cam", PREDICTED, 0.6)[1] == expected).all()

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(20)))


def bomb(side: int) -> bytes:
    stream = io.BytesIO()
    Image.new("1", (side, side)).save(stream, "png")
    assert len(stream.getvalue()) < 100_000
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"this is not an image", "is not an image file"),
        (lambda: b"", "has 0 bytes"),
        (lambda: b"\xff\xd8\xff\xe0" + b"\x00" * 40, "image"),
        (lambda: b"GIF89a", "image"),
        (lambda: bomb(12_000), "at most 100,000,000 pixels"),
        (lambda: bomb(20_000), "100,000,000"),
    ],
)
def test_what_is_no_image_gets_a_message_without_the_servers_path(handlers, tmp_path, content, message):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(content())
    for answer in (
        handlers.predict(str(path), NAME),
        handlers.explain(str(path), NAME, "gradient", PREDICTED, 0.6),
        [*attack(handlers, str(path))][-1],
    ):
        assert answer[-1].startswith("⚠ ")
        assert message in answer[-1]
        assert str(tmp_path) not in answer[-1]
        assert all(part is None for part in answer[:-1])


def test_without_an_image_there_is_no_answer(handlers):
    assert handlers.predict(None, NAME) == (None, "")
    assert handlers.explain(None, NAME, "gradient", PREDICTED, 0.6) == (None, None, "")
    assert [*attack(handlers, None)][-1][-1] == "Choose an image first."


def test_the_gallery_shows_the_mistakes_of_the_evaluation(handlers, dataset):
    gallery = handlers.gallery
    assert gallery.confident == sorted(gallery.confident, key=lambda mistake: -mistake.confidence)
    for mistake in gallery.confident:
        assert mistake.category in gallery.show(mistake.row)[1]
        assert mistake.prediction != mistake.category
        assert f"predicted {mistake.prediction}" in mistake.caption
    pixels, text = handlers.sample(dataset.categories[2])
    assert pixels.shape == (dataset.size, dataset.size, 3)
    assert dataset.categories[2] in text
    assert handlers.sample("nowhere")[1] == "⚠ no val image is of 'nowhere'"


def change_digest(run: Run) -> None:
    path = run.results / "val.json"
    path.write_text(path.read_text().replace('"digest": "', '"digest": "0'))


@pytest.mark.parametrize(
    ("change", "is_evaluated"),
    [
        (lambda run: None, True),
        (change_digest, False),
        (lambda run: (run.results / "val.json").unlink(), False),
        (lambda run: run.best.write_bytes(b"other"), False),
    ],
    ids=["same", "other images", "no evaluation", "other weights"],
)
def test_only_mistakes_of_these_images_and_weights_are_shown(untrained, dataset, tmp_path, change, is_evaluated):
    run = Run(shutil.copytree(untrained.folder, tmp_path / "run"))
    change(run)
    assert read_gallery(run, dataset).is_evaluated == is_evaluated


def test_networks_without_maps_have_no_grad_cam(scenes, tmp_path):
    session = open_session(make_untrained(tmp_path / "vit", scenes, model="vit").folder)
    image = torch.zeros(3, 32, 32, dtype=torch.uint8)
    assert "cam" not in session.methods
    with pytest.raises(LabError, match=r"vit has no maps by 'cam'; choose gradient"):
        session.explain(image, "cam", None)
    with pytest.raises(LabError, match="vit does not know 'nowhere'"):
        session.explain(image, "gradient", "nowhere")
