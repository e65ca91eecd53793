"""Data-parallel training over several processes: `torchrun --nproc-per-node=2 -m scenelab train …`.

The batch of a step is a pure function of seed and step, and each rank trains on its shard. DistributedDataParallel
averages the gradients. Batch normalization and all reported sums cover the full batch. A run therefore has the same
losses, up to rounding, for any number of processes, and can resume with a different number. Only dropout and the random
starts of attacks differ per rank. Only rank 0 writes files.
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

TIMEOUT = timedelta(minutes=10)  # long enough to wait for a rank that packs images or evaluates


@dataclass(frozen=True)
class World:
    """Rank of this process, number of processes, and collective operations (no communication for one process)."""

    rank: int = 0
    size: int = 1

    @property
    def is_primary(self) -> bool:
        """Whether this process is rank 0, which writes the files."""
        return self.rank == 0

    def shard(self, count: int) -> slice:
        """Return the slice of `count` images that this rank processes; it may be empty."""
        return slice(self.rank * count // self.size, (self.rank + 1) * count // self.size)

    def all_reduce(self, *values: float) -> list[float]:
        """Return the sum of each value over all ranks, in float64."""
        if self.size == 1:
            return list(values)
        return self.all_reduce_tensor(torch.tensor(values, dtype=torch.float64)).tolist()

    def all_reduce_tensor(self, values: Tensor) -> Tensor:
        """Return the sum of a tensor over all ranks as a new tensor."""
        values = values.clone()
        if self.size > 1:
            dist.all_reduce(values)
        return values

    def broadcast(self, *values: float) -> list[float]:
        """Return the arguments of rank 0 on all ranks, so that all ranks make the same decision."""
        return self.all_reduce(*(value if self.is_primary else 0.0 for value in values))

    def all_gather(self, rows: Tensor, count: int) -> Tensor:
        """Return a tensor (count, …) of the rows of all shards, in order; `rows` is the shard of this rank."""
        if self.size == 1:
            return rows
        result = rows.new_zeros(count, *rows.shape[1:])
        result[self.shard(count)] = rows
        dist.all_reduce(result)
        return result

    def require_same(self, value: Any, what: str) -> None:
        """Check that all ranks have the same value; `what` names it in the error message.

        Raises:
            LabError: the value of a rank differs from rank 0's; raised on all ranks.
        """
        if self.all_reduce(0.0 if self.broadcast_object(value) == value else 1.0)[0]:
            raise LabError(f"the processes have different {what}; give all of them the same data folder")

    def broadcast_object(self, value: Any) -> Any:
        """Return rank 0's argument on all ranks; it may contain only what `torch.load(weights_only=True)` accepts."""
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
        """Wrap a model in DistributedDataParallel with synchronized batch norm; return it unchanged for one process."""
        if self.size == 1:
            return model
        model = convert_sync_batchnorm(model, self)
        with warnings.catch_warnings():  # the flag has a new name in torch 2.14, which older versions do not know
            warnings.simplefilter("ignore", FutureWarning)
            return DistributedDataParallel(model, broadcast_buffers=False)


SINGLE_PROCESS = World()


def local_ranks(world: World) -> int:
    """Return the number of ranks on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if world.size > 1 else 1


@contextmanager
def init_distributed() -> Iterator[World]:
    """Join torchrun's process group, yield its `World`, and leave at exit; without torchrun, yield `SINGLE_PROCESS`."""
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
