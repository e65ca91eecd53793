"""scenelab kit: write the assignment as students receive it."""

from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from scenelab.cli.arguments import Flag
from scenelab.terminal import say


def kit(
    dir: Annotated[
        Positional[Path | None], arg(metavar="[FOLDER]", help_behavior_hint="(not with --gradescope)")
    ] = None,
    *,
    year: Literal[2019, 2022, 2024] = 2019,
    solution: Flag = False,
    from_: Annotated[Path | None, arg(name="from", metavar="MYCOURSE", help_behavior_hint="")] = None,
    course: Flag = False,
    gradescope: Annotated[Path | None, arg(metavar="OUT.zip", help_behavior_hint="")] = None,
    rubric: Annotated[Path | None, arg(metavar="TOML", help_behavior_hint="(default: the handout's)")] = None,
    seed: Annotated[int | None, arg(metavar="SEED", help_behavior_hint="(default: a random one)")] = None,
    hidden: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None,
) -> None:
    """Write the assignment as students receive it.

    The folder has code/ with functions to fill in, tests, notebooks, scripts and a README. It needs torch, torchvision,
    numpy, tensorboard and matplotlib, but not scenelab.

    Example: scenelab kit homework

    Args:
        dir: new folder.
        year: year of the assignment; 2022 has the names and flags of 2022 and later, and a vision transformer; 2024
            is for --gradescope, without points for attention maps.
        solution: write the solution instead, for instructors.
        from_: your own course folder, with kit/, rubric.toml and checks/, instead of the assignment of this package.
        course: write the assignment as a course folder to change.
        gradescope: write an autograder to upload to Gradescope instead, a zip file.
        rubric: rubric of the autograder.
        seed: random seed of the autograder's inputs to the checks.
        hidden: folder with your own checks (*.py) for the autograder, and with test.txt and images/ for the challenge.
    """
    from scenelab.course.kit import course_part, make_course, make_kit
    from scenelab.errors import LabError

    if gradescope is None and (rubric is not None or seed is not None or hidden is not None):
        raise LabError(
            "--rubric, --seed and --hidden go with --gradescope OUT.zip; 'scenelab grade' takes them as well"
        )
    if (dir is None) is (gradescope is None):
        raise LabError("give either the FOLDER of a kit or --gradescope OUT.zip")
    if gradescope is not None:
        from scenelab.course.kit.gradescope import make_gradescope

        checks = [each for each in (course_part(from_, "checks"), hidden) if each is not None]
        rubric = rubric or course_part(from_, "rubric.toml")
        if rubric is not None and year != 2019:
            raise LabError(f"--year is {year} together with the rubric {rubric}; give one of them")
        make_gradescope(gradescope, year=year, rubric=rubric, seed=seed, checks=checks)
        say(f"{gradescope}: upload it to Gradescope as the autograder; the default image and container will do.")
        say(f"Try it first: scenelab grade --dry-run gradescope {gradescope} SUBMISSION")
    if dir is not None and course:
        make_course(dir, year=year)
        say(f"{dir}: a course folder. Change {dir / 'kit'}, {dir / 'rubric.toml'} and {dir / 'checks'}, then:")
        say(f"scenelab kit homework --from {dir}")
    elif dir is not None:
        make_kit(dir, year=year, solution=solution, course=from_)
        what = "the solution" if solution else "the kit"
        say(f"{dir}: {what} of {from_ or year}. Start with {dir / 'README.md'}.")
