"""Registry of the networks, and their creation by name."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from scenelab.conv import Conv2d
from scenelab.errors import LabError, suggest
from scenelab.models.costs import DESCRIPTIONS
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


_BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "simplenet": SimpleNet,
    "simplenet-small": SimpleNetSmall,
    "plain": PlainNet,
    "plain-deep": partial(PlainNet, depth=6),
    "residual-bare": partial(ResidualNet, norm=False),
    "residual-small": partial(ResidualNet, widths=(32, 64, 128)),
    "residual": ResidualNet,
    "residual-large": partial(ResidualNet, blocks=(2, 2, 2)),
    "residual-deep": partial(ResidualNet, blocks=(0, 2, 3)),
    "inception": InceptionNet,
    "vit": VisionTransformer,
}
NETWORKS = {name: Architecture(build, DESCRIPTIONS[name]) for name, build in _BUILDERS.items()}


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
