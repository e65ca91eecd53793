"""From minutes to a schedule: precision, picture sizes and epochs for the machine at hand."""

import dataclasses
import math
import time

import numpy as np
import torch
from torch import Tensor

from scenelab.data.cache import MemmapDataset
from scenelab.runs.config import TrainConfig
from scenelab.training.batches import TrainingBatches
from scenelab.training.state import start
from scenelab.training.step import learn
from scenelab.training.trainer import pick_device

RUNGS = ((48, 64, 0), (64, 80, 150_000), (80, 96, 220_000), (96, 112, 600_000), (112, 128, 1_500_000))
"""Sides in pixels of the training pictures at first and at last, and how many images must be seen in the minutes for
these sides to pay. When 225,000 were seen, 80 and 96 won by points against 160,000 at 96 and 112
(docs/experiments.md); the other bounds are guesses around that."""

SMALL_SHARE = 0.6  # of the minutes on the smaller pictures
STORED, EVALUATED = 1.4, 1.2
"""Sides at which pictures are stored and evaluated, over the last side that is trained on. A crop of two thirds of the
area, the mean, then shows things about as large as evaluation does (Touvron et al. 2019), and hardly any crop is
enlarged: enlarged pictures are blurred, and a network that has seen only those is worse on sharp ones."""

FITTING = 16  # our networks halve the sides four times; an odd one on the way costs points (docs/experiments.md)
LARGEST = 128  # what MiniPlaces has
AVERAGED = 0.03  # share of the steps that the running average of the weights looks back
WORTHWHILE = 1.1  # how much faster bfloat16 must be to give up bits of precision for it
SECONDS = 2.0  # of measuring, for each side


def plan(config: TrainConfig, *, images: int, categories: tuple[str, ...]) -> TrainConfig:
    """Choose precision, picture sizes and epochs so that training fills `config.minutes` on this machine.

    Products are computed in bfloat16 where that is faster: processors with instructions for it take half the time,
    others several times as long. The largest pictures are taken of which enough can be seen (`RUNGS`). Epochs are what
    the measured speed promises; during training the schedule follows the clock.

    Args:
        images: how many there are to train on.
        categories: their names, for as many outputs.
    """
    config = dataclasses.replace(config, autocast=prefers_bfloat16(config, categories))
    speeds: dict[int, float] = {}
    best = None
    for small, large, least in RUNGS:
        for side in (small, large):
            if side not in speeds:
                speeds[side] = images_per_second(config, side, categories)
        speed = SMALL_SHARE * speeds[small] + (1 - SMALL_SHARE) * speeds[large]
        epochs = 60 * config.minutes * speed / images
        if best is not None and epochs * images < least:
            break
        best = (small, large, epochs)
    assert best is not None
    small, large, epochs = best
    steps = max(1.0, epochs * images / config.batch_size)
    return dataclasses.replace(
        config,
        plan=False,
        epochs=round(epochs, 2),
        ema=round(max(0.0, 1 - 1 / (AVERAGED * steps)), 5) if config.ema else 0.0,
        stored_size=scaled(large, STORED),
        eval_size=max(large, min(LARGEST, FITTING * round(EVALUATED * large / FITTING))),
        schedule=dataclasses.replace(config.schedule, sizes=((0.0, small), (SMALL_SHARE, large))),
    )


def prefers_bfloat16(config: TrainConfig, categories: tuple[str, ...]) -> bool:
    """Whether training steps with bfloat16 products are worth while here, measured."""
    plain, half = (
        images_per_second(dataclasses.replace(config, autocast=autocast), RUNGS[0][1], categories)
        for autocast in (False, True)
    )
    return half > WORTHWHILE * plain


def images_per_second(config: TrainConfig, side: int, categories: tuple[str, ...]) -> float:
    """Speed of whole training steps, augmentation included, on pictures of noise."""
    device = pick_device(config.device)
    dataset = noise(2 * config.batch_size, scaled(side, STORED), categories)
    batches = TrainingBatches(dataset, config, device)
    state = start(config, classes=len(categories), device=device)

    def step(number: int) -> Tensor:
        images, targets = batches.batch(number, side)
        return learn(state, state.model, config, images, targets)[0]

    for number in range(2):
        step(number)
    began, number = time.perf_counter(), 0
    while time.perf_counter() - began < SECONDS or number < 2:
        float(step(number))
        number += 1
    return number * config.batch_size / (time.perf_counter() - began)


def noise(count: int, side: int, categories: tuple[str, ...]) -> MemmapDataset:
    """Pictures of noise in memory, with labels in turn, to measure on."""
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    labels = torch.arange(count) % len(categories)
    return MemmapDataset(
        images=pixels, labels=labels, paths=("",) * count, categories=categories, split="noise", digest="noise"
    )


def scaled(side: int, factor: float) -> int:
    """A side enlarged to the next multiple of 8, at most to LARGEST."""
    return max(side, min(LARGEST, 8 * math.ceil(factor * side / 8)))
