"""Sections on training: the process in words from the config, the curves, and the design with its ablation."""

from statistics import mean

from scenelab.models.registry import NETWORKS
from scenelab.report.blocks import Section
from scenelab.report.collect import FLAT, Collected, RunData
from scenelab.report.figures import draw_accuracy, draw_steps
from scenelab.report.methods_text import describe

TOPICS = {
    "loss": "Loss",
    "optimizer": "Optimiser",
    "schedule": "Learning rate and picture size",
    "regularization": "Regularisation",
    "metrics": "Why top-k",
}
NAMED = 5  # images that were left out
GAP = 10.0  # points between training and evaluation from which on a run is said to overfit


def process(found: Collected) -> Section:
    """The handout's section 1: its questions, answered from the config that was run."""
    section = Section("process", "The training process")
    if not found.runs:
        section.missing("a run", "scenelab train laptop --minutes 20 --data data --out runs/laptop")
    told: list[dict[str, str]] = []
    for run in found.runs:
        texts = describe(run.config, classes=run.classes)
        if len(found.runs) > 1:
            section.heading(run.name)
        section.text(_origin(run))
        if texts in told:
            section.text(f"Otherwise as {found.runs[told.index(texts)].name}.")
        else:
            for topic, title in TOPICS.items():
                section.text(f"**{title}.** {texts[topic]}")
        told.append(texts)
    return section


def _origin(run: RunData) -> str:
    place = run.environment
    versions = ", ".join(f"{name} {number}" for name, number in place.get("versions", {}).items())
    network = NETWORKS[run.config.model].description if run.config.model in NETWORKS else run.config.model
    return (
        f"Network `{run.config.model}` ({network}), trained from scratch on `{run.data}` with seed {run.config.seed}: "
        f"`{place.get('command', 'unknown command')}`, {place.get('date', '')[:10]}, "
        f"{place.get('processor') or 'unknown processor'}, {versions}, commit {place.get('commit')}.{_left_out(run)}"
    )


def _left_out(run: RunData) -> str:
    """Listed images that could not be read, counted and named."""
    text = ""
    for split, entries in run.results.get("training", {}).get("skipped", {}).items():
        names = ", ".join(f"`{path}`" for path, _ in entries[:NAMED])
        more = f" and {len(entries) - NAMED} more, which `results/training.json` names" if len(entries) > NAMED else ""
        what = "1 image" if len(entries) == 1 else f"{len(entries)} images"
        text += f" Left out, since they could not be read: {what} of the {split} list ({names}{more})."
    return text


def curves(found: Collected) -> Section:
    """The curves that the handout asks for, all runs in one figure each, and what they look like."""
    section = Section("curves", "Training curves")
    runs = [run for run in found.runs if run.rows]
    if not runs:
        section.missing("training curves", "scenelab train laptop --minutes 20 --data data --out runs/laptop")
        return section
    names = ", ".join(run.name for run in runs)
    shown = [
        (draw_steps(runs, "training_loss", ylabel="cross-entropy in nats"), "Training loss by step"),
        (draw_steps(runs, "learning_rate", ylabel="learning rate"), "Learning rate by step"),
        (draw_accuracy(runs, "train"), "Top-1 and top-5 accuracy on the augmented training images by epoch"),
    ]
    evaluated = {
        split: [run for run in runs if any(row.get("split") == split for row in run.rows)]
        for split in ("val", "holdout")
    }
    for split, what in (("val", "val images"), ("holdout", "held-out training images")):
        if evaluated[split]:
            shown.append((draw_accuracy(evaluated[split], split), f"Top-1 and top-5 accuracy on {what} by epoch"))
    for svg, what in shown:
        section.figure(svg, f"{what} of {names}", f"{what}. Runs: {names}; made by the commands above.")
    for run in runs:
        section.text(_discuss(run))
    return section


def _discuss(run: RunData) -> str:
    """Do the curves look normal? Said from their ends alone."""
    losses = [row["training_loss"] for row in run.rows if "training_loss" in row]
    if not losses:
        return f"**{run.name}.** It has not come to its first logged step."
    part = max(1, len(losses) // 20)
    first, last = mean(losses[:part]), mean(losses[-part:])
    text = f"**{run.name}.** The training loss goes from {first:.2f} to {last:.2f}"
    if not run.finished:
        text += "; the run is not finished"
    stopped = run.results.get("training", {}).get("stopped")
    if stopped:
        text += f"; it stopped early: {stopped}"
    train = {row["epoch"]: row["top1"] for row in run.rows if row.get("split") == "train"}
    other = {row["epoch"]: row["top1"] for row in run.rows if row.get("split") in ("val", "holdout")}
    shared = sorted(train.keys() & other.keys())
    if not shared:
        return text + "."
    ends = train[shared[-1]], other[shared[-1]]
    mixed = run.config.augment.mixup or run.config.augment.cutmix
    seen = "adversarial" if run.config.adversarial else "mixed" if mixed else "augmented"
    text += (
        f"; after epoch {shared[-1]} {ends[0]:.1f} % of the {seen} training images are right and {ends[1]:.1f} % of "
        "the "
        "others. "
    )
    chance = 100 / run.classes if run.classes else 0.0
    if max(ends) < FLAT * chance:
        return text + f"Guessing has {chance:.1f} %: it has learned nothing."
    if run.config.adversarial:
        return text + "The first are attacked and the second are not, so the two say nothing of overfitting."
    if mixed:
        return text + "The first are mixtures of two images, so the two say nothing of overfitting."
    best = max(other.values())
    if best - ends[1] > 2:
        return text + f"It had {best:.1f} % of the others right before: it overfits."
    if ends[0] - ends[1] > GAP:
        return text + "The gap says that it knows training images by heart: it overfits."
    if ends[0] < ends[1]:
        return text + "Training images are the harder ones, since they are augmented: it does not overfit."
    return text + "The gap is small: it hardly overfits."


def design(found: Collected) -> Section:
    """The handout's section 3: the network and why it is so."""
    section = Section("design", "The design of the network")
    _networks(section, found.runs)
    if "design" not in found.studies:
        section.missing(
            "the ablation of the network and the recipe",
            "scenelab study design --data data --out runs/study-design --minutes 5",
        )
        return section
    folder, study = found.studies["design"]
    config, place = study["config"], study["environment"]
    source = (
        f"{config['minutes']:g} minutes a run on {config['threads']} threads, {study['data']['held_out']} images held "
        "out "
        f"of train; {place['processor']}; {folder.name}, {place['date'][:10]}: {place['command']}"
    )
    head = ["network", "what", "parameters", "top-1 % (n)", "top-5 %", "difference", "verdict"]
    ladder = [variant for variant in study["variants"] if variant["ladder"]]
    rest = [variant for variant in study["variants"] if not variant["ladder"]]
    if ladder:
        section.table(
            head, [_variant(variant) for variant in ladder],
            f"From a plain network to ours with the handout's optimiser, each against the one above it. {source}",
        )  # fmt: skip
    section.table(
        ["recipe", *head[1:]], [_variant(variant) for variant in rest],
        f"Our recipe with one choice changed, against the recipe as it is. {source}",
    )  # fmt: skip
    if (folder / "design.png").exists():
        section.picture(
            folder / "design.png", "Loss and accuracy of the networks above differences of the variants from ours",
            "Curves of the networks, and how far each changed choice lies from our recipe; grey is what chance can do.",
        )  # fmt: skip
    worse = [variant["name"] for variant in rest if variant["verdict"].startswith("worse")]
    better = [variant["name"] for variant in rest if variant["verdict"].startswith("better")]
    same = [variant["name"] for variant in rest if variant["verdict"].startswith("within noise")]
    parts = [
        f"{text}: {', '.join(names)}."
        for text, names in (
            ("Changes that cost accuracy, so that the choice is justified", worse),
            ("Changes that would have helped in these minutes", better),
            ("Changes that make no difference that these runs can show", same),
        )
        if names
    ]
    section.text(" ".join(parts))
    return section


def _networks(section: Section, runs: list[RunData]) -> None:
    """What the runs' networks are, one row an architecture, with what was counted in training."""
    rows: dict[str, list[str]] = {}
    for run in runs:
        took, known = run.results.get("training", {}), NETWORKS.get(run.config.model)
        rows.setdefault(
            run.config.model,
            [
                run.config.model, known.description if known else "", f"{took['parameters']:,}" if took else "",
                f"{took['checkpoint_bytes'] / 1e6:.2f}" if took else "",
            ],
        )  # fmt: skip
    if rows:
        names = ", ".join(run.name for run in runs)
        head = ["network", "what", "parameters", "model file, MB"]
        section.table(head, list(rows.values()), f"The networks of {names}; the challenge allows 10 MB.")


def _variant(variant: dict) -> list[str]:
    if not variant["n"]:
        return [variant["name"], variant["what"], "", "", "", "", variant["verdict"]]
    difference = f"{variant['difference']:+.1f} ± {variant['noise']:.1f}" if "difference" in variant else ""
    return [
        variant["name"], variant["what"], f"{variant['parameters']:,}", f"{variant['top1']:.1f} ({variant['n']})",
        f"{variant['top5']:.1f}", difference, variant["verdict"],
    ]  # fmt: skip
