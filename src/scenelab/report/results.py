"""Report section on results: accuracy, cost, accuracy per class, confusion and calibration of each run."""

from pathlib import Path
from typing import Literal

from scenelab.evaluation.accuracy_results import Accuracy, EvaluationResult
from scenelab.report.collect import Collected, RunData
from scenelab.report.compare import compare_neighbors
from scenelab.report.sections import Section

LEARNED = 1.2  # ratio to the accuracy of random guessing; below it, a run has not learned
MAX_CLASSES = 24  # legible in the figure; more classes are also listed in a table
COLUMNS = 4  # columns of classes in this table


def results(collected: Collected, *, side_by_side: bool = False) -> Section:
    """Return the section with accuracy and training cost of all runs, and errors and calibration of each run.

    With `side_by_side`, each run is compared with the previous one on the same images.
    """
    section = Section("results", "Results")
    evaluated = [(run, run.evaluation) for run in collected.runs if run.evaluation]
    for run in collected.runs:
        if not run.evaluation:
            section.missing(f"the accuracy of {run.name}", f"scenelab evaluate {run.folder}")
    if evaluated:
        _accuracies(section, evaluated)
    if side_by_side and len(evaluated) > 1:
        compare_neighbors(section, [run for run, _ in evaluated])
    elif side_by_side:
        section.missing("the comparison of two evaluated runs", "scenelab report RUN RUN --compare")
    _cost(section, collected.runs)
    for run, result in evaluated:
        section.heading(f"{run.name} in detail")
        _details(section, run, result)
    return section


def accuracy(result: Accuracy, key: Literal["top1", "top5"]) -> str:
    """Return an accuracy with its 95 % confidence interval as text in percent, such as `61.20 (59.8–62.5)`."""
    low, high = getattr(result, f"{key}_interval")
    return f"{getattr(result, key):.2f} ({low:.1f}–{high:.1f})"


def _accuracies(section: Section, runs: list[tuple[RunData, EvaluationResult]]) -> None:
    rows, sources = [], []
    for run, result in runs:
        for part, title in ((result.mirror, "image and mirror image"), (result.plain, "image")):
            cells = [accuracy(part, "top1"), accuracy(part, "top5"), _number(part.loss, 3), _number(part.ece, 1)]
            rows.append([run.name, title, *cells])
        images = f"{result.images} {result.split} images of {Path(result.source).name} at {result.size} pixels"
        sources.append(f"{run.name}: {images}, {result.origin}.")
    head = "run|logits of|top-1 % (95 %)|top-5 % (95 %)|loss|calibration error %".split("|")
    section.table(head, rows, f"Accuracy with Wilson intervals. {' '.join(sources)}")
    for run, result in runs:
        section.stale(run, result, "evaluate")


def _cost(section: Section, runs: list[RunData]) -> None:
    rows, places, cards = [], [], []
    for run in runs:
        if cost := run.training:
            cells = [f"{cost.parameters:,}", f"{cost.checkpoint_bytes / 1e6:.2f}", f"{cost.minutes:.1f}"]
            cells += [f"{cost.epochs:.1f}", f"{cost.training_flops:.2e}", f"{cost.peak_memory_bytes / 2**30:.1f}"]
            rows.append([run.name, run.config.model, *cells])
            if place := run.environment:
                machine = f"{place.processor}, {cost.threads} threads"
                places.append(f"{run.name}: {machine}, {place.date[:10]}, {place.command}.")
        if card := run.challenge:
            size = f"{card.checkpoint_bytes:,} of {card.largest_bytes:,}"
            flops = f"{card.training_flops:.2e} of {card.k40_budget_flops:.2e}"
            cards.append([run.name, size, flops, f"{100 * card.share_of_k40_peak:.2f}", card.origin])
    if rows:
        head = "run|network|parameters|model, MB|minutes|epochs|operations|memory, GiB".split("|")
        caption = "Cost of training; operations are counted, forward and backward."
        section.table(head, rows, f"{caption} {' '.join(places)}")
    if cards:
        caption = "Limits of the MiniPlaces challenge: 10 MB, and the peak operations of a K40 in four hours."
        section.table("run|bytes|operations|share %|source".split("|"), cards, caption)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if value == value else "undefined"  # NaN


def _details(section: Section, run: RunData, result: EvaluationResult) -> None:
    if result.mirror.top1 < LEARNED * 100 / len(result.per_class):
        section.text("Accuracy is at chance level, so accuracy per class and confusions carry no information.")
        return
    source = f"{run.name}, {result.images} {result.split} images, {result.origin}"

    def show(name: str, alt: str, caption: str) -> bool:
        return section.image(run.file(f"{result.split}_{name}.png"), alt, f"{caption}; {source}.")

    drawn = show("per_class", "Top-1 accuracy per class, sorted", "Accuracy per class")
    names = [(name, value) for name, value in result.per_class.items() if value == value]  # NaN: no images
    if len(names) > MAX_CLASSES:
        count = -(-len(names) // COLUMNS)
        rows = [[cell for name, value in names[row::count] for cell in (name, f"{value:.0f}")] for row in range(count)]
        rows = [[*row, *[""] * (2 * COLUMNS - len(row))] for row in rows]
        section.table(["class", "%"] * COLUMNS, rows, f"Top-1 accuracy of all classes; {source}.")
    drawn &= show("confusion", "Confusion matrix, each row as shares of its true class", "Confusion matrix")
    if pairs := result.most_confused[:8]:
        rows = [[pair.true, pair.predicted, str(pair.count), str(pair.of)] for pair in pairs]
        section.table(["label", "prediction", "images", "of"], rows, f"The most confused classes; {source}.")
    show("confused", "Images of the most confused classes", "Examples of the most confused classes")
    drawn &= show(
        "reliability", "Accuracy against confidence", "Calibration: on the dashed line, confidence equals accuracy"
    )
    if not drawn:
        section.missing(f"the figures of {run.name}", f"scenelab evaluate {run.folder}")
