"""Sections on the trained network: where it looks, what fools it, and what adversarial training does."""

from pathlib import Path
from typing import Any

from scenelab.report.blocks import Section
from scenelab.report.collect import Collected, RunData
from scenelab.report.figures import draw_robust
from scenelab.report.results import warn_if_stale

TESTS = {
    "faithfulness": "Deletion and insertion curves of each method beside a random map and an edge detector",
    "sanity": "Rank correlation of the maps with those of the trained network as its layers are randomised",
    "objects": "Attribution over area on object classes with 95 % intervals",
}


def attention(found: Collected) -> Section:
    """The handout's attention maps, with the tests of what they say."""
    section = Section("attention", "Attention maps")
    section.text(
        "The handout's map is the absolute gradient of the loss of the network's own first guess with respect to the "
        "image, the largest of the three colours: how much the decision changes with a pixel. Beside it stand methods "
        "that smooth it, add it up on the way from a black image, or weigh the last layer's maps."
    )
    explained = [run for run in found.runs if "attribution" in run.results]
    for run in explained:
        _maps(section, run)
    if not explained:
        name = found.runs[0].folder if found.runs else "RUN"
        section.missing("attention maps", f"scenelab explain {name} --faithfulness --sanity --objects")
    return section


def _maps(section: Section, run: RunData) -> None:
    result, folder = run.results["attribution"], run.folder / "results" / "attention"
    section.heading(run.name)
    images = f"{result['images']} {result['split']} images"
    source = f"{run.name}, {images}, {run.made('attribution', 'explain')}"
    warn_if_stale(section, run, "attribution", f"scenelab explain {run.folder}")
    for name, title in (("right", "Right and confident"), ("wrong", "Wrong and confident")):
        sheet = folder / f"{name}-1.png"
        if sheet.exists():
            section.picture(sheet, f"{title}: images beside their maps", f"{title}. {source}")
    for name, alt in TESTS.items():
        if name in result and (folder / f"{name}.png").exists():
            made = f"{result[name]['date'][:10]}: {result[name].get('command') or f'scenelab explain {run.folder}'}"
            section.picture(folder / f"{name}.png", alt, f"{alt}; {run.name}, {result[name]['images']} images, {made}")
    if "sanity" in result:
        section.text(
            "\n".join(f"- **{name}** {values['verdict']}." for name, values in result["sanity"]["methods"].items())
        )


def adversarial(found: Collected) -> Section:
    """The handout's adversarial samples, the accuracy that attacks leave, and adversarial training."""
    section = Section("adversarial", "Adversarial samples")
    section.text(
        "Projected gradient descent changes an image step by step along the sign of the gradient of a loss and, after "
        "each step, clips the change to ε around the image and the values to their range. No step keeps a graph of the "
        "one before. Against a label it raises that label's loss; the handout's lowers the loss of the least likely "
        "one, chosen once from the clean image, in 10 steps of 0.01 within 0.1 of a normalised value, from the image "
        "itself. Here ε is in pixel values from 0 to 1, and PGD moves away from the label in steps of 2.5 ε over their "
        "number."
    )
    attacked = [run for run in found.runs if "robustness" in run.results]
    if not attacked:
        name = found.runs[0].folder if found.runs else "RUN"
        section.missing("accuracy under attack and adversarial samples", f"scenelab robustness {name}")
    else:
        _robustness(section, attacked)
    section.heading("Adversarial training")
    if "adversarial" in found.studies:
        _study(section, *found.studies["adversarial"])
    else:
        section.missing(
            "adversarial training under one budget",
            "scenelab study adversarial --data data --out runs/study-adversarial --minutes 20",
        )
    return section


def _robustness(section: Section, runs: list[RunData]) -> None:
    told = runs[0].results["robustness"]["methods"]
    section.text("\n".join(f"- **{name}**: {what}." for name, what in told.items()))
    for run in runs:
        result = run.results["robustness"]
        names = [name for name in result["methods"] if name not in ("apgd-t", "square")]
        rows = [_attacked(entry, names) for entry in result["epsilons"]]
        low, high = result["clean"]["interval"]
        section.table(
            ["ε (L∞)", *names, "worst of all (95 %)"], rows,
            f"Accuracy in percent of {run.name} under attack; {result['clean']['accuracy']:.1f} "
            f"({low:.1f}–{high:.1f}) when "
            f"clean; targeted Auto-PGD and Square had what these leave. {_effort(result)} n = {result['images']} "
            f"{result['split']} images, {run.made('robustness', 'robustness')}",
        )  # fmt: skip
        warn_if_stale(section, run, "robustness", f"scenelab robustness {run.folder}")
        fooled = [entry["attacks"]["pgd"] for entry in result["epsilons"] if entry["attacks"]]
        kept, whole = sum(part["png"] for part in fooled), sum(len(part["fooled"]) for part in fooled)
        text = f"Of {whole} images that PGD made in floats {kept} still fool the network once saved as PNG. "
        signs = [f"{sign['text']}" for sign in result.get("warnings", [])]
        clear = f"No sign of hidden gradients on {result['checked']} images that are right when clean."
        text += "Signs of hidden gradients: " + "; ".join(signs) + "." if signs else clear
        section.text(text)
        _picture(
            section, run.folder / "results" / "robustness" / "samples.png",
            "Images, what PGD makes of them, and the amplified difference",
            f"Adversarial samples of {run.name}, with what it says of each and how sure it is.",
        )  # fmt: skip
    section.figure(
        draw_robust(runs),
        "Accuracy against ε",
        "What the worst of all attacks leaves of " + ", ".join(run.name for run in runs) + ", with 95 % intervals.",
    )


def _effort(result: dict[str, Any]) -> str:
    """How hard the attacks tried: what is left is an upper bound."""
    effort = result["effort"]
    return (
        f"{effort['steps']} steps, {effort['targeted_steps']} for each of {effort['classes']} targets, "
        f"{effort['queries']} "
        f"queries, seed {result['seed']}: an upper bound."
    )


def _attacked(entry: dict[str, Any], names: list[str]) -> list[str]:
    worst = entry["worst"]
    cells = [f"{entry['attacks'][name]['left']['accuracy']:.1f}" if entry["attacks"] else "" for name in names]
    low, high = worst["interval"]
    return [entry["name"], *cells, f"{worst['accuracy']:.1f} ({low:.1f}–{high:.1f})"]


def _share(part: dict[str, Any]) -> str:
    low, high = part["interval"]
    return f"{part['accuracy']:.1f} ({low:.1f}–{high:.1f})"


def _study(section: Section, folder: Path, study: dict[str, Any]) -> None:
    place, rows = study["environment"], []
    names: list[str] = []
    for row in study["variants"]:
        names += [part["name"] for part in row.get("worst", []) if part["epsilon"] and part["name"] not in names]
    for row in study["variants"]:
        if "worst" not in row:
            rows.append([row["name"], row["what"], "diverged", *[""] * len(names)])
            continue
        worst = {part["name"]: part for part in row["worst"]}
        rows.append(
            [
                row["name"], row["what"], f"{row['top1']:.1f}",
                *(_share(worst[name]) for name in names),
            ]
        )  # fmt: skip
    section.table(
        ["training", "what", "clean top-1 %", *(f"ε = {name}" for name in names)], rows,
        f"All but the first trained against L∞ perturbations of {255 * study['epsilon']:g}/255, "
        f"{study['config']['minutes']:g} minutes each; accuracy that the worst of five attacks leaves of "
        f"{study['images']} images held out of train (95 %), n = 1 run each. {place['processor']}; {folder.name}, "
        f"{place['date'][:10]}: {place['command']}",
    )  # fmt: skip
    for row in study["variants"]:
        if row.get("stopped"):
            section.text(f"**{row['name']}** stopped early: {row['stopped']}.")
        for sign in row.get("warnings", []):
            section.text(f"**{row['name']}**, {sign['sign']}: {sign['text']}.")
    _picture(
        section,
        folder / "adversarial.png",
        "Accuracy against ε by way of training",
        f"The same as curves; {folder.name}.",
    )


def _picture(section: Section, path: Path, alt: str, caption: str) -> None:
    if path.exists():
        section.picture(path, alt, caption)
