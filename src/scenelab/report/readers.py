"""What each reader of a report gets: a title and sections."""

from collections.abc import Callable
from typing import Literal

from scenelab.report.attribution import attention
from scenelab.report.collect import Collected
from scenelab.report.convolution import convolution
from scenelab.report.practitioner import abilities, attacks, calibration, corruptions, mistakes, provenance, scores
from scenelab.report.references import references
from scenelab.report.results import accuracy, results
from scenelab.report.robustness import adversarial
from scenelab.report.sections import Section
from scenelab.report.training import curves, design, process

Reader = Literal["practitioner", "writeup", "instructor"]


def team(collected: Collected) -> Section:
    """Return the section on who did what."""
    section = Section("team", "Contributions")
    if collected.team.member:
        rows = [[member.name, member.did] for member in collected.team.member]
        section.table(["name", "contribution"], rows, "Members of the team.")
    else:
        section.missing("the members of the team and their contributions", "scenelab report RUN --team team.toml")
    return section


WRITEUP = (convolution, process, curves, design, results, attention, adversarial, team, references)


def runs(collected: Collected) -> Section:
    """Return the section with one row per run: recipe, network, seed, accuracy, time and hardware."""
    section, rows = Section("runs", "Runs"), []
    for run in collected.runs:
        result, cost, place = run.evaluation, run.training, run.environment
        judged = f"{accuracy(result.mirror, 'top1')}, {result.images} {result.split}" if result else "not measured"
        time = f"{cost.minutes:.1f}, {cost.device}, {cost.threads} threads" if cost else "not finished"
        hardware = (place.gpu if cost and cost.device != "cpu" else place.processor) if place else None
        rows.append(
            [run.name, run.config.recipe, run.config.model, str(run.config.seed), judged, time, hardware or "unknown"]
        )
    head = "run|recipe|network|seed|top-1 % (95 %), images|minutes, device|hardware".split("|")
    section.table(head, rows, "Accuracy of the mean logits of image and mirror image, with Wilson intervals.")
    return section


def missing(collected: Collected) -> Section:
    """Return the section that lists the results that the writeup of these runs lacks, or has of earlier weights."""
    section = Section("missing", "Missing for the hand-in")
    notes = [note for make in WRITEUP for kind, note in make(collected).blocks if kind == "missing"]
    lines = [f"- {note['what']}: `{note['command']}`" for note in notes]
    for run in collected.runs:
        for name, command in (("evaluation", "evaluate"), ("attribution", "explain"), ("robustness", "robustness")):
            if (result := getattr(run, name)) and run.is_stale(result):
                lines.append(f"- {name} of the current weights of {run.name}: `scenelab {command} {run.folder}`")
    section.text("\n".join(lines) or "Nothing: all results that the writeup shows have been measured.")
    return section


SECTIONS: dict[Reader, tuple[Callable[[Collected], Section], ...]] = {
    "practitioner": (abilities, mistakes, scores, calibration, corruptions, attacks, provenance),
    "writeup": WRITEUP,
    "instructor": (runs, provenance, missing),
}
"""Functions that make the sections of each reader; their names are the sections' keys."""
TITLES: dict[Reader, str] = {
    "practitioner": "The classifier {}",
    "writeup": "Scene recognition",
    "instructor": "Summary of {}",
}
"""Titles, if the team file has none; `{}` stands for the names of the runs."""


def keys(reader: Reader) -> tuple[str, ...]:
    """Return the keys of the sections of a reader, in their order."""
    return tuple(make.__name__ for make in SECTIONS[reader])
