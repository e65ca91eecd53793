"""Report sections on training: the process, the training curves, and the network's design with its ablation."""

from statistics import mean

from scenelab.evaluation.study_results import DesignRow
from scenelab.models.costs import DESCRIPTIONS
from scenelab.report.collect import Collected, RunData
from scenelab.report.figures import draw_accuracy, draw_steps
from scenelab.report.methods_text import describe, start
from scenelab.report.results import LEARNED
from scenelab.report.sections import Section

TOPICS = {
    "loss": "Loss",
    "optimizer": "Optimizer",
    "schedule": "Learning rate and resolution",
    "regularization": "Regularization",
    "metrics": "Why top-k",
}
TRAIN = "scenelab train laptop --minutes 20 --data data --out runs/laptop"
MAX_NAMES = 5  # names of skipped images to list
GAP = 10.0  # percentage points between training and evaluation accuracy, above which a run overfits


def process(collected: Collected) -> Section:
    """Return the section on the training process (the handout's section 1), from the config of each run."""
    section = Section("process", "The training process")
    if not collected.runs:
        section.missing("a run", TRAIN)
    texts = [describe(run.config, classes=run.classes) for run in collected.runs]
    for index, run in enumerate(collected.runs):
        if len(collected.runs) > 1:
            section.heading(run.name)
        section.text(origin(run, f" ({DESCRIPTIONS.get(run.config.model, run.config.model)})"))
        first = texts.index(texts[index])
        if first < index:
            section.text(f"All other settings are those of {collected.runs[first].name}.")
        else:
            for topic, title in TOPICS.items():
                section.text(f"**{title}.** {texts[index][topic]}")
    return section


def origin(run: RunData, description: str = "") -> str:
    """Return network, start, data, seed and provenance of a run, and the images left out, as text."""
    what = f"Network `{run.config.model}`{description}, {start(run.config)} on `{run.data}`"
    return f"{what} with seed {run.config.seed}: {run.origin}{_left_out(run)}"


def _left_out(run: RunData) -> str:
    text = ""
    for split, entries in run.training.skipped.items() if run.training else ():
        names = ", ".join(f"`{path}`" for path, _ in entries[:MAX_NAMES])
        if len(entries) > MAX_NAMES:
            names += f" and {len(entries) - MAX_NAMES} more, listed in `results/training.json`"
        count = "1 unreadable image" if len(entries) == 1 else f"{len(entries)} unreadable images"
        text += f" Left out of the {split} list: {count} ({names})."
    return text


def curves(collected: Collected) -> Section:
    """Return the section with the loss, learning rate and accuracy curves of all runs, and a discussion per run."""
    section = Section("curves", "Training curves")
    runs = [run for run in collected.runs if run.rows]
    if not runs:
        section.missing("training curves", TRAIN)
        return section
    figures = [
        (draw_steps(runs, "training_loss", ylabel="cross-entropy in nats"), "Training loss by step"),
        (draw_steps(runs, "learning_rate", ylabel="learning rate"), "Learning rate by step"),
    ]
    splits = {"train": "augmented training images", "val": "val images", "holdout": "held-out training images"}
    for split, what in splits.items():
        if split == "train" or any(row.get("split") == split for run in runs for row in run.rows):
            figures.append((draw_accuracy(runs, split), f"Top-1 and top-5 accuracy on {what} by epoch"))
    names = ", ".join(run.name for run in runs)
    for svg, what in figures:
        section.figure(svg, f"{what} of {names}", f"{what}. Runs: {names}, from the commands above.")
    for run in runs:
        section.text(f"**{run.name}.** {_discuss(run)}")
    return section


def _discuss(run: RunData) -> str:
    losses = [row["training_loss"] for row in run.rows if "training_loss" in row]
    if not losses:
        return "The run has no logged step yet."
    part = max(1, len(losses) // 20)
    text = f"The training loss changes from {mean(losses[:part]):.2f} to {mean(losses[-part:]):.2f}"
    if not run.training:
        text += "; the run is not finished"
    elif run.training.stopped:
        text += f"; it stopped early: {run.training.stopped}"
    train = {row["epoch"]: row["top1"] for row in run.rows if row.get("split") == "train"}
    other = {row["epoch"]: row["top1"] for row in run.rows if row.get("split") in ("val", "holdout")}
    if not train.keys() & other.keys():
        return text + "."
    last = max(train.keys() & other.keys())
    kind = "adversarial" if run.config.adversarial else "mixed" if run.config.augment.mixes else "augmented"
    verdict = _verdict(run, kind, train[last], other[last], max(other.values()))
    return (
        f"{text}. After epoch {last} top-1 accuracy is {train[last]:.1f} % on {kind} training images and "
        f"{other[last]:.1f} % on the evaluated images. {verdict}"
    )


def _verdict(run: RunData, kind: str, train: float, other: float, best: float) -> str:
    chance = 100 / run.classes if run.classes else 0.0
    if max(train, other) < LEARNED * chance:
        return f"Guessing gives {chance:.1f} %: the network has not learned."
    if kind == "adversarial":
        return "Training images are attacked and the others are not, so the gap does not measure overfitting."
    if kind == "mixed":
        return "Training images are mixtures of two images, so the gap does not measure overfitting."
    if best - other > 2:
        return f"Accuracy on the evaluated images was {best:.1f} % in an earlier epoch: the network overfits."
    if train - other > GAP:
        return "The gap shows that the network memorizes training images: it overfits."
    if train < other:
        return "Augmentation makes the training images harder; there is no sign of overfitting."
    return "The gap is small; there is little overfitting."


def design(collected: Collected) -> Section:
    """Return the section on the network's design (the handout's section 3), with the ablation of the design study."""
    section = Section("design", "The design of the network")
    _networks(section, collected.runs)
    if collected.design is None:
        command = "scenelab study design --data data --out runs/study-design --minutes 5"
        section.missing("the ablation of the network and the recipe", command)
        return section
    data = collected.design
    study, config = data.result, data.result.config
    source = (
        f"{config.minutes:g} minutes per run on {config.threads} threads, {study.data.held_out} images "
        f"held out of train; {data.source}"
    )
    rest = [row for row in study.variants if not row.ladder]
    captions = {
        "network": "From a plain network to ours with the handout's optimizer; each is compared with the one above it",
        "recipe": "Our recipe with one choice changed, compared with the unchanged recipe",
    }
    for kind, caption in captions.items():
        if rows := rest if kind == "recipe" else [row for row in study.variants if row.ladder]:
            head = f"{kind}|what|parameters|top-1 % (n)|top-5 %|difference|verdict".split("|")
            section.table(head, [_variant(row) for row in rows], f"{caption}. {source}")
    section.image(
        data.folder / "design.png",
        "Loss and accuracy of the networks above differences of the variants from our recipe",
        "Curves of the networks, and the difference of each variant from our recipe; gray marks the noise.",
    )
    verdicts = {
        "worse": "Changes that reduce accuracy, which justifies the choice",
        "better": "Changes that increase accuracy within this time",
        "within noise": "Changes without a significant effect in these runs",
    }
    for verdict, text in verdicts.items():
        if names := [row.name for row in rest if row.verdict.startswith(verdict)]:
            section.text(f"{text}: {', '.join(names)}.")
    return section


def _networks(section: Section, runs: list[RunData]) -> None:
    rows: dict[str, list[str]] = {}
    for run in runs:
        model, cost = run.config.model, run.training
        description = DESCRIPTIONS.get(model, "")
        size = [f"{cost.parameters:,}", f"{cost.checkpoint_bytes / 1e6:.2f}"] if cost else ["", ""]
        rows.setdefault(model, [model, description, *size])
    if rows:
        caption = f"The networks of {', '.join(run.name for run in runs)}; the challenge allows 10 MB."
        section.table(["network", "what", "parameters", "model file, MB"], list(rows.values()), caption)


def _variant(row: DesignRow) -> list[str]:
    if not row.n:
        return [row.name, row.what, "", "", "", "", row.verdict]
    difference = "" if row.difference is None else f"{row.difference:+.1f} ± {row.noise:.1f}"
    cells = [f"{row.parameters:,}", f"{row.top1:.1f} ({row.n})", f"{row.top5:.1f}", difference]
    return [row.name, row.what, *cells, row.verdict]
