"""The networks by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scenelab.conv.conv2d import Conv2d
from scenelab.errors import LabError
from scenelab.models.inception import InceptionNet
from scenelab.models.normalize import Classifier
from scenelab.models.plain import PlainNet
from scenelab.models.residual import ResidualNet
from scenelab.models.simplenet import ConvOp, SimpleNet, SimpleNetSmall
from scenelab.models.vit import VisionTransformer

CONVOLUTIONS: dict[str, ConvOp] = {"native": nn.Conv2d, "custom": Conv2d}
"""torch's convolution and the one by hand; either takes the other's weights."""


@dataclass(frozen=True)
class Architecture:
    """A network and what is said of it in one line; `make` is called with conv_op and num_classes."""

    make: Callable[..., nn.Module]
    what: str


NETWORKS: dict[str, Architecture] = {
    "simplenet": Architecture(SimpleNet, "the handout's network, spring 2019"),
    "simplenet-small": Architecture(SimpleNetSmall, "the handout's network, fall 2019 and later"),
    "plain": Architecture(PlainNet, "ten convolutions with ReLU, as in VGG"),
    "plain-deep": Architecture(partial(PlainNet, depth=6), "the same with 22 convolutions"),
    "residual-bare": Architecture(partial(ResidualNet, norm=False), "residual blocks without normalisation"),
    "residual-small": Architecture(partial(ResidualNet, widths=(32, 64, 128)), "residual, normalised, half the width"),
    "residual": Architecture(ResidualNet, "ours: residual blocks with batch normalisation"),
    "residual-large": Architecture(partial(ResidualNet, blocks=(2, 2, 2)), "the same with twice the blocks"),
    "inception": Architecture(InceptionNet, "several filter sizes side by side, batch normalisation"),
    "vit": Architecture(VisionTransformer, "a small vision transformer, patches of 8×8 pixels"),
}


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a network weighs: learned parameters and the bytes of its float32 state dict."""

    parameters: int
    bytes: int


def create(name: str, *, num_classes: int, conv_op: ConvOp = nn.Conv2d) -> Classifier:
    """Build a network with its normalisation in front: images in [0, 1] to logits.

    Raises:
        LabError: there is no network of that name.
    """
    if name not in NETWORKS:
        raise LabError(f"there is no model {name!r}; the models are {', '.join(sorted(NETWORKS))}")
    return Classifier(NETWORKS[name].make(conv_op=conv_op, num_classes=num_classes))


def size(network: nn.Module) -> Size:
    """Count what is learned and what is stored."""
    return Size(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        bytes=sum(value.numel() * value.element_size() for value in network.state_dict().values()),
    )


def count_flops(name: str, *, num_classes: int, side: int, training: bool = False) -> int:
    """Floating-point operations for one image of side×side pixels, two for a multiply-add.

    Counted are products and convolutions, by torch's own counter and without data; `training` adds the backward pass,
    in which the gradient of the images themselves is not computed.
    """
    with torch.device("meta"):
        network = create(name, num_classes=num_classes).train(training)
        images = torch.empty(2, 3, side, side)
    with FlopCounterMode(display=False) as counter:
        logits = network(images)
        if training:
            logits.sum().backward()
    return counter.get_total_flops() // len(images)
