"""Run this Python as an ordinary user; the tests may run as root, with Python in root's home."""

import os
import subprocess
import sys
from pathlib import Path

from scenelab.course.grading import bubblewrap, sandbox


def as_ordinary_user(script, *arguments):
    """Run a script as another user, in a mount namespace where that user can reach Python."""
    command = [sys.executable, "-c", script, *arguments]
    if os.getuid() == 0:
        folders = [real for real, _ in bubblewrap.python_folders()] + [str(Path(sandbox.__file__).parents[3])]
        closed = [folder for folder in folders if not bubblewrap.open_to_others(Path(folder))]
        paths = [[path for path in reversed(Path(folder).parents) if path != Path("/")] for folder in closed]
        tops = {next(path for path in each if not path.stat().st_mode & 1) for each in paths}
        lines = ["mount --make-rprivate /", "mkdir -p /tmp/scenelab-try"]
        for number, folder in enumerate(closed):
            lines += [f"mkdir -p /tmp/scenelab-try/{number}", f"mount --bind {folder} /tmp/scenelab-try/{number}"]
        lines += [f"mount -t tmpfs -o mode=755 tmpfs {top}" for top in sorted(tops)]
        for number, folder in enumerate(closed):
            lines += [f"mkdir -p {folder}", f"mount --bind /tmp/scenelab-try/{number} {folder}"]
        lines += ['exec setpriv --reuid 60099 --regid 60099 --clear-groups env HOME=/tmp "$@"']
        command = ["unshare", "-m", "sh", "-e", "-c", "\n".join(lines), "sh", *command]
    return subprocess.run(command, capture_output=True, text=True, check=False)
