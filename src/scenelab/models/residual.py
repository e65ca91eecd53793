"""ResidualNet: blocks that add to what they are given (He et al. 2016); normalised it is our network.

Every convolution is a full one of 3×3 (4×4 in the stem): in channels-last layout these run as fast as large matrix
products or faster, where 1×1, grouped and depthwise ones wait for memory. Each stage halves the sides and doubles the
channels, so that a block costs the same in all of them. docs/design.md has what was tried in its place.
"""

from jaxtyping import Float
from torch import Tensor, nn

from scenelab.models.layers import WIDTHS, convolution, he_initialise
from scenelab.models.simplenet import ConvOp


class ResidualBlock(nn.Module):
    """relu(x + conv(relu(conv(x)))), two 3×3 convolutions; it begins as relu(x).

    The last factor starts at zero: the scale of the last normalisation (Goyal et al. 2017, section 5.1), or without
    normalisation the last convolution (Zhang et al. 2019).
    """

    def __init__(self, conv_op: ConvOp, width: int, *, norm: bool) -> None:
        super().__init__()
        self.first = convolution(conv_op, width, width, norm=norm)
        self.second = convolution(conv_op, width, width, norm=norm)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return self.relu(images + self.second(self.relu(self.first(images))))

    def start_at_zero(self) -> None:
        """Make the block begin as relu(x)."""
        nn.init.zeros_(self.second[-1].weight)  # pyright: ignore[reportArgumentType]


class ResidualNet(nn.Module):
    """Three stages of residual blocks, each begun by a 3×3 convolution of stride 2.

    Sides that are multiples of 16 fit the four halvings; on others the last window of a convolution reaches into
    padding that training never showed, and accuracy falls by two or three points (docs/experiments.md).

    Args:
        conv_op: the convolution module, called as `nn.Conv2d` is.
        num_classes: number of logits.
        widths: channels of the stages; the convolution before them has half of the first.
        blocks: residual blocks of each stage.
        norm: batch normalisation behind each convolution (Ioffe & Szegedy 2015).
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
        super().__init__()
        channels = widths[0] // 2
        layers: list[nn.Module] = [convolution(conv_op, 3, channels, 4, stride=2, norm=norm), nn.ReLU(inplace=True)]
        for width, count in zip(widths, blocks, strict=True):
            layers += [convolution(conv_op, channels, width, stride=2, norm=norm), nn.ReLU(inplace=True)]
            layers += [ResidualBlock(conv_op, width, norm=norm) for _ in range(count)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, num_classes)
        he_initialise(self)
        for module in self.modules():
            if isinstance(module, ResidualBlock):
                module.start_at_zero()

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        return self.fc(self.features(images).mean(dim=(2, 3)))
