"""Read the checkpoints of a folder with 60 MiB of memory left; print how many were refused and the memory taken."""

import re
import resource
import sys
from pathlib import Path

from scenelab.errors import LabError
from scenelab.runs.network import read_classifier
from scenelab.runtime import peak_memory

if __name__ == "__main__":
    size = int(re.search(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[1]) << 10  # type: ignore[index]
    resource.setrlimit(resource.RLIMIT_AS, (size + (60 << 20), resource.getrlimit(resource.RLIMIT_AS)[1]))
    before, refused = peak_memory(), 0
    for path in sorted(Path(sys.argv[1]).glob("*.pth.tar")):
        try:
            read_classifier(path)
        except LabError:
            refused += 1
    print(refused, peak_memory() - before)
