"""scenelab demo: from nothing to an evaluated network and a report of it in a few minutes."""

import time
from pathlib import Path

ATTACKED = 40  # images
IMAGES_SHOWN = 19_200  # training images seen in the demo, whatever the data set: under two minutes on two cores


def demo(*, data: Path | None = None, out: Path = Path("demo")) -> None:
    """Draw synthetic scenes (or take DATA), train on them for about two minutes, evaluate, explain, attack, report.

    Example: scenelab demo

    Args:
        data: a MiniPlaces folder to train on instead of synthetic scenes.
        out: where scenes and runs go.
    """
    import dataclasses

    from scenelab.cli.data import draw_scenes
    from scenelab.cli.evaluate import evaluate_run, print_result
    from scenelab.data.splits import open_dataset
    from scenelab.errors import LabError
    from scenelab.evaluation.attribution_gallery import Rendering
    from scenelab.evaluation.explain import explain_split
    from scenelab.evaluation.robustness import Effort, measure_robustness
    from scenelab.io import atomic_write
    from scenelab.report.collect import collect
    from scenelab.report.team import Team
    from scenelab.report.write import render, to_pdf
    from scenelab.runs.loading import open_run
    from scenelab.training.recipes import demo as recipe
    from scenelab.training.session import start_run

    began = time.monotonic()
    if data is None:
        data = out / "scenes"
        if not data.exists():
            draw_scenes(data)
    config = recipe()
    train = open_dataset(data, None, "train", config.stored_size)
    config = dataclasses.replace(config, epochs=max(1.0, IMAGES_SHOWN / len(train)))
    run = _next_run(out)
    print(f"training {config.model} on {len(train)} images of {len(train.categories)} kinds: {run}")
    start_run(run, data, config)
    result, figures = evaluate_run(run)
    print_result(result)
    opened = open_run(run)
    explain_split(
        opened.run, opened.stored, opened.dataset, data=opened.source, names=("gradient", "smooth", "cam"), count=4,
        per_class=False, rendering=Rendering(),
    )  # fmt: skip
    measure_robustness(
        opened.run,
        opened.stored,
        opened.dataset,
        epsilons=[0, 2 / 255, 8 / 255],
        effort=Effort(steps=10, targeted_steps=5, queries=100),
        count=ATTACKED,
    )
    found = collect([run])
    html = render(found, Team(title=f"Scenes: {run.name}"))
    with atomic_write(run / "report.html", "w") as file:
        file.write(html)
    papers = f"{run}/report.html"
    try:
        with atomic_write(run / "report.pdf") as file:
            file.write(to_pdf(html, "A4"))
        papers += f", {run}/report.pdf"
    except LabError as error:  # no Pango: the page is there all the same
        print(f"no PDF: {error}")
    print(
        f"\n{time.monotonic() - began:.0f} seconds. Places to look:\n"
        f"  report       {papers}\n"
        f"  run folder   {run}\n"
        f"  figures      {figures[0].parent}/*.png\n"
        f"  curves       .venv/bin/tensorboard --logdir={run}\n"
        f"  a prediction .venv/bin/scenelab predict {run} {data}/images/val/00000001.jpg"
    )


def _next_run(out: Path) -> Path:
    """The first of `run-1`, `run-2`, … that is not there yet."""
    number = 1
    while (out / f"run-{number}").exists():
        number += 1
    return out / f"run-{number}"
