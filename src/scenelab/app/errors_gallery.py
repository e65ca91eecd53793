"""Validation images for the explorer: random images per category, and misclassified images."""

import csv
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8

from scenelab.data.cache import MemmapDataset
from scenelab.errors import LabError
from scenelab.evaluation.evaluate import csv_path
from scenelab.io import read_object
from scenelab.runs.provenance import digest
from scenelab.runs.run import Run

MAX_PAIRS, MAX_PER_PAIR, MAX_CONFIDENT = 6, 3, 18


@dataclass(frozen=True)
class Mistake:
    """A misclassified image: its row in the dataset, true and predicted category, and confidence from 0 to 1."""

    row: int
    category: str
    prediction: str
    confidence: float

    @property
    def caption(self) -> str:
        """Caption to show below the image."""
        return f"{self.category}; predicted {self.prediction}, {100 * self.confidence:.0f} %"


@dataclass(frozen=True)
class ErrorsGallery:
    """Images of a split, and the misclassified images of a run's evaluation.

    Attributes:
        dataset: the images.
        confused: mistakes of the most frequent pairs of true and predicted category.
        confident: mistakes with the highest confidence, highest first.
        is_evaluated: whether the run has an evaluation of its current weights on these images.
    """

    dataset: MemmapDataset
    confused: list[Mistake]
    confident: list[Mistake]
    is_evaluated: bool

    def pixels(self, row: int) -> UInt8[np.ndarray, "h w 3"]:
        """Return the stored pixels of the image in a row of the dataset."""
        return self.dataset.gather(np.array([row]))[0].permute(1, 2, 0).numpy()

    def show(self, row: int) -> tuple[UInt8[np.ndarray, "h w 3"], str]:
        """Return the image of a row, and a Markdown sentence with its split and category."""
        category = self.dataset.categories[int(self.dataset.labels[row])]
        return self.pixels(row), f"A {self.dataset.split} image of **{category}**."

    def rows_of(self, category: str) -> list[int]:
        """Return the rows of all images of a category; raise LabError if it has no image."""
        labels = self.dataset.labels.tolist()
        rows = [row for row, label in enumerate(labels) if self.dataset.categories[label] == category]
        if not rows:
            raise LabError(f"no {self.dataset.split} image is of {category!r}")
        return rows


def read_gallery(run: Run, dataset: MemmapDataset) -> ErrorsGallery:
    """Return the gallery of a dataset, with the mistakes that `scenelab evaluate` wrote to the run's results.

    The gallery has no mistakes if the run's evaluation is missing or is of other images or weights.
    """
    path, result = run.results / f"{dataset.split}_predictions.csv", run.results / f"{dataset.split}.json"
    evaluation = read_object(result) if path.exists() and result.exists() else {}
    if evaluation.get("digest") != dataset.digest or evaluation.get("weights", "") not in ("", digest(run.best)):
        return ErrorsGallery(dataset, [], [], is_evaluated=False)
    rows, names = {csv_path(name): row for row, name in enumerate(dataset.paths)}, dataset.categories
    with open(path, newline="", encoding="utf-8", errors="surrogateescape") as file:
        lines = [line for line in csv.DictReader(file) if line["guess1"]]  # empty: scores are undefined
    wrong = [line for line in lines if line["label"] != line["guess1"] and line["path"] in rows]
    mistakes = [
        Mistake(rows[line["path"]], names[int(line["label"])], names[int(line["guess1"])], float(line["confidence"]))
        for line in sorted(wrong, key=lambda line: -float(line["confidence"]))
    ]
    confused = []
    for pair in evaluation.get("most_confused", [])[:MAX_PAIRS]:
        both = (pair["true"], pair["predicted"])
        confused += [each for each in mistakes if (each.category, each.prediction) == both][:MAX_PER_PAIR]
    return ErrorsGallery(dataset, confused, mistakes[:MAX_CONFIDENT], is_evaluated=True)
