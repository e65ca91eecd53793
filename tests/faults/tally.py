"""How many faults were tried, survived and lost, for docs/reliability.md."""

import json
import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

FULL = os.environ.get("SCENELAB_SOAK") == "1"
SEED = int(os.environ.get("SCENELAB_TEST_SEED", "1"))


def rounds(few: int, many: int) -> int:
    """How many faults a test tries: `few` in `make test`, `many` in `make soak`; SCENELAB_KILLS overrules both."""
    return int(os.environ.get("SCENELAB_KILLS", many if FULL else few))


@dataclass
class Tally:
    """Counts by kind of fault.

    Attributes:
        counts: tried, survived and lost of each kind; lost is a fault after which a promise did not hold.
    """

    counts: dict[str, dict[str, int]] = field(default_factory=dict)

    @contextmanager
    def fault(self, kind: str) -> Iterator[None]:
        """One fault; the block holds what must be true after it."""
        count = self.counts.setdefault(kind, {"tried": 0, "survived": 0, "lost": 0})
        count["tried"] += 1
        count["lost"] += 1
        yield
        count["lost"] -= 1
        count["survived"] += 1

    def write(self, name: str) -> None:
        """To a file of its own in the folder that SCENELAB_FAULTS_OUT names, where it is set."""
        if folder := os.environ.get("SCENELAB_FAULTS_OUT"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            value = {"seed": SEED, "full": FULL, "counts": self.counts}
            (Path(folder) / f"{name}-{uuid.uuid4().hex[:8]}.json").write_text(json.dumps(value, indent=2) + "\n")
