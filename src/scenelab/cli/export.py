"""scenelab export: write a run's network as one file for other programs."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from scenelab.cli.arguments import AnySplit, Count, DataFolder, Json, Network
from scenelab.cli.images import report_skipped
from scenelab.cli.output import print_json
from scenelab.terminal import say


def export(
    run: Network = None,
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
    from scenelab.data.decode import read_images
    from scenelab.data.judging import describe_images
    from scenelab.errors import LabError
    from scenelab.evaluation.predict import load_images, spread_rows
    from scenelab.io import write_json
    from scenelab.runs.export import export as write
    from scenelab.runs.export import require_packages
    from scenelab.runs.loading import judge, open_network
    from scenelab.runs.pretrained import example_images, is_pretrained
    from scenelab.runs.provenance import stamp

    if limit < 1:
        raise LabError(f"--limit is {limit}; expected 1 or more")
    require_packages(format)
    folder, stored = open_network(run)
    path = out or folder.results.parent / "export" / f"model.{format}"
    if data is None and is_pretrained(folder):
        files = example_images()
        images, source = read_images(files, stored.size), {"split": "examples", "data": str(files[0].parent)}
        judged, report = f"{len(files)} example images", lambda: None
    else:
        opened = judge(folder, stored, data=data, split=split)
        images = load_images(opened.dataset, spread_rows(len(opened.dataset), limit), stored.size)
        source = {"split": opened.dataset.split, "data": str(opened.source)}
        judged = describe_images(len(opened.dataset), opened.dataset.split)
        report = partial(report_skipped, opened.run, opened.dataset)
    result: dict[str, Any] = {**stamp(folder.best), **write(stored, images, format, path), **source}
    write_json(folder.results / f"export-{format}.json", result)
    if json:
        print_json(result)
        return report()
    say(
        f"{path}: {result['bytes']:,} bytes; on {result['images']} of {judged} its logits differ from the network's by "
        f"at most {result['largest_difference']:.1e} (largest logit {result['largest_logit']:.1f}), and "
        f"{100 * result['same_first_guess']:.1f} % of the first guesses are the same"
    )
    return report()
