"""Agreement of all processes on a new key prefix in torchrun's store, after each start.

torchrun keeps one store across restarts. It still holds the addresses of dead processes, and torch would connect to
them (pytorch/pytorch issue 135712). A new prefix hides these addresses. The restart count cannot be the prefix, because
each host counts its own restarts.
"""

import secrets
import time
from datetime import timedelta

from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

PAUSE = 0.01  # seconds


def agree_on_name(store: Store, rank: int, size: int, patience: timedelta) -> str:
    """Return a new random name that is the same on all `size` processes.

    All ranks must call this function. Each rank announces a token; rank 0 answers every token, including tokens of dead
    processes, until all ranks have confirmed the name.

    Raises:
        RuntimeError: a rank is missing after `patience`; raised on rank 0.
    """
    if rank:
        token = secrets.token_hex(8)
        store.set(_announced(rank), token)
        store.wait([_answer(token)], patience)
        name = store.get(_answer(token)).decode()
        store.set(_confirmed(name, rank), "")
        return name
    name, end = secrets.token_hex(8), time.monotonic() + patience.total_seconds()
    absent, answered = set(range(1, size)), set()
    while absent:
        tokens = {store.get(_announced(other)).decode() for other in absent if store.check([_announced(other)])}
        for token in tokens - answered:
            store.set(_answer(token), name)
        answered |= tokens
        absent -= {other for other in absent if store.check([_confirmed(name, other)])}
        if absent and time.monotonic() > end:
            raise RuntimeError(f"ranks {sorted(absent)} are missing after {patience.total_seconds():.0f} s")
        time.sleep(PAUSE)
    return name


def _announced(rank: int) -> str:
    return f"scenelab/announced/{rank}"


def _answer(token: str) -> str:
    return f"scenelab/answer/{token}"


def _confirmed(name: str, rank: int) -> str:
    return f"scenelab/confirmed/{name}/{rank}"
