"""SceneNet: our network, for accuracy a second on a CPU; docs/design.md has the reasons and what was tried instead.

Every convolution is a full one of 3×3 (4×4 in the stem): in channels-last layout these run as fast as large matrix
products or faster, where 1×1, grouped and depthwise ones wait for memory. Each stage halves the sides and doubles the
channels, so that a block costs the same in all of them.
"""

from torch import nn

from scenelab.models.residual import ResidualNet
from scenelab.models.simplenet import ConvOp


class SceneNet(ResidualNet):
    """ResidualNet whose blocks stand where they pay most for their time.

    Sides that are multiples of 16 fit the four halvings; on others the last window of a convolution reaches into
    padding that training never showed, and accuracy falls by two or three points (docs/experiments.md).

    Args:
        conv_op: the convolution module, called as `nn.Conv2d` is.
        num_classes: number of logits.
        blocks: residual blocks of the stages with 64, 128 and 256 channels.
    """

    def __init__(
        self, conv_op: ConvOp = nn.Conv2d, num_classes: int = 100, *, blocks: tuple[int, ...] = (0, 2, 1)
    ) -> None:
        super().__init__(conv_op, num_classes, blocks=blocks)
