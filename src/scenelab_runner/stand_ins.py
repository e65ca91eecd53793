"""Stand-ins for packages that are not installed, and for names that code of earlier years uses."""

from __future__ import annotations

import ast
import collections.abc
import contextlib
import importlib.abc
import re
import sys
import time
import traceback
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import numpy

OURS = "scenelab"
GONE = re.compile(r"cannot import name '(\w+)'")
MAX_NAMES = 40  # that are replaced
SILENT = """
    wandb tensorboardX loguru mlflow comet_ml visdom IPython neptune clearml ipdb pudb icecream termcolor colorama tqdm
    rich torchsummary torchinfo livelossplot display get_ipython google
""".split()  # packages for display and logging: calls of their stand-ins do nothing


class Missing:
    """Stand-in for a missing package, or for an attribute or object of a missing package.

    A call raises ModuleNotFoundError, except for packages in `SILENT` and during the import of the student's file.
    """

    loading = True  # during the import, a call returns another stand-in, as in writer = SummaryWriter()

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> Any:
        if name == "__version__":
            return "0"
        if name.startswith("__"):
            raise AttributeError(name)
        return Missing(f"{self.__name__}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return another stand-in, or the argument if it is a function to decorate."""
        if Missing.loading or self.__name__.partition(".")[0].partition("(")[0] in SILENT:
            is_decorator = len(args) == 1 and not kwargs and callable(args[0])
            return args[0] if is_decorator else Missing(f"{self.__name__}(…)")
        raise ModuleNotFoundError(
            f"{self.__name__} was called, which is neither in the submission nor installed where this is graded"
        )

    def __mro_entries__(self, _bases: Any) -> tuple[()]:
        return ()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_error: object) -> None:
        return None

    def __iter__(self) -> Any:
        return iter(())


class Refusal(importlib.abc.MetaPathFinder):
    """Import finder, first in sys.meta_path, that refuses the package which contains the solution."""

    def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> None:
        """Raise ModuleNotFoundError for a module of the package."""
        if fullname.partition(".")[0] == OURS:
            raise ModuleNotFoundError(f"{fullname} is not part of the assignment; write the answer yourself")


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Import finder, last in sys.meta_path, that supplies stand-ins for missing packages which student files import.

    An import in a `try` with `except` fails as usual, so that the student's fallback runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.names: list[str] = []

    def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> ModuleSpec | None:
        """Return the spec of a stand-in if a file of the student imports the module."""
        frame = sys._getframe(1)
        while frame is not None and ("importlib" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
            frame = frame.f_back
        if frame is None or not frame.f_code.co_filename.startswith(self.folder):
            return None
        nodes = ast.walk(ast.parse(Path(frame.f_code.co_filename).read_bytes()))
        bodies = [node.body for node in nodes if isinstance(node, ast.Try) and node.handlers]
        if any(body[0].lineno <= frame.f_lineno <= (body[-1].end_lineno or body[-1].lineno) for body in bodies):
            return None
        return ModuleSpec(fullname, self, is_package=True)

    def execute(self, module: Any) -> None:
        """Execute a module of the student, with stand-ins for names that installed packages no longer have."""
        for _ in range(MAX_NAMES):
            try:
                module.__spec__.loader.exec_module(module)
                return
            except ImportError as error:
                *_, (frame, _) = traceback.walk_tb(error.__traceback__)
                gone, owner = GONE.match(str(error)), sys.modules.get(error.name or "")
                files = frame.f_code.co_filename, str(getattr(owner, "__file__", self.folder))
                if gone is None or [name.startswith(self.folder) for name in files] != [True, False]:
                    raise
                self.names.append(f"{error.name}.{gone[1]}")
                setattr(owner, gone[1], Missing(self.names[-1]))

    def create_module(self, spec: ModuleSpec) -> Any:
        """Return a stand-in."""
        self.names.append(spec.name)
        return Missing(spec.name)

    def exec_module(self, module: Any) -> None:
        """Do nothing."""


def restore_old_names() -> None:
    """Restore names of collections, NumPy and Pillow that code from 2019 uses and current versions lack."""
    names: list[tuple[Any, str, Any]] = [
        (collections, name, getattr(collections.abc, name)) for name in ("Iterable", "Sequence", "Mapping", "Callable")
    ]
    names += [(numpy, kind.__name__, kind) for kind in (float, int, bool, object)]
    names += [(numpy, "Inf", numpy.inf), (numpy, "NaN", numpy.nan), (time, "clock", time.perf_counter)]
    with contextlib.suppress(ImportError):
        from PIL import Image

        renamed = (("ANTIALIAS", "LANCZOS"), ("LINEAR", "BILINEAR"), ("CUBIC", "BICUBIC"))
        names += [(Image, old, getattr(Image, new)) for old, new in renamed]
    for owner, name, value in names:
        if name not in vars(owner):
            setattr(owner, name, value)
