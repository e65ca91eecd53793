"""Write a file many times; or, with the argument `die`, be killed while a file and a folder are half written."""

import os
import signal
import sys
from pathlib import Path

from scenelab.io import atomic_write, temporary_folder, write_json

if __name__ == "__main__":
    path = Path(sys.argv[1])
    if sys.argv[2:] == ["die"]:
        with temporary_folder(path), atomic_write(path):
            os.kill(os.getpid(), signal.SIGKILL)
    for number in range(200):
        write_json(path, [number] * 100)
