"""Building blocks of the convolutional networks: layers, the base class and weight initialization."""

from jaxtyping import Float
from torch import Tensor, nn

from scenelab.models.simplenet import ConvOp

WIDTHS = (64, 128, 256)
"""Channels of the three stages. Each stage halves the resolution, so a convolution costs the same in all stages."""

STEM = 32
"""Channels of the stem, a 4×4 convolution of stride 2."""


class StagedNet(nn.Module):
    """Base class of networks: convolutions, global average pooling and a linear layer, with He initialization."""

    def __init__(self, layers: list[nn.Module], channels: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, num_classes)
        init_he(self)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Return N×num_classes logits of N×3×H×W normalized images."""
        return self.fc(self.features(images).mean(dim=(2, 3)))


def convolution(
    conv_op: ConvOp, in_channels: int, out_channels: int, kernel_size: int = 3, *, stride: int = 1, norm: bool = True
) -> nn.Sequential:
    """Return a convolution without bias and a batch normalization or, without `norm`, a convolution with bias.

    `conv_op` is called like `nn.Conv2d`. Stride 1 keeps height and width if the kernel size is odd. Stride 2 halves
    even heights and widths.
    """
    padding = (kernel_size - 1) // 2
    conv = conv_op(in_channels, out_channels, kernel_size=kernel_size, stride=stride, padding=padding, bias=not norm)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels)) if norm else nn.Sequential(conv)


def conv_relu(
    conv_op: ConvOp, in_channels: int, out_channels: int, kernel_size: int = 3, *, stride: int = 1, norm: bool = True
) -> list[nn.Module]:
    """Return a list of two modules: `convolution` with the same arguments, and a ReLU."""
    conv = convolution(conv_op, in_channels, out_channels, kernel_size, stride=stride, norm=norm)
    return [conv, nn.ReLU(inplace=True)]


def init_he(network: nn.Module) -> None:
    """Initialize all convolutions: weights with mean 0 and variance 2 / fan_in, biases 0 (He et al. 2015, eq. 10)."""
    for module in network.modules():
        weight = getattr(module, "weight", None)
        if weight is not None and weight.ndim == 4:
            nn.init.kaiming_normal_(weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)  # pyright: ignore[reportArgumentType]
