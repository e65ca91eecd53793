"""Run scenelab's command line without what Windows lacks: POSIX modules, functions of `os` and `signal`, and /proc.

Only scenelab's own modules are affected, since the libraries have code for each system.
"""

import builtins
import os
import signal
import subprocess
import sys
from types import ModuleType

OURS = ("scenelab", "scenelab_runner", "scenelab_scenes")
MODULES = "fcntl resource pwd grp termios posix pty tty syslog curses readline".split()
OS = """
    fork forkpty sched_getaffinity sched_setaffinity getuid geteuid getgid getegid setsid killpg getpgid getpgrp setpgid
    mkfifo statvfs fstatvfs uname pidfd_open memfd_create chown lchown fchown sysconf nice fchmod posix_fadvise
    posix_fallocate getloadavg openpty ttyname wait3 wait4 pwrite pread sendfile fdatasync sync
    O_DIRECTORY O_NOFOLLOW O_NONBLOCK O_CLOEXEC
""".split()
SIGNALS = "SIGKILL SIGHUP SIGALRM SIGUSR1 SIGUSR2 SIGQUIT SIGSTOP SIGTSTP SIGCONT SIGPIPE SIGCHLD".split()
SIGNALS += ["pthread_sigmask", "setitimer", "alarm"]


def is_ours(depth: int = 2) -> bool:
    return sys._getframe(depth).f_globals.get("__name__", "").partition(".")[0] in OURS


def without(module: ModuleType, names: list[str]) -> ModuleType:
    copy = ModuleType(module.__name__)
    copy.__dict__.update({name: value for name, value in vars(module).items() if name not in names})
    return copy


def hide() -> None:
    copies = {"os": without(os, OS), "signal": without(signal, SIGNALS)}
    import_module, open_file, start = builtins.__import__, builtins.open, subprocess.Popen.__init__

    def import_ours(name, *arguments, **options):
        if is_ours() and name.partition(".")[0] in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return copies[name] if is_ours() and name in copies else import_module(name, *arguments, **options)

    def open_ours(file, *arguments, **options):
        if is_ours() and isinstance(file, str | os.PathLike) and os.fspath(file).startswith(("/proc", "/dev/shm")):
            raise FileNotFoundError(2, "No such file or directory", file)
        return open_file(file, *arguments, **options)

    def popen(self, *arguments, preexec_fn=None, pass_fds=(), **options):
        if preexec_fn or pass_fds:
            raise ValueError("preexec_fn and pass_fds are not supported on Windows platforms")
        start(self, *arguments, **options)

    builtins.__import__, builtins.open, subprocess.Popen.__init__ = import_ours, open_ours, popen


if __name__ == "__main__":
    hide()
    from scenelab.cli.main import run

    sys.exit(run(sys.argv[1:]))
