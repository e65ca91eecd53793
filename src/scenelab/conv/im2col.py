"""im2col (Chellapilla et al. 2006): convolution of any shape by copying windows, with one product per block."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.conv.gemm import Bias, Input, Output, Weight, blocks, gemm_accumulate, gemm_bias, images_per_block, splits


def _windows(
    input: Float[Tensor, "n h w c"], kernel: int, stride: int, padding: int, shape: tuple[int, int]
) -> Iterator[tuple[int, int, Float[Tensor, "b hwo kkc"]]]:
    """Yield (start, end, K×K windows of images start … end-1) per block; the windows' memory is reused."""
    images, height, width, channels = input.shape
    size = shape[0] * shape[1] * kernel * kernel * channels * input.element_size()
    count = images_per_block(images, size, input.device)
    padded = input.new_zeros(count, height + 2 * padding, width + 2 * padding, channels)
    block = input.new_empty(count, *shape, kernel, kernel * channels)
    by_image, by_line, by_pixel, _ = padded.stride()
    strides = (by_image, stride * by_line, stride * by_pixel, by_line, 1)
    for start, end in blocks(images, count):
        padded[: end - start, padding : padding + height, padding : padding + width].copy_(input[start:end])
        windows = block[: end - start]
        windows.copy_(padded.as_strided(windows.shape, strides))
        yield start, end, windows.view(end - start, shape[0] * shape[1], -1)


def _matrix(weight: Weight) -> Float[Tensor, "kkci co"]:
    return weight.permute(2, 3, 1, 0).reshape(-1, len(weight))


def forward(input: Input, weight: Weight, bias: Bias, stride: int, padding: int, output: Output) -> None:
    """Write the convolution Y = windows(X) · W + b to `output`."""
    matrix, shape = _matrix(weight), (output.shape[1], output.shape[2])
    for start, end, windows in _windows(input, weight.shape[-1], stride, padding, shape):
        gemm_bias(windows.flatten(0, 1), matrix, bias, output[start:end].view(-1, len(weight)))


def grad_weight(grad_output: Output, input: Input, kernel: int, stride: int, padding: int) -> Weight:
    """Return the gradient ∂W = windows(X)ᵀ · ∂Y, summed over all blocks of images."""
    shape, channels_in, channels = (grad_output.shape[1], grad_output.shape[2]), input.shape[-1], grad_output.shape[-1]
    count = splits(shape[0] * shape[1])
    total = input.new_zeros(count, kernel * kernel * channels_in, channels)
    for start, end, windows in _windows(input, kernel, stride, padding, shape):
        gemm_accumulate(total, windows.flatten(0, 1), grad_output[start:end].reshape(-1, channels))
    return total.sum(dim=0).view(kernel, kernel, channels_in, channels).permute(3, 2, 0, 1)


def grad_input(grad_output: Output, weight: Weight, stride: int, padding: int, result: Input) -> None:
    """Write the gradient ∂X to `result` by col2im: sum the overlapping windows ∂Y · Wᵀ at each pixel."""
    (images, height, width, channels_in), kernel = result.shape, weight.shape[-1]
    _, rows, columns, channels = grad_output.shape
    matrix = _matrix(weight).t()
    size = rows * columns * kernel * kernel * channels_in * result.element_size()
    count = images_per_block(images, size, result.device)
    padded = result.new_empty(count, height + 2 * padding, width + 2 * padding, channels_in)
    for start, end in blocks(images, count):
        grad_windows = torch.mm(grad_output[start:end].reshape(-1, channels), matrix)
        places = grad_windows.view(end - start, rows, columns, kernel, kernel, channels_in)
        target = padded[: end - start].zero_()
        for i in range(kernel):
            for j in range(kernel):
                last_row, last_column = i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1
                target[:, i:last_row:stride, j:last_column:stride] += places[:, :, :, i, j]
        result[start:end].copy_(target[:, padding : padding + height, padding : padding + width])
