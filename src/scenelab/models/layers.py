"""What the networks have in common: three stages of equal cost, and how weights begin."""

from typing import Any

from torch import nn

from scenelab.models.simplenet import ConvOp

WIDTHS = (64, 128, 256)
"""Channels of the three stages; each halves the sides and doubles the channels, so that each costs the same."""

STEM = 32
"""Channels of the 4×4 convolution of stride 2 that comes first."""


def convolution(
    conv_op: ConvOp, channels: int, width: int, kernel_size: int = 3, *, stride: int = 1, norm: bool = True
) -> nn.Sequential:
    """A convolution with batch normalisation, or with a bias.

    Padding keeps the side at stride 1 and halves an even side at stride 2.
    """
    layers: dict[str, Any] = {"stride": stride, "padding": (kernel_size - 1) // 2, "bias": not norm}
    made = conv_op(channels, width, kernel_size=kernel_size, **layers)
    return nn.Sequential(made, nn.BatchNorm2d(width)) if norm else nn.Sequential(made)


def he_initialise(network: nn.Module) -> None:
    """Normal weights of variance 2 / (K·K·Cᵢ), no bias: ReLU keeps the size of signals (He et al. 2015, eq. 10)."""
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.ndim != 4:
            continue
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
