"""Conversion of Jupyter notebooks to Python files."""

import ast
import json
import re
from pathlib import Path
from typing import Any

MAX_BYTES = 50 << 20  # of a notebook, including its images
MAX_LINES = 40  # invalid lines per cell that become comments
PYTHON = ("%%time", "%%timeit", "%%capture", "%%prun", "%%writefile", "%%file")  # cell magics before Python code
ASSIGNED = re.compile(r"^(\s*[\w, .\[\]]+=)\s*[!%]")
HELP = re.compile(r"^\s*\??\??[\w.]+\?{1,2}\s*$")
BEFORE = re.compile(r"^(\s*)%(time|timeit|prun|memit)\s+(?!-)")


def write_cells(path: Path) -> Path | None:
    """Write the code cells of a notebook to a .py file beside it and return its path; None if there is no code.

    Commands of Jupyter (% and !) and cells in other languages become comments. In the written file, a statement that
    fails is skipped, so that answers in later cells still run: for example, a cell that trains needs a dataset.
    """
    if path.stat().st_size > MAX_BYTES:
        return None
    try:
        cells = json.loads(path.read_text("utf-8-sig", errors="replace"))["cells"]
    except (ValueError, RecursionError, KeyError, TypeError):
        return None
    cells = [cell for cell in cells if isinstance(cell, dict)] if isinstance(cells, list) else []
    parts = [_code(cell.get("source", "")) for cell in cells if cell.get("cell_type") == "code"]
    if not any(part.strip() for part in parts):
        return None
    target = path.with_suffix(".py")
    while target.exists():
        target = target.with_stem(f"{target.stem} (cells)")
    target.write_text("\n\n".join(parts) + "\n", encoding="utf-8")
    return target


def _code(source: Any) -> str:
    text = "".join(map(str, source)) if isinstance(source, list) else str(source)
    text = text.encode("utf-8", "replace").decode()
    lines = text.split("\n")
    first = next((number for number, line in enumerate(lines) if line.strip()), 0)
    if lines[first].strip().startswith("%%"):
        if lines[first].split()[0] not in PYTHON:
            return "\n".join(f"# {line}" for line in lines)
        lines[first] = f"# {lines[first].strip()}"
    elif _parses(text):
        return _tolerant(text)
    lines = [_line(line) for line in lines]
    for _ in range(MAX_LINES):
        try:
            ast.parse("\n".join(lines))
            break
        except SyntaxError as error:
            place = (error.lineno or 1) - 1
            if place >= len(lines) or not any(mark in lines[place] for mark in "%!?"):
                break  # a syntax error of the student, reported like any other
            lines[place] = f"# {lines[place]}"
        except (ValueError, RecursionError, MemoryError):
            break
    return _tolerant("\n".join(lines))


def _parses(text: str) -> bool:
    try:
        ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def _tolerant(text: str) -> str:
    """Return a cell's code with loops, calls and similar top-level statements wrapped in `try: … except: pass`."""
    if not _parses(text):
        return text
    lines, parts, at = text.split("\n"), [], 0
    for node in ast.parse(text).body:
        start = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))]) - 1
        end = node.end_lineno or node.lineno
        parts += lines[at:start]
        piece, at = lines[max(start, at) : end], max(at, end)
        acts = isinstance(node, (ast.Expr, ast.For, ast.While, ast.If, ast.With, ast.Try, ast.AugAssign))
        calls = isinstance(node, ast.Assign) and any(isinstance(each, ast.Call) for each in ast.walk(node.value))
        if (acts or calls) and piece and not any('"""' in line or "'''" in line for line in piece):
            piece = ["try:", *(f"    {line}" for line in piece), "except Exception: pass"]
        parts += piece
    return "\n".join([*parts, *lines[at:]])


def _line(line: str) -> str:
    code = line.lstrip()
    indent = line[: len(line) - len(code)]
    if timed := BEFORE.match(line):
        return f"{timed[1]}{line[timed.end() :]}"
    if assigned := ASSIGNED.match(line):
        return f"{assigned[1]} []  # {code}"
    if code.startswith(("%", "!")) or HELP.match(line):
        return f"{indent}pass  # {code}" if indent else f"# {code}"
    return line
