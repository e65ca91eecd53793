"""scenelab export: each format has the logits of the network for any number of images; a wrong file is not kept."""

import json

import pytest
import torch

from conftest import make_untrained
from runs_compared import QUIET, tiny
from scenelab.cli import main
from scenelab.errors import LabError
from scenelab.evaluation.predict import load_images
from scenelab.runs.export import WRITERS, export
from scenelab.runs.loading import open_run
from scenelab.runs.run import Run
from scenelab.training.session import start_run

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def opened(untrained):
    return open_run(untrained.folder)


@pytest.fixture(scope="module")
def images(opened):
    return load_images(opened.dataset, list(range(20)), opened.stored.size)


@pytest.mark.parametrize("form", WRITERS)
def test_the_logits_of_the_file_are_those_of_the_network(untrained, opened, images, form, capsys):
    assert main.run(["export", str(untrained.folder), "--format", form, "--limit", "20", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == 20
    assert result["same_first_guess"] == 1
    assert result["largest_difference"] < 1e-4
    assert result == json.loads((untrained.results / f"export-{form}.json").read_text())
    path = untrained.folder / "export" / f"model.{form}"
    assert path.stat().st_size == result["bytes"]
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


def test_onnx_read_with_onnxruntime_alone(opened, images, tmp_path):
    """Labels come from the metadata; pixels are in [0, 1], batches of any size."""
    path = tmp_path / "model.onnx"
    export(opened.stored, images, "onnx", path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["labels"]) == list(opened.stored.categories)
    assert metadata["size"] == "32"
    (input,) = session.get_inputs()
    assert input.shape[1:] == [3, 32, 32]
    for count in (1, 7):
        (logits,) = session.run(None, {input.name: images[:count].contiguous().numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(logits), opened.stored.model(images[:count]), atol=1e-4, rtol=0)
    assert b"/scenelab/" not in path.read_bytes()  # nothing of the machine that wrote it


def test_pt2_and_safetensors_read_without_scenelab(opened, images, tmp_path):
    from safetensors import safe_open

    export(opened.stored, images, "pt2", tmp_path / "model.pt2")
    extra = {"scenelab.json": ""}
    program = torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    with torch.no_grad():
        torch.testing.assert_close(program.module()(images[:5]), opened.stored.model(images[:5]))
    assert json.loads(json.loads(extra["scenelab.json"])["labels"]) == list(opened.stored.categories)
    export(opened.stored, images, "safetensors", tmp_path / "model.safetensors")
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        metadata = file.metadata()
        assert set(file.keys()) == set(opened.stored.model.network.state_dict())
    mean = torch.tensor(json.loads(metadata["mean"]))
    torch.testing.assert_close(mean, opened.stored.model.normalize.mean.flatten())
    assert metadata["architecture"] == "residual-small"


@pytest.mark.parametrize("model", ["simplenet", "vit", "inception"])
def test_other_networks_are_exported(scenes, tmp_path, model):
    run = make_untrained(tmp_path / model, scenes, model=model)
    assert main.run(["export", str(run.folder), "--limit", "3"]) == 0


@pytest.fixture(scope="module")
def trained(scenes, tmp_path_factory):
    """A network whose batch statistics are those of images, as after training."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    start_run(folder, scenes, tiny(model="residual-small", epochs=4), display=QUIET)
    return folder


def test_int8_is_smaller_and_mostly_agrees(trained, capsys):
    assert main.run(["export", str(trained), "--format", "int8", "--limit", "36", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    path = trained / "export" / "model.int8.onnx"
    assert path.stat().st_size == result["bytes"] < 0.4 * Run(trained).best.stat().st_size
    assert result["same_first_guess"] >= 0.9
    assert 0 < result["largest_difference"] < 0.1 * result["largest_logit"]
    assert abs(result["top1_of_file"] - result["top1_of_network"]) <= 10
    assert result["speedup_range"][0] <= result["speedup"] <= result["speedup_range"][1]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert session.get_modelmeta().custom_metadata_map["size"] == "32"
    kinds = {node.op_type for node in onnx.load(str(path)).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds


def test_an_int8_file_that_disagrees_is_not_kept(opened, images, tmp_path, monkeypatch):
    def quantize(source, path, calibration):
        path.write_bytes(b"wrong")
        return lambda batch: -opened.stored.model(batch)

    monkeypatch.setattr("scenelab.runs.export.quantize", quantize)
    with pytest.raises(LabError, match="^int8 was not written: it agrees with the network on .* use onnx$"):
        export(opened.stored, images, "int8", tmp_path / "model.onnx", calibration=images)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("offset", "difference"), [(0.01, "0.01"), (float("nan"), "nan")])
def test_a_file_with_other_logits_is_not_kept(opened, images, tmp_path, monkeypatch, offset, difference):
    def write_wrong(stored, path):
        path.write_bytes(b"wrong")
        return lambda batch: stored.model(batch) + (offset if len(batch) > 1 else 0)

    monkeypatch.setitem(WRITERS, "onnx", write_wrong)
    with pytest.raises(LabError, match=f"onnx was not written: its logits differ .* by up to {difference}"):
        export(opened.stored, images, "onnx", tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_errors_name_the_fix(untrained, opened, images, tmp_path, capsys):
    assert main.run(["export", str(untrained.folder), "--limit", "0"]) == 1
    assert "--limit is 0" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main.run(["export", str(untrained.folder), "--out", str(tmp_path / "file" / "model.onnx")]) == 1
    assert "choose another with --out" in capsys.readouterr().err
    with pytest.raises(LabError, match="images is empty"):
        export(opened.stored, images[:0], "safetensors", tmp_path / "model.safetensors")
