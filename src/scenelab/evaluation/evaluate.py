"""Evaluate a run: numbers as JSON, predictions as CSV and figures in the run's `results` folder."""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scenelab.data.cache import MemmapDataset
from scenelab.evaluation.calibration import expected_calibration_error, reliability
from scenelab.evaluation.confused import draw_confused
from scenelab.evaluation.intervals import wilson
from scenelab.evaluation.metrics import confusion, hits, most_confused, per_class, predict_logits, top_k
from scenelab.io import atomic_write, write_json
from scenelab.runs.network import Stored
from scenelab.runs.provenance import stamp
from scenelab.runs.run import Run


def summarize(logits: Float[Tensor, "n k"], dataset: MemmapDataset) -> dict[str, Any]:
    """Return top-1 and top-5 accuracy with 95 % intervals, loss, and calibration error."""
    labels = dataset.labels
    values: dict[str, Any] = {}
    for k in (1, 5):
        values[f"top{k}"] = top_k(logits, labels, k)
        values[f"top{k}_interval"] = wilson(int(hits(logits, labels, k).sum()), len(labels))
    values["loss"] = F.cross_entropy(logits, labels).item()
    values["ece"] = expected_calibration_error(logits, labels)
    return values


def evaluate(run: Run, stored: Stored, dataset: MemmapDataset, *, source: str) -> dict[str, Any]:
    """Evaluate a classifier on a split, plain and averaged with mirror images, and write the results.

    The details (accuracy per class, confusion, calibration) are those of the averaged logits, the handout's measure.

    Args:
        run: its `results` folder gets the files.
        stored: the classifier.
        dataset: the split.
        source: the data folder, as the result names it.

    Returns:
        The content of `results/SPLIT.json`.
    """
    plain = predict_logits(stored.model, dataset, size=stored.size)
    mirrored = predict_logits(stored.model, dataset, size=stored.size, mirror=True)
    predicted = mirrored.argmax(dim=1)
    matrix = confusion(predicted, dataset.labels, len(dataset.categories))
    result = {
        "split": dataset.split,
        "source": source,
        **stamp(run.best),
        "images": len(dataset),
        "digest": dataset.digest,
        "model": stored.arch,
        "epoch": stored.epoch,
        "size": stored.size,
        "plain": summarize(plain, dataset),
        "mirror": summarize(mirrored, dataset),
        "per_class": dict(zip(dataset.categories, per_class(matrix).tolist(), strict=True)),
        "most_confused": [asdict(pair) for pair in most_confused(matrix, dataset.categories)],
        "reliability": [asdict(part) for part in reliability(mirrored, dataset.labels)],
        "confusion": matrix.tolist(),
    }
    write_json(run.results / f"{dataset.split}.json", result)
    _write_predictions(run.results / f"{dataset.split}_predictions.csv", mirrored, dataset)
    draw_confused(dataset, predicted, result["most_confused"], run.results / f"{dataset.split}_confused.png")
    return result


def _write_predictions(path: Path, logits: Float[Tensor, "n k"], dataset: MemmapDataset) -> None:
    """Write one row per image: path, label, confidence of the first guess, and up to five guesses."""
    confidence = logits.softmax(dim=1).max(dim=1).values
    guesses = logits.topk(min(5, logits.shape[1]), dim=1).indices
    with atomic_write(path, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "label", "confidence", *(f"guess{rank + 1}" for rank in range(guesses.shape[1]))])
        for row, name in enumerate(dataset.paths):
            table.writerow([name, int(dataset.labels[row]), f"{confidence[row]:.4f}", *guesses[row].tolist()])
