"""Part 2: the student's own network."""

from functools import cache
from pathlib import Path
from typing import Any

import torch

from scenelab.course.grading.checks.base import (
    CheckContext,
    CheckFailed,
    all_listed,
    check,
    draw_images,
    floats,
    listed,
    require_finite,
    shape_of,
)
from scenelab.course.grading.scenelab_runner.networks import CLASSES
from scenelab.course.submission import MAX_MODEL_BYTES, MODELS
from scenelab.models.simplenet import SimpleNet, SimpleNetSmall

NAMES = ["default_model", "default_cnn_model", "SimpleNet"]
VIT = ["default_vit_model", "SimpleViT"]
SIDES = (128, 144, 160)  # of the handouts' crops and resized images


@cache
def _given() -> list[tuple[list[list[int]], list[str]]]:
    """The parameters' shapes of the networks that the kits come with, and their layers' kinds in order."""
    return [
        ([list(p.shape) for p in network.parameters()], sorted(type(part).__name__ for part in network.modules()))
        for network in (SimpleNet(), SimpleNetSmall())
    ]


@check("model")
def model_own(context: CheckContext) -> None:
    """default_model is a network of yours, not the one that the kit came with."""
    values = context.worker.call("describe_model", seed=context.own_seed, names=NAMES).values
    shapes = values.get("shapes")
    if not isinstance(shapes, list) or not shapes:
        raise CheckFailed("the network has no parameters")
    kinds = sorted(name for name in all_listed(values, "kinds") if name not in ("SimpleNet", "SimpleNetSmall"))
    if any(shapes == given and _same_layers(kinds, layers) for given, layers in _given()):
        name = "default_cnn_model" if values.get("later") else "default_model"
        raise CheckFailed(f"the network is still the kit's SimpleNet; design a better one and name it {name}")
    context.remark(f"Your network has {_number(values.get('parameters')):,} parameters.")


def _same_layers(found: list[str], given: list[str]) -> bool:
    """Whether they are the kit's layers, whatever they are held in."""
    holders = ("Sequential", "SimpleNet", "SimpleNetSmall", "Flatten")
    return [name for name in found if name not in holders] == [name for name in given if name not in holders]


def _number(value: Any) -> int:
    return value if type(value) is int and value >= 0 else 0


def _run(context: CheckContext, names: list[str], side: int) -> None:
    generator = context.generator()
    images, labels = draw_images(generator, 2, 3, side, side), torch.randint(0, CLASSES, (2,), generator=generator)
    reply = context.worker.call("run_model", {"input": images, "labels": labels}, seed=context.own_seed, names=names)
    scores = floats(reply, "scores", "the network's output")
    if tuple(scores.shape) != (2, CLASSES):
        raise CheckFailed(f"the network makes {shape_of(scores)} of images {shape_of(images)}; 2×{CLASSES} is expected")
    require_finite(scores, "the network's output")
    bad, unused = listed(reply.values, "not_finite"), listed(reply.values, "without_gradient")
    if bad:
        raise CheckFailed(f"gradients that are no numbers reach {', '.join(bad)}")
    if unused:
        context.remark(f"No gradient reaches {', '.join(unused)}: are these parameters used?")


@check("model", needs=("model_own",))
def model_trains(context: CheckContext) -> None:
    """The network runs forward and backward on images of 128 pixels, in 2019's kit of 144 and 160 too, and scores 100
    classes."""
    later = context.worker.call("describe_model", seed=context.own_seed, names=NAMES).values.get("later")
    for side in SIDES[:1] if later else SIDES:
        _run(context, NAMES, side)


@check("model", needs=("model_own",))
def model_small(context: CheckContext) -> None:
    """The network's weights, and a checkpoint in results/ if there is one, take at most 10 MB."""
    values = context.worker.call("describe_model", seed=context.own_seed, names=NAMES).values
    size = _number(values.get("bytes"))
    if size > MAX_MODEL_BYTES:
        raise CheckFailed(f"the weights take {size:,} bytes; the challenge allows {MAX_MODEL_BYTES:,}")
    stored = checkpoint(context.submission.root)
    if stored is not None and stored.stat().st_size > MAX_MODEL_BYTES:
        raise CheckFailed(
            f"results/{stored.name} has {stored.stat().st_size:,} bytes; the challenge allows {MAX_MODEL_BYTES:,}"
        )


@check("vit")
def vit_trains(context: CheckContext) -> None:
    """The vision transformer runs forward and backward and scores 100 classes."""
    _run(context, VIT, SIDES[0])


def checkpoint(root: Path) -> Path | None:
    """The model that was handed in for the challenge."""
    folder = root / "results"
    found = [path for path in sorted(folder.rglob("*")) if path.is_file() and path.name.endswith(MODELS)]
    named = [path for path in found if path.name.startswith("model_best")]
    return (named or found or [None])[0]
