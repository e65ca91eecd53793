"""scenelab export: each format says what the network says, for any number of images, and nothing wrong is kept."""

import json

import pytest
import torch

from conftest import make_untrained
from scenelab.cli import main
from scenelab.errors import LabError
from scenelab.evaluation.saliency_tests import load_images
from scenelab.runs.export import export as module
from scenelab.runs.export.export import export
from scenelab.runs.export.formats import WRITERS
from scenelab.runs.loading import open_run

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def opened(untrained):
    return open_run(untrained.folder)


@pytest.fixture(scope="module")
def images(opened):
    return load_images(opened.packed, list(range(20)), opened.stored.size)


@pytest.mark.parametrize("form", WRITERS)
def test_the_file_says_what_the_network_says(untrained, opened, images, form, capsys):
    assert main.run(["export", str(untrained.folder), "--format", form, "--limit", "20", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == 20
    assert found["same_first_guess"] == 1
    assert found["largest_difference"] < 1e-4
    assert found == json.loads((untrained.results / f"export-{form}.json").read_text())
    path = untrained.folder / "export" / f"model.{form}"
    assert path.stat().st_size == found["bytes"]
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


def test_onnx_read_by_a_stranger(opened, images, tmp_path):
    """With onnxruntime alone: labels from the metadata, pixels in [0, 1], batches of any size."""
    import onnxruntime

    path = tmp_path / "model.onnx"
    export(opened.stored, images, "onnx", path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    assert json.loads(about["labels"]) == list(opened.stored.categories)
    assert about["size"] == "32"
    (entry,) = session.get_inputs()
    assert entry.shape[1:] == [3, 32, 32]
    for count in (1, 7):
        (logits,) = session.run(None, {entry.name: images[:count].contiguous().numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), opened.stored.model(images[:count]), atol=1e-4, rtol=0)
    assert b"/scenelab/" not in path.read_bytes()  # nothing of the machine that wrote it


def test_pt2_and_safetensors_read_by_a_stranger(opened, images, tmp_path):
    from safetensors import safe_open

    export(opened.stored, images, "pt2", tmp_path / "model.pt2")
    extra = {"scenelab.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images[:5]), opened.stored.model(images[:5]))
    assert json.loads(json.loads(extra["scenelab.json"])["labels"]) == list(opened.stored.categories)
    export(opened.stored, images, "safetensors", tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        about = file.metadata()
        assert set(file.keys()) == set(opened.stored.model.network.state_dict())
    mean = torch.tensor(json.loads(about["mean"]))
    torch.testing.assert_close(mean, opened.stored.model.normalize.mean.flatten())
    assert about["architecture"] == "residual-small"


@pytest.mark.parametrize("model", ["simplenet", "vit", "inception"])
def test_other_networks_go_as_well(scenes, tmp_path, model):
    run = make_untrained(tmp_path / model, scenes, model=model)
    assert main.run(["export", str(run.folder), "--limit", "3"]) == 0


def test_a_file_that_says_something_else_is_not_written(opened, images, tmp_path, monkeypatch):
    def wrong(stored, path):
        path.write_bytes(b"wrong")
        return lambda part: stored.model(part) + 0.01 * (part.shape[0] > 1)

    monkeypatch.setitem(module.WRITERS, "onnx", wrong)
    with pytest.raises(LabError, match=r"onnx was not written: its logits differ from the network's by up to 0.01"):
        export(opened.stored, images, "onnx", tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_with_nan_is_not_written(opened, images, tmp_path, monkeypatch):
    def broken(stored, path):
        path.write_bytes(b"broken")
        return lambda part: stored.model(part) * float("nan")

    monkeypatch.setitem(module.WRITERS, "onnx", broken)
    with pytest.raises(LabError, match="was not written"):
        export(opened.stored, images, "onnx", tmp_path / "model.onnx")


def test_errors(untrained, opened, images, tmp_path, capsys):
    assert main.run(["export", str(untrained.folder), "--limit", "0"]) == 1
    assert "--limit is 0" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main.run(["export", str(untrained.folder), "--out", str(tmp_path / "file" / "model.onnx")]) == 1
    assert "choose another with --out" in capsys.readouterr().err
    with pytest.raises(LabError, match="no image to check"):
        export(opened.stored, images[:0], "safetensors", tmp_path / "model.safetensors")
