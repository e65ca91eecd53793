"""python -m scenelab: the command line."""

import os
import sys

# -m puts the working directory first, which may be a stranger's: a module in it must not run in the place of another
sys.path[:] = [path for path in sys.path if path not in ("", os.getcwd())]

from scenelab.cli import entry_point  # noqa: E402

if __name__ == "__main__":
    entry_point()
