"""Several processes as one training run: `torchrun --nproc-per-node=2 -m scenelab train …`.

The batch of a step is a pure function of seed and step; every process learns from its part of it. Gradients are
averaged by torch's DistributedDataParallel; statistics of batch normalisation and all sums that are reported are those
of the whole batch. So a run gives the same losses, to rounding, however many processes it has, and may go on with
another number of them; only attacks that start at random and dropout draw by process. Process 0 alone writes.
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
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from scenelab.errors import LabError
from scenelab.training.neighbours import SLOT, Neighbours, create, remove
from scenelab.training.rendezvous import agree_on_name

PATIENCE = timedelta(minutes=10)  # for the slowest process: packing, evaluation


@dataclass(frozen=True)
class World:
    """Which of how many processes this is; alone, all of it does nothing."""

    rank: int = 0
    size: int = 1
    neighbours: Neighbours | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> "World":
        return self

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
        return self.sum(torch.tensor(values, dtype=torch.float64)).tolist()

    def sum(self, values: Tensor) -> Tensor:
        """The sum of a tensor over all processes."""
        if self.neighbours and self.neighbours.holds(values):
            return self.neighbours.sum(values)
        values = values.clone()
        dist.all_reduce(values)
        return values

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

    def share(self, like: list[Tensor], mine: list[Tensor | None]) -> list[Tensor]:
        """A list of tensors of which each process has some (None for the others'), whole."""
        lengths = [kept.numel() for kept in like]
        if self.neighbours and 4 * sum(lengths) <= SLOT and like[0].dtype == torch.float32 and not like[0].is_cuda:
            parts = self.neighbours.share(mine, lengths).split(lengths)
            return [part.view(kept.shape) for part, kept in zip(parts, like, strict=True)]
        flat = torch.cat([(kept.new_zeros(kept.shape) if own is None else own).flatten()
                          for kept, own in zip(like, mine, strict=True)])  # fmt: skip
        dist.all_reduce(flat)
        parts = flat.split(lengths)
        return [part.view(kept.shape) for part, kept in zip(parts, like, strict=True)]

    def require_same(self, value: Any, what: str) -> None:
        """Make sure that all processes hold what process 0 holds.

        Raises:
            LabError: one does not; all of them raise it.
        """
        if self.total(0.0 if self.tell(value) == value else 1.0)[0]:
            raise LabError(f"the processes have different {what}; give all of them the same data folder")

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
        if next(model.parameters()).is_cuda:
            model = nn.SyncBatchNorm.convert_sync_batchnorm(model)  # torch's own, for GPUs alone
        for module in model.modules():
            if type(module) is nn.BatchNorm2d:
                module.__class__ = SharedBatchNorm2d
                vars(module)["world"] = self
        with warnings.catch_warnings():  # the flag has a new name in torch 2.14, which older versions do not know
            warnings.simplefilter("ignore", FutureWarning)
            parallel = DistributedDataParallel(model, broadcast_buffers=False)
        if self.neighbours:
            parallel.register_comm_hook(self, _average)
        return parallel


ALONE = World()


@contextmanager
def join() -> Iterator[World]:
    """The world that torchrun made, or that of a process alone."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 1:
        yield ALONE
        return
    enough = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    if enough:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    own = PrefixStore(agree_on_name(store, rank, size, PATIENCE), store)
    backend = "cpu:gloo,cuda:nccl" if enough else "gloo"
    dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        yield _meet(World(dist.get_rank(), dist.get_world_size()))
    finally:
        dist.destroy_process_group()


def _meet(world: World) -> World:
    """The world with memory that its processes share, where all of them are on one machine."""
    if world.size == 1 or int(os.environ["LOCAL_WORLD_SIZE"]) != world.size:
        return world
    name = world.tell(create(world.size) if world.main else None)
    if not name:
        return world
    neighbours = Neighbours(name, world.rank, world.size, PATIENCE)
    world.wait()
    if world.main:
        remove(name)
    return World(world.rank, world.size, neighbours)


def _average(
    world: World,
    bucket: dist.GradBucket,  # pyright: ignore[reportPrivateImportUsage]
) -> torch.futures.Future[Tensor]:
    """Gradients of some parameters, averaged as soon as they are there; they come in the same order everywhere."""
    done: torch.futures.Future[Tensor] = torch.futures.Future()
    done.set_result(world.sum(bucket.buffer()).div_(world.size))
    return done


class _SharedNorm(torch.autograd.Function):
    """x̂ = (x - μ)/√(σ² + ε), y = γx̂ + β, with μ and σ² of the batch of all processes, by torch's own fused kernels.

    With N values a channel in all, and sums over all of them (Ioffe & Szegedy 2015, section 3):

        ∂L/∂x = γ/√(σ² + ε) · (∂L/∂y - Σ∂L/∂y / N - x̂ · Σ(x̂ · ∂L/∂y) / N)

    The first term is what normalisation with fixed statistics hands back; the other two are such a normalisation of x.
    """

    @staticmethod
    def forward(
        ctx: Any, images: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, variance: Tensor, count: float,
        eps: float, world: World,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(images, weight, mean, variance)
        ctx.count, ctx.eps, ctx.world = count, eps, world
        return _normalized(images, mean, variance, weight, bias, eps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        images, weight, mean, variance = ctx.saved_tensors
        fixed, of_weight, of_bias = images.clone(), torch.zeros_like(weight), torch.zeros_like(weight)
        if len(images):
            fixed, of_weight, of_bias = torch.ops.aten.native_batch_norm_backward(
                gradient, images, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
            )
        sums = ctx.world.sum(torch.stack([of_weight, of_bias]))
        by_norm, by_mean = sums * (weight * (variance + ctx.eps).rsqrt() / -ctx.count)
        fixed += _normalized(images, mean, variance, by_norm, by_mean, ctx.eps)
        return fixed, of_weight, of_bias, None, None, None, None, None


def _normalized(images: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """With fixed statistics; of no images none, on which torch's kernel divides by zero."""
    return F.batch_norm(images, mean, variance, weight, bias, eps=eps) if len(images) else images.clone()


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation (Ioffe & Szegedy 2015) with mean and variance of the batch of all processes, on a CPU."""

    world: World

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        mean, variance, count = _statistics(input.detach(), self.weight.dtype, self.world)
        self._remember(mean, variance, count)
        return _SharedNorm.apply(input, self.weight, self.bias, mean, variance, count, self.eps, self.world)

    def _remember(self, mean: Tensor, variance: Tensor, count: float) -> None:
        """Running statistics as nn.BatchNorm2d keeps them, with the unbiased variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance * (count / max(1.0, count - 1)), rate)


def _statistics(images: Tensor, dtype: torch.dtype, world: World) -> tuple[Tensor, Tensor, float]:
    """Mean and biased variance a channel over all processes, and how many values each is of.

    A process's own mean and variance become sums in float64, where a square of the mean takes no digits away.
    """
    places = images.shape[0] * images.shape[2] * images.shape[3]
    own = torch.zeros(2, images.shape[1], dtype=dtype)
    if places:
        own = torch.stack(torch.batch_norm_update_stats(images, own[0], own[1], 0.0))
    own = own.double()
    own[1] += own[0].square()
    total = world.sum(torch.cat([own.flatten() * places, own.new_tensor([places])]))
    mean, square = (total[:-1] / total[-1]).view(2, -1)
    return mean.to(dtype), (square - mean.square()).clamp_min(0).to(dtype), float(total[-1])
