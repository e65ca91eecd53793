#!/usr/bin/env python3
"""Check a submission and zip it: run python ./zip_submission.py in the folder with code/, writeup/ and results/.

Write submission.zip with these three folders at the top level. The handout deducts 5 % for a submission that breaks
its rules. This script therefore lists all problems and writes no zip until they are fixed. It uses only Python's
standard library.
"""

from __future__ import annotations  # so that Python 3.9 runs it

import argparse
import ast
import io
import os
import re
import subprocess
import sys
import tempfile
import unicodedata
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDERS = ("code", "writeup", "results")
FORBIDDEN = ("data", "logs", "models")
FORBIDDEN_TEXT = "data, logs and models must not be submitted; remove {}/"
IGNORED = ("__pycache__", ".git", ".DS_Store", "__MACOSX", ".ipynb_checkpoints", ".venv", "Thumbs.db")
MAX_MODEL_BYTES = 10_000_000  # limit of the challenge: 10 MB
MAX_FILE_BYTES = 50_000_000
MAX_SOURCE_BYTES = 2_000_000  # per Python file
MAX_BYTES = 200_000_000  # total of all files
TEST_SECONDS = 300
UNSEEN = ("Cc", "Cf", "Cs", "Zl", "Zp")  # Unicode categories of invisible characters, and of bytes that are not UTF-8
ZIP_TIME = (1980, 1, 1, 0, 0, 0)  # fixed modification time, so that the same files give an identical zip
MODELS = (".pth.tar", ".pth", ".pt", ".tar")
ABSOLUTE = re.compile(
    r"(/(home|Users|users|user|usr|root|tmp|mnt|media|data|scratch|content|private|var|opt|srv)/[^\s{}<>:]"
    r"|[A-Za-z]:(\\|/(?!/)))[^\n]*$"
)
"""Matches an absolute path; `https://…`, `/data/` alone and `/data/{name}` do not match."""
STRING_METHODS = frozenset(
    """replace split rsplit partition rpartition startswith endswith removeprefix removesuffix strip lstrip rstrip find
    rfind index count sub match search fullmatch findall compile""".split()
)
"""Methods whose arguments are parts of strings, not complete paths."""


@dataclass(frozen=True)
class Problem:
    """Violation of a rule: file or folder, description, line number in a Python file, and name of the rule."""

    where: str
    what: str
    line: int | None = None
    rule: str = "folders"

    def __str__(self) -> str:
        place = self.where if self.line is None else f"{self.where}, line {self.line}"
        return visible(f"{place}: {self.what}")


def visible(text: str) -> str:
    """Return text with `?` for each invisible character."""
    return "".join("?" if unicodedata.category(letter) in UNSEEN else letter for letter in text)


def _below(folder: Path) -> list[Path]:
    """Return the sorted paths of all files and folders below a folder, without names in `IGNORED`."""

    def refuse(error: OSError) -> None:
        if not isinstance(error, (FileNotFoundError, NotADirectoryError)):  # a missing folder is reported elsewhere
            raise error

    paths = []
    for place, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [name for name in folders if name not in IGNORED]
        paths += [Path(place, name) for name in (*folders, *files) if name not in IGNORED]
    return sorted(paths)


def list_files(root: Path) -> list[Path]:
    """Return the sorted relative paths of a submission's files, without symbolic links and names in `IGNORED`.

    Raises:
        OSError: a folder cannot be read.
    """
    paths = [path for folder in FOLDERS for path in _below(root / folder) if path.is_file() and not path.is_symlink()]
    return sorted((path.relative_to(root) for path in paths), key=lambda path: path.as_posix())


def check(root: Path, *, test: bool = True) -> list[Problem]:
    """Return the violations of the handout's rules in a submission.

    Args:
        root: the folder with code/, writeup/ and results/.
        test: whether to run code/test_conv.py too.

    Raises:
        OSError: a file or a folder cannot be read.
    """
    files = list_files(root)
    missing = [folder for folder in FOLDERS if not (root / folder).is_dir()]
    problems = [Problem(f"{folder}/", f"is missing; make it in {root.resolve()}") for folder in missing]
    problems += [*_layout(root, files), *_report(root, files), *_sizes(root, files)]
    for path in files:
        if path.parts[0] == "code" and path.suffix == ".py":
            problems += check_source(root / path, path.as_posix())
    if test and "code" not in missing and not any("does not parse" in problem.what for problem in problems):
        problems += run_test(root)
    return problems


def _layout(root: Path, files: list[Path]) -> Iterator[Problem]:
    if (root / "code").is_dir() and Path("code/student_code.py") not in files:
        yield Problem("code/student_code.py", "is missing; it must contain your answers")
    if (root / "results").is_dir() and not any(path.parts[0] == "results" for path in files):
        yield Problem("results/", "is empty; put your results there, such as curves and images")
    for name in (path.as_posix() for path in files):
        if visible(name) != name:
            yield Problem(name, "has invisible characters in its name and would not be graded; rename it", rule="names")
    for folder in sorted({path.parent for path in files if path.suffix != ".py"}):  # code may be in code/models/
        for name in [part for part in folder.parts[1:] if part in FORBIDDEN][:1]:
            yield Problem(f"{folder.as_posix()}/", FORBIDDEN_TEXT.format(name), rule="forbidden folders")
    for path in (path for folder in FOLDERS for path in _below(root / folder) if path.is_symlink()):
        name = path.relative_to(root).as_posix()
        yield Problem(name, "is a link, which a zip cannot hold; put the file itself there", rule="links")


def _report(root: Path, files: list[Path]) -> Iterator[Problem]:
    written = [path for path in files if path.parts[0] == "writeup"]
    reports = [path for path in written if path.suffix.lower() == ".pdf"]
    if not reports and (root / "writeup").is_dir():
        others = ", ".join(path.name for path in written[:3])
        yield Problem("writeup/", f"the report must be a PDF; found {others or 'nothing'}", rule="report")
    for path in reports:
        with open(root / path, "rb") as file:
            if b"%PDF-" not in file.read(1024):
                what = "this file is named .pdf but is not a PDF; export your report as PDF"
                yield Problem(path.as_posix(), what, rule="report")


def _sizes(root: Path, files: list[Path]) -> Iterator[Problem]:
    sizes = {path.as_posix(): (root / path).stat().st_size for path in files}
    for name, size in sizes.items():
        if name.endswith(MODELS) and not name.startswith("results/"):
            yield Problem(name, "models are only submitted for the challenge, in results/", rule="models")
        elif name.endswith(MODELS) and size > MAX_MODEL_BYTES:
            yield Problem(name, f"has {size:,} bytes; the challenge allows {MAX_MODEL_BYTES:,}", rule="sizes")
        elif size > MAX_FILE_BYTES:
            yield Problem(name, f"has {size:,} bytes, more than {MAX_FILE_BYTES:,}; make it smaller", rule="sizes")
    if (total := sum(sizes.values())) > MAX_BYTES:
        yield Problem("all files", f"have {total:,} bytes together, more than {MAX_BYTES:,}", rule="sizes")


def check_source(path: Path, name: str) -> list[Problem]:
    """Return the syntax errors and absolute paths in a Python file; paths in comments and docstrings are allowed."""
    if (size := path.stat().st_size) > MAX_SOURCE_BYTES:
        return [Problem(name, f"has {size:,} bytes, too large for a source file", rule="sizes")]
    try:
        tree = ast.parse(path.read_bytes(), filename=name)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        what = f"does not parse: {(error.args or ['too deeply nested'])[0]}"
        return [Problem(name, what, getattr(error, "lineno", None) or 1, "code")]
    what = "has the absolute path {!r}; use a path relative to code/"
    return [
        Problem(name, what.format(text.removesuffix("…")[:60]), line, "absolute paths")
        for text, line in _strings(tree)
        if ABSOLUTE.match(text)
    ]


def _strings(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Yield strings that may be complete paths (no docstrings or parts of other strings), with line numbers."""
    nodes = list(ast.walk(tree))
    parts = {id(part) for node in nodes for part in _parts(node)}
    begins = {id(node.values[0]) for node in nodes if isinstance(node, ast.JoinedStr) and len(node.values) > 1}
    for node in nodes:
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in parts:
            yield node.value + ("…" if id(node) in begins else ""), node.lineno  # the path continues


def _parts(node: ast.AST) -> list[ast.AST]:
    """Return the nodes below `node` that cannot be complete paths: docstrings, parts of strings, help texts."""
    if isinstance(node, (ast.Expr, ast.AugAssign)):  # a docstring or another unused string; path += "/data"
        return [node.value] if isinstance(node, ast.Expr) else [*ast.walk(node.value)]
    if isinstance(node, ast.JoinedStr):  # f"{root}/data"
        return [*node.values[1:]]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):  # root + "/data"
        return [node.right, *(node.right.values if isinstance(node.right, ast.JoinedStr) else [])]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mod):  # "%s" % "/data"
        return [*ast.walk(node.right)]
    if isinstance(node, ast.Compare):
        return [node.left, *node.comparators]
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        value, name = node.func.value, node.func.attr
        if name in STRING_METHODS:
            return [*node.args, value]
        if name == "join" and isinstance(value, ast.Constant):  # not os.path.join(…)
            return [each for argument in node.args for each in ast.walk(argument)]
    if isinstance(node, ast.keyword) and node.arg in ("help", "description", "epilog", "metavar", "sep", "end"):
        return [*ast.walk(node.value)]
    return []


def run_test(root: Path) -> list[Problem]:
    """Run code/test_conv.py; return a list with a problem if it is missing, fails or times out, else empty."""
    name = "code/test_conv.py"
    if not (root / name).exists():
        return [Problem(name, "is missing; copy it from the assignment's folder", rule="test")]
    try:
        done = subprocess.run(
            [sys.executable, "./test_conv.py"],
            cwd=root / "code",
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            errors="replace",
            timeout=TEST_SECONDS,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [Problem(name, f"did not finish within {TEST_SECONDS} seconds", rule="test")]
    if done.returncode == 0 and "failed" not in done.stdout:
        return []
    last = ([line for line in (done.stdout + done.stderr).splitlines() if line.strip()] or ["nothing"])[-1]
    return [Problem(name, f"fails; its last line is: {last[:120]}", rule="test")]


def write_zip(root: Path, target: Path) -> int:
    """Zip the files of a submission to `target` and return their number; equal files give an identical zip.

    The zip is written to a temporary file first, so that a file at `target` is always complete.
    """
    files = list_files(root)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as stream, zipfile.ZipFile(stream, "w") as file:
            for path in files:
                try:
                    content = (root / path).read_bytes()
                except OSError as error:  # errors of read() have no path
                    raise OSError(error.errno, error.strerror, str(root / path)) from error
                entry = zipfile.ZipInfo(visible(path.as_posix()), ZIP_TIME)
                entry.create_system, entry.external_attr = 3, 0o644 << 16
                file.writestr(entry, content, zipfile.ZIP_DEFLATED, compresslevel=9)
        os.chmod(temporary, 0o644)
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return len(files)


def main(arguments: list[str]) -> int:
    """Parse the command line, then check and zip the current folder; return the exit status, 0 if a zip was written."""
    flags = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    flags.add_argument("--anyway", action="store_true", help="zip despite the problems")
    flags.add_argument("--no-test", action="store_true", help="do not run code/test_conv.py")
    flags.add_argument("--out", type=Path, default=Path("submission.zip"), help="the file (submission.zip)")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # names of files may have characters that the terminal lacks
            stream.reconfigure(errors="backslashreplace")
    options = flags.parse_args(arguments)
    return check_and_zip(Path.cwd(), options.out, anyway=options.anyway, test=not options.no_test)


def check_and_zip(root: Path, out: Path, *, anyway: bool = False, test: bool = True) -> int:
    """Check a submission, print its problems, and zip it if it has none; return the exit status (0: zipped).

    With `anyway`, zip it despite the problems, unless `code/`, `writeup/` or `results/` is missing.
    """
    try:
        problems = check(root, test=test)
    except OSError as error:
        print(visible(f"cannot read {error.filename or root}: {error.strerror or error}; fix that; no zip written"))
        return 1
    for problem in problems:
        print(f"- {problem}")
    has_missing = any(problem.what.startswith("is missing; make it") for problem in problems)
    if problems and (has_missing or not anyway):
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        print(f"{count} to fix; no zip written." + ("" if has_missing else " Use --anyway to zip regardless."))
        return 1
    try:
        count = write_zip(root, out)
    except OSError as error:
        cause = error.strerror or error
        if any(Path(error.filename or "").is_relative_to(root / folder) for folder in FOLDERS):
            print(visible(f"cannot read {error.filename}: {cause}; fix that; no zip written"))
        else:
            print(visible(f"cannot write {out}: {cause}; choose another with --out"))
        return 1
    print(visible(f"{out}: {count} files, {out.stat().st_size:,} bytes. Submit it as it is."))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
