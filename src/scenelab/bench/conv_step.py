"""The contestants of the convolution benchmark, and the training step that each of them takes.

The peak of the memory is given twice: as it is, with Python and the libraries in it, and as the increase over the
resident size just before contestant and batch are made. By then a tiny step with native convolution has loaded
whatever is loaded late, so that the increase is the training step's own and nothing waters down what it costs.
"""

import json
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from scenelab.bench.child import in_child
from scenelab.bench.textbook import TextbookConv2d
from scenelab.conv.conv2d import Conv2d
from scenelab.models.simplenet import ConvOp, SimpleNet
from scenelab.runtime import peak_memory, resident_memory

CONTESTANTS: dict[str, ConvOp] = {"native": nn.Conv2d, "ours": Conv2d, "textbook": TextbookConv2d}
CLASSES = 100
WARM_UP = 1
STEPS = 4


class StepTrial:
    """SimpleNet (spring 2019) with one contestant's convolution, and SGD with momentum; equal from contestant to
    contestant in weights, images and labels.
    """

    def __init__(self, contestant: str) -> None:
        torch.manual_seed(0)
        network = SimpleNet(conv_op=CONTESTANTS[contestant], num_classes=CLASSES)
        self.network = network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.optimizer = torch.optim.SGD(self.network.parameters(), lr=0.01, momentum=0.9)

    def on_batch(self, batch: int, size: int) -> Callable[[], float]:
        """Make a batch of noise; returns the step on it, which returns its loss."""
        generator = torch.Generator().manual_seed(1)
        images = torch.randn(batch, 3, size, size, generator=generator).contiguous(memory_format=torch.channels_last)
        labels = torch.randint(CLASSES, (batch,), generator=generator)

        def step() -> float:
            self.optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(self.network(images), labels)
            loss.backward()
            self.optimizer.step()
            return loss.item()

        return step


def worker(arguments: list[str]) -> None:
    """Train some steps in this process and print time and memory as JSON; `measure_step` starts it."""
    contestant, batch, size, threads = arguments
    torch.set_num_threads(int(threads))
    StepTrial("native").on_batch(1, 16)()
    before = resident_memory()
    step = StepTrial(contestant).on_batch(int(batch), int(size))
    for _ in range(WARM_UP):
        step()
    began = time.perf_counter()
    for _ in range(STEPS):
        step()
    seconds = (time.perf_counter() - began) / STEPS
    peak = peak_memory()
    print(json.dumps({"seconds": seconds, "peak_bytes": peak, "increase_bytes": peak - before}))


def measure_step(contestant: str, *, batch: int, size: int, threads: int, prepared: bool) -> dict[str, float]:
    """`seconds` of a step, `peak_bytes` and `increase_bytes` of one contestant in a process of its own.

    Raises:
        LabError: the process failed.
    """
    return in_child("scenelab.bench.conv_step", [contestant, batch, size, threads], prepared=prepared)
