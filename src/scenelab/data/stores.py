"""Where shards lie: a folder, or a server that answers range requests (RFC 9110, section 14)."""

import errno
import mmap
import os
import re
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import requests

from scenelab.errors import LabError
from scenelab.io import read_plain

ADDRESS = re.compile("(https?):/+(.+)")
ATTEMPTS = 8  # in a row that bring nothing
LONGEST_PAUSE = 30.0  # seconds between two attempts; all of them together pause for about a minute
MOST_MAPS = 64  # files that are open at once
LATER = (408, 425, 429)  # of the statuses below 500 those that another try may mend (RFC 9110, RFC 6585)
FIXES = {
    200: "choose a server that knows range requests, or copy the folder",
    416: "the file is shorter than the index says, write the shards again",
    301: "give the address that it leads to", 302: "give the address that it leads to",
    307: "give the address that it leads to", 308: "give the address that it leads to",
}  # fmt: skip
TIMEOUT = 30.0  # seconds without a byte


class Folder:
    """Files below one folder, mapped into memory; they must not be cut while they are in use."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._maps: OrderedDict[str, mmap.mmap] = OrderedDict()

    def __str__(self) -> str:
        return str(self.path)

    def view(self, name: str, start: int, length: int) -> memoryview:
        """A file's bytes from `start` on; nothing is copied.

        Raises:
            LabError: the file is not there, or is shorter.
        """
        found = self._map(name)
        if len(found) < start + length:
            raise LabError(f"{self.path / name} ends at byte {len(found)}, before its time; get that file again")
        return memoryview(found)[start : start + length]

    def advise(self, name: str, start: int, length: int, advice: int) -> None:
        """Tell the kernel what will become of the pages of a part (madvise)."""
        first = start // mmap.PAGESIZE * mmap.PAGESIZE
        self._map(name).madvise(advice, first, start + length - first)

    def _map(self, name: str) -> mmap.mmap:
        if name not in self._maps:
            try:
                if not (self.path / name).is_file():
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
                with open(self.path / name, "rb") as file:
                    self._maps[name] = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except (OSError, ValueError) as error:  # ValueError: an empty file
                cause = getattr(error, "strerror", None) or error
                raise LabError(f"cannot read {self.path / name}: {cause}; get that file again") from error
        self._maps.move_to_end(name)
        found = self._maps[name]
        if len(self._maps) > MOST_MAPS:
            self._maps.popitem(last=False)  # closed as soon as nobody looks at it
        return found

    def whole(self, name: str, most: int) -> bytes:
        """A file of at most so many bytes.

        Raises:
            LabError: it is missing, longer, or no plain file.
        """
        return read_plain(self.path / name, max_bytes=most)


class Server:
    """Files below an http or https address; a broken connection is tried again, from where it broke."""

    def __init__(self, address: str, *, pause: float = 0.5) -> None:
        self.address, self.pause = address.rstrip("/"), pause
        self._own = threading.local()

    def __str__(self) -> str:
        return self.address

    def read(self, name: str, start: int, length: int) -> bytes:
        """Exactly `length` bytes of a file, from `start` on.

        Raises:
            LabError: the server cannot be reached in eight attempts, or does not have them.
        """
        data = bytearray()
        self._patiently(name, data, lambda: self._get(name, data, length, start))
        return bytes(data)

    def whole(self, name: str, most: int) -> bytes:
        """A file of at most so many bytes; raises as `read`."""
        data = bytearray()
        self._patiently(name, data, lambda: self._get(name, data, most, None))
        return bytes(data)

    def _patiently(self, name: str, data: bytearray, get: Callable[[], None]) -> None:
        failures, furthest = 0, 0
        while True:
            try:
                return get()
            except (requests.RequestException, OSError) as error:
                failures = 1 if len(data) > furthest else failures + 1
                furthest = max(furthest, len(data))
                cause = f"{type(error).__name__} at {self.address}/{name}"
                if failures == ATTEMPTS:
                    raise LabError(
                        f"cannot read on ({cause}); check the server, then 'resume' the run, or start it again where "
                        "none had begun"
                    ) from error
                wait = min(LONGEST_PAUSE, self.pause * 2 ** (failures - 1))
                print(f"{cause}; trying again in {wait:g} s", file=sys.stderr)
            time.sleep(wait)

    def _get(self, name: str, data: bytearray, length: int, start: int | None) -> None:
        """Add to `data` what the server has of the file, until it has `length` bytes, or at `start` None the whole."""
        if not hasattr(self._own, "session"):
            self._own.session = requests.Session()
        headers = {"Accept-Encoding": "identity"}
        if start is None:
            data.clear()
        else:
            headers["Range"] = f"bytes={start + len(data)}-{start + length - 1}"
        address = f"{self.address}/{name}"
        expected = 200 if start is None else 206
        with self._own.session.get(
            address, headers=headers, stream=True, timeout=TIMEOUT, allow_redirects=False
        ) as answer:
            if answer.status_code >= 500 or answer.status_code in LATER:
                raise requests.HTTPError(f"status {answer.status_code}")
            if answer.status_code != expected:
                told = FIXES.get(answer.status_code, "check the address")
                raise LabError(f"{address} answers {answer.status_code}; expected {expected}: {told}")
            for chunk in answer.iter_content(1 << 16):
                data += chunk
                if len(data) > length:
                    raise LabError(f"{address} sent more than the {length} bytes that were asked for")
        if start is not None and len(data) < length:
            raise requests.ConnectionError("the answer ended early")


def address_of(data: Path) -> str | None:
    """The http or https address that a data folder is named by; as a path it has lost one of its two slashes."""
    found = ADDRESS.fullmatch(str(data))
    return f"{found[1]}://{found[2]}" if found else None
