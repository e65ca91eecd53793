"""A model card in Hugging Face's form: YAML metadata in front of Markdown (Mitchell et al. 2019)."""

import json

from scenelab.errors import LabError
from scenelab.report.collect import Collected, RunData
from scenelab.report.methods_text import describe


def make_card(found: Collected) -> str:
    """The card of the first run.

    Raises:
        LabError: there is no run, or it was not evaluated.
    """
    if not found.runs:
        raise LabError("--card needs a run folder; studies alone have no model")
    run = found.runs[0]
    if run.evaluation is None:
        raise LabError(f"--card needs accuracy; run: scenelab evaluate {run.folder}")
    parts = (_metadata(run), [""], _intended(run), _metrics(run), _robustness(run), _limits(run), _origin(run))
    return "\n".join(line for part in parts for line in part)


def _metadata(run: RunData) -> list[str]:
    evaluation = run.evaluation or {}
    part = evaluation["mirror"]
    metrics = [
        f"      - {{type: accuracy, name: {name}, value: {part[key] / 100:.4f}}}"
        for key, name in (("top1", "Top-1 accuracy"), ("top5", "Top-5 accuracy"))
    ]
    return [
        "---",
        "library_name: pytorch",
        "pipeline_tag: image-classification",
        "tags: [scene-recognition, trained-from-scratch]",
        "model-index:",
        f"  - name: {json.dumps(run.name)}",
        "    results:",
        "    - task: {type: image-classification}",
        f"      dataset: {{type: {json.dumps(evaluation['source'].rstrip('/').rsplit('/', 1)[-1])}, "
        f"name: {json.dumps(evaluation['split'])}}}",
        "      metrics:",
        *metrics,
        "---",
    ]


def _intended(run: RunData) -> list[str]:
    evaluation = run.evaluation or {}
    classes = list(evaluation["per_class"])
    size = run.results["training"]["parameters"] if run.finished else None
    count = f", {size:,} parameters" if size else ""
    return [
        f"# {run.name}", "",
        f"A `{run.config.model}` network{count} that tells {len(classes)} kinds of scenes apart in pictures of "
        f"{evaluation['size']}×{evaluation['size']} pixels with values in [0, 1]; the normalisation is part of it.", "",
        "## Intended use", "",
        "Teaching and research on scene recognition. It always names one of its classes, also for a picture of "
        "something "
        "else, and it was not made for decisions about people or safety.", "",
        f"Classes: {', '.join(classes)}.", "",
    ]  # fmt: skip


def _metrics(run: RunData) -> list[str]:
    evaluation = run.evaluation or {}
    made = f"{evaluation['images']} {evaluation['split']} images, {run.made(run.evaluated, 'evaluate')}."
    lines = ["## Metrics", "", made + _stale(run, run.evaluated), ""]
    lines += ["| logits of | top-1 % (95 %) | top-5 % (95 %) | calibration error % |", "|---|---:|---:|---:|"]
    for name, title in (("plain", "image"), ("mirror", "image and mirror image")):
        part = evaluation[name]
        cells = [
            f"{part[key]:.2f} ({part[f'{key}_interval'][0]:.1f}–{part[f'{key}_interval'][1]:.1f})"
            for key in ("top1", "top5")
        ]
        lines.append(f"| {title} | {' | '.join(cells)} | {part['ece']:.1f} |")
    known = [(name, value) for name, value in evaluation["per_class"].items() if value == value]  # NaN: no image
    ranked = sorted(known, key=lambda pair: pair[1])
    shown = min(5, len(ranked) // 2)
    hardest, easiest = (
        ", ".join(f"{name} ({value:.0f} %)" for name, value in pairs)
        for pairs in (ranked[:shown], ranked[::-1][:shown])
    )
    return [*lines, "", f"Hardest classes: {hardest}. Easiest: {easiest}.", ""]


def _robustness(run: RunData) -> list[str]:
    lines = ["## Robustness", ""]
    if "robustness" not in run.results:
        return [*lines, f"Not measured; `scenelab robustness {run.folder}` does.", ""]
    result = run.results["robustness"]
    lines += [
        f"Accuracy that the worst of {', '.join(result['methods'])} leaves, n = {result['images']} {result['split']} "
        "images, "
        f"{run.made('robustness', 'robustness')}; {result['clean']['accuracy']:.1f} % when clean."
        f"{_stale(run, 'robustness')}",
        "", "| ε (L∞) | accuracy % (95 %) |", "|---|---:|",
    ]  # fmt: skip
    for entry in result["epsilons"]:
        low, high = entry["worst"]["interval"]
        lines.append(f"| {entry['name']} | {entry['worst']['accuracy']:.1f} ({low:.1f}–{high:.1f}) |")
    signs = [f"- {sign['sign']}: {sign['text']}" for sign in result.get("warnings", [])]
    return [*lines, "", *(signs or ["No sign of hidden gradients."]), ""]


def _stale(run: RunData, name: str) -> str:
    return " **The weights have changed since: measure again.**" if run.stale(name) else ""


def _limits(run: RunData) -> list[str]:
    evaluation = run.evaluation or {}
    pairs = ", ".join(f"{pair['true']} for {pair['predicted']}" for pair in evaluation["most_confused"][:5])
    return [
        "## Limits", "",
        f"{f'It takes {pairs}. ' if pairs else ''}Its mirror-averaged confidence is off by "
        f"{evaluation['mirror']['ece']:.1f} points on average. It knows the "
        "photographs of its training set's kind; other cameras, drawings and night pictures were not measured.", "",
    ]  # fmt: skip


def _origin(run: RunData) -> list[str]:
    place, texts = run.environment, describe(run.config, classes=len((run.evaluation or {})["per_class"]))
    lines = ["## Provenance", "", *(f"{text}\n" for text in texts.values())]
    versions = ", ".join(f"{name} {number}" for name, number in place.get("versions", {}).items())
    lines.append(
        f"Trained from scratch, with no weights or images from elsewhere: `{place.get('command', 'unknown command')}`, "
        f"{place.get('date', '')[:10]}, {place.get('processor', '')}, {versions}, commit {place.get('commit')}."
    )
    return [*lines, ""]
