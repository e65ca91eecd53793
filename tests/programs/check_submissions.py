"""Run the kit's checks on submissions without scenelab: FOLDER holds checks/, and NAME/code/student_code.py each.

Arguments: FOLDER, then NAME=PART[,PART…]. Print JSON: by name the verdicts by check, the
printed text, and the CPU seconds.
"""

import contextlib
import io
import json
import os
import sys
import time
from pathlib import Path


class Block:
    """An import of scenelab by the checks, not by a submission, ends the program."""

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("scenelab", "scenelab_runner"):
            raise SystemExit(f"{name} was imported")


sys.dont_write_bytecode = True
sys.meta_path.insert(0, Block())
os.environ["TORCHDYNAMO_DISABLE"] = "1"  # as check.py does
folder = Path(sys.argv[1])
sys.path.insert(0, str(folder))

from checks import self_check  # noqa: E402

results = {}
for argument in sys.argv[2:]:
    name, _, parts = argument.partition("=")
    begun, output, verdicts = time.process_time(), io.StringIO(), {}
    with self_check.restored(), contextlib.redirect_stdout(output):
        checker = self_check.Checker(folder / name / "code" / "student_code.py")
        for part in parts.split(","):
            verdicts |= (found := dict(self_check.run_part(checker, part)))
            self_check.print_part(part, found, checker.remarks())
    rows = {check: [verdict.status, verdict.share, verdict.reason] for check, verdict in verdicts.items()}
    results[name] = {"verdicts": rows, "printed": output.getvalue(), "seconds": time.process_time() - begun}
print(json.dumps(results))
