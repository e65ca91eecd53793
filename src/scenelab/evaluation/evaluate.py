"""Evaluate a run: numbers as JSON, predictions as CSV, figures; all of them in the run's `results` folder."""

import csv
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from scenelab.data.cache import Packed
from scenelab.evaluation.calibration import expected_calibration_error, reliability
from scenelab.evaluation.confused import draw_confused
from scenelab.evaluation.metrics import confusion, hits, most_confused, per_class, predict_logits, top_k, wilson
from scenelab.io import atomic_write, write_json
from scenelab.runs.network import Stored
from scenelab.runs.provenance import stamp
from scenelab.runs.run import Run


def summarize(logits: Float[Tensor, "n k"], packed: Packed) -> dict[str, Any]:
    """Top-1 and top-5 with 95 % intervals, loss and calibration error of one set of logits."""
    labels = packed.labels
    values: dict[str, Any] = {}
    for k in (1, 5):
        values[f"top{k}"] = top_k(logits, labels, k)
        values[f"top{k}_interval"] = wilson(int(hits(logits, labels, k).sum()), len(labels))
    values["loss"] = F.cross_entropy(logits, labels).item()
    values["ece"] = expected_calibration_error(logits, labels)
    return values


def evaluate(run: Run, stored: Stored, packed: Packed, *, source: str) -> dict[str, Any]:
    """Evaluate a classifier on a packed split, plain and mirror-averaged, and write everything down.

    The details (accuracy a class, confusion, calibration) are those of the mirror-averaged logits, which are the
    handout's measure.

    Returns:
        The content of `results/SPLIT.json`.
    """
    plain = predict_logits(stored.model, packed, size=stored.size)
    mirrored = predict_logits(stored.model, packed, size=stored.size, mirror=True)
    predicted = mirrored.argmax(dim=1)
    matrix = confusion(predicted, packed.labels, len(packed.categories))
    accuracy = per_class(matrix)
    result = {
        "split": packed.split,
        "source": source,
        **stamp(run.best),
        "images": len(packed),
        "digest": packed.digest,
        "model": stored.arch,
        "epoch": stored.epoch,
        "size": stored.size,
        "plain": summarize(plain, packed),
        "mirror": summarize(mirrored, packed),
        "per_class": {name: accuracy[row].item() for row, name in enumerate(packed.categories)},
        "most_confused": [asdict(pair) for pair in most_confused(matrix, packed.categories)],
        "reliability": [asdict(part) for part in reliability(mirrored, packed.labels)],
        "confusion": matrix.tolist(),
    }
    write_json(run.results / f"{packed.split}.json", result)
    _write_predictions(run.results / f"{packed.split}_predictions.csv", mirrored, packed)
    draw_confused(packed, predicted, result["most_confused"], run.results / f"{packed.split}_confused.png")
    return result


def _write_predictions(path: Path, logits: Float[Tensor, "n k"], packed: Packed) -> None:
    """A line an image: path, label, the confidence in the first guess, five guesses."""
    confidence = logits.softmax(dim=1).max(dim=1).values
    guesses = logits.topk(min(5, logits.shape[1]), dim=1).indices
    with atomic_write(path, "w") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["path", "label", "confidence", *(f"guess{rank + 1}" for rank in range(guesses.shape[1]))])
        for row, name in enumerate(packed.paths):
            table.writerow([name, int(packed.labels[row]), f"{confidence[row]:.4f}", *guesses[row].tolist()])
