"""Grading of one submission: run each check once and store partial results."""

import dataclasses
import hashlib
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from scenelab.course.grading.challenge import PART, SECONDS, Judge
from scenelab.course.grading.checks import CHECKS, CheckContext
from scenelab.course.grading.checks.convolution import bitwise_request
from scenelab.course.grading.checks.running import in_order, judge
from scenelab.course.grading.results import DIGITS, Outcome, Result
from scenelab.course.grading.rubric import Rubric
from scenelab.course.grading.sandbox import Sandbox
from scenelab.course.grading.submission_reader import Submission
from scenelab.course.grading.worker import CancelledError, SubmissionError, Worker
from scenelab.errors import LabError
from scenelab.io import sha256

PYTHON = f"Python {sys.version_info[0]}.{sys.version_info[1]}"
STUBBED = "packages that were neither submitted nor installed here were replaced by stubs:"
BETWEEN_UPDATES = 0.2  # seconds; an update after each check would take a fifth of the grading time


def key_of(digest: str, rubric: Rubric, seed: int, sandbox: Sandbox, hidden: str, version: str) -> str:
    """Return the key of a result: the hexadecimal SHA-256 of everything that determines the result.

    `digest` is the hash of the submission's files, `hidden` of the hidden checks; `version` is the version of scenelab.
    """
    parts = (digest, rubric.text, str(seed), sandbox.level, hidden, version, torch.__version__)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def grade_submission(
    result: Result,
    submission: Submission,
    worker: Worker,
    rubric: Rubric,
    seed: int,
    judge: Judge | None,
    earlier: Result | None,
    update: Callable[[Result], None],
) -> Result:
    """Run all checks of the rubric, and the challenge if there is a `judge`; fill in `result` and return it.

    Checks of `earlier`, an incomplete result with the same key, are not repeated. `update` is called with the partial
    result a few times per second, and at the end.
    """
    source = submission.source
    result.notes, result.violations = list(submission.notes), submission.violations
    result.review = _review(submission, worker)
    for name in in_order(rubric.checks):
        check, points, hidden = CHECKS[name], rubric.checks.get(name, 0.0), name in rubric.hidden
        result.outcomes.append(Outcome(name, check.group, check.text, points, hidden=hidden))
    result.problem = submission.problem or (f"{PYTHON} cannot parse {source.error}" if source.error else "")
    if earlier is None:
        update(result)
    if result.problem or submission.code is None:
        for outcome in result.outcomes:
            outcome.reason = result.problem
    else:
        context = CheckContext(worker, submission.root, seed, source.unfilled, source.banned)
        worker.opening = ("convolve_natively", *bitwise_request(context))
        if earlier is not None:
            _resume(result, earlier, worker)
        try:
            _run_all(result, context, worker, update)
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
        result.marks, result.review = list(worker.flags), _review(submission, worker)
    result.complete = not result.faults  # an incomplete result is graded again
    update(result)
    return result


def _review(submission: Submission, worker: Worker) -> list[str]:
    """Return notes for manual review without duplicates, from the extraction, the run and the static analysis."""
    source = submission.source
    words = [f"{word} could hide what is called" for word in source.hiding]
    packages = [f"{word}, a package that holds answers" for word in source.foreign]
    return list(dict.fromkeys([*submission.review, *worker.flags, *packages, *words, *source.review]))


def _resume(result: Result, earlier: Result, worker: Worker) -> None:
    """Copy the outcomes, remarks and flags of an interrupted run to the new result and the worker."""
    result.outcomes = [
        before if before.status != "not run" and before.name == outcome.name else outcome
        for outcome, before in zip(result.outcomes, earlier.outcomes, strict=False)
    ]
    result.remarks, worker.gpu_places = earlier.remarks, list(earlier.gpu)
    worker.flags, worker.emulate_gpu = dict.fromkeys(earlier.marks), bool(earlier.gpu)


def _run_all(result: Result, context: CheckContext, worker: Worker, update: Callable[[Result], None]) -> None:
    try:
        worker.start()
    except SubmissionError as error:
        result.problem = f"student_code.py cannot be imported: it {error}"
    except RuntimeError as error:
        result.faults.append(str(error))
        result.problem = "the grader could not start its process; this is not your fault"
    failed: set[str] = set()
    stored = time.monotonic()
    context.remarks = list(result.remarks)
    for outcome in result.outcomes:
        worker.part = outcome.group
        if result.problem:
            outcome.reason = result.problem
        elif outcome.status == "not run":
            _run_one(outcome, context, worker, failed, result)
        elif outcome.status != "passed" and not outcome.known:  # resumed from an interrupted run
            failed.add(outcome.name)
        result.marks = list(worker.flags)
        result.gpu, result.remarks = worker.gpu_places[:5], list(context.remarks)
        if worker.missing:
            result.notes = list(dict.fromkeys([*result.notes, f"{STUBBED} {', '.join(worker.missing)}"]))
        if time.monotonic() - stored > BETWEEN_UPDATES:
            update(result)
            stored = time.monotonic()


def _run_one(outcome: Outcome, context: CheckContext, worker: Worker, failed: set[str], result: Result) -> None:
    try:
        verdict = judge(CHECKS[outcome.name], context, failed)
        outcome.status, outcome.earned = verdict.status, round(verdict.share * outcome.points, DIGITS)
        outcome.reason, outcome.example, outcome.known = verdict.reason, verdict.example, verdict.known
    except Exception as error:  # an error of the grader must not affect the other checks
        if worker.cancelled:
            raise CancelledError from error
        failed.add(outcome.name)
        outcome.reason = "the grader itself failed here; this is not your fault, please tell your instructor"
        result.faults.append(f"{outcome.name}: {type(error).__name__}: {error}"[:400])


def load_hidden(folder: Path) -> str:
    """Register the instructor's hidden checks by importing `folder/*.py`; return the SHA-256 of the folder.

    Of files in `folder/images`, only names and sizes are hashed. Raise LabError if an import fails.
    """
    if not folder.is_dir():
        raise LabError(f"--hidden {folder} is not a folder")
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*")):
        if path.is_file():
            digest.update(path.name.encode() + b"\0" + sha256(path))
    for path in sorted((folder / "images").rglob("*")):
        digest.update(f"{path.relative_to(folder)} {path.stat().st_size}\0".encode())
    for path in sorted(folder.glob("*.py")):
        module = f"hidden_{path.stem}"
        for name in [name for name, each in CHECKS.items() if each.run.__module__ == module]:
            del CHECKS[name]  # registered by an earlier call in this process
        try:
            exec(compile(path.read_bytes(), path, "exec"), {"__name__": module, "__file__": str(path)})
        except Exception as error:
            raise LabError(f"--hidden {path} cannot be imported: {type(error).__name__}: {error}") from error
    return digest.hexdigest()
