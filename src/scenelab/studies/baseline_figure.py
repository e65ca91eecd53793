"""Figure of the study of the handout's program."""

from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from scenelab.evaluation.figures import STYLE, save
from scenelab.evaluation.study_results import BaselineRow, BaselineStudy
from scenelab.studies.published import smooth

OURS, THEIRS = "#1b3a6b", "#f2b134"


def draw_baseline(study: BaselineStudy, path: Path) -> None:
    """Save the figure as PNG (`path`) and SVG.

    One row per run shows its loss and accuracy over the published ones, the last row signal and gradient by layer.
    """
    rows = len(study.runs) + 1
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(rows, 2, figsize=(11, 3.4 * rows), gridspec_kw={"width_ratios": (3, 2)})
        for (losses, accuracy), row in zip(axes, study.runs, strict=False):
            _draw_run(losses, accuracy, row, study.guessing_loss)
        _draw_signals(axes[-1, 0], study, "signal", "signal with random weights", "root mean square, outputs")
        _draw_signals(axes[-1, 1], study, "gradient", "gradient relative to the weights", "root mean square")
        axes[-1, 0].legend()
        save(figure, path, vector=True)


def _draw_run(losses: Axes, accuracy: Axes, row: BaselineRow, guessing: float) -> None:
    for number, (team, curve) in enumerate(row.published.items()):
        losses.plot(*zip(*curve, strict=True), color=THEIRS, lw=3, label=None if number else "published")
        points = [point for point in row.published_top1[team] if point[0] <= row.loss[-1][0]]
        if points:
            accuracy.plot(*zip(*points, strict=True), "s", color=THEIRS, ms=8, label=None if number else "published")
    if curve := smooth(row.loss):
        losses.plot(*zip(*curve, strict=True), color=OURS, lw=1.3, label="ours")
    losses.axhline(guessing, color="0.5", lw=1, ls=":", label="guessing")
    warmup = f"{row.warmup} steps of warm-up" if row.warmup else "no warm-up"
    losses.set(title=f"{row.network}, {warmup}: training loss", xlabel="step", ylabel="cross-entropy in nats")
    losses.legend(loc="lower left")
    if row.top1:
        accuracy.plot(*zip(*row.top1, strict=True), "o", color=OURS, ms=4, label="ours")
    accuracy.set(title="val top-1 after each epoch", xlabel="step", ylabel="%", ylim=(0, None))
    accuracy.set_xlim(losses.get_xlim())


def _draw_signals(axis: Axes, study: BaselineStudy, key: str, title: str, label: str) -> None:
    for (name, layers), marker, color in zip(study.signals.items(), "os", (OURS, THEIRS), strict=True):
        sizes = [getattr(layer, key) for layer in layers]
        axis.plot(range(1, len(layers) + 1), sizes, f"{marker}-", color=color, label=name)
    axis.set(title=title, xlabel="layer", ylabel=label, yscale="log")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
