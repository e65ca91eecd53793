"""Lazy imports of a package's public names, so that light commands do not import torch."""

import ast
import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path


def lazy_exports(package: str, file: str) -> Callable[[str], object]:
    """Return a module-level `__getattr__` that imports each public name of `package` at its first use.

    The public names are those in the `from … import …` statements of `file`, the package's `__init__.py`. There, the
    statements are inside `if TYPE_CHECKING:`.
    """
    origins = {
        alias.asname or alias.name: (node.module or "", alias.name)
        for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8")))
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }

    def load(name: str) -> object:
        if name not in origins:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, attribute = origins[name]
        value = import_module(f"{module}.{name}") if module == package else getattr(import_module(module), attribute)
        setattr(sys.modules[package], name, value)
        return value

    return load
