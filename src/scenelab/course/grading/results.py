"""Results of a submission's checks, and the grade of a student."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from scenelab.course.grading.discovery import Entry
from scenelab.course.grading.rubric import Rubric

DIGITS = 4  # decimal places of points


@dataclass
class Outcome:
    """Outcome of one check."""

    name: str
    group: str
    text: str  # what the check tests, for the student
    points: float  # maximum
    status: str = "not run"  # or "passed", "failed"
    earned: float = 0.0
    reason: str = ""
    example: str = ""
    hidden: bool = False
    known: bool = False  # right except for one recognized mistake, as in `CheckFailed`


@dataclass
class Result:
    """Result of running a submission, stored as result.json; students with identical files share it."""

    key: str  # hash of everything that the result depends on
    digest: str  # SHA-256 of the submission's files
    sandbox: str  # isolation level, and what it does not prevent
    problem: str = ""
    outcomes: list[Outcome] = field(default_factory=list)
    violations: dict[str, list[str]] = field(default_factory=dict)  # broken rules, each with its occurrences
    gpu: list[str] = field(default_factory=list)  # places in the code that need a GPU
    notes: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    review: list[str] = field(default_factory=list)  # notes for the person who reviews the submission
    marks: list[str] = field(default_factory=list)  # review flags raised while the code ran, also in `review`
    faults: list[str] = field(default_factory=list)  # errors of the grader itself
    challenge: dict[str, Any] | None = None
    complete: bool = False  # whether all checks have run


@dataclass
class Grade:
    """Grade of a student: the result of the submitted files, less penalties."""

    entry: Entry
    result: Result
    rubric: Rubric
    mates: list[str] = field(default_factory=list)  # students with an identical submission
    manual: dict[str, float] | None = None  # points given by people, by part; None if they are not merged

    @property
    def earned(self) -> float:
        """Points earned in all checks."""
        return round(sum(outcome.earned for outcome in self.result.outcomes), DIGITS)

    @property
    def review(self) -> list[str]:
        """Notes for manual review; empty if the rubric's list `accepted` contains the submission."""
        return [] if self.result.digest in self.rubric.accepted else self.result.review

    @property
    def held(self) -> float:
        """Points withheld until the review: all points earned for the convolution, or 0 if no review is needed."""
        points = sum(outcome.earned for outcome in self.result.outcomes if outcome.group == "convolution")
        return round(points, DIGITS) if self.review else 0.0

    @property
    def penalties(self) -> list[tuple[str, float]]:
        """Penalties as pairs (text, points)."""
        rules, percents = self.rubric.penalties, []
        for number, (rule, places) in enumerate(self.result.violations.items(), start=1):
            more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
            percents.append((f"{rule}: {places[0]}{more}", rules.format_percent if number > rules.format_free else 0.0))
        if self.result.gpu:
            percents.append((f"requires a GPU even if there is none: {self.result.gpu[0]}", rules.gpu_percent))
        if self.entry.late:
            percents.append(("submitted late", rules.late_percent))
        return [(text, round(self.rubric.points * percent / 100, DIGITS)) for text, percent in percents]

    @property
    def deducted(self) -> float:
        """Sum of all penalties in points."""
        return round(sum(points for _, points in self.penalties), DIGITS)

    @property
    def score(self) -> float:
        """Points earned minus penalties, at least 0."""
        return round(max(0.0, self.earned - self.deducted), DIGITS)

    @property
    def ungraded(self) -> list[str]:
        """Parts without points that people have to give; bonus parts may stay empty."""
        return [part.name for part in self.rubric.manual if not part.bonus and part.name not in (self.manual or {})]

    @property
    def final(self) -> float | None:
        """Points of checks and people minus penalties, at least 0; None while a part is ungraded."""
        total = self.earned + sum((self.manual or {}).values()) - self.deducted
        return None if self.ungraded else round(max(0.0, total), DIGITS)

    @property
    def points(self) -> float | None:
        """Points for a gradebook: `final` if points of people are merged, else `score`."""
        return self.score if self.manual is None else self.final


def common_rubric(grades: Sequence[Grade]) -> Rubric:
    """Return the rubric of most submissions of a class; with rubrics by year they may differ."""
    counts = Counter(grade.rubric.text for grade in grades)
    return max((grade.rubric for grade in grades), key=lambda rubric: counts[rubric.text])
