"""Agree on a new key prefix for the processes of each start.

torchrun keeps one store through all restarts, with the addresses of dead processes, to which torch would connect
(pytorch/pytorch issue 135712; each host counts restarts for itself). A new prefix has no old addresses.
"""

import secrets
import time
from datetime import timedelta

from torch.distributed import Store  # pyright: ignore[reportPrivateImportUsage]

PAUSE = 0.01  # seconds


def agree_on_name(store: Store, rank: int, size: int, patience: timedelta) -> str:
    """Return the same new name on all of `size` processes that call this together.

    Rank 0 answers every announcement, also those of dead processes, until all ranks have confirmed the answer.

    Raises:
        RuntimeError: a rank is missing after `patience`.
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
