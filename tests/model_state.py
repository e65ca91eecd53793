"""The state of a model and of its caller, to compare before and after."""

import torch
from torch import nn


def snapshot(model: nn.Module) -> list:
    """Modes, weights, gradients, flags and hooks of a model; random numbers and gradient mode of the caller."""
    parameters = list(model.parameters())
    return [
        [module.training for module in model.modules()],
        [value.tolist() for value in model.state_dict().values()],
        [None if parameter.grad is None else parameter.grad.tolist() for parameter in parameters],
        [parameter.requires_grad for parameter in parameters],
        [len(module._forward_hooks) + len(module._backward_hooks) for module in model.modules()],
        torch.get_rng_state().tolist(),
        torch.is_grad_enabled(),
    ]
