"""Vision transformer (Dosovitskiy et al. 2021) with the simplifications of Beyer et al. (2022)."""

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from scenelab.models.simplenet import ConvOp

PATCH, WIDTH, BLOCKS, HEADS = 8, 192, 5, 3
TEMPERATURE = 10_000.0  # the longest wavelength is 2π times this number of patches (Vaswani et al. 2017)


def position_embedding(height: int, width: int, channels: int) -> Float[Tensor, "hw c"]:
    """Return a fixed embedding per patch position: sine and cosine of column and row, each ¼ of the channels."""
    quarter = channels // 4
    frequencies = torch.exp(-math.log(TEMPERATURE) * torch.arange(quarter) / max(1, quarter - 1))
    rows = (torch.arange(height)[:, None] * frequencies)[:, None].expand(height, width, quarter)
    columns = (torch.arange(width)[:, None] * frequencies)[None].expand(height, width, quarter)
    return torch.cat([columns.sin(), columns.cos(), rows.sin(), rows.cos()], dim=2).flatten(0, 1)


class TransformerBlock(nn.Module):
    """Pre-norm transformer block: x ← x + attention(norm(x)), then x ← x + mlp(norm(x))."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.joined = nn.Linear(width, 3 * width)  # query, key, value; the attribute's name is in checkpoints
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, tokens: Float[Tensor, "n t c"]) -> Float[Tensor, "n t c"]:
        """Return tokens with the shape of the input."""
        images, count, width = tokens.shape
        qkv = self.joined(self.before_attention(tokens)).view(images, count, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attn = F.scaled_dot_product_attention(query, key, value)
        tokens = tokens + self.out(attn.transpose(1, 2).reshape(images, count, width))
        return tokens + self.mlp(self.before_mlp(tokens))


class VisionTransformer(nn.Module):
    """Vision transformer: 8×8 patches, five blocks of 192 channels and three heads, mean pooling over tokens."""

    def __init__(self, conv_op: ConvOp = nn.Conv2d, num_classes: int = 100) -> None:
        super().__init__()
        self.patches = conv_op(3, WIDTH, kernel_size=PATCH, stride=PATCH)
        self.blocks = nn.Sequential(*(TransformerBlock(WIDTH, HEADS) for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.fc = nn.Linear(WIDTH, num_classes)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Return N×num_classes logits of N×3×H×W normalized images; H and W are at least 8."""
        patches = self.patches(images)
        pos_embed = position_embedding(patches.shape[2], patches.shape[3], patches.shape[1]).to(patches)
        tokens = patches.flatten(2).transpose(1, 2) + pos_embed
        return self.fc(self.norm(self.blocks(tokens)).mean(dim=1))
