"""Import a student's file: missing packages become stand-ins, the grader's own cannot be imported."""

import ast
import collections.abc
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy

OURS = "scenelab"
SILENT = """
    wandb tensorboardX loguru mlflow comet_ml visdom IPython neptune clearml ipdb pudb icecream termcolor colorama tqdm
    rich torchsummary torchinfo livelossplot display get_ipython google
""".split()
"""Packages that show and write things: their calls change no answer, so they do nothing."""


def _attribute(owner: str, name: str) -> Any:
    if name == "__version__":
        return "0"
    if name.startswith("__"):
        raise AttributeError(name)
    return _Missing(f"{owner}.{name}")


class _Missing:
    """A name of a missing package: it can be imported and passed on, and raises when it is called."""

    loading = True  # while the student's file is imported, a call returns another stand-in: writer = SummaryWriter()

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> Any:
        return _attribute(self.__name__, name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if _Missing.loading or self.__name__.partition(".")[0].partition("(")[0] in SILENT:
            is_decorator = len(args) == 1 and not kwargs and callable(args[0])
            return args[0] if is_decorator else _Missing(f"{self.__name__}(…)")
        raise ModuleNotFoundError(
            f"{self.__name__} was called, which is neither in the hand-in nor installed where this is graded"
        )

    def __mro_entries__(self, _bases: Any) -> tuple[()]:
        return ()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_error: object) -> None:
        return None

    def __iter__(self) -> Any:
        return iter(())


class _StandIn(ModuleType):
    def __getattr__(self, name: str) -> Any:
        return _attribute(self.__name__, name)


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """The last finder: makes missing packages that the student's files import outside a try with handlers."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.names: list[str] = []
        self._tried: dict[str, list[range]] = {}

    def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> importlib.machinery.ModuleSpec | None:
        """Return a stand-in's spec if the student's code imports the name and expects no failure."""
        frame = sys._getframe(1)
        while frame is not None and ("importlib" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
            frame = frame.f_back
        if frame is None or not frame.f_code.co_filename.startswith(self.folder):
            return None
        if any(frame.f_lineno in lines for lines in self._lines_tried(frame.f_code.co_filename)):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def _lines_tried(self, filename: str) -> list[range]:
        if filename not in self._tried:
            nodes = ast.walk(ast.parse(Path(filename).read_bytes()))
            bodies = [node.body for node in nodes if isinstance(node, ast.Try) and node.handlers]
            ends = [body[-1].end_lineno or body[-1].lineno for body in bodies]
            self._tried[filename] = [range(body[0].lineno, end + 1) for body, end in zip(bodies, ends, strict=True)]
        return self._tried[filename]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """Return the stand-in and note its name."""
        self.names.append(spec.name)
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Make it a package."""
        module.__path__ = []


class _Changed(importlib.abc.MetaPathFinder):
    """Changes two packages on import.

    matplotlib draws without a screen, whatever backend a file asks for. torchvision takes longer to import than a
    grading, so nothing of it is imported for `torchvision.utils` alone.
    """

    def __init__(self) -> None:
        self._import: Callable[[], None] | None = None

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.startswith("torchvision.") and fullname != "torchvision.utils":
            self._import_now()
        if fullname not in ("matplotlib", "torchvision"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            change = _without_screen if fullname == "matplotlib" else self._lazy
            spec.loader.exec_module = lambda module: change(module, run)
        return spec

    def _lazy(self, module: ModuleType, run: Callable[[ModuleType], None]) -> None:
        def get(name: str) -> Any:
            if name == "utils" and self._import is not None:
                return importlib.import_module("torchvision.utils")
            if name.startswith("__") and name != "__version__":
                raise AttributeError(f"module torchvision has no attribute {name}")
            self._import_now()
            return getattr(module, name)

        def run_now() -> None:
            del module.__getattr__
            run(module)

        module.__getattr__ = get  # pyright: ignore[reportAttributeAccessIssue]
        self._import = run_now

    def _import_now(self) -> None:
        run, self._import = self._import, None
        if run is not None:
            run()


def _without_screen(module: ModuleType, run: Callable[[ModuleType], None]) -> None:
    run(module)
    module.use = lambda *_args, **_kwargs: None  # pyright: ignore[reportAttributeAccessIssue]


class Refused(importlib.abc.MetaPathFinder):
    """The first finder: refuses the grader's own package."""

    def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> None:
        """Raise ModuleNotFoundError for a module of the grader's."""
        if fullname.partition(".")[0] == OURS:
            raise ModuleNotFoundError(f"{fullname} is not part of the assignment; write the answer yourself")


def _restore_old_names() -> None:
    """Restore names that files of 2019 use and today's packages lack."""
    for name in ("Iterable", "Sequence", "Mapping", "Callable"):
        if not hasattr(collections, name):
            setattr(collections, name, getattr(collections.abc, name))
    for kind in (float, int, bool, object):
        if kind.__name__ not in vars(numpy):
            setattr(numpy, kind.__name__, kind)
    try:
        from PIL import Image
    except ImportError:
        return
    for old, new in (("ANTIALIAS", "LANCZOS"), ("LINEAR", "BILINEAR"), ("CUBIC", "BICUBIC")):
        if not hasattr(Image, old):
            setattr(Image, old, getattr(Image, new))


def import_student(path: Path, folder: Path) -> tuple[ModuleType, list[str]]:
    """Return the student's module and the names of missing packages.

    Args:
        path: student_code.py, whatever its name.
        folder: of the submission; imports below it get stand-ins.
    """
    _restore_old_names()
    stand_ins = StandIns(folder)
    sys.meta_path[:] = [Refused(), _Changed(), *sys.meta_path, stand_ins]
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("student_code", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["student_code"] = module
    for name in ("display", "get_ipython"):  # as in a notebook
        setattr(module, name, _Missing(name))
    spec.loader.exec_module(module)
    _Missing.loading = False
    return module, stand_ins.names
