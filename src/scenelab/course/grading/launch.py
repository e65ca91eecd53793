"""Launcher for root: bind-mount folders where another user can enter them, change to this user, and run a command.

Usage: `python -I launch.py USER PLACE COUNT SOURCE… COMMAND…`. The COUNT sources are mounted at PLACE/0, PLACE/1, … in
a private mount namespace, so that bubblewrap, which runs as the user, can mount them again. COMMAND begins with an
absolute path.
"""

import ctypes
import os
import sys

CLONE_NEWNS = 0x00020000
MS_BIND, MS_REC, MS_PRIVATE = 1 << 12, 1 << 14, 1 << 18
PR_SET_NO_NEW_PRIVS = 38


def main() -> None:
    """Mount the sources, change the user, and execute the command; exit with status 1 if a step fails."""
    user, place, count = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    sources, command = sys.argv[4 : 4 + count], sys.argv[4 + count :]
    libc = ctypes.CDLL(None, use_errno=True)

    def call(name: str, *arguments: object) -> None:
        if getattr(libc, name)(*arguments) != 0:
            raise OSError(ctypes.get_errno(), f"{name} {arguments}: {os.strerror(ctypes.get_errno())}")

    if sources:
        call("unshare", CLONE_NEWNS)
        call("mount", b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        for number, source in enumerate(sources):
            call("mount", os.fsencode(source), f"{place}/{number}".encode(), None, MS_BIND | MS_REC, None)
    os.setgroups([])
    os.setresgid(user, user, user)
    os.setresuid(user, user, user)
    call("prctl", PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.execv(command[0], command)  # execvp would import a module, which the user may be unable to read


if __name__ == "__main__":
    main()
