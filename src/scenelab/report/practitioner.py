"""Report sections for somebody who wants to use the classifier: what it can do, what it confuses, what disturbs it."""

from scenelab.evaluation.accuracy_results import SCORE_COLUMNS, EvaluationResult, score_rows
from scenelab.report.collect import Collected, RunData
from scenelab.report.figures import draw_robust
from scenelab.report.results import has_learned, show_cost, show_figures, show_mistakes, source
from scenelab.report.robustness import show_attacks
from scenelab.report.sections import Section
from scenelab.report.training import origin

NAMED = 3  # classes named as the best and the worst


def abilities(collected: Collected) -> Section:
    """Return the section on what the classifier can and cannot do, and on how many images that was measured."""
    section = Section("abilities", "What it can and cannot do")
    for run, result in section.each(collected.runs, lambda run: run.evaluation, "the accuracy", "evaluate"):
        section.text(_accuracy(run, result))
        if has_learned(section, result):
            section.text("\n".join(f"- {line}" for line in _limits(run, result)))
    return section


def _accuracy(run: RunData, result: EvaluationResult) -> str:
    low, high = result.mirror.top1_interval
    largest = max(score.support for score in result.scores.values()) if result.scores else 0
    text = (
        f"It tells {len(result.per_class)} classes apart: {', '.join(result.per_class)}. It is right on "
        f"**{result.mirror.top1:.1f} %** of {result.images} {result.split} images that it was not trained on; of all "
        f"images like them, on {low:.0f} to {high:.0f} % (95 % confidence). Naming the same class for each would be "
        f"right on {100 * largest / result.images:.1f} %."
    )
    if folds := run.cross_validation:
        text += f" Networks trained like it are right on {folds.top1:.1f} % of {folds.images} training images that "
        text += "each was not trained on ({:.0f} to {:.0f} %); ".format(*folds.top1_interval)
        text += "these images selected its epoch, so that is a little too high."
    if run.config.keep == "best" and result.split == ("holdout" if run.config.holdout else "val"):
        text += " The same images selected the epoch of its weights, so its accuracy is a little lower than that."
    return text


def _limits(run: RunData, result: EvaluationResult) -> list[str]:
    ranked = sorted((score.f1, name) for name, score in result.scores.items() if score.support)
    worst, best = (", ".join(f"{name} ({f1:.0f} %)" for f1, name in part[:NAMED]) for part in (ranked, ranked[::-1]))
    lines = [f"Best at: {best}. Worst at: {worst} (F1, from precision and recall)."] if len(ranked) > 2 * NAMED else []
    if result.coverage:
        point = result.coverage[2]
        lines.append(
            f"If only probabilities of {100 * point.confidence:.0f} % or more count as answers, {point.images} of "
            f"{result.images} images get one, and {point.accuracy:.1f} % of those are right."
        )
    lines.append(_other_images(run, result))
    lines.append("It was judged on images like those of its training; other cameras and places may be harder.")
    return lines


def _other_images(run: RunData, result: EvaluationResult) -> str:
    if (part := result.rejection) is None:
        return "An image of anything else gets one of these classes too: it has no answer for what it does not know."
    text = 'Of an image of anything else, `scenelab predict` should say "none of these"'
    text += f"; {part.known.text} % of the images of its classes are not refused." if part.known else "."
    if part.unknown:
        return f"{text} It recognized {part.unknown.text} % of {part.unknown.of} other images."
    return f"{text} On other images this is not measured; run `scenelab evaluate {run.folder} --unknown FOLDER`."


def mistakes(collected: Collected) -> Section:
    """Return the section with images that were misclassified, and the classes that are confused most."""
    section = Section("mistakes", "Its mistakes")
    for run, result in section.each(collected.runs, lambda run: run.evaluation, "its mistakes", "evaluate"):
        if not result.most_confused:
            section.text(f"None on {result.images} images.")
        show_mistakes(section, run, result)
        show_figures(section, run, result, "confusion")
    return section


def scores(collected: Collected) -> Section:
    """Return the section with precision, recall and F1 of each class."""
    section = Section("scores", "Each class")
    for run, result in section.each(collected.runs, lambda run: run.evaluation, "the scores", "evaluate"):
        if rows := score_rows(result.scores):
            text = (
                "Precision: how often an answer of this class is right. Recall: how many images of it are recognized."
            )
            section.table(SCORE_COLUMNS, rows, f"{text} F1 is their harmonic mean; {source(run, result)}")
        else:
            section.missing(f"precision and recall of {run.name}", f"scenelab evaluate {run.folder}")
    return section


def calibration(collected: Collected) -> Section:
    """Return the section on how far probabilities can be trusted, and on accuracy against coverage."""
    section = Section("calibration", "How sure it is")
    for run, result in section.each(collected.runs, lambda run: run.evaluation, "the calibration", "evaluate"):
        part, how = (result.calibrated, "") if result.calibrated else (result.mirror, ", without a temperature")
        section.text(
            "A probability is honest if eight of ten answers with 80 % are right. Here probability and accuracy differ "
            f"by {part.ece:.1f} points on average{how}."
        )
        show_figures(section, run, result, "reliability")
        show_figures(section, run, result, "coverage")
    return section


def corruptions(collected: Collected) -> Section:
    """Return the section with accuracy under blur, noise, JPEG, brightness, darkness, rotation and crops."""
    section = Section("corruptions", "Blur, noise, light, tilt and crops")
    command = "robustness --corruptions"
    for run, result in section.each(
        collected.runs, lambda run: run.corruptions, "accuracy on corrupted images", command
    ):
        name, curve = min(result.curves.items(), key=lambda item: item[1].accuracy[-1].accuracy)
        section.text(
            f"What disturbs it most is {name}: at the strongest, {curve.accuracy[-1].text} % are right, of "
            f"{result.clean.text} % without any change. The strengths of blur, noise, JPEG and brightness are those of "
            "Hendrycks & Dietterich (2019) for small images."
        )
        what = f"{run.name}, {result.images} {result.split} images, {result.origin}."
        path, alt = run.file("corruptions/corruptions.png"), "Accuracy against strength of each kind of change"
        section.image(path, alt, f"Accuracy by kind and strength, with 95 % intervals; {what}")
        alt = "One image under each kind of change at five strengths"
        section.image(run.file("corruptions/samples.png"), alt, f"{alt}, each with strength and accuracy; {run.name}.")
    return section


def attacks(collected: Collected) -> Section:
    """Return the section with accuracy under attack."""
    section = Section("attacks", "Changes made to fool it")
    section.text(
        "Somebody who knows the network can change each pixel value by at most ε, so little that people hardly see it, "
        "and make it wrong. This matters where somebody gains by fooling it."
    )
    for run, result in section.each(collected.runs, lambda run: run.robustness, "accuracy under attack", "robustness"):
        show_attacks(section, run, result)
        section.figure(draw_robust([run]), "Accuracy against ε", f"Worst-case accuracy of {run.name} over all attacks.")
    return section


def provenance(collected: Collected) -> Section:
    """Return the section on network, data, seed, command, machine and cost of each training."""
    section = Section("provenance", "How it was made")
    for run in collected.runs:
        section.text(f"**{run.name}.** {origin(run)}")
    show_cost(section, collected.runs)
    return section
