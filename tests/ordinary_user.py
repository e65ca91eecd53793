"""Run this Python as an ordinary user; the tests may run as root, with Python in root's home."""

import os
import subprocess
import sys
from pathlib import Path

from scenelab.course.grading import bubblewrap, sandbox


def as_this_user(script, *arguments):
    """Run a script as the user of the tests."""
    return _run([sys.executable, "-c", script, *arguments])


def _run(command):
    return subprocess.run(command, capture_output=True, text=True, check=False)


def as_ordinary_user(script, *arguments):
    """Run a script as another user, in a mount namespace where that user can reach Python."""
    if os.getuid() != 0:
        return as_this_user(script, *arguments)
    folders = [real for real, _ in bubblewrap.python_folders()] + [str(Path(sandbox.__file__).parents[3])]
    closed = [folder for folder in folders if not bubblewrap.open_to_others(Path(folder))]
    tops = sorted(
        {str(next(p for p in reversed(Path(f).parents) if p != Path("/") and not p.stat().st_mode & 1)) for f in closed}
    )
    lines = ["mount --make-rprivate /", "mkdir -p /tmp/scenelab-try"]
    for number, folder in enumerate(closed):
        lines += [f"mkdir -p /tmp/scenelab-try/{number}", f"mount --bind {folder} /tmp/scenelab-try/{number}"]
    lines += [f"mount -t tmpfs -o mode=755 tmpfs {top}" for top in tops]
    for number, folder in enumerate(closed):
        lines += [f"mkdir -p {folder}", f"mount --bind /tmp/scenelab-try/{number} {folder}"]
    lines += ['exec setpriv --reuid 60099 --regid 60099 --clear-groups env HOME=/tmp "$@"']
    return _run(["unshare", "-m", "sh", "-e", "-c", "\n".join(lines), "sh", sys.executable, "-c", script, *arguments])
