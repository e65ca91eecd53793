import dataclasses
import os
import shutil
import signal
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from runs_compared import QUIET, StopAfter, assert_same_run, read_rows, read_weights, tiny
from scenelab.data.augment_config import Augment
from scenelab.data.contact_sheet import contact_sheet
from scenelab.data.loader import seed_for
from scenelab.data.splits import open_dataset
from scenelab.errors import Interrupted, LabError
from scenelab.evaluation.metrics import confusion, predict_logits
from scenelab.io import LOCK
from scenelab.models.flops import count_flops
from scenelab.models.registry import create_model
from scenelab.progress import LogProgress
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import OptimizerConfig, ScheduleConfig
from scenelab.runs.network import as_stored, read_classifier, to_values
from scenelab.runs.run import Run
from scenelab.training.device import pick_device
from scenelab.training.metrics_logger import MetricsLogger
from scenelab.training.session import resume_run, start_run
from scenelab.training.state import ema_with_warmup, initialize, make_loader
from scenelab.training.statistics import count_confused
from scenelab.training.trainer import Trainer

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def dataset(scenes):
    return open_dataset(scenes, None, "train", 32)


def test_each_epoch_sees_each_image_once_in_a_new_order(dataset):
    loader = make_loader(dataset, tiny(batch_size=7), CPU)
    per_epoch = loader.steps_per_epoch
    epochs = [np.concatenate([loader.indices(e * per_epoch + s) for s in range(per_epoch)]) for e in range(2)]
    for order in epochs:
        assert sorted(order) == list(range(len(dataset)))
    assert not np.array_equal(*epochs)
    seeds = {seed_for(seed, stream, step) for seed in range(3) for stream in range(3) for step in range(50)}
    assert len(seeds) == 3 * 3 * 50  # streams and steps have their own


def test_a_batch_depends_on_the_step_alone_also_where_images_are_on_the_device(dataset):
    config = tiny(augment=Augment(flip=True, degrees=15, area=(0.25, 1.0), gain=0.15, erase=0.5, mixup=0.4, cutmix=1.0))
    straight = make_loader(dataset, config, CPU)
    for step in range(5):
        straight.batch(step, 32)
    images, labels = straight.batch(5, 32)
    for resident in (False, True):
        loader = make_loader(dataset, dataclasses.replace(config, resident=resident), CPU)
        assert (loader.resident is not None) == resident
        again, same_labels = loader.batch(5, 32)
        assert torch.equal(images, again)
        assert torch.equal(labels, same_labels)
    other, _ = make_loader(dataset, dataclasses.replace(config, seed=1), CPU).batch(5, 32)
    assert not torch.equal(images, other)


def test_the_loop_is_plain_sgd(dataset, tmp_path):
    """Three steps against a loop written out with torch alone, bit for bit."""
    config = tiny(epochs=1, clip_norm=0.5, label_smoothing=0.1, batch_size=8)
    state, other = (initialize(config, num_classes=len(dataset.categories), device=CPU) for _ in range(2))
    twin, loader = other.model, make_loader(dataset, config, CPU)
    trainer = Trainer(
        run=Run(tmp_path), config=config, state=state, loader=loader, val=None, logger=MetricsLogger(), display=QUIET
    )
    optimizer = torch.optim.SGD(twin.parameters(), lr=0.01, momentum=0.9, weight_decay=1e-4)
    total = trainer.clock.total_steps
    for step in range(3):
        trainer.step()
        optimizer.param_groups[0]["lr"] = 0.01 * (1 + np.cos(np.pi * step / total)) / 2
        images, labels = make_loader(dataset, config, CPU).batch(step, 32)
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
    train = [row["top1"] for row in read_rows(tmp_path / "run", "train")]
    assert train[0] < 40
    assert train[-1] > 80


def test_muon_adamw_ema_and_growing_images_run_together(scenes, tmp_path):
    optimizer = OptimizerConfig(name="muon", lr=0.02, decay_vectors=False)
    schedule = ScheduleConfig(warmup_epochs=0.5, sizes=((0.0, 16), (0.5, 32)))
    config = tiny(optimizer=optimizer, ema=0.9, schedule=schedule, augment=Augment(flip=True, mixup=0.2, cutmix=1.0))
    small, large = (count_flops("simplenet-small", num_classes=12, side=side, training=True) for side in (16, 32))
    for train in (partial(start_run, data=scenes, config=config), resume_run):  # a finished run keeps its counts
        result = train(tmp_path / "run", display=QUIET)
        assert result.images_seen == 2 * 72
        assert result.training_flops == 72 * (small + large)
    best, last = (load_checkpoint(tmp_path / "run" / f"{name}.pth.tar") for name in ("model_best", "checkpoint"))
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
    for path in (tmp_path / "run").glob("*.pth.tar"):
        assert all(value.isfinite().all() for value in read_weights(path).values())


@pytest.mark.parametrize("stop_at", [1, 5, 7])
def test_ctrl_c_then_resume_ends_as_the_uninterrupted_run(scenes, tmp_path, stop_at):
    config = tiny(ema=0.9, augment=Augment(flip=True, area=(0.5, 1.0)))
    start_run(tmp_path / "whole", scenes, config, display=QUIET)
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=f"stopped at step {stop_at} of 10"):
        start_run(tmp_path / "cut", scenes, config, display=StopAfter(stop_at))
    assert signal.getsignal(signal.SIGINT) is handler
    resume_run(tmp_path / "cut", display=QUIET)
    assert_same_run(tmp_path / "whole", tmp_path / "cut")


def test_a_finished_run_is_resumed_without_a_change_and_never_overwritten(scenes, tmp_path):
    data, run = shutil.copytree(scenes, tmp_path / "data"), tmp_path / "run"
    start_run(run, data, tiny(epochs=1), display=QUIET)
    assert_names_of_the_handout(run)
    before = (run / "metrics.jsonl").read_bytes()
    resume_run(run, display=QUIET)
    assert (run / "metrics.jsonl").read_bytes() == before
    with pytest.raises(LabError, match="holds a run already; resume it with 'scenelab resume"):
        start_run(run, data, tiny(epochs=1), display=QUIET)
    lines = (data / "train.txt").read_text().splitlines(keepends=True)
    (data / "train.txt").write_text("".join(lines[1:]))
    with pytest.raises(LabError, match="the training images in .* changed since .* began; start a new run"):
        resume_run(run, display=QUIET)


def assert_names_of_the_handout(run: Path) -> None:
    """Of the checkpoints' keys and the events' tags."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    best, last = (load_checkpoint(run / f"{name}.pth.tar") for name in ("model_best", "checkpoint"))
    assert {"epoch", "model_arch", "state_dict", "best_acc1", "optimizer", "scheduler"} <= last.keys()
    assert {"epoch", "model_arch", "state_dict", "best_acc1"} <= best.keys() - {"optimizer"} == best.keys()
    assert "features.0.weight" in best["state_dict"]
    tags = EventAccumulator(str(run / "tensorboard")).Reload().Tags()["scalars"]
    assert set(tags) == {"data/training_loss", "data/learning_rate"}
    curves = {path.name for path in (run / "tensorboard").iterdir() if path.is_dir()}
    assert curves == {f"data_{name}_accuracy_{split}" for name in ("top1", "top5") for split in ("train", "val")}


def test_a_run_keeps_its_last_batch_and_its_most_confused_classes(scenes, tmp_path, dataset):
    """The image is of the batch as it was augmented: the same seed, settings and step give it again."""
    config = tiny(epochs=1, batch_size=40)
    run = Run(tmp_path / "run")
    start_run(run.folder, scenes, config, display=QUIET)
    images, _ = make_loader(dataset, config, CPU).batch(1, 32)
    assert len(images) == 32
    shown = np.asarray(Image.open(run.batch), np.float32) / 255
    expected = contact_sheet(images).permute(1, 2, 0).numpy()
    assert shown.shape == expected.shape == (4 * 32, 8 * 32, 3)
    assert abs(shown - expected).mean() < 0.02  # JPEG
    (row,) = read_rows(run.folder, "val")
    stored, val = read_classifier(run.best), open_dataset(scenes, None, "val", 32)
    matrix = confusion(predict_logits(stored.model, val, size=32).argmax(dim=1), val.labels, 12)
    counts = {
        (name, guess): int(matrix[i, j])
        for i, name in enumerate(val.categories)
        for j, guess in enumerate(val.categories)
        if i != j
    }
    assert [images for *_, images in row["confused"]] == sorted(counts.values(), reverse=True)[:5]
    assert all(counts[name, guess] == images for name, guess, images in row["confused"])


def test_undefined_logits_confuse_no_classes():
    logits = torch.tensor([[0.0, 1, 0], [0, 1, 0], [torch.nan, 0, 0], [0, 0, 1], [1, 0, 0]])
    pairs = count_confused(logits, torch.tensor([0, 0, 1, 1, 0]), ("a", "b", "c"), 5)
    assert pairs == [("a", "b", 2), ("b", "c", 1)]
    assert count_confused(logits[:1], torch.tensor([1]), ("a", "b", "c"), 5) == []


def test_a_contact_sheet_has_rows_of_eight():
    images = torch.arange(10.0)[:, None, None, None] * torch.ones(10, 3, 2, 2)
    sheet = contact_sheet(images)
    assert sheet.shape == (3, 4, 16)
    assert sheet[0, ::2, ::2].tolist() == [[0, 1, 2, 3, 4, 5, 6, 7], [8, 9, 0, 0, 0, 0, 0, 0]]


def test_the_best_epoch_is_kept(scenes, tmp_path):
    start_run(tmp_path / "run", scenes, tiny(epochs=4, keep="best"), display=QUIET)
    val = {row["epoch"]: row["top1"] for row in read_rows(tmp_path / "run", "val")}
    best = load_checkpoint(tmp_path / "run" / "model_best.pth.tar")
    assert best["best_acc1"] == max(val.values())
    assert best["epoch"] == max(val, key=lambda epoch: (val[epoch], -epoch))  # the first of those


def test_weights_kept_in_half_are_those_that_are_evaluated(scenes, tmp_path):
    """A file of half the bytes, and the loss in the metrics is what the reloaded file has."""
    for half in (False, True):
        start_run(tmp_path / str(half), scenes, tiny(epochs=2, half=half, ema=0.9), display=QUIET)
    whole, small = (read_weights(tmp_path / name / "model_best.pth.tar") for name in ("False", "True"))
    for key, value in small.items():
        assert value.dtype == torch.float16
        assert torch.equal(value, whole[key].half())
    exact, stored = (read_classifier(tmp_path / name / "model_best.pth.tar") for name in ("False", "True"))
    assert {parameter.dtype for parameter in stored.model.parameters()} == {torch.float32}
    val = open_dataset(scenes, None, "val", 32)
    logits, others = (predict_logits(each.model, val, size=32, show=False) for each in (stored, exact))
    loss = nn.functional.cross_entropy(logits, val.labels).item()
    assert read_rows(tmp_path / "True")[-1]["loss"] == pytest.approx(loss, abs=1e-6)
    assert not torch.equal(logits, others)


def test_statistics_of_normalization_are_not_halved():
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


def test_bfloat16_products_learn_as_float32_does(scenes, tmp_path):
    losses = []
    for autocast in (False, True):
        folder = tmp_path / str(autocast)
        start_run(folder, scenes, tiny(model="residual", epochs=6, autocast=autocast), display=QUIET)
        losses.append([row["loss"] for row in read_rows(folder, "train")])
        kinds = {value.dtype for value in read_weights(folder / "model_best.pth.tar").values()}
        assert kinds <= {torch.float32, torch.int64}
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], abs=0.1)


def test_a_run_that_is_being_written_is_not_resumed(scenes, tmp_path):
    class ResumeBeside(LogProgress):
        def step(self, stats):
            with pytest.raises(LabError, match=rf"run is being written by process {os.getpid()} on "):
                resume_run(tmp_path / "run", display=QUIET)

    start_run(tmp_path / "run", scenes, tiny(), display=ResumeBeside())
    steps = [row["step"] for row in read_rows(tmp_path / "run")]
    assert steps == sorted(steps)
    resume_run(tmp_path / "run", display=QUIET)
    assert not (tmp_path / "run" / LOCK).exists()


def test_the_plan_and_the_way_to_stop_are_a_line_each(scenes, tmp_path, capsys):
    start_run(tmp_path / "run", scenes, tiny(epochs=1), display=LogProgress())
    lines = capsys.readouterr().out.splitlines()
    (plan,) = [number for number, line in enumerate(lines) if line.startswith("plan: ")]
    assert lines[plan + 1].startswith("Ctrl-C stops after the current step and saves a checkpoint; then resume with: ")


def test_a_missing_device_and_an_unwritable_folder_are_named(scenes, tmp_path):
    for name in ("abacus", "meta", "mps", "xpu", "mkldnn"):
        with pytest.raises(LabError, match=f"device is '{name}'; expected auto, cpu"):
            pick_device(name)
    with pytest.raises(LabError, match="device is 'mps'"):
        start_run(tmp_path / "run", scenes, tiny(device="mps"), display=QUIET)
    assert not (tmp_path / "run").exists()
    if not torch.cuda.is_available():
        with pytest.raises(LabError, match="device is 'cuda'; expected auto, cpu"):
            pick_device("cuda")
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LabError, match=r"cannot write run folder .*; choose a writable one"):
        start_run(tmp_path / "file" / "run", scenes, tiny(), display=QUIET)
