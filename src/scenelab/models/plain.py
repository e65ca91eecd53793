"""PlainNet: only convolutions and ReLU, as in VGG (Simonyan & Zisserman 2015)."""

from jaxtyping import Float
from torch import Tensor, nn

from scenelab.models.layers import STEM, WIDTHS, convolution, init_he
from scenelab.models.simplenet import ConvOp


class PlainNet(nn.Module):
    """Three stages of 3×3 convolutions with ReLU, the first of each with stride 2; no normalisation.

    Args:
        conv_op: the convolution module, called as `nn.Conv2d` is.
        num_classes: number of logits.
        depth: 3×3 convolutions per stage after the strided one.
    """

    def __init__(self, conv_op: ConvOp = nn.Conv2d, num_classes: int = 100, *, depth: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = [convolution(conv_op, 3, STEM, 4, stride=2, norm=False), nn.ReLU(inplace=True)]
        channels = STEM
        for width in WIDTHS:
            for index in range(1 + depth):
                stride = 2 if index == 0 else 1
                layers.append(convolution(conv_op, channels, width, stride=stride, norm=False))
                layers.append(nn.ReLU(inplace=True))
                channels = width
        self.features = nn.Sequential(*layers)
        self.fc = nn.Linear(channels, num_classes)
        init_he(self)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Return N×num_classes logits of N×3×H×W normalised images."""
        return self.fc(self.features(images).mean(dim=(2, 3)))
