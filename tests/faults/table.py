"""The table of docs/reliability.md from what the harness counted: python tests/faults/table.py FOLDER."""

import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

ROW = "| {} | {} | {} | {} |"


def table(folder: Path) -> str:
    """Markdown, a row a kind of fault and one of all."""
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for path in sorted(folder.rglob("*.json")):
        for kind, count in json.loads(path.read_text()).get("counts", {}).items():
            counts[kind].update(count)
            counts["all"].update(count)
    keys = ("tried", "survived", "lost")
    rows = [ROW.format(kind, *(count[key] for key in keys)) for kind, count in sorted(counts.items(), key=_last)]
    return "\n".join(["| fault | tried | survived | lost |", "|---|---:|---:|---:|", *rows])


def _last(entry: tuple[str, Counter[str]]) -> tuple[bool, str]:
    return entry[0] == "all", entry[0].lower()


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))
