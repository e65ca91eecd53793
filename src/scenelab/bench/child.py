"""Contestants in processes of their own: nothing that one leaves behind is the next one's gain or loss."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from scenelab.errors import LabError
from scenelab.runtime import NEUTRAL, python_command

PREPARE = "from scenelab.runtime import prepare; prepare(); "
SPINS = "GOMP_SPINCOUNT"  # what `prepare` may have set for this process, and a child would inherit


def in_child(module: str, arguments: list[Any], *, prepared: bool, processes: int = 1) -> Any:
    """What `worker(arguments)` of a module prints last, read as JSON, from a fresh Python process.

    Args:
        prepared: whether the process has Scenelab's settings (`scenelab.runtime.prepare`) or is a plain one, as
            somebody's own script is.
        processes: how many of them torchrun starts as one run; the first prints.

    Raises:
        LabError: the process failed.
    """
    code = f"import sys; {PREPARE if prepared else ''}from {module} import worker; worker(sys.argv[1:])"
    inherited = {name: value for name, value in os.environ.items() if name != SPINS}
    absolute = [str(each.resolve() if isinstance(each, Path) else each) for each in arguments]
    command = python_command(["-c", code, *absolute])
    if processes > 1:
        launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "--no-python"]
        command = python_command(["-m", *launch, *command])
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=inherited, cwd=NEUTRAL)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
        raise LabError(f"the measurement of {arguments[0]!r} failed: {reason}; with less memory try a smaller --batch")
    return json.loads(done.stdout.strip().splitlines()[-1])
