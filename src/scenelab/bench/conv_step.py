"""The contestants of the convolution benchmark, and the training step that each of them takes."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import nn

from scenelab.bench.textbook import TextbookConv2d
from scenelab.models.simplenet import ConvOp, SimpleNet
from scenelab.ops.conv2d import Conv2d

CONTESTANTS: dict[str, ConvOp] = {"native": nn.Conv2d, "ours": Conv2d, "textbook": TextbookConv2d}
CLASSES = 100


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
