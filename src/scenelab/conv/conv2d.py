"""2D convolution as a function and as a module, with the signatures of `F.conv2d` and `nn.Conv2d`."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scenelab.conv import checks
from scenelab.conv.autograd import Conv2dFunction


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> Tensor:
    """Return the 2D convolution (cross-correlation) of images and filters, Y[n,o] = b[o] + Σ_c W[o,c] ⋆ X[n,c].

    Examples:
        >>> image = torch.tensor([[[[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]]])
        >>> difference = torch.tensor([[[[0.0, 0.0], [-1.0, 1.0]]]])  # right minus left, in the lower row
        >>> conv2d(image, difference)
        tensor([[[[ 8., 16.]]]])

    Args:
        input: N×Ci×H×W with N ≥ 0; float64, float32, bfloat16 or float16, in any memory format.
        weight: Co×Ci×K×K, with the dtype and device of the input.
        bias: shape (Co,), or None.
        stride: step between windows, at least 1.
        padding: number of zeros added on each side; the padded input must be at least K×K.
        dilation: must be 1; exists for the signature of `F.conv2d`.
        groups: must be 1; exists for the signature of `F.conv2d`.

    Returns:
        N×Co×Ho×Wo tensor with Ho = ⌊(H + 2·padding - K) / stride⌋ + 1, and Wo accordingly (Dumoulin & Visin 2016,
        relationship 6). Never a view; in channels_last format if the input or the weight is. Supports gradients of any
        order.

    Raises:
        LabError: an argument is invalid.
    """
    checks.check_undilated_ungrouped(dilation, groups)
    return Conv2dFunction.apply(input, weight, bias, stride, padding)


class Conv2d(nn.Module):
    """Convolution layer with the arguments, initialization, state dict and output of `nn.Conv2d`.

    Kernel size, stride and padding must be ints; dilation and groups must be 1.
    """

    bias: nn.Parameter | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
        *,
        device: Any = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "kernel_size": kernel_size}
        checks.check_integers(1, **sizes, stride=stride)
        checks.check_integers(0, padding=padding)
        checks.check_undilated_ungrouped(dilation, groups)
        self.in_channels, self.out_channels = in_channels, out_channels
        # Pairs as in nn.Conv2d, for code that reads these attributes.
        self.kernel_size, self.stride, self.padding = (kernel_size,) * 2, (stride,) * 2, (padding,) * 2
        self.dilation, self.groups = (1, 1), 1
        weight = torch.empty(out_channels, in_channels, kernel_size, kernel_size, device=device, dtype=dtype)
        self.weight = nn.Parameter(weight)
        self.register_parameter("bias", nn.Parameter(weight.new_empty(out_channels)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias from U(-1/√n, 1/√n) with n = Ci·K²; the values equal `nn.Conv2d`'s for the same seed.

        For the weight this is Kaiming uniform initialization with a = √5 (He et al. 2015, equation 10).
        """
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Float[Tensor, "n ci h w"]) -> Float[Tensor, "n co ho wo"]:
        """Return the convolution of a batch N×Ci×H×W, shape N×Co×Ho×Wo."""
        return conv2d(input, self.weight, self.bias, self.stride[0], self.padding[0])

    def extra_repr(self) -> str:
        """Return the arguments as text, in the format of `nn.Conv2d`."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding}" if self.padding != (0, 0) else ""
        return text + (", bias=False" if self.bias is None else "")
