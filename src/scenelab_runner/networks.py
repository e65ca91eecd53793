"""Networks built from JSON layer lists, and a wrapper that records the inputs of a network and changes to it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from scenelab_runner.message import ResultError

CLASSES = 100
MAX_CALLS = 40  # calls of a model whose inputs are recorded
MAX_NODES = 20_000  # autograd nodes counted per graph
LAYERS: dict[str, Callable[..., nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "tanh": nn.Tanh,
    "pool": lambda: nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
    "mean": lambda: nn.Sequential(nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()),
    "flatten": nn.Flatten,
    "linear": nn.Linear,
    "norm": nn.BatchNorm2d,
    "dropout": nn.Dropout,
}


class OtherLoss(nn.Module):
    """Loss other than cross-entropy: mean over the batch of logits[label] - logits[(label + 1) % classes]."""

    def forward(self, scores: Tensor, labels: Tensor) -> Tensor:
        """Return the loss."""
        return (scores.gather(1, labels[:, None]) - scores.roll(-1, dims=1).gather(1, labels[:, None])).mean()


LOSSES: dict[str, nn.Module] = {"cross_entropy": nn.CrossEntropyLoss(), "lead": OtherLoss()}


def build(layers: Sequence[Sequence[Any]], conv_op: Callable[..., nn.Module] = nn.Conv2d) -> nn.Sequential:
    """Return a new sequential network in float32.

    Args:
        layers: per layer a name of `LAYERS` and its arguments, or "conv", channels in, channels out, kernel size,
            stride, padding and bias.
        conv_op: class of the convolutions.
    """
    modules = []
    for name, *arguments in layers:
        if name == "conv":
            wide, out, kernel, stride, padding, bias = arguments
            modules.append(conv_op(wide, out, kernel_size=kernel, stride=stride, padding=padding, bias=bias))
        else:
            modules.append(LAYERS[name](*arguments))
    return nn.Sequential(*modules).float()  # the student's code may have changed torch's default dtype


def load(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Copy weights by name into a network's parameters and buffers; raise ResultError for an unknown name."""
    places = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    with torch.no_grad():
        for name, value in weights.items():
            if name not in places:
                raise ResultError(f"the network has no {name}; CustomConv2d keeps weight and bias as nn.Conv2d does")
            places[name].copy_(value)


class WatchedModel:
    """Wrapper of a network that records the first `MAX_CALLS` inputs, and the autograd graph size of every input.

    It ignores further arguments of a call if one of `takers`, `forward` of the student's own networks, takes them.
    """

    def __init__(
        self,
        layers: Sequence[Sequence[Any]],
        weights: dict[str, Tensor],
        *,
        training: bool,
        takers: Sequence[Callable[..., Any]] = (),
    ) -> None:
        self.training = training
        self.network = build(layers).train(training)
        load(self.network, weights)
        self.depths: list[int] = []
        self.inputs: list[Tensor] = []
        self._before = _state(self.network)
        run = self.network.forward

        def forward(*args: Any, **kwargs: Any) -> Tensor:
            images = _images_of(args, kwargs, takers)
            self.depths.append(_graph_size(images))
            if len(self.inputs) < MAX_CALLS:
                self.inputs.append(images.detach().clone())
            return run(images)

        self.network.forward = forward

    def changes(self) -> dict[str, Any]:
        """Return the differences between the network and its initial state, as JSON values.

        Keys: depths (number of autograd nodes behind each input), changed (names of parameters and buffers),
        mode_changed, gradients_left and frozen (names of parameters), hooked (whether a module has hooks).
        """
        before, after, modules = self._before, _state(self.network), list(self.network.modules())
        kept = [n for n, v in before.items() if n in after and after[n].dtype == v.dtype and torch.equal(after[n], v)]
        return {
            "depths": self.depths[:200],
            "changed": [name for name in before if name not in kept] + sorted(set(after) - set(before)),
            "mode_changed": any(part.training != self.training for part in modules),
            "gradients_left": [name for name, p in self.network.named_parameters() if p.grad is not None],
            "frozen": [name for name, p in self.network.named_parameters() if not p.requires_grad],
            "hooked": any(p._forward_hooks or p._forward_pre_hooks or p._backward_hooks for p in modules),
        }


def _images_of(args: tuple[Any, ...], kwargs: dict[str, Any], takers: Sequence[Callable[..., Any]]) -> Tensor:
    """Return the images of a call of a network; raise TypeError unless they are its only argument or a taker fits."""
    images = [each for each in (*args[:1], *kwargs.values()) if isinstance(each, Tensor)]
    is_alone = len(args) + len(kwargs) == 1 and not kwargs.keys() - {"input"}
    if images and (is_alone or any(takes(taker, [None, *args], kwargs) for taker in takers)):
        return images[0]
    count, names = max(0, len(args) - 1), ", ".join(kwargs)
    more = [f"{count} more by position"] * bool(count) + [f"one named {names}"] * bool(names)
    raise TypeError(
        "the model takes the images, model(images), and arguments that forward of a network in your code takes; "
        f"it was given {' and '.join(more) or 'no tensor'}"
    )


def takes(function: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> bool:
    """Return whether a function or class can be called with these arguments, as far as its signature tells."""
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except (TypeError, ValueError):
        return False
    return True


def _graph_size(tensor: Tensor) -> int:
    visited, pending = set(), [tensor.grad_fn]
    while pending and len(visited) < MAX_NODES:
        node = pending.pop()
        if node is not None and node not in visited:
            visited.add(node)
            pending += [following for following, _ in node.next_functions]
    return len(visited)


def _state(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
