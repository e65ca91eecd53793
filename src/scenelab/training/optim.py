"""torch's optimisers over the parameters they suit."""

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Muon, Optimizer

from scenelab.training.config import OptimizerConfig


class MuonOverFilters(Muon):
    """torch's Muon for convolution weights, each seen as a Co × (Ci·K·K) matrix (Jordan et al. 2024).

    torch's own takes matrices only. The matrices here are views, so an update of one is an update of the weight;
    the order of the columns does not matter, as orthogonalisation commutes with permuting them.
    """

    def __init__(self, weights: list[nn.Parameter], *, lr: float, momentum: float, weight_decay: float) -> None:
        self.weights = weights
        matrices = [weight.detach().permute(0, 2, 3, 1).reshape(len(weight), -1) for weight in weights]
        for weight, matrix in zip(weights, matrices, strict=True):
            if matrix.data_ptr() != weight.data_ptr():
                raise ValueError("Muon over filters needs channels-last weights: call model.to(memory_format=…) first")
        super().__init__(matrices, lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        matrices: list[Tensor] = self.param_groups[0]["params"]
        for weight, matrix in zip(self.weights, matrices, strict=True):
            if weight.grad is not None:
                matrix.grad = weight.grad.permute(0, 2, 3, 1).reshape(matrix.shape)
        super().step(closure)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for weight in self.weights:
            weight.grad = None
        super().zero_grad(set_to_none)


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
            MuonOverFilters(filters, lr=config.lr, momentum=config.momentum, weight_decay=config.weight_decay),
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
