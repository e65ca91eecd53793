"""Training statistics of the last step, the current epoch and the run."""

from dataclasses import dataclass

from torch import Tensor

from scenelab.evaluation.metrics import confusion, hits, is_undefined, most_confused


@dataclass(frozen=True, kw_only=True)
class StepStatistics:
    """Results of one step over all ranks: mean loss per image, and numbers of correct top-1 and top-5 predictions."""

    loss: float
    top1: int
    top5: int
    images: int
    learning_rate: float
    seconds: float


@dataclass(kw_only=True)
class EpochStatistics:
    """Sums over the current epoch: losses of the images, correct top-1 and top-5 predictions, number of images."""

    loss: float = 0.0
    top1: int = 0
    top5: int = 0
    images: int = 0

    def add(self, step: StepStatistics) -> None:
        """Add the results of one step to the sums."""
        self.loss += step.loss * step.images
        self.top1 += step.top1
        self.top5 += step.top5
        self.images += step.images

    def means(self) -> dict[str, float]:
        """Return the mean `loss` per image and the accuracies `top1` and `top5` in percent."""
        top1, top5 = 100 * self.top1 / self.images, 100 * self.top5 / self.images
        return {"loss": self.loss / self.images, "top1": top1, "top5": top5}


@dataclass(kw_only=True)
class RunStatistics:
    """Sums over the run, and durations of the last evaluation and the last overfitting check.

    Attributes:
        seen: number of images trained on; an image counts once per epoch.
        flops: floating-point operations of training.
        seconds: seconds in training steps.
        spent: seconds since the first step, including evaluation and checkpoints.
        evaluating: seconds of the last evaluation.
        probing: seconds of the last check for catastrophic overfitting.
        worse: number of evaluations since the best one.
    """

    seen: int = 0
    flops: int = 0
    seconds: float = 0.0
    spent: float = 0.0
    evaluating: float = 0.0
    probing: float = 0.0
    worse: int = 0


def count_correct(logits: Tensor, labels: Tensor) -> tuple[int, int]:
    """Return the numbers of images with correct top-1 and top-5 predictions.

    Labels are (n) class indices, or (n, k) class probabilities, whose most likely class is taken as the label.
    """
    if not len(labels):
        return 0, 0
    targets = labels if labels.ndim == 1 else labels.argmax(dim=1)
    return int(hits(logits, targets, 1).sum()), int(hits(logits, targets, 5).sum())


def count_confused(
    logits: Tensor, labels: Tensor, categories: tuple[str, ...], count: int
) -> list[tuple[str, str, int]]:
    """Return at most `count` confused pairs of classes, most frequent first: true one, predicted one, images."""
    is_defined = ~is_undefined(logits)
    matrix = confusion(logits.argmax(dim=1)[is_defined], labels[is_defined], len(categories))
    return [(pair.true, pair.predicted, pair.count) for pair in most_confused(matrix, categories, count)]
