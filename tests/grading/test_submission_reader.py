"""Whatever is handed in is read as far as it goes: nothing leaves its folder, there is an end, and what is odd is said."""

import io
import os
import stat
import tarfile
import zipfile

import pytest

from mutants import solution, write
from scenelab.course.grading.extract import ExtractionLimits, ExtractionReport, unpack
from scenelab.course.grading.submission_reader import read

CODE = solution()["code/student_code.py"]
SMALL = ExtractionLimits(file_bytes=1 << 20, bytes=4 << 20, files=100)


def zipped(path, entries, *, mode=None, flags=0):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            if mode is not None:
                entry.external_attr = mode << 16
            file.writestr(entry, content)
    return path


def outside(tmp_path):
    """All files that are not in the folder that was unpacked into."""
    return sorted(p.name for p in tmp_path.rglob("*") if p.is_file() and "into" not in p.parts and p.suffix != ".zip")


@pytest.mark.parametrize(
    "layout",
    [
        "code/student_code.py", "student_code.py", "hw3/code/student_code.py", "a/b/c/hw3/code/student_code.py",
        "code/student_code (1).py", "code/Student_Code.py", "code/student-code-2.py", "code/answers.py",
        "proj1_code/student_code.py",
    ],
)  # fmt: skip
def test_the_code_is_found(tmp_path, layout):
    path = zipped(tmp_path / "a.zip", [(layout, CODE), ("__MACOSX/code/._student_code.py", b"\0\5\x16\7"),
                                       ("code/._student_code.py", b"\0"), ("code/.DS_Store", b"x")])  # fmt: skip
    found = read([path], tmp_path / "into")
    assert found.problem == ""
    assert found.code is not None
    assert found.code.relative_to(tmp_path / "into").as_posix() == layout
    assert found.source.known >= 10


def test_a_folder_a_tar_and_a_single_file(tmp_path):
    folder = write(tmp_path / "folder", solution())
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as file:
        file.add(folder, arcname="hw3")
    (tmp_path / "student_code.py").write_bytes(CODE)
    for number, path in enumerate((folder, tmp_path / "a.tar.gz", tmp_path / "student_code.py")):
        found = read([path], tmp_path / f"into-{number}")
        assert found.problem == "", path
        assert found.code is not None, path


def test_a_zip_in_a_zip(tmp_path):
    inner = zipped(tmp_path / "inner.zip", [(name, content) for name, content in solution().items()])
    outer = zipped(
        tmp_path / "outer.zip", [("hw/submission.zip", inner.read_bytes()), ("hw/readme.txt", b"see inside")]
    )
    found = read([outer], tmp_path / "into")
    assert found.problem == ""
    assert "zip in the zip" in " ".join(found.notes)


def test_the_file_that_defines_most_is_taken(tmp_path):
    path = zipped(
        tmp_path / "a.zip", [("old/code/student_code.py", b"def other(): pass\n"), ("new/code/student_code.py", CODE)]
    )
    found = read([path], tmp_path / "into")
    assert found.code is not None
    assert "new" in found.code.parts
    assert found.root.name == "new"


def test_another_homework_is_named(tmp_path):
    path = zipped(
        tmp_path / "a.zip",
        [("code/student_code.py", b"def my_imfilter(image, kernel): return image\nclass Resizer: pass\n")],
    )
    found = read([path], tmp_path / "into")
    assert found.code is None
    assert "not this assignment's: it defines my_imfilter, Resizer" in found.problem


@pytest.mark.parametrize("entries", [[], [("writeup/report.pdf", b"%PDF-1.7")], [("code/student_code.ipynb", b"{}")]])
def test_no_code_is_said(tmp_path, entries):
    found = read([zipped(tmp_path / "a.zip", entries)], tmp_path / "into")
    assert found.code is None
    assert ("no Python file" if entries else "nothing was handed in") in found.problem


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"def f(:\n    pass\n", 1),
        (b"class PGDAttack:\n  def a(self):\n\treturn 1\n    x\n", 3),
        (b"print 'x'\nCustomConv2d = 1\n", 1),
    ],
)
def test_a_syntax_error_shows_its_line(tmp_path, content, line):
    content = b"custom_conv2d = 1\n" + content
    found = read([zipped(tmp_path / "a.zip", [("code/student_code.py", content)])], tmp_path / "into")
    assert f"line {line + 1}" in found.source.error, found.source.error


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + CODE, CODE.replace(b"\n", b"\r\n"), CODE.replace(b"\n", b"\r"),
        CODE + "# gr\xfc\xdfe\n".encode("latin-1"), b"\xff\xfe" + CODE.decode().encode("utf-16-le"),
        b"# -*- coding: latin-1 -*-\n" + CODE + "# gr\xfc\xdfe\n".encode("latin-1"), CODE + b"\0\0",
    ],
    ids=["BOM", "CRLF", "CR", "latin-1", "UTF-16", "cookie", "zeros"],
)  # fmt: skip
def test_any_encoding_is_read(tmp_path, content):
    found = read([zipped(tmp_path / "a.zip", [("code/student_code.py", content)])], tmp_path / "into")
    assert found.source.error == ""
    assert found.source.known >= 10
    compile(found.code.read_text(encoding="utf-8"), "student_code.py", "exec")


@pytest.mark.parametrize("content", [
    b"x = " + b"(" * 5000, b"x = " + b"-" * 200_000 + b"1\n", b"x = a" + b".a" * 100_000, b"x = " + b"[" * 90 + b"]" * 90,
    b"x = " + b"lambda: " * 20_000 + b"1", b"if 1:\n" + b"".join(b" " * i + b"if 1:\n" for i in range(1, 99)) + b" " * 99 + b"x",
    b"\xff" * 1000, b"x = f'" + b"{" * 300, b"x = " + b"1+" * 100_000 + b"1",
], ids=range(9))  # fmt: skip
def test_nothing_in_a_file_stops_the_reader(tmp_path, content):
    content = b"custom_conv2d = 1\n" + content
    found = read([zipped(tmp_path / "a.zip", [("code/student_code.py", content)])], tmp_path / "into")
    assert found.code is not None


@pytest.mark.parametrize(
    "name",
    [
        "../out.py",
        "/tmp/scenelab-out.py",
        "code/../../out.py",
        "..\\out.py",
        "C:\\out.py",
        "code/../../../../../../tmp/out.py",
    ],
)
def test_no_entry_leads_out(tmp_path, name):
    found = ExtractionReport()
    unpack(zipped(tmp_path / "a.zip", [(name, b"x"), ("code/student_code.py", CODE)]), tmp_path / "into", found)
    assert outside(tmp_path) == []
    assert not os.path.exists("/tmp/scenelab-out.py")
    assert [p.name for p in (tmp_path / "into").rglob("*.py")] == ["student_code.py"]
    assert "leads out of the folder" in " ".join(found.notes)


def test_links_and_devices_are_left_out(tmp_path):
    found = ExtractionReport()
    unpack(
        zipped(tmp_path / "a.zip", [("code/link", b"/etc/passwd")], mode=stat.S_IFLNK | 0o777), tmp_path / "into", found
    )
    with tarfile.open(tmp_path / "b.tar", "w") as file:
        for name, kind in (
            ("link", tarfile.SYMTYPE),
            ("hard", tarfile.LNKTYPE),
            ("null", tarfile.CHRTYPE),
            ("pipe", tarfile.FIFOTYPE),
        ):
            entry = tarfile.TarInfo(f"code/{name}")
            entry.type, entry.linkname = kind, "/etc/passwd"
            file.addfile(entry)
    unpack(tmp_path / "b.tar", tmp_path / "into2", found)
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.py").symlink_to("/etc/passwd")
    (folder / "away").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    unpack(folder, tmp_path / "into3", found)
    assert [p for i in ("into", "into2", "into3") for p in (tmp_path / i).rglob("*") if not p.is_dir()] == []
    assert sum("link or a device" in note for note in found.notes) == 7, found.notes


def test_a_bomb_ends(tmp_path):
    data = bytes(64 << 20)
    bomb = zipped(tmp_path / "a.zip", [(f"code/{i}.bin", data) for i in range(8)])
    found = ExtractionReport()
    unpack(bomb, tmp_path / "into", found, SMALL)
    assert sum(p.stat().st_size for p in (tmp_path / "into").rglob("*") if p.is_file()) <= SMALL.bytes + (1 << 20)
    assert "holds more than 4 MiB" in " ".join(found.notes)


def test_a_quine_of_zips_ends(tmp_path):
    inner = zipped(tmp_path / "z.zip", [("z.txt", b"x")])
    for _ in range(6):
        inner = zipped(tmp_path / "y.zip", [("code/z.zip", inner.read_bytes())])
        inner = inner.rename(tmp_path / "z.zip")
    found = read([inner], tmp_path / "into")
    assert found.code is None
    assert len(list((tmp_path / "into").rglob("*"))) < 20


def test_too_many_files_end(tmp_path):
    found = ExtractionReport()
    unpack(zipped(tmp_path / "a.zip", [(f"code/{i}.py", b"") for i in range(300)]), tmp_path / "into", found, SMALL)
    assert found.files == 100
    assert "more than 100 files" in " ".join(found.notes)


def test_odd_names(tmp_path):
    entries = [("code/" + "x" * 300 + ".py", b"x"), ("code/a\nb.py", b"x"), ("code/a/b.py", b"x"), ("code/a", b"x"),
               ("code/twice.py", b"1"), ("code/twice.py", b"2"), ("code/" + "d/" * 150 + "e.py", b"x"), ("code/\u202egp.py", b"x")]  # fmt: skip
    found = ExtractionReport()
    with pytest.warns(UserWarning, match="Duplicate name"):
        zipped(tmp_path / "a.zip", entries)
    unpack(tmp_path / "a.zip", tmp_path / "into", found)
    names = sorted(p.name for p in (tmp_path / "into").rglob("*") if p.is_file())
    assert names == ["b.py", "twice.py"]
    assert (tmp_path / "into/code/twice.py").read_bytes() == b"2", "the last counts, as it does for unzip"
    assert len(found.notes) == 6, found.notes


def test_encrypted_and_damaged_archives(tmp_path):
    path = zipped(tmp_path / "a.zip", [("code/student_code.py", CODE), ("code/b.py", os.urandom(5000))])
    data = bytearray(path.read_bytes())
    encrypted = bytearray(data)
    central = encrypted.rfind(b"PK\x01\x02", 0, encrypted.rfind(b"PK\x01\x02"))
    encrypted[central + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(encrypted)
    found = read([tmp_path / "locked.zip"], tmp_path / "into")
    assert "encrypted" in " ".join(found.notes)
    data[data.find(b"code/b.py") + 2000] ^= 0xFF
    (tmp_path / "flipped.zip").write_bytes(data)
    found = read([tmp_path / "flipped.zip"], tmp_path / "into2")
    assert found.code is not None
    assert "damaged" in " ".join(found.notes)
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    assert "no zip" in " ".join(read([tmp_path / "cut.zip"], tmp_path / "into3").notes)
    for name, begin in (("a.rar", b"Rar!\x1a\x07"), ("a.7z", b"7z\xbc\xaf\x27\x1c"), ("empty.zip", b"")):
        (tmp_path / name).write_bytes(begin)
        assert "hand in a zip" in " ".join(read([tmp_path / name], tmp_path / f"into-{name}").notes)


def test_a_tar_that_claims_more_than_it_has(tmp_path):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as file:
        entry = tarfile.TarInfo("code/student_code.py")
        entry.size = len(CODE)
        file.addfile(entry, io.BytesIO(CODE))
    data = bytearray(raw.getvalue()[: 512 + 100])
    (tmp_path / "a.tar").write_bytes(data)
    read([tmp_path / "a.tar"], tmp_path / "into")


def test_the_digest_is_of_content_and_names(tmp_path):
    one = read([write(tmp_path / "a", solution())], tmp_path / "into-a").digest
    assert read([write(tmp_path / "b", solution())], tmp_path / "into-b").digest == one
    changed = {**solution(), "results/curves.png": b"other"}
    assert read([write(tmp_path / "c", changed)], tmp_path / "into-c").digest != one


@pytest.mark.parametrize(
    "entries",
    [
        [("code/student_code.py/x", b"x"), ("code/other.py", CODE)],
        [("hw.zip", b"PK\x05\x06" + bytes(18)), ("hw", b"x")],
        [("code/student_code.py", b"# coding: undefined\ncustom_conv2d = 1\n")],
        [("code/student_code.py", b"# coding: idna\ncustom_conv2d = 1\n")],
        [("code/student_code.py", b'# coding: unicode_escape\ncustom_conv2d = 1\nx = "\\ud800"\n')],
        [("code/student_code.py", b"custom_conv2d = 1\nx = a" + b".a" * 1500)],
        [("code/student_code.py", b"custom_conv2d = 1\ngetattr(F, " + b"1+" * 500 + b"1)")],
        [("code/student_code.py", b"custom_conv2d = 1\n" + b"eval\n" * 200_000)],
        [("code/x.py", CODE), ("code", b"x")],
        [("/".join(["code"] + ["a"] * 100 + [str(i)]), b"x") for i in range(50)],
    ],
    ids=[
        "folder",
        "zip beside",
        "undefined",
        "idna",
        "escape",
        "attributes",
        "getattr",
        "evals",
        "file and folder",
        "deep",
    ],
)
def test_odd_hand_ins_have_a_result(tmp_path, entries):
    found = read([zipped(tmp_path / "a.zip", entries)], tmp_path / "into")
    assert found.digest
    assert "damaged in a way" not in found.problem, found


def test_what_eats_memory_ends_in_its_own_process(tmp_path):
    lists = b"custom_conv2d = 1\n" + b"x = [" + b"1," * 900_000 + b"]\n"
    names = (
        b" = ".join(b"a%d" % i for i in range(30_000))
        + b" = ("
        + b",".join(b"a%d" % i for i in range(30_000))
        + b",)\n"
    )
    for number, content in enumerate((lists, b"custom_conv2d = " + names)):
        found = read(
            [zipped(tmp_path / f"{number}.zip", [("code/student_code.py", content)])], tmp_path / f"into-{number}"
        )
        assert found.digest
    with zipfile.ZipFile(tmp_path / "bz2.zip", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("code/student_code.py", bytes(256 << 20))
    assert "unusual way" in " ".join(read([tmp_path / "bz2.zip"], tmp_path / "into-b").notes)


def test_a_long_tar_header_ends(tmp_path):
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 3 << 30
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(entry.tobuf())
        file.truncate(3 << 30)
    assert read([tmp_path / "a.tar"], tmp_path / "into").code is None


@pytest.mark.parametrize(
    ("helper", "found"),
    [
        (b"import torch.nn.functional as F\ndef conv(*a):\n    return F.conv2d(*a)\n", "banned"),
        (b"from deeper import conv\n", "banned"),
        (b"import sys\nconv = sys.modules\n", "hiding"),
        (b"import torch.nn as nn\ndef conv(x):\n    return x\n", ""),
    ],
)
def test_modules_beside_are_looked_into(tmp_path, helper, found):
    code = CODE.replace(
        b"        output = weight.flatten(1) @ windows", b"        output = conv(weight.flatten(1) @ windows)"
    )
    code = code.replace(b"import math\n", b"import math\nfrom helper import conv\nfrom networks import *\n")
    network = b"import torch.nn as nn\nclass Net(nn.Module):\n    conv = nn.Conv2d(1, 1, 1)\n"
    deeper = b"import torch\nconv = torch.conv2d\n"
    path = zipped(tmp_path / "a.zip", [("code/student_code.py", code), ("code/helper.py", helper),
                                       ("code/networks.py", network), ("code/deeper.py", deeper)])  # fmt: skip
    source = read([path], tmp_path / "into").source
    assert bool(source.banned) is (found == "banned"), source
    assert bool(source.hiding) is (found == "hiding"), source


def test_an_encoding_line_is_not_read_twice(tmp_path):
    content = b"# coding: utf-7\n# +AAo-evil = 1\n" + CODE
    found = read([zipped(tmp_path / "a.zip", [("code/student_code.py", content)])], tmp_path / "into")
    module: dict = {}
    exec(compile(found.code.read_bytes(), "student_code.py", "exec"), module)
    assert "evil" not in module


def test_names_of_honest_files_stay(tmp_path):
    entries = [
        ("code/student_code.py", CODE),
        ("results/Shot 3.05\u202fPM.png", b"x"),
        ("results/a:b.png", b"x"),
        ("結果/図.png", b"x"),
    ]
    read([zipped(tmp_path / "a.zip", entries)], tmp_path / "into")
    assert sum(path.suffix == ".png" for path in (tmp_path / "into").rglob("*")) == 3


def test_backslashes_are_slashes_before_anything_is_decided(tmp_path):
    """PowerShell's Compress-Archive writes `code\\` of no bytes, then `code\\student_code.py`: nothing was found in it."""
    path = zipped(tmp_path / "a.zip", [("code\\", b""), ("code\\student_code.py", CODE), ("writeup\\report.pdf", b"%PDF-1.7"),
                                       ("results\\", b""), ("results\\x.png", b"x")])  # fmt: skip
    found = read([path], tmp_path / "into")
    assert found.problem == ""
    assert found.code == tmp_path / "into" / "code" / "student_code.py"
    assert found.violations == {}
    assert found.notes == []


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("code/a.py", "code/a.py"),
        ("code/A.py", "code/a.py"),
        ("Code/a.py", "code/a.py"),
        ("code/é.py", "code/e\u0301.py"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_of_names_that_are_the_same_the_last_counts(tmp_path, first, second):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name, content in ((first, b"1"), (second, b"2")):
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            file.writestr(entry, content)
    found = ExtractionReport()
    unpack(tmp_path / "a.zip", tmp_path / "into", found)
    files = [p for p in (tmp_path / "into").rglob("*") if p.is_file()]
    assert [p.read_bytes() for p in files] == [b"2"]
    assert found.files == 1
    assert "there twice, or in another spelling; the last was taken" in found.notes[0]


def notebook(*cells):
    import json

    listed = [{"cell_type": "code", "source": cell} for cell in cells]
    return json.dumps({"cells": [{"cell_type": "markdown", "source": "# hi"}, *listed]}).encode()


def test_a_notebook_is_read_as_a_file(tmp_path):
    cells = [
        "%matplotlib inline\n!pip install x\nimport os\nos?\nif True:\n    !ls\n",
        CODE.decode(),
        "%%bash\nls -l\n",
        "%%time\nx = 1\n",
    ]
    path = zipped(
        tmp_path / "a.zip",
        [("hw/hw3.ipynb", notebook(*cells)), ("hw/test_conv.py", b"from student_code import CustomConv2d\n")],
    )
    found = read([path], tmp_path / "into")
    assert found.problem == ""
    assert found.source.known >= 10
    assert "hw3.ipynb is a notebook: its code cells were graded as a file" in " ".join(found.notes)
    compile(found.code.read_text(), "hw3.py", "exec")
    assert "\nx = 1\n" in found.code.read_text()
    assert "# ls -l" in found.code.read_text()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b'{"cells": 3}', b'{"cells": [3, {"cell_type": "code"}]}', b"[" * 100_000]
)
def test_what_is_no_notebook_is_a_zero_with_a_reason(tmp_path, content):
    found = read([zipped(tmp_path / "a.zip", [("hw3.ipynb", content)])], tmp_path / "into")
    assert found.code is None
    assert "there is no Python file in it, only .ipynb" in found.problem


def test_several_files_are_one_submission(tmp_path):
    write(
        tmp_path,
        {
            "doe_7_101_student_code-1.py": CODE,
            "doe_7_102_report.pdf": b"%PDF-1.7",
            "doe_7_103_model_best.pth.tar": b"x",
        },
    )
    found = read(sorted(tmp_path.glob("doe*")), tmp_path / "into")
    assert found.problem == ""
    names = sorted(p.name for p in (tmp_path / "into").rglob("*") if p.is_file())
    assert names == ["model_best.pth.tar", "report.pdf", "student_code.py"]


@pytest.mark.parametrize(("name", "content", "says"), [
    ("bob.docx", b"PK\x03\x04", "there is no Python file in it, only .docx"), ("bob.pdf", b"%PDF-1.7", "only .pdf"),
    ("bob.rar", b"Rar!\x1a\x07", "is a RAR archive; hand in a zip"), ("bob.zip", b"PK\x05\x06" + bytes(18), "nothing was handed in"),
])  # fmt: skip
def test_who_handed_in_something_else_is_told(tmp_path, name, content, says):
    (tmp_path / name).write_bytes(content)
    found = read([tmp_path / name], tmp_path / "into")
    assert found.code is None
    assert says in found.problem


def test_the_init_of_a_package_and_forty_imports_are_read(tmp_path):
    top = b"import pkg.empty\n" + b"".join(b"import a%d\n" % n for n in range(60)) + b"import last\n"
    files = [
        ("code/student_code.py", top + CODE),
        ("code/pkg/__init__.py", b"import sys\nx = sys.modules\n"),
        ("code/pkg/empty.py", b""),
    ]
    files += [(f"code/a{n}.py", b"x = 1\n") for n in range(60)] + [("code/last.py", b"y = eval\n")]
    source = read([zipped(tmp_path / "a.zip", files)], tmp_path / "into").source
    assert "code/pkg/__init__.py, line 2: sys.modules" in source.hiding
    assert "code/last.py, line 1: eval" in source.hiding
    assert set(source.scanned) == {name for name, _ in files}


@pytest.mark.parametrize("begin", [b"\x7fELF", b"MZ\x90\0", b"\xcf\xfa\xed\xfe"])
def test_machine_code_is_left_out_whatever_it_is_called(tmp_path, begin):
    found = read(
        [zipped(tmp_path / "a.zip", [("code/student_code.py", CODE), ("code/weights.bin", begin + bytes(100))])],
        tmp_path / "into",
    )
    assert not (tmp_path / "into/code/weights.bin").exists()
    assert "compiled code and was left out" in " ".join(found.notes)


def test_a_data_set_in_the_archive_does_not_hide_the_code(tmp_path):
    files = [(f"code/data/{n}.txt", b"") for n in range(5100)] + [("code/student_code.py", CODE)]
    assert read([zipped(tmp_path / "a.zip", files)], tmp_path / "into").problem == ""
