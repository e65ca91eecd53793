"""Optimisers over the parameters they suit."""

from pathlib import Path
from typing import Any

from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer

from scenelab.errors import LabError
from scenelab.runs.config import OptimizerConfig
from scenelab.training.muon import Muon

KEPT = {SGD: {"momentum_buffer"}, Muon: {"momentum_buffer"}, AdamW: {"step", "exp_avg", "exp_avg_sq"}}
"""What each optimiser remembers of a parameter between two steps."""
NEVER_NEGATIVE = ("step", "exp_avg_sq")


def build_optimizers(model: nn.Module, config: OptimizerConfig) -> list[Optimizer]:
    """One optimiser, or for `muon` two: Muon over the filters and AdamW over everything else.

    Each parameter group carries `peak_lr`, which the schedule scales.
    """
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
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers


def _groups(parameters: list[nn.Parameter], config: OptimizerConfig) -> list[dict[str, object]]:
    """Split off the vectors (biases, norms) that are not decayed."""
    if config.decay_vectors:
        return [{"params": parameters, "weight_decay": config.weight_decay}]
    decayed = [parameter for parameter in parameters if parameter.ndim > 1]
    vectors = [parameter for parameter in parameters if parameter.ndim <= 1]
    groups = [(decayed, config.weight_decay), (vectors, 0.0)]
    return [{"params": chosen, "weight_decay": decay} for chosen, decay in groups if chosen]


def set_learning_rate(optimizers: list[Optimizer], factor: float) -> float:
    """Scale each group's peak and return the first group's learning rate."""
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["peak_lr"] * factor
    return optimizers[0].param_groups[0]["lr"]


def restore_optimizers(optimizers: list[Optimizer], stored: list[Any], path: Path) -> None:
    """Take over what a checkpoint's optimisers remember; learning rates and the like stay those of the config.

    Raises:
        LabError: they are of another kind, or remember what no optimiser of ours does.
    """
    try:
        for optimizer, values in zip(optimizers, stored, strict=True):
            own = optimizer.state_dict()["param_groups"]
            counts = [len(group["params"]) for group in values["param_groups"]]
            if counts != [len(group["params"]) for group in own]:
                raise ValueError("its groups have other sizes")
            parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            for index, kept in values["state"].items():
                if not 0 <= index < len(parameters):
                    raise ValueError("a parameter that is not there")
                _require_kept(kept, parameters[index], KEPT[type(optimizer)], may_lack=type(optimizer) is SGD)
            optimizer.load_state_dict({"state": values["state"], "param_groups": own})
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(
            f"checkpoint {path} was written with another optimiser ({error}); train with that one"
        ) from error


def _require_kept(kept: dict[str, Any], parameter: nn.Parameter, names: set[str], *, may_lack: bool) -> None:
    """Finite numbers of the parameter's shape; counts are scalars, SGD without momentum keeps None."""
    if kept.keys() != names:
        raise ValueError(f"it does not keep {', '.join(sorted(names))}")
    for name, value in kept.items():
        if value is None and may_lack and name == "momentum_buffer":
            continue
        shape = () if name == "step" else parameter.shape
        if not isinstance(value, Tensor) or value.shape != shape or not value.is_floating_point():
            raise ValueError(f"a {name} that does not fit its parameter")
        if not value.isfinite().all() or (name in NEVER_NEGATIVE and (value < 0).any()):
            raise ValueError(f"a {name} that is no number")
