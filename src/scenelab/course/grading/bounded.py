"""Processing of untrusted files in a separate process with limited memory and time."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from scenelab.errors import LabError
from scenelab.io import DISK
from scenelab.runtime import run_module


def print_bounded(work: Callable[[], Any], *, memory: int, seconds: int) -> None:
    """Limit this process to `memory` bytes and `seconds` of CPU time, call `work`, and print its result as JSON.

    If the disk is full or broken, print {"disk": error} instead.
    """
    import resource  # POSIX only

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    try:
        result = work()
    except OSError as error:
        if error.errno not in DISK:
            raise
        result = {"disk": error.strerror}
    print(json.dumps(result, default=str))


def run_bounded(module: str, paths: Iterable[Path], folder: Path, arguments: Sequence[str], *, seconds: float) -> Any:
    """Run `python -m MODULE ARGUMENTS…`, which must call `print_bounded`, and return the result decoded from JSON.

    Raises:
        LabError: If the disk is full or broken; the message names the files `paths` and their target `folder`.
        subprocess.TimeoutExpired: If the process takes longer than `seconds`.
        ValueError: If the process prints no valid result.
    """
    result = json.loads(run_module(module, arguments, seconds=seconds).stdout)
    if isinstance(result, dict) and "disk" in result:
        names = ", ".join(path.name for path in paths)
        raise LabError(
            f"cannot unpack {names} below {folder}: {result['disk']}; free space or choose another --out, then run the "
            "command again: it resumes where it stopped"
        )
    return result
