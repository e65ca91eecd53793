"""Schema of the accuracy on corrupted images."""

from scenelab.evaluation.results import Result, Share, Value


class CorruptionCurve(Value):
    """Accuracy by strength of one corruption, the mildest first; `unit` is the meaning of `values`."""

    unit: str
    values: tuple[float, ...]
    accuracy: tuple[Share, ...]


class CorruptionResult(Result):
    """Content of `results/corruptions.json`: accuracy on images as they are (`clean`) and by kind of corruption."""

    split: str
    digest: str
    images: int
    seed: int
    clean: Share
    curves: dict[str, CorruptionCurve]
