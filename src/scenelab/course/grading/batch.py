"""Parallel grading of many submissions: each result is stored immediately, and identical submissions run once."""

import dataclasses
import os
import secrets
import shutil
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from scenelab.course.grading.challenge import Judge
from scenelab.course.grading.discovery import Entry, gather
from scenelab.course.grading.grade import STUBBED, grade_submission, key_of
from scenelab.course.grading.outputs import write_class, write_student
from scenelab.course.grading.results import Grade, Outcome, Result
from scenelab.course.grading.rubric import Rubric, read_rubric
from scenelab.course.grading.sandbox import Sandbox, make_stage
from scenelab.course.grading.similarity import compare
from scenelab.course.grading.submission_reader import Submission, read
from scenelab.course.grading.worker import Worker
from scenelab.course.years import year_of
from scenelab.errors import LabError
from scenelab.io import atomic_write, read_json, write_json
from scenelab.runs.lock import lock_run


def seed_of(out: Path) -> int:
    """Return the random seed stored in OUT/seed; if the file is missing, create it, readable by its owner only."""
    path = out / "seed"
    if path.exists():
        try:
            return int(path.read_text("ascii"))
        except (OSError, ValueError) as error:
            raise LabError(f"{path} cannot be read as a number: {error}; delete it or give --seed") from error
    seed = secrets.randbits(128)
    with atomic_write(path, "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(f"{seed}\n")
    return seed


@dataclass
class Batch:
    """Grader of many submissions; writes to `out` a folder students/NAME/ per student, grades.csv and a leaderboard."""

    out: Path
    rubric: Rubric
    sandbox: Sandbox
    seed: int = 0  # seed of all random inputs
    hidden: str = ""  # digest of the folder of hidden checks
    judge: Judge | None = None  # for the challenge, if the instructor has test labels
    alike: bool = False  # whether to compare submissions with each other
    by_year: bool = False  # whether each submission has the default rubric of the handout that its names follow
    notes: list[str] = field(default_factory=list)  # for the instructor
    grades: dict[str, Grade] = field(default_factory=dict)
    _results: dict[str, "Future[Result]"] = field(default_factory=dict)
    _sources: dict[str, bytes] = field(default_factory=dict)
    _workers: set[Worker] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: bool = False

    def __post_init__(self) -> None:
        self.out = self.out.resolve()
        self.scratch = self.out / ".work"  # submissions are extracted here; removed at the end

    def run(
        self, paths: list[Path], *, jobs: int = 1, single: bool = False, report: Callable[[Grade], None] | None = None
    ) -> list[Grade]:
        """Grade all submissions in files and folders, and return the grades sorted by student.

        Complete results of earlier runs are reused.

        Args:
            paths: files and folders, see `discovery.gather`.
            jobs: number of submissions graded in parallel.
            single: whether each path is one submission, whatever it contains.
            report: function called with each grade.

        Raises:
            LabError: another process is grading to the same folder, or there is no submission.
        """
        self.out.mkdir(parents=True, exist_ok=True)
        with lock_run(self.out), ExitStack() as stack:
            shutil.rmtree(self.scratch, ignore_errors=True)  # left by a run that was killed
            stack.callback(shutil.rmtree, self.scratch, ignore_errors=True)
            entries, lines = gather(paths, self.scratch, single=single, skip=self.out)
            self.notes += lines
            with ThreadPoolExecutor(jobs) as pool:
                futures = [pool.submit(self._grade, entry, report) for entry in entries]
                try:
                    for future in futures:
                        future.result()
                except BaseException:
                    self._stop(futures)
                    raise
            self._finish()
        return [self.grades[name] for name in sorted(self.grades)]

    def _stop(self, futures: "list[Future[None]]") -> None:
        self._stopped = True
        for future in futures:
            future.cancel()
        with self._lock:
            workers = list(self._workers)
        for worker in workers:
            worker.cancelled = True
        for worker in workers:
            worker.close()

    def _grade(self, entry: Entry, report: Callable[[Grade], None] | None) -> None:
        if self._stopped:
            return
        stage, path = make_stage(self.scratch), self.out / "students" / entry.student / "result.json"
        try:
            submission = self._read(entry, stage)
            for each in (stage / "submission").rglob("*"):
                each.chmod(0o755 if each.is_dir() else 0o644)
            version = metadata.version("scenelab")
            rubric = self._rubric_of(submission)
            key = key_of(submission.digest, rubric, self.seed, self.sandbox, self.hidden, version)
            with self._lock:
                is_first = key not in self._results
                future = self._results.setdefault(key, Future())
            if is_first:
                try:
                    future.set_result(self._result(submission, rubric, stage, key, path))
                except BaseException as error:
                    future.set_exception(error)
            # identical files share a result, but the notes on their archives differ
            stubs = [note for note in future.result().notes if note.startswith(STUBBED)]
            result = dataclasses.replace(future.result(), notes=[*entry.notes, *submission.notes, *stubs])
            if _stored(path, key) is None:
                write_json(path, dataclasses.asdict(result))
            if self.alike and submission.code is not None:
                with self._lock:
                    self._sources[entry.student] = submission.code.read_bytes()
        finally:
            shutil.rmtree(stage, ignore_errors=True)
        grade = Grade(entry, result, rubric)
        with self._lock:
            self.grades[entry.student] = grade
            write_student(self.out, grade)
            write_class(self.out, list(self.grades.values()))
        if report is not None:
            report(grade)

    def _rubric_of(self, submission: Submission) -> Rubric:
        source = submission.source
        if not self.by_year or submission.code is None or source.stars:
            return self.rubric
        return read_rubric(year=year_of(source.defined))

    def _read(self, entry: Entry, stage: Path) -> Submission:
        """Extract a submission to STAGE/submission; after an unexpected exception, only set its `problem`."""
        try:
            return read(entry.paths, stage / "submission", skip=self.out)
        except LabError:
            raise
        except Exception as error:
            problem = f"could not be read: the grader failed ({type(error).__name__}); tell your instructor"
            return Submission(stage / "submission", stage / "submission", problem=problem, digest=entry.student)

    def _result(self, submission: Submission, rubric: Rubric, stage: Path, key: str, path: Path) -> Result:
        stored = _stored(path, key)
        if stored is not None and stored.complete:
            return stored

        source, limits = submission.source, rubric.limits
        worker = Worker(self.sandbox, stage, submission.code or submission.root, limits, source.scanned)
        with self._lock:
            self._workers.add(worker)
        worker.cancelled = self._stopped

        def update(result: Result) -> None:
            write_json(path, dataclasses.asdict(result))

        new = Result(key, submission.digest, str(self.sandbox))
        return grade_submission(new, submission, worker, rubric, self.seed, self.judge, stored, update)

    def _finish(self) -> None:
        """Set `mates` (students with identical files) of all grades; write the class tables and similarity report."""
        teams: dict[str, list[str]] = {}
        for name in sorted(self.grades):
            teams.setdefault(self.grades[name].result.digest, []).append(name)
        for name, grade in self.grades.items():
            grade.mates = [mate for mate in teams[grade.result.digest] if mate != name]
            if grade.mates:
                write_student(self.out, grade)
        write_class(self.out, list(self.grades.values()))
        if self.alike:
            first = {self.grades[name].result.digest: name for name in sorted(self._sources, reverse=True)}
            sources = {name: self._sources[name] for name in sorted(first.values())}
            self.notes += compare(sources, self.out, self.scratch)


def _stored(path: Path, key: str) -> Result | None:
    """Return a complete or partial result from a JSON file, or None if it is missing, invalid or has another key."""
    try:
        values = read_json(path)
        result = Result(**{**values, "outcomes": [Outcome(**each) for each in values["outcomes"]]})
    except (LabError, TypeError, KeyError):
        return None
    return result if result.key == key else None
