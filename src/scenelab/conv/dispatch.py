"""Convolution and its two gradients: formulas, and the choice of an algorithm per shape.

With input X (N×Cᵢ×H×W, zero outside its bounds), weight W (Cₒ×Cᵢ×K×K), bias b, stride S and padding P:

    Y[n,o,h,w]     = b[o] + Σ_c Σ_i Σ_j  W[o,c,i,j] · X[n, c, S·h+i-P, S·w+j-P]
    ∂L/∂X[n,c,y,x] = Σ_o Σ_i Σ_j  W[o,c,i,j] · ∂L/∂Y[n,o,h,w]   with h, w such that S·h+i-P = y and S·w+j-P = x
    ∂L/∂W[o,c,i,j] = Σ_n Σ_h Σ_w  ∂L/∂Y[n,o,h,w] · X[n, c, S·h+i-P, S·w+j-P]

Y has Hₒ = ⌊(H + 2P - K) / S⌋ + 1 rows, and Wₒ columns accordingly (Dumoulin & Visin 2016, relationship 6).

There are four algorithms: `pointwise` (K = 1), `winograd` (3×3 with many channels), `shifted_gemm` (stride 1) and
`im2col` (every shape). All have the same signatures and work on channels-last memory. `scenelab.conv.autograd` checks
the arguments and records the autograd graph. No function returns a view.

The fast algorithms multiply the zeros of the padding (0·∞ = NaN), and Winograd's combines all pixels of a tile and
overflows earlier. An infinite value or NaN then reaches unrelated results: at the border, or in the same 4×4 tile.
On CPUs, results that are not finite are computed again by `taps`, except under `torch.compile`.
"""

import math
from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor
from torch.fx.experimental.proxy_tensor import get_proxy_mode

from scenelab.conv import im2col, pointwise, shifted_gemm, taps, winograd
from scenelab.conv.gemm import Bias, Weight

Shape = tuple[int, int, int, int]
Input = Float[Tensor, "n ci h w"]
Output = Float[Tensor, "n co ho wo"]

WINOGRAD_CHANNELS = 64
"""Minimum of input and output channels for Winograd's algorithm; with fewer, its transforms take more time than they
save (docs/convolution.md)."""


def select_algorithm(
    kernel: int, stride: int, padding: int, channels_in: int, channels_out: int, dtype: torch.dtype
) -> ModuleType:
    """Return the module of the fastest algorithm for a shape, as measured in docs/convolution.md."""
    if kernel == 1 and padding == 0:
        return pointwise
    if stride > 1 or padding >= kernel:
        return im2col
    if kernel == 3 and dtype == torch.float32 and min(channels_in, channels_out) >= WINOGRAD_CHANNELS:
        return winograd
    return shifted_gemm


def forward(input: Input, weight: Weight, bias: Bias, stride: int, padding: int) -> Output:
    """Return the convolution Y, in channels_last format if the input or the weight is, as for `F.conv2d`."""
    (images, channels_in, height, width), (channels_out, _, kernel, _) = input.shape, weight.shape
    sides = tuple((side + 2 * padding - kernel) // stride + 1 for side in (height, width))
    output = _empty((images, channels_out, *sides), input)
    if not output.numel():
        return _restore_format(output, input, weight)
    bias = None if bias is None else bias.to(output.dtype)
    arguments, is_valid = (_to_nhwc(input), weight.to(output.dtype), bias, stride, padding), False
    if get_proxy_mode() is None:
        algorithm = select_algorithm(kernel, stride, padding, channels_in, channels_out, input.dtype)
        algorithm.forward(*arguments, output.permute(0, 2, 3, 1))
        # The other algorithms spread no pixel, but multiply each weight with the padding at the first output.
        is_valid = _is_finite(output if algorithm is winograd else output[:1, :, 0, 0])
    return _restore_format(output if is_valid else _to_nchw(taps.forward(*arguments, sides)), input, weight)


def grad_input(grad_output: Output, weight: Weight, input_shape: Shape, stride: int, padding: int) -> Input:
    """Return the gradient ∂L/∂X.

    At stride 1 this is ∂L/∂Y convolved with W rotated by 180° (Dumoulin & Visin 2016, relationship 9).
    """
    kernel = weight.shape[-1]
    if stride == 1 and padding < kernel and kernel > 1:
        return forward(grad_output, weight.flip(2, 3).transpose(0, 1), None, 1, kernel - 1 - padding)
    result = _empty(input_shape, grad_output)
    if grad_output.numel():
        algorithm = pointwise if kernel == 1 and padding == 0 else im2col
        arguments = _to_nhwc(grad_output), weight.to(result.dtype), stride, padding
        if get_proxy_mode() is None:
            algorithm.grad_input(*arguments, result.permute(0, 2, 3, 1))
        else:
            result = _to_nchw(taps.grad_input(*arguments, input_shape[2:]))
    else:
        result.zero_()
    return _restore_format(result, grad_output, weight)


def grad_weight(grad_output: Output, input: Input, kernel_size: int, stride: int, padding: int) -> Weight:
    """Return the gradient ∂L/∂W: the sum of the input's windows, each weighted by the gradient of its output."""
    channels_in, channels_out = input.shape[1], grad_output.shape[1]
    if grad_output.numel():
        arguments, is_valid = (_to_nhwc(grad_output), _to_nhwc(input), kernel_size, stride, padding), False
        gradient = input
        if get_proxy_mode() is None:
            algorithm = select_algorithm(kernel_size, stride, padding, channels_in, channels_out, input.dtype)
            gradient = algorithm.grad_weight(*arguments)
            is_valid = _is_finite(gradient)
        gradient = gradient if is_valid else taps.grad_weight(*arguments)
    else:
        gradient = input.new_zeros(channels_out, channels_in, kernel_size, kernel_size)
    return gradient.to(input.dtype).clone(memory_format=_memory_format(input, grad_output))


def _is_finite(values: Tensor) -> bool:
    """Return whether all values are finite; skip the check (True) while tracing and on GPUs, which it would stall."""
    if values.device.type != "cpu" or torch.compiler.is_compiling():
        return True
    try:
        return math.isfinite(values.sum().item())
    except RuntimeError:  # a fake tensor has no values
        return True


def _to_nchw(tensor: Float[Tensor, "n h w c"]) -> Float[Tensor, "n c h w"]:
    """Return a copy of an NHWC tensor with shape NCHW, in channels_last format."""
    return tensor.permute(0, 3, 1, 2).clone()


def _compute_dtype(tensor: Tensor) -> torch.dtype:
    """Return the dtype of the computation: float32 for 16-bit floats on CPUs, where it is faster and more precise."""
    small = tensor.dtype in (torch.float16, torch.bfloat16)
    return torch.float32 if small and tensor.device.type == "cpu" else tensor.dtype


def _to_nhwc(tensor: Float[Tensor, "n c h w"]) -> Float[Tensor, "n h w c"]:
    """Return an NCHW tensor as contiguous NHWC in the dtype of the computation; copy only where needed."""
    return tensor.to(_compute_dtype(tensor)).permute(0, 2, 3, 1).contiguous()


def _empty(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """Return an uninitialized channels-last tensor in the dtype of the computation."""
    return torch.empty(shape, dtype=_compute_dtype(like), device=like.device, memory_format=torch.channels_last)


def _restore_format(result: Tensor, *arguments: Tensor) -> Tensor:
    """Convert a result to the dtype of the first argument, and to channels_last format if any argument has it."""
    result, layout = result.to(arguments[0].dtype), _memory_format(*arguments)
    return result if layout == torch.channels_last else result.clone(memory_format=layout)


def _memory_format(*tensors: Tensor) -> torch.memory_format:
    return torch.channels_last if any(map(_is_channels_last, tensors)) else torch.contiguous_format


def _is_channels_last(tensor: Float[Tensor, "n c h w"]) -> bool:
    """Return whether a tensor has the strides of channels_last format.

    `is_contiguous(memory_format=torch.channels_last)` is also true for NCHW tensors with one channel.
    """
    (_, channels, height, width), (by_image, by_channel, by_row, by_column) = tensor.shape, tensor.stride()
    by_rows = height * by_row
    return by_column >= channels * by_channel and by_row >= width * by_column and by_image >= by_rows > by_channel
