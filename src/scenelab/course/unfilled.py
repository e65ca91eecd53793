"""Recognition of functions of the kit that are not filled in, in every year's wording; needs no torch."""

from __future__ import annotations

import ast
from pathlib import Path

FUNCTIONS = (
    ("CustomConv2DFunction", "forward"),
    ("CustomConv2DFunction", "backward"),
    ("PGDAttack", "perturb"),
    ("GradAttention", "explain"),
)
GIVEN = frozenset(
    """size dim len range isinstance int clone detach sum zero_ requires_grad_ save_for_backward print
    NotImplementedError""".split()
)
"""Functions that the kits call where an answer is missing; every answer needs others."""


def unfilled(tree: ast.Module) -> list[str]:
    """Return the names (Class.function) of functions that call nothing but what the kits give."""
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    names = []
    for owner, name in FUNCTIONS:
        body = classes[owner].body if owner in classes else []
        for node in body:
            if isinstance(node, ast.FunctionDef) and node.name == name and _calls(node) <= GIVEN:
                names.append(f"{owner}.{name}")
    return names


def _calls(function: ast.FunctionDef) -> set[str]:
    names = set()
    for node in ast.walk(ast.Module(function.body, [])):
        if isinstance(node, ast.Call):
            names.add(getattr(node.func, "attr", getattr(node.func, "id", "?")))
        elif isinstance(node, ast.MatMult):
            names.add("matmul")
    return names


def unfilled_in(path: Path) -> list[str]:
    """Return the functions of a file that are not filled in, [] if it cannot be parsed; raise OSError if unreadable."""
    try:
        return unfilled(ast.parse(path.read_bytes()))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
