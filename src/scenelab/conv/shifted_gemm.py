"""Stride 1: K products of overlapping rows, with no window ever copied.

The padded pixels of a block of images are laid out as one list of rows of Ci numbers. A kernel row i needs, for the
output at position r, the K neighbours r+i·pitch, …, r+i·pitch+K-1: K·Ci numbers that lie side by side. Seen as a
matrix whose rows begin at r = p, p+K, p+2K, … this is the list itself, cut every K·Ci numbers. So for each phase
p = 0 … K-1 and each kernel row i

    Y[p::K] += X[p+i·pitch :].view(-1, K·Ci) · W[i]          W[i] is the (K·Ci) × Co slice of the weight

and K·K products without copies make the convolution. One run of P zeros serves as the right padding of a line and the
left padding of the next. The outputs computed across such a seam are not part of the result.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.conv.gemm import add_products, blocks, images_per_block, multiply, parts


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
        step = kernel * parts()
        self.rows = -(-self.images * area // step) * step
        self.pixels = input.new_zeros(self.rows + (kernel - 1) * (self.pitch + 1), channels)

    def load(self, images: Float[Tensor, "b h w ci"]) -> None:
        """Copy a block in; the zeros around the images stay."""
        (count, _, width, _), begin = images.shape, self.padding
        area = self.lines * self.pitch
        inside = self.pixels[: count * area].view(count, self.lines, self.pitch, -1)
        inside[:, begin:, begin : begin + width].copy_(images)
        self.pixels[count * area :].zero_()

    def windows(self, row: int, phase: int) -> Float[Tensor, "r kci"]:
        """The windows of one kernel row at the output positions phase, phase+K, …: a view."""
        start = phase + row * self.pitch
        return self.pixels[start : start + self.rows].view(self.rows // self.kernel, -1)

    def new_positions(self, channels: int) -> Float[Tensor, "k r co"]:
        """Zeros for the output at all positions, phase by phase."""
        return self.pixels.new_zeros(self.kernel, self.rows // self.kernel, channels)

    def seen(self, positions: Float[Tensor, "k r co"], phase: int, count: int) -> Float[Tensor, "b ho wp co"]:
        """Where the pixels phase, phase+K, … of each line of the result lie among the positions: a view."""
        across = self.pitch // self.kernel
        inside = positions[phase, : count * self.lines * across].view(count, self.lines, across, -1)
        return inside[:, : self.height, : len(range(phase, self.width, self.kernel))]


def forward(
    input: Float[Tensor, "n h w ci"],
    weight: Float[Tensor, "co ci k k"],
    bias: Float[Tensor, "co"] | None,
    padding: int,
    output: Float[Tensor, "n ho wo co"],
) -> None:
    """Y, for padding below K."""
    kernel = weight.shape[-1]
    lines = _Lines(input, kernel, padding)
    slices = weight.permute(2, 3, 1, 0).reshape(kernel, -1, len(weight))
    positions = lines.new_positions(len(weight))
    for start, end in blocks(len(input), lines.images):
        lines.load(input[start:end])
        for phase in range(kernel):
            for row in range(kernel):
                multiply(lines.windows(row, phase), slices[row], positions[phase], add=row > 0)
            seen, target = lines.seen(positions, phase, end - start), output[start:end, :, phase::kernel]
            if bias is None:
                target.copy_(seen)
            else:
                torch.add(seen, bias, out=target)


def grad_weight(
    grad_output: Float[Tensor, "n ho wo co"], input: Float[Tensor, "n h w ci"], kernel: int, padding: int
) -> Float[Tensor, "co ci k k"]:
    """∂W[i] = Σ_p X[p+i·pitch :].view(-1, K·Ci)ᵀ · ∂Y[p::K], with zeros in ∂Y across the seams."""
    channels, wide = grad_output.shape[-1], input.shape[-1]
    lines = _Lines(input, kernel, padding)
    positions = lines.new_positions(channels)
    total = input.new_zeros(kernel, parts(), kernel * wide, channels)
    for start, end in blocks(len(input), lines.images):
        lines.load(input[start:end])
        if end - start < lines.images:
            positions.zero_()
        for phase in range(kernel):
            lines.seen(positions, phase, end - start).copy_(grad_output[start:end, :, phase::kernel])
            for row in range(kernel):
                add_products(total[row], lines.windows(row, phase), positions[phase])
    return total.sum(dim=1).view(kernel, kernel, wide, channels).permute(3, 2, 0, 1)
