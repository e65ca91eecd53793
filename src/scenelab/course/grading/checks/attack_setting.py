"""Networks, images and finite differences for the checks of attacks and attention maps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from scenelab.course.grading.checks.base import CheckContext, draw, draw_images, names_in, shape_of
from scenelab.course.grading.checks.verdict import CheckFailed
from scenelab_runner.message import Message
from scenelab_runner.networks import build, load

Layers = list[list[Any]]
FIRST, SECOND = ["conv", 3, 8, 3, 1, 1, True], ["conv", 8, 12, 3, 2, 1, True]
HEAD = [["mean"], ["linear", 12, 100]]
LINEAR = [["flatten"], ["linear", 108, 100]]
SMALL = [FIRST, ["tanh"], SECOND, ["tanh"], *HEAD]
NORMED = [FIRST, ["norm", 8], ["relu"], ["dropout", 0.5], SECOND, ["relu"], *HEAD]
"""`LINEAR`, `SMALL` and `NORMED` return logits of 100 classes, like the handout's networks."""
MAX_DRAWS = 50
AGREE = 0.97  # fraction of values that must match the reference: rounding may flip the sign of a gradient near zero
TOLERANCE = 1e-4
SHIFT = 1e-4  # h of the finite differences


@dataclass
class Setting:
    """Network, images, loss and options for one run of an attack or an attention map."""

    layers: Layers
    images: Tensor
    options: dict[str, Any]
    loss: str = "cross_entropy"
    weights: dict[str, Tensor] = field(default_factory=dict)

    def network(self) -> nn.Module:
        """Build the network with the setting's weights, in float64 and evaluation mode."""
        network = build(self.layers).double().eval()
        load(network, self.weights)
        return network

    def call(self, context: CheckContext, operation: str) -> Message:
        """Run the student's attack ("perturb") or attention map ("explain") and return the reply."""
        tensors = {**self.weights, "input": self.images}
        return context.call(operation, tensors, layers=self.layers, loss=self.loss, options=self.options)

    def __str__(self) -> str:
        options = ", ".join(f"{name} {value:g}" for name, value in self.options.items())
        return f"images {shape_of(self.images)}" + (f"; {options}" if options else "")


def draw_setting(
    context: CheckContext,
    layers: Layers,
    *,
    images: int = 4,
    side: int = 6,
    loss: str = "cross_entropy",
    number: int = 0,
    **options: Any,
) -> Setting:
    """Return a setting with random weights and `images` random images of `side`×`side` pixels.

    Each `number` gives a different random setting. `options` of the attack are num_steps, step_size and epsilon.
    """
    generator = context.generator(f"{context.name} {number}")
    setting = Setting(layers, draw_images(generator, images, 3, side, side), options, loss)
    for name, value in build(layers).named_parameters():
        scale = 1.5 / max(1, value[0].numel()) ** 0.5 if value.dim() > 1 else 0.3
        setting.weights[name] = draw(generator, *value.shape, dtype=torch.float32) * scale
    return setting


def draw_distinct(context: CheckContext, layers: Layers, *, images: int, **options: Any) -> Setting:
    """Return a setting in which labels taken from another image, or from the mean logits of the batch, are detected.

    The most confident labels of image 0, image 1 and the mean logits differ: neither image's label equals the other
    two labels. The same holds for the least confident labels. After `MAX_DRAWS` draws, return the last one.
    """
    number = 0
    while True:
        setting = draw_setting(context, layers, images=images, number=number, **options)
        number += 1
        with torch.no_grad():
            scores = setting.network()(setting.images.double())
        if number == MAX_DRAWS or (_labels_differ(scores) and _labels_differ(-scores)):
            return setting


def _labels_differ(scores: Tensor) -> bool:
    labels = [*scores[:2].argmax(dim=1).tolist(), int(scores.mean(dim=0).argmax())]
    return labels[0] != labels[1] and labels[2] not in labels[:2]


def least(scores: Tensor) -> Tensor:
    """Return the least confident label of each image, the index of the lowest logit, shape (N,)."""
    return scores.argmin(dim=1)


def slopes(setting: Setting, pick: Callable[[Tensor], Tensor], *, of_logits: bool = False) -> Tensor:
    """Return by how much a loss changes with each pixel value of its image, N×C×H×W, by central differences.

    The loss is the cross-entropy of the label `pick(logits)` of each image, or with `of_logits` the logit of this
    label. With several labels per image, shape N×K, it is their sum.
    """
    network, images = setting.network(), setting.images.double()
    shifts = SHIFT * torch.eye(images[0].numel(), dtype=torch.float64).unflatten(1, images.shape[1:])
    rows = []
    with torch.no_grad():
        clean = network(images)
        for image, label in zip(images, pick(clean)):
            scores = network(torch.cat([image + shifts, image - shifts]))
            values = scores if of_logits else -scores.log_softmax(dim=1)
            above, below = values[:, label].reshape(len(values), -1).sum(1).chunk(2)
            rows.append(((above - below) / (2 * SHIFT)).view_as(image))
    return torch.stack(rows)


def require_detached(context: CheckContext, reply: Message, what: str) -> None:
    """Raise CheckFailed if the result (`what`) has an autograd graph; add a remark if it only requires gradients."""
    if reply.values.get("has_graph"):
        raise CheckFailed(f"the {what} that come back carry a graph; return them detached")
    if reply.values.get("requires_grad"):
        context.remark(f"The {what} that come back still require gradients; .detach() them. No points are lost for it.")


def require_unchanged(context: CheckContext, setting: Setting, reply: Message, what: str) -> None:
    """Raise CheckFailed if `what` changed the images or the model; add a remark if parameters now have gradients."""
    values, after = reply.values, reply.tensors.get("input_after", torch.empty(0))
    changed = ", ".join(names_in(reply, "changed")[:3])
    are_same = after.dtype == setting.images.dtype and torch.equal(after, setting.images)
    effects = {
        "changes the images that it is given; work on a copy (input.clone())": not are_same,
        f"changes the model: {changed}; leave model.eval() on, and its dtype": changed,
        "leaves the model in another mode (train or eval) than it found it in": values.get("mode_changed"),
        "leaves parameters that no longer require gradients": values.get("frozen"),
        "leaves hooks on the model; remove them": values.get("hooked"),
    }
    for text, is_there in effects.items():
        if is_there:
            raise CheckFailed(f"the {what} {text}")
    if values.get("gradients_left"):
        context.remark(
            f"The {what} leaves gradients in the model's parameters (loss.backward()). In adversarial training they "
            "would be added to those of the step; torch.autograd.grad(loss, image) leaves none. It costs no points."
        )
