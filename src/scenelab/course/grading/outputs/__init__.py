"""What a grade is written as: a page for the student, a table for the class, and what Gradescope and Autolab read."""

from pathlib import Path

from scenelab.course.grading.grade import Grade
from scenelab.course.grading.outputs.autolab import autolab_line
from scenelab.course.grading.outputs.gradescope import gradescope
from scenelab.course.grading.outputs.page import html_page, markdown_page
from scenelab.course.grading.outputs.tables import class_table, leaderboard, leaderboard_page

from scenelab.io import atomic_write, write_json  # isort: skip

__all__ = ["autolab_line", "gradescope", "write_class", "write_student"]


def write_student(out: Path, grade: Grade) -> None:
    """OUT/students/NAME/: grade.md, grade.html, gradescope.json, autolab.json."""
    folder = out / "students" / grade.entry.student
    for name, text in (("grade.md", markdown_page(grade)), ("grade.html", html_page(grade)),
                       ("autolab.json", autolab_line(grade) + "\n")):  # fmt: skip
        with atomic_write(folder / name, "w") as file:
            file.write(text)
    write_json(folder / "gradescope.json", gradescope(grade))


def write_class(out: Path, grades: list[Grade]) -> None:
    """OUT/grades.csv, and OUT/leaderboard.csv and .html where models were judged."""
    ordered = sorted(grades, key=lambda grade: grade.entry.student)
    with atomic_write(out / "grades.csv", "w") as file:
        file.write(class_table(ordered))
    if any(grade.result.challenge for grade in ordered):
        with atomic_write(out / "leaderboard.csv", "w") as file:
            file.write(leaderboard(ordered))
        with atomic_write(out / "leaderboard.html", "w") as file:
            file.write(leaderboard_page(ordered))
