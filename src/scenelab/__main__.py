"""Entry point of `python -m scenelab`, which is equivalent to the command `scenelab`."""

import os
import sys

# -m puts the working directory first; if it is a stranger's, its modules must not shadow installed ones
sys.path[:] = [path for path in sys.path if path not in ("", os.getcwd())]

from scenelab.cli import entry_point  # noqa: E402

if __name__ == "__main__":
    entry_point()
