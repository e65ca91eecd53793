"""PlainNet: a stack of convolutions and ReLU, as in VGG (Simonyan & Zisserman 2015)."""

from torch import nn

from scenelab.models.layers import STEM, WIDTHS, StagedNet, conv_relu
from scenelab.models.simplenet import ConvOp


class PlainNet(StagedNet):
    """Plain network without normalization: three stages of one 3×3 convolution of stride 2 and `depth` of stride 1."""

    def __init__(self, conv_op: ConvOp = nn.Conv2d, num_classes: int = 100, *, depth: int = 2) -> None:
        layers, channels = conv_relu(conv_op, 3, STEM, 4, stride=2, norm=False), STEM
        for width in WIDTHS:
            layers += conv_relu(conv_op, channels, width, stride=2, norm=False)
            for _ in range(depth):
                layers += conv_relu(conv_op, width, width, norm=False)
            channels = width
        super().__init__(layers, channels, num_classes)
