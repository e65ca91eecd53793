"""Sections on results: accuracy, classes, confusion, calibration, what it took, and two runs side by side."""

from itertools import pairwise
from pathlib import Path
from typing import Any

from scenelab.errors import LabError
from scenelab.report.blocks import Section
from scenelab.report.collect import FLAT, Collected, RunData
from scenelab.report.compare import compare
from scenelab.report.figures import draw_confusion, draw_per_class, draw_reliability

SHOWN = 24  # classes in the figure
COLUMNS = 4  # of classes in the table of all


def results(found: Collected, *, side_by_side: bool = False) -> Section:
    """Top-1 and top-5 of all runs, and the details of each that was evaluated."""
    section = Section("results", "Results")
    evaluated = [run for run in found.runs if run.evaluation]
    for run in found.runs:
        if not run.evaluation:
            section.missing(f"the accuracy of {run.name}", f"scenelab evaluate {run.folder}")
    if evaluated:
        _accuracy(section, evaluated)
        if side_by_side and len(evaluated) > 1:
            _pairs(section, evaluated)
    if side_by_side and len(evaluated) < 2:
        section.missing("runs side by side, which takes two that are evaluated", "scenelab report RUN RUN --compare")
    finished = [run for run in found.runs if run.finished]
    if finished:
        _cost(section, finished)
    for run in evaluated:
        section.heading(f"{run.name} in detail")
        if (run.evaluation or {})["mirror"]["top1"] < FLAT * 100 / (run.classes or 1):
            section.text("It is right no more often than guessing, so its classes and its confusions say nothing.")
            continue
        _details(section, run)
    return section


def _accuracy(section: Section, runs: list[RunData]) -> None:
    rows = []
    for run in runs:
        evaluation = run.evaluation or {}
        for name, title in (("mirror", "image and mirror image"), ("plain", "image")):
            part = evaluation[name]
            cells = [
                f"{part[key]:.2f} ({part[f'{key}_interval'][0]:.1f}–{part[f'{key}_interval'][1]:.1f})"
                for key in ("top1", "top5")
            ]
            rows.append([run.name, title, *cells, f"{part['loss']:.3f}", f"{part['ece']:.1f}"])
    section.table(
        ["run", "logits of", "top-1 % (95 %)", "top-5 % (95 %)", "loss", "calibration error %"], rows,
        "Accuracy with Wilson's intervals. " + " ".join(_source(run) for run in runs),
    )  # fmt: skip
    for run in runs:
        warn_if_stale(section, run, run.evaluated, f"scenelab evaluate {run.folder}")


def warn_if_stale(section: Section, run: RunData, name: str, command: str) -> None:
    """Say that a result is of other weights than the run has now, and which command repeats it."""
    if run.stale(name):
        section.text(f"**Careful:** {run.name} has other weights now than when this was measured; repeat `{command}`.")


def _source(run: RunData) -> str:
    evaluation = run.evaluation or {}
    return (
        f"{run.name}: {evaluation['images']} {evaluation['split']} images of {Path(evaluation['source']).name} at "
        f"{evaluation['size']} pixels, {run.made(run.evaluated, 'evaluate')}."
    )


def _pairs(section: Section, runs: list[RunData]) -> None:
    rows = []
    for first, second in pairwise(runs):
        try:
            differences = {f"top-{k}": compare(first, second, k=k) for k in (1, 5)}
        except LabError as error:
            section.text(f"**{first.name} and {second.name} cannot be compared:** {error}.")
            continue
        for measure, found in differences.items():
            low, high = found.interval
            sure = "differs" if low > 0 or high < 0 else "no difference that these images show"
            rows.append(
                [
                    f"{second.name} − {first.name}", measure, f"{found.points:+.2f} ({low:+.2f} to {high:+.2f})",
                    str(found.images), str(found.only_second), str(found.only_first), sure,
                ]
            )  # fmt: skip
    if rows:
        head = ["runs", "measure", "points (95 %)", "images", "only the first named right", "only the other", "verdict"]
        section.table(head, rows, "Differences on the same images, paired one by one (mirror-averaged guesses).")


def _cost(section: Section, runs: list[RunData]) -> None:
    rows = []
    for run in runs:
        took: dict[str, Any] = run.results["training"]
        rows.append(
            [
                run.name, run.config.model, f"{took['parameters']:,}", f"{took['checkpoint_bytes'] / 1e6:.2f}",
                f"{took['minutes']:.1f}", f"{took['epochs']:.1f}", f"{took['training_flops']:.2e}",
                f"{took['peak_memory_bytes'] / 2**30:.1f}",
            ]
        )  # fmt: skip
    places = [
        f"{run.name}: {run.environment.get('processor') or 'unknown processor'}, {run.results['training']['threads']} "
        f"threads, {run.environment.get('date', '')[:10]}, {run.environment.get('command', '')}."
        for run in runs
    ]
    head = ["run", "network", "parameters", "model, MB", "minutes", "epochs", "operations", "memory, GiB"]
    section.table(head, rows, "What training took; operations are counted, forward and backward. " + " ".join(places))
    _challenge(section, runs)


def _challenge(section: Section, runs: list[RunData]) -> None:
    """The challenge's frame, for runs that were entered."""
    rows = []
    for run in runs:
        if "challenge" in run.results:
            card = run.results["challenge"]
            rows.append(
                [
                    run.name, f"{card['checkpoint_bytes']:,} of {card['largest_bytes']:,}",
                    f"{card['training_flops']:.2e} of {card['k40_budget_flops']:.2e}",
                    f"{100 * card['share_of_k40_peak']:.2f}", run.made("challenge", "challenge"),
                ]
            )  # fmt: skip
    if rows:
        section.table(
            ["run", "bytes", "operations", "share %", "made"], rows,
            "The MiniPlaces challenge's frame: 10 MB, and what a K40 does in four hours at its peak.",
        )  # fmt: skip


def _details(section: Section, run: RunData) -> None:
    result = run.evaluation or {}
    what = f"{run.name}, {result['images']} {result['split']} images, {run.made(run.evaluated, 'evaluate')}"
    section.figure(
        draw_per_class(result), "Top-1 accuracy of the easiest and the hardest classes",
        f"Accuracy a class, the hardest and the easiest; {what}.",
    )  # fmt: skip
    names = [(name, value) for name, value in result["per_class"].items() if value == value]
    if len(names) > SHOWN:
        count = -(-len(names) // COLUMNS)
        rows = [[cell for name, value in names[row::count] for cell in (name, f"{value:.0f}")] for row in range(count)]
        section.table(["class", "%"] * COLUMNS, [[*row, *[""] * (2 * COLUMNS - len(row))] for row in rows],
                      f"Top-1 accuracy of all classes; {what}.")  # fmt: skip
    section.figure(
        draw_confusion(result), "Confusion matrix, each row as shares of its true class", f"Confusion; {what}.",
    )  # fmt: skip
    pairs = result["most_confused"][:8]
    if pairs:
        section.table(
            ["is", "taken for", "how often", "of"],
            [[pair["true"], pair["predicted"], str(pair["count"]), str(pair["of"])] for pair in pairs],
            f"The most confused pairs; {what}.",
        )
    sheet = run.folder / "results" / f"{result['split']}_confused.png"
    if sheet.exists():
        section.picture(sheet, "Images of the most confused pairs", f"Examples of the most confused pairs; {what}.")
    section.figure(
        draw_reliability(result), "Accuracy against confidence",
        f"Calibration: on the dashed line a network is as sure as it is right; {what}.",
    )  # fmt: skip
