"""VisionTransformer: patches as words (Dosovitskiy et al. 2021), in the small form of Beyer et al. (2022)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scenelab.models.simplenet import ConvOp

TEMPERATURE = 10_000.0  # wavelengths up to this many patches (Vaswani et al. 2017)


def positions(height: int, width: int, channels: int) -> Float[Tensor, "hw c"]:
    """Fixed sine and cosine of row and column, a quarter of the channels each (Beyer et al. 2022)."""
    quarter = channels // 4
    frequencies = torch.exp(-math.log(TEMPERATURE) * torch.arange(quarter) / max(1, quarter - 1))
    rows = (torch.arange(height)[:, None] * frequencies)[:, None].expand(height, width, quarter)
    columns = (torch.arange(width)[:, None] * frequencies)[None].expand(height, width, quarter)
    return torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], dim=2).flatten(0, 1)


class TransformerBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.joined, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, words: Float[Tensor, "n t c"]) -> Float[Tensor, "n t c"]:
        images, count, width = words.shape
        joined = self.joined(self.before_attention(words)).view(images, count, 3, self.heads, width // self.heads)
        query, key, value = joined.permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value)
        words = words + self.out(seen.transpose(1, 2).reshape(images, count, width))
        return words + self.mlp(self.before_mlp(words))


class VisionTransformer(nn.Module):
    """Patches of 8×8 pixels, five blocks of 192 channels and three heads, mean pooling; any sides from 8 pixels.

    Args:
        conv_op: makes the patches; called as `nn.Conv2d` is.
        num_classes: number of logits.
    """

    def __init__(
        self,
        conv_op: ConvOp = nn.Conv2d,
        num_classes: int = 100,
        *,
        patch: int = 8,
        width: int = 192,
        blocks: int = 5,
        heads: int = 3,
    ) -> None:
        super().__init__()
        self.patches = conv_op(3, width, kernel_size=patch, stride=patch)
        self.blocks = nn.Sequential(*(TransformerBlock(width, heads) for _ in range(blocks)))
        self.norm = nn.LayerNorm(width)
        self.fc = nn.Linear(width, num_classes)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        patches = self.patches(images)
        places = positions(patches.shape[2], patches.shape[3], patches.shape[1]).to(patches)
        words = patches.flatten(2).transpose(1, 2) + places
        return self.fc(self.norm(self.blocks(words)).mean(dim=1))
