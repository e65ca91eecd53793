"""Networks, images and the reference attack that the checks of attacks and attention maps use.

The reference is the handout's sentence: several steps of the sign of the gradient, each followed by a clip to the
ε-neighbourhood of the input (Madry et al. 2018, section 2.1), towards the least confident label. "Least confident" can
be read as that of the clean image or as that of each step's image; both are accepted.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from scenelab.course.grading.checks.base import CheckContext, CheckFailed, draw, draw_images, listed, shape_of
from scenelab.course.grading.scenelab_runner.networks import LOSSES, build, load
from scenelab.course.grading.scenelab_runner.wire import Message

Loss = Callable[[Tensor, Tensor], Tensor]

LINEAR = [["flatten"], ["linear", 108, 100]]
SMALL = [
    ["conv", 3, 8, 3, 1, 1, True], ["tanh"], ["conv", 8, 12, 3, 2, 1, True], ["tanh"], ["mean"], ["linear", 12, 100],
]  # fmt: skip
NORMED = [
    ["conv", 3, 8, 3, 1, 1, True], ["norm", 8], ["relu"], ["dropout", 0.5], ["conv", 8, 12, 3, 2, 1, True], ["relu"],
    ["mean"], ["linear", 12, 100],
]  # fmt: skip
"""All three score 100 classes, as the handout's networks do."""
MAX_DRAWS = 50
AGREE = 0.97  # share of values that have to be the reference's: rounding may turn the sign of a gradient near zero
TOLERANCE = 1e-4


@dataclass
class Setting:
    """A network, images and options of an attack or an attention map."""

    layers: list[list[Any]]
    images: Tensor
    options: dict[str, Any]
    loss: str = "cross_entropy"
    weights: dict[str, Tensor] = field(default_factory=dict)

    def network(self) -> nn.Module:
        """The grader's copy, in float64 and evaluation mode."""
        network = build(self.layers).double().eval()
        load(network, self.weights)
        return network

    def __str__(self) -> str:
        options = ", ".join(f"{name} {value:g}" for name, value in self.options.items())
        return f"images {shape_of(self.images)}" + (f"; {options}" if options else "")


def setting(context: CheckContext, layers: list[list[Any]], *, images: int = 4, side: int = 6,
            loss: str = "cross_entropy", differ: bool = False, **options: Any) -> Setting:  # fmt: skip
    """Weights and images, drawn.

    Args:
        differ: draw until the images' most and least confident labels differ from each other's and from the batch's, so
            that a label which is taken from another place is seen.
    """
    number = 0
    while True:
        made = draw_setting(context, layers, images, side, loss, options, f"{context.name} {number}")
        number += 1
        if not differ or number == MAX_DRAWS or _labels_differ(made):
            return made


def _labels_differ(made: Setting) -> bool:
    with torch.no_grad():
        scores = made.network()(made.images.double())
    for best in (scores, -scores):
        labels, together = best.argmax(dim=1), best.mean(dim=0).argmax()
        if len(set(labels[:2].tolist())) < 2 or bool((labels[:2] == together).any()):
            return False
    return True


def draw_setting(
    context: CheckContext,
    layers: list[list[Any]],
    images: int,
    side: int,
    loss: str,
    options: dict[str, Any],
    name: str,
) -> Setting:
    generator = context.generator(name)
    made = Setting(layers, draw_images(generator, images, 3, side, side), options, loss)
    for name, value in build(layers).named_parameters():
        scale = 1.5 / max(1, value[0].numel()) ** 0.5 if value.dim() > 1 else 0.3
        made.weights[name] = draw(generator, *value.shape, dtype=torch.float32) * scale
    return made


def call_student(context: CheckContext, operation: str, made: Setting) -> Message:
    """Run the student's attack or attention map on it."""
    return context.worker.call(
        operation, {**made.weights, "input": made.images}, seed=context.own_seed, layers=made.layers, loss=made.loss,
        options=made.options,
    )  # fmt: skip


def least(scores: Tensor) -> Tensor:
    """The label that each image's scores believe in least."""
    return scores.argmin(dim=1)


def reference(
    made: Setting,
    *,
    sign: int = -1,
    anew: bool = False,
    pick: Callable[[Tensor], Tensor] = least,
    loss: str | None = None,
) -> Tensor:
    """Adversarial images by the handout's sentence, in float64.

    Args:
        sign: -1 lowers the loss, as it should be, +1 raises it.
        anew: pick the label at each step.
        pick: from scores to the label.
        loss: in place of the setting's own.
    """
    network, original = made.network(), made.images.double()
    loss_fn: Loss = LOSSES[loss or made.loss]
    steps, size, epsilon = (made.options[name] for name in ("num_steps", "step_size", "epsilon"))
    target, images = pick(network(original).detach()), original.clone()
    for _ in range(steps):
        images.requires_grad_(True)
        scores = network(images)
        if anew:
            target = pick(scores.detach())
        (gradient,) = torch.autograd.grad(loss_fn(scores, target), images)
        images = images.detach() + sign * size * gradient.sign()
        images = torch.minimum(torch.maximum(images, original - epsilon), original + epsilon)
    return images


def agrees(found: Tensor, expected: Tensor) -> bool:
    """Whether nearly all values are the same."""
    if found.shape != expected.shape:
        return False
    return bool(((found.double() - expected).abs() <= TOLERANCE).double().mean() >= AGREE)


def require_detached(context: CheckContext, reply: Message, what: str) -> None:
    """Fail where what comes back hangs on a graph; a leaf that requires gradients hangs on none and is remarked."""
    if reply.values.get("has_graph"):
        raise CheckFailed(f"the {what} that come back carry a graph; return them detached")
    if reply.values.get("requires_grad"):
        context.remark(f"The {what} that come back still require gradients; .detach() them. No points are lost for it.")


def require_left_alone(context: CheckContext, made: Setting, reply: Message, what: str) -> None:
    """Fail where the caller's images or model were changed; remark on gradients that are left."""
    values = reply.values
    after = reply.tensors.get("input_after", torch.empty(0))
    if after.dtype != made.images.dtype or not torch.equal(after, made.images):
        raise CheckFailed(f"the {what} changes the images that it is given; work on a copy (input.clone())")
    changed = listed(values, "changed")
    if changed:
        raise CheckFailed(f"the {what} changes the model: {', '.join(changed)}; leave model.eval() on, and its dtype")
    if values.get("mode_changed"):
        raise CheckFailed(f"the {what} leaves the model in another mode (train or eval) than it found it in")
    if values.get("frozen"):
        raise CheckFailed(f"the {what} leaves parameters that no longer require gradients")
    if values.get("hooked"):
        raise CheckFailed(f"the {what} leaves hooks on the model; remove them")
    if values.get("gradients_left"):
        context.remark(
            f"The {what} leaves gradients in the model's parameters (loss.backward()). In adversarial training they "
            "would be added to those of the step; torch.autograd.grad(loss, image) leaves none. It costs no points."
        )
