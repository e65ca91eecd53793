"""Optimisers over the parameters they suit."""

from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from scenelab.training.config import OptimizerConfig
from scenelab.training.distributed import ALONE, World
from scenelab.training.muon import Muon


def build_optimizers(model: nn.Module, config: OptimizerConfig, world: World = ALONE) -> list[Optimizer]:
    """One optimiser, or for `muon` two: Muon over the filters and AdamW over everything else.

    Each parameter group carries `peak_lr`, which the schedule scales.
    """
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    filters = [parameter for parameter in parameters if parameter.ndim == 4]
    optimizers: list[Optimizer]
    if config.name == "muon":
        rest = [parameter for parameter in parameters if parameter.ndim != 4]
        optimizers = [
            Muon(filters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay, world=world),
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
