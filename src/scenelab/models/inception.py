"""InceptionNet: parallel filters of several sizes, their outputs concatenated (Szegedy et al. 2015)."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scenelab.models.layers import STEM, WIDTHS, convolution, init_he
from scenelab.models.simplenet import ConvOp


class Branches(nn.Module):
    """Four branches, 1×1, 3×3, 5×5 and pooling, with ¼, ½, ⅛ and ⅛ of the channels.

    A 1×1 convolution reduces the channels before each 3×3; two 3×3 replace one 5×5 (Szegedy et al. 2016, section 3.1).
    """

    def __init__(self, conv_op: ConvOp, width: int) -> None:
        super().__init__()
        quarter, half, eighth = width // 4, width // 2, width // 8

        def step(channels: int, out: int, kernel_size: int) -> list[nn.Module]:
            return [convolution(conv_op, channels, out, kernel_size), nn.ReLU(inplace=True)]

        self.one = nn.Sequential(*step(width, quarter, 1))
        self.three = nn.Sequential(*step(width, half, 1), *step(half, half, 3))
        self.five = nn.Sequential(*step(width, eighth, 1), *step(eighth, eighth, 3), *step(eighth, eighth, 3))
        self.pool = nn.Sequential(nn.MaxPool2d(3, stride=1, padding=1), *step(width, eighth, 1))

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return features of the shape of the input."""
        return torch.cat([self.one(images), self.three(images), self.five(images), self.pool(images)], dim=1)


class InceptionNet(nn.Module):
    """Three stages of multi-branch blocks with batch normalisation, each after a 3×3 convolution of stride 2.

    Args:
        conv_op: the convolution module, called as `nn.Conv2d` is.
        num_classes: number of logits.
        blocks: multi-branch blocks per stage.
    """

    def __init__(self, conv_op: ConvOp = nn.Conv2d, num_classes: int = 100, *, blocks: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolution(conv_op, 3, STEM, 4, stride=2), nn.ReLU(inplace=True)]
        channels = STEM
        for width in WIDTHS:
            layers += [convolution(conv_op, channels, width, stride=2), nn.ReLU(inplace=True)]
            layers += [Branches(conv_op, width) for _ in range(blocks)]
            channels = width
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, num_classes)
        init_he(self)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Return N×num_classes logits of N×3×H×W normalised images."""
        return self.fc(self.features(images).mean(dim=(2, 3)))
