"""The networks side by side: size, cost and speed on this machine."""

import time
from typing import Any

import torch
import torch.nn.functional as F

from scenelab.errors import LabError
from scenelab.models.registry import NETWORKS, count_flops, create, size
from scenelab.progress import progress

BATCH = 64
SECONDS = 1.0
CLASSES = 100
SMALLEST = 16


def describe_networks(side: int, *, speed: bool) -> dict[str, dict[str, Any]]:
    """Parameters, bytes and FLOPs of each network; with `speed` also images/s in training and prediction.

    Raises:
        LabError: the side is smaller than the networks take.
    """
    if side < SMALLEST:
        raise LabError(f"--size is {side}; the networks take {SMALLEST} pixels or more")
    described = {}
    with progress("models", len(NETWORKS), unit="models") as advance:
        for name, architecture in NETWORKS.items():
            weight = size(create(name, num_classes=CLASSES))
            described[name] = {
                "what": architecture.what,
                "parameters": weight.parameters,
                "bytes": weight.bytes,
                "flops": count_flops(name, num_classes=CLASSES, side=side),
                "training_flops": count_flops(name, num_classes=CLASSES, side=side, training=True),
                **(measure_speed(name, side) if speed else {}),
            }
            advance(1)
    return described


def measure_speed(name: str, side: int) -> dict[str, float]:
    """Images/s of SGD steps, and of prediction, in batches of 64 images of noise."""
    torch.manual_seed(0)
    model = create(name, num_classes=CLASSES).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    images = torch.rand(BATCH, 3, side, side).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (BATCH,))

    def learn() -> None:
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()

    def predict() -> None:
        with torch.inference_mode():
            model(images)

    training = _rate(learn)
    model.eval()
    return {"training_images_per_second": training, "images_per_second": _rate(predict)}


def _rate(work: Any) -> float:
    work()
    began, count = time.perf_counter(), 0
    while not count or time.perf_counter() - began < SECONDS:
        work()
        count += 1
    return count * BATCH / (time.perf_counter() - began)
