import dataclasses
import json
import os
import shutil
import signal

import numpy as np
import pytest
import torch
from torch import nn

from runs_compared import StopAfter, assert_same_run
from scenelab.data.augment import Augment
from scenelab.data.splits import open_dataset
from scenelab.errors import Interrupted, LabError
from scenelab.evaluation.metrics import predict_logits
from scenelab.models.flops import count_flops
from scenelab.models.registry import create_model
from scenelab.progress import LogProgress
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig
from scenelab.runs.network import as_stored, read_classifier, to_values
from scenelab.runs.run import Run
from scenelab.training.batches import TrainingBatches, seed_for
from scenelab.training.metrics_logger import MetricsLogger
from scenelab.training.session import resume_run, start_run
from scenelab.training.state import ema_with_warmup, initialize
from scenelab.training.trainer import Trainer, pick_device

CPU = torch.device("cpu")
QUIET = LogProgress(every_steps=10**9)


@pytest.fixture(scope="module")
def dataset(scenes):
    return open_dataset(scenes, None, "train", 32)


def tiny(**changes) -> TrainConfig:
    base = TrainConfig(
        model="simplenet-small", epochs=2, batch_size=16, stored_size=32, eval_size=32, threads=2, log_every=1,
        schedule=ScheduleConfig(sizes=((0.0, 32),)), augment=Augment(flip=True), optimizer=OptimizerConfig(lr=0.01),
    )  # fmt: skip
    return dataclasses.replace(base, **changes)


def test_each_epoch_sees_each_image_once_in_a_new_order(dataset):
    batches = TrainingBatches(dataset, tiny(batch_size=7), CPU)
    per_epoch = batches.steps_per_epoch
    epochs = [np.concatenate([batches.indices(e * per_epoch + s) for s in range(per_epoch)]) for e in range(2)]
    for order in epochs:
        assert sorted(order) == list(range(len(dataset)))
    assert not np.array_equal(*epochs)


def test_a_batch_depends_on_the_step_alone(dataset):
    config = tiny(augment=Augment(flip=True, degrees=15, area=(0.25, 1.0), gain=0.15, erase=0.5, mixup=0.4, cutmix=1.0))
    straight = TrainingBatches(dataset, config, CPU)
    for step in range(5):
        straight.batch(step, 32)
    images, labels = straight.batch(5, 32)
    again, same_labels = TrainingBatches(dataset, config, CPU).batch(5, 32)
    assert torch.equal(images, again)
    assert torch.equal(labels, same_labels)
    other, _ = TrainingBatches(dataset, dataclasses.replace(config, seed=1), CPU).batch(5, 32)
    assert not torch.equal(images, other)


def test_streams_and_steps_have_their_own_seeds():
    seeds = {seed_for(seed, stream, step) for seed in range(3) for stream in range(3) for step in range(50)}
    assert len(seeds) == 3 * 3 * 50


def test_the_loop_is_plain_sgd(dataset, tmp_path):
    """Three steps against a loop written out with torch alone, bit for bit."""
    config = tiny(epochs=1, clip_norm=0.5, label_smoothing=0.1, batch_size=8)
    state, other = (initialize(config, num_classes=len(dataset.categories), device=CPU) for _ in range(2))
    twin, batches = other.model, TrainingBatches(dataset, config, CPU)
    trainer = Trainer(
        run=Run(tmp_path), config=config, state=state, batches=batches, val=None, logger=MetricsLogger(), display=QUIET
    )
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    total = trainer.batches.total_steps
    for step in range(3):
        trainer.step()
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + np.cos(np.pi * step / total)) / 2
        images, labels = TrainingBatches(dataset, config, CPU).batch(step, 32)
        loss = nn.functional.cross_entropy(twin(images), labels, label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(twin.parameters(), 0.5)
        optimizer.step()
    for ours, plain in zip(trainer.state.model.parameters(), twin.parameters(), strict=True):
        assert torch.equal(ours, plain)


def test_training_learns(scenes, tmp_path):
    config = tiny(epochs=12, optimizer=OptimizerConfig(name="muon", lr=0.02), augment=Augment())
    start_run(tmp_path / "run", scenes, config, display=QUIET)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    train = [row["top1"] for row in rows if row.get("split") == "train"]
    assert train[0] < 40
    assert train[-1] > 80


def test_muon_adamw_ema_and_growing_pictures_run_together(scenes, tmp_path):
    config = tiny(
        epochs=2, optimizer=OptimizerConfig(name="muon", lr=0.02, decay_vectors=False), ema=0.9,
        schedule=ScheduleConfig(warmup_epochs=0.5, sizes=((0.0, 16), (0.5, 32))),
        augment=Augment(flip=True, mixup=0.2, cutmix=1.0),
    )  # fmt: skip
    accounting = start_run(tmp_path / "run", scenes, config, display=QUIET)
    assert accounting["images_seen"] == 2 * 72
    best = load_checkpoint(tmp_path / "run" / "model_best.pth.tar")
    last = load_checkpoint(tmp_path / "run" / "checkpoint.pth.tar")
    name = next(iter(best["state_dict"]))
    assert not torch.equal(best["state_dict"][name], last["state_dict"][name])
    assert torch.equal(best["state_dict"][name], last["average"][f"module.network.{name}"])


def test_ema_by_hand():
    average, update = torch.tensor([1.0]), ema_with_warmup(0.5)
    update((average,), (torch.tensor([2.0]),), torch.tensor(1))
    decay = 2 / 11
    assert average.item() == pytest.approx(decay * 1 + (1 - decay) * 2)
    update((average,), (torch.tensor([0.0]),), torch.tensor(1000))
    assert average.item() == pytest.approx((decay + (1 - decay) * 2) / 2)


def test_divergence_stops_with_advice_and_keeps_the_last_checkpoint(scenes, tmp_path):
    config = tiny(epochs=50, optimizer=OptimizerConfig(lr=1e4))
    with pytest.raises(LabError, match=r"training diverged at step \d+: .*--lr 3\.33e\+03.*--clip-norm 1.*is kept in"):
        start_run(tmp_path / "run", scenes, config, display=QUIET)
    for name in ("checkpoint.pth.tar", "model_best.pth.tar"):
        if (tmp_path / "run" / name).exists():
            weights = load_checkpoint(tmp_path / "run" / name)["state_dict"]
            assert all(value.isfinite().all() for value in weights.values())


@pytest.mark.parametrize("stop_at", [1, 5, 7])
def test_ctrl_c_then_resume_ends_as_the_uninterrupted_run(scenes, tmp_path, stop_at):
    config = tiny(ema=0.9, augment=Augment(flip=True, area=(0.5, 1.0)))
    start_run(tmp_path / "whole", scenes, config, display=QUIET)
    with pytest.raises(Interrupted, match=f"stopped at step {stop_at} of 10"):
        start_run(tmp_path / "cut", scenes, config, display=StopAfter(stop_at))
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    resume_run(tmp_path / "cut", display=QUIET)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_finished_run_can_be_resumed_and_stays_as_it_is(scenes, tmp_path):
    start_run(tmp_path / "run", scenes, tiny(epochs=1), display=QUIET)
    before = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    resume_run(tmp_path / "run", display=QUIET)
    assert (tmp_path / "run" / "metrics.jsonl").read_bytes() == before


def test_resuming_on_other_images_is_refused(scenes, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(scenes, data)
    start_run(tmp_path / "run", data, tiny(epochs=1), display=QUIET)
    lines = (data / "train.txt").read_text().splitlines(keepends=True)
    (data / "train.txt").write_text("".join(lines[1:]))
    with pytest.raises(LabError, match="the training images in .* changed since .* began; start a new run"):
        resume_run(tmp_path / "run", display=QUIET)


def test_a_run_is_never_overwritten(scenes, tmp_path):
    start_run(tmp_path / "run", scenes, tiny(epochs=1), display=QUIET)
    with pytest.raises(LabError, match="holds a run already; resume it with 'scenelab resume"):
        start_run(tmp_path / "run", scenes, tiny(epochs=1), display=QUIET)


def test_an_unwritable_run_folder_is_refused_before_anything_is_done(scenes, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabError, match=r"cannot write run folder .*; choose a writable one"):
        start_run(tmp_path / "file" / "run", scenes, tiny(), display=QUIET)


def test_keeping_the_best_epoch(scenes, tmp_path):
    start_run(tmp_path / "run", scenes, tiny(epochs=4, keep="best"), display=QUIET)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    val = {row["epoch"]: row["top1"] for row in rows if row.get("split") == "val"}
    best = load_checkpoint(tmp_path / "run" / "model_best.pth.tar")
    assert best["best_acc1"] == max(val.values())
    assert best["epoch"] == min(epoch for epoch, top1 in val.items() if top1 == max(val.values()))


def test_weights_kept_in_half_are_those_that_are_evaluated(scenes, tmp_path):
    """A file of half the bytes, and accuracy and loss in the metrics are what the reloaded file has."""
    for half in (False, True):
        start_run(tmp_path / str(half), scenes, tiny(epochs=2, half=half, ema=0.9), display=QUIET)
    whole, small = (load_checkpoint(tmp_path / name / "model_best.pth.tar")["state_dict"] for name in ("False", "True"))
    for key, value in small.items():
        assert value.dtype == torch.float16
        assert torch.equal(value, whole[key].half())
    stored = read_classifier(tmp_path / "True" / "model_best.pth.tar")
    assert {parameter.dtype for parameter in stored.model.parameters()} == {torch.float32}
    val = open_dataset(scenes, None, "val", 32)
    loss = nn.functional.cross_entropy(predict_logits(stored.model, val, size=32, show=False), val.labels).item()
    rows = [json.loads(line) for line in (tmp_path / "True" / "metrics.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] == pytest.approx(loss, abs=1e-6)
    exact = read_classifier(tmp_path / "False" / "model_best.pth.tar")
    assert not torch.equal(
        predict_logits(exact.model, val, size=32, show=False), predict_logits(stored.model, val, size=32, show=False)
    )


def test_statistics_of_normalisation_are_not_halved():
    model = create_model("residual", num_classes=3)
    values = to_values(model, arch="residual", categories=("a", "b", "c"), size=32, epoch=1, half=True)["state_dict"]
    kinds = {name.rpartition(".")[2]: value.dtype for name, value in values.items()}
    assert kinds["weight"] == kinds["bias"] == torch.float16
    assert kinds["running_mean"] == kinds["running_var"] == torch.float32
    before = [parameter.clone() for parameter in model.parameters()]
    rounded = as_stored(model, half=True)
    assert all(torch.equal(parameter, kept) for parameter, kept in zip(model.parameters(), before, strict=True))
    network = rounded.network.state_dict()
    assert all(torch.equal(values[name].to(network[name]), network[name]) for name in network)


def test_batches_held_on_the_device_are_the_same(dataset):
    config = tiny(augment=Augment(flip=True, area=(0.25, 1.0)))
    loaded, resident = (TrainingBatches(dataset, dataclasses.replace(config, resident=on), CPU) for on in (False, True))
    assert resident.resident is not None
    for step in (0, 3):
        pairs = zip(loaded.batch(step, 32), resident.batch(step, 32), strict=True)
        assert all(torch.equal(one, other) for one, other in pairs)


def test_bfloat16_products_learn_as_float32_does(scenes, tmp_path):
    losses = []
    for autocast in (False, True):
        folder = tmp_path / str(autocast)
        start_run(folder, scenes, tiny(model="residual", epochs=6, autocast=autocast), display=QUIET)
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        losses.append([row["loss"] for row in rows if row.get("split") == "train"])
        assert {value.dtype for value in load_checkpoint(folder / "model_best.pth.tar")["state_dict"].values()} <= {
            torch.float32, torch.int64,
        }  # fmt: skip
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], abs=0.1)


def test_checkpoints_have_the_handouts_keys(scenes, tmp_path):
    start_run(tmp_path / "run", scenes, tiny(epochs=1), display=QUIET)
    best = load_checkpoint(tmp_path / "run" / "model_best.pth.tar")
    last = load_checkpoint(tmp_path / "run" / "checkpoint.pth.tar")
    assert {"epoch", "model_arch", "state_dict", "best_acc1", "optimizer", "scheduler"} <= last.keys()
    assert {"epoch", "model_arch", "state_dict", "best_acc1"} <= best.keys()
    assert "optimizer" not in best
    assert "features.0.weight" in best["state_dict"]


def test_tensorboard_has_the_handouts_tags(scenes, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    start_run(tmp_path / "run", scenes, tiny(epochs=1), display=QUIET)
    events = tmp_path / "run" / "tensorboard"
    tags = EventAccumulator(str(events)).Reload().Tags()["scalars"]
    assert set(tags) == {"data/training_loss", "data/learning_rate"}
    curves = {path.name for path in events.iterdir() if path.is_dir()}
    expected = {f"data_{name}_accuracy_{split}" for name in ("top1", "top5") for split in ("train", "val")}
    assert curves == expected


def test_a_missing_device_is_named():
    for name in ["abacus", "meta", "mps", "xpu", *([] if torch.cuda.is_available() else ["cuda", "cuda:1"])]:
        with pytest.raises(LabError, match=f"device is '{name}'; expected auto, cpu or cuda"):
            pick_device(name)


def test_a_missing_device_leaves_no_run_folder(scenes, tmp_path):
    with pytest.raises(LabError, match="device is 'mps'"):
        start_run(tmp_path / "run", scenes, tiny(device="mps"), display=QUIET)
    assert not (tmp_path / "run").exists()


def test_a_run_that_is_being_written_is_not_resumed(scenes, tmp_path):
    config = tiny(epochs=2)

    class ResumeBeside(LogProgress):
        def step(self, stats):
            with pytest.raises(LabError, match=rf"run is being written by process {os.getpid()} on "):
                resume_run(tmp_path / "run", display=QUIET)

    start_run(tmp_path / "run", scenes, config, display=ResumeBeside())
    steps = [row["step"] for row in map(json.loads, Run(tmp_path / "run").metrics.read_text().splitlines())]
    assert steps == sorted(steps)
    resume_run(tmp_path / "run", display=QUIET)
    assert not list((tmp_path / "run").glob(".lock.owner"))


def test_operations_are_counted_by_picture_size_and_kept_over_a_break(scenes, tmp_path):
    config = tiny(epochs=2, schedule=ScheduleConfig(sizes=((0.0, 16), (0.5, 32))))
    small, large = (count_flops("simplenet-small", num_classes=12, side=side, training=True) for side in (16, 32))
    accounting = start_run(tmp_path / "run", scenes, config, display=QUIET)
    assert accounting["training_flops"] == 72 * (small + large)
    again = resume_run(tmp_path / "run", display=QUIET)
    assert again["training_flops"] == 72 * (small + large)
