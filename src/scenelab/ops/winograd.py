"""3×3 kernels at stride 1 with 2.25 times fewer multiplications: F(2×2, 3×3) of Lavin & Gray (2016), section 4.1.

A 4×4 tile d of the input gives a 2×2 tile of the output:

    Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A

With the sum over input channels, ⊙ becomes 16 products of matrices, (tiles × Ci) · (Ci × Co), one for each place of a
transformed tile. The gradient of the weight is the derivative of the same formula: with V = Bᵀ d B and D = A ∂Y Aᵀ,

    ∂g = Gᵀ [ Σ_tiles Vᵀ · D ] G

The transforms cost additions only, but they read and write each pixel several times, so this pays with many channels.
In float32 the rounding error is about twice that of the direct sum (measured in docs/convolution.md).
"""

import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.ops.blocks import blocks, images_per_block

SHARE = 4  # of the workspace for transformed tiles: they are read once, by products that stream them


def _filter_transform(weight: Tensor) -> Float[Tensor, "16 9"]:
    """G ⊗ G: takes the nine numbers of a kernel to the sixteen of its transform."""
    half = 0.5
    matrix = weight.new_tensor([[1, 0, 0], [half, half, half], [half, -half, half], [0, 0, 1]])
    return torch.kron(matrix, matrix)


def _input_terms(d0: Tensor, d1: Tensor, d2: Tensor, d3: Tensor, out: Tensor) -> None:
    """Bᵀ d along one axis: d0-d2, d1+d2, d2-d1, d1-d3."""
    torch.sub(d0, d2, out=out[0])
    torch.add(d1, d2, out=out[1])
    torch.sub(d2, d1, out=out[2])
    torch.sub(d1, d3, out=out[3])


def _output_terms(m: Tensor, first: Tensor, second: Tensor) -> None:
    """Aᵀ m along one axis: m0+m1+m2, m1-m2-m3."""
    torch.add(m[0], m[1], out=first).add_(m[2])
    torch.sub(m[1], m[2], out=second).sub_(m[3])


def _gradient_terms(e0: Tensor, e1: Tensor, out: Tensor) -> None:
    """A e along one axis: e0, e0+e1, e0-e1, -e1."""
    out[0].copy_(e0)
    torch.add(e0, e1, out=out[1])
    torch.sub(e0, e1, out=out[2])
    torch.neg(e1, out=out[3])


class _Tiles:
    """The transformed input tiles of a block of images."""

    def __init__(self, input: Float[Tensor, "n h w c"], padding: int, channels: int) -> None:
        images, height, width, wide = input.shape
        self.padding, self.height, self.width = padding, height + 2 * padding - 2, width + 2 * padding - 2
        self.down, self.across = -(-self.height // 2), -(-self.width // 2)
        size = 16 * self.down * self.across * max(wide, channels) * input.element_size() // SHARE
        self.images = images_per_block(images, size, input.device)
        self.padded = input.new_zeros(self.images, 2 * self.down + 2, 2 * self.across + 2, wide)
        self.half = input.new_empty(4, self.images, 2 * self.down + 2, self.across, wide)
        self.whole = input.new_empty(4, 4, self.images, self.down, self.across, wide)

    def load(self, images: Float[Tensor, "b h w c"]) -> Float[Tensor, "16 t c"]:
        """Bᵀ d B of every tile; where the last block is short, its unused tiles are zero."""
        (count, height, width, _), begin = images.shape, self.padding
        self.padded[:count, begin : begin + height, begin : begin + width].copy_(images)
        self.padded[count:].zero_()
        even, odd = self.padded[:, :, 0::2], self.padded[:, :, 1::2]
        _input_terms(even[:, :, :-1], odd[:, :, :-1], even[:, :, 1:], odd[:, :, 1:], self.half)
        even, odd = self.half[:, :, 0::2], self.half[:, :, 1::2]
        _input_terms(even[:, :, :-1], odd[:, :, :-1], even[:, :, 1:], odd[:, :, 1:], self.whole)
        return self.whole.view(16, -1, self.whole.shape[-1])


def forward(
    input: Float[Tensor, "n h w ci"],
    weight: Float[Tensor, "co ci 3 3"],
    bias: Float[Tensor, "co"] | None,
    padding: int,
    output: Float[Tensor, "n ho wo co"],
) -> None:
    """Y for any padding; with odd sides the last tiles hang over and are cut."""
    channels = len(weight)
    tiles = _Tiles(input, padding, channels)
    filters = (_filter_transform(weight) @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(16, -1, channels)
    grid = (tiles.images, tiles.down, tiles.across, channels)
    products = input.new_empty(16, tiles.images * tiles.down * tiles.across, channels)
    half = input.new_empty(2, 4, *grid)
    result = input.new_empty(tiles.images, tiles.down, 2, tiles.across, 2, channels)
    for start, end in blocks(len(input), tiles.images):
        torch.bmm(tiles.load(input[start:end]), filters, out=products)
        _output_terms(products.view(4, 4, *grid), half[0], half[1])
        for row in range(2):
            _output_terms(half[row], result[:, :, row, :, 0], result[:, :, row, :, 1])
        whole = result.view(tiles.images, 2 * tiles.down, 2 * tiles.across, channels)
        seen = whole[: end - start, : tiles.height, : tiles.width]
        if bias is None:
            output[start:end].copy_(seen)
        else:
            torch.add(seen, bias, out=output[start:end])


def grad_weight(
    grad_output: Float[Tensor, "n ho wo co"], input: Float[Tensor, "n h w ci"], padding: int
) -> Float[Tensor, "co ci 3 3"]:
    """∂W, summed over the blocks in the transformed space and brought back once."""
    channels, wide = grad_output.shape[-1], input.shape[-1]
    tiles = _Tiles(input, padding, channels)
    gradient = input.new_zeros(tiles.images, 2 * tiles.down, 2 * tiles.across, channels)
    parts = gradient.view(tiles.images, tiles.down, 2, tiles.across, 2, channels)
    half = input.new_empty(4, tiles.images, tiles.down, tiles.across, 2, channels)
    whole = input.new_empty(4, 4, tiles.images, tiles.down, tiles.across, channels)
    total = input.new_zeros(16, wide, channels)
    for start, end in blocks(len(input), tiles.images):
        gradient[: end - start, : tiles.height, : tiles.width].copy_(grad_output[start:end])
        gradient[end - start :].zero_()
        _gradient_terms(parts[:, :, 0], parts[:, :, 1], half)
        _gradient_terms(half[..., 0, :], half[..., 1, :], whole.transpose(0, 1))
        total.baddbmm_(tiles.load(input[start:end]).transpose(1, 2), whole.view(16, -1, channels))
    back = _filter_transform(input).t() @ total.view(16, -1)
    return back.view(3, 3, wide, channels).permute(3, 2, 0, 1)
