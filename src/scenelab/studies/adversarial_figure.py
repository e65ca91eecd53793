"""The figure of the adversarial study, legible in grayscale: accuracy against ε, a line a way of training."""

from pathlib import Path
from typing import Any

from matplotlib import pyplot as plt

from scenelab.evaluation.attribution_plots import LINE_STYLES
from scenelab.evaluation.figures import STYLE, save


def draw_adversarial(study: dict[str, Any], path: Path) -> None:
    """Draw adversarial.json: the worst case of all attacks, with 95 % intervals."""
    with plt.rc_context(STYLE):
        figure, axis = plt.subplots(figsize=(7, 4.3))
        ticks = {0.0}
        for row, look in zip(study["variants"], LINE_STYLES, strict=False):
            if "worst" not in row:
                continue
            points = [{"epsilon": 0.0, **row["clean"]}, *(part for part in row["worst"] if part["epsilon"])]
            places = [255 * point["epsilon"] for point in points]
            heights = [point["accuracy"] for point in points]
            below = [max(0, height - point["interval"][0]) for height, point in zip(heights, points, strict=True)]
            above = [max(0, point["interval"][1] - height) for height, point in zip(heights, points, strict=True)]
            axis.errorbar(
                places, heights, yerr=[below, above], capsize=3, ms=5, lw=1.4, elinewidth=0.8, label=row["name"], **look
            )
            ticks |= set(places)
        axis.axvline(255 * study["epsilon"], color="0.6", lw=1, ls=":", label="trained against")
        axis.set(
            xlabel="ε, levels of 255 (L∞)", ylabel=f"accuracy, % of {study['images']} held-out images", ylim=(0, None),
            title=f"what the worst of all attacks leaves, {study['config']['minutes']:g} minutes of training each",
        )  # fmt: skip
        axis.set_xticks(sorted(ticks))
        axis.legend(fontsize=8)
        save(figure, path, vector=True)
