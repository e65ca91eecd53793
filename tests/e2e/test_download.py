"""Downloads from a real server on the loopback interface that misbehaves in every way a server can."""

import gzip
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from folders import limited_file_size, tar_of, tree, write_tree
from scenelab.data.fetch.download import fetch
from scenelab.data.fetch.install import BUILT, download
from scenelab.errors import LabError
from serving import Answer, Handler, Server, cut_after, raw, stall_after, status, tag

CONTENT = bytes(range(256)) * 4000  # 1 MB


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    with Server() as running:
        running.files["/a"] = running.files["/b"] = CONTENT
        yield running


def get(server: Server, target: Path, paths: tuple[str, ...] = ("/a",), **options: float) -> bytes:
    target.parent.mkdir(exist_ok=True)
    fetch([server.address(path) for path in paths], target, pause=0.001, **options)  # type: ignore[arg-type]
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return target.read_bytes()


def fails(server: Server, target: Path, **options) -> str:
    with pytest.raises(LabError) as caught:
        get(server, target, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "run the command again" in message
    assert not target.exists()
    return message


def span(begin: int, end: int = 1_024_000) -> str:
    return f"bytes {begin}-{end - 1}/1024000"


def part(begin: int, end: int = 1_024_000, content: bytes = CONTENT) -> Answer:
    return raw(206, end - begin, content[begin:end], Content_Range=span(begin, end), ETag=tag(content))


CUT, LENGTH = cut_after(300_000), len(CONTENT)
WHOLE, REST = ("/a", None, 200), ("/a", "bytes=300000-", 206)
DATE = {"Last_Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "ETag": 'W/"weak"'}
BOTH = ("/a", "/b")
# the first answers for /a, the addresses and options, and the last requests that are made
DATED = [raw(200, LENGTH, CONTENT[:100], **DATE)]
DATED += [raw(206, LENGTH - 100, CONTENT[100:], Content_Range=span(100), **DATE)]
SCENARIOS = {
    "a broken connection is continued": ([CUT, cut_after(200_000)], {}, [WHOLE, REST, ("/a", "bytes=500000-", 206)]),
    "progress is not a failure": ([cut_after(50_000)] * 20, {"attempts": 2}, [("/a", "bytes=1000000-", 206)]),
    "a silent connection is broken": ([stall_after(327_680)], {"timeout": 0.2}, [("/a", "bytes=327680-", 206)]),
    "more than announced": ([CUT, raw(206, None, b"y" * 999, Content_Range=span(300_000, 300_010))], {}, [WHOLE]),
    "a server that ignores the range": ([CUT, raw(200, LENGTH, CONTENT)], {}, [WHOLE, ("/a", "bytes=300000-", 200)]),
    "an answer from the wrong place": ([CUT, part(400_000)], {}, [REST, WHOLE]),
    "an answer with less than was asked for": ([CUT, part(300_000, 400_000)], {}, [("/a", "bytes=400000-", 206)]),
    "without a validator nothing is continued": ([raw(200, LENGTH, b"other" * 1000)], {}, [WHOLE] * 2),
    "nor with a weak one": ([raw(200, LENGTH, b"other" * 1000, ETag='W/"weak"')], {}, [WHOLE] * 2),
    "a date serves as a validator": (DATED, {}, [WHOLE, ("/a", "bytes=100-", 206)]),
    "busy for ever": ([status(500)] * 9, {"paths": BOTH, "attempts": 3}, [("/a", None, 500)] * 3 + [("/b", None, 200)]),
} | {f"gone with {n}": ([status(n)], {"paths": BOTH}, [("/a", None, n), ("/b", None, 200)]) for n in (403, 404, 410)}
SCENARIOS |= {f"busy with {n}": ([status(n)] * 2, {"paths": BOTH}, [*[("/a", None, n)] * 2, WHOLE]) for n in (429, 503)}


@pytest.mark.parametrize(("script", "options", "requests"), SCENARIOS.values(), ids=SCENARIOS)
def test_the_file_comes_whole(server, tmp_path, script, options, requests):
    server.script["/a"] = list(script)
    assert get(server, tmp_path / "f", **options) == CONTENT
    assert server.seen[-len(requests) :] == requests


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    for _ in range(2):
        assert get(server, tmp_path / "f") == CONTENT
    assert server.seen == [WHOLE]


CHANGED = CONTENT[::-1] + b"longer"
# what happens between a call that was broken off after 300,000 bytes and the next, which gets the file
MIRRORED = CONTENT[::-1]
LATER = {
    "nothing": (lambda server, file: None, CONTENT, [REST]),
    "another file": (lambda server, file: server.change(CHANGED), CHANGED, [("/a", "bytes=300000-", 200)]),
    "If-Range ignored": (
        lambda server, file: server.change(MIRRORED, part(300_000, content=MIRRORED)),
        MIRRORED,
        [WHOLE],
    ),
    "all but the rename": (lambda server, file: file.write_bytes(CONTENT), CONTENT, [("/a", "bytes=1024000-", 416)]),
    "more came": (lambda server, file: file.write_bytes(CONTENT + b"x"), CONTENT, [WHOLE]),
}


@pytest.mark.parametrize(("change", "content", "requests"), LATER.values(), ids=LATER)
def test_a_later_call_goes_on(server, tmp_path, change, content, requests):
    server.script["/a"] = [CUT]
    message = fails(server, tmp_path / "f", attempts=1)
    assert "it continues where it stopped" in message
    assert "`scenelab data import`" in message
    change(server, tmp_path / "f.part")
    assert get(server, tmp_path / "f") == content
    assert server.seen[-len(requests) :] == requests


@pytest.mark.parametrize(
    ("answers", "attempts", "cause"),
    [
        ([raw(200, 100, b"x" * 60)] * 3, 3, "60 bytes read, 40 more expected"),
        ([raw(200, LENGTH + 5, CONTENT, ETag=tag(CONTENT))] * 9, 2, "5 more expected"),
        ([raw(200, 0, b"")], 1, "empty"),
        ([raw(200, None, CONTENT)], 1, "does not say how long"),
        ([raw(200, 13, b"<html></html>", Content_Type="text/html; charset=utf-8")], 1, "web page"),
        ([raw(416, 0, b"", Content_Range="bytes */0")], 1, "cannot continue"),
        ([raw(302, 0, b"", Location="file:///etc/passwd")], 1, "file:///etc/passwd"),
    ],
)
def test_a_useless_answer_is_explained_and_the_next_address_asked(server, tmp_path, answers, attempts, cause):
    server.script["/a"] = list(answers)
    assert cause in fails(server, tmp_path / "f", attempts=attempts)
    server.script["/a"] = list(answers)
    assert get(server, tmp_path / "f", paths=BOTH, attempts=attempts) == CONTENT


def test_pauses_double(server, tmp_path, monkeypatch):
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    server.script["/a"] = [status(500)] * 9
    with pytest.raises(LabError, match="HTTP status 500"):
        fetch([server.address("/a")], tmp_path / "f", attempts=8)
    assert [pause for pause in pauses if pause >= 1] == [1, 2, 4, 8, 16, 30, 30]


def test_a_part_is_continued_from_its_own_address_alone(server, tmp_path):
    server.script = {"/a": [status(404)], "/b": [CUT]}
    fails(server, tmp_path / "f", paths=BOTH, attempts=1)
    assert get(server, tmp_path / "f", paths=BOTH) == CONTENT
    assert server.seen[2:] == [("/b", "bytes=300000-", 206)]
    server.script = {"/a": [CUT, *[status(500)] * 4]}
    server.files["/b"] = CONTENT[::-1]
    assert get(server, tmp_path / "new" / "f", paths=BOTH, attempts=2) == CONTENT[::-1]
    assert server.seen[-1] == ("/b", None, 200)


def test_a_part_with_a_damaged_origin_starts_anew(server, tmp_path):
    (tmp_path / "f.part").write_bytes(b"unknown")
    (tmp_path / "f.part.json").write_text("{")
    assert get(server, tmp_path / "f") == CONTENT
    assert server.seen == [WHOLE]


def test_an_encoded_answer_is_not_asked_for_and_stays_packed(server, tmp_path):
    packed = gzip.compress(CONTENT)

    def answer(handler: Handler, content: bytes) -> None:
        assert handler.headers["Accept-Encoding"] == "identity"
        raw(200, len(packed), packed, Content_Encoding="gzip")(handler, content)

    server.script["/a"] = [answer]
    assert get(server, tmp_path / "f", attempts=1) == packed


def test_a_refused_connection_and_an_address_without_http_are_explained(tmp_path):
    with pytest.raises(LabError, match="Connection refused"):
        fetch(["http://127.0.0.1:9/a"], tmp_path / "f", attempts=2, pause=0.001)
    for address in ("ftp://127.0.0.1/a", "file:///etc/passwd", "/etc/passwd", ""):
        with pytest.raises(LabError, match="begins with https"):
            fetch([address], tmp_path / "f")
    with pytest.raises(LabError, match="no address"):
        fetch([], tmp_path / "f")


def test_a_full_disk_keeps_the_part(server, tmp_path):
    with limited_file_size(1 << 18):
        assert "free space" in fails(server, tmp_path / "f")
    assert get(server, tmp_path / "f") == CONTENT
    assert server.seen[-1] == ("/a", "bytes=262144-", 206)


IMAGES = {f"images/{split}/a/abbey/{n:08}.jpg": os.urandom(20_000) for split in ("train", "val") for n in range(1, 9)}
LISTS = {
    f"{split}.txt": "".join(f"{name[7:]} 0\n" for name in IMAGES if name.startswith(f"images/{split}")).encode()
    for split in ("train", "val")
} | {"categories.txt": b"/a/abbey 0\n", "object_categories.txt": b"arcade_machine 0\n"}


@pytest.fixture
def site(server: Server) -> Server:
    server.files = {"/data.tar.gz": tar_of(IMAGES, gz=True)} | {f"/lists/{name}": text for name, text in LISTS.items()}
    return server


def install(site: Server, folder: Path) -> bool:
    lists = [site.address("/lists/")]
    return download(folder, archive_addresses=[site.address("/data.tar.gz")], list_addresses=lists)


def assert_installed(folder: Path) -> None:
    assert tree(folder) == IMAGES | LISTS
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_a_data_set_is_installed_once(site, tmp_path, capsys):
    folder = tmp_path / "new" / "data"
    assert install(site, folder)
    assert_installed(folder)
    requests, time_of_change = len(site.seen), folder.stat().st_mtime_ns
    assert not install(site, folder)
    assert "already holds a whole data set (16 labeled images)" in capsys.readouterr().err
    assert (len(site.seen), folder.stat().st_mtime_ns) == (requests, time_of_change)


def test_what_a_kill_left_beside_a_whole_folder_is_removed(site, tmp_path):
    assert install(site, tmp_path / "data")
    write_tree(tmp_path / ".data.partial", {"lock": b"", "archive": b"", "val.txt": b""})
    assert not install(site, tmp_path / "data")
    assert_installed(tmp_path / "data")


def shortened(packed: bytes) -> Answer:
    return raw(200, len(packed) - 1000, packed, ETag=tag(packed))


def flipped(packed: bytes) -> Answer:
    """With a bit of the checksum changed."""
    damaged = packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:]
    return raw(200, len(damaged), damaged, ETag=tag(damaged))


@pytest.mark.parametrize(
    ("path", "damage", "message"),
    [
        ("/data.tar.gz", shortened, "not a whole"),
        ("/data.tar.gz", flipped, "removed: run the command again"),
        ("/lists/val.txt", lambda content: raw(200, 7, b"garbage"), "'garbage'.*removed: run the command again"),
    ],
)
def test_a_damaged_file_is_fetched_again(site, tmp_path, path, damage, message):
    site.script[path] = [damage(site.files[path])]
    with pytest.raises(LabError, match=message):
        install(site, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert install(site, tmp_path / "data")
    assert_installed(tmp_path / "data")
    lists = 1 if path.startswith("/lists") else 2  # an archive is checked with its lists
    assert [path for path, _, _ in site.seen].count("/lists/train.txt") == lists


@pytest.mark.parametrize("where", ["images", "val.txt"])
def test_a_disk_that_fails_costs_no_download(site: Server, tmp_path: Path, monkeypatch, unreadable, where: str) -> None:
    """What could not be read is not what is not there: the archive stays for the next call."""
    place = tmp_path / ".data.partial" / BUILT / where
    unreadable(place)
    with pytest.raises(LabError, match=f"{place}.*Input/output error|Input/output error.*{place}") as caught:
        install(site, tmp_path / "data")
    assert "removed" not in str(caught.value)
    monkeypatch.undo()
    assert install(site, tmp_path / "data")
    assert_installed(tmp_path / "data")
    assert [path for path, _, _ in site.seen].count("/data.tar.gz") == 1


def test_nothing_to_download(site: Server, tmp_path: Path) -> None:
    site.files = {}
    with pytest.raises(LabError, match=r"cannot download train.txt \(.*HTTP status 404"):
        install(site, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []
