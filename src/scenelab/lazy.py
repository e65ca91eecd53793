"""Lazy imports of a package's public names, so that light commands do not import torch."""

import sys

TYPE_CHECKING = False  # this module imports nothing heavy, so that the command soon has its handler of Ctrl-C
if TYPE_CHECKING:
    from collections.abc import Callable


def lazy_exports(package: str, file: str) -> "Callable[[str], object]":
    """Return a module-level `__getattr__` that imports each public name of `package` at its first use.

    The public names are those in the `from … import …` statements of `file`, the package's `__init__.py`. There, the
    statements are inside `if TYPE_CHECKING:`.
    """
    origins: dict[str, tuple[str, str]] = {}

    def load(name: str) -> object:
        from importlib import import_module

        if not origins:
            origins.update(_read_origins(file))
        if name not in origins:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, attribute = origins[name]
        value = import_module(f"{module}.{name}") if module == package else getattr(import_module(module), attribute)
        setattr(sys.modules[package], name, value)
        return value

    return load


def _read_origins(file: str) -> dict[str, tuple[str, str]]:
    """Return module and attribute of each name that `file` imports."""
    import ast

    with open(file, encoding="utf-8") as source:
        tree = ast.parse(source.read())
    return {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
