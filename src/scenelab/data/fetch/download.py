"""A file over HTTP: whole or not there, and continued where a broken connection left it."""

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

CHUNK = 1 << 16  # bytes; what a drop in mid-read can lose at most
LONGEST_PAUSE = 30.0  # seconds between two attempts
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")  # RFC 9110, section 14.4


class _FailedRequestError(Exception):
    """A request that did not bring the whole file; `again`: the same address is worth another try."""

    def __init__(self, cause: str, *, again: bool) -> None:
        super().__init__(cause)
        self.again = again


def fetch(
    addresses: Sequence[str], target: Path, *, attempts: int = 5, timeout: float = 30.0, pause: float = 1.0
) -> None:
    """Download `target` from the first of `addresses` that has it.

    Bytes gather in `target.part`; `target.part.json` keeps where they came from and the server's validator
    (strong ETag or Last-Modified). A broken transfer continues from there, in this call or in a later one, with
    Range and If-Range (RFC 9110, sections 13.1.5 and 14.2): a file that changed in between, or a server that
    ignores Range, starts it afresh. A `target` that is there is whole and stays as it is. HTTP cuts an answer at
    the length it announces, so a length that is announced too small shows only in the content: check that too.

    Args:
        addresses: http or https, tried in this order; one that a partial file came from goes first.
        attempts: requests to one address in a row that bring nothing new before the next address is tried.
        timeout: seconds without a single byte after which a connection counts as broken.
        pause: seconds before the second attempt; doubled before each further one, 30 at most.

    Raises:
        LabError: no address gave the whole file, or the disk is full or not writable.
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
    """Ask again until the file is whole; an attempt that got further than any before it does not count."""
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
            wait = min(pause * 2 ** (failures - 1), LONGEST_PAUSE)
            print(f"{target.name}: {failure}; trying again in {wait:g} s", file=sys.stderr)
        time.sleep(wait)


def _request(session: requests.Session, address: str, target: Path, timeout: float) -> None:
    """Make one request and write what it brings to the partial file; return when that is whole."""
    begun, validator = _origin(target)
    held = _size(_part(target)) if begun == address and validator else 0
    headers = {"Accept-Encoding": "identity"}  # the bytes on disk are the bytes that Content-Length counts
    if held:
        headers |= {"Range": f"bytes={held}-", "If-Range": validator}
    try:
        response = session.get(address, headers=headers, stream=True, timeout=timeout)
    except requests.RequestException as error:
        raise _FailedRequestError(
            _name(error), again=isinstance(error, (requests.ConnectionError, requests.Timeout))
        ) from error
    with response:
        if response.status_code in (206, 416) and not _continues(response, held, validator):
            _part(target).unlink(missing_ok=True)
            raise _FailedRequestError("the server cannot continue the file", again=True)
        if response.status_code == 416:
            return  # every byte is here already: only the final rename was missing
        _receive(response, target, address, held)


def _continues(response: requests.Response, held: int, validator: str) -> bool:
    """Whether a 206 answer starts at byte `held` of the same file, or a 416 answer says that it has `held` bytes."""
    named = [response.headers[name] for name in ("ETag", "Last-Modified") if name in response.headers]
    if not held or (named and validator not in named):
        return False
    if response.status_code == 416:
        return response.headers.get("Content-Range") == f"bytes */{held}"
    span = _span(response)
    return span is not None and span[0] == held


def _receive(response: requests.Response, target: Path, address: str, held: int) -> None:
    """Write the body at its place and compare what came with what was announced."""
    _refuse_error_or_page(response)
    start = held if response.status_code == 206 else 0
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
    """Raise for anything but content; a web page is what a log-in portal or a moved site answers with."""
    status = response.status_code
    if status not in (200, 206):
        raise _FailedRequestError(
            f"HTTP status {status} {response.reason}", again=status >= 500 or status in (408, 429)
        )
    if response.headers.get("Content-Type", "").lower().startswith("text/html"):
        raise _FailedRequestError("the server answered with a web page instead of the file", again=False)


def _announced(response: requests.Response) -> tuple[int | None, int | None]:
    """Return (where this answer ends, where the file ends) in bytes, None where it is not said."""
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
    """Return (first byte, end, length of the file) of a 206 answer; the end stands for a length of `*`."""
    found = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status_code != 206 or found is None:
        return None
    end = int(found[2]) + 1
    return int(found[1]), end, end if found[3] == "*" else int(found[3])


def _chunks(response: requests.Response) -> Iterator[bytes]:
    """Yield the body as it was sent: an archive that the server calls gzip-encoded must stay packed."""
    while True:
        try:
            chunk = response.raw.read(CHUNK, decode_content=False)
        except (HTTPError, OSError) as error:
            raise _FailedRequestError(f"the connection broke ({_name(error)})", again=True) from error
        if not chunk:
            return
        yield chunk


def _validator(response: requests.Response) -> str:
    """Return what If-Range accepts: a strong ETag, else the date, else nothing (then nothing is continued)."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _finish(target: Path) -> None:
    os.replace(_part(target), target)
    sync_folder(target.parent)
    _sidecar(target).unlink(missing_ok=True)


def _origin(target: Path) -> tuple[str, str]:
    """Return (address, validator) of the partial file, empty where they are not known."""
    try:
        kept = read_json(_sidecar(target))
        return str(kept["address"]), str(kept["validator"])
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
