"""State of training (model, optimizers, position in the run), and conversion to and from checkpoints."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel

from scenelab.data.cache import MemmapDataset
from scenelab.data.loader import TrainLoader
from scenelab.models.normalize import Classifier, Normalize
from scenelab.models.registry import CONVOLUTIONS, create_model
from scenelab.models.simplenet import Factory
from scenelab.runs.config import TrainConfig
from scenelab.runs.header import ResumableHeader, read_header
from scenelab.runs.network import load_weights, to_values
from scenelab.training.finetune import find_backbone, learning_rates, transfer
from scenelab.training.optim import build_optimizers, restore_optimizers
from scenelab.training.statistics import EpochStatistics, RunStatistics


@dataclass(kw_only=True)
class TrainState:
    """Model, optimizers, moving average, and the position in the run.

    Attributes:
        average: the moving average of the weights, or None if the config has none.
        is_custom: whether a factory built the network, not the registry.
        step: number of completed steps.
        best_acc1: top-1 accuracy, in percent of the evaluated images, of the weights in model_best.pth.tar.
        metrics_bytes: size of metrics.jsonl at the last checkpoint.
        stopped: reason why the run ended before its last step, or empty.
        backbone: with fine-tuning, the parameters of all layers but the last; else empty.
        is_frozen: whether only the last layer is trained at present.
        is_complete: whether the last step is done; with a time limit, elapsed time alone does not show it.
    """

    model: Classifier
    optimizers: list[Optimizer]
    average: AveragedModel | None
    is_custom: bool = False
    backbone: list[nn.Parameter] = field(default_factory=list)
    is_frozen: bool = False
    step: int = 0
    best_acc1: float = 0.0
    metrics_bytes: int = 0
    epoch: EpochStatistics = field(default_factory=EpochStatistics)
    run: RunStatistics = field(default_factory=RunStatistics)
    stopped: str = ""
    is_complete: bool = False

    @property
    def evaluated(self) -> Classifier:
        """The model to evaluate and save: the moving average if there is one, else the trained model."""
        return self.average.module if self.average is not None else self.model  # pyright: ignore[reportReturnType]


def make_loader(dataset: MemmapDataset, config: TrainConfig, device: torch.device) -> TrainLoader:
    """Return a loader of augmented training batches with the settings of a config."""
    return TrainLoader(
        dataset,
        batch_size=config.batch_size,
        seed=config.seed,
        augment=config.augment,
        device=device,
        balanced=config.balanced,
        resident=config.resident,
        channels_last=config.channels_last,
        pinned=device.type == "cuda",
    )


def initialize(
    config: TrainConfig,
    *,
    num_classes: int,
    device: torch.device,
    factory: Factory | None = None,
    resumed: bool = False,
) -> TrainState:
    """Return the training state before the first step, with random weights for the seed `config.seed`.

    Args:
        config: config of the run.
        num_classes: number of logits.
        device: device of the model.
        factory: builds the network, called with `num_classes`; replaces the network that the config names.
        resumed: whether `restore` follows, so that the network to fine-tune need not be read.
    """
    torch.manual_seed(config.seed)
    if factory:
        model = Classifier(factory(num_classes=num_classes))
    else:
        model = create_model(config.model, num_classes=num_classes, conv_op=CONVOLUTIONS[config.conv])
    if config.finetune and not resumed:
        transfer(model, config)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    model = model.to(device, memory_format=layout)  # pyright: ignore[reportCallIssue]
    average = None
    if config.ema:
        average = AveragedModel(model, multi_avg_fn=ema_with_warmup(config.ema), use_buffers=True)
    rates = learning_rates(model.network, config.finetune.first_rate) if config.finetune else None
    optimizers = build_optimizers(model, config.optimizer, rates)
    return TrainState(
        model=model,
        optimizers=optimizers,
        average=average,
        is_custom=factory is not None,
        backbone=find_backbone(model) if config.finetune else [],
    )


def ema_with_warmup(decay: float) -> Callable[..., None]:
    """Return the update function of an exponential moving average, as `multi_avg_fn` for `AveragedModel`.

    At update t the decay is (1 + t) / (10 + t), at most `decay`, so the initial weights soon lose their influence. This
    is the rule of TensorFlow's `ExponentialMovingAverage(num_updates=…)`.
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
    """Return the content of a resumable checkpoint; some keys are those that the handout's `main.py` reads."""
    states = [optimizer.state_dict() for optimizer in state.optimizers]
    return {
        **to_values(state.model, arch=config.model, categories=categories, size=config.eval_size, epoch=epoch),
        "best_acc1": state.best_acc1,
        "optimizer": states[0] if len(states) == 1 else states,
        "scheduler": {"last_epoch": state.step},
        "average": state.average.state_dict() if state.average is not None else None,
        "step": state.step,
        "metrics_bytes": state.metrics_bytes,
        "meters": asdict(state.epoch) | asdict(state.run),
        "stopped": state.stopped,
        "is_complete": state.is_complete,
    }


def best_values(state: TrainState, config: TrainConfig, categories: tuple[str, ...], epoch: int) -> dict[str, Any]:
    """Return the content of model_best.pth.tar: the weights for inference, without optimizers."""
    values = to_values(
        state.evaluated, arch=config.model, categories=categories, size=config.eval_size, epoch=epoch, half=config.half
    )
    return {**values, "best_acc1": state.best_acc1}


def restore(state: TrainState, values: dict[str, Any], path: Path, *, arch: str, steps_per_epoch: int) -> list[str]:
    """Load the content of a checkpoint, in place, into a state that `initialize` returned.

    Returns:
        Descriptions of state that is missing in the checkpoint and keeps its initial value; empty for a checkpoint
        written by scenelab.

    Raises:
        LabError: the architecture or the optimizer differs.
    """
    header = read_header(path, values, ResumableHeader)
    load_weights(state.model.network, header.state_dict, arch, path)
    for classifier in [state.model, *([state.average.module] if state.average is not None else [])]:
        classifier.normalize = Normalize(header.mean, header.std).to(classifier.normalize.mean.device)
    missing = []
    state.step = header.epoch * steps_per_epoch if header.step is None else header.step
    state.best_acc1, state.metrics_bytes, state.stopped = header.best_acc1, header.metrics_bytes, header.stopped
    state.is_complete = header.is_complete
    meters = header.meters.model_dump()
    state.epoch = EpochStatistics(**{name: meters[name] for name in asdict(state.epoch)})
    state.run = RunStatistics(**{name: meters[name] for name in asdict(state.run)})
    if "optimizer" in values:
        states = values["optimizer"] if isinstance(values["optimizer"], list) else [values["optimizer"]]
        restore_optimizers(state.optimizers, states, path)
    else:
        missing.append("the optimizer's momentum")
    if state.average is not None:
        if header.average:
            load_weights(state.average, header.average, arch, path)
        else:
            missing.append("the averaged weights")
    return missing
