"""scenelab demo: from nothing to an evaluated network in a few minutes."""

import time
from pathlib import Path

IMAGES_SHOWN = 19_200  # training images seen in the demo, whatever the data set: under two minutes on two cores


def demo(*, data: Path | None = None, out: Path = Path("demo")) -> None:
    """Draw synthetic scenes (or take DATA), train on them for about two minutes, evaluate.

    Example: scenelab demo

    Args:
        data: a MiniPlaces folder to train on instead of synthetic scenes.
        out: where scenes and runs go.
    """
    import dataclasses

    from scenelab.cli.evaluate import evaluate_run, print_result
    from scenelab.data.synthetic import write_scenes
    from scenelab.recipes import demo as recipe
    from scenelab.training.session import open_packed, start_run

    began = time.monotonic()
    if data is None:
        data = out / "scenes"
        if not data.exists():
            write_scenes(data)
    config = recipe()
    train = open_packed(data, None, "train", config.stored_size)
    config = dataclasses.replace(config, epochs=max(1.0, IMAGES_SHOWN / len(train)))
    run = _next_run(out)
    print(f"training {config.model} on {len(train)} images of {len(train.categories)} kinds: {run}")
    start_run(run, data, config)
    result, figures = evaluate_run(run)
    print_result(result)
    print(
        f"\n{time.monotonic() - began:.0f} seconds. Places to look:\n"
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
