"""Convolution and its gradients as sums of products: the three functions that do the arithmetic.

With input X (N×Cᵢ×H×W, zero outside its sides), weight W (Cₒ×Cᵢ×K×K), bias b, stride S and padding P:

    Y[n,o,h,w]     = b[o] + Σ_c Σ_i Σ_j  W[o,c,i,j] · X[n, c, S·h+i-P, S·w+j-P]
    ∂L/∂X[n,c,y,x] = Σ_o Σ_i Σ_j  W[o,c,i,j] · ∂L/∂Y[n,o,h,w]   where S·h+i-P = y and S·w+j-P = x
    ∂L/∂W[o,c,i,j] = Σ_n Σ_h Σ_w  ∂L/∂Y[n,o,h,w] · X[n, c, S·h+i-P, S·w+j-P]

Y has Hₒ = ⌊(H + 2P - K) / S⌋ + 1 rows, and columns likewise (Dumoulin & Visin 2016, relationship 6).

Four ways lead there, each in a file of its own: `pixels` (K = 1), `winograd` (3×3 with many channels), `rows` (stride
1) and `windows` (everything). They work on channels-last memory; other layouts are copied on the way in and out. The
functions check nothing and keep no gradient graph; `scenelab.conv.autograd` does both. None returns a view.
"""

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.conv import im2col, pointwise, shifted_gemm, winograd

Way = Literal["pixels", "winograd", "rows", "windows"]

WINOGRAD_CHANNELS = 64
"""From this many channels on both sides the additions of the transforms cost less than the multiplications they save;
measured in docs/convolution.md."""


def choose(kernel: int, stride: int, padding: int, channels_in: int, channels_out: int, dtype: torch.dtype) -> Way:
    """The fastest way for a shape, by the measurements in docs/convolution.md."""
    if kernel == 1 and padding == 0:
        return "pixels"
    if stride > 1 or padding >= kernel:
        return "windows"
    if kernel == 3 and dtype == torch.float32 and min(channels_in, channels_out) >= WINOGRAD_CHANNELS:
        return "winograd"
    return "rows"


def forward(
    input: Float[Tensor, "n ci h w"],
    weight: Float[Tensor, "co ci k k"],
    bias: Float[Tensor, "co"] | None,
    stride: int,
    padding: int,
) -> Float[Tensor, "n co ho wo"]:
    """Y, in channels_last if the input or the weight lies so in memory, as `F.conv2d` does."""
    images, _, height, width = input.shape
    kernel = weight.shape[-1]
    sides = [(side + 2 * padding - kernel) // stride + 1 for side in (height, width)]
    way = choose(kernel, stride, padding, weight.shape[1], weight.shape[0], input.dtype)
    output = _empty((images, weight.shape[0], *sides), input, computed(input.dtype, input.device))
    x, w, y = _last(input), _as_computed(weight), output.permute(0, 2, 3, 1)
    b = None if bias is None else _as_computed(bias)
    if not output.numel():
        pass
    elif way == "pixels":
        pointwise.forward(x, w, b, stride, y)
    elif way == "winograd":
        winograd.forward(x, w, b, padding, y)
    elif way == "rows":
        shifted_gemm.forward(x, w, b, padding, y)
    else:
        im2col.forward(x, w, b, stride, padding, y)
    return _finish(output, input.dtype, _memory_format(input, weight))


def grad_input(
    grad_output: Float[Tensor, "n co ho wo"],
    weight: Float[Tensor, "co ci k k"],
    input_shape: tuple[int, int, int, int],
    stride: int,
    padding: int,
) -> Float[Tensor, "n ci h w"]:
    """∂L/∂X. At stride 1 it is Y of ∂L/∂Y with the weight turned by 180 degrees and padding K-1-P
    (Dumoulin & Visin 2016, relationship 9)."""
    kernel = weight.shape[-1]
    if stride == 1 and padding < kernel and kernel > 1:
        return forward(grad_output, weight.flip(2, 3).transpose(0, 1), None, 1, kernel - 1 - padding)
    result = _empty(input_shape, grad_output, computed(grad_output.dtype, grad_output.device))
    dy, w, dx = _last(grad_output), _as_computed(weight), result.permute(0, 2, 3, 1)
    if not grad_output.numel():
        result.zero_()
    elif kernel == 1 and padding == 0:
        pointwise.grad_input(dy, w, stride, dx)
    else:
        im2col.grad_input(dy, w, stride, padding, dx)
    return _finish(result, grad_output.dtype, _memory_format(grad_output, weight))


def grad_weight(
    grad_output: Float[Tensor, "n co ho wo"],
    input: Float[Tensor, "n ci h w"],
    kernel_size: int,
    stride: int,
    padding: int,
) -> Float[Tensor, "co ci k k"]:
    """∂L/∂W: each window of the input, weighed by the gradient of the output that it made."""
    channels_in, channels_out = input.shape[1], grad_output.shape[1]
    way = choose(kernel_size, stride, padding, channels_in, channels_out, input.dtype)
    x, dy = _last(input), _last(grad_output)
    if not grad_output.numel():
        gradient = x.new_zeros(channels_out, channels_in, kernel_size, kernel_size)
    elif way == "pixels":
        gradient = pointwise.grad_weight(dy, x, stride)
    elif way == "winograd":
        gradient = winograd.grad_weight(dy, x, padding)
    elif way == "rows":
        gradient = shifted_gemm.grad_weight(dy, x, kernel_size, padding)
    else:
        gradient = im2col.grad_weight(dy, x, kernel_size, stride, padding)
    return gradient.to(input.dtype).clone(memory_format=_memory_format(input, grad_output))


def computed(dtype: torch.dtype, device: torch.device) -> torch.dtype:
    """The dtype that is computed in: 16-bit floats in float32 on the CPU, which sums exactly and is faster there."""
    small = dtype in (torch.float16, torch.bfloat16)
    return torch.float32 if small and device.type == "cpu" else dtype


def _as_computed(tensor: Tensor) -> Tensor:
    return tensor.to(computed(tensor.dtype, tensor.device))


def _last(tensor: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w c"]:
    """Channels innermost in memory and in the shape; a view where the memory lies so already."""
    return _as_computed(tensor).contiguous(memory_format=torch.channels_last).permute(0, 2, 3, 1).contiguous()


def _empty(shape: tuple[int, ...], like: Tensor, dtype: torch.dtype) -> Tensor:
    """A tensor of its own, no view, in channels-last memory."""
    return torch.empty(shape, dtype=dtype, device=like.device, memory_format=torch.channels_last)


def _finish(result: Tensor, dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
    """The result in the dtype and layout that were asked for; it lies in channels-last memory already."""
    result = result.to(dtype)
    return result if layout == torch.channels_last else result.clone(memory_format=layout)


def _memory_format(*tensors: Float[Tensor, "_ _ _ _"]) -> torch.memory_format:
    """channels_last if any of the tensors has its channels innermost in memory."""
    return torch.channels_last if any(map(_channels_innermost, tensors)) else torch.contiguous_format


def _channels_innermost(tensor: Float[Tensor, "n c h w"]) -> bool:
    """Whether the strides step through channels, columns, rows, images in this order, gaps allowed.

    The strides decide, for `is_contiguous(memory_format=channels_last)` is also true of an ordinary tensor with
    one channel or of one pixel.
    """
    (_, channels, height, width), (by_image, by_channel, by_row, by_column) = tensor.shape, tensor.stride()
    by_rows = height * by_row
    return by_column >= channels * by_channel and by_row >= width * by_column and by_image >= by_rows > by_channel
