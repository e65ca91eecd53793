"""ResidualNet: residual blocks (He et al. 2016); with batch normalisation it is our default network.

Every convolution is a full 3×3 (4×4 in the stem): in channels-last layout these run at the speed of large matrix
products, while 1×1, grouped and depthwise convolutions are bound by memory. docs/design.md compares the alternatives.
"""

from jaxtyping import Float
from torch import Tensor, nn

from scenelab.models.layers import WIDTHS, StagedNet, conv_relu, convolution
from scenelab.models.simplenet import ConvOp


class ResidualBlock(nn.Module):
    """relu(x + conv(relu(conv(x)))) with two 3×3 convolutions."""

    def __init__(self, conv_op: ConvOp, width: int, *, norm: bool) -> None:
        super().__init__()
        self.first = convolution(conv_op, width, width, norm=norm)
        self.second = convolution(conv_op, width, width, norm=norm)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return features of the shape of the input."""
        return self.relu(images + self.second(self.relu(self.first(images))))

    def start_at_zero(self) -> None:
        """Zero the last factor, so that the block is relu(x).

        It is the scale of the last normalisation (Goyal et al. 2017, section 5.1) or, without normalisation, the last
        convolution (Zhang et al. 2019).
        """
        nn.init.zeros_(self.second[-1].weight)  # pyright: ignore[reportArgumentType]


class ResidualNet(StagedNet):
    """Three stages of residual blocks, each after a 3×3 convolution of stride 2.

    Sides should be multiples of 16: other sides cost two or three points of accuracy (docs/experiments.md). `widths`
    and `blocks` are channels and blocks per stage; the stem has half of the first width; `norm` adds batch
    normalisation after each convolution (Ioffe & Szegedy 2015).
    """

    def __init__(
        self,
        conv_op: ConvOp = nn.Conv2d,
        num_classes: int = 100,
        *,
        widths: tuple[int, ...] = WIDTHS,
        blocks: tuple[int, ...] = (1, 1, 1),
        norm: bool = True,
    ) -> None:
        channels = widths[0] // 2
        layers = conv_relu(conv_op, 3, channels, 4, stride=2, norm=norm)
        for width, count in zip(widths, blocks, strict=True):
            layers += conv_relu(conv_op, channels, width, stride=2, norm=norm)
            layers += [ResidualBlock(conv_op, width, norm=norm) for _ in range(count)]
            channels = width
        super().__init__(layers, channels, num_classes)
        for module in self.features:
            if isinstance(module, ResidualBlock):
                module.start_at_zero()
