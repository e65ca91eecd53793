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
    """Return the names (Class.function) of functions that call nothing but what the kits give.

    Of several definitions the last counts, as in Python; one that is assigned is filled in.
    """
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)}
    names = []
    for owner, name in FUNCTIONS:
        body = classes[owner].body if owner in classes else []
        last = next((node for node in reversed(body) if name in _defined(node)), None)
        is_assigned = any((owner, name) in _attributes(node) for node in tree.body)
        if isinstance(last, ast.FunctionDef) and not is_assigned and _calls(last) <= GIVEN:
            names.append(f"{owner}.{name}")
    return names


def _defined(node: ast.stmt) -> set[str]:
    """Return the names that a statement of a class defines."""
    if isinstance(node, ast.Assign):
        return {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {node.name} if isinstance(node, ast.FunctionDef) else set()


def _attributes(node: ast.stmt) -> set[tuple[str, str]]:
    """Return the (name, attribute) pairs that a statement assigns, as in `Class.function = …` or by `setattr`."""
    if isinstance(node, ast.Assign):
        targets = [target for target in node.targets if isinstance(target, ast.Attribute)]
        return {(target.value.id, target.attr) for target in targets if isinstance(target.value, ast.Name)}
    call = node.value if isinstance(node, ast.Expr) else None
    if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "setattr":
        owner, name = [*call.args, None, None][:2]
        if isinstance(owner, ast.Name) and isinstance(name, ast.Constant):
            return {(owner.id, str(name.value))}
    return set()


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
