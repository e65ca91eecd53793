"""Recipes: named training configs. `scenelab recipes` lists the first lines of their docstrings."""

import dataclasses
from collections.abc import Callable

from scenelab.data.augment_config import HANDOUT, Augment
from scenelab.errors import LabError, suggest
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig


def starter() -> TrainConfig:
    """The handout's recipe: SimpleNet, 90 epochs of SGD with momentum, cosine decay, the handout's augmentation.

    As in spring 2019, images are evaluated at 160 pixels and the epoch with the best accuracy on val is kept, so this
    accuracy is biased upwards. The gradient is clipped as in the handout of 2022 and later.
    """
    return TrainConfig(
        recipe="starter",
        model="simplenet",
        epochs=90,
        batch_size=256,
        optimizer=OptimizerConfig(name="sgd", lr=0.1, momentum=0.9, weight_decay=1e-4),
        augment=HANDOUT,
        clip_norm=1.0,
        eval_size=160,
        keep="best",
    )


def demo() -> TrainConfig:
    """Two minutes on a laptop: SimpleNet with Muon on the synthetic scenes at 64 pixels."""
    return TrainConfig(
        recipe="demo",
        model="simplenet",
        epochs=8,
        batch_size=64,
        optimizer=OptimizerConfig(name="muon", lr=0.02, weight_decay=0.01, adam_lr=2e-3, decay_vectors=False),
        schedule=ScheduleConfig(warmup_epochs=0.5, sizes=((0.0, 64),)),
        augment=Augment(flip=True, area=(0.5, 1.0), aspect=(0.8, 1.2), gain=0.15),
        label_smoothing=0.05,
        stored_size=72,
        eval_size=64,
        checkpoint_seconds=30,
    )


def laptop() -> TrainConfig:
    """The best accuracy within `--minutes` on a CPU: a residual network with Muon, trained on small images first.

    `training.budget` chooses precision, resolutions and number of epochs from the measured speed. docs/experiments.md
    gives the reasons for the other values.
    """
    return TrainConfig(
        recipe="laptop",
        model="residual",
        epochs=10,
        minutes=20,
        plan=True,
        evaluate_every=4,
        batch_size=128,
        optimizer=OptimizerConfig(
            name="muon", lr=0.02, momentum=0.95, weight_decay=0.02, adam_lr=2e-3, decay_vectors=False
        ),
        schedule=ScheduleConfig(warmup_epochs=0.5, decay="linear", sizes=((0.0, 64),)),
        augment=Augment(flip=True, area=(0.35, 1.0)),
        label_smoothing=0.1,
        ema=0.99,
        stored_size=72,
        eval_size=64,
    )


def challenge() -> TrainConfig:
    """The best accuracy within the challenge's 10 MB and 4 hours: a deeper network, saved in half precision.

    `scenelab challenge` compares the floating-point operations of training with the capacity of a K40 in four hours.
    """
    return dataclasses.replace(
        laptop(),
        recipe="challenge",
        model="residual-deep",
        minutes=240,
        batch_size=256,
        optimizer=dataclasses.replace(laptop().optimizer, lr=0.03),
        augment=Augment(flip=True, area=(0.25, 1.0), gain=0.1, mixup=0.2, cutmix=1.0, mixed=0.3),
        half=True,
    )


def gpu() -> TrainConfig:
    """The recipe `laptop` for one GPU: bfloat16, torch.compile, images in GPU memory; neither tuned nor timed."""
    return dataclasses.replace(
        laptop(),
        recipe="gpu",
        epochs=30,
        minutes=0,
        plan=False,
        batch_size=512,
        schedule=ScheduleConfig(warmup_epochs=1.0, sizes=((0.0, 96), (0.6, 128))),
        stored_size=128,
        eval_size=128,
        autocast=True,
        compile=True,
        resident=True,
    )


RECIPES: dict[str, Callable[[], TrainConfig]] = {
    "starter": starter,
    "demo": demo,
    "laptop": laptop,
    "challenge": challenge,
    "gpu": gpu,
}
"""Functions that return a recipe's config, by name."""


def get(name: str) -> TrainConfig:
    """Return the training config of the recipe with this name.

    Raises:
        LabError: no recipe has this name.
    """
    if name not in RECIPES:
        raise LabError(
            f"there is no recipe {name!r}{suggest(name, RECIPES)}; the recipes are {', '.join(sorted(RECIPES))}"
        )
    return RECIPES[name]()
