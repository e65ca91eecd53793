"""Statistics of the last step, of the current epoch and of the whole run."""

from dataclasses import dataclass

from torch import Tensor

from scenelab.evaluation.metrics import hits


@dataclass(frozen=True, kw_only=True)
class StepStatistics:
    """Results of one step over all ranks: mean loss, counts of correct images, learning rate, seconds."""

    loss: float
    top1: int
    top5: int
    images: int
    learning_rate: float
    seconds: float


@dataclass(kw_only=True)
class EpochStatistics:
    """Sums over the steps of the current epoch; `loss` is the sum of the images' losses."""

    loss: float = 0.0
    top1: int = 0
    top5: int = 0
    images: int = 0

    def add(self, step: StepStatistics) -> None:
        """Count a step."""
        self.loss += step.loss * step.images
        self.top1 += step.top1
        self.top5 += step.top5
        self.images += step.images

    def means(self) -> dict[str, float]:
        """Return the mean loss and the accuracies in percent."""
        top1, top5 = 100 * self.top1 / self.images, 100 * self.top5 / self.images
        return {"loss": self.loss / self.images, "top1": top1, "top5": top5}


@dataclass(kw_only=True)
class RunStatistics:
    """Sums over the run, and seconds of its last evaluation and of its last probe for catastrophic overfitting.

    Attributes:
        seen: images trained on, each epoch counted.
        flops: floating-point operations of training.
        seconds: time in steps.
        spent: time from the first step on, evaluation included, checkpoints included.
    """

    seen: int = 0
    flops: int = 0
    seconds: float = 0.0
    spent: float = 0.0
    evaluating: float = 0.0
    probing: float = 0.0


def count_correct(logits: Tensor, labels: Tensor) -> tuple[int, int]:
    """Return how many labels, or most likely classes of mixed labels, are among the first one and five."""
    if not len(labels):
        return 0, 0
    targets = labels if labels.ndim == 1 else labels.argmax(dim=1)
    return int(hits(logits, targets, 1).sum()), int(hits(logits, targets, 5).sum())
