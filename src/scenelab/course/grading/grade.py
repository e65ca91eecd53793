"""Grading one submission: every check once, the result written as they end."""

import dataclasses
import hashlib
import importlib.util
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from scenelab.course.grading.challenge import PART, SECONDS, Judge
from scenelab.course.grading.checks import CHECKS, CheckContext, CheckFailed, CheckSkipped
from scenelab.course.grading.checks.convolution import second_opinion
from scenelab.course.grading.discovery import Entry
from scenelab.course.grading.submission_reader import Submission
from scenelab.course.grading.rubric import Rubric
from scenelab.course.grading.sandbox import Sandbox
from scenelab.course.grading.worker import CancelledError, SubmissionError, Worker
from scenelab.errors import LabError

NOT_INSTALLED = "nor installed where this is graded"
STOOD_IN = "neither handed in nor installed here, and stood in for:"
DIGITS = 4  # of points
BETWEEN_UPDATES = 0.2  # seconds: writing the result after each check took a fifth of a grading's time


@dataclass
class Outcome:
    """What became of a check; `status` is passed, failed or not run; `known` of `CheckFailed`."""

    name: str
    group: str
    text: str
    points: float
    status: str = "not run"
    earned: float = 0.0
    reason: str = ""
    example: str = ""
    hidden: bool = False
    known: bool = False


@dataclass
class Result:
    """What a submission's files give by themselves, whoever handed them in.

    Attributes:
        key: of everything that it depends on; the same key, the same result.
        complete: all checks have ended.
        violations: rules of the hand-in that are broken, each with what breaks it.
        gpu: where a GPU is asked for whether there is one or not.
        review: what a person should look at.
        marks: those of them that were seen when the code ran.
        faults: of the grader itself.
    """

    key: str
    digest: str
    sandbox: str
    problem: str = ""
    outcomes: list[Outcome] = field(default_factory=list)
    violations: dict[str, list[str]] = field(default_factory=dict)
    gpu: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    review: list[str] = field(default_factory=list)
    marks: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    challenge: dict[str, Any] | None = None
    complete: bool = False

    def plain(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)

    @staticmethod
    def read(values: dict[str, Any]) -> "Result":
        """From JSON."""
        return Result(**{**values, "outcomes": [Outcome(**each) for each in values["outcomes"]]})


@dataclass
class Grade:
    """A student's grade: the result of the files, and what is taken off."""

    entry: Entry
    result: Result
    rubric: Rubric
    mates: list[str] = field(default_factory=list)

    @property
    def earned(self) -> float:
        """Points of the checks."""
        return round(sum(outcome.earned for outcome in self.result.outcomes), DIGITS)

    @property
    def review(self) -> list[str]:
        """What a person should look at; nothing where the rubric says that somebody has."""
        return [] if self.result.digest in self.rubric.accepted else self.result.review

    @property
    def held(self) -> float:
        """Points of the score that wait for that look: those of the convolution."""
        own = sum(outcome.earned for outcome in self.result.outcomes if outcome.group == "convolution")
        return round(own, DIGITS) if self.review else 0.0

    @property
    def penalties(self) -> list[tuple[str, float]]:
        """What is taken off, with the points."""
        rules, all_points = self.rubric.penalties, self.rubric.points
        listed = []
        for number, (rule, found) in enumerate(self.result.violations.items(), start=1):
            percent = rules.format_percent if number > rules.format_free else 0.0
            listed.append((f"{rule}: {found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""),
                           all_points * percent / 100))  # fmt: skip
        if self.result.gpu:
            listed.append((f"needs a GPU whether there is one or not: {self.result.gpu[0]}",
                           all_points * rules.gpu_percent / 100))  # fmt: skip
        if self.entry.late:
            listed.append(("handed in late", all_points * rules.late_percent / 100))
        return [(text, round(points, DIGITS)) for text, points in listed]

    @property
    def score(self) -> float:
        """Points of the checks less what is taken off, never below 0."""
        return round(max(0.0, self.earned - sum(points for _, points in self.penalties)), DIGITS)


def key_of(digest: str, rubric: Rubric, seed: int, sandbox: Sandbox, hidden: str, version: str) -> str:
    """A result depends on these and on nothing else."""
    parts = (digest, rubric.text, str(seed), sandbox.level, hidden, version, torch.__version__)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def grade_submission(
    submission: Submission,
    stage: Path,
    *,
    rubric: Rubric,
    sandbox: Sandbox,
    key: str,
    seed: int,
    judge: Judge | None,
    update: Callable[[Result], None],
    earlier: Result | None = None,
    on_worker: Callable[[Worker], None] = lambda worker: None,
) -> Result:
    """Run all checks of the rubric.

    Args:
        submission: unpacked in `stage / "submission"`.
        stage: of `sandbox.make_stage`.
        key: of `key_of`.
        seed: of everything that is drawn.
        judge: for the challenge, where there are labels.
        update: called with the result so far, a few times a second and at the end.
        earlier: of the same key, incomplete: its checks are not run again.
        on_worker: told of the process that is made, so that it can be ended from elsewhere.
    """
    source = submission.source
    result = Result(
        key, submission.digest, str(sandbox), notes=list(submission.notes),
        review=_review(submission, {}), violations=submission.violations,
    )  # fmt: skip
    result.outcomes = [
        Outcome(name, CHECKS[name].group, CHECKS[name].text, rubric.checks.get(name, 0.0), hidden=name in rubric.hidden)
        for name in in_order(rubric)
    ]
    result.problem = submission.problem or (f"does not parse: {source.error}" if source.error else "")
    if earlier is None:
        update(result)
    if result.problem or submission.code is None:
        for outcome in result.outcomes:
            outcome.reason = result.problem
    else:
        worker = Worker(sandbox, stage, submission.code, rubric.limits, source.scanned)
        context = CheckContext(worker, submission, seed)
        worker.opening = ("convolve_natively", *second_opinion(context))
        on_worker(worker)
        if earlier is not None:
            _take_over(result, earlier, worker)
        try:
            _run_all(result, context, update)
            worker.close()
            if judge is not None and not result.problem:
                worker.limits = dataclasses.replace(rubric.limits, budget_seconds=SECONDS, cpu_seconds=int(SECONDS))
                worker.part = PART
                result.challenge = judge.judge(worker, submission)
        except Exception as error:
            if worker.cancelled:
                raise CancelledError from error
            result.faults.append(f"{type(error).__name__}: {error}"[:400])
        finally:
            worker.close()
        result.marks = list(worker.flags)
        result.review = _review(submission, worker.flags)
    result.complete = not result.faults  # what the grader could not do it tries again
    update(result)
    return result


def _review(submission: Submission, marks: Iterable[str]) -> list[str]:
    """What a person should look at: what was seen at run time, then words in the files that could hide a call."""
    source = submission.source
    words = [f"{word} could hide what is called" for word in source.hiding]
    packages = [f"{word}, a package that holds answers" for word in source.foreign]
    return list(dict.fromkeys([*submission.review, *marks, *packages, *words, *source.review]))


def in_order(rubric: Rubric) -> list[str]:
    """The rubric's checks in its order, each behind what it needs, whether the rubric lists that or not."""
    ordered: dict[str, None] = {}

    def add(name: str) -> None:
        for needed in CHECKS[name].needs:
            add(needed)
        ordered[name] = None

    for name in rubric.checks:
        add(name)
    return list(ordered)


def _take_over(result: Result, earlier: Result, worker: Worker) -> None:
    """Keep what an interrupted run has found."""
    result.outcomes = [
        before if before.status != "not run" and before.name == outcome.name else outcome
        for outcome, before in zip(result.outcomes, earlier.outcomes, strict=False)
    ]
    result.remarks, worker.gpu_places = earlier.remarks, list(earlier.gpu)
    worker.flags = dict.fromkeys(earlier.marks)
    worker.emulate_gpu = bool(earlier.gpu)


def _run_all(result: Result, context: CheckContext, update: Callable[[Result], None]) -> None:
    worker = context.worker
    try:
        worker.start()
    except SubmissionError as error:
        result.problem = f"student_code.py cannot be imported: it {error}"
    except RuntimeError as error:
        result.faults.append(str(error))
        result.problem = "the grader could not start its process; this is not your fault"
    failed: dict[str, str] = {}
    stored = time.monotonic()
    context.remarks = list(result.remarks)
    for outcome in result.outcomes:
        worker.part = outcome.group
        needed = next((name for name in CHECKS[outcome.name].needs if name in failed), None)
        if result.problem:
            outcome.reason = result.problem
        elif outcome.status != "not run":
            pass  # of an interrupted run
        elif needed is not None:
            outcome.reason = f"skipped, because {needed} did not pass: {failed[needed]}"[:400]
        else:
            _run_one(outcome, context, result)
        if outcome.status != "passed" and not outcome.known:
            failed[outcome.name] = outcome.reason
        result.marks = list(worker.flags)
        result.gpu, result.remarks = worker.gpu_places[:5], list(context.remarks)
        if worker.missing:
            result.notes = [
                *dict.fromkeys(
                    [
                        *result.notes,
                        f"{STOOD_IN} {', '.join(worker.missing)}",
                    ]
                )
            ]
        if time.monotonic() - stored > BETWEEN_UPDATES:
            update(result)
            stored = time.monotonic()


def _run_one(outcome: Outcome, context: CheckContext, result: Result) -> None:
    context.name = outcome.name
    try:
        CHECKS[outcome.name].run(context)
        outcome.status, outcome.earned = "passed", outcome.points
    except CheckFailed as failure:
        outcome.status, outcome.earned = "failed", round(failure.share * outcome.points, DIGITS)
        outcome.reason, outcome.example, outcome.known = failure.reason, failure.example, failure.known
    except CheckSkipped as reason:
        outcome.reason = reason.reason
    except SubmissionError as error:
        outcome.reason = f"your code {error}"
        if error.kind != "budget" and NOT_INSTALLED not in error.text:
            outcome.status = "failed"
    except Exception as error:  # the grader's own fault must not cost a student the other checks
        if context.worker.cancelled:
            raise CancelledError from error
        outcome.reason = "the grader itself failed here; this is not your fault, tell your instructor"
        result.faults.append(f"{outcome.name}: {type(error).__name__}: {error}"[:400])


def load_hidden(folder: Path) -> str:
    """Import the instructor's own checks, `folder/*.py`; returns a digest of all that the folder holds.

    Raises:
        LabError: there is no such folder, or a file in it does not work.
    """
    if not folder.is_dir():
        raise LabError(f"--hidden {folder} is not a folder")
    total = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.is_file():
            total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    for path in sorted((folder / "images").rglob("*")):
        total.update(f"{path.relative_to(folder)} {path.stat().st_size}\0".encode())
    for path in sorted(folder.glob("*.py")):
        spec = importlib.util.spec_from_file_location(f"hidden_{path.stem}", path)
        assert spec is not None
        assert spec.loader is not None
        for name in [name for name, each in CHECKS.items() if each.run.__module__ == spec.name]:
            del CHECKS[name]  # of an earlier call in this process
        try:
            spec.loader.exec_module(importlib.util.module_from_spec(spec))
        except Exception as error:
            raise LabError(f"--hidden {path} does not work: {type(error).__name__}: {error}") from error
    return total.hexdigest()
