"""scenelab demo: train, evaluate, explain and attack a network, and write a report."""

import os
import shlex
import shutil
import sys
import time
from pathlib import Path
from typing import Annotated

from tyro.conf import arg

from scenelab.terminal import say

IMAGES_ATTACKED = 40
IMAGES_SEEN = 19_200  # training images over all epochs: under two minutes on two cores


def demo(
    *,
    data: Annotated[Path | None, arg(metavar="DATA", help_behavior_hint="(default: synthetic scenes)")] = None,
    out: Annotated[Path, arg(metavar="OUT")] = Path("demo"),
) -> None:
    """Train on synthetic scenes, evaluate, explain, attack and report.

    Takes about a minute and a half on two cores.

    Example: scenelab demo

    Args:
        data: folder to train on instead: MiniPlaces, or one sub-folder per class.
        out: folder for scenes and runs.
    """
    import dataclasses

    from scenelab.cli.data import draw_scenes
    from scenelab.cli.evaluate import evaluate
    from scenelab.cli.explain import explain
    from scenelab.cli.report import report
    from scenelab.data.splits import open_dataset, open_split
    from scenelab.errors import LabError
    from scenelab.evaluation.robustness import measure_robustness
    from scenelab.evaluation.robustness_results import Effort
    from scenelab.progress import format_duration
    from scenelab.runs.events import has_tensorboard
    from scenelab.runs.loading import open_run
    from scenelab.training.recipes import demo as recipe
    from scenelab.training.session import start_run

    began = time.monotonic()
    if data is None:
        data = out / "scenes"
        if not data.exists():
            draw_scenes(data)
    config = recipe()
    train, val = open_dataset(data, None, "train", config.stored_size), open_split(data, "val")
    config = dataclasses.replace(config, epochs=max(1.0, IMAGES_SEEN / len(train)))
    run = _new_run(out)
    say(f"training {config.model} on {len(train)} images of {len(train.categories)} classes: {run}")
    start_run(run, data, config)
    evaluate(run)
    explain(run, methods=["gradient", "smooth", "cam"], limit=4)
    opened = open_run(run)
    measure_robustness(
        opened.run,
        opened.stored,
        opened.dataset,
        epsilons=[0, 2 / 255, 8 / 255],
        effort=Effort(steps=10, targeted_steps=5, queries=100),
        count=IMAGES_ATTACKED,
    )
    try:
        report([run], out=run)
    except LabError as error:
        say(f"the report is incomplete: {error}")
    folder = "" if shutil.which("scenelab") else f"{os.path.relpath(Path(sys.executable).parent)}/"
    image = next((path for path in val.paths if path.isprintable()), val.paths[0])
    curves = [f"{folder}tensorboard", "--logdir", str(run)]
    predict = [f"{folder}scenelab", "predict", str(run), str(val.root / image)]
    say(
        "",
        f"Done in {format_duration(time.monotonic() - began)}. What to look at:",
        f"  report        {run / 'report.html'}",
        f"  figures       {opened.run.results}",
        *([f"  curves        {shlex.join(curves)}"] if has_tensorboard() else []),
        f"  a prediction  {shlex.join(predict)}",
    )
    show_pretrained(folder)


def show_pretrained(folder: str) -> None:
    """Print what the network that ships says of the example photos, if it is installed."""
    from scenelab.cli.output import print_table
    from scenelab.evaluation.predict import load
    from scenelab.runs.pretrained import example_images, list_pretrained

    if not list_pretrained():
        return
    classify = load()
    rows = [
        [path.stem, *(f"{category} {100 * probability:.0f} %" for category, probability in classify(path, top=3))]
        for path in example_images()
    ]
    say("")
    print_table("The network that ships, on photos that it was not trained on", ["photo", "1st", "2nd", "3rd"], rows)
    say(f"Your own photo: {folder}scenelab predict PHOTO")


def _new_run(out: Path) -> Path:
    number = 1
    while (out / f"run-{number}").exists():
        number += 1
    return out / f"run-{number}"
