"""A network made ready to be asked many times: what only training needs is taken out."""

import copy
from itertools import pairwise

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from scenelab.models.normalize import Classifier


def prepare_for_inference(model: Classifier) -> Classifier:
    """A copy in eval mode that computes the same, faster: normalisations folded into the convolutions before them,
    parameters frozen, weights in channels-last layout.
    """
    ready = copy.deepcopy(model).eval()
    for module in ready.modules():
        if isinstance(module, nn.Sequential):
            _fold(module)
    for parameter in ready.parameters():
        parameter.requires_grad_(False)
    return ready.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _fold(sequence: nn.Sequential) -> None:
    """Each convolution of torch's own that a batch normalisation follows, in place."""
    names = list(sequence._modules)
    for name, following in pairwise(names):
        convolution, norm = sequence._modules[name], sequence._modules[following]
        if type(convolution) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
            sequence._modules[name] = fuse_conv_bn_eval(convolution, norm)
            sequence._modules[following] = nn.Identity()
