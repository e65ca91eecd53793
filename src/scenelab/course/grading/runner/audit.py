"""What a student's code does that a reader of its files would not see: an audit hook of the interpreter (PEP 578).

A hook cannot be taken away again and is inherited by processes that are forked. Each thing that deserves a look is
written to the record at once: code that was made at run time or lies where nobody read it, processes, and ways into
the interpreter by which the watch for native convolutions could be silenced.
"""

import hashlib
import os
import re
import sys
import sysconfig
import threading
from collections.abc import Callable
from functools import partial
from types import CodeType, FrameType
from typing import Any

from runner.record import Record

GENERATING = (
    "/torch/fx/", "/torch/jit/", "/torch/_dynamo/", "/torch/_jit_internal.py", "/attr/", "/pydantic", "/sympy/",
    "/jinja2/", "/scipy/", "/matplotlib/", "/numpy/_", "/numpy/ma/", "/decorator.py", "/jaxtyping/", "/typeguard/",
    "/beartype/", "/runner/",
)  # fmt: skip
"""Packages that run code which they have made themselves."""
HARMLESS = ("fc-list", "uname", "ldconfig", "nvidia-smi", "hostname", "lscpu")
"""Programs that libraries start to learn of the machine, and that run no others."""
SYSTEM = ("/bin", "/usr/bin", "/sbin", "/usr/sbin")
CALLS = ("exec", "eval", "compile", "__import__", "getattr", "system", "popen", "Popen", "fork", "run", "CDLL",
         "import_module", "load_library")  # fmt: skip
"""Functions by which a pickle runs code."""
GENERATORS = ("dataclasses.py", "typing.py", "inspect.py", "enum.py", "functools.py", "types.py", "annotationlib.py",
              "collections/__init__.py", "reprlib.py", "pickle.py", "copyreg.py", "ast.py")  # fmt: skip
"""Modules of the standard library that run code which they have made themselves; timeit, code, runpy, … run others'."""
PROCESSES = ("os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.exec", "os.system", "subprocess.Popen",
             "pty.spawn")  # fmt: skip
REACHING = ("gc.get_objects", "gc.get_referrers", "gc.get_referents", "sys._current_frames", "sys.settrace",
            "sys.setprofile", "sys.addaudithook")  # fmt: skip
MEMORY = re.compile(r"^/proc/(self|thread-self|\d+)/(task/\d+/)?(mem|maps|smaps|pagemap|fd|root|cwd|environ)\b")
IMPORTING = "<frozen importlib"
PATH = os.environ.get("PATH")


class Audit:
    """The hook's handlers.

    Args:
        record: takes the marks.
        root: the folder that the submission lies in.
        scanned: SHA-256 of each file below it whose syntax tree was read, by its path.
        trusted: folders of Python, of its packages, and of the grader's own code in the sandbox.
    """

    def __init__(self, record: Record, root: str, scanned: dict[str, str], own: str) -> None:
        self._record, self._root, self._scanned = record, root, scanned
        paths = {*map(os.path.realpath, _python_paths()), *_python_paths(), own}
        self._trusted = tuple(sorted(path.rstrip("/") + "/" for path in paths))
        self._library = tuple({sysconfig.get_path("stdlib"), os.path.realpath(sysconfig.get_path("stdlib"))})
        self._busy: set[int] = set()
        self._known: dict[str, bool] = {}

    def install(self) -> None:
        """From here on, for the life of the process."""
        handlers: dict[str, Callable[[tuple[Any, ...], FrameType], None]] = {
            "exec": self._on_exec, "compile": self._on_compile, "import": self._on_import, "open": self._on_open,
            "code.__new__": self._on_code, "marshal.loads": self._on_code, "sys._getframe": self._on_frame,
            "ctypes.dlopen": self._on_dlopen, "ctypes.dlsym": self._on_ctypes, "ctypes.string_at": self._on_ctypes,
            "ctypes.cdata": self._on_ctypes, "ctypes.call_function": self._on_ctypes,
            "pickle.find_class": self._on_pickle,
        }  # fmt: skip
        handlers |= {event: partial(self._on_process, event) for event in PROCESSES}
        handlers |= {event: partial(self._on_reaching, event) for event in REACHING}
        busy, identify, getframe = self._busy, threading.get_ident, sys._getframe

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            handler = handlers.get(event)
            if handler is None:
                return
            thread = identify()
            if thread in busy:
                return  # what a handler itself does
            busy.add(thread)
            try:
                handler(arguments, getframe(1))
            finally:
                busy.discard(thread)

        sys.addaudithook(hook)

    def flag_caller(self, text: str, through: tuple[str, ...]) -> None:
        """Mark what the student's code does, itself or by way of these files."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and any(part in frame.f_code.co_filename for part in through):
            frame = frame.f_back
        if frame is not None and not self._is_trusted(frame.f_code.co_filename):
            self._record.flag(f"{self._students(frame)}: {text}")

    def _is_trusted(self, name: str) -> bool:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = name.startswith(("<frozen ", *self._trusted))
        return known

    def _is_read(self, name: str) -> bool:
        """Whether a file is one that the grader has read, and still the same."""
        expected = self._scanned.get(os.path.relpath(name, self._root)) if name.startswith(self._root) else None
        if expected is None:
            return False
        try:
            with open(name, "rb") as file:
                return hashlib.sha256(file.read()).hexdigest() == expected
        except OSError:
            return False

    def _students(self, frame: FrameType | None) -> str:
        """File and line of the student's code behind a frame; "" where an import of a library or none is."""
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(IMPORTING):
                return ""
            if not self._is_trusted(name):
                return self._record.place(frame) or f"code made at run time ({name[:60]})"
            frame = frame.f_back
        return ""

    def _on_exec(self, arguments: tuple[Any, ...], frame: FrameType) -> None:
        code = arguments[0]
        if not isinstance(code, CodeType):
            return
        caller, name = frame.f_code.co_filename, code.co_filename
        if not self._is_trusted(caller):
            self._record.flag(f"{self._students(frame)}: runs code that was made at run time (exec, eval)")
        elif caller.startswith(IMPORTING):
            if not self._is_trusted(name) and not self._is_read(name):
                self._record.flag(f"{self._shown(name)} was imported and had not been read")
        elif not (self._is_trusted(name) and name.startswith("/")) and not self._is_read(name):
            standard = caller.startswith(self._library) and "/site-packages/" not in caller
            made = caller.endswith(GENERATORS) if standard else any(part in caller for part in GENERATING)
            place = "" if made else self._students(frame)
            if place:
                self._record.flag(f"{place}: runs code through {os.path.basename(caller)}")

    def _shown(self, name: str) -> str:
        return os.path.relpath(name, self._root) if name.startswith(self._root) else name[:120]

    def _on_compile(self, _arguments: tuple[Any, ...], frame: FrameType) -> None:
        if not self._is_trusted(frame.f_code.co_filename):
            self._record.flag(f"{self._students(frame)}: compiles code at run time")

    def _on_code(self, _arguments: tuple[Any, ...], frame: FrameType) -> None:
        if not self._is_trusted(frame.f_code.co_filename):
            self._record.flag(f"{self._students(frame)}: makes code objects")

    def _on_import(self, arguments: tuple[Any, ...], _frame: FrameType) -> None:
        name = arguments[1]
        if isinstance(name, str) and not self._is_trusted(name) and not self._is_read(name):
            self._record.flag(f"{self._shown(name)} was imported and cannot be read")

    def _on_open(self, arguments: tuple[Any, ...], frame: FrameType) -> None:
        name = arguments[0]
        name = os.fsdecode(name) if isinstance(name, (str, bytes)) else ""
        if MEMORY.match(name) and self._students(frame):
            self._record.flag(f"{self._students(frame)}: opens {name[:60]}")
        elif name.endswith(".pyc") and not self._is_trusted(name) and os.path.exists(name):
            self._record.flag(f"{self._shown(name)} is compiled code, which cannot be read")

    def _on_frame(self, _arguments: tuple[Any, ...], frame: FrameType) -> None:
        if not self._is_trusted(frame.f_code.co_filename):
            self._record.flag(f"{self._students(frame)}: sys._getframe")

    def _on_ctypes(self, _arguments: tuple[Any, ...], frame: FrameType) -> None:
        caller: FrameType | None = frame
        while caller is not None and "/ctypes/" in caller.f_code.co_filename:
            caller = caller.f_back
        if caller is not None and not self._is_trusted(caller.f_code.co_filename):
            self._record.flag(f"{self._students(caller)}: ctypes")

    def _on_process(self, event: str, arguments: tuple[Any, ...], frame: FrameType) -> None:
        if self._importing(frame):
            return  # a library's own doing
        program = _harmless(arguments) if event == "subprocess.Popen" else ""
        if program:
            self._record.note("helper", program)
            return
        place = self._students(frame) or "code that is not the submission's own"
        self._record.flag(f"{place}: starts a process ({event}), in which nothing is watched")

    def _importing(self, frame: FrameType | None) -> bool:
        """Whether a library is being imported, and what happens is its own doing."""
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(IMPORTING):
                return True
            if not self._is_trusted(name):
                return False
            frame = frame.f_back
        return False

    def _on_dlopen(self, arguments: tuple[Any, ...], frame: FrameType) -> None:
        name = arguments[0]
        name = os.fsdecode(name) if isinstance(name, (str, bytes)) else ""
        outside = "/" in name and not self._is_trusted(os.path.realpath(name))
        if outside and not os.path.realpath(name).startswith(("/usr/lib", "/lib")):
            self._record.flag(f"{self._students(frame) or 'a library'}: loads machine code, {self._shown(name)}")
        elif not self._importing(frame):
            self._on_ctypes(arguments, frame)

    def _on_pickle(self, arguments: tuple[Any, ...], frame: FrameType) -> None:
        module, name = str(arguments[0]), str(arguments[1])
        if name.rpartition(".")[2] in CALLS:
            place = self._students(frame) or "code that is not the submission's own"
            self._record.flag(f"{place}: a pickle calls {module}.{name}"[:200])

    def _on_reaching(self, event: str, _arguments: tuple[Any, ...], frame: FrameType) -> None:
        place = self._students(frame)
        if place:
            self._record.flag(f"{place}: {event}")


def _harmless(arguments: tuple[Any, ...]) -> str:
    """The program that subprocess.Popen starts, if it is one of the system's that run no others; else "".

    Its place has to be the system's: by its path, or by a PATH that is still the one that this process began with.
    """
    executable, command, _, environment = arguments
    program = str(executable or (command or [""])[0])
    folder, name = os.path.split(program)
    usual = (
        environment is None and os.environ.get("PATH") == PATH and not any(key.startswith("LD_") for key in os.environ)
    )
    return name if name in HARMLESS and usual and folder in ("", *SYSTEM) else ""


def _python_paths() -> list[str]:
    """Folders of Python and of what is installed in it."""
    paths = {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
    return [path for path in paths if path and path != "/"]
