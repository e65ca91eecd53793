"""Challenge: evaluation of a submitted model on test images whose labels only the instructor has."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from scenelab.course.grading.checks.model import CLASSES, NAMES, checkpoint
from scenelab.course.grading.submission_reader import Submission
from scenelab.course.grading.worker import SubmissionError, Worker
from scenelab.course.submission import MAX_MODEL_BYTES
from scenelab.data.miniplaces import read_list
from scenelab.errors import LabError
from scenelab.models.normalize import Normalize

LABELS = "test.txt"
SIDE = 128
BATCH_SIZE = 10  # replacement kernels of the sandbox need much memory
PART = "challenge"
SECONDS = 3600.0  # for all images; a model below 10 MB processes some hundred images per second


@dataclass(frozen=True)
class Judge:
    """Evaluator of submitted models on the challenge's test images and labels."""

    folder: Path  # contains images/, like MiniPlaces
    listed: list[tuple[str, int]]  # pairs (path below images/, label)

    @staticmethod
    def of(folder: Path) -> "Judge | None":
        """Read the images and labels of `folder/test.txt`; return None if the file does not exist.

        Each line is a path below `folder/images` and a label: `test/00000001.jpg 5`.
        """
        if not (folder / LABELS).exists():
            return None
        listed = read_list(folder / LABELS)
        missing = [name for name, _ in listed if not (folder / "images" / name).is_file()]
        if missing:
            raise LabError(f"{folder / LABELS} lists {missing[0]}, which is not in {folder / 'images'}")
        return Judge(folder, listed)

    def judge(self, worker: Worker, submission: Submission) -> dict[str, Any] | None:
        """Evaluate the submitted model; return a dict of results, or None if there is no model.

        The dict has `model` (file name), `bytes`, `images` (count), and either `top1_error` and `top5_error` in
        percent, or `problem`, the reason why the model was not evaluated.

        The model runs in the sandbox, which receives images and returns logits; the labels stay in the grader.
        """
        path = checkpoint(submission.root)
        if path is None:
            return None
        entry: dict[str, Any] = {"model": path.name, "bytes": path.stat().st_size, "images": len(self.listed)}
        if path.stat().st_size > MAX_MODEL_BYTES:
            return {**entry, "problem": f"the model is over {MAX_MODEL_BYTES:,} bytes"}
        try:
            starts = range(0, len(self.listed), BATCH_SIZE)
            wrong = torch.stack([self._count_wrong(worker, path, start) for start in starts])
        except SubmissionError as error:
            return {**entry, "problem": f"your code {error}"}
        first, fifth = (100 * wrong.sum(dim=0) / len(self.listed)).tolist()
        return {**entry, "top1_error": round(first, 3), "top5_error": round(fifth, 3)}

    def _count_wrong(self, worker: Worker, path: Path, start: int) -> Tensor:
        """Return the counts of top-1 and top-5 errors, shape (2,), in the batch that starts at image `start`."""
        from scenelab.data.decode import read_images  # torchvision, 90 MB that a class without a challenge does without

        rows = self.listed[start : start + BATCH_SIZE]
        images = read_images([self.folder / "images" / name for name, _ in rows], SIDE)
        labels = torch.tensor([label for _, label in rows])
        reply = worker.call("predict", {"input": Normalize()(images)}, names=NAMES, path=str(path))
        scores = reply.tensors["scores"]
        if scores.shape != (len(rows), CLASSES) or not scores.is_floating_point() or not scores.isfinite().all():
            raise SubmissionError("error", f"makes no {len(rows)}×{CLASSES} scores of {len(rows)} images")
        correct = scores.topk(5, dim=1).indices == labels[:, None]
        return torch.stack([(~correct[:, 0]).sum(), (~correct.any(dim=1)).sum()])
