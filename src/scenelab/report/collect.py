"""What folders hold: runs with their config, provenance, curves and results, and the studies beside them."""

import csv
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scenelab.errors import LabError
from scenelab.io import read_json, read_text
from scenelab.runs.config import TrainConfig
from scenelab.runs.provenance import digest
from scenelab.runs.run import Run
from scenelab.training.metrics_logger import read_metrics

STUDIES = {"conv": "study.json", "design": "design.json", "adversarial": "adversarial.json"}
STUMBLES = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError, csv.Error)
RESULTS = ("training", "val", "holdout", "attribution", "robustness", "challenge")
FLAT = 1.2  # times the accuracy of guessing that a run must reach to be said to have learned


@dataclass(frozen=True)
class RunData:
    """A run folder as read.

    Attributes:
        results: by name, those of `RESULTS` that are there.
        data: name of the folder that it was trained on.
        weights: digest of its best weights as they are now.
        guesses: image path to its guesses, the likeliest first, of the evaluation that the report tells of; empty
            without one.
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
    def evaluated(self) -> str:
        """The split that the report tells of: val, or else held-out images."""
        return evaluated_split(self.results)

    @property
    def evaluation(self) -> dict[str, Any] | None:
        """What `scenelab evaluate` found on it."""
        return self.results.get(self.evaluated)

    @property
    def finished(self) -> bool:
        return "training" in self.results

    @property
    def classes(self) -> int | None:
        """How many classes it tells apart, where that was written down."""
        return len(self.evaluation["per_class"]) if self.evaluation else None

    def made(self, name: str, command: str) -> str:
        """When and how a result was made; `command` stands in where it was not written down."""
        result = self.results[name]
        return f"{result.get('date', '')[:10]}: {result.get('command') or f'scenelab {command} {self.folder}'}"

    def stale(self, name: str) -> bool:
        """Whether a result is of other weights than the run has now."""
        told = self.results[name].get("weights")
        return told is not None and self.weights is not None and told != self.weights


@dataclass(frozen=True)
class Collected:
    """All that a report is made from."""

    runs: list[RunData]
    studies: dict[str, tuple[Path, dict[str, Any]]]


@contextmanager
def understood(folders: list[Path]) -> Iterator[None]:
    """Results of another shape than is written here make whoever reads them stumble: one line for all of that.

    Raises:
        LabError: something was missing, or of another kind.
    """
    try:
        yield
    except STUMBLES as error:
        cause = " ".join(f"{type(error).__name__}: {error}".split())[:120]
        raise LabError(
            f"the results in {', '.join(map(str, folders))} are not as this version of scenelab writes them ({cause}); "
            "make them again"
        ) from error


def collect(folders: list[Path]) -> Collected:
    """Read run folders and study folders, told apart by what lies in them.

    Raises:
        LabError: a folder is neither, or holds no run and no study at all.
    """
    runs: list[RunData] = []
    studies: dict[str, tuple[Path, dict[str, Any]]] = {}
    for folder in folders:
        found = {name: folder / file for name, file in STUDIES.items() if (folder / file).exists()}
        if found:
            for name, path in found.items():
                if name in studies:
                    raise LabError(f"{studies[name][0]} and {folder} are studies of one kind; name one of them")
                studies[name] = (folder, read_json(path))
        elif Run(folder).config.exists():
            runs.append(read_run(folder))
        else:
            raise LabError(f"{folder} holds neither a run (config.json) nor a study ({', '.join(STUDIES.values())})")
    if not runs and not studies:
        raise LabError("there is nothing to report; name a run folder, such as runs/laptop")
    return Collected(_named(runs), studies)


def read_run(folder: Path) -> RunData:
    """Read what a run folder holds, finished or not.

    Raises:
        LabError: its config is missing or of another version, or its results are.
    """
    with understood([folder]):
        return _read(folder)


def _read(folder: Path) -> RunData:
    run = Run(folder)
    stored = run.read_config()
    results = {name: read_json(run.results / f"{name}.json") for name in RESULTS if _there(run, name)}
    labels, guesses = _read_predictions(run.results / f"{evaluated_split(results)}_predictions.csv")
    return RunData(
        name=folder.resolve().name,
        folder=folder,
        config=stored.train,
        environment=read_json(run.environment) if run.environment.exists() else {},
        rows=read_metrics(run) if run.metrics.exists() else [],
        results=_whole(results),
        data=Path(stored.data).name,
        weights=digest(run.best),
        labels=labels,
        guesses=guesses,
    )


def evaluated_split(results: dict[str, Any]) -> str:
    return "val" if "val" in results else "holdout"


def _whole(results: dict[str, Any]) -> dict[str, Any]:
    """Without a report of robustness that was stopped before its end."""
    robustness = results.get("robustness", {})
    if "begun" in robustness or "warnings" not in robustness:
        return {name: values for name, values in results.items() if name != "robustness"}
    return results


def _there(run: Run, name: str) -> bool:
    return (run.results / f"{name}.json").exists()


def _read_predictions(path: Path) -> tuple[dict[str, int], dict[str, tuple[int, ...]]]:
    if not path.exists():
        return {}, {}
    rows = list(csv.DictReader(io.StringIO(read_text(path), newline="")))
    ranks = [name for name in rows[0] if name.startswith("guess")] if rows else []
    guesses = {row["path"]: tuple(int(row[rank]) for rank in ranks) for row in rows}
    return {row["path"]: int(row["label"]) for row in rows}, guesses


def _named(runs: list[RunData]) -> list[RunData]:
    """Runs of the same folder name are told apart by the folder above."""
    names = [run.name for run in runs]
    return [
        run
        if names.count(run.name) == 1
        else RunData(**{**vars(run), "name": f"{run.folder.resolve().parent.name}/{run.name}"})
        for run in runs
    ]
