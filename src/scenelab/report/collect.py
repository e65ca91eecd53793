"""Read the runs and studies of a report: configs, provenance, metrics, results and predictions."""

import csv
import dataclasses
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scenelab.errors import LabError
from scenelab.io import read_object, read_text
from scenelab.runs.config import TrainConfig
from scenelab.runs.provenance import digest
from scenelab.runs.run import Run
from scenelab.training.metrics_logger import read_metrics

STUDIES = {"conv": "study.json", "design": "design.json", "adversarial": "adversarial.json"}
SHAPE_ERRORS = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, csv.Error)
RESULTS = ("training", "val", "holdout", "attribution", "robustness", "challenge")


@dataclass(frozen=True)
class RunData:
    """Content of a run folder.

    Attributes:
        rows: rows of `metrics.jsonl`.
        results: content of `results/NAME.json` by name, for each name in `RESULTS` whose file exists.
        data: name of the data folder used in training.
        weights: digest of the current weights.
        labels: class index by image path, in the evaluated split.
        guesses: indices of the predicted classes by image path, the most likely first.
    """

    name: str
    folder: Path
    config: TrainConfig
    environment: dict[str, Any]
    rows: list[dict[str, Any]]
    results: dict[str, Any]
    data: str = ""
    weights: str | None = None
    labels: dict[str, int] = field(default_factory=dict, repr=False)
    guesses: dict[str, tuple[int, ...]] = field(default_factory=dict, repr=False)

    @property
    def split(self) -> str:
        """Name of the evaluated split."""
        return evaluated_split(self.results)

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """Result of `scenelab evaluate` on `split`; None if the run was not evaluated."""
        return self.results.get(self.split)

    @property
    def training(self) -> dict[str, Any] | None:
        """Content of `results/training.json`; None if training has not finished."""
        return self.results.get("training")

    @property
    def classes(self) -> int | None:
        """Number of classes; None if the run was not evaluated."""
        return len(self.evaluation["per_class"]) if self.evaluation else None

    @property
    def origin(self) -> str:
        """Command, date, processor, versions and commit of the training, as text."""
        versions = ", ".join(f"{name} {number}" for name, number in self.environment.get("versions", {}).items())
        command, date = self.environment.get("command", "unknown command"), self.environment.get("date", "")[:10]
        processor = self.environment.get("processor") or "unknown processor"
        return f"`{command}`, {date}, {processor}, {versions}, commit {self.environment.get('commit')}."

    def file(self, name: str) -> Path:
        """Return the path of the file `name` in the run's folder `results`."""
        return Run(self.folder).results / name

    def source(self, result: dict[str, Any], command: str) -> str:
        """Return `DATE: COMMAND` of a result, as text; a missing command defaults to `scenelab COMMAND RUN`."""
        return f"{result.get('date', '')[:10]}: {result.get('command') or f'scenelab {command} {self.folder}'}"

    def is_stale(self, name: str) -> bool:
        """Return whether the weights have changed since the result `name` was measured."""
        measured = self.results[name].get("weights")
        return measured is not None and self.weights is not None and measured != self.weights


@dataclass(frozen=True)
class StudyData:
    """Result of a study and its folder."""

    folder: Path
    result: dict[str, Any]

    @property
    def source(self) -> str:
        """Processor, folder, date and command of the study, as text."""
        place = self.result["environment"]
        return f"{place['processor']}; {self.folder.name}, {place['date'][:10]}: {place['command']}"


@dataclass(frozen=True)
class Collected:
    """Runs and studies of a report; studies are by kind, a key of `STUDIES`."""

    runs: list[RunData]
    studies: dict[str, StudyData]


@contextmanager
def name_invalid_results(folders: list[Path]) -> Iterator[None]:
    """Convert errors from missing keys and wrong types in the block to a LabError that lists the folders."""
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
    studies: dict[str, StudyData] = {}
    for folder in folders:
        kinds = [kind for kind, file in STUDIES.items() if (folder / file).exists()]
        for kind in kinds:
            if kind in studies:
                raise LabError(f"{studies[kind].folder} and {folder} are studies of one kind; name only one of them")
            studies[kind] = StudyData(folder, read_object(folder / STUDIES[kind]))
        Run(folder).require_folder()
        if not kinds and not Run(folder).config.exists():
            raise LabError(f"{folder} holds neither a run (config.json) nor a study ({', '.join(STUDIES.values())})")
        if not kinds:
            runs.append(read_run(folder))
    if not runs and not studies:
        raise LabError("there is nothing to report; name a run folder, such as runs/laptop")
    names = [run.name for run in runs]
    for index, run in enumerate(runs):
        if names.count(run.name) > 1:
            runs[index] = dataclasses.replace(run, name=f"{run.folder.resolve().parent.name}/{run.name}")
    return Collected(runs, studies)


def read_run(folder: Path) -> RunData:
    """Return the content of a run folder; training may be unfinished.

    Raises:
        LabError: the config is missing, or a file does not fit this version of scenelab.
    """
    run = Run(folder)
    with name_invalid_results([folder]):
        stored = run.read_config()
        paths = {name: run.results / f"{name}.json" for name in RESULTS}
        results = {name: read_object(path) for name, path in paths.items() if path.exists()}
        robustness = results.get("robustness", {})
        if "begun" in robustness or "warnings" not in robustness:  # the measurement was interrupted
            results.pop("robustness", None)
        labels, guesses = _read_predictions(run.results / f"{evaluated_split(results)}_predictions.csv")
        return RunData(
            name=folder.resolve().name,
            folder=folder,
            config=stored.train,
            environment=read_object(run.environment) if run.environment.exists() else {},
            rows=read_metrics(run),
            results=results,
            data=Path(stored.data).name,
            weights=digest(run.best),
            labels=labels,
            guesses=guesses,
        )


def evaluated_split(results: dict[str, Any]) -> str:
    """Return the name of the evaluated split: `val` if it has results, else `holdout`."""
    return "val" if "val" in results else "holdout"


def _read_predictions(path: Path) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    rows = list(csv.DictReader(io.StringIO(read_text(path), newline=""))) if path.exists() else []
    ranks = [name for name in rows[0] if name.startswith("guess")] if rows else []
    guesses = {row["path"]: tuple(int(row[rank]) for rank in ranks) for row in rows}
    return {row["path"]: int(row["label"]) for row in rows}, guesses
