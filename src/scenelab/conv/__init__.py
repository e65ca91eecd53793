"""2D convolution by matrix multiplication, as a replacement of `F.conv2d` and `nn.Conv2d`."""

from scenelab.conv.autograd import Conv2dFunction
from scenelab.conv.conv2d import Conv2d, conv2d
from scenelab.conv.reference import conv2d_reference

__all__ = ["Conv2d", "Conv2dFunction", "conv2d", "conv2d_reference"]
