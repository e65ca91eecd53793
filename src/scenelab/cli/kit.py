"""scenelab kit: write the assignment as students receive it."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from scenelab.cli.arguments import Flag
from scenelab.terminal import say


def kit(
    dir: Annotated[Positional[Path], arg(metavar="FOLDER")],
    *,
    year: Literal[2019, 2022] = 2019,
    solution: Flag = False,
    gradescope: Flag = False,
    rubric: Annotated[Path | None, arg(metavar="TOML", help_behavior_hint="(default: the handout's)")] = None,
) -> None:
    """Write the assignment as students receive it.

    The folder has code/ with functions to fill in, tests, notebooks, scripts and a README. It needs torch, torchvision,
    numpy, tensorboard and matplotlib, but not scenelab.

    Example: scenelab kit homework

    Args:
        dir: new folder.
        year: year of the assignment; 2022 has the names and flags of 2022 and later, and a vision transformer.
        solution: write the solution instead, for instructors.
        gradescope: write an autograder for Gradescope instead; zip the content of the folder and upload it.
        rubric: rubric of the autograder, with --gradescope only.
    """
    from scenelab.course.grading.rubric import default_text, read_rubric
    from scenelab.course.kit import make_gradescope, make_kit
    from scenelab.errors import LabError

    if rubric is not None and not gradescope:
        raise LabError("--rubric goes with --gradescope; 'scenelab grade' takes one as well")
    if gradescope:
        make_gradescope(dir, rubric=read_rubric(rubric).text if rubric else default_text())
        say(f"{dir}: zip its content and upload it to Gradescope as the autograder.")
        return
    make_kit(dir, year=year, solution=solution)
    what = "the solution" if solution else "the kit"
    say(f"{dir}: {what} of {year}. Start with {dir / 'README.md'}.")
