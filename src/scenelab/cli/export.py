"""scenelab export: a run's network as one file for other programs."""

from pathlib import Path
from typing import Literal

from tyro.conf import Positional

from scenelab.cli.output import print_json


def export(
    run: Positional[Path],
    *,
    format: Literal["onnx", "pt2", "safetensors"] = "onnx",
    out: Path | None = None,
    split: Literal["val", "train", "holdout"] = "val",
    data: Path | None = None,
    limit: int = 200,
    json: bool = False,
) -> None:
    """Write a run's network for other programs, checked against the network on real images first.

    The normalisation is inside the graph (with safetensors its values are in the metadata), the labels are in the
    metadata, and any number of images goes in at once.

    Example: scenelab export runs/laptop --format onnx

    Args:
        run: a run folder.
        format: onnx for any runtime, pt2 for torch.export.load, safetensors for the weights alone.
        out: the file; RUN/export/model.FORMAT by default.
        split: whose images it is checked on.
        data: another data folder than the one that the run was trained on.
        limit: images that it is checked on, spread over the split.
        json: print what was written and found as JSON.
    """
    from scenelab.errors import LabError
    from scenelab.evaluation.predict import load_images, spread_rows
    from scenelab.io import write_json
    from scenelab.runs.export import export as write
    from scenelab.runs.loading import open_run
    from scenelab.runs.provenance import stamp

    if limit < 1:
        raise LabError(f"--limit is {limit}; expected 1 or more")
    opened = open_run(run, data=data, split=split)
    path = out or opened.run.folder / "export" / f"model.{format}"
    images = load_images(opened.dataset, spread_rows(len(opened.dataset), limit), opened.stored.size)
    found = {
        **stamp(opened.run.best), **write(opened.stored, images, format, path),
        "split": split, "data": str(opened.source),
    }  # fmt: skip
    write_json(opened.run.results / f"export-{format}.json", found)
    if json:
        print_json(found)
        return
    print(
        f"{path}: {found['bytes']:,} bytes; on {found['images']} {split} images its logits differ from the network's "
        f"by at most {found['largest_difference']:.1e} (largest logit {found['largest_logit']:.1f}), and "
        f"{100 * found['same_first_guess']:.1f} % of the first guesses are the same"
    )
