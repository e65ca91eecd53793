"""Processes that start together agree on a name, whatever those before them have left in the store."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from scenelab.training.rendezvous import agree_on_name

PATIENCE = timedelta(seconds=20)


class Stores:
    """What torchrun has: one server, to which each process connects."""

    def __init__(self) -> None:
        self.server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)

    def connect(self) -> dist.Store:
        return dist.TCPStore("127.0.0.1", self.server.port, is_master=False)


def agree(stores: Stores, size: int, late: int) -> set[str]:
    """All names that are found; one process comes later than the others."""
    rest = threading.Event()

    def come(rank: int) -> str:
        if rank == late:
            rest.wait()
        return agree_on_name(stores.connect(), rank, size, PATIENCE)

    with ThreadPoolExecutor(size) as pool:
        found = [pool.submit(come, rank) for rank in range(size)]
        threading.Timer(0.1, rest.set).start()
        return {each.result() for each in found}


@pytest.mark.parametrize("late", [0, 1, 3])
def test_restarts_get_new_names(late):
    """What a process said that died while the others waited for it is not taken for the next one's."""
    stores, seen = Stores(), set()
    for round in range(3):
        names = agree(stores, 4, late)
        assert len(names) == 1
        assert not names & seen
        seen |= names
        stores.server.set("scenelab/here/2", f"said by one that died before round {round + 1}")


def test_one_that_does_not_come_is_waited_for_so_long():
    stores, patience = Stores(), timedelta(seconds=0.1)
    with pytest.raises(RuntimeError, match=r"ranks \[1\] are missing after 0 s"):
        agree_on_name(stores.connect(), 0, 2, patience)
    with pytest.raises(dist.DistStoreError):
        agree_on_name(stores.connect(), 1, 2, patience)
