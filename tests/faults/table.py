"""The table of docs/reliability.md from what the harness counted: python tests/faults/table.py FOLDER."""

import json
import sys
from pathlib import Path

ROW = "| {} | {} | {} | {} |"


def table(folder: Path) -> str:
    """Markdown, a row a kind of fault and one of all."""
    counts: dict[str, dict[str, int]] = {}
    for path in sorted(folder.glob("*.json")):
        counts |= json.loads(path.read_text()).get("counts", {})
    keys = ("tried", "survived", "lost")
    counts["all"] = {key: sum(count[key] for count in counts.values()) for key in keys}
    rows = [ROW.format(kind, *(count[key] for key in keys)) for kind, count in sorted(counts.items(), key=_last)]
    return "\n".join(["| fault | tried | survived | lost |", "|---|---:|---:|---:|", *rows])


def _last(entry: tuple[str, dict[str, int]]) -> tuple[bool, str]:
    return entry[0] == "all", entry[0].lower()


if __name__ == "__main__":
    print(table(Path(sys.argv[1])))
