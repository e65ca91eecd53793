"""Graceful stop: Ctrl-C and SIGTERM take effect at the end of a training step."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stop_requests() -> Iterator[Callable[[], bool]]:
    """Catch Ctrl-C and SIGTERM; yield a function that returns whether one of these signals was received.

    A second signal raises KeyboardInterrupt. At exit, the earlier signal handlers are restored.
    """
    received: list[int] = []

    def note(number: int, frame: object) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)

    try:
        earlier = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    except ValueError:  # not in the main thread
        earlier = {}
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
