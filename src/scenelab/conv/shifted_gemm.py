"""Convolution at stride 1 by K·K products of shifted views of the padded images, without copying windows.

The padded pixels of a block of images form a matrix X with one row of Ci values per pixel and `pitch` pixels per image
row. The output at pixel r needs, for kernel row i, the pixels r+i·pitch, …, r+i·pitch+K-1: K·Ci adjacent values in
memory. For the outputs r = p, p+K, p+2K, … these values are the rows of a view of X. So for each phase p = 0 … K-1 and
each kernel row i:

    Y[p::K] += X[p+i·pitch :].view(-1, K·Ci) · W[i]          W[i] is the (K·Ci) × Co slice of the weight

The zeros between two image rows are the right padding of one and the left padding of the next. Outputs whose windows
span two image rows are discarded.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.conv.gemm import Bias, Input, Output, Weight, blocks, gemm, gemm_accumulate, images_per_block


class _PaddedBlock:
    """Workspace for a block of zero-padded images, stored as a matrix with one row per pixel."""

    def __init__(self, input: Float[Tensor, "n h w ci"], kernel: int, padding: int) -> None:
        images, height, width, channels = input.shape
        self.kernel, self.padding = kernel, padding
        self.lines = height + padding
        self.pitch = -(-(width + padding) // kernel) * kernel  # a multiple of K: all phases have equal sizes
        self.height, self.width = height + 2 * padding - kernel + 1, width + 2 * padding - kernel + 1
        area = self.lines * self.pitch
        self.images = images_per_block(images, area * channels * input.element_size(), input.device)
        step = kernel * torch.get_num_threads()
        self.rows = -(-self.images * area // step) * step
        self.pixels = input.new_zeros(self.rows + (kernel - 1) * (self.pitch + 1), channels)

    def load(self, images: Float[Tensor, "b h w ci"]) -> None:
        """Copy a block of images into the workspace; set the rows after the last image to zero."""
        (count, _, width, _), begin = images.shape, self.padding
        area = self.lines * self.pitch
        lines = self.pixels[: count * area].view(count, self.lines, self.pitch, -1)
        lines[:, begin:, begin : begin + width].copy_(images)
        self.pixels[count * area :].zero_()

    def windows(self, row: int, phase: int) -> Float[Tensor, "r kci"]:
        """Return a view of the K·Ci inputs of kernel row `row`, for the outputs at pixels phase, phase+K, …."""
        start = phase + row * self.pitch
        return self.pixels[start : start + self.rows].view(self.rows // self.kernel, -1)

    def new_outputs(self, channels: int) -> Float[Tensor, "k r co"]:
        """Return a zeroed buffer for outputs at all pixels of the workspace; entry p contains pixels p, p+K, …."""
        return self.pixels.new_zeros(self.kernel, self.rows // self.kernel, channels)

    def valid(self, outputs: Float[Tensor, "k r co"], phase: int, count: int) -> Float[Tensor, "b ho wp co"]:
        """Return a view of the valid outputs of the first `count` images at columns phase, phase+K, …."""
        across = self.pitch // self.kernel
        lines = outputs[phase, : count * self.lines * across].view(count, self.lines, across, -1)
        return lines[:, : self.height, : len(range(phase, self.width, self.kernel))]


def forward(input: Input, weight: Weight, bias: Bias, stride: int, padding: int, output: Output) -> None:
    """Write the convolution Y to `output`; the stride must be 1 and the padding less than K."""
    kernel = weight.shape[-1]
    padded = _PaddedBlock(input, kernel, padding)
    slices = weight.permute(2, 3, 1, 0).reshape(kernel, -1, len(weight))
    outputs = padded.new_outputs(len(weight))
    for start, end in blocks(len(input), padded.images):
        padded.load(input[start:end])
        for phase in range(kernel):
            for row in range(kernel):
                gemm(padded.windows(row, phase), slices[row], outputs[phase], add=row > 0)
            valid, target = padded.valid(outputs, phase, end - start), output[start:end, :, phase::kernel]
            if bias is None:
                target.copy_(valid)
            else:
                torch.add(valid, bias, out=target)


def grad_weight(grad_output: Output, input: Input, kernel: int, stride: int, padding: int) -> Weight:
    """Return the gradient ∂W, where ∂W[i] = Σ_p X[p+i·pitch :].view(-1, K·Ci)ᵀ · ∂Y[p::K].

    ∂Y is zero at discarded outputs.
    """
    channels, channels_in = grad_output.shape[-1], input.shape[-1]
    padded = _PaddedBlock(input, kernel, padding)
    outputs = padded.new_outputs(channels)
    total = input.new_zeros(kernel, torch.get_num_threads(), kernel * channels_in, channels)
    for start, end in blocks(len(input), padded.images):
        padded.load(input[start:end])
        if end - start < padded.images:
            outputs.zero_()
        for phase in range(kernel):
            padded.valid(outputs, phase, end - start).copy_(grad_output[start:end, :, phase::kernel])
            for row in range(kernel):
                gemm_accumulate(total[row], padded.windows(row, phase), outputs[phase])
    return total.sum(dim=1).view(kernel, kernel, channels_in, channels).permute(3, 2, 0, 1)
