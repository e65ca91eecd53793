"""scenelab grade: grade untrusted submissions."""

import contextlib
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from scenelab.cli.arguments import Count, Flag, Json
from scenelab.terminal import say

OptionalTable = Annotated[Path | None, arg(metavar="CSV", help_behavior_hint="")]

if TYPE_CHECKING:
    from scenelab.course.grading.results import Grade


def grade(
    submissions: Annotated[Positional[list[Path]], arg(metavar="SUBMISSION ...", help_behavior_hint="(required)")],
    *,
    out: Annotated[Path | None, arg(metavar="OUT", help_behavior_hint="(required, except with --dry-run)")] = None,
    rubric: Annotated[Path | None, arg(metavar="TOML", help_behavior_hint="(default: the handout's 15 points)")] = None,
    year: Annotated[Literal[2019, 2022, 2024] | None, arg(help_behavior_hint="(default: by names in the code)")] = None,
    hidden: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="")] = None,
    from_: Annotated[Path | None, arg(name="from", metavar="MYCOURSE", help_behavior_hint="")] = None,
    jobs: Count = 1,
    seed: Annotated[int | None, arg(metavar="SEED", help_behavior_hint="(default: drawn and kept in OUT/seed)")] = None,
    unsafe: Flag = False,
    similarity: Flag = True,
    gradescope: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    metadata: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None,
    dry_run: Annotated[Literal["gradescope"] | None, arg(metavar="gradescope", help_behavior_hint="")] = None,
    autolab: Flag = False,
    json: Json = False,
    gradebook: OptionalTable = None,
    assignment: Annotated[str, arg(metavar="TITLE", help_behavior_hint="")] = "",
    manual: OptionalTable = None,
    teams: OptionalTable = None,
    anonymous: Flag = False,
    watch: Flag = False,
) -> None:
    """Grade untrusted submissions in a sandbox.

    Accepts archives, folders, and class downloads from Canvas, Moodle and others. Writes OUT/class.html, grades.csv,
    one page per student in OUT/students/NAME/grade.html, and more (docs/grading.md). The same command resumes a stopped
    batch, grades only what has changed, and says what changed and why.

    Example: scenelab grade submissions.zip --out grades --jobs 2

    Args:
        submissions: one archive or folder of a student or a class, or several with one student each.
        out: folder for the grades.
        rubric: points, penalties and limits.
        year: handout whose parts and points count without --rubric; 2024 has no attention maps.
        hidden: folder with your own checks (*.py), and with test.txt and images/ for the challenge.
        from_: course folder, as in 'scenelab kit --from'; its rubric.toml and checks/ are used.
        jobs: submissions to grade at once.
        seed: random seed of all inputs to the checks; students must not know it before grading.
        unsafe: run students' code even without full isolation; only inside a container or virtual machine.
        similarity: skip the comparison of submissions with each other (it needs compare50).
        gradescope: also write Gradescope's results.json to this file; requires exactly one submission.
        metadata: Gradescope's submission_metadata.json, with due dates and earlier submissions.
        dry_run: run the zip of 'scenelab kit --gradescope' as Gradescope does; name the zip before the submission.
        autolab: print Autolab's JSON as the last line.
        gradebook: export of Canvas, Moodle or Gradescope; OUT/filled-NAME.csv is a copy with the points.
        assignment: title or number of Canvas's column, if the gradebook has several.
        manual: points given by people, in columns named as in grades.csv.
        teams: groups as Canvas exports them; members without a submission get their team's points.
        anonymous: name no student in OUT/class.html.
        watch: grade what arrives in the folder SUBMISSION until Ctrl-C.
    """
    from scenelab.errors import LabError
    from scenelab.extras import GRADING

    GRADING.require()
    if dry_run is not None:
        _print_dry_run(submissions, out, metadata, json)
        return
    if out is None:
        raise LabError("--out is missing; give a folder for the grades")
    from scenelab.cli.output import print_json
    from scenelab.course.grading.batch import Batch, seed_of
    from scenelab.course.grading.challenge import Judge
    from scenelab.course.grading.class_files import ClassFiles
    from scenelab.course.grading.grade import load_hidden
    from scenelab.course.grading.gradebook import read_gradebook, read_teams
    from scenelab.course.grading.manual import keep_points, read_manual
    from scenelab.course.grading.outputs import autolab_line, read_metadata
    from scenelab.course.grading.outputs import gradescope as gradescope_values
    from scenelab.course.grading.rubric import fit_container, read_rubric
    from scenelab.course.grading.sandbox import best
    from scenelab.course.grading.watch import arrivals
    from scenelab.course.kit import course_part
    from scenelab.course.years import YEARS
    from scenelab.io import name_disk_errors, write_json

    rubric = rubric or course_part(from_, "rubric.toml")
    if rubric is not None and year is not None:
        raise LabError(f"--year is {year} together with the rubric {rubric}; give one of them")
    if jobs < 1:
        raise LabError(f"--jobs is {jobs}; give a number of at least 1")
    out, quiet, single = out.resolve(), autolab or json, gradescope is not None or autolab
    if watch and (single or json or len(submissions) != 1 or not submissions[0].is_dir()):
        raise LabError("--watch takes one folder, without --gradescope, --autolab and --json")
    digest = "".join(load_hidden(folder) for folder in (course_part(from_, "checks"), hidden) if folder)
    points, judge = read_rubric(rubric, year=year or YEARS[0]), Judge.of(hidden) if hidden else None
    book = read_gradebook(gradebook, assignment) if gradebook else None
    given = read_manual(manual, points) if manual else None
    files = ClassFiles(book, given, read_teams(teams) if teams else None, anonymous)
    with name_disk_errors(out):
        sandbox = best(out / ".work", unsafe=unsafe)
        seed = seed_of(out) if seed is None else seed
    if gradescope is not None:
        points = fit_container(points)
    by_year = rubric is None and year is None
    shown: set[str] = set()

    def show(*texts: object) -> None:
        for text in [] if quiet else texts:
            say(text)

    def report(grade: "Grade") -> None:
        problem = f"  {grade.result.problem}" if grade.result.problem else "  to review" if grade.review else ""
        line = f"{grade.entry.student}: {grade.score:g} of {grade.rubric.automatic:g}{problem}"[:160]
        show(*{line} - shown)
        shown.add(line)

    def grade_all() -> "list[Grade]":
        keep_points(out / "grades.csv", manual)
        batch = Batch(out, points, sandbox, seed=seed, hidden=digest, judge=judge, alike=similarity)
        batch.by_year = by_year
        with name_disk_errors(out):
            grades = batch.run(submissions, jobs=jobs, single=single, report=report)
            notes = [] if single else files.write(batch, grades)
        if not (quiet or watch):
            _print_grades(out / "grades.csv", grades)
        show(*(batch.notes if single else notes))
        return grades

    show(f"sandbox: {sandbox}")
    for _ in arrivals(submissions[0], out) if watch else ():
        try:
            grade_all()
        except (LabError, OSError) as error:  # such as a file that is gone again
            say(error)
    grades = grade_all()
    if gradescope is not None:
        if len(grades) != 1:
            raise LabError(f"--gradescope takes one submission; got {len(grades)}")
        write_json(gradescope, gradescope_values(grades[0], read_metadata(metadata) if metadata else None))
    if json:
        print_json([_values(each) for each in grades])
    elif not autolab and by_year:
        counts = Counter(each.rubric.name for each in grades).items()
        say(f"rubrics, by the names in the code: {', '.join(f'{n} × {name}' for name, n in counts)}")
    if autolab:
        for each in grades:
            print(autolab_line(each))
    faults = [f"{each.entry.student}: {fault}" for each in grades for fault in each.result.faults]
    if faults:
        raise LabError(f"the grader itself failed in {len(faults)} checks, the first {faults[0]}; the rest is graded")
    with contextlib.suppress(OSError):
        (out / ".work").rmdir()


def _print_dry_run(paths: list[Path], out: Path | None, metadata: Path | None, json: bool) -> None:
    import tempfile

    from scenelab.cli.output import print_json, print_table
    from scenelab.course.grading.dry_run import run_gradescope
    from scenelab.errors import LabError

    if len(paths) != 2:
        raise LabError(f"--dry-run gradescope takes OUT.zip and one submission; got {len(paths)} paths")
    if out is not None and out.exists():
        raise LabError(f"--out {out} exists; with --dry-run, give a new folder")
    archive, submission = paths
    with tempfile.TemporaryDirectory() as place:
        run = run_gradescope(archive, submission, (out or Path(place, "autograder")).resolve(), metadata)
    if json:
        print_json(run.results.to_json())
        return
    rows = [[t.name, f"{t.score:g}", f"{t.max_score:g}", t.status, t.visibility] for t in run.results.tests]
    print_table("results.json", ["name", "score", "max_score", "status", "visibility"], rows)
    for line in run.results.output.splitlines():
        say(line)
    say(
        f"score {run.results.score:g}; {run.seconds:.0f} of {run.max_seconds} s with half a processor "
        f"({run.cpu_seconds:.1f} s of CPU time); {run.memory >> 20} of {run.max_memory >> 20} MiB of memory"
    )
    say(f"Not run: the commands that install; this environment's packages were used. {run.note}".rstrip())


def _values(grade: "Grade") -> dict[str, Any]:
    names = "student score automatic of held final review penalties problem sandbox".split()
    points = grade.score, grade.earned, grade.rubric.automatic, grade.held, grade.final
    values = (grade.entry.student, *points, grade.review, grade.penalties, grade.result.problem, grade.result.sandbox)
    return dict(zip(names, values, strict=True))


def _print_grades(path: Path, grades: "list[Grade]") -> None:
    from scenelab.cli.output import print_table

    rows = []
    for each in grades:
        review = f"{len(each.review)}: {each.review[0][:60]}" if each.review else ""
        points = [f"{each.score:g}", f"{each.earned:g}", f"{each.deducted:g}"]
        rows.append([each.entry.student, *points, each.result.problem[:50], review])
    print_table(str(path), ["student", "score", "checks", "taken off", "problem", "to review"], rows)
    waiting = sum(bool(each.review) for each in grades)
    if waiting:
        say(f"{waiting} of {len(grades)} to review: column review of grades.csv, and each student's page, say why")
