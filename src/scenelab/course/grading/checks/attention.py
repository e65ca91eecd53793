"""Part 3: attention maps, the gradient of the loss of the predicted label (Simonyan et al. 2014, section 3)."""

from collections.abc import Callable

import torch
from torch import Tensor

from scenelab.course.grading.checks.attack_setting import (
    LINEAR,
    NORMED,
    SMALL,
    Setting,
    call_student,
    require_detached,
    require_left_alone,
    setting,
)
from scenelab.course.grading.checks.base import (
    CheckContext,
    CheckFailed,
    check,
    close,
    comparison,
    floats,
    require_finite,
    shape_of,
)
from scenelab.course.grading.scenelab_runner.wire import Message

TOLERANCE = 1e-4
TINY = 1e-30
SCALE = 1e-3  # by which the largest value may differ: what else may be wrong has checks of its own

Reduce = Callable[[Tensor], Tensor]


def _gradient(made: Setting, pick: Callable[[Tensor], Tensor] = lambda scores: scores.argmax(dim=1)) -> Tensor:
    """The gradient of the summed loss of the label picked: each image's own, whatever the batch."""
    network, images = made.network(), made.images.double().requires_grad_(True)
    scores = network(images)
    loss = torch.nn.functional.cross_entropy(scores, pick(scores.detach()), reduction="sum")
    return torch.autograd.grad(loss, images)[0]


def _strongest(gradient: Tensor) -> Tensor:
    return gradient.abs().amax(dim=1, keepdim=True)


def _scaled(maps: Tensor) -> Tensor:
    """Each map over its largest value."""
    return maps / maps.abs().amax(dim=(1, 2, 3), keepdim=True).clamp_min(TINY)


def _proportional(found: Tensor, expected: Tensor) -> bool:
    return close(_scaled(found.double()), _scaled(expected), TOLERANCE) and bool((found >= -TINY).all())


def _explain(context: CheckContext, made: Setting) -> tuple[Tensor, Message]:
    """The student's maps; N×H×W is taken for N×1×H×W here, which has a check of its own."""
    reply = call_student(context, "explain", made)
    found, (count, _, height, width) = floats(reply, "output", "the map"), made.images.shape
    if found.shape == (count, height, width):
        found = found[:, None]
    if found.shape != (count, 1, height, width):
        raise CheckFailed(f"explain returned {shape_of(found)} for images {shape_of(made.images)}")
    require_finite(found, "the map")
    return found, reply


@check("attention", needs=("attention_map",))
def attention_shape(context: CheckContext) -> None:
    """explain returns one map an image, N×1×H×W, also where images are wider than high or there is only one."""
    for count, side in ((3, 6), (1, 5)):
        made = setting(context, SMALL, images=count, side=side)
        made.images = made.images[:, :, :, : side - 1]
        found = call_student(context, "explain", made).tensors["output"]
        expected = (count, 1, side, side - 1)
        if tuple(found.shape) != expected:
            raise CheckFailed(
                f"explain returned {shape_of(found)} for images {shape_of(made.images)}; N×1×H×W is expected"
            )


@check("attention")
def attention_map(context: CheckContext) -> None:
    """The map of an image is the absolute gradient of the loss of its predicted label, the largest of the channels."""
    made = setting(context, SMALL, images=1)
    found, _ = _explain(context, made)
    gradient = _gradient(made)
    if _proportional(found, _strongest(gradient)):
        return
    kinds: list[tuple[str, Reduce]] = [
        ("the mean of the channels; take the largest", lambda g: g.abs().mean(1, keepdim=True)),
        ("the sum of the channels; take the largest", lambda g: g.abs().sum(1, keepdim=True)),
        (
            "the largest value without its absolute value; take the absolute values first",
            lambda g: g.amax(1, keepdim=True),
        ),
        ("the absolute value of the largest; take the absolute values first", lambda g: g.amax(1, keepdim=True).abs()),
        ("the smallest of the channels; take the largest", lambda g: g.abs().amin(1, keepdim=True)),
        ("the first channel alone; take the largest of the three", lambda g: g[:, :1].abs()),
        ("the mean without absolute values", lambda g: g.mean(1, keepdim=True)),
        ("the norm over the channels; take the largest absolute value", lambda g: g.norm(dim=1, keepdim=True)),
        ("squared", lambda g: g.square().amax(1, keepdim=True)),
        ("the negative of the absolute value", lambda g: -g.abs().amax(1, keepdim=True)),
        ("the gradient times the image", lambda g: (g * made.images.double()).abs().amax(1, keepdim=True)),
        ("cut at zero (ReLU); take the absolute values", lambda g: g.clamp_min(0).amax(1, keepdim=True)),
    ]
    example = comparison(found, _strongest(gradient))
    for name, reduce in kinds:
        if close(_scaled(found.double()), _scaled(reduce(gradient)), TOLERANCE):
            raise CheckFailed(f"the map is {name}", example, known=True)
    least = _strongest(_gradient(made, lambda scores: scores.argmin(dim=1)))
    if _proportional(found, least):
        text = "the loss is that of the least confident label; take the most confident one"
        raise CheckFailed(text, example, known=True)
    if _proportional(found, _strongest(_score_gradient(made))):
        raise CheckFailed(
            "the gradient is that of the score; take that of the loss of the predicted label", example, share=0.5,
            known=True,
        )  # fmt: skip
    raise CheckFailed("the map is not the gradient of the loss of the predicted label", example)


def _score_gradient(made: Setting) -> Tensor:
    network, images = made.network(), made.images.double().requires_grad_(True)
    return torch.autograd.grad(network(images).amax(dim=1).sum(), images)[0]


@check("attention")
def attention_values(context: CheckContext) -> None:
    """The values are the gradient's own and not scaled."""
    made = setting(context, SMALL, images=1)
    found, _ = _explain(context, made)
    gradient = _gradient(made)
    reached = found.abs().max().item()
    reductions = [gradient.abs().amax(1), gradient.abs().mean(1), gradient.abs().sum(1), gradient.amax(1),
                  gradient.norm(dim=1), gradient[:, 0].abs(), gradient.mean(1), _score_gradient(made).abs().amax(1),
                  _gradient(made, lambda scores: scores.argmin(dim=1)).abs().amax(1)]  # fmt: skip
    if not any(abs(reached / max(values.abs().max().item(), TINY) - 1) < SCALE for values in reductions):
        raise CheckFailed(
            "the values are scaled; return the absolute gradient as it is", comparison(found, _strongest(gradient))
        )


@check("attention", needs=("attention_map",))
def attention_each_image(context: CheckContext) -> None:
    """Each image's map is that of its own prediction: the same in a batch as alone, up to one factor."""
    made = setting(context, LINEAR, images=5, differ=True)
    together, _ = _explain(context, made)
    for index in range(2):
        alone = Setting(made.layers, made.images[index : index + 1], made.options, made.loss, made.weights)
        single, _ = _explain(context, alone)
        if not close(_scaled(together[index : index + 1].double()), _scaled(single.double()), TOLERANCE):
            raise CheckFailed(
                "an image's map in a batch is another than its map alone: the label (or a maximum) is taken over the "
                "batch; "
                "take it for each image, dim=1", comparison(together[index : index + 1], single),
            )  # fmt: skip


@check("attention", needs=("attention_map",))
def attention_detached(context: CheckContext) -> None:
    """The maps carry no graph."""
    _, reply = _explain(context, setting(context, SMALL))
    require_detached(context, reply, "maps")


@check("attention", needs=("attention_map",))
def attention_leaves_model(context: CheckContext) -> None:
    """Images, weights, statistics and mode of the model are the same afterwards."""
    made = setting(context, NORMED)
    _, reply = _explain(context, made)
    require_left_alone(context, made, reply, "attention map")
