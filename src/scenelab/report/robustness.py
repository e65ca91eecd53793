"""Report section on adversarial examples: accuracy under attack and adversarial training."""

from scenelab.evaluation.robustness_results import LEFTOVER, RobustnessResult
from scenelab.evaluation.study_results import AdversarialRow, AdversarialStudy
from scenelab.report.collect import Collected, RunData, StudyData
from scenelab.report.figures import draw_robust
from scenelab.report.sections import Section


def adversarial(collected: Collected) -> Section:
    """Return the section with accuracy under attack, adversarial examples and the adversarial training study."""
    section = Section("adversarial", "Adversarial samples")
    section.prose("adversarial")
    attacked = [(run, run.robustness) for run in collected.runs if run.robustness]
    if attacked:
        methods = attacked[0][1].methods
        section.text("\n".join(f"- **{name}**: {what}." for name, what in methods.items()))
        for run, result in attacked:
            section.stale(run, result, "robustness")
            show_attacks(section, run, result)
        names = ", ".join(run.name for run, _ in attacked)
        caption = f"Worst-case accuracy of {names} over all attacks, with 95 % intervals."
        section.figure(draw_robust([run for run, _ in attacked]), "Accuracy against ε", caption)
    else:
        name = collected.runs[0].folder if collected.runs else "RUN"
        section.missing("accuracy under attack and adversarial samples", f"scenelab robustness {name}")
    section.heading("Adversarial training")
    if collected.adversarial:
        _study(section, collected.adversarial)
    else:
        command = "scenelab study adversarial --data data --out runs/study-adversarial --minutes 20"
        section.missing("adversarial training under one budget", command)
    return section


def show_attacks(section: Section, run: RunData, result: RobustnessResult) -> None:
    """Add the accuracy of a run under each attack, signs of gradient masking, and adversarial samples."""
    effort, names = result.effort, [name for name in result.methods if name not in LEFTOVER]
    attacked = [entry for entry in result.epsilons if entry.attacks]
    rows = []
    for entry in result.epsilons:
        cells = [f"{entry.attacks[name].left.accuracy:.1f}" if entry.attacks else "" for name in names]
        rows.append([entry.name, *cells, entry.worst.text])
    source = f"n = {result.images} {result.split} images, {result.origin}"
    section.table(
        ["ε (L∞)", *names, "worst of all (95 %)"],
        rows,
        f"Accuracy of {run.name} under attack in percent; clean accuracy {result.clean.text}. Targeted "
        f"Auto-PGD and Square attack only the images that resist the other attacks. {effort.steps} steps, "
        f"{effort.targeted_steps} for each of {effort.classes} targets, {effort.queries} queries, seed "
        f"{result.seed}. The values are upper bounds: a stronger attack may fool more images. {source}",
    )
    pgd = [entry.attacks["pgd"] for entry in attacked]
    saved, count = sum(part.png for part in pgd), sum(len(part.fooled) for part in pgd)
    signs = "; ".join(sign.text for sign in result.warnings)
    section.text(
        f"PGD computed {count} adversarial examples in floating point; {saved} of them still fool the network after "
        "they are saved as PNG. "
        + (
            f"Signs of gradient masking: {signs}."
            if signs
            else f"No sign of gradient masking on {result.checked} correctly classified images."
            if result.checked
            else "Gradient masking was not checked: no image is classified correctly."
        )
    )
    section.image(
        run.file("robustness/samples.png"),
        "Images, their adversarial examples by PGD, and the amplified differences",
        f"Adversarial samples of {run.name}, each with the prediction and its confidence.",
    )


def _study(section: Section, data: StudyData[AdversarialStudy]) -> None:
    study, rows = data.result, []
    for row in study.variants:
        if isinstance(row, AdversarialRow):
            worst = {part.name: part.text for part in row.worst}
            rows.append([row.name, row.what, f"{row.top1:.1f}", *(worst.get(name, "") for name in study.columns)])
        else:
            rows.append([row.name, row.what, "diverged", *("" for _ in study.columns)])
    section.table(
        ["training", "what", "clean top-1 %", *(f"ε = {name}" for name in study.columns)],
        rows,
        f"Training for {study.config.minutes:g} minutes each, all but the first against L∞ perturbations of "
        f"{255 * study.epsilon:g}/255. Clean accuracy on {study.held_out} images held out of train; worst-case "
        f"accuracy over six attacks on {study.images} of them (95 %), n = 1 run each. {data.source}",
    )
    for row in study.finished:
        if row.stopped:
            section.text(f"**{row.name}** stopped early: {row.stopped}.")
        for sign in row.warnings:
            section.text(f"**{row.name}**, {sign.sign}: {sign.text}.")
    path, alt = data.folder / "adversarial.png", "Accuracy against ε for each kind of training"
    section.image(path, alt, f"The same as curves, also clean on the {study.images} images; {data.folder.name}.")
