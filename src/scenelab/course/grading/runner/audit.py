"""Flag what a reader of the submission's files would not see, by an audit hook of the interpreter (PEP 578).

A hook cannot be removed, and forked processes inherit it. It writes to the record at once: code that was made at run
time or that nobody read, processes, and ways into the interpreter that could silence the watch for native convolutions.
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

GENERATING = """
    /torch/fx/ /torch/jit/ /torch/_dynamo/ /torch/_jit_internal.py /attr/ /pydantic /sympy/ /jinja2/ /scipy/
    /matplotlib/ /numpy/_ /numpy/ma/ /decorator.py /jaxtyping/ /typeguard/ /beartype/
""".split()
"""Packages that run code which they have made themselves."""
GENERATORS = tuple(
    """
    dataclasses.py typing.py inspect.py enum.py functools.py types.py annotationlib.py collections/__init__.py
    reprlib.py pickle.py copyreg.py ast.py
    """.split()
)
"""Modules of the standard library that run code which they have made themselves; timeit, code, runpy, … run others'."""
HARMLESS = "fc-list uname ldconfig nvidia-smi hostname lscpu".split()
"""Programs that libraries start to describe the machine, and that run no others."""
SYSTEM = ("/bin", "/usr/bin", "/sbin", "/usr/sbin")
CALLS = "exec eval compile __import__ getattr system popen Popen fork run CDLL import_module load_library".split()
"""Functions by which a pickle runs code."""
PROCESSES = """
    os.fork os.forkpty os.posix_spawn os.spawn os.exec os.system subprocess.Popen pty.spawn
""".split()
REACHING = """
    gc.get_objects gc.get_referrers gc.get_referents sys._current_frames sys.settrace sys.setprofile sys.addaudithook
""".split()
DIRECT = {
    "compile": "compiles code at run time",
    "code.__new__": "makes code objects",
    "marshal.loads": "makes code objects",
    "sys._getframe": "sys._getframe",
}
MEMORY = re.compile(r"^/proc/(self|thread-self|\d+)/(task/\d+/)?(mem|maps|smaps|pagemap|fd|root|cwd|environ)\b")
IMPORTING = "<frozen importlib"
FOREIGN = "code that is not the submission's own"
PATH = os.environ.get("PATH")


class Audit:
    """The handlers of the hook.

    Args:
        record: gets the review flags.
        root: the submission's folder.
        scanned: SHA-256 of each file below it whose syntax tree the grader has read, by path.
        own: the runner's folder, trusted as Python and its packages are.
    """

    def __init__(self, record: Record, root: str, scanned: dict[str, str], own: str) -> None:
        self._record, self._root, self._scanned = record, root, scanned
        paths = {path for path in _python_paths() if path and path != "/"}
        paths |= {*map(os.path.realpath, paths), own}
        self._trusted = ("<frozen ", *sorted(path.rstrip("/") + "/" for path in paths))
        self._generating = (*GENERATING, f"{own}/")
        self._library = tuple({sysconfig.get_path("stdlib"), os.path.realpath(sysconfig.get_path("stdlib"))})
        self._known: dict[str, bool] = {}

    def install(self) -> None:
        """Add the hook, for the life of the process."""
        handlers: dict[str, Callable[[tuple[Any, ...], FrameType], None]] = {
            "exec": self._on_exec,
            "import": self._on_import,
            "open": self._on_open,
            "ctypes.dlopen": self._on_dlopen,
            "pickle.find_class": self._on_pickle,
        }
        handlers |= {f"ctypes.{name}": self._on_ctypes for name in ("dlsym", "string_at", "cdata", "call_function")}
        handlers |= {event: partial(self._on_direct, text) for event, text in DIRECT.items()}
        handlers |= {event: partial(self._on_process, event) for event in PROCESSES}
        handlers |= {event: partial(self._on_reaching, event) for event in REACHING}
        busy: set[int] = set()
        identify, getframe = threading.get_ident, sys._getframe

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            handler = handlers.get(event)
            if handler is None:
                return
            thread = identify()
            if thread in busy:
                return  # caused by a handler itself
            busy.add(thread)
            try:
                handler(arguments, getframe(1))
            finally:
                busy.discard(thread)

        sys.addaudithook(hook)

    def flag_caller(self, text: str, through: tuple[str, ...]) -> None:
        """Flag what the student's code does, directly or by way of these files."""
        frame: FrameType | None = sys._getframe(2)
        while frame is not None and any(part in frame.f_code.co_filename for part in through):
            frame = frame.f_back
        self._flag_if_students(frame, text)

    def _flag(self, place: str, text: str) -> None:
        self._record.flag(f"{place}: {text}")

    def _flag_if_students(self, frame: FrameType | None, text: str) -> None:
        if frame is not None and not self._is_trusted(frame.f_code.co_filename):
            self._flag(self._place(frame), text)

    def _is_trusted(self, name: str) -> bool:
        known = self._known.get(name)
        if known is None:
            known = self._known[name] = name.startswith(self._trusted)
        return known

    def _is_read(self, name: str) -> bool:
        """Return whether the grader has read a file, and it is unchanged."""
        expected = self._scanned.get(os.path.relpath(name, self._root)) if name.startswith(self._root) else None
        if expected is None:
            return False
        try:
            with open(name, "rb") as file:
                return hashlib.sha256(file.read()).hexdigest() == expected
        except OSError:
            return False

    def _place(self, frame: FrameType | None) -> str:
        """Return file and line of the student's code behind a frame; "" behind a library's import, or without any."""
        frame = self._first_untrusted(frame)
        if frame is None or frame.f_code.co_filename.startswith(IMPORTING):
            return ""
        return self._record.place(frame) or f"code made at run time ({frame.f_code.co_filename[:60]})"

    def _is_importing(self, frame: FrameType | None) -> bool:
        """Return whether a library is being imported, and what happens is its own doing."""
        frame = self._first_untrusted(frame)
        return frame is not None and frame.f_code.co_filename.startswith(IMPORTING)

    def _first_untrusted(self, frame: FrameType | None) -> FrameType | None:
        """Return the innermost frame that is the import system's or not trusted."""
        while frame is not None:
            name = frame.f_code.co_filename
            if name.startswith(IMPORTING) or not self._is_trusted(name):
                return frame
            frame = frame.f_back
        return None

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
            place = "" if generated else self._place(frame)
            if place:
                self._flag(place, f"runs code through {os.path.basename(caller)}")

    def _on_import(self, arguments: tuple[Any, ...], _frame: FrameType) -> None:
        name = arguments[1]
        if isinstance(name, str) and not self._is_trusted(name) and not self._is_read(name):
            self._record.flag(f"{self._display(name)} was imported and cannot be read")

    def _on_open(self, arguments: tuple[Any, ...], frame: FrameType) -> None:
        name = _path(arguments[0])
        if MEMORY.match(name) and self._place(frame):
            self._flag(self._place(frame), f"opens {name[:60]}")
        elif name.endswith(".pyc") and not self._is_trusted(name) and os.path.exists(name):
            self._record.flag(f"{self._display(name)} is compiled code, which cannot be read")

    def _on_direct(self, text: str, _arguments: tuple[Any, ...], frame: FrameType) -> None:
        self._flag_if_students(frame, text)

    def _on_ctypes(self, _arguments: tuple[Any, ...], frame: FrameType) -> None:
        caller: FrameType | None = frame
        while caller is not None and "/ctypes/" in caller.f_code.co_filename:
            caller = caller.f_back
        self._flag_if_students(caller, "ctypes")

    def _on_process(self, event: str, arguments: tuple[Any, ...], frame: FrameType) -> None:
        if self._is_importing(frame):
            return
        program = _harmless(arguments) if event == "subprocess.Popen" else ""
        if program:
            self._record.note("helper", program)
        else:
            self._flag(self._place(frame) or FOREIGN, f"starts a process ({event}), in which nothing is watched")

    def _on_dlopen(self, arguments: tuple[Any, ...], frame: FrameType) -> None:
        name = _path(arguments[0])
        outside = "/" in name and not self._is_trusted(os.path.realpath(name))
        if outside and not os.path.realpath(name).startswith(("/usr/lib", "/lib")):
            self._flag(self._place(frame) or "a library", f"loads machine code, {self._display(name)}")
        elif not self._is_importing(frame):
            self._on_ctypes(arguments, frame)

    def _on_pickle(self, arguments: tuple[Any, ...], frame: FrameType) -> None:
        module, name = str(arguments[0]), str(arguments[1])
        if name.rpartition(".")[2] in CALLS:
            self._record.flag(f"{self._place(frame) or FOREIGN}: a pickle calls {module}.{name}"[:200])

    def _on_reaching(self, event: str, _arguments: tuple[Any, ...], frame: FrameType) -> None:
        place = self._place(frame)
        if place:
            self._flag(place, event)


def _path(value: Any) -> str:
    return os.fsdecode(value) if isinstance(value, (str, bytes)) else ""


def _harmless(arguments: tuple[Any, ...]) -> str:
    """Return the program that subprocess.Popen starts if it is one of `HARMLESS`, else "".

    It must be the system's: by its path, or by the PATH that this process began with.
    """
    executable, command, _, environment = arguments
    folder, name = os.path.split(str(executable or (command or [""])[0]))
    preloads = any(key.startswith("LD_") for key in os.environ)
    usual = environment is None and os.environ.get("PATH") == PATH and not preloads
    return name if name in HARMLESS and usual and folder in ("", *SYSTEM) else ""


def _python_paths() -> set[str]:
    return {sys.prefix, sys.base_prefix, sys.exec_prefix, *sysconfig.get_paths().values()}
