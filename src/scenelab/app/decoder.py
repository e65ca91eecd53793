"""Decode uploaded images in a process with limits on time and memory, so that no image can stop the explorer."""

import multiprocessing
import os
import signal
from contextlib import suppress
from multiprocessing.connection import Connection

import numpy as np
import psutil
from jaxtyping import UInt8

from scenelab.app import limits
from scenelab.data.pixels import decode_pixels
from scenelab.errors import LabError


class Decoder:
    """Client of the decoding process, which starts at the first image and restarts after a crash; not thread-safe."""

    def __init__(self) -> None:
        self._context, self._process, self._connection = multiprocessing.get_context("spawn"), None, None

    def start(self) -> Connection:
        """Start the process if it does not run, and return the connection to it, without waiting until it is ready."""
        if self._process is None or self._connection is None or not self._process.is_alive():
            self.close()
            self._connection, other = self._context.Pipe()
            self._process = self._context.Process(target=decode_images, args=(other, limits.DECODE_MEMORY), daemon=True)
            self._process.start()
            other.close()
        return self._connection

    def read(self, data: bytes, name: str) -> UInt8[np.ndarray, "h w 3"]:
        """Return the pixels in the content of an image file as `read_pixels` does; `name` is for messages.

        Raises:
            LabError: the image is invalid, or takes too much time or memory.
        """
        connection = self.start()
        try:
            connection.send((data, name))
            for seconds in (limits.DECODE_START_SECONDS, limits.DECODE_SECONDS):  # until it begins, and until it ends
                if not connection.poll(seconds):
                    raise TimeoutError
                answer = connection.recv()
        except (OSError, EOFError) as error:  # the process has ended, or does not end
            self.close()
            bounds = f"{limits.DECODE_SECONDS:g} seconds and {limits.DECODE_MEMORY >> 20} MiB"
            raise LabError(f"image {name} cannot be decoded within {bounds}; save it anew as JPEG or PNG") from error
        if isinstance(answer, str):
            raise LabError(answer)
        return answer

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._connection is not None:
            self._process.kill()
            self._process.join()
            self._process.close()
            self._connection.close()
        self._process, self._connection = None, None


def decode_images(connection: Connection, memory: int) -> None:
    """Receive the content and name of images; send None when decoding begins, then pixels or an error message."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # libraries write warnings about damaged images
    with suppress(ImportError, ValueError, OSError):  # not on Windows, or a lower limit is set already
        import resource

        limit = psutil.Process().memory_info().vms + memory
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    while True:
        try:
            data, name = connection.recv()
        except EOFError:  # the explorer has ended
            return
        connection.send(None)
        try:
            answer = decode_pixels(data, name)
        except LabError as error:
            answer = str(error)
        connection.send(answer)
        del data, answer
