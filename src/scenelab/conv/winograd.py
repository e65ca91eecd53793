"""Winograd convolution F(m×m, 3×3) for 3×3 kernels at stride 1 (Lavin & Gray 2016, section 4).

A tile of m×m outputs depends on a tile d of (m+2)×(m+2) inputs. Three transform matrices (Toom-Cook) turn the
convolution of a tile with a filter g into an elementwise product:

    Y = Aᵀ [ (G g Gᵀ) ⊙ (Bᵀ d B) ] A

With the sum over input channels, ⊙ becomes (m+2)² matrix products, (tiles × Cᵢ) · (Cᵢ × Cₒ). For m = 4 a tile of 16
outputs takes 36 multiplications instead of 144. The gradient of the weight is ∂g = Gᵀ [ Σ_tiles Vᵀ · D ] G, where
V = Bᵀ d B and D = A ∂Y Aᵀ. Each transform is one matrix product for all tiles and channels, for example
vec(Bᵀ d B) = (B⊗B)ᵀ vec(d). The rounding error is larger than for direct summation (docs/convolution.md).
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from scenelab.conv.gemm import Bias, Input, Output, Weight, blocks

POINTS = {2: (0.0, 1.0, -1.0), 4: (0.0, 1.0, -1.0, 0.5, -2.0)}
"""Interpolation points per tile side m, besides infinity. They determine the rounding error (Barabasz et al. 2020). For
m = 4 these were the best of four sets: the maximum error is 2.5 times smaller than with 0, ±1, ±2."""

TILES = 128
"""Tiles per block on CPUs: enough rows for fast products, few enough for the cache (docs/convolution.md)."""

WORKSPACE_BYTES = 4 * 2**20
"""Maximum size of the transformed tiles and products of a block on CPUs; with many channels it limits the tiles."""

FILTER_BYTES = 10 * 2**20
"""Maximum size of the transformed filters on CPUs; larger layers are computed in groups of output channels."""


@dataclass(frozen=True)
class Transforms:
    """Transform matrices of F(m×m, 3×3) for tiles flattened in row-major order; n = m + 2."""

    output: Float[Tensor, "m2 n2"]  # (A ⊗ A)ᵀ
    filter: Float[Tensor, "n2 9"]  # G ⊗ G
    input: Float[Tensor, "n2 n2"]  # (B ⊗ B)ᵀ


def transforms(tile: int, dtype: torch.dtype, device: torch.device) -> Transforms:
    """Return the transform matrices for tiles of m×m outputs, m = `tile`."""
    # Tensors are not cached: those made in one mode (fake, inference) are invalid in another.
    return Transforms(*(torch.from_numpy(part).to(device, dtype, copy=True) for part in _matrices(tile)))


@cache
def _matrices(tile: int) -> list[np.ndarray]:
    """Return the transform matrices in float64: Lagrange interpolation at `POINTS` and at ∞.

    The Toom-Cook algorithm interpolates a product of polynomials from its values at these points. Transposing it gives
    an algorithm for convolution (Blahut 2010, sections 5.2 and 5.4).
    """
    points = np.array(POINTS[tile])
    others = [np.delete(points, index) for index in range(len(points))]
    lagrange = [[*np.poly(roots)[::-1], 0.0] for roots in others]
    scales = [*(np.prod(point - roots) for point, roots in zip(points, others, strict=True)), 1.0]

    def powers(count: int) -> np.ndarray:  # row j: the powers of point j; last row: the leading coefficient
        return np.vstack([np.vander(points, count, increasing=True), np.eye(count)[-1]])

    kernel = powers(3) / np.array(scales)[:, None] + 0.0  # no negative zeros
    output, filter, input = (
        np.kron(matrix, matrix) for matrix in (powers(tile), kernel, [*lagrange, np.poly(points)[::-1]])
    )
    return [np.ascontiguousarray(part) for part in (output.T, filter, input)]


class _Tiles:
    """Division of images into tiles, and workspace for the transformed input tiles of one block of images."""

    def __init__(self, input: Float[Tensor, "n h w c"], padding: int, channels_out: int) -> None:
        images, height, width, channels = input.shape
        self.padding, self.height, self.width = padding, height + 2 * padding - 2, width + 2 * padding - 2
        self.tile = min(POINTS, key=lambda tile: (tile + 2) ** 2 * -(-self.height // tile) * -(-self.width // tile))
        self.down, self.across = -(-self.height // self.tile), -(-self.width // self.tile)
        self.transforms = transforms(self.tile, input.dtype, input.device)
        side = self.tile + 2
        fitting = WORKSPACE_BYTES // (side**2 * (channels + channels_out) * input.element_size())
        block = -(-min(TILES, fitting) // (self.down * self.across))
        self.images = images if input.device.type != "cpu" else max(1, min(images, block))
        self.padded = input.new_zeros(self.images, self.down * self.tile + 2, self.across * self.tile + 2, channels)
        by_image, by_line, by_pixel, _ = self.padded.stride()
        self.cut = input.new_empty(side, side, self.images, self.down, self.across, channels)
        strides = (by_line, by_pixel, by_image, self.tile * by_line, self.tile * by_pixel, 1)
        self.windows = self.padded.as_strided(self.cut.shape, strides)  # tiles overlap by two
        self.transformed = input.new_empty(side**2, self.images * self.down * self.across, channels)

    def load(self, images: Float[Tensor, "b h w c"]) -> Float[Tensor, "n2 t c"]:
        """Return the transformed input tiles Bᵀ d B of a block; unused tiles of a smaller last block are zero."""
        (count, height, width, _), begin = images.shape, self.padding
        self.padded[:count, begin : begin + height, begin : begin + width].copy_(images)
        self.padded[count:].zero_()
        self.cut.copy_(self.windows)
        torch.mm(self.transforms.input, self.cut.flatten(0, 1).flatten(1), out=self.transformed.flatten(1))
        return self.transformed

    def outputs(self, like: Tensor, channels: int) -> tuple[Float[Tensor, "m m b d a c"], Float[Tensor, "b y x c"]]:
        """Return two views of a zeroed buffer: as m×m output tiles, and as NHWC images padded to whole tiles."""
        images = like.new_zeros(self.images, self.down, self.tile, self.across, self.tile, channels)
        return images.permute(2, 4, 0, 1, 3, 5), images.flatten(3, 4).flatten(1, 2)


def _channel_groups(channels: int, channels_in: int, like: Tensor) -> list[slice]:
    """Return slices that split the output channels into groups whose transformed filters fit in `FILTER_BYTES`."""
    size = (max(POINTS) + 2) ** 2 * channels * channels_in * like.element_size()
    count = min(channels, -(-size // FILTER_BYTES)) if like.device.type == "cpu" else 1
    step = -(-channels // count)
    return [slice(first, first + step) for first in range(0, channels, step)]


def forward(input: Input, weight: Weight, bias: Bias, stride: int, padding: int, output: Output) -> None:
    """Write the convolution Y to `output` for any padding; discard outputs of tiles beyond the image."""
    for group in _channel_groups(weight.shape[0], weight.shape[1], input):
        _forward(input, weight[group], None if bias is None else bias[group], padding, output[..., group])


def _forward(input: Tensor, weight: Tensor, bias: Tensor | None, padding: int, output: Tensor) -> None:
    channels, channels_in = weight.shape[:2]
    tiles = _Tiles(input, padding, channels)
    filters = (tiles.transforms.filter @ weight.permute(2, 3, 1, 0).reshape(9, -1)).view(-1, channels_in, channels)
    products = input.new_empty(len(filters), tiles.transformed.shape[1], channels)
    places, images = tiles.outputs(input, channels)
    result = torch.empty_like(places, memory_format=torch.contiguous_format)
    for start, end in blocks(len(input), tiles.images):
        torch.bmm(tiles.load(input[start:end]), filters, out=products)
        torch.mm(tiles.transforms.output, products.flatten(1), out=result.flatten(0, 1).flatten(1))
        places.copy_(result)
        valid = images[: end - start, : tiles.height, : tiles.width]
        if bias is None:
            output[start:end].copy_(valid)
        else:
            torch.add(valid, bias, out=output[start:end])


def grad_weight(grad_output: Output, input: Input, kernel: int, stride: int, padding: int) -> Weight:
    """Return the gradient ∂W, accumulated over all blocks in the transformed domain and transformed back once."""
    groups = _channel_groups(grad_output.shape[-1], input.shape[-1], input)
    return torch.cat([_grad_weight(grad_output[..., group], input, padding) for group in groups])


def _grad_weight(grad_output: Tensor, input: Tensor, padding: int) -> Tensor:
    channels, channels_in = grad_output.shape[-1], input.shape[-1]
    tiles = _Tiles(input, padding, channels)
    places, images = tiles.outputs(input, channels)
    total = input.new_zeros(len(tiles.transformed), channels_in, channels)
    gradient = input.new_empty(len(total), tiles.transformed.shape[1], channels)
    for start, end in blocks(len(input), tiles.images):
        images[: end - start, : tiles.height, : tiles.width].copy_(grad_output[start:end])
        images[end - start :].zero_()
        values = places.contiguous().flatten(0, 1).flatten(1)
        torch.mm(tiles.transforms.output.t(), values, out=gradient.flatten(1))
        total.baddbmm_(tiles.load(input[start:end]).transpose(1, 2), gradient)
    back = tiles.transforms.filter.t() @ total.flatten(1)
    return back.view(3, 3, channels_in, channels).permute(3, 2, 0, 1)
