"""Report section with the papers on the methods used in the runs and studies."""

from scenelab.report.collect import Collected
from scenelab.report.sections import TEMPLATES, Section


def references(collected: Collected) -> Section:
    """Return the section that lists the papers on all methods used, sorted by author."""
    section = Section("references", "References")
    lines = (TEMPLATES / "references.txt").read_text(encoding="utf-8").splitlines()
    papers = dict(line.split(": ", 1) for line in lines)
    section.text(
        "\n".join(f"- {paper}" for paper in sorted({papers[topic] for topic in _topics(collected) & papers.keys()}))
    )
    return section


def _topics(collected: Collected) -> set[str]:
    topics = {"places"}
    for run in collected.runs:
        config, attribution = run.config, run.attribution
        is_used = {
            "residual": config.model.startswith("residual"),
            "norm": config.model == "inception"
            or (config.model.startswith("residual") and config.model != "residual-bare"),
            "inception": config.model == "inception",
            "vit": config.model == "vit",
            "smoothing": config.label_smoothing > 0,
            "muon": config.optimizer.name == "muon",
            "adamw": config.optimizer.name in ("muon", "adamw"),
            "cosine": config.schedule.decay == "cosine",
            "sizes": config.eval_size != config.schedule.sizes[-1][1],
            "mixup": config.augment.mixup > 0,
            "cutmix": config.augment.cutmix > 0,
            "calibration": run.evaluation is not None,
        }
        topics |= {topic for topic, used in is_used.items() if used}
        if config.adversarial is not None:
            topics |= {"attacks", config.adversarial.method}
        if attribution:
            topics |= {*attribution.methods, *attribution.model_fields_set}
        if run.robustness:
            topics |= {"attacks", "apgd", "square", "masking"}
    if collected.adversarial:
        topics |= {"attacks", "fast", "free", "apgd", "square"}
    return topics
