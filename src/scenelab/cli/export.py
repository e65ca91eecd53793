"""scenelab export: write a run's network as one file for other programs."""

from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import arg

from scenelab.cli.arguments import AnySplit, Count, DataFolder, Json, Network
from scenelab.cli.images import report_skipped
from scenelab.cli.output import print_json
from scenelab.terminal import say

CALIBRATION_IMAGES = 200


def export(
    run: Network = None,
    *,
    format: Literal["onnx", "int8", "pt2", "safetensors"] = "onnx",
    out: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="(default: RUN/export/model.FORMAT)")] = None,
    split: AnySplit = None,
    data: DataFolder = None,
    limit: Count = 200,
    json: Json = False,
) -> None:
    """Export a run's network to ONNX, int8 ONNX, pt2 or safetensors.

    The file is kept only if its logits match the network's on real images. It accepts batches of any size. The
    normalization is in the graph, or for safetensors in the metadata. The labels are in the metadata.

    Example: scenelab export runs/laptop --format onnx

    Args:
        format: onnx for any runtime, int8 for an ONNX file that is smaller and faster on CPUs and a little less exact,
            pt2 for torch.export.load, safetensors for the weights alone.
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
    folder, stored = open_network(run, calibrated=True)
    labels = calibration = None
    parent = folder.results if is_pretrained(folder) else folder.folder
    path = out or parent / "export" / ("model.int8.onnx" if format == "int8" else f"model.{format}")
    if format == "int8" and data is None and is_pretrained(folder):
        raise LabError("int8 takes ranges from training images; name their folder with --data")
    if data is None and is_pretrained(folder):
        files = example_images()
        images, source = read_images(files, stored.size), {"split": "examples", "data": str(files[0].parent)}
        judged, report = f"{len(files)} example images", lambda: None
    else:
        opened = judge(folder, stored, data=data, split=split)
        rows = spread_rows(len(opened.dataset), limit)
        images, labels = load_images(opened.dataset, rows, stored.size), opened.dataset.labels[rows]
        source = {"split": opened.dataset.split, "data": str(opened.source)}
        judged = describe_images(len(opened.dataset), opened.dataset.split)
        report = partial(report_skipped, opened.run, opened.dataset)
    if format == "int8":
        train = judge(folder, stored, data=data, split="train").dataset
        calibration = load_images(train, spread_rows(len(train), CALIBRATION_IMAGES), stored.size)
    values = write(stored, images, format, path, labels=labels, calibration=calibration)
    result: dict[str, Any] = {**stamp(folder.best), **values, **source}
    write_json(folder.results / f"export-{format}.json", result)
    if json:
        print_json(result)
        return report()
    if "speedup" in result:
        low, high = result["speedup_range"]
        say(
            f"{result['speedup']:.1f} times as fast as in float32 ({low:.1f}–{high:.1f}, n {result['speedup_rounds']})",
            f"top-1: {result['top1_of_file']:.2f} %, of the network {result['top1_of_network']:.2f} %",
        )
    say(
        f"{path}: {result['bytes']:,} bytes; on {result['images']} of {judged} its logits differ from the network's by "
        f"at most {result['largest_difference']:.1e} (largest logit {result['largest_logit']:.1f}), and "
        f"{100 * result['same_first_guess']:.1f} % of the first guesses are the same"
    )
    return report()
