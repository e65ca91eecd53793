"""Importing a student's file: packages that are not here become stand-ins, the grader's own are out of reach."""

import ast
import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

OURS = "scenelab"


def _inner(owner: str, name: str) -> Any:
    """A name inside a package that is not here."""
    if name == "__version__":
        return "0"
    if name.startswith("__"):
        raise AttributeError(name)
    return _Missing(f"{owner}.{name}")


SILENT = ("wandb", "tensorboardX", "loguru", "mlflow", "comet_ml", "visdom", "IPython", "neptune", "clearml", "ipdb",
          "pudb", "icecream", "termcolor", "colorama", "tqdm", "rich", "torchsummary", "torchinfo", "livelossplot",
          "display", "get_ipython", "google")  # fmt: skip
"""Packages that show and write things: what they would do changes no answer, so nothing is done."""


class _Missing:
    """Any name of a package that is not here: it may be imported and passed on, and says so when it is used."""

    loading = True  # while the student's file is imported, a call gives another stand-in: writer = SummaryWriter()

    def __init__(self, name: str) -> None:
        self.__name__ = name

    def __getattr__(self, name: str) -> Any:
        return _inner(self.__name__, name)

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if _Missing.loading or self.__name__.partition(".")[0].partition("(")[0] in SILENT:
            decorated = len(arguments) == 1 and not named and callable(arguments[0])
            return arguments[0] if decorated else _Missing(f"{self.__name__}(…)")
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
    """A package that is not here."""

    def __getattr__(self, name: str) -> Any:
        return _inner(self.__name__, name)


class StandIns(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Asked last: what nobody else finds, for imports that stand in the student's own files and are not tried there."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)
        self.names: list[str] = []
        self._tried: dict[str, list[range]] = {}

    def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> importlib.machinery.ModuleSpec | None:
        frame = sys._getframe(1)
        while frame is not None and ("importlib" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
            frame = frame.f_back
        if frame is None or not frame.f_code.co_filename.startswith(self.folder):
            return None
        if any(frame.f_lineno in lines for lines in self._lines_tried(frame.f_code.co_filename)):
            return None
        return importlib.machinery.ModuleSpec(fullname, self, is_package=True)

    def _lines_tried(self, filename: str) -> list[range]:
        """Lines of a file in the body of a try with handlers: there the student has thought of a failing import."""
        if filename not in self._tried:
            tree = ast.parse(Path(filename).read_bytes())
            found = [node for node in ast.walk(tree) if isinstance(node, ast.Try) and node.handlers]
            self._tried[filename] = [
                range(node.body[0].lineno, (node.body[-1].end_lineno or node.body[-1].lineno) + 1) for node in found
            ]
        return self._tried[filename]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        self.names.append(spec.name)
        return _StandIn(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        module.__path__ = []


class _Changed(importlib.abc.MetaPathFinder):
    """Changes two packages when they are imported: matplotlib draws without a screen, whatever backend a file asks for;
    of torchvision, which takes longer to import than a grading, nothing is imported for `torchvision.utils` alone.
    """

    def __init__(self) -> None:
        self._whole: Callable[[], None] | None = None

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        if fullname.startswith("torchvision.") and fullname != "torchvision.utils":
            self._import_whole()
        if fullname not in ("matplotlib", "torchvision"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            change = _without_screen if fullname == "matplotlib" else self._later
            spec.loader.exec_module = lambda module: change(module, run)
        return spec

    def _later(self, module: ModuleType, run: Callable[[ModuleType], None]) -> None:
        def find(name: str) -> Any:
            if name == "utils" and self._whole is not None:
                return importlib.import_module("torchvision.utils")
            if name.startswith("__") and name != "__version__":
                raise AttributeError(f"module torchvision has no attribute {name}")
            self._import_whole()
            return getattr(module, name)

        def whole() -> None:
            del module.__getattr__
            run(module)

        module.__getattr__ = find  # pyright: ignore[reportAttributeAccessIssue]
        self._whole = whole

    def _import_whole(self) -> None:
        whole, self._whole = self._whole, None
        if whole is not None:
            whole()


def _without_screen(module: ModuleType, run: Callable[[ModuleType], None]) -> None:
    run(module)
    module.use = lambda *_arguments, **_named: None  # pyright: ignore[reportAttributeAccessIssue]


class Refused(importlib.abc.MetaPathFinder):
    """Asked first: the grader's own package is not there for a student."""

    def find_spec(self, fullname: str, _path: Any = None, _target: Any = None) -> None:
        if fullname.partition(".")[0] == OURS:
            raise ModuleNotFoundError(f"{fullname} is not part of the assignment; write the answer yourself")


def _bring_back_old_names() -> None:
    """Names that files of 2019 use and today's packages lack."""
    import collections
    import collections.abc

    import numpy

    for name in ("Iterable", "Sequence", "Mapping", "Callable"):
        if not hasattr(collections, name):
            setattr(collections, name, getattr(collections.abc, name))
    for name, kind in (("float", float), ("int", int), ("bool", bool), ("object", object)):
        if name not in vars(numpy):
            setattr(numpy, name, kind)
    try:
        from PIL import Image
    except ImportError:
        return
    for old, new in (("ANTIALIAS", "LANCZOS"), ("LINEAR", "BILINEAR"), ("CUBIC", "BICUBIC")):
        if not hasattr(Image, old):
            setattr(Image, old, getattr(Image, new))


def import_student(path: Path, folder: Path) -> tuple[ModuleType, list[str]]:
    """The student's module, and the names of the packages that were stood in for.

    Args:
        path: student_code.py, whatever it is called.
        folder: what the student handed in; imports below it get stand-ins.
    """
    _bring_back_old_names()
    sys.meta_path.insert(0, _Changed())
    stand_ins = StandIns(folder)
    sys.meta_path.insert(0, Refused())
    sys.meta_path.append(stand_ins)
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("student_code", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["student_code"] = module
    for name in ("display", "get_ipython"):  # what a notebook has
        setattr(module, name, _Missing(name))
    spec.loader.exec_module(module)
    _Missing.loading = False
    return module, stand_ins.names
