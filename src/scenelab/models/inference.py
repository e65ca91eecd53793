"""Faster inference: fold batch normalisation into the convolutions."""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from scenelab.models.normalize import Classifier


def prepare_for_inference(model: Classifier) -> Classifier:
    """Return a faster copy in eval mode; the logits are equal up to rounding.

    Batch normalisations are folded into the convolutions before them, parameters do not require gradients, weights are
    in channels-last layout.
    """
    ready = copy.deepcopy(model).eval()
    for module in ready.modules():
        if isinstance(module, nn.Sequential):
            _fold(module)
    return ready.requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _fold(sequence: nn.Sequential) -> None:
    """Fold in place; only torch's own convolution with a batch normalisation right after it."""
    names = list(sequence._modules)
    for name, following in pairwise(names):
        convolution, norm = sequence._modules[name], sequence._modules[following]
        if type(convolution) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
            sequence._modules[name] = fuse_conv_bn_eval(convolution, norm)
            sequence._modules[following] = nn.Identity()
