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
FIGURES = {
    "per_class": ("Top-1 accuracy per class, sorted", "Accuracy per class"),
    "confusion": ("Confusion matrix, each row as shares of its true class", "Confusion matrix"),
    "confused": ("Images of the most confused classes", "Examples of the most confused classes"),
    "reliability": ("Accuracy against confidence", "Calibration: on the dashed line, confidence equals accuracy"),
    "coverage": ("Accuracy against the share of images with an answer", "Accuracy if the least sure get no answer"),
}
"""Alt text and caption of the figures of an evaluation."""


def results(collected: Collected) -> Section:
    """Return the section with accuracy and training cost of all runs, and errors and calibration of each run."""
    section = Section("results", "Results")
    evaluated = [(run, run.evaluation) for run in collected.runs if run.evaluation]
    for run in collected.runs:
        if not run.evaluation:
            section.missing(f"the accuracy of {run.name}", f"scenelab evaluate {run.folder}")
    if evaluated:
        _accuracies(section, evaluated)
    if collected.side_by_side and len(evaluated) > 1:
        compare_neighbors(section, [run for run, _ in evaluated])
    elif collected.side_by_side:
        section.missing("the comparison of two evaluated runs", "scenelab report RUN RUN --compare")
    show_cost(section, collected.runs)
    _limits(section, collected.runs)
    for run, result in evaluated:
        section.heading(f"{run.name} in detail")
        if has_learned(section, result):
            show_figures(section, run, result, "per_class")
            _show_classes(section, run, result)
            show_figures(section, run, result, "confusion")
            show_mistakes(section, run, result)
            show_figures(section, run, result, "reliability")
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


def show_cost(section: Section, runs: list[RunData]) -> None:
    """Add the table of what the training of each run has cost."""
    rows, places = [], []
    for run in runs:
        if cost := run.training:
            cells = [f"{cost.parameters:,}", f"{cost.checkpoint_bytes / 1e6:.2f}", f"{cost.minutes:.1f}"]
            cells += [f"{cost.epochs:.1f}", f"{cost.training_flops:.2e}", f"{cost.peak_memory_bytes / 2**30:.1f}"]
            rows.append([run.name, run.config.model, *cells])
            if place := run.environment:
                machine = f"{place.processor}, {cost.threads} threads"
                places.append(f"{run.name}: {machine}, {place.date[:10]}, {place.command}.")
    if rows:
        head = "run|network|parameters|model, MB|minutes|epochs|operations|memory, GiB".split("|")
        caption = "Cost of training; operations are counted, forward and backward."
        section.table(head, rows, f"{caption} {' '.join(places)}")


def _limits(section: Section, runs: list[RunData]) -> None:
    rows = []
    for run in runs:
        if card := run.challenge:
            size = f"{card.checkpoint_bytes:,} of {card.largest_bytes:,}"
            flops = f"{card.training_flops:.2e} of {card.k40_budget_flops:.2e}"
            rows.append([run.name, size, flops, f"{100 * card.share_of_k40_peak:.2f}", card.origin])
    if rows:
        caption = "Limits of the MiniPlaces challenge: 10 MB, and the peak operations of a K40 in four hours."
        section.table("run|bytes|operations|share %|source".split("|"), rows, caption)


def _number(value: float, digits: int) -> str:
    return f"{value:.{digits}f}" if value == value else "undefined"  # NaN


def has_learned(section: Section, result: EvaluationResult) -> bool:
    """Return whether the accuracy is above that of guessing; otherwise add a sentence that says so."""
    if result.mirror.top1 >= LEARNED * 100 / len(result.per_class):
        return True
    section.text("Accuracy is at chance level, so accuracy per class and confusions carry no information.")
    return False


def source(run: RunData, result: EvaluationResult) -> str:
    """Return run, images, date and command of an evaluation, as text."""
    return f"{run.name}, {result.images} {result.split} images, {result.origin}."


def show_figures(section: Section, run: RunData, result: EvaluationResult, *names: str) -> None:
    """Add figures of an evaluation by name, each with a note instead if it is not drawn."""
    for name in names:
        alt, caption = FIGURES[name]
        if not section.image(run.file(f"{result.split}_{name}.png"), alt, f"{caption}; {source(run, result)}"):
            section.missing(f"a figure of {run.name} ({alt.lower()})", f"scenelab evaluate {run.folder}")


def _show_classes(section: Section, run: RunData, result: EvaluationResult) -> None:
    names = [(name, value) for name, value in result.per_class.items() if value == value]  # NaN: no images
    if len(names) > MAX_CLASSES:
        count = -(-len(names) // COLUMNS)
        rows = [[cell for name, value in names[row::count] for cell in (name, f"{value:.0f}")] for row in range(count)]
        rows = [[*row, *[""] * (2 * COLUMNS - len(row))] for row in rows]
        section.table(["class", "%"] * COLUMNS, rows, f"Top-1 accuracy of all classes; {source(run, result)}")


def show_mistakes(section: Section, run: RunData, result: EvaluationResult) -> None:
    """Add images and table of the most confused classes, if there are mistakes."""
    if pairs := result.most_confused[:8]:
        show_figures(section, run, result, "confused")
        rows = [[pair.true, pair.predicted, str(pair.count), str(pair.of)] for pair in pairs]
        caption = f"The most confused classes; {source(run, result)}"
        section.table(["label", "prediction", "images", "of"], rows, caption)
