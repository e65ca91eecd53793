"""The networks by name."""

from dataclasses import dataclass

from torch import nn

from scenelab.errors import LabError
from scenelab.models.normalize import Classifier
from scenelab.models.simplenet import ConvOp, SimpleNet, SimpleNetSmall

NETWORKS: dict[str, type[nn.Module]] = {
    "simplenet": SimpleNet,
    "simplenet-small": SimpleNetSmall,
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
    return Classifier(NETWORKS[name](conv_op=conv_op, num_classes=num_classes))


def summary(name: str) -> str:
    """The first sentence of the network's docstring."""
    return (NETWORKS[name].__doc__ or "").strip().partition("\n")[0].rstrip(".:")


def size(network: nn.Module) -> Size:
    """Count what is learned and what is stored."""
    return Size(
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        bytes=sum(value.numel() * value.element_size() for value in network.state_dict().values()),
    )
