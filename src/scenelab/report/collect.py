"""Read the runs and studies of a report: configs, provenance, metrics, results and predictions."""

import csv
import dataclasses
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from scenelab.errors import LabError
from scenelab.evaluation.accuracy_results import ChallengeCard, EvaluationResult
from scenelab.evaluation.attribution_results import AttributionResult
from scenelab.evaluation.corruption_results import CorruptionResult
from scenelab.evaluation.results import CrossValidation, Stamped
from scenelab.evaluation.robustness_results import RobustnessResult
from scenelab.evaluation.study_results import AdversarialStudy, ConvStudy, DesignStudy, Study
from scenelab.io import read_text
from scenelab.report.team import Team
from scenelab.runs.config import TrainConfig
from scenelab.runs.provenance import Environment, TrainingResult, digest
from scenelab.runs.run import Run
from scenelab.schema import Model
from scenelab.training.metrics_logger import read_metrics

STUDIES: dict[str, tuple[str, type[Study]]] = {
    "conv": ("study.json", ConvStudy),
    "design": ("design.json", DesignStudy),
    "adversarial": ("adversarial.json", AdversarialStudy),
}
"""File and schema of each kind of study."""
SHAPE_ERRORS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, csv.Error)
M = TypeVar("M", bound=Model)
S = TypeVar("S", bound=Study, covariant=True)


@dataclass(frozen=True)
class RunData:
    """Content of a run folder; results that have not been measured are None.

    Attributes:
        rows: losses and accuracies during training, the rows of `metrics.jsonl`.
        evaluation: accuracy on val if measured, else on the held-out training images.
        training: cost of the finished training, such as minutes, FLOPs and memory.
        data: name of the data folder used in training.
        weights: SHA-256 of the current weights file.
        labels: class index by image path, in the evaluated split.
        guesses: indices of the predicted classes by image path, the most likely first.
    """

    name: str
    folder: Path
    config: TrainConfig
    environment: Environment | None
    rows: list[dict[str, Any]]
    evaluation: EvaluationResult | None = None
    training: TrainingResult | None = None
    attribution: AttributionResult | None = None
    robustness: RobustnessResult | None = None
    corruptions: CorruptionResult | None = None
    cross_validation: CrossValidation | None = None
    challenge: ChallengeCard | None = None
    data: str = ""
    weights: str | None = None
    labels: dict[str, int] = field(default_factory=dict, repr=False)
    guesses: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False)

    @property
    def classes(self) -> int | None:
        """Number of classes; None if the run was not evaluated."""
        return len(self.evaluation.per_class) if self.evaluation else None

    @property
    def origin(self) -> str:
        """Command, date, processor, versions and commit of the training, as text."""
        place = self.environment
        if place is None:
            return "unknown command and machine."
        versions = ", ".join(f"{name} {number}" for name, number in place.versions.items())
        return f"`{place.command}`, {place.date[:10]}, {place.processor}, {versions}, commit {place.commit}."

    def file(self, name: str) -> Path:
        """Return the path of the file `name` in the run's folder `results`."""
        return Run(self.folder).results / name

    def is_stale(self, result: Stamped) -> bool:
        """Return whether the weights have changed since the result was measured."""
        return None not in (result.weights, self.weights) and result.weights != self.weights


@dataclass(frozen=True)
class StudyData(Generic[S]):
    """A study's result, and the folder of the study."""

    folder: Path
    result: S

    @property
    def source(self) -> str:
        """Processor, folder, date and command of the study, as text."""
        place = self.result.environment
        return f"{place.processor}; {self.folder.name}, {place.date[:10]}: {place.command}"


@dataclass(frozen=True)
class Collected:
    """Runs of a report, at most one study of each kind, and how to show them.

    Attributes:
        team: members and texts of the report.
        side_by_side: whether the results compare each run with the previous one.
    """

    runs: list[RunData]
    conv: StudyData[ConvStudy] | None = None
    design: StudyData[DesignStudy] | None = None
    adversarial: StudyData[AdversarialStudy] | None = None
    team: Team = field(default_factory=Team)
    side_by_side: bool = False


@contextmanager
def name_invalid_results(folders: list[Path]) -> Iterator[None]:
    """Replace exceptions that invalid results raise inside the block by a LabError that lists `folders`."""
    try:
        yield
    except SHAPE_ERRORS as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise LabError(
            f"the results in {', '.join(map(str, folders))} do not fit this version of scenelab ({cause}); "
            "repeat the commands that made them"
        ) from error


def collect(folders: list[Path]) -> Collected:
    """Return the content of all `folders`, each the folder of a run or a study.

    Raises:
        LabError: a folder is neither a run nor a study, two studies have the same kind, or `folders` is empty.
    """
    runs: list[RunData] = []
    studies: dict[str, Any] = {}
    for folder in folders:
        kinds = [kind for kind, (file, _) in STUDIES.items() if (folder / file).exists()]
        for kind in kinds:
            if kind in studies:
                raise LabError(f"{studies[kind].folder} and {folder} are studies of one kind; name only one of them")
            file, schema = STUDIES[kind]
            studies[kind] = StudyData(folder, schema.read(folder / file))
        Run(folder).require_folder()
        if not kinds and not Run(folder).config.exists():
            files = ", ".join(file for file, _ in STUDIES.values())
            raise LabError(f"{folder} holds neither a run (config.json) nor a study ({files})")
        if not kinds:
            runs.append(read_run(folder))
    if not runs and not studies:
        raise LabError("there is nothing to report; name a run folder, such as runs/laptop")
    names = [run.name for run in runs]
    for index, run in enumerate(runs):
        if names.count(run.name) > 1:
            runs[index] = dataclasses.replace(run, name=f"{run.folder.resolve().parent.name}/{run.name}")
    return Collected(runs, **studies)


def read_run(folder: Path) -> RunData:
    """Return the content of a run folder; training may be unfinished.

    Raises:
        LabError: the config is missing, or a file does not fit this version of scenelab.
    """
    run = Run(folder)
    with name_invalid_results([folder]):
        stored = run.read_config()
        evaluation = _read(EvaluationResult, run, "val") or _read(EvaluationResult, run, "holdout")
        robustness = _read(RobustnessResult, run, "robustness")
        if robustness and (robustness.begun or "warnings" not in robustness.model_fields_set):  # interrupted
            robustness = None
        split = evaluation.split if evaluation else "val"
        labels, guesses = _read_predictions(run.results / f"{split}_predictions.csv")
        return RunData(
            name=folder.resolve().name,
            folder=folder,
            config=stored.train,
            environment=Environment.read(run.environment) if run.environment.exists() else None,
            rows=read_metrics(run),
            evaluation=evaluation,
            training=_read(TrainingResult, run, "training"),
            attribution=_read(AttributionResult, run, "attribution"),
            robustness=robustness,
            corruptions=_read(CorruptionResult, run, "corruptions"),
            cross_validation=_read(CrossValidation, run, "cross_validation"),
            challenge=_read(ChallengeCard, run, "challenge"),
            data=Path(stored.data).name,
            weights=digest(run.best),
            labels=labels,
            guesses=guesses,
        )


def _read(kind: type[M], run: Run, name: str) -> M | None:
    path = run.results / f"{name}.json"
    return kind.read(path) if path.exists() else None


def _read_predictions(path: Path) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    rows = (
        list(csv.DictReader(io.StringIO(read_text(path, errors="surrogateescape"), newline="")))
        if path.exists()
        else []
    )
    ranks = [name for name in rows[0] if name.startswith("guess")] if rows else []
    guesses = {row["path"]: tuple(int(row[rank]) for rank in ranks if row[rank]) for row in rows}
    return {row["path"]: int(row["label"]) for row in rows}, guesses
