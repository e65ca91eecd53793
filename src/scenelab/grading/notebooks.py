"""The code of a Jupyter notebook as a file of Python."""

import json
from pathlib import Path
from typing import Any

MAX_BYTES = 50 << 20  # of a notebook, whose pictures are in it


def write_cells(path: Path) -> Path | None:
    """Write the code cells of a notebook beside it as a .py file; None where it is not one or has no code.

    Lines that are for the notebook alone, which begin with %, ! or ?, become comments; so do whole cells that begin
    with %% and name another language.
    """
    if path.stat().st_size > MAX_BYTES:
        return None
    try:
        notebook = json.loads(path.read_text("utf-8", errors="replace"))
    except (ValueError, RecursionError):
        return None
    cells = notebook.get("cells") if isinstance(notebook, dict) else None
    if not isinstance(cells, list):
        return None
    parts = [_code(cell) for cell in cells if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    if not any(part.strip() for part in parts):
        return None
    target = path.with_suffix(".py")
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return target


def _code(cell: dict[str, Any]) -> str:
    source = cell.get("source", "")
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    lines = text.encode("utf-8", "replace").decode().split("\n")
    first = next((line.strip() for line in lines if line.strip()), "")
    other = first.startswith("%%") and first.split()[0] not in ("%%time", "%%timeit", "%%capture", "%%prun")
    return "\n".join(_line(line, other) for line in lines)


def _line(line: str, other: bool) -> str:
    code = line.lstrip()
    if not other and not code.startswith(("%", "!", "?")) and not code.rstrip().endswith("?"):
        return line
    indent = line[: len(line) - len(code)]
    return f"{indent}# {code}" if other or not indent else f"{indent}pass  # {code}"
