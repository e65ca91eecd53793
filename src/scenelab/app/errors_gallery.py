"""Val pictures for the explorer: by category, and those that a network is most wrong about."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from scenelab.data.cache import MemmapDataset
from scenelab.errors import LabError
from scenelab.io import read_json
from scenelab.runs.provenance import digest
from scenelab.runs.run import Run

PAIRS, EACH = 6, 3
CONFIDENT = 18


@dataclass(frozen=True)
class Mistake:
    """An image of a split by its number, what it is, what the network took it for, and how sure it was."""

    row: int
    is_: str
    taken_for: str
    confidence: float

    @property
    def caption(self) -> str:
        return f"{self.is_}; taken for {self.taken_for}, {100 * self.confidence:.0f} %"


@dataclass(frozen=True)
class Album:
    """The images of a split, and the mistakes that `scenelab evaluate` found on them."""

    dataset: MemmapDataset
    confused: list[Mistake]
    confident: list[Mistake]
    evaluated: bool

    def pixels(self, row: int) -> UInt8[np.ndarray, "h w 3"]:
        return self.dataset.gather(np.array([row]))[0].permute(1, 2, 0).numpy()

    def category(self, row: int) -> str:
        return self.dataset.categories[int(self.dataset.labels[row])]

    def of(self, category: str) -> list[int]:
        """The images of a category.

        Raises:
            LabError: there is no such category, or it has none.
        """
        if category not in self.dataset.categories:
            raise LabError(f"there is no category {category!r}")
        rows = (self.dataset.labels == self.dataset.categories.index(category)).nonzero()[:, 0].tolist()
        if not rows:
            raise LabError(f"no {self.dataset.split} image is of {category}")
        return rows


def read_album(run: Run, dataset: MemmapDataset) -> Album:
    """The split with the mistakes of the most confused pairs, and the most confident ones.

    Without an evaluation of these very images by these very weights there are no mistakes to show.
    """
    path, result = run.results / f"{dataset.split}_predictions.csv", run.results / f"{dataset.split}.json"
    evaluation = read_json(result) if path.exists() and result.exists() else {}
    if evaluation.get("digest") != dataset.digest or evaluation.get("weights", "") not in ("", digest(run.best)):
        return Album(dataset, [], [], evaluated=False)
    wrong = sorted(_mistakes(path, dataset), key=lambda mistake: -mistake.confidence)
    confused = []
    for pair in evaluation.get("most_confused", [])[:PAIRS]:
        members = [m for m in wrong if (m.is_, m.taken_for) == (pair["true"], pair["predicted"])]
        confused += members[:EACH]
    return Album(dataset, confused, wrong[:CONFIDENT], evaluated=True)


def _mistakes(path: Path, dataset: MemmapDataset) -> list[Mistake]:
    numbers = {name: row for row, name in enumerate(dataset.paths)}
    with open(path, newline="", encoding="utf-8") as file:
        return [
            Mistake(
                numbers[line["path"]], dataset.categories[int(line["label"])], dataset.categories[int(line["guess1"])],
                float(line["confidence"]),
            )
            for line in csv.DictReader(file)
            if line["label"] != line["guess1"] and line["path"] in numbers
        ]  # fmt: skip
