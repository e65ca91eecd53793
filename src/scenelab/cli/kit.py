"""scenelab kit: the assignment as a student receives it."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional


def kit(
    dir: Positional[Path],
    *,
    year: Literal[2019, 2022] = 2019,
    solution: bool = False,
    gradescope: bool = False,
    rubric: Path | None = None,
) -> None:
    """Write the assignment: code/ with the places to fill in, tests, scripts, README.

    It needs torch, torchvision, numpy and tensorboard, and nothing of scenelab. The grader gives the solution, from
    which the places to fill in are cut out, all points.

    Example: scenelab kit homework

    Args:
        dir: a new folder.
        year: 2019, or 2022 for the names and flags of that year and later, a vision transformer among them.
        solution: write the solution instead, for instructors.
        gradescope: write an autograder for Gradescope instead; zip the folder's content and upload it.
        rubric: with --gradescope, a rubric other than the handout's.
    """
    from scenelab.course.grading.rubric import default_text, read_rubric
    from scenelab.course.kit import make_gradescope, make_kit
    from scenelab.errors import LabError

    if rubric is not None and not gradescope:
        raise LabError("--rubric goes with --gradescope; 'scenelab grade' takes one as well")
    if gradescope:
        make_gradescope(dir, rubric=read_rubric(rubric).text if rubric else default_text())
        print(f"{dir}: zip its content and upload it to Gradescope as the autograder.")
        return
    make_kit(dir, year=year, solution=solution)
    what = "the solution" if solution else "the kit"
    print(f"{dir}: {what} of {year}. Start with {dir / 'README.md'}.")
