"""What a process takes of its machine as time goes by, and whether it grows."""

import json
import os
import statistics
import time
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen

FULL = os.environ.get("SCENELAB_SOAK") == "1"
SECONDS = float(os.environ.get("SCENELAB_SOAK_SECONDS", "1200" if FULL else "6"))  # of each
VISITS = int(os.environ.get("SCENELAB_SOAK_VISITS", "0"))  # of the explorer, in place of the seconds
SAMPLES = 120
MEMORY = 0.03 if FULL else 0.25  # of growth from the second quarter to the last that is no growth
SPARE = 4 << 20  # bytes; the allocator's own unrest


@dataclass
class Watch:
    """Samples of one process, and of a folder that it writes.

    Attributes:
        rows: seconds since the start; bytes of its own memory; open files; threads; files and bytes of the folder.
    """

    process: Popen
    folder: Path
    rows: list[dict[str, float]] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def passed(self) -> float:
        return time.monotonic() - self.began

    def sample(self) -> None:
        """Look once, unless the last look was just now or the process is gone."""
        if self.rows and self.passed - self.rows[-1]["seconds"] < SECONDS / SAMPLES:
            return
        place = Path(f"/proc/{self.process.pid}")
        try:
            status = dict(line.split(":", 1) for line in (place / "status").read_text().splitlines())
            files = len(os.listdir(place / "fd"))
            memory = int(status["RssAnon"].split()[0]) << 10
        except (OSError, KeyError):
            return
        paths = [Path(folder, name) for folder, _, names in os.walk(self.folder) for name in names]  # some go meanwhile
        sizes = [size for path in paths if (size := size_of(path)) is not None]
        row = {"seconds": round(self.passed, 1), "memory": memory, "files": files, "threads": int(status["Threads"])}
        self.rows.append({**row, "folder_files": len(sizes), "folder_bytes": sum(sizes)})

    def summary(self) -> dict[str, dict[str, float]]:
        """Medians of the second and of the last quarter; the first is the start."""
        quarter = len(self.rows) // 4
        early, late = self.rows[quarter : 2 * quarter], self.rows[-quarter:]
        return {
            name: {
                part: statistics.median(row[name] for row in rows) for part, rows in (("early", early), ("late", late))
            }
            for name in self.rows[0]
        }

    def growing(self, *, threads: int = 1) -> list[str]:
        """What grew, in words; nothing where all is flat, but for so many threads.

        The folder is judged by who knows what belongs there.
        """
        found = self.summary()
        allowed = {"memory": found["memory"]["early"] * MEMORY + SPARE, "files": 2, "threads": threads}
        return [
            f"{name}: {found[name]['early']:,.0f} in the second quarter, {found[name]['late']:,.0f} in the last"
            for name, more in allowed.items()
            if found[name]["late"] - found[name]["early"] > more
        ]

    def write(self, name: str, **more: object) -> None:
        """To the folder that SCENELAB_FAULTS_OUT names, where it is set."""
        if folder := os.environ.get("SCENELAB_FAULTS_OUT"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            value = {"soak": name, "seconds": SECONDS, "summary": self.summary(), **more, "samples": self.rows}
            (Path(folder) / f"soak-{name}.json").write_text(json.dumps(value) + "\n")


def size_of(path: Path) -> int | None:
    """Bytes of a file; None of a folder, or of what is gone."""
    try:
        return path.stat().st_size if path.is_file() else None
    except OSError:
        return None
