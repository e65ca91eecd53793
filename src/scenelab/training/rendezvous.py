"""A name of their own for the processes that start together.

torchrun keeps one store of keys through all restarts, and in it the addresses of processes that have died: torch's own
set-up takes one of those for the new process's, and connects to nobody (pytorch/pytorch issue 135712; restarts are
counted on each host for itself, which does not tell the rounds apart). Below a new name there are none.
"""

import secrets
import time
from datetime import timedelta

from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

PAUSE = 0.01  # seconds


def agree_on_name(store: Store, rank: int, size: int, patience: timedelta) -> str:
    """The same new name for all of `size` processes that call this together.

    Process 0 answers whoever says that it is there, until all have heard it: what a dead process has said gets an
    answer as well, and nobody hears it.

    Raises:
        RuntimeError: not all have come in time.
    """
    if rank:
        mine = secrets.token_hex(8)
        store.set(_here(rank), mine)
        store.wait([_answer(mine)], patience)
        name = store.get(_answer(mine)).decode()
        store.set(_heard(name, rank), "")
        return name
    name, end = secrets.token_hex(8), time.monotonic() + patience.total_seconds()
    absent, answered = set(range(1, size)), set()
    while absent:
        said = {store.get(_here(other)).decode() for other in absent if store.check([_here(other)])}
        for theirs in said - answered:
            store.set(_answer(theirs), name)
        answered |= said
        absent -= {other for other in absent if store.check([_heard(name, other)])}
        if absent and time.monotonic() > end:
            raise RuntimeError(f"processes {sorted(absent)} have not come for {patience.total_seconds():.0f} s")
        time.sleep(PAUSE)
    return name


def _here(rank: int) -> str:
    return f"scenelab/here/{rank}"


def _answer(theirs: str) -> str:
    return f"scenelab/answer/{theirs}"


def _heard(name: str, rank: int) -> str:
    return f"scenelab/heard/{name}/{rank}"
