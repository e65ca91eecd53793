"""Report section on attention maps: examples per run, and tests of their quality."""

from scenelab.evaluation.attribution_results import AttributionResult
from scenelab.report.collect import Collected, RunData
from scenelab.report.sections import Section

TESTS = {
    "faithfulness": "Deletion and insertion curves of each method and of the baselines",
    "sanity": "Rank correlation with the trained network's maps as its layers are randomized",
    "objects": "Attribution over area on object classes with 95 % intervals",
}


def attention(collected: Collected) -> Section:
    """Return the section with each run's attention maps and results of faithfulness, sanity and localization tests."""
    section = Section("attention", "Attention maps")
    section.prose("attention")
    explained = [(run, run.attribution) for run in collected.runs if run.attribution]
    for run, result in explained:
        _maps(section, run, result)
    if not explained:
        name = collected.runs[0].folder if collected.runs else "RUN"
        section.missing("attention maps", f"scenelab explain {name} --faithfulness --sanity")
    return section


def _maps(section: Section, run: RunData, result: AttributionResult) -> None:
    section.heading(run.name)
    section.stale(run, result, "explain")
    source = f"{run.name}, {result.images} {result.split} images, {result.origin}"
    for name, title in (("right", "Right and confident"), ("wrong", "Wrong and confident")):
        alt = f"{title}: images beside their attention maps"
        section.image(run.file(f"attention/{name}-1.png"), alt, f"{title}. {source}")
    for name, alt in TESTS.items():
        if test := getattr(result, name):
            source = f"{run.name}, {test.images} images, {test.origin}"
            section.image(run.file(f"attention/{name}.png"), alt, f"{alt}; {source}")
    if result.sanity:
        methods = result.sanity.methods.items()
        section.text("\n".join(f"- **{name}** {values.verdict}." for name, values in methods))
