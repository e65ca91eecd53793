"""Audit hook (PEP 578) that flags suspicious actions which static analysis of the submission cannot find.

An audit hook cannot be removed, and forked processes inherit it. It flags code that was generated at run time or that
the grader has not read, new processes, and access to interpreter internals that could disable the detection of native
convolutions.
"""

import hashlib
import os
import re
import sys
import sysconfig
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from types import CodeType, FrameType
from typing import Any

from scenelab_runner.record import Record

GENERATING = """
    /torch/fx/ /torch/jit/ /torch/_dynamo/ /torch/_jit_internal.py /attr/ /pydantic /sympy/ /jinja2/ /scipy/
    /matplotlib/ /numpy/_ /numpy/ma/ /decorator.py /jaxtyping/ /typeguard/ /beartype/
""".split()  # parts of the paths of packages that generate code and run it
GENERATORS = (
    *("dataclasses.py typing.py inspect.py enum.py functools.py types.py annotationlib.py".split()),
    *("collections/__init__.py reprlib.py pickle.py copyreg.py ast.py".split()),
)
"""Modules of the standard library that run only code that they generated, unlike timeit, code and runpy."""
HARMLESS = "fc-list uname ldconfig nvidia-smi hostname lscpu".split()  # programs that only describe the machine
SYSTEM = ("/bin", "/usr/bin", "/sbin", "/usr/sbin")
CALLS = "exec eval compile __import__ getattr system popen Popen fork run CDLL import_module load_library".split()
PROCESSES = "os.fork os.forkpty os.posix_spawn os.spawn os.exec os.system subprocess.Popen pty.spawn".split()
REACHING = """
    gc.get_objects gc.get_referrers gc.get_referents sys._current_frames sys.settrace sys.setprofile sys.addaudithook
""".split()
CTYPES = ("ctypes", ("/ctypes/",))
DIRECT: dict[str, tuple[str, tuple[str, ...]]] = {
    "compile": ("compiles code at run time", ()),
    "code.__new__": ("makes code objects", ()),
    "marshal.loads": ("makes code objects", ()),
    "sys._getframe": ("sys._getframe", ()),
    **{f"ctypes.{name}": CTYPES for name in ("dlsym", "string_at", "cdata", "call_function")},
}  # per audit event: the text of the flag, and parts of the paths of files to skip in the search for the caller
MEMORY = re.compile(r"^/proc/(self|thread-self|\d+)/(task/\d+/)?(mem|maps|smaps|pagemap|fd|root|cwd|environ)\b")
IMPORTING = "<frozen importlib"
FOREIGN = "code that is not the submission's own"
PATH = os.environ.get("PATH")


class Audit:
    """Audit hook (PEP 578) with event handlers that write review flags to the record.

    Args:
        record: record that receives the review flags.
        scanned: SHA-256 of each file of the submission whose syntax tree the grader has read, by relative path.
        own: folder of the runner. Its code is trusted, and so are Python and the installed packages.
    """

    def __init__(self, record: Record, scanned: dict[str, str], own: str) -> None:
        self._record, self._root, self._scanned = record, record.root, scanned
        prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
        paths = {path for path in prefixes if path and path != "/"}
        paths |= {*map(os.path.realpath, paths), own}
        trusted = ("<frozen ", *sorted(path.rstrip("/") + "/" for path in paths))
        self._is_trusted = cache(lambda name: name.startswith(trusted))
        self._generating = (*GENERATING, f"{own}/")
        self._library = tuple({sysconfig.get_path("stdlib"), os.path.realpath(sysconfig.get_path("stdlib"))})

    def install(self) -> None:
        """Add the audit hook to this process, which cannot remove it again."""
        handlers: dict[str, Callable[[tuple[Any, ...], FrameType], None]] = {
            "exec": self._on_exec,
            "import": self._on_import,
            "open": self._on_open,
            "ctypes.dlopen": self._on_dlopen,
            "pickle.find_class": self._on_pickle,
        }
        handlers |= {event: partial(self.flag_caller, *text) for event, text in DIRECT.items()}
        handlers |= {event: partial(self._on_process, event) for event in PROCESSES}
        handlers |= {event: partial(self._on_reaching, event) for event in REACHING}
        busy: set[int] = set()
        identify, getframe = threading.get_ident, sys._getframe

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            handler, thread = handlers.get(event), identify()
            if handler is None or thread in busy:  # busy: a handler caused this event
                return
            busy.add(thread)
            try:
                handler(arguments, getframe(1))
            finally:
                busy.discard(thread)

        sys.addaudithook(hook)

    def flag_caller(self, text: str, through: tuple[str, ...], _arguments: Any, frame: FrameType | None) -> None:
        """Write a review flag with the caller's file and line, if the caller is untrusted.

        The caller is the innermost frame, from `frame` outward, whose file path contains no string of `through`.
        """
        while frame is not None and any(part in frame.f_code.co_filename for part in through):
            frame = frame.f_back
        if frame is not None and not self._is_trusted(frame.f_code.co_filename):
            self._flag(self._place(frame), text)

    def _flag(self, place: str | None, text: str) -> None:
        self._record.flag(f"{place}: {text}")

    def _is_read(self, name: str) -> bool:
        """Return whether the grader has read the file at this path and the file is unchanged since."""
        expected = self._scanned.get(os.path.relpath(name, self._root)) if name.startswith(self._root) else None
        if expected is not None:
            with suppress(OSError), open(name, "rb") as file:
                return hashlib.sha256(file.read()).hexdigest() == expected
        return False

    def _place(self, frame: FrameType | None) -> str | None:
        """Return the file and line of the innermost untrusted caller, "" if all are trusted, None during an import."""
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(IMPORTING):
                return None
            if not self._is_trusted(name):
                return self._record.place(frame) or f"code made at run time ({name[:60]})"
            frame = frame.f_back
        return ""

    def _display(self, name: str) -> str:
        return os.path.relpath(name, self._root) if name.startswith(self._root) else name[:120]

    def _on_exec(self, arguments: tuple[Any, ...], frame: FrameType) -> None:
        code = arguments[0]
        if not isinstance(code, CodeType):
            return
        caller, name = frame.f_code.co_filename, code.co_filename
        if not self._is_trusted(caller):
            self._flag(self._place(frame), "runs code that was made at run time (exec, eval)")
        elif caller.startswith(IMPORTING):
            if not self._is_trusted(name) and not self._is_read(name):
                self._record.flag(f"{self._display(name)} was imported and had not been read")
        elif not (self._is_trusted(name) and name.startswith("/")) and not self._is_read(name):
            standard = caller.startswith(self._library) and "/site-packages/" not in caller
            generated = caller.endswith(GENERATORS) if standard else any(part in caller for part in self._generating)
            if not generated and (place := self._place(frame)):
                self._flag(place, f"runs code through {os.path.basename(caller)}")

    def _on_import(self, arguments: tuple[Any, ...], _frame: FrameType) -> None:
        name = arguments[1]
        if isinstance(name, str) and not self._is_trusted(name) and not self._is_read(name):
            self._record.flag(f"{self._display(name)} was imported and cannot be read")

    def _on_open(self, arguments: tuple[Any, ...], frame: FrameType) -> None:
        name = _path(arguments[0])
        if MEMORY.match(name) and (place := self._place(frame)):
            self._flag(place, f"opens {name[:60]}")
        elif name.endswith(".pyc") and not self._is_trusted(name) and os.path.exists(name):
            self._record.flag(f"{self._display(name)} is compiled code, which cannot be read")

    def _on_process(self, event: str, arguments: tuple[Any, ...], frame: FrameType) -> None:
        place = self._place(frame)
        if place is None:
            return
        if event == "subprocess.Popen":
            executable, command, _, environment = arguments
            folder, name = os.path.split(str(executable or (command or [""])[0]))
            preloads = any(key.startswith("LD_") for key in os.environ)
            usual = environment is None and os.environ.get("PATH") == PATH and not preloads
            if name in HARMLESS and usual and folder in ("", *SYSTEM):  # a program of the system
                self._record.note("helper", name)
                return
        self._flag(place or FOREIGN, f"starts a process ({event}), in which nothing is watched")

    def _on_dlopen(self, arguments: tuple[Any, ...], frame: FrameType) -> None:
        name, place = _path(arguments[0]), self._place(frame)
        real = os.path.realpath(name)
        if "/" in name and not self._is_trusted(real) and not real.startswith(("/usr/lib", "/lib")):
            self._flag(place or "a library", f"loads machine code, {self._display(name)}")
        elif place is not None:
            self.flag_caller(*CTYPES, arguments, frame)

    def _on_pickle(self, arguments: tuple[Any, ...], frame: FrameType) -> None:
        module, name = str(arguments[0]), str(arguments[1])
        if name.rpartition(".")[2] in CALLS:
            self._record.flag(f"{self._place(frame) or FOREIGN}: a pickle calls {module}.{name}"[:200])

    def _on_reaching(self, event: str, _arguments: tuple[Any, ...], frame: FrameType) -> None:
        if place := self._place(frame):
            self._flag(place, event)


def _path(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, (str, bytes)) else ""
