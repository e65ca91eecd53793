"""Data-parallel training over several processes: `torchrun --nproc-per-node=2 -m scenelab train …`.

The batch of a step is a pure function of seed and step, and each rank trains on its shard. DistributedDataParallel
averages the gradients; batch normalization and all reported sums are over the whole batch. A run therefore has the same
losses, up to rounding, for any number of processes and may resume with another number. Only random starts of attacks
and dropout differ per rank. Rank 0 alone writes files.
"""

import gc
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
from torch.distributed import PrefixStore  # pyright: ignore[reportPrivateImportUsage]
from torch.distributed.rendezvous import rendezvous
from torch.nn.parallel import DistributedDataParallel

from scenelab.errors import LabError
from scenelab.training.rendezvous import agree_on_name
from scenelab.training.sync_batch_norm import convert_sync_batchnorm

TIMEOUT = timedelta(minutes=10)  # for the slowest rank: packing, evaluation


@dataclass(frozen=True)
class World:
    """The rank of this process and the number of processes; for a single process all collectives do nothing."""

    rank: int = 0
    size: int = 1

    @property
    def is_primary(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    def shard(self, count: int) -> slice:
        """Return this rank's share of `count` images; it may be empty."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def all_reduce(self, *values: float) -> list[float]:
        """Return the sum of each value over all ranks, in float64."""
        if self.size == 1:
            return list(values)
        return self.all_reduce_tensor(torch.tensor(values, dtype=torch.float64)).tolist()

    def all_reduce_tensor(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all ranks; the argument is unchanged."""
        values = values.clone()
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def broadcast(self, *values: float) -> list[float]:
        """Return rank 0's values, for decisions that all ranks must share."""
        return self.all_reduce(*(value if self.is_primary else 0.0 for value in values))

    def all_gather(self, rows: Tensor, count: int) -> Tensor:
        """Return all `count` rows; `rows` are those of this rank's shard."""
        if self.size == 1:
            return rows
        result = rows.new_zeros(count, *rows.shape[1:])
        result[self.shard(count)] = rows
        dist.all_reduce(result)
        return result

    def require_same(self, value: Any, what: str) -> None:
        """Check that all ranks hold the value of rank 0.

        Raises:
            LabError: on all ranks, if one of them differs.
        """
        if self.all_reduce(0.0 if self.broadcast_object(value) == value else 1.0)[0]:
            raise LabError(f"the processes have different {what}; give all of them the same data folder")

    def broadcast_object(self, value: Any) -> Any:
        """Return rank 0's value, made of tensors and plain values; it is loaded with `weights_only=True`."""
        if self.size == 1:
            return value
        stream = io.BytesIO()
        if self.is_primary:
            torch.save(value, stream)
        length = int(self.broadcast(stream.tell())[0])
        data = torch.frombuffer(bytearray(stream.getvalue() if self.is_primary else bytes(length)), dtype=torch.uint8)
        dist.broadcast(data, 0)
        return torch.load(io.BytesIO(data.numpy().tobytes()), map_location="cpu", weights_only=True)

    def wrap_ddp(self, model: nn.Module) -> nn.Module:
        """Return the model with averaged gradients and synchronized batch normalization."""
        if self.size == 1:
            return model
        model = convert_sync_batchnorm(model, self)
        with warnings.catch_warnings():  # the flag has a new name in torch 2.14, which older versions do not know
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(model, broadcast_buffers=False)


SINGLE_PROCESS = World()


@contextmanager
def init_distributed() -> Iterator[World]:
    """Join the process group of torchrun; without torchrun, yield `SINGLE_PROCESS`."""
    if "RANK" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 1:
        yield SINGLE_PROCESS
        return
    use_gpus = torch.cuda.is_available() and torch.cuda.device_count() >= int(os.environ["LOCAL_WORLD_SIZE"])
    if use_gpus:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, rank, size = next(rendezvous("env://", timeout=TIMEOUT))
    store = PrefixStore(agree_on_name(store, rank, size, TIMEOUT), store)
    backend = "cpu:gloo,cuda:nccl" if use_gpus else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=TIMEOUT)
    try:
        yield World(dist.get_rank(), dist.get_world_size())
    finally:
        gc.collect()  # models in reference cycles would keep gloo's threads until the interpreter ends, which aborts
        dist.destroy_process_group()
