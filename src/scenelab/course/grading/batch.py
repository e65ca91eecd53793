"""Grading many submissions: side by side, each result kept as it comes, the same files once."""

import dataclasses
import os
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from scenelab.course.grading.challenge import Judge
from scenelab.course.grading.discovery import Entry, gather
from scenelab.course.grading.extract import remove
from scenelab.course.grading.grade import STUBBED, grade_submission, key_of
from scenelab.course.grading.outputs import write_class, write_student
from scenelab.course.grading.results import Grade, Result
from scenelab.course.grading.rubric import Rubric
from scenelab.course.grading.sandbox import Sandbox, make_stage
from scenelab.course.grading.similarity import compare
from scenelab.course.grading.submission_reader import Submission, read
from scenelab.course.grading.worker import Worker
from scenelab.errors import LabError
from scenelab.io import atomic_write, read_json, write_json

Tell = Callable[[Grade], None]
SEED = "seed"  # file in the folder for the grades


def seed_of(out: Path) -> int:
    """The seed that belongs to a folder of grades: drawn once and kept there, readable by its owner alone."""
    path = out / SEED
    if path.exists():
        try:
            return int(path.read_text("ascii"))
        except (OSError, ValueError) as error:
            raise LabError(f"{path} cannot be read as a number: {error}; delete it or give --seed") from error
    seed = secrets.randbits(128)
    with atomic_write(path, "w") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(f"{seed}\n")
    path.chmod(0o600)
    return seed


@dataclass
class Batch:
    """Grades a list of submissions into a folder.

    Attributes:
        out: students/NAME/ for each, grades.csv and leaderboard for all.
        rubric: the points.
        sandbox: where code runs.
        seed: of everything drawn.
        hidden: digest of the instructor's own folder, or "".
        judge: of the challenge, where there are labels.
        alike: compare submissions with each other.
        notes: for the instructor, of the batch.
    """

    out: Path
    rubric: Rubric
    sandbox: Sandbox
    seed: int = 0
    hidden: str = ""
    judge: Judge | None = None
    alike: bool = False
    notes: list[str] = field(default_factory=list)
    grades: dict[str, Grade] = field(default_factory=dict)
    _results: dict[str, "Future[Result]"] = field(default_factory=dict)
    _sources: dict[str, bytes] = field(default_factory=dict)
    _workers: set[Worker] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _stopped: bool = False

    @property
    def scratch(self) -> Path:
        """Where submissions are unpacked; gone afterwards."""
        return self.out / ".work"

    def __post_init__(self) -> None:
        self.out = self.out.resolve()

    def run(
        self, paths: list[Path], *, jobs: int = 1, single: bool = False, tell: Tell = lambda grade: None
    ) -> list[Grade]:
        """Grade all submissions in these files and folders; those that are graded already are taken as they are.

        Args:
            paths: as `discovery.gather` takes them.
            jobs: submissions at once.
            single: each path is one submission, whatever is in it.
            tell: called with each grade as it is there.

        Raises:
            LabError: there is nothing to grade, or the folder cannot be written.
        """
        remove(self.scratch)  # of a run that was killed
        try:
            entries, lines = gather(paths, self.scratch, single=single, skip=self.out)
            self.notes += lines
            with ThreadPoolExecutor(jobs) as pool:
                futures = [pool.submit(self._grade, entry, tell) for entry in entries]
                try:
                    for future in futures:
                        future.result()
                except BaseException:
                    self._stop(futures)
                    raise
            self._finish()
        finally:
            remove(self.scratch)
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

    def _grade(self, entry: Entry, tell: Tell) -> None:
        if self._stopped:
            return
        stage = make_stage(self.scratch)
        try:
            submission = self._read(entry, stage)
            for path in (stage / "submission").rglob("*"):
                path.chmod(0o755 if path.is_dir() else 0o644)
            key = key_of(
                submission.digest, self.rubric, self.seed, self.sandbox, self.hidden, metadata.version("scenelab")
            )
            with self._lock:
                mine = key not in self._results
                future = self._results.setdefault(key, Future())
            if mine:
                self._settle(future, lambda: self._result(submission, stage, key, entry))
            # of the same files the checks are the same, what is said of the archive is not
            result = dataclasses.replace(future.result(), notes=[*entry.notes, *_notes(future.result(), submission)])
            if _stored(self._place(entry), key) is None:
                write_json(self._place(entry), result.to_dict())
            self._keep_source(entry, submission)
        finally:
            remove(stage)
        grade = Grade(entry, result, self.rubric)
        with self._lock:
            self.grades[entry.student] = grade
            write_student(self.out, grade)
            write_class(self.out, list(self.grades.values()))
        tell(grade)

    def _read(self, entry: Entry, stage: Path) -> Submission:
        """What was handed in; a fault of ours in reading it must not stop the others."""
        try:
            return read(entry.paths, stage / "submission", skip=self.out)
        except LabError:
            raise
        except Exception as error:
            problem = f"could not be read: the grader failed ({type(error).__name__}); tell your instructor"
            return Submission(stage / "submission", stage / "submission", problem=problem, digest=entry.student)

    def _place(self, entry: Entry) -> Path:
        return self.out / "students" / entry.student / "result.json"

    def _settle(self, future: "Future[Result]", make: Callable[[], Result]) -> None:
        try:
            future.set_result(make())
        except BaseException as error:
            future.set_exception(error)

    def _result(self, submission: Submission, stage: Path, key: str, entry: Entry) -> Result:
        stored = self._place(entry)
        known = _stored(stored, key)
        if known is not None and known.complete:
            return known

        def remember(worker: Worker) -> None:
            with self._lock:
                self._workers.add(worker)
            worker.cancelled = self._stopped

        return grade_submission(
            submission, stage, rubric=self.rubric, sandbox=self.sandbox, key=key, seed=self.seed, judge=self.judge,
            earlier=known, update=lambda result: write_json(stored, result.to_dict()), on_worker=remember,
        )  # fmt: skip

    def _keep_source(self, entry: Entry, submission: Submission) -> None:
        if self.alike and submission.code is not None:
            with self._lock:
                self._sources[entry.student] = submission.code.read_bytes()

    def _finish(self) -> None:
        """Name team mates, who handed in the same files, and write what tells of all."""
        by_digest: dict[str, list[str]] = {}
        for name, grade in self.grades.items():
            by_digest.setdefault(grade.result.digest, []).append(name)
        for name, grade in self.grades.items():
            mates = sorted(set(by_digest[grade.result.digest]) - {name})
            if mates:
                grade.mates = mates
                write_student(self.out, grade)
        write_class(self.out, list(self.grades.values()))
        if self.alike:
            self.notes += compare(self._different(), self.out, self.scratch)

    def _different(self) -> dict[str, bytes]:
        """One source of each team."""
        seen = {self.grades[name].result.digest: name for name in sorted(self._sources, reverse=True)}
        return {name: self._sources[name] for name in sorted(seen.values())}


def _notes(result: Result, submission: Submission) -> list[str]:
    """Notes on this archive, then those that the run gave."""
    given = [note for note in result.notes if note.startswith(STUBBED)]
    return [*submission.notes, *given]


def _stored(path: Path, key: str) -> Result | None:
    """A result that was kept, perhaps incomplete, where it is of the same files, rubric and seed."""
    if not path.exists():
        return None
    try:
        result = Result.from_dict(read_json(path))
    except (LabError, TypeError, KeyError):
        return None
    return result if result.key == key else None
