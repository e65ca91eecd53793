import pickle

import pytest
import torch

from scenelab.errors import LabError
from scenelab.models.registry import create_model
from scenelab.runs.checkpoint import load_checkpoint, save_checkpoint
from scenelab.runs.network import read_classifier, to_values
from scenelab.runs.provenance import environment
from scenelab.runs.run import Run


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "model_best.pth.tar"
    model = create_model("simplenet-small", num_classes=3)
    values = to_values(model, arch="simplenet-small", categories=("a", "b", "c"), size=64, epoch=2)
    save_checkpoint(path, values)
    return path, model


def test_a_classifier_comes_back_as_it_was(saved):
    path, model = saved
    stored = read_classifier(path)
    images = torch.rand(2, 3, 32, 32)
    assert torch.equal(stored.model(images), model.eval()(images))
    assert (stored.arch, stored.categories, stored.size, stored.epoch) == ("simplenet-small", ("a", "b", "c"), 64, 2)


def test_a_starter_kit_checkpoint_loads(tmp_path):
    """The handout's own main.py writes no categories, no size and, under DataParallel, longer names."""
    network = create_model("simplenet", num_classes=100).network
    weights = {f"module.{name}": value for name, value in network.state_dict().items()}
    path = tmp_path / "model_best.pth.tar"
    torch.save({"epoch": 90, "model_arch": "simplenet", "state_dict": weights, "best_acc1": torch.tensor(47.6)}, path)
    stored = read_classifier(path)
    assert len(stored.categories) == 100
    assert torch.equal(stored.model.network.fc.weight, network.fc.weight)


def test_another_architecture_is_explained(saved):
    path, _ = saved
    values = load_checkpoint(path)
    save_checkpoint(path, {**values, "model_arch": "simplenet"})
    with pytest.raises(LabError, match=r"not of model 'simplenet': features\.10\.bias is \(128,\), expected \(64,\)"):
        read_classifier(path)


def test_a_missing_layer_is_named(saved):
    path, _ = saved
    values = load_checkpoint(path)
    del values["state_dict"]["fc.bias"]
    save_checkpoint(path, values)
    with pytest.raises(LabError, match=r"is not of model 'simplenet-small': fc\.bias is missing from it"):
        read_classifier(path)


def test_an_unknown_architecture_is_explained(saved):
    path, _ = saved
    save_checkpoint(path, {**load_checkpoint(path), "model_arch": "resnet999"})
    with pytest.raises(LabError, match="holds a 'resnet999'; this version knows inception, plain"):
        read_classifier(path)


def test_a_missing_checkpoint(tmp_path):
    with pytest.raises(LabError, match="does not exist; train first, or check the path given to --resume"):
        load_checkpoint(tmp_path / "none.pth.tar")


@pytest.mark.parametrize("keep", [0, 10, 2000])
def test_a_truncated_checkpoint(saved, keep):
    path, _ = saved
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(LabError, match="is damaged and was not loaded"):
        load_checkpoint(path)


class _Bomb:
    def __reduce__(self):
        return print, ("boom",)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path, capsys):
    path = tmp_path / "evil.pth.tar"
    torch.save({"state_dict": _Bomb()}, path)
    with pytest.raises(LabError, match="holds more than tensors and plain values and was not loaded"):
        load_checkpoint(path)
    path.write_bytes(pickle.dumps(_Bomb()))
    with pytest.raises(LabError, match="was not loaded"):
        load_checkpoint(path)
    assert "boom" not in capsys.readouterr().out


def test_a_file_without_weights_is_refused(tmp_path):
    path = tmp_path / "other.pth.tar"
    torch.save([1, 2], path)
    with pytest.raises(LabError, match="has no 'state_dict'"):
        load_checkpoint(path)


def test_a_folder_that_is_no_run(tmp_path):
    with pytest.raises(LabError, match="is not a run folder"):
        Run(tmp_path).read_config()


def test_the_environment_says_what_it_ran_on():
    values = environment().plain()
    assert torch.__version__.startswith(values["versions"]["torch"])
    assert values["cores"] >= 1
    assert values["processor"]
