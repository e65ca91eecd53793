"""Choice of precision, resolutions and number of epochs for a time limit, from the measured training speed."""

import dataclasses
import math
import time
from collections.abc import Callable

import numpy as np
import torch

from scenelab.data.cache import MemmapDataset
from scenelab.evaluation.precision import MIN_SPEEDUP
from scenelab.runs.config import TrainConfig
from scenelab.training.device import adapt, pick_device
from scenelab.training.distributed import SINGLE_PROCESS, World
from scenelab.training.memory import memory_need
from scenelab.training.state import initialize, make_loader
from scenelab.training.step import train_step

RUNGS = ((48, 64, 0), (48, 80, 150_000), (64, 96, 220_000), (80, 112, 1_000_000), (96, 128, 3_000_000))
"""First and last training resolution in pixels, and the number of images × epochs from which to use the pair.

In the same time, 209,000 images at 80 and 96 pixels gave a top-1 accuracy 2.7 percentage points above 162,000 images
at 96 and 112, and 64 as first resolution about 1.6 points above 80 (docs/experiments.md). Other thresholds are guesses.
"""

SMALL_SHARE = 0.6  # fraction of the time at the first resolution
STORED, EVALUATED = 1.4, 1.2
"""Resolutions of stored and of evaluated images, relative to the last training resolution.

With these factors the mean crop shows objects at the scale of evaluation (Touvron et al. 2019), and few crops are
enlarged: a network trained on blurred crops is worse on sharp images."""

MULTIPLE = 16  # networks halve the resolution four times; odd intermediate sides cost accuracy (docs/experiments.md)
MAX_SIDE = 128  # pixels, the resolution of MiniPlaces
AVERAGED = 0.03  # time constant of the moving average of the weights, as a fraction of the steps
SECONDS, ROUNDS = 2.0, 4  # duration of each speed measurement, in turns with others
FEW_IMAGES = 8  # batch on which precisions are compared first


def plan(
    config: TrainConfig,
    *,
    images: int,
    categories: tuple[str, ...],
    seen: int = 0,
    seconds: float = 0.0,
    world: World = SINGLE_PROCESS,
) -> TrainConfig:
    """Return a config whose training takes about `config.minutes` on this machine.

    Sets precision, resolutions, number of epochs and decay of the weight average, and notes the measured speeds.
    bfloat16 halves the time on CPUs with bfloat16 instructions, and is several times slower on others. The resolutions
    are the largest pair in `RUNGS` at which the required number of images can be processed within the time limit, and a
    step fits into memory.
    During training, learning rate and resolution depend on elapsed time.

    Args:
        config: config with the time limit in `minutes`.
        images: number of training images per rank.
        categories: names of the classes.
        seen: images that a run has seen already; if there are any, the images stay stored as they are.
        seconds: seconds that this run has taken already.
        world: this process and the other ranks.
    """
    config = dataclasses.replace(config, autocast=prefers_bfloat16(config, categories))
    speeds: dict[int, float] = {}
    best = None
    for small, large, least in RUNGS:
        if best is not None and seen and scaled(large, STORED) > config.stored_size:
            break
        if best is not None and not _has_room(config, small, large, images, len(categories), world):
            break
        sides = [side for side in (small, large) if side not in speeds]
        speeds |= zip(sides, measure_speeds([(config, side) for side in sides], categories), strict=True)
        speed = SMALL_SHARE * speeds[small] + (1 - SMALL_SHARE) * speeds[large]
        epochs = (seen + max(0.0, 60 * config.minutes - seconds) * speed) / images
        if best is not None and epochs * images < least:
            break
        best = (small, large, epochs)
    assert best is not None
    small, large, epochs = best
    replays = config.adversarial.steps if config.adversarial and config.adversarial.method == "free" else 1
    updates = max(1.0, replays * epochs * images / config.batch_size)
    return dataclasses.replace(
        config,
        plan=False,
        speeds=tuple((side, round(speeds[side], 1)) for side in (small, large)),
        epochs=round(epochs, 2),
        ema=round(max(0.0, 1 - 1 / (AVERAGED * updates)), 5) if config.ema else 0.0,
        stored_size=config.stored_size if seen else scaled(large, STORED),
        eval_size=max(large, min(MAX_SIDE, MULTIPLE * round(EVALUATED * large / MULTIPLE))),
        schedule=dataclasses.replace(config.schedule, sizes=((0.0, small), (SMALL_SHARE, large))),
    )


def _has_room(config: TrainConfig, small: int, large: int, images: int, classes: int, world: World) -> bool:
    """Return whether a training step at these resolutions fits into memory."""
    schedule = dataclasses.replace(config.schedule, sizes=((0.0, small), (SMALL_SHARE, large)))
    config = dataclasses.replace(config, schedule=schedule, stored_size=scaled(large, STORED))
    device = pick_device(config.device)
    need = memory_need(config, num_classes=classes, images=images * world.size, device=device, world=world)
    return need.needed <= need.free


def prefers_bfloat16(config: TrainConfig, categories: tuple[str, ...]) -> bool:
    """Measure training steps; return whether bfloat16 is more than `MIN_SPEEDUP` times as fast as float32.

    If it is much slower with a few images, as on CPUs without bfloat16 instructions, whole batches are not measured.
    """
    few = dataclasses.replace(config, batch_size=min(FEW_IMAGES, config.batch_size), accumulate=1)
    for batch, seconds, speedup in ((few, 0.0, 0.5), (config, SECONDS, MIN_SPEEDUP)):
        pair = [(dataclasses.replace(batch, autocast=autocast), RUNGS[0][1]) for autocast in (False, True)]
        plain, half = measure_speeds(pair, categories, seconds)
        if half <= speedup * plain:
            return False
    return True


def measure_speeds(
    subjects: list[tuple[TrainConfig, int]], categories: tuple[str, ...], seconds: float = SECONDS
) -> list[float]:
    """Measure training, with augmentation, on random images; return the images per second of each subject.

    The subjects are measured in turns, and the fastest of several rounds counts: another program that is busy for some
    seconds then slows no subject, or all of them. The attack of adversarial training is not run, but counted.

    Args:
        subjects: config and side of the images in pixels.
        categories: names of the classes.
        seconds: duration per subject, at least a step per round.
    """
    steps = [_training_step(config, side, categories) for config, side in subjects]
    speeds = [0.0] * len(subjects)
    for _ in range(ROUNDS):
        for index, (config, _) in enumerate(subjects):
            began, count = time.perf_counter(), 0
            while count < 1 or time.perf_counter() - began < seconds / ROUNDS:
                steps[index](count)
                count += 1
            duration = config.relative_flops * (time.perf_counter() - began)
            speeds[index] = max(speeds[index], count * config.batch_size / duration)
    return speeds


def _training_step(config: TrainConfig, side: int, categories: tuple[str, ...]) -> Callable[[int], float]:
    """Return a function that takes a training step on random images and returns the loss; its first call is done."""
    device = pick_device(config.device)
    config = adapt(config, device)
    dataset = noise(2 * config.batch_size, scaled(side, STORED), categories)
    loader = make_loader(dataset, config, device)
    state = initialize(config, num_classes=len(categories), device=device)

    def step(number: int) -> float:
        images, targets = loader.batch(number, side)
        return float(train_step(state, state.model, config, images, targets)[0])

    step(0)
    return step


def noise(count: int, side: int, categories: tuple[str, ...]) -> MemmapDataset:
    """Return an in-memory data set of `count` random images of side×side pixels; labels cycle through the classes."""
    pixels = np.random.Generator(np.random.PCG64(0)).integers(0, 256, (count, side, side, 3), dtype=np.uint8)
    labels = torch.arange(count) % len(categories)
    return MemmapDataset(
        images=pixels, labels=labels, paths=("",) * count, categories=categories, split="noise", digest="noise"
    )


def scaled(side: int, factor: float) -> int:
    """Return `factor * side`, rounded up to a multiple of 8 and clamped to [`side`, `MAX_SIDE`]."""
    return max(side, min(MAX_SIDE, 8 * math.ceil(factor * side / 8)))
