"""Decode uploaded images in a process with limits on time and memory, so that no image can stop the explorer."""

import io
import json
import subprocess
import sys
import threading
from contextlib import suppress
from typing import IO, cast

import numpy as np
import psutil
from jaxtyping import UInt8

from scenelab.app import limits
from scenelab.data.pixels import decode_pixels
from scenelab.errors import LabError
from scenelab.runtime import start_module


class Decoder:
    """Client of the decoding process, which starts at the first image and restarts after a crash; not thread-safe."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> subprocess.Popen[bytes]:
        """Start the process if it does not run, without waiting until it is ready."""
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._process = start_module("scenelab.app.decoder", [str(limits.DECODE_MEMORY)])
        return self._process

    def read(self, data: bytes, name: str) -> UInt8[np.ndarray, "h w 3"]:
        """Return the pixels in the content of an image file as `read_pixels` does; `name` is for messages.

        Raises:
            LabError: the image is invalid, or takes too much time or memory.
        """
        process = self.start()
        requests, answers = cast(IO[bytes], process.stdin), cast(io.BufferedReader, process.stdout)
        timer = threading.Timer(limits.DECODE_START_SECONDS, process.kill)
        try:
            timer.start()
            requests.write(json.dumps([name, len(data)]).encode() + b"\n")
            requests.write(data)
            requests.flush()
            answers.readline()  # decoding begins
            timer.cancel()
            timer = threading.Timer(limits.DECODE_SECONDS, process.kill)
            timer.start()
            answer = json.loads(answers.readline())
            if isinstance(answer, str):
                raise LabError(answer)
            pixels = np.empty(answer, np.uint8)
            if answers.readinto(pixels.reshape(-1).data) < pixels.size:
                raise EOFError
            return pixels
        except (OSError, ValueError, EOFError) as error:  # the process has ended
            self.close()
            bounds = f"{limits.DECODE_SECONDS:g} seconds and {limits.DECODE_MEMORY >> 20} MiB"
            raise LabError(f"image {name} cannot be decoded within {bounds}; save it anew as JPEG or PNG") from error
        finally:
            timer.cancel()

    def close(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            with suppress(OSError):  # unwritten input of a process that has ended
                self._process.communicate()
            self._process = None


def _limit_memory(memory: int) -> None:
    try:
        import resource  # not on Windows
    except ImportError:
        return
    limit = psutil.Process().memory_info().vms + memory
    with suppress(ValueError, OSError):  # a lower limit is set already
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """For each name, length and content on stdin, write an empty line, then shape and pixels or an error message."""
    _limit_memory(int(sys.argv[1]))
    output = sys.stdout.buffer
    while request := sys.stdin.buffer.readline():
        name, length = json.loads(request)
        data = sys.stdin.buffer.read(length)
        output.write(b"\n")
        output.flush()
        try:
            pixels = decode_pixels(data, name)
        except LabError as error:
            output.write(json.dumps(str(error)).encode() + b"\n")
        else:
            output.write(json.dumps(pixels.shape).encode() + b"\n")
            output.write(np.ascontiguousarray(pixels).data)
            del pixels
        output.flush()


if __name__ == "__main__":
    main()
