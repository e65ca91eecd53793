"""Model card (Mitchell et al. 2019) in Hugging Face's format: YAML metadata followed by Markdown."""

from jinja2 import Environment, StrictUndefined

from scenelab.errors import LabError
from scenelab.report.collect import Collected
from scenelab.report.methods_text import describe, start
from scenelab.report.sections import TEMPLATES


def make_card(collected: Collected) -> str:
    """Return the model card of the first run as Markdown.

    Raises:
        LabError: there is no run, or the first run was not evaluated.
    """
    if not collected.runs:
        raise LabError("--card needs a run folder; studies alone have no model")
    run = collected.runs[0]
    if run.evaluation is None:
        raise LabError(f"--card needs accuracy; run: scenelab evaluate {run.folder}")
    per_class = run.evaluation.per_class.items()
    ranked = sorted(
        ((name, value) for name, value in per_class if value is not None and value == value), key=lambda pair: pair[1]
    )  # null, or NaN in earlier versions: the class has no images
    ranked = [f"{name} ({value:.0f} %)" for name, value in ranked]
    count = min(5, len(ranked) // 2)
    environment = Environment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string((TEMPLATES / "card.md").read_text(encoding="utf-8"))
    return template.render(
        run=run,
        start=start(run.config),
        description=describe(run.config, classes=run.classes),
        hardest=", ".join(ranked[:count]),
        easiest=", ".join(ranked[::-1][:count]),
    )
