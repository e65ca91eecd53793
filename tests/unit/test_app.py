"""The explorer without a browser: what it answers, what it refuses, and that an attack can be stopped."""

import base64
import io
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import make_untrained
from explorer import exploring
from folders import wait_for
from runs_compared import QUIET, tiny
from scenelab.app import limits
from scenelab.app.catalog import Catalog
from scenelab.app.schemas import AttackQuestion, ExplainQuestion
from scenelab.cli import main
from scenelab.data.decode import fit, read_image
from scenelab.errors import LabError
from scenelab.evaluation.predict import predict_files
from scenelab.runs.run import Run
from scenelab.training.session import start_run
from scenelab_scenes import KINDS, write_scenes
from shipping import ship

NAME = "untrained"


@pytest.fixture(scope="module")
def session(untrained):
    return Catalog([untrained.folder]).session(NAME)


@pytest.fixture(scope="module")
def client(untrained, scenes, tmp_path_factory):
    other = make_untrained(tmp_path_factory.mktemp("other") / "other", scenes, seed=1)
    with exploring(untrained.folder, other.folder) as client:
        yield client


@pytest.fixture(scope="module")
def photo(scenes) -> Path:
    return sorted((scenes / "images" / "val").rglob("*.jpg"))[0]


@pytest.fixture(scope="module")
def image(client, photo) -> str:
    return client.upload(photo.read_bytes())["image"]


def pixels(url: str) -> np.ndarray:
    head, _, data = url.partition(",")
    assert head == "data:image/png;base64"
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))))


def test_the_top_five_are_those_of_predict(client, session, photo, image):
    answer = client.post("api/predict", run=NAME, image=image)
    (expected,) = predict_files(session.stored, [photo])
    assert [category for category, _ in answer] == [guess["category"] for guess in expected["guesses"]]
    assert [share for _, share in answer] == pytest.approx([guess["probability"] for guess in expected["guesses"]])


def test_images_are_uploads_validation_images_and_scenes(client, photo, image):
    for name in (image, "val:0", "synthetic:coast:3"):
        answer = client.get("api/image", params={"run": NAME, "image": name})
        assert answer.headers["content-type"] == "image/png"
        assert Image.open(io.BytesIO(answer.content)).size == (32, 32)
    shown = np.array(Image.open(io.BytesIO(client.get(f"api/image?run={NAME}&image={image}").content)))
    assert (shown == fit(read_image(photo), 32).permute(1, 2, 0).numpy()).all()


@pytest.fixture
def shipped(untrained, photo, tmp_path, monkeypatch) -> Path:
    """An example image; the networks `miniplaces` and `miniplaces-hardened` ship."""
    run = untrained.folder
    example = shutil.copy(photo, tmp_path / "beach_1.jpg")
    ship(monkeypatch, tmp_path / "package", {"miniplaces": run, "miniplaces-hardened": run}, example)
    monkeypatch.chdir(tmp_path)
    return Path(example)


def test_networks_and_images_of_the_package_are_offered(shipped, session):
    with exploring() as client:
        runs = client.get("api/runs").json()
        assert [run["id"] for run in runs] == ["miniplaces", "miniplaces-hardened"]
        assert {(run["state"], run["has_network"]) for run in runs} == {("shipped", True)}
        assert client.get("api/images").json()[:2] == ["example:beach_1", f"synthetic:{KINDS[0]}"]
        answer = client.post("api/predict", run="miniplaces", image="example:beach_1")
        (expected,) = predict_files(session.stored, [shipped])
        assert [category for category, _ in answer] == [guess["category"] for guess in expected["guesses"]]
        assert (
            "no example image 'nowhere'"
            in client.post("api/predict", run="miniplaces", image="example:nowhere")["error"]
        )
        assert client.upload(shipped.read_bytes())["image"]
        assert "ships without labeled images" in client.get("api/runs/miniplaces/network").json()["problem"]
        assert "ships without labeled images" in client.get("api/runs/miniplaces/mistakes").json()["error"]


def test_networks_of_the_package_come_after_the_runs_and_give_way_to_their_names(shipped, untrained, scenes, tmp_path):
    run = Path(shutil.copytree(untrained.folder, tmp_path / "runs" / "miniplaces"))
    make_untrained(tmp_path / "runs" / "z", scenes)
    catalog = Catalog([tmp_path / "runs"])
    assert list(catalog.runs()) == ["miniplaces", "z", "miniplaces-hardened"]
    assert catalog.session("miniplaces").run.folder == run


def test_a_validation_image_stays_the_same_for_another_network(shipped, untrained, tmp_path):
    write_scenes(tmp_path / "others", train_per_class=1, val_per_class=1, test=1, seed=3)
    other = make_untrained(tmp_path / "other", tmp_path / "others")
    with exploring(untrained.folder, other.folder) as client:

        def shown(run: str, image: str) -> bytes:
            return client.get("api/image", params={"run": run, "image": image}).content

        assert shown(NAME, "val:0") == shown("other", f"val:0@{NAME}") == shown("miniplaces", f"val:0@{NAME}")
        assert shown("other", "val:0") != shown(NAME, "val:0")
        assert client.post("api/predict", run="miniplaces", image=f"val:0@{NAME}")
        assert "this run is not there" in client.post("api/predict", run=NAME, image="val:0@nowhere")["error"]


def test_a_network_of_the_package_is_judged_on_other_images(shipped, tmp_path):
    """Its evaluation is in the current folder, as `scenelab evaluate` wrote it."""
    write_scenes(tmp_path / "others", train_per_class=1, val_per_class=1, test=1)
    assert main.run(["evaluate", "miniplaces", "--data", "others", "--json"]) == 0
    session = Catalog([], data=tmp_path / "others").session("miniplaces")
    assert len(session.network()["labels"]) == len(session.mistakes()["guesses"]) == 12


def test_the_last_batch_of_a_run_is_shown(scenes, tmp_path):
    start_run(tmp_path / "run", scenes, tiny(epochs=1), display=QUIET)
    make_untrained(tmp_path / "other", scenes)
    with exploring(tmp_path) as client:
        assert [run["batch_time"] > 0 for run in client.get("api/runs").json()] == [False, True]
        answer = client.get("api/runs/run/batch")
        assert answer.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(answer.content)).size == (8 * 32, 32)  # the last 8 of 72 images
        assert "has no batch yet" in client.get("api/runs/other/batch").json()["error"]
        assert client.get("api/runs/nowhere/batch").status_code == 404


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("val:99999", "there is no val image 99999"),
        ("synthetic:nowhere:1", "there is no synthetic scene 'nowhere'"),
        (f"upload:{32 * '0'}", "no longer in memory; choose the image again"),
        ("/etc/passwd", "image: got '/etc/passwd'"),
        ("upload:../../etc/passwd", "image: got"),
        ("http://192.0.2.1/x.png", "image: got"),
    ],
)
def test_other_images_are_refused(client, name, message):
    assert message in client.post("api/predict", run=NAME, image=name)["error"]
    assert client.get("api/image", params={"run": NAME, "image": name}).status_code == 400


def test_every_method_explains_any_class(client, image):
    known = client.get(f"api/runs/{NAME}/network").json()
    for method in known["methods"]:
        answer = client.post("api/explain", run=NAME, image=image, method=method)
        assert pixels(answer["map"]).shape == (32, 32, 3)
        assert "area" not in answer
    category = known["categories"][3]
    answer = client.post("api/explain", run=NAME, image=image, method="gradient", category=category, faithfulness=True)
    assert answer["category"] == category
    assert answer["area"] == pytest.approx(np.trapezoid(answer["deletion"], dx=1 / 20))
    for changes, message in (({"method": "tea"}, "no maps by 'tea'"), ({"category": "x"}, "does not know 'x'")):
        body = {"run": NAME, "image": image, "method": "gradient", **changes}
        assert message in client.post("api/explain", **body)["error"]


def test_networks_without_maps_have_no_grad_cam(scenes, tmp_path):
    session = Catalog([make_untrained(tmp_path / "vit", scenes, model="vit").folder]).session("vit")
    question = ExplainQuestion(run="vit", image="val:0", method="cam")
    assert "cam" not in session.network()["methods"]
    assert session.network()["layers"] == [("patches", 192, 4)]
    with pytest.raises(LabError, match=r"vit has no maps by 'cam'; choose gradient"):
        session.explain(session.val_image(0, session.stored.size), question)


def test_an_attack_shows_its_result_which_still_fools_as_png(client, image):
    *waiting, (kind, answer) = client.attack(run=NAME, image=image, levels=8, steps=3)
    assert {event for event, _ in waiting} <= {"progress"}
    assert (kind, answer["outcome"]) == ("result", "succeeded")
    original, adversarial = pixels(answer["original"]), pixels(answer["adversarial"])
    assert 0 < abs(original.astype(int) - adversarial.astype(int)).max() <= 8
    assert answer["largest"] <= 8 / 255 + 1e-6
    saved = client.upload(base64.b64decode(answer["adversarial"].partition(",")[2]), "adversarial.png")["image"]
    _, again = [*client.attack(run=NAME, image=saved, levels=0, steps=1)][-1]
    assert again["before"] == answer["after"]
    assert len(answer["path"]) == answer["passes"]
    assert answer["path"][0][0] == pytest.approx(answer["before"][0][1])


def test_a_target_that_is_predicted_already_is_said(client, image):
    first = [*client.attack(run=NAME, image=image, levels=0, steps=1)][-1][1]["before"][0][0]
    _, answer = [*client.attack(run=NAME, image=image, target=first)][-1]
    assert answer["outcome"] == "fooled before"
    assert [*client.attack(run=NAME, image=image, target="nowhere")][-1][0] == "error"


def test_an_attack_without_room_changes_nothing(client, image):
    _, answer = [*client.attack(run=NAME, image=image, levels=0, steps=3)][-1]
    assert (answer["outcome"], answer["largest"]) == ("failed", 0)
    assert answer["original"] == answer["adversarial"]


def test_an_attack_ends_with_its_client(client, image, monkeypatch):
    """Of the passes of an attack that somebody left, few are made."""
    session, passes = client.server.application.catalog.session(NAME), []
    forward = session.attacked.forward

    def slow(images):
        passes.append(len(images))
        time.sleep(0.02)
        return forward(images)

    monkeypatch.setattr(session.attacked, "forward", slow)
    events = client.attack(run=NAME, image=image, method="square", levels=0, steps=100)
    reports = [next(events) for _ in range(4)]
    assert [kind for kind, _ in reports] == ["progress"] * 4
    counts = [count for _, count in reports]
    assert counts == sorted(set(counts))
    events.close()
    wait_for(lambda: not client.server.application.stops)
    made = len(passes)
    time.sleep(0.3)
    assert len(passes) <= made + 1 < 1000  # of 2,500


def test_a_long_attack_ends(client, image, monkeypatch):
    monkeypatch.setattr(limits, "ATTACK_SECONDS", 0.3)
    kind, answer = [*client.attack(run=NAME, image=image, method="square", levels=0, steps=100)][-1]
    assert (kind, answer) == ("error", "the attack was stopped; it may take 0.3 seconds")


def test_an_attack_runs_hooks_of_no_other_method(session):
    """Grad-CAM hangs hooks on the network, and an attack runs beside it in a thread of its own."""
    question = AttackQuestion(run=NAME, image="val:0", levels=1, steps=2)
    ran, networks = [], (session.stored.model, session.explained)
    hook = lambda module, *_: ran.append(module)  # noqa: E731
    handles = [module.register_forward_hook(hook) for network in networks for module in network.modules()]
    try:
        image = session.val_image(0, session.stored.size)
        session.attack(image, question, threading.Event(), lambda passes: None)
        attacked = len(ran)
        session.explain(image, ExplainQuestion(run=NAME, image="val:0", method="cam"))
    finally:
        for handle in handles:
            handle.remove()
    assert attacked == 0 < len(ran)


def test_many_at_once_get_what_one_gets(client, image):
    """Grad-CAM hangs hooks on the network: without turns the maps of one would be those of another."""
    expected = {run: client.post("api/explain", run=run, image=image, method="cam") for run in (NAME, "other")}

    def ask(number):
        run = (NAME, "other")[number % 2]
        if number % 3 == 0:
            return len(client.post("api/predict", run=run, image=image)) == 5
        return client.post("api/explain", run=run, image=image, method="cam") == expected[run]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(40)))


def bomb(side: int) -> bytes:
    stream = io.BytesIO()
    Image.new("1", (side, side)).save(stream, "png")
    assert len(stream.getvalue()) < 100_000
    return stream.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"this is not an image", "image holiday.jpg is not an image file"),
        (lambda: b"", "is not an image file"),
        (lambda: b"\xff\xd8\xff\xe0" + b"\x00" * 40, "image"),
        (lambda: b"GIF89a", "image"),
        (lambda: bomb(12_000), "at most 100,000,000 pixels"),
        (lambda: bomb(20_000), "100,000,000"),
    ],
)
def test_what_is_no_image_gets_a_message_and_others_go_on(client, photo, content, message):
    answer = client.upload(content(), "/home/anna/holiday.jpg")
    assert message in answer["error"]
    assert "/home" not in answer["error"]
    assert "list" not in answer["error"]
    assert "image" in client.upload(photo.read_bytes(), "grüße 你好.jpg")


def test_the_oldest_uploads_are_forgotten(client, photo, image, monkeypatch):
    monkeypatch.setattr("scenelab.app.images.IMAGES", 1)
    other = client.upload(b"P6 1 1 255\n")  # no image; the first one stays
    assert "error" in other
    assert len(client.post("api/predict", run=NAME, image=image)) == 5
    stream = io.BytesIO()
    Image.new("RGB", (40, 40), "red").save(stream, "png")
    assert client.upload(stream.getvalue())["image"] != image
    assert "no longer in memory" in client.post("api/predict", run=NAME, image=image)["error"]
    assert client.upload(photo.read_bytes())["image"] == image


def test_feature_maps_filters_and_the_parts_that_excite_them(client, image):
    known = client.get(f"api/runs/{NAME}/network").json()
    for layer, channels, side in known["layers"]:
        answer = client.post("api/features", run=NAME, image=image, layer=layer)
        assert (answer["side"], answer["of"], len(answer["fields"])) == (side, channels, side)
        assert pixels(answer["atlas"]).shape == (-(-len(answer["channels"]) // 8) * side, 8 * side, 3)
        highs = [high for _, high in answer["ranges"]]
        assert highs == sorted(highs, reverse=True)
    parts = client.post("api/features", run=NAME, image=image, layer=known["layers"][0][0], channel=1)["patches"]
    assert len(parts) == 9
    assert "choose one of its" in client.post("api/features", run=NAME, image=image, layer="tea")["error"]
    filters = client.get(f"api/runs/{NAME}/filters").json()
    assert np.array(filters["weights"]).shape[1:] == (3, 4, 4)


def test_mistakes_are_those_of_the_evaluation(client, scenes):
    known = client.get(f"api/runs/{NAME}/mistakes").json()
    pairs = list(zip(known["labels"], known["guesses"], strict=True))
    assert len(pairs) == 36
    assert 100 * sum(label == guess for label, guess in pairs) / 36 == pytest.approx(known["top1"])
    assert "no evaluation yet" in client.get("api/runs/other/mistakes").json()["error"]
    assert "no evaluation yet" in client.get(f"api/compare?first={NAME}&second=other").json()["error"]
    same = client.get(f"api/compare?first={NAME}&second={NAME}").json()
    assert same["both"] == sum(label == guess for label, guess in pairs)
    assert (same["images"], same["difference"], same["disagreements"]) == (36, 0, [])


def change_digest(run: Run) -> None:
    path = run.results / "val.json"
    path.write_text(path.read_text().replace('"digest": "', '"digest": "0'))


@pytest.mark.parametrize(
    ("change", "message"),
    [(change_digest, "out of date"), (lambda run: (run.results / "val.json").unlink(), "no evaluation yet")],
    ids=["other images", "no evaluation"],
)
def test_only_mistakes_of_these_images_and_weights_are_shown(untrained, tmp_path, change, message):
    run = Run(shutil.copytree(untrained.folder, tmp_path / "run"))
    session = Catalog([run.folder]).session("run")
    assert session.mistakes()["split"] == "val"
    change(run)
    with pytest.raises(LabError, match=message):
        session.mistakes()


def test_a_network_is_read_again_when_training_has_written_another(untrained, scenes, tmp_path):
    run = make_untrained(tmp_path / "run", scenes)
    catalog = Catalog([tmp_path])
    first = catalog.session("run")
    assert catalog.session("run") is first
    other = make_untrained(tmp_path / "other", scenes, seed=1)
    shutil.copy(other.best, run.best)
    second = catalog.session("run")
    assert second is not first
    run.best.unlink()
    with pytest.raises(LabError, match="run has no network yet; it is saved after its first evaluation"):
        catalog.session("run")


def test_networks_in_memory_are_few(untrained, scenes, tmp_path, monkeypatch):
    monkeypatch.setattr("scenelab.app.catalog.NETWORKS", 2)
    for seed in range(3):
        make_untrained(tmp_path / str(seed), scenes, seed=seed)
    catalog = Catalog([tmp_path])
    sessions = [catalog.session(str(seed)) for seed in range(3)]
    assert catalog.session("2") is sessions[2]
    assert catalog.session("0") is not sessions[0]
