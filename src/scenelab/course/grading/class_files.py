"""Files of a whole class after grading: gradebook, points of people, feedback, and the class at a glance."""

from dataclasses import dataclass
from importlib import metadata

import torch

from scenelab.course.grading.batch import Batch
from scenelab.course.grading.feedback import write_feedback
from scenelab.course.grading.gradebook import Gradebook, ids_of_teams
from scenelab.course.grading.history import FILE, Grading, read_grading
from scenelab.course.grading.manual import BEFORE, check_kept, merge_manual
from scenelab.course.grading.outputs import write_class, write_student
from scenelab.course.grading.outputs.overview import class_page
from scenelab.course.grading.results import Grade, common_rubric
from scenelab.course.grading.rubric import Manual
from scenelab.course.grading.tables import Table
from scenelab.io import atomic_write

MAX_SHOWN = 40  # names per message


@dataclass
class ClassFiles:
    """Tables that the instructor gives beside the submissions, read before grading; `anonymous` is for class.html."""

    gradebook: Gradebook | None = None
    manual: tuple[Table, dict[int, Manual]] | None = None
    teams: Table | None = None
    anonymous: bool = False

    def write(self, batch: Batch, grades: list[Grade]) -> list[str]:
        """Merge points of people, fill the gradebook, write the files of the class; return notes on what is left."""
        out, earlier, book = batch.out, read_grading(batch.out), self.gradebook
        teams, notes = ids_of_teams(self.teams, grades) if self.teams else ({}, [])
        if self.manual:
            notes += merge_manual(*self.manual, grades, teams)
            check_kept(out / BEFORE, self.manual[0].path, grades)
            for grade in grades:
                write_student(out, grade)
        rubric = common_rubric(grades) if grades else batch.rubric
        if book:
            path = out / f"filled-{book.table.path.name}"
            book.fill(grades, teams, path, rubric.points if self.manual else rubric.automatic)
            notes += [f"{path}: {book.filled} of {len(book.people)} rows filled", *book.notes]
            notes += _listed("submissions match no row", book.unmatched)
            notes += _listed("people handed in nothing", book.missing)
        count, skipped = write_feedback(out / "feedback.zip", grades)
        notes += [f"{out / 'feedback.zip'}: pages of {count} students, to upload"] if count else []
        notes += _listed("students are not in feedback.zip, which takes the place of a ZIP or text file", skipped)
        context = {"rubric": rubric.text, "hidden": batch.hidden, "seed": str(batch.seed)}
        context |= {"scenelab": metadata.version("scenelab"), "torch": torch.__version__}
        grading = Grading.of(grades, {**context, "sandbox": batch.sandbox.level}, earlier)
        grading.write(out / FILE)
        if earlier and grading is not earlier:
            causes = "".join(f"; {cause}" for cause in grading.causes)
            notes.append(f"{len(grading.changes)} submissions differ from the grading before{causes}")
        write_class(out, grades)
        notes = [*batch.notes, *notes]
        with atomic_write(out / "class.html", "w") as file:
            page = class_page(grades, anonymous=self.anonymous, gradebook=book, grading=grading, notes=notes)
            file.write(page)
        return [*notes, f"the class at a glance: {out / 'class.html'}"]


def _listed(text: str, names: list[str]) -> list[str]:
    shown = ", ".join(names[:MAX_SHOWN]) + (" …" if len(names) > MAX_SHOWN else "")
    return [f"{len(names)} {text}: {shown}"] if names else []
