"""Whatever is submitted is read as far as possible: nothing leaves its folder, there is an end, and odd files are noted."""

import io
import json
import os
import re
import stat
import tarfile
import zipfile
from contextlib import nullcontext
from pathlib import Path

import pytest

from mutants import solution, write
from scenelab.course.grading.extract import Extraction, ExtractionLimits
from scenelab.course.grading.submission_reader import read
from scenelab.course.kit import files as kit_files

CODE = solution()["code/student_code.py"]
STARTER = (Path(__file__).parents[1] / "programs" / "original_starter.txt").read_bytes()
SMALL = {"file_bytes": 1 << 20, "bytes": 4 << 20, "files": 100}
EMPTY_ZIP = b"PK\x05\x06" + bytes(18)


def zipped(path, *entries, mode=None):
    """Write a zip of names and contents; the names are kept as they are."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in entries:
            entry = zipfile.ZipInfo("x")
            entry.filename = name
            entry.compress_type = zipfile.ZIP_DEFLATED
            if mode is not None:
                entry.external_attr = mode << 16
            file.writestr(entry, content)
    return path


def read_zip(tmp_path, *entries):
    tmp_path.mkdir(exist_ok=True)
    return read([zipped(tmp_path / "a.zip", *entries)], tmp_path / "into")


def read_code(tmp_path, content):
    return read_zip(tmp_path, ("code/student_code.py", content))


def unpack(path, **limits):
    extraction = Extraction(ExtractionLimits(**limits))
    extraction.unpack(path, path.parent / "into")
    return extraction


def unpack_zip(tmp_path, *entries, **limits):
    return unpack(zipped(tmp_path / "a.zip", *entries), **limits)


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


LAYOUTS = """code/student_code.py; student_code.py; hw3/code/student_code.py; a/b/c/hw3/code/student_code.py;
code/student_code (1).py; code/Student_Code.py; code/student-code-2.py; code/answers.py; proj1_code/student_code.py"""
JUNK = {"__MACOSX/code/._student_code.py": b"\0\5\x16\7", "code/._student_code.py": b"\0", "code/.DS_Store": b"x"}


@pytest.mark.parametrize("layout", [layout.strip() for layout in LAYOUTS.split(";")])
def test_the_code_is_found(tmp_path, layout):
    submission = read_zip(tmp_path, (layout, CODE), *JUNK.items())
    assert submission.problem == ""
    assert submission.code.relative_to(tmp_path / "into").as_posix() == layout
    assert submission.source.known >= 10


def test_folders_tars_and_single_files_are_read(tmp_path):
    folder = write(tmp_path / "folder", solution())
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as file:
        file.add(folder, arcname="hw3")
    (tmp_path / "student_code.py").write_bytes(CODE)
    for number, path in enumerate((folder, tmp_path / "a.tar.gz", tmp_path / "student_code.py")):
        submission = read([path], tmp_path / f"into-{number}")
        assert submission.problem == "", path
        assert submission.code is not None, path


def test_a_zip_in_a_zip_is_read(tmp_path):
    inner = zipped(tmp_path / "inner.zip", *solution().items())
    submission = read_zip(tmp_path, ("hw/submission.zip", inner.read_bytes()), ("hw/readme.txt", b"see inside"))
    assert submission.problem == ""
    assert "zip in the zip" in " ".join(submission.notes)


def test_the_file_that_defines_most_is_taken(tmp_path):
    submission = read_zip(
        tmp_path, ("old/code/student_code.py", b"def other(): pass\n"), ("new/code/student_code.py", CODE)
    )
    assert "new" in submission.code.parts
    assert submission.root.name == "new"


def notebook_of(*sources):
    return json.dumps({"cells": [{"cell_type": "code", "source": source} for source in sources]}).encode()


USES = b"from student_code import CustomConv2DFunction, CustomConv2d, PGDAttack, GradAttention, default_model\n"
BROKEN_CODE = CODE + b"def broken(:\n"
BESIDE = {
    "a copy": {"code/student_code (1).py": CODE},
    "in a subfolder": {"code/final/student_code.py": CODE},
    "under another name": {"code/hw3.py": CODE},
    "a notebook": {"work/hw3.ipynb": b"\xef\xbb\xbf" + notebook_of("!pip install x\n", CODE.decode())},
    "a notebook, and an answer": {
        "hw3.ipynb": notebook_of(CODE.decode()),
        "code/student_code.py": STARTER.replace(
            b"# Fill in the code here\n        return output", b"return model(input)"
        ),
    },
    "half of the answers": {"code/student_code_old.py": CODE.replace(b"class GradAttention", b"class Other")},
    "and scripts that use them": {"code/hw3.py": CODE, "code/aaa.py": USES},
    "a copy that does not parse": {"code/student_code (1).py": BROKEN_CODE},
}


@pytest.mark.parametrize("name", BESIDE)
def test_an_unfilled_file_is_not_graded_in_place_of_the_answers(tmp_path, name):
    helpers = {"code/main.py": b"import student_code\n", "code/utils.py": b"def show(): pass\n"}
    files = {"code/student_code.py": STARTER, **helpers, **BESIDE[name]}
    submission = read_zip(tmp_path, *files.items())
    assert submission.problem == ""
    assert submission.source.unfilled == []
    assert submission.code.stem == Path(next(iter(BESIDE[name]))).stem
    assert "was graded, and not code/student_code.py" in " ".join(submission.notes)
    assert submission.root == tmp_path / "into"


def test_a_copy_that_parses_is_graded_in_place_of_one_that_does_not(tmp_path):
    files = {"code/student_code.py": BROKEN_CODE, "code/student_code (1).py": CODE}
    submission = read_zip(tmp_path, *files.items())
    assert (submission.code.name, submission.source.error) == ("student_code (1).py", "")


VERSIONS = {  # the first is graded
    "numbers": "code/student_code_v2.py code/student_code_v1.py",
    "copies": "code/student_code (2).py code/student_code (1).py",
    "a final one": "code/student_code_final.py code/student_code_v3.py",
    "an old folder": "new/student_code.py old/code/student_code.py",
    "the expected name": "code/student_code.py code/student_code_v9.py",
    "a folder whose name ends in old": "unfold/student_code.py copy/student_code.py",
}


@pytest.mark.parametrize("name", VERSIONS)
def test_the_last_of_several_versions_is_graded(tmp_path, name):
    paths = re.findall(r".+?\.py(?= |$)", VERSIONS[name])
    submission = read_zip(tmp_path, *((path.strip(), CODE) for path in paths))
    assert submission.code == tmp_path / "into" / paths[0]


def test_an_unfilled_file_with_an_own_network_is_graded_and_no_notebook_is_left(tmp_path):
    files = {
        "code/student_code.py": STARTER + b"default_model = CustomConv2d\n",
        "code/a.ipynb": notebook_of("x = 1\n"),
    }
    submission = read_zip(tmp_path, *files.items())
    assert (submission.code.name, len(submission.source.unfilled)) == ("student_code.py", 4)
    assert not (tmp_path / "into/code/a.py").exists()


ROOTS = {"hw/code/src/student_code.py": "hw", "hw/Code/student_code.py": "hw", "hw/student_code.py": "hw"}


@pytest.mark.parametrize("name", ROOTS)
def test_the_root_is_the_folder_with_the_three_folders(tmp_path, name):
    files = {name: CODE, "hw/writeup/r.pdf": b"%PDF-1.7", "hw/results/model_best.pth.tar": b"x"}
    assert read_zip(tmp_path, *files.items()).root == tmp_path / "into" / ROOTS[name]


@pytest.mark.parametrize(("name", "rules"), [("models/net.py", []), ("models/net.pth", ["forbidden folders"])])
def test_a_package_called_models_is_no_folder_of_models(tmp_path, name, rules):
    submission = read_zip(tmp_path, ("student_code.py", CODE), (name, b"x = 1\n"))
    assert list(submission.violations) == ["folders", *rules]


def test_installed_packages_in_a_submission_are_left_out(tmp_path):
    files = {"env/lib/python3.11/site-packages/student_code.py": STARTER, "code/student_code.py": CODE}
    assert read_zip(tmp_path, *files.items()).notes == []
    assert not list((tmp_path / "into").rglob("site-packages"))


HOMEWORK = b"def my_imfilter(image, kernel): return image\nclass Resizer: pass\n"
NO_NOTEBOOKS = (b"", b"{", b"[]", b'{"cells": 3}', b'{"cells": [3, {"cell_type": "code"}]}', b"[" * 100_000)
PROBLEMS = [
    ("student_code.py", HOMEWORK, "not this assignment's: it defines my_imfilter, Resizer"),
    ("report.docx", b"PK\x03\x04", "there is no Python file in it, only .docx"),
    ("report.pdf", b"%PDF-1.7", "there is no Python file in it, only .pdf"),
    ("bob.rar", b"Rar!\x1a\x07", "is a RAR archive; hand in a zip"),
    ("bob.7z", b"7z\xbc\xaf\x27\x1c", "is a 7z archive; hand in a zip"),
    ("no.zip", b"", "is no zip; hand in a zip"),
    ("empty.zip", EMPTY_ZIP, "nothing was handed in"),
    *(("hw3.ipynb", content, "there is no Python file in it, only .ipynb") for content in NO_NOTEBOOKS),
]


@pytest.mark.parametrize(("name", "content", "problem"), PROBLEMS)
def test_a_submission_without_code_has_a_problem(tmp_path, name, content, problem):
    (tmp_path / name).write_bytes(content)
    submission = read([tmp_path / name], tmp_path / "into")
    assert submission.code is None
    assert problem in submission.problem


BROKEN = {b"def f(:\n    pass\n": 2, b"class PGDAttack:\n  def a(self):\n\treturn 1\n    x\n": 4, b"print 'x'\n": 2}


@pytest.mark.parametrize(("content", "line"), BROKEN.items())
def test_a_syntax_error_shows_its_line(tmp_path, content, line):
    submission = read_code(tmp_path, b"custom_conv2d = 1\n" + content)
    assert f"line {line}" in submission.source.error


UMLAUTS = "# gr\xfc\xdfe\n".encode("latin-1")
ENCODED = {
    "BOM": b"\xef\xbb\xbf" + CODE,
    "CRLF": CODE.replace(b"\n", b"\r\n"),
    "CR": CODE.replace(b"\n", b"\r"),
    "latin-1": CODE + UMLAUTS,
    "UTF-16": b"\xff\xfe" + CODE.decode().encode("utf-16-le"),
    "cookie": b"# -*- coding: latin-1 -*-\n" + CODE + UMLAUTS,
    "zeros": CODE + b"\0\0",
    "coding line": b"# coding: utf-7\n# +AAo-evil = 1\n" + CODE,
}


@pytest.mark.parametrize("name", ENCODED)
def test_any_encoding_is_read_once(tmp_path, name):
    submission = read_code(tmp_path, ENCODED[name])
    assert submission.source.error == ""
    assert submission.source.known >= 10
    module: dict = {}
    exec(compile(submission.code.read_bytes(), "student_code.py", "exec"), module)
    assert "evil" not in module


CODINGS = ("undefined", "idna", "unicode_escape")
HARD = {
    "parentheses": b"x = " + b"(" * 5000,
    "signs": b"x = " + b"-" * 200_000 + b"1\n",
    "attributes": b"x = a" + b".a" * 100_000,
    "fewer attributes": b"x = a" + b".a" * 1500,
    "brackets": b"x = " + b"[" * 90 + b"]" * 90,
    "lambdas": b"x = " + b"lambda: " * 20_000 + b"1",
    "blocks": b"if 1:\n" + b"".join(b" " * i + b"if 1:\n" for i in range(1, 99)) + b" " * 99 + b"x",
    "bytes": b"\xff" * 1000,
    "braces": b"x = f'" + b"{" * 300,
    "sums": b"x = " + b"1+" * 100_000 + b"1",
    "a sum in getattr": b"getattr(F, " + b"1+" * 500 + b"1)",
    **{f"coding {name}": b"# coding: %s\n" % name.encode() + b'x = "\\ud800"\n' for name in CODINGS},
}


@pytest.mark.parametrize("name", HARD)
def test_no_code_stops_the_reader(tmp_path, name):
    assert read_code(tmp_path, HARD[name] + b"\ncustom_conv2d = 1\n").code is not None


ODD = {
    "a folder student_code.py": [("code/student_code.py/x", b"x"), ("code/other.py", CODE)],
    "a file of the name that a zip would be extracted to": [("hw.zip", EMPTY_ZIP), ("hw", b"x")],
    "a file and a folder": [("code/x.py", CODE), ("code", b"x")],
    "deep folders": [("/".join(["code"] + ["a"] * 100 + [str(i)]), b"x") for i in range(50)],
}


@pytest.mark.parametrize("name", ODD)
def test_odd_submissions_have_a_result(tmp_path, name):
    submission = read_zip(tmp_path, *ODD[name])
    assert submission.digest
    assert "damaged in an" not in submission.problem


def test_code_that_eats_memory_or_time_ends_in_its_own_process(tmp_path):
    names = [b"a%d" % i for i in range(30_000)]
    values = (
        b"[" + b"1," * 900_000 + b"]",
        b" = ".join(names) + b" = (" + b",".join(names) + b",)",
        b"1" + b"\neval" * 200_000,
    )
    for value in values:
        assert read_code(tmp_path, b"custom_conv2d = " + value + b"\n").digest


def test_unbounded_compression_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_BZIP2) as file:
        file.writestr("code/student_code.py", bytes(256 << 20))
    assert "unusual way" in " ".join(read([tmp_path / "a.zip"], tmp_path / "into").notes)


LEADING_OUT = (
    r"../out.py /tmp/scenelab-out.py code/../../out.py ..\out.py C:\out.py \out.py \\host\out.py code/..\..\out.py"
)


@pytest.mark.parametrize("name", LEADING_OUT.split())
def test_no_entry_leads_out(tmp_path, name):
    extraction = unpack_zip(tmp_path, (name, b"x"), ("code/student_code.py", CODE))
    assert sorted(path.name for path in files_in(tmp_path)) == ["a.zip", "student_code.py"]
    assert not os.path.exists("/tmp/scenelab-out.py")
    assert "leads out of the folder" in " ".join(extraction.notes)


def test_links_and_devices_are_left_out(tmp_path):
    extractions = [unpack(zipped(tmp_path / "a.zip", ("code/link", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777))]
    with tarfile.open(tmp_path / "b.tar", "w") as file:
        for number, kind in enumerate((tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE)):
            entry = tarfile.TarInfo(f"code/{number}")
            entry.type, entry.linkname = kind, "/etc/passwd"
            file.addfile(entry)
    extractions.append(unpack(tmp_path / "b.tar"))
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "link.py").symlink_to("/etc/passwd")
    (folder / "away").symlink_to("/etc")
    os.mkfifo(folder / "pipe")
    extractions.append(unpack(folder))
    assert [path for path in (tmp_path / "into").rglob("*") if not path.is_dir()] == []
    assert sum("link or a device" in note for each in extractions for note in each.notes) == 1 + 4 + 3


def test_bombs_end(tmp_path):
    extraction = unpack_zip(tmp_path, *((f"code/{i}.bin", bytes(64 << 20)) for i in range(8)), **SMALL)
    assert sum(path.stat().st_size for path in files_in(tmp_path / "into")) <= SMALL["bytes"]
    assert "holds more than 4 MiB" in " ".join(extraction.notes)
    extraction = unpack_zip(tmp_path, *((f"code/{i}.py", b"") for i in range(300)), **SMALL)
    assert extraction.files == 100
    assert "more than 100 files" in " ".join(extraction.notes)


def test_nested_zips_end(tmp_path):
    content = b"x"
    for number in range(7):
        content = zipped(tmp_path / "z.zip", (f"code/z{number}.zip", content)).read_bytes()
    assert read([tmp_path / "z.zip"], tmp_path / "into").code is None
    assert len(list((tmp_path / "into").rglob("*"))) < 20


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_odd_names_are_left_out_and_noted(tmp_path):
    names = ["x" * 300 + ".py", "a\nb.py", "a/b.py", "a", "twice.py", "twice.py", "d/" * 150 + "e.py", "\u202egp.py"]
    extraction = unpack_zip(tmp_path, *((f"code/{name}", b"x") for name in names))
    assert sorted(path.name for path in files_in(tmp_path / "into")) == ["b.py", "twice.py"]
    assert len(extraction.notes) == 6, extraction.notes


SAME = [("code/a.py", "code/a.py"), ("code/A.py", "code/a.py"), ("Code/a.py", "code/a.py"), ("é.py", "e\u0301.py")]


@pytest.mark.parametrize(("first", "second"), SAME)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_last_of_equal_names_counts(tmp_path, first, second):
    extraction = unpack_zip(tmp_path, (first, b"1"), (second, b"2"))
    assert [path.read_bytes() for path in files_in(tmp_path / "into")] == [b"2"]
    assert extraction.files == 1
    assert "there twice, or in another spelling; the last was taken" in extraction.notes[0]


def test_names_of_honest_files_stay(tmp_path):
    unpack_zip(tmp_path, *((name, b"x") for name in ("Shot 3.05\u202fPM.png", "results/a:b.png", "結果/図.png")))
    assert len(files_in(tmp_path / "into")) == 3


def test_backslashes_are_slashes(tmp_path):
    r"""PowerShell's Compress-Archive writes `code\` without bytes, then `code\student_code.py`."""
    entries = {
        "code\\": b"",
        "code\\student_code.py": CODE,
        "writeup\\r.pdf": b"%PDF-1.7",
        "results\\": b"",
        "results\\x.png": b"",
    }
    submission = read_zip(tmp_path, *entries.items())
    assert submission.problem == ""
    assert submission.code == tmp_path / "into" / "code" / "student_code.py"
    assert submission.violations == {}
    assert submission.notes == []


def test_encrypted_and_damaged_archives_are_noted(tmp_path):
    path = zipped(tmp_path / "a.zip", ("code/student_code.py", CODE), ("code/b.py", os.urandom(5000)))
    data, encrypted = bytearray(path.read_bytes()), bytearray(path.read_bytes())
    encrypted[encrypted.rfind(b"PK\x01\x02", 0, encrypted.rfind(b"PK\x01\x02")) + 8] |= 1
    data[data.find(b"code/b.py") + 2000] ^= 0xFF
    archives = {"encrypted": encrypted, "damaged": data, "no zip": data[: len(data) // 2]}
    for note, content in archives.items():
        path.write_bytes(content)
        submission = read([path], tmp_path / f"into {note}")
        assert note in " ".join(submission.notes)
        assert (submission.code is None) is (note == "no zip" or note == "encrypted")


def test_a_tar_that_claims_more_than_it_has(tmp_path):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as file:
        entry = tarfile.TarInfo("code/student_code.py")
        entry.size = len(CODE)
        file.addfile(entry, io.BytesIO(CODE))
    (tmp_path / "a.tar").write_bytes(raw.getvalue()[: 512 + 100])
    assert read([tmp_path / "a.tar"], tmp_path / "into").digest


def test_a_long_tar_header_ends(tmp_path):
    entry = tarfile.TarInfo("x")
    entry.type, entry.size = tarfile.XHDTYPE, 3 << 30
    with open(tmp_path / "a.tar", "wb") as file:
        file.write(entry.tobuf())
        file.truncate(3 << 30)
    assert read([tmp_path / "a.tar"], tmp_path / "into").code is None


def test_the_digest_is_of_content_and_names(tmp_path):
    versions = [solution(), solution(), {**solution(), "results/curves.png": b"other"}]
    folders = [write(tmp_path / str(number), files) for number, files in enumerate(versions)]
    digests = [read([folder], tmp_path / f"into-{folder.name}").digest for folder in folders]
    assert digests[0] == digests[1] != digests[2]


HELPERS = {
    b"import torch.nn.functional as F\ndef conv(*a):\n    return F.conv2d(*a)\n": (True, False),
    b"from deeper import conv\n": (True, False),
    b"import sys\nconv = sys.modules\n": (False, True),
    b"import torch.nn as nn\ndef conv(x):\n    return x\n": (False, False),
}


@pytest.mark.parametrize("helper", HELPERS)
def test_modules_beside_the_code_are_examined(tmp_path, helper):
    call = b"        output = weight.flatten(1) @ windows"
    code = CODE.replace(call, call.replace(b"= weight", b"= conv(weight") + b")")
    code = code.replace(b"import math\n", b"import math\nfrom helper import conv\nfrom networks import *\n")
    network = b"import torch.nn as nn\nclass Net(nn.Module):\n    conv = nn.Conv2d(1, 1, 1)\n"
    files = {
        "student_code": code,
        "helper": helper,
        "networks": network,
        "deeper": b"import torch\nconv = torch.conv2d\n",
    }
    source = read_zip(tmp_path, *((f"code/{name}.py", content) for name, content in files.items())).source
    assert (bool(source.banned), bool(source.hiding)) == HELPERS[helper], source


def test_packages_and_many_imports_are_examined(tmp_path):
    top = b"import pkg.empty\n" + b"".join(b"import a%d\n" % n for n in range(60)) + b"import last\n"
    files = {f"code/a{n}.py": b"x = 1\n" for n in range(60)} | {
        "code/student_code.py": top + CODE,
        "code/pkg/__init__.py": b"import sys\nx = sys.modules\n",
        "code/pkg/empty.py": b"",
        "code/last.py": b"y = eval\n",
    }
    source = read_zip(tmp_path, *files.items()).source
    assert "code/pkg/__init__.py, line 2: sys.modules" in source.hiding
    assert "code/last.py, line 1: eval" in source.hiding
    assert set(source.scanned) == set(files)


def test_a_notebook_is_read_as_a_file(tmp_path):
    magic = "%matplotlib inline\n!pip install x\nimport os\nos?\nif True:\n    !ls\n"
    sources = [magic, CODE.decode(), "%%bash\nls -l\n", "%%time\nx = 1\n"]
    cells = [{"cell_type": "markdown", "source": "# hi"}, *({"cell_type": "code", "source": text} for text in sources)]
    notebook = json.dumps({"cells": cells}).encode()
    test = b"from student_code import CustomConv2d\n"
    submission = read_zip(tmp_path, ("hw/hw3.ipynb", notebook), ("hw/test_conv.py", test))
    assert submission.problem == ""
    assert submission.source.known >= 10
    assert "hw3.ipynb is a notebook: its code cells were graded as a file" in " ".join(submission.notes)
    text = submission.code.read_text()
    compile(text, "hw3.py", "exec")
    assert "\nx = 1\n" in text
    assert "# ls -l" in text


EXPORTS = ("# In[1]:\n\n", '"""hw3.ipynb\n\nAutomatically generated by Colab.\n"""\n')


@pytest.mark.parametrize("head", [*EXPORTS, "# In the first part\n"])
def test_a_notebook_that_was_exported_runs_in_spite_of_its_training(tmp_path, head):
    code = head.encode() + b"names = open('../data/train.txt').read()\nfor name in names: print(name)\n" + CODE
    submission = read_zip(tmp_path, ("code/student_code.py", code))
    assert ("was exported from a notebook" in " ".join(submission.notes)) is (head in EXPORTS)
    module: dict = {"__name__": "student_code"}
    with nullcontext() if head in EXPORTS else pytest.raises(FileNotFoundError):
        exec(compile(submission.code.read_bytes(), "student_code.py", "exec"), module)
        assert "PGDAttack" in module


@pytest.mark.parametrize("name", ["student_code.py", "answers.py"])
def test_the_kits_notebooks_are_never_taken_for_answers(tmp_path, name):
    kit = {path: text.encode() for path, text in kit_files(2019, solution=True).items()}
    kit[f"code/{name}"] = kit.pop("code/student_code.py")
    whole = read_zip(tmp_path / "whole", *kit.items())
    handed = read_zip(tmp_path / "handed", *(pair for pair in kit.items() if not pair[0].startswith("notebooks/")))
    assert (whole.problem, whole.code.name, whole.notes) == (handed.problem, name, handed.notes)
    alone = read_zip(tmp_path / "alone", *(pair for pair in kit.items() if pair[0].startswith("notebooks/")))
    assert "none of its names" in alone.problem


def test_several_files_are_one_submission(tmp_path):
    files = {"101_student_code-1.py": CODE, "102_report.pdf": b"%PDF-1.7", "103_model_best.pth.tar": b"x"}
    write(tmp_path, {f"doe_7_{name}": content for name, content in files.items()})
    assert read(sorted(tmp_path.glob("doe*")), tmp_path / "into").problem == ""
    names = sorted(path.name for path in files_in(tmp_path / "into"))
    assert names == ["model_best.pth.tar", "report.pdf", "student_code.py"]


@pytest.mark.parametrize("start", [b"\x7fELF", b"MZ\x90\0", b"\xcf\xfa\xed\xfe"])
def test_machine_code_is_left_out_whatever_its_name(tmp_path, start):
    extraction = unpack_zip(tmp_path, ("code/weights.bin", start + bytes(100)))
    assert files_in(tmp_path / "into") == []
    assert "compiled code and was left out" in " ".join(extraction.notes)


def test_a_data_set_in_the_archive_does_not_hide_the_code(tmp_path):
    files = [(f"code/data/{n}.txt", b"") for n in range(5100)]
    assert read_zip(tmp_path, *files, ("code/student_code.py", CODE)).problem == ""
