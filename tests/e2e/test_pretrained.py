"""The network that ships answers without a run folder; here a small one stands in for it."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

import scenelab
from scenelab.cli import main
from scenelab.cli.demo import show_pretrained
from scenelab.course.submission import MAX_MODEL_BYTES
from scenelab.errors import LabError
from scenelab.runs import pretrained
from scenelab.runs.export import export
from scenelab.runs.loading import open_network
from scenelab.runs.network import read_classifier
from shipping import ship

INSTALLED = Path(scenelab.__file__).parent / "pretrained"
KEPT_RUN = Path(__file__).parents[1] / "data" / "run-0.1"


@pytest.fixture
def shipped(tmp_path, monkeypatch, scenes) -> Path:
    """Ship the network of a kept run as `miniplaces`; return an image file in the current folder."""
    photo = tmp_path / "photo.jpg"
    shutil.copy(next((scenes / "images" / "val").glob("*.jpg")), photo)
    ship(monkeypatch, tmp_path / "package", {"miniplaces": KEPT_RUN}, photo)
    monkeypatch.chdir(tmp_path)
    return photo


def test_predict_answers_with_the_shipped_network_as_with_its_run(shipped, capsys):
    assert main.run(["predict", "photo.jpg", "--json"]) == 0
    ours = json.loads(capsys.readouterr().out)
    assert main.run(["predict", str(KEPT_RUN), "photo.jpg", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ours
    assert main.run(["predict", "miniplaces", "photo.jpg", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == ours


def test_maps_attacks_and_exports_are_written_to_the_current_folder(shipped, tmp_path, capsys):
    assert main.run(["explain", "--images", "photo.jpg", "--methods", "gradient"]) == 0
    assert main.run(["attack", "--images", "photo.jpg", "--steps", "1"]) == 0
    assert main.run(["export", "--format", "safetensors"]) == 0
    assert "1 example image" in capsys.readouterr().out
    results = tmp_path / "scenelab-results"
    assert (results / "miniplaces" / "attention-files" / "attention.html").exists()
    assert (results / "miniplaces" / "attack" / "attack.json").exists()
    assert (results / "miniplaces" / "export-safetensors.json").exists()
    # What was exported is again a network for every command.
    assert main.run(["predict", str(results / "miniplaces" / "export" / "model.safetensors"), "photo.jpg"]) == 0
    assert sorted(path.name for path in (shipped.parent / "package" / "miniplaces").iterdir()) == [
        "config.json",
        "model.safetensors",
    ]


def test_a_folder_of_images_is_judged_by_the_shipped_network(shipped, scenes, tmp_path, capsys):
    assert main.run(["explain", "--data", str(scenes), "--limit", "1", "--methods", "gradient"]) == 0
    assert "miniplaces" in capsys.readouterr().out
    assert main.run(["explain"]) == 1
    assert "ships without labeled images; name a folder with --data" in capsys.readouterr().err


def test_the_explorer_opens_without_a_run_folder(shipped, monkeypatch, capsys):
    monkeypatch.setattr("scenelab.app.server.Server.run", lambda self: self.listener.close())
    assert main.run(["app", "--port", "0"]) == 0
    assert "/#view=predict   Ctrl-C stops" in capsys.readouterr().out
    monkeypatch.setattr(pretrained, "FOLDER", shipped)
    assert main.run(["app", "--port", "0"]) == 1
    assert "runs is empty, and no network is installed; name a run folder" in capsys.readouterr().err


def test_a_run_folder_goes_before_a_shipped_network_of_its_name(shipped, tmp_path):
    assert pretrained.is_pretrained(pretrained.find_run(None))
    (tmp_path / "miniplaces" / "images").mkdir(parents=True)
    assert pretrained.is_pretrained(pretrained.find_run(Path("miniplaces")))  # a folder of images is no run
    shutil.copytree(KEPT_RUN, tmp_path / "miniplaces", dirs_exist_ok=True)
    run = pretrained.find_run(Path("miniplaces"))
    assert not pretrained.is_pretrained(run)
    assert run.best == Path("miniplaces/model_best.pth.tar")


def test_a_shipped_network_uses_all_cores(shipped):
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        open_network(None)
        assert torch.get_num_threads() == threads + 1  # not those of the machine that trained it
    finally:
        torch.set_num_threads(threads)


def test_a_missing_network_is_named(shipped, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(pretrained, "FOLDER", tmp_path / "empty")
    with pytest.raises(LabError, match="network miniplaces is missing from this installation"):
        pretrained.find_run(None)
    assert main.run(["predict", "miniplces", "photo.jpg"]) == 1
    assert "run folder miniplces does not exist" in capsys.readouterr().err


def test_what_stands_first_is_a_network_unless_it_has_the_suffix_of_an_image(shipped, tmp_path, capsys):
    shutil.copy(KEPT_RUN / "model_best.pth.tar", tmp_path / "weights.v2")
    assert main.run(["predict", "weights.v2", "photo.jpg"]) == 0
    assert main.run(["predict", "run-0.5", "photo.jpg"]) == 1
    assert "run folder run-0.5 does not exist" in capsys.readouterr().err
    assert main.run(["predict", "no.JPEG"]) == 1
    assert "no.JPEG" in capsys.readouterr().err


def test_half_precision_is_kept_and_costs_no_digit(tmp_path):
    stored = read_classifier(KEPT_RUN / "model_best.pth.tar")
    images = torch.rand(2, 3, stored.size, stored.size)
    with torch.no_grad():
        for parameter in stored.model.parameters():
            parameter.mul_(1.0001)  # no longer float16 values, as the weights of this run are
    full = export(stored, images, "safetensors", tmp_path / "full.safetensors")
    with torch.no_grad():
        for parameter in stored.model.parameters():
            parameter.copy_(parameter.half())
    half = export(stored, images, "safetensors", tmp_path / "half.safetensors")
    assert half["largest_difference"] == 0
    assert half["bytes"] < 0.6 * full["bytes"]
    reloaded = read_classifier(tmp_path / "half.safetensors")
    assert torch.equal(reloaded.model(images), stored.model(images))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is refused"), (b"\xff" * 100, "is refused"), (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "state_dict|fc")],
)
def test_damaged_safetensors_files_are_refused_in_one_line(tmp_path, content, message):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(LabError, match=message) as error:
        read_classifier(path)
    assert "\n" not in str(error.value)


def test_a_photo_of_any_kind_is_predicted(shipped, tmp_path, capsys):
    Image.new("RGBA", (300, 20), (9, 9, 9, 9)).save(tmp_path / "flat.png")
    assert main.run(["predict", "flat.png"]) == 0
    assert "%" in capsys.readouterr().out


def test_the_network_that_ships_is_small_and_knows_most_of_its_example_photos(monkeypatch, capsys):
    monkeypatch.setattr(pretrained, "FOLDER", INSTALLED)
    for name in pretrained.list_pretrained():
        run = pretrained.open_pretrained(name)
        assert run.best.stat().st_size <= MAX_MODEL_BYTES
        assert run.read_config().data == "miniplaces"
        assert "## Terms" in (run.folder / "README.md").read_text("utf-8")
    classify = scenelab.load()
    guesses = {path.stem: classify(path, top=1)[0][0] for path in pretrained.example_images()}
    assert sum(guess.startswith(stem) for stem, guess in guesses.items()) >= 7, guesses
    show_pretrained("bin/")
    text = capsys.readouterr().out
    assert all(stem in text for stem in guesses)
    assert "Your own photo: bin/scenelab predict PHOTO" in text


def test_the_demo_is_silent_where_no_network_is_installed(capsys):
    show_pretrained("")
    assert not capsys.readouterr().out
