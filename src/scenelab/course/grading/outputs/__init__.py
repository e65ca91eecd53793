"""Output files of grades: student pages, class tables, and results for Gradescope and Autolab."""

from pathlib import Path

from scenelab.course.grading.outputs.exports import autolab_line, class_table, leaderboard, leaderboard_page
from scenelab.course.grading.outputs.gradescope import gradescope, read_metadata
from scenelab.course.grading.outputs.page import render_page
from scenelab.course.grading.results import Grade
from scenelab.io import atomic_write, write_json

__all__ = ["autolab_line", "gradescope", "read_metadata", "write_class", "write_student"]


def write_student(out: Path, grade: Grade) -> None:
    """Write grade.md, grade.html, gradescope.json and autolab.json to OUT/students/NAME/."""
    folder = out / "students" / grade.entry.student
    for name in ("grade.md", "grade.html"):
        _write(folder / name, render_page(name, grade))
    _write(folder / "autolab.json", autolab_line(grade) + "\n")
    write_json(folder / "gradescope.json", gradescope(grade))


def write_class(out: Path, grades: list[Grade]) -> None:
    """Write OUT/grades.csv, and OUT/leaderboard.csv and .html if any student entered a model in the challenge."""
    grades = sorted(grades, key=lambda grade: grade.entry.student)
    _write(out / "grades.csv", class_table(grades))
    if any(grade.result.challenge for grade in grades):
        _write(out / "leaderboard.csv", leaderboard(grades))
        _write(out / "leaderboard.html", leaderboard_page(grades))


def _write(path: Path, text: str) -> None:
    with atomic_write(path, "w") as file:
        file.write(text)
