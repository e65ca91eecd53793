"""Fine-tuning: start from the weights of a trained network, with a new last layer and learning rates by depth."""

from pathlib import Path

from torch import nn

from scenelab.errors import LabError
from scenelab.models.normalize import Classifier
from scenelab.runs.config import TrainConfig
from scenelab.runs.loading import read_network
from scenelab.runs.network import load_weights


def last_layer(network: nn.Module) -> nn.Module:
    """Return the layer that computes the logits: the last module that has parameters of its own."""
    layers = [module for module in network.modules() if any(True for _ in module.parameters(recurse=False))]
    return layers[-1]


def transfer(model: Classifier, config: TrainConfig) -> None:
    """Copy weights and normalization of `config.finetune.network`, in place; the last layer keeps its random weights.

    Raises:
        LabError: there is no such network, or it is not of the architecture `config.model`.
    """
    assert config.finetune
    name = config.finetune.network
    stored = read_network(Path(name))
    if stored.arch != config.model:
        raise LabError(f"model is {config.model!r}, but the network {name} is a {stored.arch!r}; choose that model")
    backbone = {id(parameter) for parameter in find_backbone(model)}
    new = {key: value.detach() for key, value in model.network.named_parameters() if id(value) not in backbone}
    load_weights(model.network, {**stored.model.network.state_dict(), **new}, stored.arch, Path(name))
    model.normalize = stored.model.normalize


def find_backbone(model: Classifier) -> list[nn.Parameter]:
    """Return the trainable parameters of all layers but the last."""
    head = {id(parameter) for parameter in last_layer(model.network).parameters()}
    return [parameter for parameter in model.parameters() if parameter.requires_grad and id(parameter) not in head]


def learning_rates(network: nn.Module, first_rate: float) -> dict[nn.Parameter, float]:
    """Return the factor of each parameter's learning rate: `first_rate` in the first layer, 1 in the last one.

    In between it grows geometrically with depth, as the discriminative rates of Howard & Ruder (2018), section 3.2.
    """
    layers = [list(module.parameters(recurse=False)) for module in network.modules()]
    layers = [parameters for parameters in layers if parameters]
    depth = max(1, len(layers) - 1)
    return {parameter: first_rate ** (1 - index / depth) for index, layer in enumerate(layers) for parameter in layer}


def set_training_mode(model: Classifier, backbone: list[nn.Parameter], *, frozen: bool) -> None:
    """Set the classifier to training mode; with `frozen`, only its last layer is trained.

    The other layers, whose parameters are `backbone`, then keep their weights and batch statistics.
    """
    model.train(not frozen)
    for parameter in backbone:
        parameter.requires_grad_(not frozen)
