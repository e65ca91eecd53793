"""Report section on results: accuracy, cost, accuracy per class, confusion and calibration of each run."""

from pathlib import Path
from typing import Any

from scenelab.report.collect import Collected, RunData
from scenelab.report.compare import compare_neighbors
from scenelab.report.sections import Section

LEARNED = 1.2  # ratio to the accuracy of random guessing; below it, a run has not learned
MAX_CLASSES = 24  # legible in the figure; more classes are also listed in a table
COLUMNS = 4  # columns of classes in this table


def results(collected: Collected, *, side_by_side: bool = False) -> Section:
    """Return the section with the accuracy of all runs and the details of each evaluated run.

    With `side_by_side`, each run is compared with the previous one on the same images.
    """
    section = Section("results", "Results")
    evaluated = [run for run in collected.runs if run.evaluation]
    for run in collected.runs:
        if not run.evaluation:
            section.missing(f"the accuracy of {run.name}", f"scenelab evaluate {run.folder}")
    if evaluated:
        _accuracies(section, evaluated)
    if side_by_side and len(evaluated) > 1:
        compare_neighbors(section, evaluated)
    elif side_by_side:
        section.missing("the comparison of two evaluated runs", "scenelab report RUN RUN --compare")
    _cost(section, [run for run in collected.runs if run.training])
    for run in evaluated:
        section.heading(f"{run.name} in detail")
        _details(section, run, run.evaluation or {})
    return section


def accuracy(part: dict[str, Any], key: str) -> str:
    """Return the accuracy `key` of an evaluation as text, in percent, with its 95 % confidence interval."""
    low, high = part[f"{key}_interval"]
    return f"{part[key]:.2f} ({low:.1f}–{high:.1f})"


def _accuracies(section: Section, runs: list[RunData]) -> None:
    rows, sources = [], []
    for run in runs:
        result = run.evaluation or {}
        for name, title in (("mirror", "image and mirror image"), ("plain", "image")):
            part = result[name]
            cells = [accuracy(part, "top1"), accuracy(part, "top5"), _number(part["loss"], 3), _number(part["ece"], 1)]
            rows.append([run.name, title, *cells])
        sources.append(
            f"{run.name}: {result['images']} {result['split']} images of {Path(result['source']).name} at "
            f"{result['size']} pixels, {run.source(result, 'evaluate')}."
        )
    head = "run|logits of|top-1 % (95 %)|top-5 % (95 %)|loss|calibration error %".split("|")
    section.table(head, rows, f"Accuracy with Wilson intervals. {' '.join(sources)}")
    for run in runs:
        section.stale(run, run.split, "evaluate")


def _cost(section: Section, runs: list[RunData]) -> None:
    rows, places, cards = [], [], []
    for run in runs:
        cost, place = run.training or {}, run.environment
        cells = [f"{cost['parameters']:,}", f"{cost['checkpoint_bytes'] / 1e6:.2f}", f"{cost['minutes']:.1f}"]
        cells += [f"{cost['epochs']:.1f}", f"{cost['training_flops']:.2e}", f"{cost['peak_memory_bytes'] / 2**30:.1f}"]
        rows.append([run.name, run.config.model, *cells])
        processor, date = place.get("processor") or "unknown processor", place.get("date", "")[:10]
        places.append(f"{run.name}: {processor}, {cost['threads']} threads, {date}, {place.get('command', '')}.")
        if card := run.results.get("challenge"):
            size = f"{card['checkpoint_bytes']:,} of {card['largest_bytes']:,}"
            flops = f"{card['training_flops']:.2e} of {card['k40_budget_flops']:.2e}"
            cards.append(
                [run.name, size, flops, f"{100 * card['share_of_k40_peak']:.2f}", run.source(card, "challenge")]
            )
    if rows:
        head = "run|network|parameters|model, MB|minutes|epochs|operations|memory, GiB".split("|")
        caption = "Cost of training; operations are counted, forward and backward."
        section.table(head, rows, f"{caption} {' '.join(places)}")
    if cards:
        caption = "Limits of the MiniPlaces challenge: 10 MB, and the peak operations of a K40 in four hours."
        section.table("run|bytes|operations|share %|source".split("|"), cards, caption)


def _number(value: float | None, digits: int) -> str:
    return "undefined" if value is None else f"{value:.{digits}f}"


def _details(section: Section, run: RunData, result: dict[str, Any]) -> None:
    if result["mirror"]["top1"] < LEARNED * 100 / (run.classes or 1):
        section.text("Accuracy is at chance level, so accuracy per class and confusions carry no information.")
        return
    source = f"{run.name}, {result['images']} {result['split']} images, {run.source(result, 'evaluate')}"

    def show(name: str, alt: str, caption: str) -> bool:
        return section.image(run.file(f"{result['split']}_{name}.png"), alt, f"{caption}; {source}.")

    drawn = show("per_class", "Top-1 accuracy per class, sorted", "Accuracy per class")
    # null, or NaN in earlier versions: no images
    names = [(name, value) for name, value in result["per_class"].items() if value is not None and value == value]
    if len(names) > MAX_CLASSES:
        count = -(-len(names) // COLUMNS)
        rows = [[cell for name, value in names[row::count] for cell in (name, f"{value:.0f}")] for row in range(count)]
        rows = [[*row, *[""] * (2 * COLUMNS - len(row))] for row in rows]
        section.table(["class", "%"] * COLUMNS, rows, f"Top-1 accuracy of all classes; {source}.")
    drawn &= show("confusion", "Confusion matrix, each row as shares of its true class", "Confusion matrix")
    if pairs := result["most_confused"][:8]:
        rows = [[pair["true"], pair["predicted"], str(pair["count"]), str(pair["of"])] for pair in pairs]
        section.table(["label", "prediction", "images", "of"], rows, f"The most confused classes; {source}.")
    show("confused", "Images of the most confused classes", "Examples of the most confused classes")
    drawn &= show(
        "reliability", "Accuracy against confidence", "Calibration: on the dashed line, confidence equals accuracy"
    )
    if not drawn:
        section.missing(f"the figures of {run.name}", f"scenelab evaluate {run.folder}")
