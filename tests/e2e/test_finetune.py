"""Fine-tuning: what is copied, what learns when, when training stops, and cross-validation."""

import dataclasses
import json
import shutil
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from runs_compared import QUIET, StopAfter, read_rows, read_weights, tiny
from scenelab.cli import main
from scenelab.data.augment_config import Augment
from scenelab.data.loader import TrainLoader
from scenelab.data.splits import open_dataset, open_split
from scenelab.errors import Interrupted, LabError
from scenelab.models.registry import create_model
from scenelab.progress import TrainProgress
from scenelab.runs.checkpoint import load_checkpoint, save_checkpoint
from scenelab.runs.config import FinetuneConfig, TrainConfig
from scenelab.runs.network import read_classifier
from scenelab.runs.run import Run
from scenelab.training.cross_validation import cross_validate, finetune_config, on_all_images
from scenelab.training.finetune import last_layer, learning_rates
from scenelab.training.session import resume_run, start_run
from scenelab_scenes import write_scenes


@pytest.fixture(scope="module")
def source(scenes, tmp_path_factory):
    """A network with batch normalization, trained for an epoch on the 12 kinds of scenes."""
    folder = tmp_path_factory.mktemp("source") / "run"
    start_run(folder, scenes, tiny(model="residual-small", epochs=1), display=QUIET)
    return folder


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder of three classes, one of which is small."""
    scenes = tmp_path_factory.mktemp("own") / "scenes"
    write_scenes(scenes, train_per_class=12, val_per_class=1, test=1)
    listing = open_split(scenes, "train")
    folder = scenes.parent / "photos"
    for path, label in zip(listing.paths, listing.labels, strict=True):
        if label < 3 and (label or len(list(folder.glob("0/*"))) < 4):
            (folder / str(label)).mkdir(parents=True, exist_ok=True)
            shutil.copy(listing.root / path, folder / str(label))
    return folder


def tuned(source, **changes) -> TrainConfig:
    finetune = FinetuneConfig(network=str(source), head_epochs=changes.pop("head_epochs", 1))
    return tiny(model="residual-small", batch_size=8, finetune=finetune, **changes)


def learned(run, source) -> set[str]:
    """The names of weights and statistics that differ from those of the source."""
    before, after = read_weights(Run(source).best), read_weights(Run(run).best)
    return {name for name in before if before[name].shape != after[name].shape or not before[name].equal(after[name])}


def test_at_first_only_the_last_layer_learns(source, own, tmp_path):
    start_run(tmp_path / "head", own, tuned(source, epochs=1), display=QUIET)
    assert learned(tmp_path / "head", source) == {"fc.weight", "fc.bias"}
    start_run(tmp_path / "all", own, tuned(source, epochs=2), display=QUIET)
    assert learned(tmp_path / "all", source) == read_weights(Run(source).best).keys()


def test_a_stopped_run_ends_as_if_it_had_not_been_stopped_also_without_its_source(source, own, tmp_path):
    """The source has a normalization of its own, which the run keeps."""
    values = load_checkpoint(Run(source).best) | {"mean": [0.25, 0.5, 0.75]}
    save_checkpoint(tmp_path / "source.pth.tar", values)
    config = tuned(tmp_path / "source.pth.tar", epochs=3, balanced=True)
    start_run(tmp_path / "whole", own, config, display=QUIET)
    with pytest.raises(Interrupted):
        start_run(tmp_path / "stopped", own, config, display=StopAfter(2))
    (tmp_path / "source.pth.tar").unlink()
    resume_run(tmp_path / "stopped", display=QUIET)
    whole, stopped = (load_checkpoint(Run(tmp_path / name).best) for name in ("whole", "stopped"))
    assert whole["mean"] == stopped["mean"] == [0.25, 0.5, 0.75]
    assert all(value.equal(stopped["state_dict"][name]) for name, value in whole["state_dict"].items())


def test_another_architecture_is_refused(source, own, tmp_path):
    config = dataclasses.replace(tuned(source), model="residual")
    with pytest.raises(LabError, match="^model is 'residual', but the network .* is a 'residual-small'; "):
        start_run(tmp_path / "run", own, config, display=QUIET)


def test_rates_grow_geometrically_to_the_last_layer():
    network = create_model("residual-small", num_classes=3).network
    rates = list(learning_rates(network, 0.01).values())
    assert len(rates) == len(list(network.parameters()))
    assert (rates[0], rates[-1]) == (pytest.approx(0.01), 1.0)
    assert rates == sorted(rates)
    distinct = sorted(set(rates))
    steps = {round(after / before, 6) for before, after in pairwise(distinct)}
    assert len(steps) == 1


def test_the_last_layer_is_the_one_that_gives_the_logits():
    assert last_layer(create_model("residual", num_classes=7).network).out_features == 7
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Sequential(nn.Flatten(), nn.Linear(4, 5)), nn.Softmax(dim=1))
    assert last_layer(network).out_features == 5


def test_balanced_epochs_have_all_classes_equally_often(own, tmp_path):
    dataset = open_dataset(own, tmp_path, "train", 32)
    settings = {"batch_size": 8, "seed": 0, "augment": Augment(), "device": torch.device("cpu")}
    shares = []
    for balanced in (False, True):
        loader = TrainLoader(dataset, balanced=balanced, **settings)
        drawn = [loader.indices(step) for step in range(100 * loader.steps_per_epoch)]
        labels = dataset.labels[torch.from_numpy(np.concatenate(drawn))]
        assert len(labels) == 100 * len(dataset)
        shares.append(labels.bincount() / len(labels))
    assert torch.equal(shares[0], dataset.labels.bincount() / len(dataset))
    torch.testing.assert_close(shares[1], torch.full((3,), 1 / 3), rtol=0.1, atol=0)


def test_training_stops_after_evaluations_without_a_better_accuracy(scenes, tmp_path, monkeypatch):
    accuracies = iter([10.0, 30.0, 30.0, 20.0, 90.0])
    monkeypatch.setattr(
        "scenelab.training.trainer.top_k", lambda logits, labels, k: next(accuracies) if k == 1 else 0.0
    )
    result = start_run(tmp_path / "run", scenes, tiny(epochs=9, patience=2, keep="best"), display=QUIET)
    assert len(read_rows(tmp_path / "run", "val")) == 4
    assert result.stopped == "no better top-1 accuracy in 2 evaluations, at epoch 4"
    assert read_classifier(Run(tmp_path / "run").best).epoch == 2


def test_patience_needs_the_best_weights():
    with pytest.raises(LabError, match="^keep: got 'last'; expected best with patience$"):
        tiny(patience=2, keep="last")


def test_each_image_is_judged_by_a_network_that_has_not_seen_it(source, own, tmp_path):
    listing = open_split(own, "train")
    stored = read_classifier(Run(source).best)
    config = finetune_config(str(source), stored, listing, epochs=1)
    assert config.balanced
    assert (config.model, config.eval_size, config.schedule.sizes) == ("residual-small", 32, ((0.0, 32),))
    config = dataclasses.replace(config, threads=1)
    result = cross_validate(tmp_path / "out", own, config, 3, TrainProgress)
    assert result.images == len(listing)
    assert result.top1 == 100 * result.correct / len(listing)
    assert result.top1_interval[0] < result.top1 < result.top1_interval[1] or result.correct in (0, len(listing))
    assert result.epochs == (1, 1, 1)
    assert json.loads((tmp_path / "out/results/cross_validation.json").read_text())["folds"] == 3
    final = on_all_images(config, result)
    assert (final.holdout, final.patience, final.keep, final.epochs) == (0.0, 0, "last", 1.0)
    digests = {Run(tmp_path / f"out/folds/{fold}").read_config().train.fold for fold in (1, 2, 3)}
    assert digests == {0, 1, 2}


def test_the_command_validates_then_trains_on_all_images_and_continues(source, own, tmp_path, capsys):
    options = ["--out", str(tmp_path / "run"), "--network", str(source), "--epochs", "1", "--folds", "2"]
    command = ["finetune", str(own), *options]
    assert main.run(command) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        f"fine-tuning {source} (residual-small) on 25 images of 3 classes, 3 (0) to 11 per class, "
    )
    assert "2-fold cross-validation, at most 1 epochs per network, about " in printed
    assert "2-fold cross-validation: " in printed
    assert f"next: scenelab evaluate {tmp_path / 'run'}" in printed
    assert main.run(command) == 0  # repeated: nothing is trained again
    assert "fine-tuning" not in capsys.readouterr().out
    assert main.run([*command[:-1], "1"]) == 1
    assert "folds is 1; expected 0 or at least 2" in capsys.readouterr().err


def test_finished_folds_of_other_images_or_options_are_refused(source, own, tmp_path, capsys):
    data, out = shutil.copytree(own, tmp_path / "photos"), tmp_path / "run"
    command = ["finetune", str(data), "--out", str(out), "--network", str(source), "--epochs", "1", "--folds", "2"]
    assert main.run(command) == 0
    assert "a little too high" in capsys.readouterr().out
    assert main.run([*command[:-1], "3"]) == 1
    assert "was begun with other training images than those of" in capsys.readouterr().err
    assert main.run([*command[:7], "2", *command[8:]]) == 1
    assert "was begun with another --network or --epochs; name another --out" in capsys.readouterr().err
    shutil.copy(next(data.glob("1/*")), data / "1" / "new.jpg")
    assert main.run(command) == 1
    assert "was begun with other training images than those of" in capsys.readouterr().err


def test_a_missing_val_folder_is_found_before_the_folds_are_trained(source, own, tmp_path, capsys):
    shutil.copytree(own, tmp_path / "photos" / "train")
    command = ["finetune", str(tmp_path / "photos"), "--out", str(tmp_path / "run"), "--network", str(source)]
    assert main.run([*command, "--folds", "2"]) == 1
    assert "has a train folder but no val folder" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_network_that_was_trained_on_the_images_is_refused(source, scenes, tmp_path, capsys):
    assert main.run(["finetune", str(scenes), "--out", str(tmp_path / "run"), "--network", str(source)]) == 1
    assert "so no image is left to judge it; name another network" in capsys.readouterr().err
