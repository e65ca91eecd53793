"""The evaluation of a run: its prediction for each validation image, and two runs compared."""

import csv
from typing import Any

import numpy as np

from scenelab.app.limits import PREDICTIONS
from scenelab.app.session import Session
from scenelab.errors import LabError
from scenelab.evaluation.evaluate import EvaluationResult, csv_path
from scenelab.evaluation.intervals import paired_difference
from scenelab.runs.provenance import digest

MAX_DISAGREEMENTS = 200


def read_mistakes(session: Session) -> dict[str, Any]:
    """Return labels, predictions and confidences of all validation images of a run, and its calibration, as JSON.

    An image without a prediction, because its scores are undefined, has the prediction -1.

    Raises:
        LabError: the run has no evaluation of its current network on these images.
    """
    run, dataset = session.run, session.dataset
    path, result = run.results / f"{dataset.split}_predictions.csv", run.results / f"{dataset.split}.json"
    if not path.exists() or not result.exists():
        raise LabError(f"{session.name} has no evaluation yet; make one with: scenelab evaluate RUN")
    evaluation = EvaluationResult.read(result)
    if evaluation.digest != dataset.digest or evaluation.weights not in (None, digest(run.best)):
        raise LabError(f"the evaluation of {session.name} is of other weights or images; repeat: scenelab evaluate RUN")
    rows = {csv_path(name): row for row, name in enumerate(dataset.paths)}
    guesses, confidences = [-1] * len(rows), [0.0] * len(rows)
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        for _, line in zip(range(PREDICTIONS), csv.DictReader(file), strict=False):
            row = rows.get(line["path"])
            if row is not None and line["guess1"]:
                guesses[row], confidences[row] = int(line["guess1"]), float(line["confidence"])
    return {
        "split": dataset.split,
        "categories": dataset.categories,
        "labels": dataset.labels.tolist(),
        "guesses": guesses,
        "confidences": confidences,
        "top1": evaluation.mirror.top1,
        "interval": evaluation.mirror.top1_interval,
        "ece": evaluation.mirror.ece,
        "reliability": [vars(part) for part in evaluation.reliability],
    }


def compare(first: Session, second: Session) -> dict[str, Any]:
    """Return where two networks' evaluations on the same images disagree, and the difference of their accuracies."""
    if first.dataset.paths != second.dataset.paths or first.dataset.categories != second.dataset.categories:
        raise LabError("the two networks were evaluated on different images; choose two with the same data")
    ours, theirs = read_mistakes(first), read_mistakes(second)
    labels, one, two = (np.array(values) for values in (ours["labels"], ours["guesses"], theirs["guesses"]))
    right, other_right = one == labels, two == labels
    only_first, only_second = int((right & ~other_right).sum()), int((~right & other_right).sum())
    difference, interval = paired_difference(only_first, only_second, len(labels))
    rows = np.flatnonzero(one != two)[:MAX_DISAGREEMENTS]
    return {
        "images": len(labels),
        "both": int((right & other_right).sum()),
        "only_first": only_first,
        "only_second": only_second,
        "difference": difference,
        "interval": interval,
        "categories": ours["categories"],
        "disagreements": [[int(row), int(labels[row]), int(one[row]), int(two[row])] for row in rows],
    }
