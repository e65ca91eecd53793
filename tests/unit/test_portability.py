"""The package imports on every operating system, and reads and writes the same files."""

import ast
from pathlib import Path

import pytest

import scenelab
from scenelab.io import atomic_write

SOURCE = Path(scenelab.__file__).parents[1]
POSIX = {"fcntl", "resource", "pwd", "grp", "termios", "posix", "pty", "tty", "syslog", "curses", "readline"}
MODULES = sorted(
    path.relative_to(SOURCE).as_posix()
    for package in ("scenelab", "scenelab_runner", "scenelab_scenes")
    for path in (SOURCE / package).rglob("*.py")
)


def imported_at_import_time(tree: ast.AST) -> set[str]:
    """Top-level names of all modules that are imported outside of functions."""
    names = set()
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").partition(".")[0])
        elif not isinstance(node, ast.FunctionDef | ast.Lambda):
            names |= imported_at_import_time(node)
    return names


@pytest.mark.parametrize("module", MODULES)
def test_no_module_needs_posix_to_be_imported(module):
    assert not imported_at_import_time(ast.parse((SOURCE / module).read_text(encoding="utf-8"))) & POSIX


def test_a_posix_import_outside_of_functions_is_noticed():
    assert imported_at_import_time(ast.parse("class A:\n    if True:\n        from resource import getrusage")) & POSIX
    assert not imported_at_import_time(ast.parse("def f():\n    import resource"))


def shadowed(tree: ast.Module) -> set[str]:
    """Functions, classes and imported names of a module that a comprehension uses as a variable."""
    names = set()
    for node in tree.body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            names |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
    targets = [each.target for each in ast.walk(tree) if isinstance(each, ast.comprehension)]
    return names & {each.id for target in targets for each in ast.walk(target) if isinstance(each, ast.Name)}


@pytest.mark.parametrize("module", MODULES)
def test_no_comprehension_hides_a_function(module):
    """CPython 3.12.1 raises UnboundLocalError where another comprehension of the same function calls it."""
    assert not shadowed(ast.parse((SOURCE / module).read_text(encoding="utf-8")))


def test_a_comprehension_that_hides_a_function_is_noticed():
    assert shadowed(ast.parse("def f(): ...\ndef g(x):\n    return {f for f in x}")) == {"f"}


def test_text_files_have_the_same_line_ends_on_every_system(tmp_path, monkeypatch):
    def windows_open(path, mode="r", newline=None, **options):
        return open(path, mode, newline="\r\n" if newline is None and "b" not in mode else newline, **options)

    monkeypatch.setattr("scenelab.io.open", windows_open, raising=False)
    with atomic_write(tmp_path / "a.txt", "w") as file:
        file.write("a\nb\n")
    assert (tmp_path / "a.txt").read_bytes() == b"a\nb\n"
