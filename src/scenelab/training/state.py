"""Everything that a training run carries from one step to the next, and its way into a checkpoint and back."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from scenelab.models.normalize import Classifier
from scenelab.models.registry import CONVOLUTIONS, create_model
from scenelab.models.simplenet import Factory
from scenelab.runs.config import TrainConfig
from scenelab.runs.header import ResumableHeader, read_header
from scenelab.runs.network import load_weights, plain_names, to_values
from scenelab.training.optim import build_optimizers, restore_optimizers


@dataclass(kw_only=True)
class Meters:
    """Sums over the current epoch: loss times images, hits, images; and over the whole run: seconds in steps, all
    seconds, images, floating-point operations; and how long the last evaluation and the last probe of
    adversarial training took.
    """

    loss: float = 0.0
    top1: int = 0
    top5: int = 0
    images: int = 0
    seconds: float = 0.0
    spent: float = 0.0
    seen: int = 0
    flops: int = 0
    evaluating: float = 0.0
    probing: float = 0.0

    def start_epoch(self) -> None:
        self.loss, self.top1, self.top5, self.images = 0.0, 0, 0, 0


@dataclass(kw_only=True)
class TrainState:
    """Model, optimisers, average, and where in the run they are."""

    model: Classifier
    optimizers: list[Optimizer]
    average: AveragedModel | None
    step: int = 0
    best_acc1: float = 0.0
    metrics_bytes: int = 0
    meters: Meters = field(default_factory=Meters)
    stopped: str = ""  # why it ended before its time

    @property
    def evaluated(self) -> Classifier:
        """The weights that are evaluated and kept: the average where there is one."""
        return self.average.module if self.average is not None else self.model  # pyright: ignore[reportReturnType]


def start(config: TrainConfig, *, classes: int, device: torch.device, factory: Factory | None = None) -> TrainState:
    """Initialise a run from its seed; `factory` stands in for the network that the config names."""
    torch.manual_seed(config.seed)
    if factory:
        model = Classifier(factory(num_classes=classes))
    else:
        model = create_model(config.model, num_classes=classes, conv_op=CONVOLUTIONS[config.conv])
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    model = model.to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]
    average = None
    if config.ema:
        average = AveragedModel(model, multi_avg_fn=ema_with_warmup(config.ema), use_buffers=True)
    return TrainState(model=model, optimizers=build_optimizers(model, config.optimizer), average=average)


def ema_with_warmup(decay: float) -> Any:
    """Exponential moving average whose decay starts at 0.1 and grows as (1 + t) / (10 + t) up to `decay`.

    The rise is TensorFlow's `ExponentialMovingAverage(num_updates=…)`; it keeps the initial weights from lingering.
    """

    def update(averaged: tuple[Tensor, ...], current: tuple[Tensor, ...], count: Tensor) -> None:
        if not averaged[0].is_floating_point():
            for old, new in zip(averaged, current, strict=True):
                old.copy_(new)
            return
        rate = min(decay, (1 + int(count)) / (10 + int(count)))
        torch._foreach_lerp_(averaged, current, 1 - rate)  # pyright: ignore[reportPrivateImportUsage]

    return torch.no_grad()(update)


def checkpoint_values(
    state: TrainState, config: TrainConfig, categories: tuple[str, ...], epoch: int
) -> dict[str, Any]:
    """A resumable checkpoint in the handout's keys (`optimizer`, `scheduler`, `best_acc1`, …) and a few of ours."""
    states = [optimizer.state_dict() for optimizer in state.optimizers]
    return {
        **to_values(state.model, arch=config.model, categories=categories, size=config.eval_size, epoch=epoch),
        "best_acc1": state.best_acc1,
        "optimizer": states[0] if len(states) == 1 else states,
        "scheduler": {"last_epoch": state.step},
        "average": state.average.state_dict() if state.average is not None else None,
        "step": state.step,
        "metrics_bytes": state.metrics_bytes,
        "meters": vars(state.meters).copy(),
        "stopped": state.stopped,
    }


def best_values(state: TrainState, config: TrainConfig, categories: tuple[str, ...], epoch: int) -> dict[str, Any]:
    """What `model_best.pth.tar` holds: the weights to use, and no optimiser."""
    values = to_values(
        state.evaluated, arch=config.model, categories=categories, size=config.eval_size, epoch=epoch, half=config.half
    )
    return {**values, "best_acc1": state.best_acc1}


def restore(state: TrainState, values: dict[str, Any], path: Path, *, arch: str, steps_per_epoch: int) -> list[str]:
    """Load a checkpoint into a freshly started state.

    Returns:
        What was missing from the checkpoint and is therefore new, in words: nothing for one of our own.

    Raises:
        LabError: it is of another architecture, or its optimiser is of another kind.
    """
    header = read_header(path, values, ResumableHeader)
    load_weights(state.model.network, plain_names(header.state_dict), arch, path)
    missing = []
    state.step = header.epoch * steps_per_epoch if header.step is None else header.step
    state.best_acc1 = header.best_acc1
    state.metrics_bytes = header.metrics_bytes
    state.meters = Meters(**header.meters.model_dump())
    state.stopped = header.stopped
    if "optimizer" in values:
        states = values["optimizer"] if isinstance(values["optimizer"], list) else [values["optimizer"]]
        restore_optimizers(state.optimizers, states, path)
    else:
        missing.append("the optimiser's momentum")
    if state.average is not None:
        average = header.average
        if average:
            load_weights(state.average, average, arch, path)
        else:
            missing.append("the averaged weights")
    return missing
