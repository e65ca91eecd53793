"""Normalisation as the model's first layer, so that all other code works with pixels in [0, 1]."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """Compute (x - mean) / std per channel, for images in [0, 1]; the statistics are not in the state dict."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return the normalised images."""
        return (images - self.mean) / self.std


class Classifier(nn.Module):
    """A normalisation followed by a network for normalised images: images in [0, 1] to logits.

    A checkpoint holds the state dict of `network` alone, so it also loads into the bare network.
    """

    def __init__(self, network: nn.Module, normalize: Normalize | None = None) -> None:
        super().__init__()
        self.normalize = normalize or Normalize()
        self.network = network

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return logits of images in [0, 1]."""
        return self.network(self.normalize(images))
