"""Archives, kind and hostile. Every test checks that nothing is written outside the folder."""

import gzip
import io
import os
import re
import shutil
import stat
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from folders import limited_file_size, tree
from scenelab.data.fetch.archive import CHUNK, ArchiveError, Limits, extract
from scenelab.errors import LabError

WANTED = {"images/train/a/abbey/1.jpg": b"\xff\xd8 one", "objects/train/a/abbey/1.xml": b"<a/>", "val.txt": b"x 0\n"}
UNWANTED = {"README.md": b"hello", "a/b/train.txt": b"too deep", "extra.txt": b"not a list"}
JUNK = {"__MACOSX/images/._1.jpg": b"junk", "images/.DS_Store": b"junk", "images/._1.jpg": b"junk"}
JUNK |= {"images/train/@eaDir/1.jpg": b"junk", "images/Thumbs.db": b"junk"}

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


@pytest.fixture
def place(tmp_path: Path) -> Iterable[Path]:
    """A name for an archive; after the test its folder may hold only that and what is below `out`."""
    yield tmp_path / "archive"
    assert {path.name for path in tmp_path.iterdir()} <= {"archive", "out"}


@pytest.fixture
def out(place: Path) -> Path:
    return place.with_name("out")


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
def test_what_belongs_to_the_data_set_is_extracted(place: Path, out: Path, kind: str, top: str) -> None:
    place.write_bytes(pack(kind, {top + name: content for name, content in (WANTED | UNWANTED | JUNK).items()}))
    extract(place, out)
    assert tree(out) == WANTED


def raw_zip(files: dict[str, bytes], *, utf8: bool = True) -> bytes:
    """A zip with the names as they are given: `zipfile` would replace backslashes on Windows and set the UTF-8 flag."""
    content = bytearray(
        zip_bytes(
            (f"{number:04d}" + "x" * (len(name.encode()) - 4), data)
            for number, (name, data) in enumerate(files.items())
        )
    )
    for number, name in enumerate(files):
        held = f"{number:04d}".encode() + b"x" * (len(name.encode()) - 4)
        assert content.count(held) == 2
        while (place := content.find(held)) >= 0:
            is_central = content[place - 46 : place - 42] == b"PK\x01\x02"
            content[place : place + len(held)] = name.encode()
            flags = place - (46 - 8 if is_central else 30 - 6)
            content[flags + 1] |= 0x08 if utf8 else 0
    return bytes(content)


WINDOWS = {
    "backslashes": lambda: raw_zip({name.replace("/", "\\"): content for name, content in WANTED.items()}),
    "a top folder": lambda: raw_zip({"data\\": b""} | {f"data\\{n}".replace("/", "\\"): c for n, c in WANTED.items()}),
    "folders": lambda: raw_zip(
        {"images\\": b"", "images\\train\\": b""} | {n.replace("/", "\\"): c for n, c in WANTED.items()}
    ),
    "mixed": lambda: raw_zip({n.replace("/", "\\", 1): c for n, c in WANTED.items()}),
    "a dot": lambda: raw_zip({f".\\{n}".replace("/", "\\"): c for n, c in WANTED.items()}),
    "a tar": lambda: pack("tar", {n.replace("/", "\\"): c for n, c in WANTED.items()}),
    "junk": lambda: raw_zip({f"{n}".replace("/", "\\"): c for n, c in (JUNK | WANTED | UNWANTED).items()}),
}


@pytest.mark.parametrize("make", WINDOWS.values(), ids=WINDOWS)
def test_an_archive_of_windows_is_read_as_folders(place: Path, out: Path, make) -> None:
    place.write_bytes(make())
    extract(place, out)
    assert tree(out) == WANTED


@pytest.mark.parametrize("utf8", [True, False], ids=["flag", "no flag, as of macOS"])
def test_names_in_utf8_are_read_with_and_without_the_flag(place: Path, out: Path, utf8: bool) -> None:
    files = {"images/caf\u00e9.jpg": b"1", "images/e\u0301.jpg": b"2", "images/\u5c71 \U0001f600.jpg": b"3"}
    place.write_bytes(raw_zip(files, utf8=utf8))
    extract(place, out)
    assert tree(out) == files


def test_names_in_cp437_stay_what_they_are(place: Path, out: Path) -> None:
    place.write_bytes(zip_bytes([("images/cafXXXX.jpg", b"1")]).replace(b"cafXXXX", b"caf\x82--9"))
    extract(place, out)
    assert tree(out) == {"images/caf\u00e9--9.jpg": b"1"}


def test_names_that_differ_only_in_case_or_unicode_form_are_two_files(place: Path, out: Path) -> None:
    files = {f"images/{name}.jpg": name.encode() for name in ("a", "A", "\u00e9", "e\u0301")}
    for kind in ("tar", "zip"):
        place.write_bytes(pack(kind, files))
        extract(place, out)
        assert tree(out) == files
        shutil.rmtree(out)


@pytest.mark.parametrize(
    ("first", "second"), [("images/a.jpg", "images\\a.jpg"), ("images\\a.jpg", "images\\a.jpg\\b")]
)
def test_the_same_file_by_two_separators_is_refused(place: Path, first: str, second: str) -> None:
    assert "twice" in refused(place, raw_zip({first: b"1", second: b"2"}))


def test_modes_of_the_archive_are_ignored(place: Path, out: Path) -> None:
    folder = tarfile.TarInfo("images")
    folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
    place.write_bytes(tar_bytes([(folder, b""), plain("images/a/1.jpg", mode=0o6777)]))
    mask = os.umask(0o022)
    try:
        extract(place, out)
    finally:
        os.umask(mask)
    modes = [stat.S_IMODE((out / name).stat().st_mode) for name in (".", "images", "images/a", "images/a/1.jpg")]
    assert modes == [0o755, 0o755, 0o755, 0o644]


ESCAPES = r"""
../evil.txt images/../../evil.txt /images/a.jpg .. images\..\..\a.jpg C:/images/a.jpg C:a.jpg
\images\a.jpg C:\images\a.jpg \\host\share\a.jpg ..\evil.txt images/..\..\evil.txt data\..\..\val.txt //val.txt
""".split()


@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_a_name_that_leads_out_is_refused(place: Path, kind: str, name: str) -> None:
    message = refused(place, pack(kind, WANTED | {name: b"evil"}))
    assert repr(name) in message
    assert "not a plain path" in message


@pytest.mark.parametrize(
    "member",
    [
        special("images", tarfile.SYMTYPE, "/tmp"),
        special("images/a.jpg", tarfile.SYMTYPE, "b.jpg"),
        special("images/a.jpg", tarfile.LNKTYPE, "val.txt"),
        special("elsewhere", tarfile.SYMTYPE, "images"),
        *(special("images/a.jpg", kind) for kind in (tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, b"?")),
    ],
    ids="folder-link link hard-link unwanted-link char block fifo unknown".split(),
)
def test_a_link_or_device_is_refused(place: Path, out: Path, member: Member) -> None:
    assert "is a link or a device" in refused(place, tar_bytes([plain("val.txt"), member]))
    assert tree(out) == {"val.txt": b"x"}
    assert not any(path.is_symlink() for path in out.rglob("*"))


def test_nothing_is_written_through_a_link(place: Path) -> None:
    victim = place.parent.parent
    before = set(victim.iterdir())
    refused(place, tar_bytes([special("images", tarfile.SYMTYPE, str(victim)), plain("images/evil.txt")]))
    assert set(victim.iterdir()) == before


@pytest.mark.parametrize("other", ["images/a/b.jpg", "data/images/a/b.jpg", "images/a/b.jpg/c.jpg", "images/a"])
def test_nothing_is_overwritten(place: Path, out: Path, other: str) -> None:
    message = refused(place, tar_bytes([plain("images/a/b.jpg", b"first"), plain(other, b"second")]))
    assert "twice" in message or "both a file and a folder" in message
    assert list(tree(out).values()) == [b"first"]


@pytest.mark.parametrize("kind", ["tar.gz", "zip"])
def test_a_bomb_in_one_file_is_refused(place: Path, out: Path, kind: str) -> None:
    message = refused(place, pack(kind, {"images/a.jpg": bytes(5 << 20)}), Limits(max_file_bytes=2 << 20))
    assert "more than 2 MiB" in message
    assert (out / "images/a.jpg").stat().st_size <= 2 << 20
    assert place.stat().st_size < 1 << 16


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_limits_hold_for_all_files_together_and_are_reached_exactly(place: Path, out: Path, kind: str) -> None:
    content = pack(kind, {f"images/{n}.jpg": bytes(1000) for n in range(10)})
    assert "more than" in refused(place, content, Limits(max_bytes=9_999))
    assert sum(map(len, tree(out).values())) <= 9_999
    shutil.rmtree(out)
    assert "more than 9 files" in refused(place, content, Limits(max_files=9))
    shutil.rmtree(out)
    if kind == "zip":  # a tar counts what stands between the files too
        extract(place, out, limits=Limits(max_bytes=10_000, max_files=10, max_file_bytes=1_000))
        assert len(tree(out)) == 10


def test_a_bomb_in_what_is_passed_over_or_behind_the_end_is_refused(place: Path, out: Path) -> None:
    content = tar_bytes([plain("images/a.jpg")])
    assert "more than" in refused(place, pack("tar.gz", {"other": bytes(1 << 20)}), Limits(max_bytes=1 << 19))
    out.rmdir()
    assert "more than" in refused(place, gzip.compress(content + bytes(4 << 20)), Limits(max_bytes=1 << 20))


def header(name: str, size: int, kind: bytes = tarfile.REGTYPE) -> bytes:
    """A header with a size that tarfile itself would not write."""
    data = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    data[124:136], data[156:157] = bytes([0xFF if size < 0 else 0x80]) + size.to_bytes(11, "big", signed=True), kind
    data[148:156] = b"%06o\0 " % tarfile.calc_chksums(bytes(data[:148] + b" " * 8 + data[156:]))[0]
    return bytes(data)


def with_headers(name: str, content: bytes = b"x", **headers: str) -> bytes:
    member, content = plain(name, content)
    member.pax_headers = {key.replace("_", "."): value for key, value in headers.items()}
    return tar_bytes([(member, content)])


LINK = zipfile.ZipInfo("images/a.jpg")
LINK.create_system, LINK.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
SPARSE, PADDING = {"GNU_sparse_major": "1", "GNU_sparse_minor": "0"}, bytes(4 * CHUNK)
MAP = b"1\n0\n1\n".ljust(512, b"\0") + b"x"
HOSTILE = [  # newer Pythons refuse negative sizes themselves
    (gzip.compress(header("x", 1 << 32, tarfile.XHDTYPE) + PADDING), "a header asks for 4,294,967,808 bytes"),
    (
        gzip.compress(with_headers("x", b"99999999\n" + b"0\n" * CHUNK, **SPARSE, GNU_sparse_realsize="1")),
        "a header asks",
    ),
    (with_headers("images/a.jpg", MAP, **SPARSE, GNU_sparse_realsize="9999999"), "is a link or a device"),
    (tar_bytes([plain("val.txt")])[:1024] + header("images/a.jpg", -512) * 3, "negative size|end of the archive"),
    (header("x", -2000, tarfile.XHDTYPE) + PADDING, "a header asks for|invalid offset"),
    (with_headers("images/a.jpg", path="images/a.jpg\0.exe"), "not a plain path"),
    (zip_bytes([("images/aXb.jpg", b"x")]).replace(b"aXb", b"a\0b"), "not a plain path"),
    (zip_bytes([(f"images/{'n' * 300}.jpg", b"x")]), "'images/nnn.*n.jpg' has a name that is too long"),
    (tar_bytes([plain(f"images/{'n' * 300}/1.jpg")]), "'images/nnn.*n/1.jpg' has a name that is too long"),
    (zip_bytes([(LINK, b"/etc/passwd")]), "is a link or a device"),
    (zip_bytes([("images/a.jpg", b"x" * 100)], zipfile.ZIP_LZMA), "unusual"),
    *((content, "not a whole .tar, .tar.gz or .zip archive") for content in (b"", b"hello", b"PK\x03\x04", bytes(3))),
    *((content, "not a whole .tar, .tar.gz or .zip archive") for content in (b"<html>Moved</html>" * 99, b"\x1f\x8b")),
    *((pack(kind, UNWANTED), "holds no images/") for kind in ("tar", "zip")),
]


@pytest.mark.parametrize(("content", "message"), HOSTILE, ids=[message for _, message in HOSTILE])
def test_a_hostile_or_other_file_is_refused(place: Path, content: bytes, message: str) -> None:
    assert re.search(message, refused(place, content))


def test_many_headers_are_read(place: Path, out: Path) -> None:
    count = 2 * CHUNK // 512
    headers = tar_bytes(plain(f"other/{n}", b"") for n in range(count))[: 512 * count]
    place.write_bytes(headers + tar_bytes([plain("val.txt")]))
    extract(place, out)
    assert tree(out) == {"val.txt": b"x"}


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "zip"])
def test_an_archive_cut_off_anywhere_is_refused(place: Path, out: Path, kind: str) -> None:
    content = pack(kind, {f"images/{n}.jpg": os.urandom(700) for n in range(4)})
    end = 4 * 1536 + 512 if kind == "tar" else len(content)  # behind the block that marks a tar's end comes padding
    for length in {*range(0, end, 97), *range(0, end, 512), end - 1}:
        assert "not a whole .tar, .tar.gz or .zip" in refused(place, content[:length])
        shutil.rmtree(out, ignore_errors=True)


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


def test_what_is_no_fault_of_the_archive_is_no_archive_error(place: Path, out: Path) -> None:
    with pytest.raises(LabError, match="No such file") as missing:
        extract(place, out)
    place.write_bytes(pack("tar", {"images/a.jpg": bytes(1 << 20)}))
    with limited_file_size(1 << 16), pytest.raises(LabError, match="free space") as full:
        extract(place, out)
    for caught in (missing, full):
        assert not isinstance(caught.value, ArchiveError)
        assert "\n" not in str(caught.value)
