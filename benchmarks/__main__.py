"""The entry point of the benchmarks: python -m benchmarks NAME [--json] [options]; NAME --help lists the options."""

import os
import sys
from pathlib import Path

from scenelab.runtime import prepare

if __name__ == "__main__":
    prepare()  # before torch loads
    here = str(Path(__file__).parents[1])  # for child processes, which import the benchmarks too
    os.environ["PYTHONPATH"] = os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])])
    from benchmarks.run import run

    sys.exit(run(sys.argv[1:]))
