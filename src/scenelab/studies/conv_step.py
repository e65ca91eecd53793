"""A training step of SimpleNet with native, our own or the textbook's convolution: its time and peak memory.

The peak is reported as it is, with Python and the libraries, and as the increase over the resident size just before
network and batch are made. A tiny native step has by then loaded what is loaded lazily.
"""

import json
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from scenelab.conv import Conv2d
from scenelab.models.simplenet import ConvOp, SimpleNet
from scenelab.runtime import peak_memory, resident_memory
from scenelab.studies.textbook_conv import TextbookConv2d
from scenelab.studies.timing import Measurements, run_worker

SUBJECTS: dict[str, ConvOp] = {"native": nn.Conv2d, "ours": Conv2d, "textbook": TextbookConv2d}
CLASSES = 100
WARM_UP = 1
STEPS = 4


def make_step(subject: str, batch: int, size: int) -> Callable[[], float]:
    """Return a training step on one batch of noise, which returns its loss.

    SimpleNet (spring 2019) with SGD and momentum; weights, images and labels are the same for every subject.
    """
    torch.manual_seed(0)
    network = SimpleNet(conv_op=SUBJECTS[subject], num_classes=CLASSES)
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


def worker(arguments: list[str]) -> None:
    """Train for a few steps in this process and print time and memory as JSON."""
    subject, batch, size, threads = arguments
    torch.set_num_threads(int(threads))
    make_step("native", 1, 16)()
    before = resident_memory()
    step = make_step(subject, int(batch), int(size))
    for _ in range(WARM_UP):
        step()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    seconds = (time.perf_counter() - began) / STEPS
    peak = peak_memory()
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "increase_bytes": peak - before}))


def measure_step(subject: str, *, batch: int, size: int, threads: int, prepared: bool) -> Measurements:
    """Return `seconds` per step, `peak_bytes` and `increase_bytes` of one subject in its own process.

    Raises:
        LabError: The process failed.
    """
    return run_worker("scenelab.studies.conv_step", [subject, batch, size, threads], prepared=prepared)
