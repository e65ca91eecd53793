"""Evaluation of a run on a split: metrics as JSON, predictions as CSV, and figures in the run's results."""

from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scenelab.data.cache import MemmapDataset
from scenelab.data.judging import describe_images
from scenelab.evaluation.accuracy_results import Accuracy, Calibrated, EvaluationResult
from scenelab.evaluation.calibration import (
    coverage_curve,
    cross_calibrate,
    expected_calibration_error,
    fit_temperature,
    reliability,
)
from scenelab.evaluation.confused_images import draw_confused
from scenelab.evaluation.figures import draw_confusion, draw_coverage, draw_curves, draw_per_class, draw_reliability
from scenelab.evaluation.intervals import wilson
from scenelab.evaluation.metrics import (
    class_scores,
    confusion,
    hits,
    is_undefined,
    max_logit,
    most_confused,
    per_class,
    top_k,
)
from scenelab.evaluation.precision import Precision, predict_mirrored
from scenelab.evaluation.rejection import fit_threshold, measure_rejection
from scenelab.evaluation.results import stamp_result
from scenelab.io import FORMULA_STARTS, atomic_write, write_csv_row
from scenelab.runs.calibration import Calibration
from scenelab.runs.network import Stored
from scenelab.runs.provenance import stamp
from scenelab.runs.run import Run


def evaluate(
    run: Run,
    stored: Stored,
    dataset: MemmapDataset,
    unknown: MemmapDataset | None = None,
    *,
    source: str,
    precision: Precision = "auto",
) -> EvaluationResult:
    """Evaluate a classifier on a split; write metrics, predictions and misclassified images to RUN/results.

    Accuracy per class, confusion matrix and calibration use the mean logits of image and mirror image. On the run's own
    held-out images (val without a holdout), a temperature and the threshold of "none of these" are fitted, stored in
    RUN/calibration.json and set in `stored.model`. `unknown` are images of none of the classes, to measure how many are
    recognized. `source` is the name of the data folder, to be stored in the result. `precision` is as for
    `predict_mirrored`.

    Raises:
        LabError: there are unknown images, and no threshold.
    """
    temperature, stored.model.temperature = stored.model.temperature, 1.0
    outputs = predict_mirrored(stored.model, dataset, size=stored.size, precision=precision)
    others = predict_mirrored(stored.model, unknown, size=stored.size, precision=precision) if unknown else None
    stored.model.temperature, mirrored = temperature, outputs.mirrored
    is_own = run.config.exists() and run.results == run.folder / "results"
    is_fitted = is_own and dataset.split == run.held_out
    logits, calibrated = _calibrate(run, stored, mirrored, dataset, is_fitted=is_fitted)
    rejection = measure_rejection(stored.model, mirrored, others.mirrored if others else None, is_fitted=is_fitted)
    predicted, valid = mirrored.argmax(dim=1), ~is_undefined(mirrored)
    matrix = confusion(predicted[valid], dataset.labels[valid], len(dataset.categories))
    totals = dataset.labels.bincount(minlength=len(dataset.categories))
    undefined: dict[str, Any] = {} if valid.all() else {"undefined": int((~valid).sum())}
    result = EvaluationResult(
        **stamp_result(run, stored.arch, stored.size),
        split=dataset.split,
        source=source,
        images=len(dataset),
        digest=dataset.digest,
        epoch=stored.epoch,
        plain=_accuracy(outputs.plain, dataset),
        mirror=_accuracy(mirrored, dataset),
        per_class=dict(zip(dataset.categories, per_class(matrix, totals).tolist(), strict=True)),
        most_confused=most_confused(matrix, dataset.categories, totals=totals),
        reliability=reliability(mirrored, dataset.labels),
        confusion=matrix.tolist(),
        scores=dict(zip(dataset.categories, class_scores(matrix, totals), strict=True)),
        coverage=coverage_curve(logits, dataset.labels),
        calibrated=calibrated,
        rejection=rejection,
        precision=outputs.precision,
        **undefined,
    )
    result.write(run.results / f"{dataset.split}.json")
    _write_predictions(run.results / f"{dataset.split}_predictions.csv", logits, dataset)
    with atomic_write(run.results / f"{dataset.split}_confusion.csv", "w") as file:
        write_csv_row(file, ["true, then predicted as", *dataset.categories])
        for name, row in zip(dataset.categories, result.confusion, strict=True):
            write_csv_row(file, [name, *row])
    draw_confused(dataset, predicted, result.most_confused, run.results / f"{dataset.split}_confused.png")
    return result


def _calibrate(
    run: Run, stored: Stored, logits: Float[Tensor, "n k"], dataset: MemmapDataset, *, is_fitted: bool
) -> tuple[Float[Tensor, "n k"], Calibrated | None]:
    """Return calibrated logits and their calibration; with `is_fitted`, fit and store temperature and threshold."""
    temperature, labels = stored.model.temperature, dataset.labels
    if is_fitted:
        halves = cross_calibrate(logits, labels)
        temperature = 1.0 if halves is None else fit_temperature(logits, labels)
        stored.model.temperature, stored.model.threshold = temperature, fit_threshold(max_logit(logits / temperature))
        values = {"temperature": temperature, "threshold": stored.model.threshold}
        values |= {"split": dataset.split, "images": len(labels)}
        Calibration.model_validate({**stamp(run.best), **values}).write(run.calibration)
        logits = logits if halves is None else halves
    else:
        logits = logits / temperature
    if temperature == 1:
        return logits, None
    loss, ece = F.cross_entropy(logits, labels).item(), expected_calibration_error(logits, labels)
    bins = reliability(logits, labels)
    return logits, Calibrated(temperature=temperature, is_fitted=is_fitted, loss=loss, ece=ece, reliability=bins)


def _accuracy(logits: Float[Tensor, "n k"], dataset: MemmapDataset) -> Accuracy:
    labels, values = dataset.labels, {}
    for k in (1, 5):
        values[f"top{k}"] = top_k(logits, labels, k)
        values[f"top{k}_interval"] = wilson(int(hits(logits, labels, k).sum()), len(labels))
    loss = F.cross_entropy(logits, labels).item()
    return Accuracy(**values, loss=loss, ece=expected_calibration_error(logits, labels))


def csv_path(path: str) -> str:
    """Return a relative path as a cell that no spreadsheet runs as a formula: `./=x.png` for `=x.png`."""
    return f"./{path}" if path.startswith(FORMULA_STARTS) else path


def _write_predictions(path: Path, logits: Float[Tensor, "n k"], dataset: MemmapDataset) -> None:
    """Write a CSV row per image: path, true label, probability of the top class, and up to five top class indices.

    Probability and indices of an image are empty if they are undefined.
    """
    confidence = logits.softmax(dim=1).max(dim=1).values
    guesses = logits.topk(min(5, logits.shape[1]), dim=1).indices
    with atomic_write(path, "w") as file:
        write_csv_row(file, ["path", "label", "confidence", *(f"guess{rank + 1}" for rank in range(guesses.shape[1]))])
        for row, name in enumerate(dataset.paths):
            cells = [f"{confidence[row]:.4f}", *guesses[row].tolist()]
            cells = [""] * len(cells) if confidence[row].isnan() else cells
            write_csv_row(file, [csv_path(name), int(dataset.labels[row]), *cells])


def draw_all(result: EvaluationResult, rows: list[dict[str, Any]], folder: Path) -> list[Path]:
    """Draw the figures of an evaluation, and training curves from logged metrics (`rows`) if any; return the paths."""
    names = [f"{result.split}_{name}.png" for name in ("confusion", "per_class", "reliability", "coverage")]
    paths = [folder / name for name in names]
    title = f"confusion on {describe_images(result.images, result.split)}"
    draw_confusion(result.confusion, list(result.per_class), title, paths[0])
    draw_per_class(result.per_class, result.mirror.top1, paths[1])
    calibration = result.calibrated
    bins = calibration.reliability if calibration else result.reliability
    draw_reliability(bins, calibration.ece if calibration else result.mirror.ece, paths[2])
    draw_coverage(result.coverage, paths[3])
    if not rows:
        return paths
    draw_curves(rows, folder / "curves.png")
    return [folder / "curves.png", *paths]
