"""From minutes to a schedule: how large the pictures and how many the epochs can be on the machine at hand."""

import dataclasses
import math
import time

import numpy as np
import torch
from torch import Tensor

from scenelab.data.packed import Packed
from scenelab.training.batches import TrainingBatches
from scenelab.training.config import TrainConfig
from scenelab.training.loop import learn, pick_device
from scenelab.training.state import start

RUNGS = ((48, 64), (64, 80), (80, 96), (96, 112), (112, 128))
"""Sides in pixels of the training pictures at first and at last."""

SMALL_SHARE = 0.6  # of the minutes on the smaller pictures
EPOCHS = 9.0  # a rung is high enough when fewer passes than these would be left
STORED, EVALUATED = 1.4, 1.2
"""Sides at which pictures are stored and evaluated, over the last side that is trained on. A crop of two thirds of the
area, the mean, then shows things about as large as evaluation does (Touvron et al. 2019), and hardly any crop is
enlarged: enlarged pictures are blurred, and a network that has seen only those is worse on sharp ones."""

LARGEST = 128  # what MiniPlaces has
SECONDS = 2.0  # of measuring, for each side


def plan(config: TrainConfig, *, images: int, categories: tuple[str, ...]) -> TrainConfig:
    """Choose picture sizes and epochs so that training fills `config.minutes` on this machine.

    The largest pictures are taken of which at least `EPOCHS` passes fit. Epochs are what the measured speed promises;
    during training the schedule follows the clock.

    Args:
        images: how many there are to train on.
        categories: their names, for as many outputs.
    """
    speeds: dict[int, float] = {}
    best = None
    for small, large in RUNGS:
        for side in (small, large):
            if side not in speeds:
                speeds[side] = images_per_second(config, side, categories)
        speed = SMALL_SHARE * speeds[small] + (1 - SMALL_SHARE) * speeds[large]
        epochs = 60 * config.minutes * speed / images
        if best is not None and epochs < EPOCHS:
            break
        best = (small, large, epochs)
    assert best is not None
    small, large, epochs = best
    return dataclasses.replace(
        config,
        plan=False,
        epochs=round(epochs, 2),
        stored_size=scaled(large, STORED),
        eval_size=scaled(large, EVALUATED),
        schedule=dataclasses.replace(config.schedule, sizes=((0.0, small), (SMALL_SHARE, large))),
    )


def images_per_second(config: TrainConfig, side: int, categories: tuple[str, ...]) -> float:
    """Speed of whole training steps, augmentation included, on pictures of noise."""
    device = pick_device(config.device)
    packed = noise(2 * config.batch_size, scaled(side, STORED), categories)
    batches = TrainingBatches(packed, config, device)
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


def noise(count: int, side: int, categories: tuple[str, ...]) -> Packed:
    """Pictures of noise in memory, with labels in turn, to measure on."""
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    labels = torch.arange(count) % len(categories)
    return Packed(
        images=pixels, labels=labels, paths=("",) * count, categories=categories, split="noise", digest="noise"
    )


def scaled(side: int, factor: float) -> int:
    """A side enlarged to the next multiple of 8, at most to LARGEST."""
    return max(side, min(LARGEST, 8 * math.ceil(factor * side / 8)))
