"""Checks of the student's own network, part 2 of the assignment."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import torch

from scenelab.course.grading.checks import base
from scenelab.course.grading.checks.base import CheckContext, check
from scenelab.course.grading.checks.verdict import CheckFailed
from scenelab.course.submission import MAX_MODEL_BYTES, MODELS
from scenelab_runner.message import Message
from scenelab_runner.networks import CLASSES, build

NAMES = ["default_model", "default_cnn_model", "SimpleNet"]
VIT = ["default_vit_model", "SimpleViT"]
SIDES = (128, 144, 160)  # pixels, of the handouts' crops and resized images
HOLDERS = ("Sequential", "SimpleNet", "Flatten")  # containers, ignored when layer types are compared


@cache
def _kit_networks() -> list[tuple[list[list[int]], list[str]]]:
    """Return the parameter shapes and sorted layer types of each network in the kits."""
    stem = [*_conv(3, 64, 7, 2, 3), ["pool"], *_bottleneck(64, 64, 256), ["pool"]]
    first = [*stem, *_bottleneck(256, 64, 256), ["pool"], *_conv(256, 512, 3, 1, 1)]  # spring 2019
    networks = [
        build([*each, ["mean"], ["linear", 512, CLASSES]]) for each in (first, stem + _bottleneck(256, 128, 512))
    ]
    kinds = ([type(part).__name__ for part in network.modules()] for network in networks)
    shapes = ([list(parameter.shape) for parameter in network.parameters()] for network in networks)
    return [(each, _layers(names)) for each, names in zip(shapes, kinds)]


def _conv(*arguments: int) -> list[list[Any]]:
    return [["conv", *arguments, True], ["relu"]]


def _bottleneck(wide: int, narrow: int, out: int) -> list[list[Any]]:
    return [*_conv(wide, narrow, 1, 1, 0), *_conv(narrow, narrow, 3, 1, 1), *_conv(narrow, out, 1, 1, 0)]


def _layers(kinds: list[str]) -> list[str]:
    return sorted(kind for kind in kinds if kind not in HOLDERS)


def _describe(context: CheckContext) -> Message:
    return context.call("describe_model", names=NAMES)


def _number(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


@check("model")
def model_own(context: CheckContext) -> None:
    """default_model is your own network, not the one in the kit."""
    reply = _describe(context)
    shapes = reply.values.get("shapes")
    if not isinstance(shapes, list) or not shapes:
        raise CheckFailed("the network has no parameters")
    if (shapes, _layers(base.names_in(reply, "kinds"))) in _kit_networks():
        name = str(reply.values.get("name"))[:80]
        raise CheckFailed(f"the network is still the kit's SimpleNet; design a better one and name it {name}")
    context.remark(f"Your network has {_number(reply.values.get('parameters')):,} parameters.")


def _require_training_step(context: CheckContext, names: list[str], side: int) -> None:
    generator = context.generator()
    images, labels = base.draw_images(generator, 2, 3, side, side), torch.randint(0, CLASSES, (2,), generator=generator)
    reply = context.call("run_model", {"input": images, "labels": labels}, names=names)
    scores = base.floats(reply, "scores", "the network's output")
    if tuple(scores.shape) != (2, CLASSES):
        raise CheckFailed(
            f"the network makes {base.shape_of(scores)} of images {base.shape_of(images)}; 2×{CLASSES} is expected"
        )
    base.require_finite(scores, "the network's output")
    if invalid := base.names_in(reply, "not_finite")[:3]:
        raise CheckFailed(f"gradients that are no numbers reach {', '.join(invalid)}")
    if unused := base.names_in(reply, "without_gradient")[:3]:
        context.remark(f"No gradient reaches {', '.join(unused)}: are these parameters used?")


@check("model", needs=("model_own",))
def model_trains(context: CheckContext) -> None:
    """The network runs forward and backward on images of 128 pixels (2019: also 144, 160) and scores 100 classes."""
    is_later = _describe(context).values.get("later")
    for side in SIDES[:1] if is_later else SIDES:
        _require_training_step(context, NAMES, side)


@check("model", needs=("model_own",))
def model_small(context: CheckContext) -> None:
    """The network's weights, and a checkpoint in results/ if there is one, take at most 10 MB."""
    stored = checkpoint(context.root)
    sizes = {"the weights take": _number(_describe(context).values.get("bytes"))}
    if stored is not None:
        sizes[f"results/{stored.name} has"] = stored.stat().st_size
    for what, size in sizes.items():
        if size > MAX_MODEL_BYTES:
            raise CheckFailed(f"{what} {size:,} bytes; the challenge allows {MAX_MODEL_BYTES:,}")


@check("vit")
def vit_trains(context: CheckContext) -> None:
    """The vision transformer runs forward and backward and scores 100 classes."""
    _require_training_step(context, VIT, SIDES[0])


def checkpoint(root: Path) -> Path | None:
    """Return the path of a checkpoint in `root`/results, preferably model_best*, or None if there is no checkpoint."""
    paths = [path for path in sorted((root / "results").rglob("*")) if path.is_file() and path.name.endswith(MODELS)]
    named = [path for path in paths if path.name.startswith("model_best")]
    return (named or paths or [None])[0]
