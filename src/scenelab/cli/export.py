"""scenelab export: write a run's network as one file for other programs."""

from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from scenelab.cli.arguments import AnySplit, Count, DataFolder, Json, RunFolder
from scenelab.cli.images import report_skipped
from scenelab.cli.output import print_json
from scenelab.terminal import say


def export(
    run: RunFolder,
    *,
    format: Literal["onnx", "pt2", "safetensors"] = "onnx",
    out: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: RUN/export/model.FORMAT)")] = None,
    split: AnySplit = None,
    data: DataFolder = None,
    limit: Count = 200,
    json: Json = False,
) -> None:
    """Export a run's network to ONNX, pt2 or safetensors.

    The file is kept only if its logits match the network's on real images. It accepts batches of any size. The
    normalization is in the graph, or for safetensors in the metadata. The labels are in the metadata.

    Example: scenelab export runs/laptop --format onnx

    Args:
        format: onnx for any runtime, pt2 for torch.export.load, safetensors for the weights alone.
        out: file to write.
        split: split to check the file on.
        limit: images to check the file on, spread over the split.
    """
    from scenelab.data.judging import describe_images
    from scenelab.errors import LabError
    from scenelab.evaluation.predict import load_images, spread_rows
    from scenelab.io import write_json
    from scenelab.runs.export import export as write
    from scenelab.runs.export import require_packages
    from scenelab.runs.loading import open_run
    from scenelab.runs.provenance import stamp
    from scenelab.runs.run import Run

    if limit < 1:
        raise LabError(f"--limit is {limit}; expected 1 or more")
    require_packages(format)
    opened = open_run(run, data=data, split=split)
    path = out or opened.run.folder / "export" / f"model.{format}"
    images = load_images(opened.dataset, spread_rows(len(opened.dataset), limit), opened.stored.size)
    result: dict[str, Any] = {**stamp(opened.run.best), **write(opened.stored, images, format, path)}
    result |= {"split": opened.dataset.split, "data": str(opened.source)}
    write_json(Run(run).results / f"export-{format}.json", result)
    if json:
        print_json(result)
        return report_skipped(opened.run, opened.dataset)
    judged = describe_images(len(opened.dataset), opened.dataset.split)
    say(
        f"{path}: {result['bytes']:,} bytes; on {result['images']} of {judged} its logits differ from the network's by "
        f"at most {result['largest_difference']:.1e} (largest logit {result['largest_logit']:.1f}), and "
        f"{100 * result['same_first_guess']:.1f} % of the first guesses are the same"
    )
    return report_skipped(opened.run, opened.dataset)
