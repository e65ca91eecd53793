"""Several processes as one training run: `torchrun --nproc-per-node=2 -m scenelab train …`.

Every process draws the whole batch of a step, which is a pure function of seed and step, and learns from its part of
it. Gradients are averaged by torch's DistributedDataParallel; statistics of batch normalisation and all sums that are
reported are those of the whole batch. So a run gives the same losses, to rounding, however many processes it has, and
may go on with another number of them. Process 0 alone writes.
"""

import io
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

PATIENCE = timedelta(minutes=10)  # for the slowest process: packing, evaluation


@dataclass(frozen=True)
class World:
    """Which of how many processes this is; alone, all of it does nothing."""

    rank: int = 0
    size: int = 1

    @property
    def main(self) -> bool:
        """Whether this is the process that writes."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """This process's share of `count` images; where there are fewer images than processes some have none."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def total(self, *values: float) -> list[float]:
        """Sums over all processes, in float64."""
        if self.size == 1:
            return list(values)
        sums = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(sums)
        return sums.tolist()

    def agree(self, *values: float) -> list[float]:
        """Process 0's values, for decisions that all have to make alike."""
        return self.total(*(value if self.main else 0.0 for value in values))

    def gather(self, rows: Tensor, count: int) -> Tensor:
        """One tensor of `count` rows of the parts that the processes hold."""
        if self.size == 1:
            return rows
        whole = rows.new_zeros(count, *rows.shape[1:])
        whole[self.part(count)] = rows
        dist.all_reduce(whole)
        return whole

    def tell(self, value: Any) -> Any:
        """Process 0's tensors and plain values; nothing in them can run code."""
        if self.size == 1:
            return value
        stream = io.BytesIO()
        if self.main:
            torch.save(value, stream)
        length = int(self.agree(stream.tell())[0])
        data = torch.frombuffer(bytearray(stream.getvalue() if self.main else bytes(length)), dtype=torch.uint8)
        dist.broadcast(data, 0)
        return torch.load(io.BytesIO(data.numpy().tobytes()), map_location="cpu", weights_only=True)

    def wait(self) -> None:
        """Until all processes are here."""
        if self.size > 1:
            dist.barrier()

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with averaged gradients and with batch statistics of the whole batch."""
        if self.size == 1:
            return model
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.__class__ = SharedBatchNorm2d
        with warnings.catch_warnings():  # the flag has a new name in torch 2.14, which older versions do not know
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(model, broadcast_buffers=False)


ALONE = World()


@contextmanager
def join() -> Iterator[World]:
    """The world that torchrun made, or that of a process alone."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 1:
        yield ALONE
        return
    enough = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    backend = "nccl" if enough else "gloo"
    if backend == "nccl":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    dist.init_process_group(backend, timeout=PATIENCE)
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        dist.destroy_process_group()


class _Sum(torch.autograd.Function):
    """The sum over all processes; the gradient of a sum is handed to all, so its own is summed too."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        gradient = gradient.clone()
        dist.all_reduce(gradient)
        return gradient


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) with mean and variance of the batch of all processes.

    torch's own SyncBatchNorm runs on GPUs alone.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        images = input if input.dtype == torch.float64 else input.float()
        places = images.shape[0] * images.shape[2] * images.shape[3]
        own = torch.cat([images.sum(dim=(0, 2, 3)), images.square().sum(dim=(0, 2, 3)), images.new_tensor([places])])
        total = _Sum.apply(own)
        count = total[-1].detach()
        mean = total[: self.num_features] / count
        variance = total[self.num_features : -1] / count - mean.square()
        self._remember(mean.detach(), variance.detach(), count)
        scale = (variance + self.eps).rsqrt() * self.weight
        shift = self.bias - mean * scale
        return (images * scale[:, None, None] + shift[:, None, None]).to(input.dtype)

    def _remember(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        """Running statistics as nn.BatchNorm2d keeps them, with the unbiased variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance * (count / (count - 1)), rate)
