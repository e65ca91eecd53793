"""InceptionNet: parallel convolutions of several kernel sizes with concatenated outputs (Szegedy et al. 2015)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scenelab.models.layers import STEM, WIDTHS, StagedNet, conv_relu
from scenelab.models.simplenet import ConvOp


class Branches(nn.Module):
    """Inception block: parallel 1×1, 3×3, 5×5 and pooling branches with ¼, ½, ⅛ and ⅛ of the output channels.

    A 1×1 convolution reduces the channels at the start of the 3×3 and 5×5 branches. Two 3×3 convolutions replace the
    5×5 convolution (Szegedy et al. 2016, section 3.1).
    """

    def __init__(self, conv_op: ConvOp, width: int) -> None:
        super().__init__()
        quarter, half, eighth = width // 4, width // 2, width // 8

        def branch(*steps: tuple[int, int, int]) -> list[nn.Module]:
            return [module for step in steps for module in conv_relu(conv_op, *step)]

        self.one = nn.Sequential(*branch((width, quarter, 1)))
        self.three = nn.Sequential(*branch((width, half, 1), (half, half, 3)))
        self.five = nn.Sequential(*branch((width, eighth, 1), (eighth, eighth, 3), (eighth, eighth, 3)))
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *branch((width, eighth, 1)))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return features with the shape of the input."""
        return torch.cat([self.one(images), self.three(images), self.five(images), self.pool(images)], dim=1)


class InceptionNet(StagedNet):
    """Inception network with batch norm: three stages, each a 3×3 convolution of stride 2 and two inception blocks."""

    def __init__(self, conv_op: ConvOp = nn.Conv2d, num_classes: int = 100) -> None:
        layers, channels = conv_relu(conv_op, 3, STEM, 4, stride=2), STEM
        for width in WIDTHS:
            layers += conv_relu(conv_op, channels, width, stride=2)
            layers += [Branches(conv_op, width), Branches(conv_op, width)]
            channels = width
        super().__init__(layers, channels, num_classes)
