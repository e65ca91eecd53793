"""Download a file over HTTP, whole or not at all, resuming broken transfers."""

import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

from scenelab.errors import LabError
from scenelab.io import read_json, sync_folder, write_json
from scenelab.progress import progress

CHUNK = 1 << 16  # bytes; the most that a broken read can lose
MAX_PAUSE = 30.0  # seconds between two attempts
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")  # RFC 9110, section 14.4


class _FailedRequestError(Exception):
    """A request that did not complete the file; `again` says whether to retry the same address."""

    def __init__(self, cause: str, *, again: bool) -> None:
        super().__init__(cause)
        self.again = again


def fetch(
    addresses: Sequence[str], target: Path, *, attempts: int = 5, timeout: float = 30.0, pause: float = 1.0
) -> None:
    """Download `target` from the first of `addresses` that has it.

    Bytes go to `target.part`; `target.part.json` holds their address and the server's validator (strong ETag or
    Last-Modified). A broken transfer resumes from there, in this call or a later one, with Range and If-Range (RFC
    9110, sections 13.1.5 and 14.2); it restarts if the file has changed or the server ignores Range. An existing
    `target` is kept. HTTP cuts a response at its announced length, so check the content too.

    Args:
        addresses: http or https, tried in this order after the address of a partial file.
        target: the file to write.
        attempts: consecutive requests without new bytes before the next address.
        timeout: seconds without a byte after which a connection counts as broken.
        pause: seconds before the second attempt, doubled before each further one, at most 30.

    Raises:
        LabError: no address has the whole file, or the disk is full or not writable.
    """
    target = Path(target)
    for address in addresses:
        if not address.lower().startswith(("http://", "https://")):
            raise LabError(f"cannot download from {address!r}: give an address that begins with https:// or http://")
    try:
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        _fetch_from_any(addresses, target, attempts, timeout, pause)
    except OSError as error:
        raise LabError(
            f"cannot write {target}: {error.strerror or error}; free space or choose another folder, "
            "then run the command again: it continues where it stopped"
        ) from error


def _fetch_from_any(addresses: Sequence[str], target: Path, attempts: int, timeout: float, pause: float) -> None:
    cause = "no address was given"
    begun = _origin(target)[0]
    with requests.Session() as session:
        for address in sorted(addresses, key=lambda address: address != begun):
            try:
                _patiently(partial(_request, session, address, target, timeout), target, attempts, pause)
            except _FailedRequestError as failure:
                cause = f"{address}: {failure}"
                continue
            _finish(target)
            return
    raise LabError(
        f"cannot download {target.name} ({cause}); check the connection and run the command again: it continues "
        "where it stopped, or give a local copy to `scenelab data import`"
    )


def _patiently(request: Callable[[], None], target: Path, attempts: int, pause: float) -> None:
    """Retry until the file is whole; attempts that brought new bytes do not count."""
    furthest, failures = _size(_part(target)), 0
    while True:
        try:
            return request()
        except _FailedRequestError as failure:
            reached = _size(_part(target))
            failures = 1 if reached > furthest else failures + 1
            furthest = max(furthest, reached)
            if not failure.again or failures >= attempts:
                raise
            wait = min(pause * 2 ** (failures - 1), MAX_PAUSE)
            print(f"{target.name}: {failure}; trying again in {wait:g} s", file=sys.stderr)
        time.sleep(wait)


def _request(session: requests.Session, address: str, target: Path, timeout: float) -> None:
    """Make one request and append its body to the partial file; return when that is whole."""
    begun, validator = _origin(target)
    size = _size(_part(target)) if begun == address and validator else 0
    headers = {"Accept-Encoding": "identity"}  # the bytes on disk are the bytes that Content-Length counts
    if size:
        headers |= {"Range": f"bytes={size}-", "If-Range": validator}
    try:
        response = session.get(address, headers=headers, stream=True, timeout=timeout)
    except requests.RequestException as error:
        raise _FailedRequestError(
            _name(error), again=isinstance(error, (requests.ConnectionError, requests.Timeout))
        ) from error
    with response:
        if response.status_code in (206, 416) and not _continues(response, size, validator):
            _part(target).unlink(missing_ok=True)
            raise _FailedRequestError("the server cannot continue the file", again=True)
        if response.status_code == 416:
            return  # every byte is here already: only the final rename was missing
        _receive(response, target, address, size)


def _continues(response: requests.Response, size: int, validator: str) -> bool:
    """Return whether a 206 response starts at byte `size` of the same file, or a 416 says it has `size` bytes."""
    named = [response.headers[name] for name in ("ETag", "Last-Modified") if name in response.headers]
    if not size or (named and validator not in named):
        return False
    if response.status_code == 416:
        return response.headers.get("Content-Range") == f"bytes */{size}"
    span = _span(response)
    return span is not None and span[0] == size


def _receive(response: requests.Response, target: Path, address: str, size: int) -> None:
    """Write the body at its offset and compare its length with the announced one."""
    _refuse_error_or_page(response)
    start = size if response.status_code == 206 else 0
    end, total = _announced(response)
    with _part(target).open("r+b" if start else "wb") as file, progress(target.name, total, unit="bytes") as advance:
        if not start:
            os.fsync(file.fileno())  # empty on disk before the new validator is
            write_json(_sidecar(target), {"address": address, "validator": _validator(response)})
        reached = file.seek(start)
        advance(start)
        for chunk in _chunks(response):
            file.write(chunk)
            reached += len(chunk)
            if end is not None and reached > end:
                file.truncate(0)
                raise _FailedRequestError(f"more than the announced {end:,} bytes came", again=True)
            advance(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if not reached:
        raise _FailedRequestError("the file is empty", again=False)
    if total is not None and reached < total:
        raise _FailedRequestError(f"the connection ended after {reached:,} of {total:,} bytes", again=True)


def _refuse_error_or_page(response: requests.Response) -> None:
    """Raise unless the response is the file; login portals and moved sites respond with a web page."""
    status = response.status_code
    if status not in (200, 206):
        raise _FailedRequestError(
            f"HTTP status {status} {response.reason}", again=status >= 500 or status in (408, 429)
        )
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _FailedRequestError("the server answered with a web page instead of the file", again=False)


def _announced(response: requests.Response) -> tuple[int | None, int | None]:
    """Return the end of this response and the size of the file in bytes, None if unknown."""
    span = _span(response)
    if span is not None:
        return span[1:]
    length = response.headers.get("Content-Length", "")
    if length.isdecimal():
        return int(length), int(length)
    if response.headers.get("Transfer-Encoding", "").lower() == "chunked":
        return None, None  # chunks mark their own end, RFC 9112, section 7.1
    raise _FailedRequestError(
        "the server does not say how long the file is, so a part could pass for the whole", again=False
    )


def _span(response: requests.Response) -> tuple[int, int, int] | None:
    """Return (first byte, end, file size) of a 206 response; for a size of `*`, the end."""
    match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status_code != 206 or match is None:
        return None
    end = int(match[2]) + 1
    return int(match[1]), end, end if match[3] == "*" else int(match[3])


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """Yield the body undecoded: an archive declared as gzip-encoded must stay compressed."""
    while True:
        try:
            chunk = response.raw.read(CHUNK, decode_content=False)
        except (HTTPError, OSError) as error:
            raise _FailedRequestError(f"the connection broke ({_name(error)})", again=True) from error
        if not chunk:
            return
        yield chunk


def _validator(response: requests.Response) -> str:
    """Return what If-Range accepts: a strong ETag, else the date, else an empty string (never resumed)."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _finish(target: Path) -> None:
    os.replace(_part(target), target)
    sync_folder(target.parent)
    _sidecar(target).unlink(missing_ok=True)


def _origin(target: Path) -> tuple[str, str]:
    """Return (address, validator) of the partial file, empty strings if unknown."""
    try:
        origin = read_json(_sidecar(target))
        return str(origin["address"]), str(origin["validator"])
    except (LabError, KeyError, TypeError):
        return "", ""


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _sidecar(target: Path) -> Path:
    return target.with_name(target.name + ".part.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _name(error: Exception) -> str:
    """Name a network error in a few words: the innermost cause, without addresses in memory."""
    reason = getattr(error.args[0], "reason", error.args[0]) if error.args else error
    text = str(reason).rsplit(": ", 1)[-1].strip("()'\" ")
    return text or type(error).__name__
