"""ResidualNet: a network of residual blocks (He et al. 2016), the default network of scenelab.

All convolutions are full 3×3 convolutions (4×4 in the stem). In channels_last format they run at the speed of large
matrix products, while 1×1, grouped and depthwise convolutions are memory-bound (comparison in docs/design.md).
"""

from jaxtyping import Float
from torch import Tensor, nn

from scenelab.models.layers import WIDTHS, StagedNet, conv_relu, convolution
from scenelab.models.simplenet import ConvOp


class ResidualBlock(nn.Module):
    """Residual block relu(x + conv(relu(conv(x)))) of two 3×3 convolutions."""

    def __init__(self, conv_op: ConvOp, width: int, *, norm: bool) -> None:
        super().__init__()
        self.first = convolution(conv_op, width, width, norm=norm)
        self.second = convolution(conv_op, width, width, norm=norm)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return features with the shape of the input."""
        return self.relu(images + self.second(self.relu(self.first(images))))

    def start_at_zero(self) -> None:
        """Initialize the block to relu(x) by setting the weights of its last layer to zero.

        The last layer is batch normalization (Goyal et al. 2017, section 5.1) or, without normalization, a convolution
        (Zhang et al. 2019).
        """
        nn.init.zeros_(self.second[-1].weight)  # pyright: ignore[reportArgumentType]


class ResidualNet(StagedNet):
    """Residual network: three stages, each a 3×3 convolution of stride 2 followed by residual blocks.

    Height and width of the images should be multiples of 16; other sizes cost 2 to 3 percentage points of accuracy
    (docs/experiments.md).

    Args:
        conv_op: constructor of the convolutions, called like `nn.Conv2d`.
        num_classes: number of logits.
        widths: channels per stage; the stem has half the channels of the first stage.
        blocks: number of residual blocks per stage.
        norm: whether to add batch normalization after each convolution (Ioffe & Szegedy 2015).
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
