"""Time and memory of grading generated submissions: the solution, the unsolved kit, and mutated solutions."""

import json
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mutants import MUTANTS, mutate, solution, write_as_zip
from scenelab.course.grading.batch import Batch
from scenelab.course.grading.rubric import read_rubric
from scenelab.course.grading.sandbox import best
from scenelab.course.kit import files
from scenelab.runtime import available_cores, resident_memory


def generate(folder: Path, count: int) -> Path:
    """Write `count` submissions to one zip file in the layout of Canvas, and return its path.

    Also write kinds.json next to it, with the kind of each submission by file name.
    """
    folder.mkdir(parents=True)
    kinds = [("solution", solution())]
    kinds += [(change.name, mutate(change)) for change in MUTANTS[::3]]
    kinds.append(("kit", {name: text.encode() for name, text in files(2019).items() if name.startswith("code/")}))
    kind_of = {}
    with zipfile.ZipFile(folder / "submissions.zip", "w") as bulk:
        for number in range(count):
            kind, contents = kinds[number % len(kinds)]
            code = contents["code/student_code.py"] + f"\n# {number}\n".encode()  # makes every submission unique
            contents = {**contents, "code/student_code.py": code}
            late = "_LATE" if number % 9 == 4 else ""
            name = f"student{number}{late}_{1000 + number}_{5000 + number}_submission.zip"
            bulk.write(write_as_zip(folder / name, contents, folder / f"files-{number}"), name)
            kind_of[name] = kind
    (folder / "kinds.json").write_text(json.dumps(kind_of, indent=2))
    return folder / "submissions.zip"


def bench_grading(*, out: Path, count: int = 100, jobs: int = 2) -> dict[str, Any]:
    """Grade generated submissions; measure total seconds, CPU seconds each (upper bound), and memory of the grader.

    Args:
        out: new folder for the submissions and grades.
        count: number of submissions.
        jobs: number of submissions to grade at once.
    """
    bulk = generate(out / "in", count)
    memory, began = [], time.monotonic()
    sandbox = best(out / "grades" / ".work")
    batch = Batch(out / "grades", read_rubric(), sandbox)
    batch.run([bulk], jobs=jobs, report=lambda grade: memory.append(resident_memory() >> 20))
    seconds = time.monotonic() - began
    return {
        "sandbox": str(sandbox),
        "submissions": count,
        "jobs": jobs,
        "seconds": round(seconds, 1),
        "cpu_seconds_each_at_most": round(available_cores() * seconds / count, 2),
        "memory_mib": memory[:: max(1, len(memory) // 10)],
    }
