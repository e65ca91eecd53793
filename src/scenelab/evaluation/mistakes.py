"""Predictions of a run's evaluation, image by image, and the comparison of two runs."""

import csv
from typing import Any

import numpy as np

from scenelab.errors import LabError
from scenelab.evaluation.accuracy_results import EvaluationResult
from scenelab.evaluation.evaluate import csv_path
from scenelab.evaluation.intervals import paired_difference
from scenelab.runs.loading import Opened
from scenelab.runs.provenance import digest

MAX_PREDICTIONS = 100_000  # read


def read_mistakes(opened: Opened) -> dict[str, Any]:
    """Return labels, predictions and confidences of the images of an evaluation, and its calibration.

    An image without a prediction, because its scores are undefined, has the prediction -1.

    Raises:
        LabError: the run has no evaluation of its current network on these images.
    """
    run, dataset = opened.run, opened.dataset
    path, result = run.results / f"{dataset.split}_predictions.csv", run.results / f"{dataset.split}.json"
    if not path.exists() or not result.exists():
        raise LabError(f"{run.folder.name} has no evaluation yet; make one with 'scenelab evaluate RUN'")
    evaluation = EvaluationResult.read(result)
    if evaluation.digest != dataset.digest or evaluation.weights not in (None, digest(run.best)):
        raise LabError(f"the evaluation of {run.folder.name} is out of date; repeat it with 'scenelab evaluate RUN'")
    rows = {csv_path(name): row for row, name in enumerate(dataset.paths)}
    guesses, confidences = [-1] * len(rows), [0.0] * len(rows)
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        for _, line in zip(range(MAX_PREDICTIONS), csv.DictReader(file), strict=False):
            if line["guess1"] and (row := rows.get(line["path"])) is not None:
                guesses[row], confidences[row] = int(line["guess1"]), float(line["confidence"])
    accuracy = evaluation.mirror
    return {
        **{"split": dataset.split, "categories": dataset.categories, "labels": dataset.labels.tolist()},
        **{"guesses": guesses, "confidences": confidences},
        **{"top1": accuracy.top1, "interval": accuracy.top1_interval, "ece": accuracy.ece},
        "reliability": [(100 * part.confidence, 100 * part.accuracy) for part in evaluation.reliability],
    }


def compare(first: Opened, second: Opened, *, count: int) -> dict[str, Any]:
    """Return the difference in accuracy of two runs' evaluations on the same images, and where they disagree.

    `disagreements` has row, label and the two predictions of at most `count` images.
    """
    if any(getattr(first.dataset, name) != getattr(second.dataset, name) for name in ("paths", "categories")):
        raise LabError("the two networks were evaluated on different images; choose two with the same data")
    ours, theirs = read_mistakes(first), read_mistakes(second)
    labels, one, two = (np.array(values) for values in (ours["labels"], ours["guesses"], theirs["guesses"]))
    is_right, is_other_right = one == labels, two == labels
    only_first, only_second = int((is_right & ~is_other_right).sum()), int((~is_right & is_other_right).sum())
    difference, interval = paired_difference(only_first, only_second, len(labels))
    rows = np.flatnonzero(one != two)[:count]
    return {
        **{"images": len(labels), "both": int((is_right & is_other_right).sum()), "categories": ours["categories"]},
        **{"only_first": only_first, "only_second": only_second, "difference": difference, "interval": interval},
        "disagreements": np.stack([rows, labels[rows], one[rows], two[rows]], axis=1).tolist(),
    }
