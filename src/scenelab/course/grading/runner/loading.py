"""Load a submission: copy it, watch it, import the student's file."""

import os
import shutil
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import torch

from runner import gpu
from runner.audit import Audit
from runner.imports import import_student
from runner.record import Record
from runner.wire import Message

LARGE_FILE = 4 << 20  # bytes; a larger file is a link to the original, which is read-only
MAX_COPIED = 32 << 20  # bytes of all copies together
records: list[Record] = []
_modes: list[gpu.OnCpu] = []


def load_student(request: Message, record: Record) -> tuple[ModuleType, Message]:
    """Import the student's file in a writable copy of the submission and in its folder.

    Values: `folder` of the submission, `path` of the file below it, `emulate_gpu`, and `scanned`, the SHA-256 of each
    file that the grader has read, by its path.
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
    _seed_generators()
    audit = Audit(record, record.root, values["scanned"], str(Path(__file__).parent))
    audit.install()
    _watch_operators(audit)
    module, missing = import_student(path, folder)
    names = sorted(name for name in vars(module) if not name.startswith("_"))
    return module, Message({"names": names[:500], "missing": sorted(set(missing))[:50]})


def copy_submission(source: Path) -> Path:
    """Copy a folder into a new one below TMPDIR, so that `../logs` beside `code/` can be made; link large files."""
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
    """Flag operators and kernels that the student registers: their calls are not seen as the student's."""
    make = torch._C._dispatch_library

    def watched(kind: str, namespace: str, *args: Any) -> Any:
        text = f"registers an operator or a kernel of torch ({namespace})"
        audit.flag_caller(text, through=("/torch/library.py", "/torch/_library/"))
        return make(kind, namespace, *args)

    torch._C._dispatch_library = watched


def _seed_generators() -> None:
    """Seed NumPy's unseeded generators, so that results are the same in each run."""
    make = numpy.random.default_rng
    numpy.random.default_rng = lambda seed=None: make(0 if seed is None else seed)
