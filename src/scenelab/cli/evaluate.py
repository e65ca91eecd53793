"""scenelab evaluate, predict, models."""

from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from scenelab.cli.output import print_json, print_table


def evaluate(
    run: Positional[Path],
    *,
    data: Path | None = None,
    split: Literal["val", "train"] = "val",
    json: bool = False,
) -> None:
    """Evaluate a run's best weights: top-1, top-5, calibration, confusion; numbers and figures go to RUN/results.

    Example: scenelab evaluate runs/starter

    Args:
        run: a run folder.
        data: another data folder than the one that the run was trained on.
        split: which images.
        json: print the result as JSON.
    """
    result, figures = evaluate_run(run, data=data, split=split)
    if json:
        print_json(result)
        return
    print_result(result)
    print("figures: " + ", ".join(str(path) for path in figures))


def evaluate_run(run: Path, *, data: Path | None = None, split: str = "val") -> tuple[dict[str, Any], list[Path]]:
    """Evaluate, write and draw; returns the result and the figures' paths."""
    import torch

    from scenelab.evaluation.evaluate import evaluate as measure
    from scenelab.evaluation.figures import draw_all
    from scenelab.models.stored import read_classifier
    from scenelab.runs import Run
    from scenelab.training.config import from_plain
    from scenelab.training.logbook import read_metrics
    from scenelab.training.session import open_packed

    folder = Run(run)
    stored_config = folder.read_config()
    config = from_plain(stored_config["train"])
    torch.set_num_threads(config.threads)
    cache = Path(stored_config["cache"]) if stored_config["cache"] and data is None else None
    source = data or Path(stored_config["data"])
    stored = read_classifier(folder.best)
    packed = open_packed(source, cache, split, config.stored_size)
    stored.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    result = measure(folder, stored, packed, source=str(source))
    return result, draw_all(result, read_metrics(folder), folder.results)


def print_result(result: dict[str, Any]) -> None:
    """The table that evaluation ends with."""
    rows = []
    for name, title in (("plain", "image"), ("mirror", "image and mirror image")):
        part = result[name]
        low, high = part["top1_interval"]
        rows.append(
            [title, f"{part['top1']:.2f}", f"{low:.1f}–{high:.1f}", f"{part['top5']:.2f}", f"{part['ece']:.2f}"]
        )
    title = f"{result['model']} on {result['images']} {result['split']} images of {result['source']}"
    print_table(title, ["logits of", "top-1 %", "95 %", "top-5 %", "calibration error %"], rows)
    pairs = result["most_confused"][:5]
    print(
        "most confused: "
        + "; ".join(f"{pair['true']} taken for {pair['predicted']} {pair['count']}/{pair['of']}" for pair in pairs)
    )


def predict(run: Positional[Path], images: Positional[list[Path]], *, json: bool = False) -> None:
    """Say what is on pictures.

    Example: scenelab predict runs/starter holiday.jpg

    Args:
        run: a run folder, or a checkpoint file.
        images: JPEG, PNG, WebP or GIF files of any size.
        json: print the guesses as JSON.
    """
    from scenelab.errors import LabError
    from scenelab.evaluation.predict import predict_files
    from scenelab.models.stored import read_classifier
    from scenelab.runs import Run

    if not images:
        raise LabError("images is empty; name at least one file")
    stored = read_classifier(run if run.is_file() else Run(run).best)
    results = predict_files(stored, images)
    if json:
        print_json(results)
        return
    for entry in results:
        print(entry["image"])
        for guess in entry["guesses"]:
            print(f"  {100 * guess['probability']:5.1f} %  {guess['category']}")


def models(*, json: bool = False) -> None:
    """List the networks with their size.

    Example: scenelab models

    Args:
        json: print the list as JSON.
    """
    from scenelab.models.registry import NETWORKS, create, size, summary

    sizes = {name: size(create(name, num_classes=100)) for name in NETWORKS}
    if json:
        print_json({name: {"parameters": value.parameters, "bytes": value.bytes} for name, value in sizes.items()})
        return
    rows = [[name, f"{value.parameters:,}", f"{value.bytes / 1e6:.2f}", summary(name)] for name, value in sizes.items()]
    print_table("models, for 100 classes", ["name", "parameters", "MB", "what"], rows)
