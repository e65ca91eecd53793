"""What the networks share: three stages of equal cost, and the initial weights."""

from torch import nn

from scenelab.models.simplenet import ConvOp

WIDTHS = (64, 128, 256)
"""Channels of the three stages; each stage halves the sides, so a convolution costs the same in all of them."""

STEM = 32
"""Channels of the stem, a 4×4 convolution of stride 2."""


def convolution(
    conv_op: ConvOp, channels: int, width: int, kernel_size: int = 3, *, stride: int = 1, norm: bool = True
) -> nn.Sequential:
    """Return a convolution with batch normalisation, or with a bias.

    The padding keeps the side at stride 1 and halves an even side at stride 2.
    """
    padding = (kernel_size - 1) // 2
    conv = conv_op(channels, width, kernel_size=kernel_size, stride=stride, padding=padding, bias=not norm)
    return nn.Sequential(conv, nn.BatchNorm2d(width)) if norm else nn.Sequential(conv)


def init_he(network: nn.Module) -> None:
    """Draw weights from a normal distribution of variance 2 / (K·K·Cᵢ); biases are zero (He et al. 2015, eq. 10)."""
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if weight is None or weight.ndim != 4:
            continue
        nn.init.kaiming_normal_(weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
