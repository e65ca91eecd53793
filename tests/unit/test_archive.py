"""Archives, kind and hostile. Every test checks that nothing is written outside the folder."""

import gzip
import io
import os
import resource
import shutil
import stat
import struct
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from scenelab.data.fetch.archive import CHUNK, ArchiveError, Limits, extract
from scenelab.errors import LabError

WANTED = {"images/train/a/abbey/1.jpg": b"\xff\xd8 one", "objects/train/a/abbey/1.xml": b"<a/>", "val.txt": b"x 0\n"}
UNWANTED = {"README.md": b"hello", "a/b/train.txt": b"too deep", "extra.txt": b"not a list"}
JUNK = {"__MACOSX/images/._1.jpg": b"junk", "images/.DS_Store": b"junk", "images/._1.jpg": b"junk"}

Member = tuple[tarfile.TarInfo, bytes]


def plain(name: str, content: bytes = b"x", mode: int = 0o644) -> Member:
    member = tarfile.TarInfo(name)
    member.size, member.mode = len(content), mode
    return member, content


def special(name: str, kind: bytes, target: str = "") -> Member:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member, b""


def tar_bytes(members: Iterable[Member]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, content in members:
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zip_bytes(members: Iterable[tuple[str | zipfile.ZipInfo, bytes]], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for member, content in members:
            archive.writestr(member, content, method)
    return buffer.getvalue()


def pack(kind: str, files: dict[str, bytes], level: int = 9) -> bytes:
    if kind == "zip":
        return zip_bytes(files.items())
    content = tar_bytes(plain(name, content) for name, content in files.items())
    return gzip.compress(content, level) if kind == "tar.gz" else content


def tree(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def place(tmp_path: Path) -> Iterable[Path]:
    """A folder with `archive` in it; after the test it may hold only that and what is below `out`."""
    yield tmp_path / "archive"
    assert {path.name for path in tmp_path.iterdir()} <= {"archive", "out"}


def refused(archive: Path, content: bytes, limits: Limits | None = None) -> str:
    archive.write_bytes(content)
    with pytest.raises(ArchiveError) as caught:
        extract(archive, archive.with_name("out"), limits=limits or Limits())
    message = str(caught.value)
    assert "\n" not in message
    assert str(archive) in message
    assert "get " in message
    return message


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
@pytest.mark.parametrize("top", ["", "./", "miniplaces/", "./data/"])
def test_takes_what_belongs_to_the_data_set(place: Path, kind: str, top: str) -> None:
    place.write_bytes(pack(kind, {top + name: content for name, content in (WANTED | UNWANTED | JUNK).items()}))
    extract(place, place.with_name("out"))
    assert tree(place.with_name("out")) == WANTED


def test_modes_of_the_archive_are_ignored(place: Path) -> None:
    folder = tarfile.TarInfo("images")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
    place.write_bytes(tar_bytes([(folder, b""), plain("images/a/1.jpg", mode=0o6777)]))
    mask = os.umask(0o022)
    try:
        extract(place, place.with_name("out"))
    finally:
        os.umask(mask)
    out = place.with_name("out")
    modes = [stat.S_IMODE((out / name).stat().st_mode) for name in (".", "images", "images/a", "images/a/1.jpg")]
    assert modes == [0o755, 0o755, 0o755, 0o644]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.txt",
        "images/../../evil.txt",
        "/images/a.jpg",
        "..",
        "images\\..\\..\\a.jpg",
        "C:/images/a.jpg",
        "C:a.jpg",
    ],
)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_name_that_leads_out(place: Path, kind: str, name: str) -> None:
    message = refused(place, pack(kind, WANTED | {name: b"evil"}))
    assert repr(name) in message
    assert "not a plain path" in message


def test_name_with_a_nul(place: Path) -> None:
    member, content = plain("images/a.jpg")
    member.pax_headers = {"path": "images/a.jpg\0.exe"}
    assert "not a plain path" in refused(place, tar_bytes([(member, content)]))
    place.with_name("out").rmdir()
    assert "not a plain path" in refused(place, zip_bytes([("images/aXb.jpg", b"x")]).replace(b"aXb", b"a\0b"))


@pytest.mark.parametrize(
    "member",
    [
        special("images", tarfile.SYMTYPE, "/tmp"),
        special("images/a.jpg", tarfile.SYMTYPE, "b.jpg"),
        special("images/a.jpg", tarfile.LNKTYPE, "val.txt"),
        special("images/a.jpg", tarfile.CHRTYPE),
        special("images/a.jpg", tarfile.BLKTYPE),
        special("images/a.jpg", tarfile.FIFOTYPE),
        special("elsewhere", tarfile.SYMTYPE, "images"),
        special("images/a.jpg", b"?"),
    ],
    ids=["folder-link", "link", "hard-link", "char", "block", "fifo", "unwanted-link", "unknown"],
)
def test_link_or_device(place: Path, member: Member) -> None:
    assert "a link, device" in refused(place, tar_bytes([plain("val.txt"), member]))
    assert tree(place.with_name("out")) == {"val.txt": b"x"}
    assert not any(path.is_symlink() for path in place.with_name("out").rglob("*"))


def test_writing_through_a_link(place: Path) -> None:
    victim = place.with_name("out").parent.parent
    before = set(victim.iterdir())
    refused(place, tar_bytes([special("images", tarfile.SYMTYPE, str(victim)), plain("images/evil.txt")]))
    assert set(victim.iterdir()) == before


def test_link_in_a_zip(place: Path) -> None:
    member = zipfile.ZipInfo("images/a.jpg")
    member.create_system, member.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    assert "a link, device" in refused(place, zip_bytes([(member, b"/etc/passwd")]))


def test_encrypted_or_unusual_zip(place: Path) -> None:
    assert "unusual" in refused(place, zip_bytes([("images/a.jpg", b"x" * 100)], zipfile.ZIP_LZMA))


@pytest.mark.parametrize(
    "names",
    [["images/a.jpg", "images/a.jpg"], ["images/a.jpg", "data/images/a.jpg"], ["images/a.jpg", "images/a.jpg/b.jpg"],
     ["images/a/b.jpg", "images/a"]],
)  # fmt: skip
def test_nothing_is_overwritten(place: Path, names: list[str]) -> None:
    message = refused(place, tar_bytes(plain(name, b"first" if n == 0 else b"second") for n, name in enumerate(names)))
    assert "twice" in message or "both a file and a folder" in message
    assert list(tree(place.with_name("out")).values()) == [b"first"]


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_bomb_in_one_file(place: Path, kind: str) -> None:
    message = refused(place, pack(kind, {"images/a.jpg": bytes(5 << 20)}), Limits(max_file_bytes=2 << 20))
    assert "more than 2,097,152 bytes" in message
    assert place.with_name("out").joinpath("images/a.jpg").stat().st_size <= 2 << 20
    assert place.stat().st_size < 1 << 16


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_bomb_in_all(place: Path, kind: str) -> None:
    files = {f"images/{n}.jpg": bytes(1000) for n in range(10)}
    assert "more than" in refused(place, pack(kind, files), Limits(max_bytes=9_999))
    assert sum(map(len, tree(place.with_name("out")).values())) <= 9_999


def test_limits_are_reached_exactly(place: Path) -> None:
    place.write_bytes(pack("zip", {f"images/{n}.jpg": bytes(1000) for n in range(10)}))
    extract(place, place.with_name("out"), limits=Limits(max_bytes=10_000, max_files=10, max_file_bytes=1_000))
    assert len(tree(place.with_name("out"))) == 10


def test_bomb_in_what_is_passed_over_or_behind_the_end(place: Path) -> None:
    content = tar_bytes([plain("images/a.jpg")])
    assert "more than" in refused(place, pack("tar.gz", {"other": bytes(1 << 20)}), Limits(max_bytes=1 << 19))
    place.with_name("out").rmdir()
    assert "more than" in refused(place, gzip.compress(content + bytes(4 << 20)), Limits(max_bytes=1 << 20))


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_too_many_files(place: Path, kind: str) -> None:
    files = {f"images/{n}.jpg": b"" for n in range(11)}
    assert "more than 10 files" in refused(place, pack(kind, files), Limits(max_files=10))


def test_header_that_asks_for_memory(place: Path) -> None:
    member = tarfile.TarInfo("x")
    member.type, member.size = tarfile.XHDTYPE, 1 << 32
    header = member.tobuf(tarfile.GNU_FORMAT)
    assert "a header asks for 4,294,967,808 bytes" in refused(place, gzip.compress(header + bytes(4 * CHUNK)))


def test_sparse_map_that_asks_for_memory(place: Path) -> None:
    member, content = plain("x", b"99999999\n" + b"0\n" * CHUNK)
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "1"}
    assert "a header asks for" in refused(place, gzip.compress(tar_bytes([(member, content)])))


def test_sparse_file(place: Path) -> None:
    member, content = plain("images/a.jpg", b"1\n0\n1\n".ljust(512, b"\0") + b"x")
    member.pax_headers = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9999999"}
    assert "a link, device" in refused(place, tar_bytes([(member, content)]))


def test_negative_size(place: Path) -> None:
    header = bytearray(tarfile.TarInfo("images/a.jpg").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + struct.pack(">h", -512)
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header[:148] + b" " * 8 + header[156:]))[0]
    message = refused(place, tar_bytes([plain("val.txt")])[:1024] + bytes(header) * 3)
    assert "negative size" in message or "end of the archive" in message  # newer Pythons refuse it themselves


def test_negative_size_of_an_extended_header(place: Path) -> None:
    header = bytearray(tarfile.TarInfo("x").tobuf(tarfile.GNU_FORMAT))
    header[124:136], header[156:157] = b"\xff" * 10 + struct.pack(">h", -2000), tarfile.XHDTYPE
    header[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(header[:148] + b" " * 8 + header[156:]))[0]
    message = refused(place, bytes(header) + bytes(4 * CHUNK))
    assert "a header asks for" in message or "invalid offset" in message  # as above


def test_many_headers(place: Path) -> None:
    count = 2 * CHUNK // 512
    place.write_bytes(
        tar_bytes(plain(f"other/{n}", b"") for n in range(count))[: 512 * count] + tar_bytes([plain("val.txt")])
    )
    extract(place, place.with_name("out"))
    assert tree(place.with_name("out")) == {"val.txt": b"x"}


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_cut_off_anywhere(place: Path, kind: str) -> None:
    content = pack(kind, {f"images/{n}.jpg": os.urandom(700) for n in range(4)})
    end = 4 * 1536 + 512 if kind == "tar" else len(content)  # behind the block that marks a tar's end comes padding
    for length in {*range(0, end, 97), *range(0, end, 512), end - 1}:
        assert "not a whole .tar, .tar.gz or .zip" in refused(place, content[:length])
        shutil.rmtree(place.with_name("out"), ignore_errors=True)


def test_damaged_header_in_the_middle_is_not_the_end(place: Path) -> None:
    content = bytearray(tar_bytes(plain(f"images/{n}.jpg") for n in range(3)))
    content[1024 + 5] ^= 1
    assert "end of the archive is missing" in refused(place, bytes(content))


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_damaged_content_fails_its_checksum(place: Path, kind: str) -> None:
    content = os.urandom(1000)
    packed = bytearray(pack(kind, {"images/a.jpg": content}, level=0))
    packed[packed.index(content[400:500]) + 50] ^= 1
    assert "CRC" in refused(place, bytes(packed))


@pytest.mark.parametrize("content", [b"", b"hello", b"<html>Moved</html>" * 100, b"\x1f\x8b", b"PK\x03\x04", bytes(3)])
def test_not_an_archive(place: Path, content: bytes) -> None:
    assert "not a whole .tar, .tar.gz or .zip archive" in refused(place, content)


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_archive_of_something_else(place: Path, kind: str) -> None:
    assert "holds no images/" in refused(place, pack(kind, UNWANTED))


def test_missing_archive(place: Path) -> None:
    with pytest.raises(LabError, match="No such file") as caught:
        extract(place, place.with_name("out"))
    assert not isinstance(caught.value, ArchiveError)


def test_full_disk(place: Path) -> None:
    place.write_bytes(pack("tar", {"images/a.jpg": bytes(1 << 20)}))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, hard))
    try:
        with pytest.raises(LabError, match="free space") as caught:
            extract(place, place.with_name("out"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not isinstance(caught.value, ArchiveError)
    assert "\n" not in str(caught.value)
