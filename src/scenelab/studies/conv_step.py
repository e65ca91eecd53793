"""Time and peak memory of a training step of SimpleNet with native, our own or the textbook convolution."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from scenelab.conv import Conv2d
from scenelab.models.simplenet import ConvOp, SimpleNet
from scenelab.runtime import peak_memory, resident_memory
from scenelab.studies.textbook_conv import TextbookConv2d
from scenelab.studies.timing import Measurements
from scenelab.studies.worker import run_worker

IMPLEMENTATIONS: dict[str, ConvOp] = {"native": nn.Conv2d, "ours": Conv2d, "textbook": TextbookConv2d}
CLASSES = 100
STEPS = 4


def make_step(implementation: str, batch: int, size: int) -> Callable[[], float]:
    """Return a function that runs one training step of SimpleNet on random images and returns the loss.

    The seed is fixed, so all implementations start from the same weights and images.
    """
    torch.manual_seed(0)
    network = SimpleNet(conv_op=IMPLEMENTATIONS[implementation], num_classes=CLASSES)
    network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(batch, 3, size, size, generator=generator).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(CLASSES, (batch,), generator=generator)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def worker(implementation: str, batch: int, size: int, threads: int) -> Measurements:
    """Train for a few steps in this process and return `seconds` per step, `peak_bytes` and `increase_bytes`.

    `increase_bytes` is the peak minus the resident size before the network and the batch are created. A tiny native
    step runs before, so that libraries that torch loads at the first step are not counted.
    """
    torch.set_num_threads(threads)
    make_step("native", 1, 16)()
    before = resident_memory()
    step = make_step(implementation, batch, size)
    step()  # warms up
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    seconds = (time.perf_counter() - began) / STEPS
    peak = peak_memory()
    return {"seconds": seconds, "peak_bytes": peak, "increase_bytes": peak - before}


def measure_step(implementation: str, *, batch: int, size: int, threads: int, prepared: bool) -> Measurements:
    """Return the measurements of `worker` in a new process; if `prepared`, call `runtime.prepare` there first."""
    return run_worker("scenelab.studies.conv_step", implementation, batch, size, threads, prepared=prepared)
