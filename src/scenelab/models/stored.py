"""A network to and from the plain values of a checkpoint, in the handout's keys."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scenelab.errors import LabError
from scenelab.models.normalize import Classifier, Normalize
from scenelab.models.registry import NETWORKS, create
from scenelab.models.simplenet import Factory
from scenelab.runs import load_checkpoint


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A classifier read from a checkpoint, with what is needed to use it."""

    model: Classifier
    arch: str
    categories: tuple[str, ...]
    size: int
    epoch: int


def to_values(
    model: Classifier, *, arch: str, categories: tuple[str, ...], size: int, epoch: int, half: bool = False
) -> dict[str, Any]:
    """What a checkpoint says of its network.

    `epoch`, `model_arch` and `state_dict` are the handout's keys; `state_dict` is that of the bare network.

    Args:
        size: side in pixels at which the network is evaluated.
        epoch: passes over the training images that are behind it.
        half: store the learned parameters in float16, in half the bytes; statistics of normalisation stay as they are.
    """
    learned = {name for name, _ in model.network.named_parameters()} if half else set()
    weights = {name: value.detach().contiguous() for name, value in model.network.state_dict().items()}
    return {
        "epoch": epoch,
        "model_arch": arch,
        "state_dict": {name: value.half() if name in learned else value for name, value in weights.items()},
        "categories": list(categories),
        "size": size,
        "mean": model.normalize.mean.flatten().tolist(),
        "std": model.normalize.std.flatten().tolist(),
    }


def as_stored(model: Classifier, *, half: bool) -> Classifier:
    """The classifier that its checkpoint will hold: itself, or a copy whose parameters are rounded to float16."""
    if not half:
        return model
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.half())
    return rounded


def read_classifier(path: Path, *, factory: Factory | None = None) -> Stored:
    """Read a network from a checkpoint of scenelab's or of the handout's own `main.py`.

    Args:
        factory: makes the network that the checkpoint must fit; None takes the one that the checkpoint names.

    Raises:
        LabError: the checkpoint is damaged, or of another architecture.
    """
    values = load_checkpoint(path)
    name = str(values.get("model_arch", "simplenet"))
    if factory is None and name not in NETWORKS:
        raise LabError(f"checkpoint {path} holds a {name!r}; this version knows {', '.join(sorted(NETWORKS))}")
    weights = plain_names(values["state_dict"])
    classes = _num_classes(values, weights, path)
    model = Classifier(factory(num_classes=classes)) if factory else create(name, num_classes=classes)
    if "mean" in values and "std" in values:
        model.normalize = Normalize(tuple(values["mean"]), tuple(values["std"]))
    load_weights(model.network, weights, name, path)
    categories = tuple(values.get("categories") or (f"class {label}" for label in range(classes)))
    return Stored(
        model=model.eval(), arch=name, categories=categories, size=int(values.get("size", 128)),
        epoch=int(values.get("epoch", 0)),
    )  # fmt: skip


def plain_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Drop the prefix that `nn.DataParallel` puts before each name."""
    return {name.removeprefix("module."): value for name, value in weights.items()}


def _num_classes(values: dict[str, Any], weights: dict[str, torch.Tensor], path: Path) -> int:
    if values.get("categories"):
        return len(values["categories"])
    if "fc.weight" not in weights:
        raise LabError(f"checkpoint {path} has no final layer 'fc'; expected one of {', '.join(sorted(NETWORKS))}")
    return len(weights["fc.weight"])


def load_weights(network: nn.Module, weights: dict[str, torch.Tensor], name: str, path: Path) -> None:
    """Load a state dict that must fit exactly.

    Raises:
        LabError: it does not; the message names the first difference.
    """
    own = network.state_dict()
    for key in sorted(own.keys() | weights.keys()):
        if key not in weights or key not in own:
            where = "is missing from" if key not in weights else "is not expected in"
            raise LabError(
                f"checkpoint {path} is not of model {name!r}: {key} {where} it; choose the model it was made of"
            )
        if own[key].shape != weights[key].shape:
            raise LabError(
                f"checkpoint {path} is not of model {name!r}: {key} is {tuple(weights[key].shape)}, "
                f"expected {tuple(own[key].shape)}; choose the model it was made of"
            )
    network.load_state_dict(weights)
