"""Our convolution as a function and as a module, in the place of `F.conv2d` and `nn.Conv2d`."""

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
    """Cross-correlate each image with each filter, Y[n,o] = b[o] + Σ_c W[o,c] ⋆ X[n,c].

    >>> image = torch.tensor([[[[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]]])
    >>> difference = torch.tensor([[[[0.0, 0.0], [-1.0, 1.0]]]])  # right minus left, in the lower row
    >>> conv2d(image, difference)
    tensor([[[[ 8., 16.]]]])

    Args:
        input: N×Ci×H×W, any N from 0; float64, float32, bfloat16 or float16 in any memory layout.
        weight: Co×Ci×K×K, of the input's dtype and device.
        bias: one value per output channel, or None.
        stride: step between windows, 1 or more.
        padding: zeros on each side; K must fit into the padded input.
        dilation: must be 1, as groups; both exist for the signature of `F.conv2d`.
        groups: must be 1.

    Returns:
        N×Co×Ho×Wo with Ho = ⌊(H + 2·padding - K) / stride⌋ + 1, Wo likewise (Dumoulin & Visin 2016, relationship 6);
        never a view; in channels_last if the input or the weight is. Differentiable any number of times.

    Raises:
        LabError: An argument is invalid; the message names it, what is expected and what it is.
    """
    checks.check_undilated_ungrouped(dilation, groups)
    return Conv2dFunction.apply(input, weight, bias, stride, padding)


class Conv2d(nn.Module):
    """A convolution layer with the arguments, initial weights, state dict and output of `nn.Conv2d`.

    Kernel, stride and padding are ints, as in `conv2d`; dilation and groups must be 1.
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
        # Pairs as in nn.Conv2d, for code that reads the geometry of a layer.
        self.kernel_size, self.stride, self.padding = (kernel_size,) * 2, (stride,) * 2, (padding,) * 2
        self.dilation, self.groups = (1, 1), 1
        weight = torch.empty(out_channels, in_channels, kernel_size, kernel_size, device=device, dtype=dtype)
        self.weight = nn.Parameter(weight)
        self.register_parameter("bias", nn.Parameter(weight.new_empty(out_channels)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw weight and bias from U(-1/√n, 1/√n) with n = Ci·K², as `nn.Conv2d` does from the same seed.

        This is Kaiming-uniform with a = √5 (He et al. 2015, equation 10).
        """
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight[0].numel())
            nn.init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Float[Tensor, "n ci h w"]) -> Float[Tensor, "n co ho wo"]:
        """Return the N×Co×Ho×Wo output."""
        return conv2d(input, self.weight, self.bias, self.stride[0], self.padding[0])

    def extra_repr(self) -> str:
        """Return the arguments as `nn.Conv2d` prints them."""
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        text += f", padding={self.padding}" if self.padding != (0, 0) else ""
        return text + (", bias=False" if self.bias is None else "")
