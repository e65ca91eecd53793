"""Optimizers: construction from a config, learning rate, and state from a checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from scenelab.errors import LabError
from scenelab.runs.config import OptimizerConfig
from scenelab.training.muon import Muon

STATE_NAMES = {SGD: {"momentum_buffer"}, Muon: {"momentum_buffer"}, AdamW: {"step", "exp_avg", "exp_avg_sq"}}
"""Names of the state that each optimizer keeps per parameter."""
NEVER_NEGATIVE = ("step", "exp_avg_sq")


def build_optimizers(
    model: nn.Module, config: OptimizerConfig, rates: Mapping[nn.Parameter, float] | None = None
) -> list[Optimizer]:
    """Return the optimizers for all trainable parameters.

    `sgd` and `adamw` give one optimizer; `muon` gives Muon for the convolution weights and AdamW for the rest. Each
    parameter group has an entry `peak_lr`: the learning rate that the schedule scales. `rates` are factors of the
    parameters' learning rates.
    """
    rates = rates or {}
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    filters = [parameter for parameter in parameters if parameter.ndim == 4]
    optimizers: list[Optimizer]
    if config.name == "muon":
        rest = [parameter for parameter in parameters if parameter.ndim != 4]
        optimizers = [
            Muon(filters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay),
            AdamW(_groups(rest, config), lr=config.adam_lr),
        ]
    elif config.name == "adamw":
        optimizers = [AdamW(_groups(parameters, config), lr=config.lr)]
    else:
        optimizers = [
            SGD(_groups(parameters, config), lr=config.lr, momentum=config.momentum, nesterov=config.nesterov)
        ]
    for optimizer in optimizers:
        optimizer.param_groups = [
            {**group, "params": members, "peak_lr": group["lr"] * rate}
            for group in optimizer.param_groups
            for rate in sorted({rates.get(parameter, 1.0) for parameter in group["params"]}, reverse=True)
            if (members := [parameter for parameter in group["params"] if rates.get(parameter, 1.0) == rate])
        ]
    return optimizers


def _groups(parameters: list[nn.Parameter], config: OptimizerConfig) -> list[dict[str, object]]:
    """Return parameter groups, without weight decay for vectors (biases, norms) unless `config.decay_vectors`."""
    if config.decay_vectors:
        return [{"params": parameters, "weight_decay": config.weight_decay}]
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [(decayed, config.weight_decay), (vectors, 0.0)]
    return [{"params": members, "weight_decay": decay} for members, decay in groups if members]


def set_learning_rate(optimizers: list[Optimizer], factor: float) -> float:
    """Set each parameter group's learning rate to `factor` times its peak; return the rate of the first group."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
    return optimizers[0].param_groups[0]["lr"]


def restore_optimizers(optimizers: list[Optimizer], stored: list[Any], path: Path) -> None:
    """Load optimizer states from a checkpoint, without learning rates and other settings of parameter groups.

    `stored` has one state dict per optimizer; `path` is the checkpoint, for error messages.

    Raises:
        LabError: the state belongs to a different optimizer, or is invalid.
    """
    try:
        for optimizer, values in zip(optimizers, stored, strict=True):
            groups = optimizer.state_dict()["param_groups"]
            counts = [len(group["params"]) for group in values["param_groups"]]
            if counts != [len(group["params"]) for group in groups]:
                raise ValueError("its parameter groups have other sizes")
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            for index, tensors in values["state"].items():
                if not 0 <= index < len(parameters):
                    raise ValueError("unknown parameter")
                _require_valid(
                    tensors, parameters[index], STATE_NAMES[type(optimizer)], may_be_none=type(optimizer) is SGD
                )
            optimizer.load_state_dict({"state": values["state"], "param_groups": groups})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(
            f"checkpoint {path} was written with another optimizer ({error}); train with that one"
        ) from error


def _require_valid(tensors: dict[str, Any], parameter: nn.Parameter, names: set[str], *, may_be_none: bool) -> None:
    """Raise ValueError unless the state has the keys `names`, and finite tensors of the parameter's shape.

    `step` is a scalar. With `may_be_none`, `momentum_buffer` may be None (SGD without momentum).
    """
    if tensors.keys() != names:
        raise ValueError(f"expected {', '.join(sorted(names))}")
    for name, value in tensors.items():
        if value is None and may_be_none and name == "momentum_buffer":
            continue
        shape = () if name == "step" else parameter.shape
        if not isinstance(value, Tensor) or value.shape != shape or not value.is_floating_point():
            raise ValueError(f"{name} does not fit its parameter")
        if not value.isfinite().all() or (name in NEVER_NEGATIVE and (value < 0).any()):
            raise ValueError(f"{name} is not a number")
