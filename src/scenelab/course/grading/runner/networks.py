"""Networks described in plain values, built on both sides of the pipe with the same weights."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

CLASSES = 100
MAX_CALLS = 40  # of a network, of which an attack's images are sent back
LAYERS: dict[str, Callable[..., nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "tanh": nn.Tanh,
    "pool": lambda: nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    "mean": lambda: nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()),
    "flatten": nn.Flatten,
    "linear": nn.Linear,
    "norm": nn.BatchNorm2d,
    "dropout": nn.Dropout,
}


class _Lead(nn.Module):
    """Mean lead of the label's score over the next label's: a loss unlike cross-entropy and unlike the score."""

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        return (scores.gather(1, labels[:, None]) - scores.roll(-1, dims=1).gather(1, labels[:, None])).mean()


LOSSES: dict[str, nn.Module] = {"cross_entropy": nn.CrossEntropyLoss(), "lead": _Lead()}
"""Modules, as main.py makes them."""


def build(layers: Sequence[Sequence[Any]], conv_op: Callable[..., nn.Module] = nn.Conv2d) -> nn.Sequential:
    """Build a chain of layers.

    Args:
        layers: each a name and its arguments; "conv" is (in, out, kernel, stride, padding, bias).
        conv_op: makes the convolutions.
    """
    modules = []
    for name, *arguments in layers:
        if name == "conv":
            wide, out, kernel, stride, padding, bias = arguments
            modules.append(conv_op(wide, out, kernel_size=kernel, stride=stride, padding=padding, bias=bias))
        else:
            modules.append(LAYERS[name](*arguments))
    return nn.Sequential(*modules).float()  # a student may have changed torch's default


def load(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Set parameters and buffers by name.

    Raises:
        KeyError: the network lacks one.
    """
    places = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    with torch.no_grad():
        for name, value in weights.items():
            if name not in places:
                raise KeyError(f"the network has no {name}; CustomConv2d keeps weight and bias as nn.Conv2d does")
            places[name].copy_(value)
