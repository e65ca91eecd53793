"""A worker process for test_worker: it prints more than its result, or ends as its first argument says."""

import os
import sys

from scenelab.errors import Diverged, Interrupted, LabError

ENDS = {
    "invalid": LabError("no such device"),
    "diverged": Diverged("the loss is nan"),
    "interrupted": Interrupted("stopped at step 4"),
    "broken": MemoryError("no more"),
    "killed": SystemExit(3),
}


def worker(what: str, *arguments: object) -> list[object]:
    print("noise")
    print("warning", file=sys.stderr)
    if what in ENDS:
        raise ENDS[what]
    return [os.environ.get("GOMP_SPINCOUNT"), what, *arguments]
