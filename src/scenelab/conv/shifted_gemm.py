"""Stride 1: K·K products of shifted views of the padded pixels, without copying windows.

The padded pixels of a block of images are one list of rows of Ci numbers. For the output at position r, kernel row i
needs the K neighbours r+i·pitch, …, r+i·pitch+K-1: K·Ci adjacent numbers. The matrix whose rows begin at
r = p, p+K, p+2K, … is a view of the list with rows of K·Ci numbers. So for each phase p = 0 … K-1 and kernel row i

    Y[p::K] += X[p+i·pitch :].view(-1, K·Ci) · W[i]          W[i] is the (K·Ci) × Co slice of the weight

P zeros between two lines are the right padding of one and the left padding of the next. Outputs computed across such a
seam are dropped.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.conv.gemm import Bias, Input, Output, Weight, blocks, gemm, gemm_accumulate, images_per_block


class _Lines:
    """The padded pixels of a block of images as rows of one matrix."""

    def __init__(self, input: Float[Tensor, "n h w ci"], kernel: int, padding: int) -> None:
        images, height, width, channels = input.shape
        self.kernel, self.padding = kernel, padding
        self.lines = height + padding
        self.pitch = -(-(width + padding) // kernel) * kernel  # a multiple of K: each phase has whole lines
        self.height, self.width = height + 2 * padding - kernel + 1, width + 2 * padding - kernel + 1
        area = self.lines * self.pitch
        self.images = images_per_block(images, area * channels * input.element_size(), input.device)
        step = kernel * torch.get_num_threads()
        self.rows = -(-self.images * area // step) * step
        self.pixels = input.new_zeros(self.rows + (kernel - 1) * (self.pitch + 1), channels)

    def load(self, images: Float[Tensor, "b h w ci"]) -> None:
        """Copy a block of images between the zeros of the padding."""
        (count, _, width, _), begin = images.shape, self.padding
        area = self.lines * self.pitch
        lines = self.pixels[: count * area].view(count, self.lines, self.pitch, -1)
        lines[:, begin:, begin : begin + width].copy_(images)
        self.pixels[count * area :].zero_()

    def windows(self, row: int, phase: int) -> Float[Tensor, "r kci"]:
        """Return a view of the windows of one kernel row at the output positions phase, phase+K, …."""
        start = phase + row * self.pitch
        return self.pixels[start : start + self.rows].view(self.rows // self.kernel, -1)

    def new_positions(self, channels: int) -> Float[Tensor, "k r co"]:
        """Return zeros for the outputs at all positions, by phase."""
        return self.pixels.new_zeros(self.kernel, self.rows // self.kernel, channels)

    def valid(self, positions: Float[Tensor, "k r co"], phase: int, count: int) -> Float[Tensor, "b ho wp co"]:
        """Return a view of the positions that are columns phase, phase+K, … of the output."""
        across = self.pitch // self.kernel
        lines = positions[phase, : count * self.lines * across].view(count, self.lines, across, -1)
        return lines[:, : self.height, : len(range(phase, self.width, self.kernel))]


def forward(input: Input, weight: Weight, bias: Bias, stride: int, padding: int, output: Output) -> None:
    """Compute Y into `output`; the padding is below K."""
    kernel = weight.shape[-1]
    lines = _Lines(input, kernel, padding)
    slices = weight.permute(2, 3, 1, 0).reshape(kernel, -1, len(weight))
    positions = lines.new_positions(len(weight))
    for start, end in blocks(len(input), lines.images):
        lines.load(input[start:end])
        for phase in range(kernel):
            for row in range(kernel):
                gemm(lines.windows(row, phase), slices[row], positions[phase], add=row > 0)
            valid, target = lines.valid(positions, phase, end - start), output[start:end, :, phase::kernel]
            if bias is None:
                target.copy_(valid)
            else:
                torch.add(valid, bias, out=target)


def grad_weight(grad_output: Output, input: Input, kernel: int, stride: int, padding: int) -> Weight:
    """Return ∂W[i] = Σ_p X[p+i·pitch :].view(-1, K·Ci)ᵀ · ∂Y[p::K], with zeros in ∂Y across the seams."""
    channels, channels_in = grad_output.shape[-1], input.shape[-1]
    lines = _Lines(input, kernel, padding)
    positions = lines.new_positions(channels)
    total = input.new_zeros(kernel, torch.get_num_threads(), kernel * channels_in, channels)
    for start, end in blocks(len(input), lines.images):
        lines.load(input[start:end])
        if end - start < lines.images:
            positions.zero_()
        for phase in range(kernel):
            lines.valid(positions, phase, end - start).copy_(grad_output[start:end, :, phase::kernel])
            for row in range(kernel):
                gemm_accumulate(total[row], lines.windows(row, phase), positions[phase])
    return total.sum(dim=1).view(kernel, kernel, channels_in, channels).permute(3, 2, 0, 1)
