"""Grade generated submissions and measure it: python benchmarks/grading.py --count 100 --out DIR

They are the kit's solution, the bare kit and changed solutions in turn, packed as Canvas names them, so that no two
have the same bytes. Prints seconds in all, the CPU time that each can have had, and the grader's own memory as it goes.
"""

import argparse
import json
import sys
import time
import zipfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from mutants import MUTANTS, mutate, solution, write_as_zip
from scenelab.course.grading.batch import Batch
from scenelab.course.grading.rubric import read_rubric
from scenelab.course.grading.sandbox import best
from scenelab.course.kit import files
from scenelab.runtime import resident_memory
from scenelab.training.session import available_cores

NAMES = ("ada", "ben", "cleo", "dev", "eli", "fay", "gus", "hana", "ivo", "jun", "kim", "leo", "mia", "noor", "oli",
         "pia", "quin", "rui", "sol", "tess")  # fmt: skip


def generate(folder: Path, count: int) -> Path:
    """So many submissions in one zip, as Canvas gives them."""
    folder.mkdir(parents=True)
    kinds = [("solution", solution())]
    kinds += [(change.name, mutate(change)) for change in MUTANTS[::3]]
    kinds.append(("kit", {name: text.encode() for name, text in files(2019).items() if name.startswith("code/")}))
    told = {}
    with zipfile.ZipFile(folder / "submissions.zip", "w") as bulk:
        for number in range(count):
            kind, handed = kinds[number % len(kinds)]
            handed = {**handed, "code/student_code.py": handed["code/student_code.py"] + f"\n# {number}\n".encode()}
            late = "_LATE" if number % 9 == 4 else ""
            student = f"{NAMES[number % len(NAMES)]}{number // len(NAMES) or ''}{late}"
            name = f"{student}_{1000 + number}_{5000 + number}_submission.zip"
            bulk.write(write_as_zip(folder / name, handed, folder / f"files-{number}"), name)
            told[name] = kind
    (folder / "kinds.json").write_text(json.dumps(told, indent=2))
    return folder / "submissions.zip"


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__)
    flags.add_argument("--count", type=int, default=100)
    flags.add_argument("--jobs", type=int, default=2)
    flags.add_argument("--out", type=Path, required=True)
    options = flags.parse_args()
    bulk = generate(options.out / "in", options.count)
    memory, begun = [], time.monotonic()
    sandbox = best(options.out / "grades" / ".work")
    batch = Batch(options.out / "grades", read_rubric(), sandbox)
    batch.run([bulk], jobs=options.jobs, tell=lambda grade: memory.append(resident_memory() >> 20))
    seconds = time.monotonic() - begun
    print(json.dumps({
        "sandbox": str(sandbox), "submissions": options.count, "jobs": options.jobs, "seconds": round(seconds, 1),
        "cpu_seconds_each_at_most": round(available_cores() * seconds / options.count, 2),
        "memory_mib": memory[:: max(1, len(memory) // 10)],
    }))  # fmt: skip


if __name__ == "__main__":
    main()
