"""Registry of the networks, and their creation by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from scenelab.conv import Conv2d
from scenelab.errors import LabError, suggest
from scenelab.models.inception import InceptionNet
from scenelab.models.normalize import Classifier
from scenelab.models.plain import PlainNet
from scenelab.models.residual import ResidualNet
from scenelab.models.simplenet import ConvOp, SimpleNet, SimpleNetSmall
from scenelab.models.vit import VisionTransformer

CONVOLUTIONS: dict[str, ConvOp] = {"native": nn.Conv2d, "custom": Conv2d}
"""Convolution modules: torch's and scenelab's. State dicts are interchangeable."""


@dataclass(frozen=True)
class Architecture:
    """Registry entry of a network: a constructor, called with `conv_op` and `num_classes`, and a description."""

    build: Callable[..., nn.Module]
    description: str


NETWORKS: dict[str, Architecture] = {
    "simplenet": Architecture(SimpleNet, "the handout's network, spring 2019"),
    "simplenet-small": Architecture(SimpleNetSmall, "the handout's network, fall 2019 and later"),
    "plain": Architecture(PlainNet, "ten convolutions with ReLU, as in VGG"),
    "plain-deep": Architecture(partial(PlainNet, depth=6), "the same with 22 convolutions"),
    "residual-bare": Architecture(partial(ResidualNet, norm=False), "residual blocks without normalization"),
    "residual-small": Architecture(partial(ResidualNet, widths=(32, 64, 128)), "residual, normalized, half the width"),
    "residual": Architecture(ResidualNet, "ours: residual blocks with batch normalization"),
    "residual-large": Architecture(partial(ResidualNet, blocks=(2, 2, 2)), "the same with twice the blocks"),
    "inception": Architecture(InceptionNet, "several filter sizes side by side, batch normalization"),
    "vit": Architecture(VisionTransformer, "a small vision transformer, patches of 8×8 pixels"),
}


def create_model(name: str, *, num_classes: int, conv_op: ConvOp = nn.Conv2d) -> Classifier:
    """Return a classifier with random weights that maps N×3×H×W images in [0, 1] to logits.

    Args:
        name: name of the network, one of `list_models()`.
        num_classes: number of logits.
        conv_op: constructor of the convolutions, called like `nn.Conv2d`.

    Raises:
        LabError: the name is unknown.
    """
    if name not in NETWORKS:
        raise LabError(
            f"there is no model {name!r}{suggest(name, NETWORKS)}; the models are {', '.join(sorted(NETWORKS))}"
        )
    return Classifier(NETWORKS[name].build(conv_op=conv_op, num_classes=num_classes))


def list_models() -> list[str]:
    """Return the names of all networks, for `create_model`."""
    return list(NETWORKS)
