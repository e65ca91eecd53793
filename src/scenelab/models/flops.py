"""Size, floating-point operations and measured speed of the networks."""

import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from scenelab.errors import LabError
from scenelab.models.costs import DESCRIPTIONS, ModelCost, ModelSize
from scenelab.models.registry import create_model, list_models
from scenelab.progress import progress

BATCH_SIZE = 64
CLASSES = 100
MIN_RESOLUTION = 16
SECONDS = 1.0  # duration of each speed measurement


def model_size(network: nn.Module) -> ModelSize:
    """Return the number of learnable parameters and the size of the state dict in bytes."""
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return ModelSize(parameters, sum(value.nbytes for value in network.state_dict().values()))


def count_flops(name: str, *, num_classes: int, side: int, training: bool = False) -> int:
    """Return the number of floating-point operations per image of the network `name`.

    Only matrix products and convolutions count, with two operations per multiply-add. Images have `side`×`side` pixels.
    `training` adds the backward pass, without the gradient with respect to the images.
    """
    with torch.device("meta"):
        network = create_model(name, num_classes=num_classes).train(training)
        images = torch.empty(2, 3, side, side)
    with FlopCounterMode(display=False) as counter:
        logits = network(images)
        if training:
            logits.sum().backward()
    return counter.get_total_flops() // len(images)


def measure_cost(name: str, side: int) -> ModelCost:
    """Return size and FLOPs per image of the network `name` with 100 classes, for images of `side`×`side` pixels."""
    with torch.device("meta"):
        size = model_size(create_model(name, num_classes=CLASSES))
    flops, training_flops = (count_flops(name, num_classes=CLASSES, side=side, training=flag) for flag in (False, True))
    return ModelCost(size.parameters, size.bytes, flops, training_flops)


def describe_models(side: int, *, speed: bool) -> dict[str, dict[str, Any]]:
    """Return by name each network's description, parameters, bytes, and FLOPs for a `side`×`side` image.

    With `speed`, also measure the images per second of training and inference.
    """
    if side < MIN_RESOLUTION:
        raise LabError(f"--size is {side}; the networks take {MIN_RESOLUTION} pixels or more")
    models = {}
    with progress("models", len(DESCRIPTIONS), unit="models") as advance:
        for name in list_models():
            models[name] = {"what": DESCRIPTIONS[name], **asdict(measure_cost(name, side))}
            if speed:
                models[name] |= _measure_speed(name, side)
            advance(1)
    return models


def _measure_speed(name: str, side: int) -> dict[str, float]:
    """Measure images per second of SGD steps and of inference, on batches of 64 images of `side`×`side` pixels."""
    torch.manual_seed(0)
    model = create_model(name, num_classes=CLASSES).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    images = torch.rand(BATCH_SIZE, 3, side, side).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (BATCH_SIZE,))

    def train_step() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    def predict() -> None:
        with torch.inference_mode():
            model(images)

    training = _images_per_second(train_step)
    model.eval()
    return {"training_images_per_second": training, "images_per_second": _images_per_second(predict)}


def _images_per_second(work: Callable[[], None]) -> float:
    work()
    began, count = time.perf_counter(), 0
    while not count or time.perf_counter() - began < SECONDS:
        work()
        count += 1
    return count * BATCH_SIZE / (time.perf_counter() - began)
