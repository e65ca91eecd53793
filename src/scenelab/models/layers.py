"""What the convolutional networks share: layers, three stages of equal cost, pooling, and the initial weights."""

from jaxtyping import Float
from torch import Tensor, nn

from scenelab.models.simplenet import ConvOp

WIDTHS = (64, 128, 256)
"""Channels of the three stages; each stage halves the sides, so a convolution costs the same in all of them."""

STEM = 32
"""Channels of the stem, a 4×4 convolution of stride 2."""


class StagedNet(nn.Module):
    """Features of stages, global average pooling and a linear layer, with He's initial weights."""

    def __init__(self, layers: list[nn.Module], channels: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, num_classes)
        init_he(self)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Return N×num_classes logits of N×3×H×W normalised images."""
        return self.fc(self.features(images).mean(dim=(2, 3)))


def convolution(
    conv_op: ConvOp, channels: int, width: int, kernel_size: int = 3, *, stride: int = 1, norm: bool = True
) -> nn.Sequential:
    """Return a convolution with batch normalisation, or with a bias.

    The padding keeps the side at stride 1 and halves an even side at stride 2.
    """
    padding = (kernel_size - 1) // 2
    conv = conv_op(channels, width, kernel_size=kernel_size, stride=stride, padding=padding, bias=not norm)
    return nn.Sequential(conv, nn.BatchNorm2d(width)) if norm else nn.Sequential(conv)


def conv_relu(
    conv_op: ConvOp, channels: int, width: int, kernel_size: int = 3, *, stride: int = 1, norm: bool = True
) -> list[nn.Module]:
    """Return a `convolution` and its ReLU."""
    return [convolution(conv_op, channels, width, kernel_size, stride=stride, norm=norm), nn.ReLU(inplace=True)]


def init_he(network: nn.Module) -> None:
    """Draw weights from a normal distribution of variance 2 / (K·K·Cᵢ); biases are zero (He et al. 2015, eq. 10)."""
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.ndim == 4:
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
