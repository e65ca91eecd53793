"""Download a file over HTTP atomically and resume interrupted transfers."""

import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import requests
from urllib3.exceptions import HTTPError

from scenelab.errors import LabError
from scenelab.io import explain_write_errors, sync_folder
from scenelab.progress import progress
from scenelab.schema import Model
from scenelab.terminal import say

CHUNK = 1 << 16  # bytes per read; an interrupted read loses at most one chunk
MAX_PAUSE = 30.0  # seconds between two attempts
CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")  # RFC 9110, section 14.4
RESUME = "run the command again: it continues where it stopped"


class Origin(Model):
    """Source of a partial file: its URL, and its strong ETag or Last-Modified date as validator."""

    address: str = ""
    validator: str = ""


class _FailedRequestError(Exception):
    """Error for a request that did not complete the file; `retry` is False if the same URL would fail again."""

    def __init__(self, cause: str, *, retry: bool) -> None:
        super().__init__(cause)
        self.retry = retry


def fetch(
    addresses: Sequence[str], target: Path, *, attempts: int = 5, timeout: float = 30.0, pause: float = 1.0
) -> None:
    """Download `target` from the first of `addresses` that serves it; an existing `target` is kept.

    The body is written to `target.part` and its `Origin` to `target.part.json`. This call or a later one resumes an
    interrupted transfer with Range and If-Range (RFC 9110, sections 13.1.5 and 14.2). The transfer restarts if the file
    has changed or the server ignores Range. Only the length is verified, so the caller must check the content.

    Args:
        addresses: http or https URLs, tried in order; the URL of an existing partial file is tried first.
        target: path of the file to write.
        attempts: maximum number of consecutive requests without new bytes per URL.
        timeout: seconds without data after which a connection counts as broken.
        pause: seconds before the first retry, doubled per further retry, at most 30.

    Raises:
        LabError: no URL serves the file, a URL is not http or https, or the file cannot be written.
    """
    target, cause = Path(target), "no address was given"
    for address in addresses:
        if not address.lower().startswith(("http://", "https://")):
            raise LabError(f"cannot download from {address!r}: give an address that begins with https:// or http://")
    with explain_write_errors(target, f"free space or choose another folder, then {RESUME}"):
        if target.exists():
            return
        target.parent.mkdir(parents=True, exist_ok=True)
        begun = _origin(target).address
        with requests.Session() as session:
            for address in sorted(addresses, key=lambda address: address != begun):
                try:
                    _fetch_from(session, address, target, attempts, timeout, pause)
                    return
                except _FailedRequestError as failure:
                    cause = f"{address}: {failure}"
    raise LabError(
        f"cannot download {target.name} ({cause}); check the connection and {RESUME}, "
        "or give a local copy to `scenelab data import`"
    )


def _fetch_from(
    session: requests.Session, address: str, target: Path, attempts: int, timeout: float, pause: float
) -> None:
    """Send requests until the file is complete, then rename it; a request with new bytes resets the failure count."""
    part = _part(target)
    furthest, failures = _size(part), 0
    while True:
        try:
            _request(session, address, target, timeout)
            break
        except _FailedRequestError as failure:
            failures = 1 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if not failure.retry or failures >= attempts:
                raise
            wait = min(pause * 2 ** (failures - 1), MAX_PAUSE)
            say(f"{target.name}: {failure}; trying again in {wait:g} s", file=sys.stderr)
        time.sleep(wait)
    os.replace(part, target)
    sync_folder(target.parent)
    _sidecar(target).unlink(missing_ok=True)


def _request(session: requests.Session, address: str, target: Path, timeout: float) -> None:
    """Send one request and append its body to the partial file; raise if the file is then incomplete."""
    origin, part = _origin(target), _part(target)
    size = _size(part) if origin.address == address and origin.validator else 0
    headers = {"Accept-Encoding": "identity"}  # the bytes on disk are the bytes that Content-Length counts
    if size:
        headers |= {"Range": f"bytes={size}-", "If-Range": origin.validator}
    try:
        response = session.get(address, headers=headers, stream=True, timeout=timeout)
    except requests.RequestException as error:
        retry = isinstance(error, (requests.ConnectionError, requests.Timeout))
        raise _FailedRequestError(_describe(error), retry=retry) from error
    with response:
        status = response.status_code
        if status in (206, 416) and not _continues(response, size, origin.validator):
            part.unlink(missing_ok=True)
            raise _FailedRequestError("the server cannot continue the file", retry=True)
        if status == 416:
            return  # the file is complete, only the final rename is missing
        if status not in (200, 206):
            retry = status >= 500 or status in (408, 429)
            raise _FailedRequestError(f"HTTP status {status} {response.reason}", retry=retry)
        if response.headers.get("Content-Type", "").lower().startswith("text/html"):  # login portals, moved sites
            raise _FailedRequestError("the server answered with a web page instead of the file", retry=False)
        _receive(response, target, address)


def _continues(response: requests.Response, size: int, validator: str) -> bool:
    """Return whether a response with status 206 or 416 continues the partial file of `size` bytes."""
    named = [response.headers[name] for name in ("ETag", "Last-Modified") if name in response.headers]
    if not size or (named and validator not in named):
        return False
    if response.status_code == 416:
        return response.headers.get("Content-Range") == f"bytes */{size}"
    return _content_range(response)[0] == size


def _content_range(response: requests.Response) -> tuple[int, int | None, int | None]:
    """Return the first byte and exclusive end of the response in the file, and the file's size; None if unknown."""
    match = CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if response.status_code == 206 and match:
        end = int(match[2]) + 1
        return int(match[1]), end, end if match[3] == "*" else int(match[3])
    length = response.headers.get("Content-Length", "")
    if length.isdecimal():
        return 0, int(length), int(length)
    if response.headers.get("Transfer-Encoding", "").lower() == "chunked":
        return 0, None, None  # the last chunk marks the end (RFC 9112, section 7.1)
    raise _FailedRequestError(
        "the server does not say how long the file is, so a part could pass for the whole", retry=False
    )


def _receive(response: requests.Response, target: Path, address: str) -> None:
    """Write the response body to the partial file of `target`, and check its length.

    Raises:
        _FailedRequestError: the length differs from Content-Length.
    """
    start, end, total = _content_range(response)
    with _part(target).open("r+b" if start else "wb") as file, progress(target.name, total, unit="bytes") as advance:
        if not start:
            os.fsync(file.fileno())  # the old bytes must be gone before the new validator is written
            tag = response.headers.get("ETag", "")
            validator = tag if tag.startswith('"') else response.headers.get("Last-Modified", "")  # no weak ETags
            Origin(address=address, validator=validator).write(_sidecar(target))
        reached = file.seek(start)
        advance(start)
        while chunk := _read(response):
            file.write(chunk)
            reached += len(chunk)
            if end is not None and reached > end:
                file.truncate(0)
                raise _FailedRequestError(f"more than the announced {end:,} bytes came", retry=True)
            advance(len(chunk))
        file.flush()
        os.fsync(file.fileno())
    if not reached:
        raise _FailedRequestError("the file is empty", retry=False)
    if total is not None and reached < total:
        raise _FailedRequestError(f"the connection ended after {reached:,} of {total:,} bytes", retry=True)


def _read(response: requests.Response) -> bytes:
    """Return the next bytes of the body without decoding: a body sent with gzip encoding must stay compressed."""
    try:
        return response.raw.read(CHUNK, decode_content=False)
    except (HTTPError, OSError) as error:
        raise _FailedRequestError(f"the connection broke ({_describe(error)})", retry=True) from error


def _origin(target: Path) -> Origin:
    """Return the origin of the partial file, or an empty one if it is unknown."""
    try:
        return Origin.read(_sidecar(target))
    except LabError:
        return Origin()


def _part(target: Path) -> Path:
    return target.with_name(target.name + ".part")


def _sidecar(target: Path) -> Path:
    return target.with_name(target.name + ".part.json")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _describe(error: Exception) -> str:
    """Return the innermost cause of a network error, without the object addresses in urllib3's messages."""
    reason = getattr(error.args[0], "reason", error.args[0]) if error.args else error
    return str(reason).rsplit(": ", 1)[-1].strip("()'\" ") or type(error).__name__
