"""Normalization as the first layer of a model, so that all other code uses pixel values in [0, 1]."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


class Normalize(nn.Module):
    """Layer that computes (x - mean) / std per channel; mean and std are not in the state dict."""

    mean: Tensor
    std: Tensor

    def __init__(self, mean: tuple[float, ...] = IMAGENET_MEAN, std: tuple[float, ...] = IMAGENET_STD) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        """Return the normalized images."""
        return (images - self.mean) / self.std


class Classifier(nn.Module):
    """Image classifier: normalization followed by a network; maps images in [0, 1] to logits.

    A checkpoint contains the state dict of `network` only, so it also loads into the network without normalization.

    Attributes:
        temperature: number that the logits are divided by, so that their softmax is calibrated; 1 changes nothing.
        threshold: an image whose largest logit is smaller is none of the classes; None if it was not fitted.
    """

    def __init__(self, network: nn.Module, normalize: Normalize | None = None) -> None:
        super().__init__()
        self.normalize = normalize or Normalize()
        self.network = network
        self.temperature = 1.0
        self.threshold: float | None = None

    def forward(self, images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Return the logits of images in [0, 1]."""
        logits = self.network(self.normalize(images))
        return logits if self.temperature == 1 else logits / self.temperature
