"""Downloads from a real server on the loopback interface that misbehaves in every way a server can."""

import gzip
import io
import os
import resource
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from scenelab.data.fetch.download import fetch
from scenelab.data.fetch.install import BUILT, download
from scenelab.errors import LabError
from serving import Answer, Handler, Server, cut_after, raw, stall_after, status, tag, whole

CONTENT = bytes(range(256)) * 4000  # 1 MB


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("no_proxy", "*")
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        running.files["/a"] = running.files["/b"] = CONTENT
        yield running
        running.release.set()
        running.shutdown()
        thread.join()


def get(server: Server, target: Path, *paths: str, **options: float) -> bytes:
    fetch([server.address(path) for path in paths or ("/a",)], target, pause=0.001, **options)  # type: ignore[arg-type]
    assert [path.name for path in target.parent.iterdir()] == [target.name]
    return target.read_bytes()


def fails(server: Server, target: Path, *paths: str, **options: float) -> str:
    with pytest.raises(LabError) as caught:
        get(server, target, *paths, **options)
    message = str(caught.value)
    assert "\n" not in message
    assert "run the command again" in message
    assert not target.exists()
    return message


def test_whole(server: Server, tmp_path: Path) -> None:
    assert get(server, tmp_path / "f") == CONTENT
    assert get(server, tmp_path / "f") == CONTENT
    assert server.seen == [("/a", None, 200)]


def test_continues_a_broken_connection_with_range(server: Server, tmp_path: Path) -> None:
    server.script["/a"] = [cut_after(300_000), cut_after(200_000)]
    assert get(server, tmp_path / "f") == CONTENT
    assert server.seen == [("/a", None, 200), ("/a", "bytes=300000-", 206), ("/a", "bytes=500000-", 206)]


def test_later_call_continues(server: Server, tmp_path: Path) -> None:
    server.script["/a"] = [cut_after(300_000)]
    message = fails(server, tmp_path / "f", attempts=1)
    assert "it continues where it stopped" in message
    assert "`scenelab data import`" in message
    assert get(server, tmp_path / "f") == CONTENT
    assert server.seen[-1] == ("/a", "bytes=300000-", 206)


def test_progress_is_not_a_failure(server: Server, tmp_path: Path) -> None:
    server.script["/a"] = [cut_after(50_000)] * 20
    assert get(server, tmp_path / "f", attempts=2) == CONTENT


def test_silent_connection_counts_as_broken(server: Server, tmp_path: Path) -> None:
    server.script["/a"] = [stall_after(327_680)]
    assert get(server, tmp_path / "f", timeout=0.2) == CONTENT
    assert server.seen[-1] == ("/a", "bytes=327680-", 206)


def test_truncated_for_ever(server: Server, tmp_path: Path) -> None:
    server.script["/a"] = [raw(200, 100, b"x" * 60)] * 9
    assert "60 bytes read, 40 more expected" in fails(server, tmp_path / "f", attempts=3)
    assert len(server.seen) == 3


def test_length_announced_too_large(server: Server, tmp_path: Path) -> None:
    server.script["/a"] = [raw(200, len(CONTENT) + 5, CONTENT, ETag=tag(CONTENT))] * 9
    fails(server, tmp_path / "f", attempts=2)


def test_more_than_announced(server: Server, tmp_path: Path) -> None:
    server.script["/a"] = [cut_after(300_000), raw(206, None, b"y" * 999, Content_Range="bytes 300000-300009/1024000")]
    assert get(server, tmp_path / "f") == CONTENT
    assert server.seen[-1] == ("/a", None, 200)


@pytest.mark.parametrize("code", [404, 410, 403])
def test_next_address_at_once(server: Server, tmp_path: Path, code: int) -> None:
    server.script["/a"] = [status(code)]
    assert get(server, tmp_path / "f", "/a", "/b") == CONTENT
    assert server.seen == [("/a", None, code), ("/b", None, 200)]


@pytest.mark.parametrize("code", [500, 503, 429])
def test_busy_server_is_asked_again(server: Server, tmp_path: Path, code: int) -> None:
    server.script["/a"] = [status(code), status(code)]
    assert get(server, tmp_path / "f", "/a", "/b") == CONTENT
    assert [entry[0] for entry in server.seen] == ["/a", "/a", "/a"]


def test_pauses_double(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    server.script["/a"] = [status(500)] * 9
    with pytest.raises(LabError, match="HTTP status 500"):
        fetch([server.address("/a")], tmp_path / "f", attempts=8)
    assert [pause for pause in pauses if pause >= 1] == [1, 2, 4, 8, 16, 30, 30]


def test_busy_for_ever_goes_to_the_next_address(server: Server, tmp_path: Path) -> None:
    server.script["/a"] = [status(500)] * 9
    assert get(server, tmp_path / "f", "/a", "/b", attempts=3) == CONTENT
    assert [entry[0] for entry in server.seen] == ["/a"] * 3 + ["/b"]


def test_server_that_ignores_range(server: Server, tmp_path: Path) -> None:
    server.script["/a"] = [cut_after(300_000), raw(200, len(CONTENT), CONTENT)]
    assert get(server, tmp_path / "f") == CONTENT
    assert server.seen == [("/a", None, 200), ("/a", "bytes=300000-", 200)]


def test_file_that_changed_starts_afresh(server: Server, tmp_path: Path) -> None:
    server.script["/a"] = [cut_after(300_000)]
    fails(server, tmp_path / "f", attempts=1)
    server.files["/a"] = CONTENT[::-1] + b"longer"
    assert get(server, tmp_path / "f") == CONTENT[::-1] + b"longer"
    assert server.seen[-1] == ("/a", "bytes=300000-", 200)


def test_changed_file_from_a_server_that_ignores_if_range(server: Server, tmp_path: Path) -> None:
    changed = CONTENT[::-1]
    server.script["/a"] = [
        cut_after(300_000),
        raw(206, 724_000, changed[300_000:], Content_Range="bytes 300000-1023999/1024000", ETag=tag(changed)),
    ]
    fails(server, tmp_path / "f", attempts=1)
    server.files["/a"] = changed
    assert get(server, tmp_path / "f") == changed


def test_answer_from_the_wrong_place(server: Server, tmp_path: Path) -> None:
    span = "bytes 400000-1023999/1024000"
    wrong = raw(206, 624_000, CONTENT[400_000:], Content_Range=span, ETag=tag(CONTENT))
    server.script["/a"] = [cut_after(300_000), wrong]
    assert get(server, tmp_path / "f") == CONTENT


def test_answer_with_less_than_was_asked_for(server: Server, tmp_path: Path) -> None:
    span = "bytes 300000-399999/1024000"
    less = raw(206, 100_000, CONTENT[300_000:400_000], Content_Range=span, ETag=tag(CONTENT))
    server.script["/a"] = [cut_after(300_000), less]
    assert get(server, tmp_path / "f") == CONTENT
    assert server.seen[-1] == ("/a", "bytes=400000-", 206)


@pytest.mark.parametrize("etag", ["", 'W/"weak"'])
def test_without_a_validator_nothing_is_continued(server: Server, tmp_path: Path, etag: str) -> None:
    server.script["/a"] = [raw(200, len(CONTENT), b"other" * 1000, **({"ETag": etag} if etag else {}))]
    assert get(server, tmp_path / "f") == CONTENT
    assert server.seen == [("/a", None, 200), ("/a", None, 200)]


def test_date_serves_as_validator(server: Server, tmp_path: Path) -> None:
    date = {"Last_Modified": "Wed, 21 Oct 2015 07:28:00 GMT", "ETag": 'W/"weak"'}
    rest = raw(206, 1_023_900, CONTENT[100:], Content_Range="bytes 100-1023999/1024000", **date)
    server.script["/a"] = [raw(200, len(CONTENT), CONTENT[:100], **date), rest]
    assert get(server, tmp_path / "f") == CONTENT


def test_partial_file_goes_back_to_its_own_address(server: Server, tmp_path: Path) -> None:
    server.script = {"/a": [status(404)], "/b": [cut_after(300_000)]}
    fails(server, tmp_path / "f", "/a", "/b", attempts=1)
    assert get(server, tmp_path / "f", "/a", "/b") == CONTENT
    assert server.seen[2:] == [("/b", "bytes=300000-", 206)]


def test_part_of_another_address_is_not_continued(server: Server, tmp_path: Path) -> None:
    server.script = {"/a": [cut_after(300_000), *[status(500)] * 4]}
    server.files["/b"] = CONTENT[::-1]
    assert get(server, tmp_path / "f", "/a", "/b", attempts=2) == CONTENT[::-1]
    assert server.seen[-1] == ("/b", None, 200)


def test_killed_before_the_rename(server: Server, tmp_path: Path) -> None:
    server.script["/a"] = [cut_after(300_000)]
    fails(server, tmp_path / "f", attempts=1)
    (tmp_path / "f.part").write_bytes(CONTENT)
    assert get(server, tmp_path / "f") == CONTENT
    assert server.seen[-1] == ("/a", "bytes=1024000-", 416)


def test_part_longer_than_the_file(server: Server, tmp_path: Path) -> None:
    server.script["/a"] = [cut_after(300_000)]
    fails(server, tmp_path / "f", attempts=1)
    (tmp_path / "f.part").write_bytes(CONTENT + b"x")
    assert get(server, tmp_path / "f") == CONTENT


def test_damaged_sidecar(server: Server, tmp_path: Path) -> None:
    (tmp_path / "f.part").write_bytes(b"unknown")
    (tmp_path / "f.part.json").write_text("{")
    assert get(server, tmp_path / "f") == CONTENT
    assert server.seen == [("/a", None, 200)]


@pytest.mark.parametrize(
    ("answer", "cause"),
    [
        (raw(200, 0, b""), "empty"),
        (raw(200, None, CONTENT), "does not say how long"),
        (raw(200, 13, b"<html></html>", Content_Type="text/html; charset=utf-8"), "web page"),
        (raw(416, 0, b"", Content_Range="bytes */0"), "cannot continue"),
        (raw(302, 0, b"", Location="file:///etc/passwd"), "file:///etc/passwd"),
    ],
    ids=["empty", "no length", "web page", "416", "redirect"],
)
def test_useless_answer(server: Server, tmp_path: Path, answer: Answer, cause: str) -> None:
    server.script["/a"] = [answer]
    assert cause in fails(server, tmp_path / "f", attempts=1)
    server.script["/a"] = [answer]
    assert get(server, tmp_path / "f", "/a", "/b", attempts=1) == CONTENT


def test_what_the_server_calls_encoded_stays_packed(server: Server, tmp_path: Path) -> None:
    packed = gzip.compress(CONTENT)
    server.script["/a"] = [raw(200, len(packed), packed, Content_Encoding="gzip")]
    assert get(server, tmp_path / "f") == packed


def test_server_is_asked_not_to_compress(server: Server, tmp_path: Path) -> None:
    def answer(handler: Handler, content: bytes) -> None:
        assert handler.headers["Accept-Encoding"] == "identity"
        whole(handler, content)

    server.script["/a"] = [answer]
    assert get(server, tmp_path / "f", attempts=1) == CONTENT


def test_nobody_listens(server: Server, tmp_path: Path) -> None:
    with pytest.raises(LabError, match="Connection refused"):
        fetch(["http://127.0.0.1:9/a"], tmp_path / "f", attempts=2, pause=0.001)


@pytest.mark.parametrize("address", ["ftp://127.0.0.1/a", "file:///etc/passwd", "/etc/passwd", ""])
def test_only_http(tmp_path: Path, address: str) -> None:
    with pytest.raises(LabError, match="begins with https"):
        fetch([address], tmp_path / "f")
    with pytest.raises(LabError, match="no address"):
        fetch([], tmp_path / "f")


def test_full_disk_keeps_the_part(server: Server, tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 18, hard))
    try:
        assert "free space" in fails(server, tmp_path / "f")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert get(server, tmp_path / "f") == CONTENT
    assert server.seen[-1] == ("/a", "bytes=262144-", 206)


# The whole command: archive and lists into a folder.

IMAGES = {f"images/{split}/a/abbey/{n:08}.jpg": os.urandom(20_000) for split in ("train", "val") for n in range(1, 9)}
LISTS = {
    f"{split}.txt": "".join(f"{name[7:]} 0\n" for name in IMAGES if name.startswith(f"images/{split}")).encode()
    for split in ("train", "val")
} | {"categories.txt": b"/a/abbey 0\n", "object_categories.txt": b"arcade_machine 0\n"}


@pytest.fixture
def site(server: Server) -> Server:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in IMAGES.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    server.files = {"/data.tar.gz": buffer.getvalue()} | {f"/lists/{name}": text for name, text in LISTS.items()}
    return server


def install(site: Server, folder: Path) -> bool:
    lists = [site.address("/lists/")]
    return download(folder, archive_addresses=[site.address("/data.tar.gz")], list_addresses=lists)


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_installed(folder: Path) -> None:
    assert tree(folder) == IMAGES | LISTS
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


def test_install(site: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert install(site, tmp_path / "new" / "data")
    assert_installed(tmp_path / "new" / "data")
    requests, time_of_change = len(site.seen), (tmp_path / "new" / "data").stat().st_mtime_ns
    assert not install(site, tmp_path / "new" / "data")
    assert "already holds a whole data set (16 labelled images)" in capsys.readouterr().err
    assert (len(site.seen), (tmp_path / "new" / "data").stat().st_mtime_ns) == (requests, time_of_change)


def test_install_through_a_link(site: Server, tmp_path: Path) -> None:
    (tmp_path / "disk" / "big").mkdir(parents=True)
    (tmp_path / "data").symlink_to(tmp_path / "disk" / "big")
    assert install(site, tmp_path / "data")
    assert (tmp_path / "data").is_symlink()
    assert_installed(tmp_path / "disk" / "big")


def test_killed_download_leaves_nothing_and_continues(site: Server, tmp_path: Path) -> None:
    site.script["/data.tar.gz"] = [stall_after(131_072)]
    code = (
        "import sys, pathlib; from scenelab.data.fetch.install import download; folder, *addresses = sys.argv[1:]; "
        "download(pathlib.Path(folder), archive_addresses=addresses[:1], list_addresses=addresses[1:])"
    )
    folder, partial = tmp_path / "data", tmp_path / ".data.partial" / "archive.part"
    command = [sys.executable, "-c", code, str(folder), site.address("/data.tar.gz"), site.address("/lists/")]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 20
        while not partial.exists() or partial.stat().st_size < 131_072:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not folder.exists()
    assert install(site, folder)
    assert_installed(folder)
    assert site.seen[-1] == ("/data.tar.gz", "bytes=131072-", 206)
    assert len(site.seen) == 4 + 2  # the lists came once


def test_killed_between_the_last_rename_and_tidying_up(site: Server, tmp_path: Path) -> None:
    """The archive does not stay beside the folder for ever."""
    assert install(site, tmp_path / "data")
    (tmp_path / ".data.partial").mkdir()
    for name in ("lock", "archive", "val.txt"):
        (tmp_path / ".data.partial" / name).write_bytes(b"")
    assert not install(site, tmp_path / "data")
    assert_installed(tmp_path / "data")


def test_two_at_once(site: Server, tmp_path: Path) -> None:
    site.script["/data.tar.gz"] = [stall_after(1000)]
    first = threading.Thread(target=install, args=(site, tmp_path / "data"))
    first.start()
    while len(site.seen) < 5:
        time.sleep(0.01)
    with pytest.raises(LabError, match=r"another process is putting .* in place; wait"):
        install(site, tmp_path / "data")
    site.release.set()
    first.join()
    assert_installed(tmp_path / "data")


def test_length_announced_too_small_shows_in_the_archive(site: Server, tmp_path: Path) -> None:
    packed = site.files["/data.tar.gz"]
    site.script["/data.tar.gz"] = [raw(200, len(packed) - 1000, packed, ETag=tag(packed))]
    with pytest.raises(LabError, match="not a whole"):
        install(site, tmp_path / "data")
    assert not (tmp_path / "data").exists()
    assert install(site, tmp_path / "data")
    assert_installed(tmp_path / "data")


def test_damaged_list_is_fetched_again(site: Server, tmp_path: Path) -> None:
    site.script["/lists/val.txt"] = [raw(200, 7, b"garbage")]
    with pytest.raises(LabError, match=r"'garbage'.*removed: run the command again"):
        install(site, tmp_path / "data")
    assert install(site, tmp_path / "data")
    assert_installed(tmp_path / "data")
    assert [path for path, _, _ in site.seen].count("/lists/train.txt") == 1


def test_archive_that_lacks_listed_images(site: Server, tmp_path: Path) -> None:
    text = LISTS["val.txt"] + b"val/a/abbey/9.jpg 0\n"
    site.script["/lists/val.txt"] = [raw(200, len(text), text)]
    with pytest.raises(LabError, match=r"val.txt lists 9 images, of which 1 are not there: val/a/abbey/9.jpg;"):
        install(site, tmp_path / "data")
    assert list(tmp_path.iterdir()) == []
    assert install(site, tmp_path / "data")


def test_archive_with_a_wrong_checksum_is_fetched_again(site: Server, tmp_path: Path) -> None:
    packed = bytearray(site.files["/data.tar.gz"])
    packed[-6] ^= 1  # of the CRC
    site.script["/data.tar.gz"] = [raw(200, len(packed), bytes(packed), ETag=tag(bytes(packed)))]
    with pytest.raises(LabError, match="removed: run the command again"):
        install(site, tmp_path / "data")
    assert install(site, tmp_path / "data")
    assert_installed(tmp_path / "data")


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
