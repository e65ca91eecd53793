"""The challenge: a model that was handed in, judged on test images whose labels the instructor has."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scenelab.course.grading.checks.model import CLASSES, NAMES, checkpoint
from scenelab.course.grading.submission_reader import Submission
from scenelab.course.grading.worker import SubmissionError, Worker
from scenelab.course.submission import MAX_MODEL_BYTES
from scenelab.data.decode import read_pictures
from scenelab.data.miniplaces import read_list
from scenelab.errors import LabError
from scenelab.models.normalize import Normalize

LABELS = "test.txt"
SIDE = 128
BATCH = 50
PART = "challenge"
SECONDS = 3600.0  # for all images; a checkpoint under 10 MB scores some hundred a second


@dataclass(frozen=True)
class Judge:
    """Test images and their labels.

    Attributes:
        folder: holds images/, as MiniPlaces does.
        listed: paths below images/ and labels.
    """

    folder: Path
    listed: list[tuple[str, int]]

    @staticmethod
    def of(folder: Path) -> "Judge | None":
        """From a folder with test.txt, lines `test/00000001.jpg 5`, and images/; None where there are no labels.

        Raises:
            LabError: the list cannot be read, or images are missing.
        """
        if not (folder / LABELS).exists():
            return None
        listed = read_list(folder / LABELS)
        missing = [name for name, _ in listed if not (folder / "images" / name).is_file()]
        if missing:
            raise LabError(f"{folder / LABELS} lists {missing[0]}, which is not in {folder / 'images'}")
        return Judge(folder, listed)

    def judge(self, worker: Worker, submission: Submission) -> dict[str, Any] | None:
        """Errors at one guess and at five in percent; `problem` says why there are none; None without a model.

        The weights are loaded and run in the sandbox; what comes back are scores, and the labels stay here.

        Args:
            worker: with limits that suit so many images.
        """
        path = checkpoint(submission.root)
        if path is None:
            return None
        entry: dict[str, Any] = {"model": path.name, "bytes": path.stat().st_size, "images": len(self.listed)}
        if path.stat().st_size > MAX_MODEL_BYTES:
            return {**entry, "problem": f"the model is over {MAX_MODEL_BYTES:,} bytes"}
        try:
            wrong = torch.stack([self._wrong(worker, path, start) for start in range(0, len(self.listed), BATCH)])
        except SubmissionError as error:
            return {**entry, "problem": f"your code {error}"}
        first, fifth = (100 * wrong.sum(dim=0) / len(self.listed)).tolist()
        return {**entry, "top1_error": round(first, 3), "top5_error": round(fifth, 3)}

    def _wrong(self, worker: Worker, path: Path, start: int) -> Tensor:
        """How many images of a batch are wrong at one guess and at five."""
        rows = self.listed[start : start + BATCH]
        pictures = read_pictures([self.folder / "images" / name for name, _ in rows], SIDE)
        labels = torch.tensor([label for _, label in rows])
        reply = worker.call("predict", {"input": Normalize()(pictures)}, names=NAMES, path=str(path))
        scores = reply.tensors["scores"]
        if scores.shape != (len(rows), CLASSES) or not scores.is_floating_point() or not scores.isfinite().all():
            raise SubmissionError("error", f"makes no {len(rows)}×{CLASSES} scores of {len(rows)} images")
        right = scores.topk(5, dim=1).indices == labels[:, None]
        return torch.stack([(~right[:, 0]).sum(), (~right.any(dim=1)).sum()])
