"""Checks of attention maps, part 3: gradients of the predicted label's loss (Simonyan et al. 2014, section 3).

Maps are compared with finite differences: the loss is computed again with each pixel value changed by a little.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import torch
from torch import Tensor

from scenelab.course.grading.checks import attack_setting as setup
from scenelab.course.grading.checks import base
from scenelab.course.grading.checks.attack_setting import Setting, draw_setting, slopes
from scenelab.course.grading.checks.base import CheckContext, check
from scenelab.course.grading.checks.verdict import CheckFailed
from scenelab_runner.message import Message

NEEDS = ("attention_map",)
TOLERANCE = 1e-4
TINY = 1e-30
SCALE = 1e-3  # relative tolerance of a map's largest value; attention_map checks the rest

REDUCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "the mean of the channels; take the largest": lambda g: g.abs().mean(1),
    "the sum of the channels; take the largest": lambda g: g.abs().sum(1),
    "the largest value without its absolute value; take the absolute values first": lambda g: g.amax(1),
    "the absolute value of the largest; take the absolute values first": lambda g: g.amax(1).abs(),
    "the smallest of the channels; take the largest": lambda g: g.abs().amin(1),
    "the first channel alone; take the largest of the three": lambda g: g[:, 0].abs(),
    "the mean without absolute values": lambda g: g.mean(1),
    "the norm over the channels; take the largest absolute value": lambda g: g.norm(dim=1),
    "squared": lambda g: g.square().amax(1),
    "the negative of the absolute value": lambda g: -g.abs().amax(1),
    "cut at zero (ReLU); take the absolute values": lambda g: g.clamp_min(0).amax(1),
}
SCALED = ("the smallest", "squared", "cut at zero")  # prefixes of the reductions that change the largest value


def _most(scores: Tensor) -> Tensor:
    return scores.argmax(dim=1)


def _every(scores: Tensor) -> Tensor:
    return torch.arange(scores.shape[1]).expand_as(scores)


def _strongest(slope: Tensor) -> Tensor:
    return torch.linalg.vector_norm(slope, ord=torch.inf, dim=1)[:, None]


def _alike(maps: Tensor, expected: Tensor) -> bool:
    """Return whether maps are equal within `TOLERANCE` after each is divided by its largest absolute value."""
    scaled = [each.double() / each.double().abs().amax((1, 2, 3), True).clamp_min(TINY) for each in (maps, expected)]
    return base.close(scaled[0], scaled[1], TOLERANCE)


def _explain(context: CheckContext, setting: Setting) -> tuple[Tensor, Message]:
    """Run the student's explain; return the maps, with N×H×W reshaped to N×1×H×W, and the reply."""
    reply = setting.call(context, "explain")
    maps, (count, _, height, width) = base.floats(reply, "output", "the map"), setting.images.shape
    if maps.shape == (count, height, width):
        maps = maps[:, None]
    if maps.shape != (count, 1, height, width):
        raise CheckFailed(f"explain returned {base.shape_of(maps)} for images {base.shape_of(setting.images)}")
    base.require_finite(maps, "the map")
    return maps, reply


@check("attention", needs=NEEDS)
def attention_shape(context: CheckContext) -> None:
    """Maps of explain have the shape N×1×H×W, also for a single image and for images that are not square."""
    for count, side in ((3, 6), (1, 5)):
        setting = draw_setting(context, setup.SMALL, images=count, side=side)
        setting.images = setting.images[:, :, :, : side - 1]
        maps = setting.call(context, "explain").tensors["output"]
        if tuple(maps.shape) != (count, 1, side, side - 1):
            shapes = f"{base.shape_of(maps)} for images {base.shape_of(setting.images)}"
            raise CheckFailed(f"explain returned {shapes}; N×1×H×W is expected")


@check("attention")
def attention_map(context: CheckContext) -> None:
    """The map of an image is the absolute gradient of its predicted label's loss, maximized over channels."""
    setting = draw_setting(context, setup.SMALL, images=1)
    maps, _ = _explain(context, setting)
    gradient = slopes(setting, _most)
    is_positive = bool((maps >= -TINY).all())
    if is_positive and _alike(maps, _strongest(gradient)):
        return
    example = base.comparison(maps, _strongest(gradient))
    candidates = {name: reduce(gradient)[:, None] for name, reduce in REDUCTIONS.items()}
    candidates["the gradient times the image"] = _strongest(gradient * setting.images.double())
    for name, candidate in candidates.items():
        if _alike(maps, candidate):
            raise CheckFailed(f"the map is {name}", example, known=True)
    if is_positive and _alike(maps, _strongest(slopes(setting, setup.least))):
        text = "the loss is that of the least confident label; take the most confident one"
        raise CheckFailed(text, example, known=True)
    if is_positive and _alike(maps, _strongest(slopes(setting, _most, of_logits=True))):
        text = "the gradient is that of the score; take that of the loss of the predicted label"
        raise CheckFailed(text, example, share=0.5, known=True)
    if is_positive and any(_alike(maps, _strongest(each)) for each in _over_batch(setting)):
        text = "the maximum of the scores is taken over the batch; take it over the classes, dim=1"
        raise CheckFailed(text, example, known=True)
    raise CheckFailed("the map is not the gradient of the loss of the predicted label", example)


@check("attention")
def attention_values(context: CheckContext) -> None:
    """The attention maps contain the gradient values without rescaling."""
    setting = draw_setting(context, setup.SMALL, images=1)
    maps, _ = _explain(context, setting)
    gradient, reached = slopes(setting, _most), maps.abs().max().item()

    def unscaled() -> Iterator[Tensor]:  # a right map is the first
        yield _strongest(gradient)
        yield from (reduce(gradient) for name, reduce in REDUCTIONS.items() if not name.startswith(SCALED))
        yield _strongest(slopes(setting, _most, of_logits=True))
        yield _strongest(slopes(setting, setup.least))
        yield from map(_strongest, _over_batch(setting))

    if not any(abs(reached / max(values.abs().max().item(), TINY) - 1) < SCALE for values in unscaled()):
        text = "the values are scaled; return the absolute gradient as it is"
        raise CheckFailed(text, base.comparison(maps, _strongest(gradient)))


def _over_batch(setting: Setting) -> tuple[Tensor, Tensor]:
    """Return the gradients of a single image's scores, and of its losses, of all classes.

    The maximum over the batch (dim=0) of the scores of a single image is the scores themselves.
    """
    return slopes(setting, _every, of_logits=True), slopes(setting, _every)


@check("attention", needs=NEEDS)
def attention_each_image(context: CheckContext) -> None:
    """The map of an image in a batch equals the map of the image alone, up to a factor: labels are taken per image."""
    setting = setup.draw_distinct(context, setup.LINEAR, images=5)
    together, _ = _explain(context, setting)
    for index in range(2):
        single, _ = _explain(context, replace(setting, images=setting.images[index : index + 1]))
        if not _alike(together[index : index + 1], single):
            raise CheckFailed(
                "an image's map in a batch is another than its map alone: the label (or a maximum) is taken over the "
                "batch; take it for each image, dim=1",
                base.comparison(together[index : index + 1], single),
            )


@check("attention", needs=NEEDS)
def attention_detached(context: CheckContext) -> None:
    """The maps are detached from the autograd graph."""
    setup.require_detached(context, _explain(context, draw_setting(context, setup.SMALL))[1], "maps")


@check("attention", needs=NEEDS)
def attention_leaves_model(context: CheckContext) -> None:
    """Computing attention maps leaves the input images and the model's weights, statistics and mode unchanged."""
    setting = draw_setting(context, setup.NORMED)
    setup.require_unchanged(context, setting, _explain(context, setting)[1], "attention map")
