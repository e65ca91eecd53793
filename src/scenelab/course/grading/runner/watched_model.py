"""The model that an attack or an attention map gets, watched while it is used."""

from typing import Any

import torch
from torch import Tensor, nn

from runner.networks import MAX_CALLS, build, load
from runner.wire import Message

MAX_NODES = 20_000  # counted per graph


class WatchedModel:
    """A model built as the request describes.

    Attributes:
        network: the model.
        depths: number of graph nodes behind the input, per call.
        inputs: the first inputs that it was called with.
    """

    def __init__(self, request: Message) -> None:
        self.training = request.values.get("training", False)
        self.network = build(request.values["layers"]).train(self.training)
        load(self.network, {name: value for name, value in request.tensors.items() if name != "input"})
        self.depths: list[int] = []
        self.inputs: list[Tensor] = []
        self._before = _state(self.network)
        forward = self.network.forward

        def watched(input: Tensor) -> Tensor:
            self.depths.append(_graph_size(input))
            if len(self.inputs) < MAX_CALLS:
                self.inputs.append(input.detach().clone())
            return forward(input)

        self.network.forward = watched

    def changes(self) -> dict[str, Any]:
        """Return the depths and what has changed: state, dtypes, modes, frozen parameters, gradients, hooks."""
        after, modules = _state(self.network), list(self.network.modules())
        changed = [name for name, value in self._before.items() if not _is_same(after.get(name), value)]
        hooked = any(part._forward_hooks or part._forward_pre_hooks or part._backward_hooks for part in modules)
        return {
            "depths": self.depths[:200],
            "changed": changed + sorted(set(after) - set(self._before)),
            "mode_changed": any(part.training != self.training for part in modules),
            "gradients_left": [name for name, p in self.network.named_parameters() if p.grad is not None],
            "frozen": [name for name, p in self.network.named_parameters() if not p.requires_grad],
            "hooked": hooked,
        }


def _is_same(value: Tensor | None, expected: Tensor) -> bool:
    return value is not None and value.dtype == expected.dtype and torch.equal(value, expected)


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
