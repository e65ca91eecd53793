"""Loading of a submission: copy it, install the audit hook, and import it with stand-ins for missing packages."""

import importlib.abc
import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import torch

from scenelab_runner import gpu
from scenelab_runner.audit import Audit
from scenelab_runner.message import Message
from scenelab_runner.record import Record, records
from scenelab_runner.stand_ins import Missing, Refusal, StandIns, restore_old_names

LARGE_FILE = 4 << 20  # bytes; larger files are linked to the read-only original
MAX_COPIED = 32 << 20  # bytes, all copied files together
_modes: list[gpu.OnCpu] = []


def load_student(request: Message, record: Record) -> tuple[ModuleType, Message]:
    """Import the student's file in a writable copy of the submission.

    Return the module, and a reply with the names of missing packages (`missing`). Request values: folder (of the
    submission), path (of the student's file, relative to the folder), scanned (see `Audit`), emulate_gpu (bool).
    """
    values = request.values
    folder = copy_submission(Path(values["folder"]))
    path = folder / values["path"]
    record.root = f"{folder}/"
    records.append(record)
    os.chdir(path.parent)
    if values["emulate_gpu"]:
        gpu.emulate()
        _modes.append(gpu.OnCpu())
        _modes[0].__enter__()
    make = numpy.random.default_rng
    numpy.random.default_rng = lambda seed=None: make(0 if seed is None else seed)  # reproducible without a seed
    audit = Audit(record, values["scanned"], str(Path(__file__).parent))
    audit.install()
    _watch_operators(audit)
    restore_old_names()
    stand_ins = StandIns(folder)
    sys.meta_path[:] = [Refusal(), _Changed(), *sys.meta_path, stand_ins]
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location("student_code", path)
    assert spec is not None
    module = sys.modules["student_code"] = importlib.util.module_from_spec(spec)
    for name in ("display", "get_ipython"):  # as in a notebook
        setattr(module, name, Missing(name))
    stand_ins.execute(module)
    Missing.loading = False
    return module, Message({"missing": sorted(set(stand_ins.names))[:50]})


def copy_submission(source: Path) -> Path:
    """Copy a submission to a new folder in TMPDIR, with symbolic links for large files; return the folder."""
    target = Path(tempfile.mkdtemp(prefix="submission-"))
    copied = 0
    for folder, names, files in os.walk(source):
        place = target / Path(folder).relative_to(source)
        for name in names:
            (place / name).mkdir(exist_ok=True)
        for name in files:
            path = Path(folder, name)
            size = path.stat().st_size
            if size > LARGE_FILE or copied + size > MAX_COPIED:
                (place / name).symlink_to(path)
            else:
                shutil.copyfile(path, place / name)
                copied += size
    return target


def _watch_operators(audit: Audit) -> None:
    """Flag each torch operator or kernel that the student registers, because its calls cannot be traced back."""
    make = torch._C._dispatch_library

    def watched(kind: str, namespace: str, *args: Any) -> Any:
        text = f"registers an operator or a kernel of torch ({namespace})"
        audit.flag_caller(text, ("/torch/library.py", "/torch/_library/"), args, sys._getframe(1))
        return make(kind, namespace, *args)

    torch._C._dispatch_library = watched


class _Changed(importlib.abc.MetaPathFinder):
    """Import finder, near the start of sys.meta_path, that adapts matplotlib and torchvision.

    `matplotlib.use` has no effect, so that no backend opens a window. torchvision is slow to import, so it is loaded
    only when a part other than `torchvision.utils` is used.
    """

    _load = staticmethod(lambda: None)  # set by `_delay`: loads all of torchvision

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if fullname.startswith("torchvision.") and fullname != "torchvision.utils":
            self._load()
        if fullname not in ("matplotlib", "torchvision"):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            change = _without_screen if fullname == "matplotlib" else self._delay
            spec.loader.exec_module = lambda module: change(module, run)
        return spec

    def _delay(self, module: Any, run: Callable[[ModuleType], None]) -> None:
        def load() -> None:
            if vars(module).pop("__getattr__", None) is not None:
                run(module)

        def get(name: str) -> Any:
            if name == "utils":
                return importlib.import_module("torchvision.utils")
            if name.startswith("__") and name != "__version__":
                raise AttributeError(f"module torchvision has no attribute {name}")
            load()
            return getattr(module, name)

        module.__getattr__, self._load = get, load


def _without_screen(module: Any, run: Callable[[ModuleType], None]) -> None:
    run(module)
    module.use = lambda *_args, **_kwargs: None
