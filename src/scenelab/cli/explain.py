"""scenelab explain: attribution maps of a run, and tests of them."""

import shlex
import sys
from functools import partial
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import arg

from scenelab.cli.arguments import Count, DataFolder, Flag, Images, Json, Network, Split
from scenelab.cli.images import report_broken, report_skipped, select_readable
from scenelab.cli.output import print_json, print_table
from scenelab.terminal import say

if TYPE_CHECKING:
    from scenelab.evaluation.attribution_results import CurveSummary, Faithfulness, Gain, ItemSummary, Localization


def explain(
    run: Network = None,
    *,
    images: Images = None,
    methods: Annotated[
        list[str] | None,
        arg(metavar="METHOD ...", help_behavior_hint="(default: gradient smooth integrated cam occlusion)"),
    ] = None,
    split: Split = None,
    data: DataFolder = None,
    limit: Count = 16,
    per_class: Flag = False,
    scale: Literal["map", "method", "all"] = "map",
    look: Literal["overlay", "heat"] = "overlay",
    faithfulness: Flag = False,
    followed: Count = 100,
    sanity: Flag = False,
    randomized: Count = 8,
    objects: Flag = False,
    annotated: Count = 400,
    json: Json = False,
) -> None:
    """Draw attribution maps, and test whether they can be trusted.

    Writes RUN/results/attribution.json, figures, the page RUN/results/attention/attention.html and, if TensorBoard is
    installed, its events.

    Example: scenelab explain runs/laptop --faithfulness --sanity --objects

    Args:
        methods: gradient, gradient-input, smooth, variance, integrated, cam or occlusion.
        limit: images per gallery (confident and right, confident and wrong).
        per_class: add a gallery with one image per class.
        scale: color scale of each map: its own, one per method, or one for all (maps are then divided by their mean).
        look: colors over the gray image, or colors alone.
        faithfulness: record the predicted class's probability as pixels are deleted and inserted, also for baselines.
        followed: images for --faithfulness, spread over the split.
        sanity: randomize the network layer by layer and compare the maps.
        randomized: images for --sanity, each explained twice per layer.
        objects: compare the maps with the annotated objects of MiniPlaces.
        annotated: maximum number of images for --objects.
    """
    from scenelab.attribution.grad_cam import has_feature_maps, last_feature_maps
    from scenelab.attribution.registry import DEFAULT_METHODS, check_methods
    from scenelab.data.judging import describe_images
    from scenelab.errors import LabError
    from scenelab.evaluation.attribution_gallery import Rendering
    from scenelab.evaluation.explain import ImageCounts, explain_files, explain_split
    from scenelab.runs.events import has_tensorboard
    from scenelab.runs.loading import judge, open_network

    names = tuple(dict.fromkeys(methods or DEFAULT_METHODS))
    check_methods(names)
    counts = {"--limit": limit, "--followed": followed, "--randomized": randomized, "--annotated": annotated}
    for flag, value in counts.items():
        if value < 1:
            raise LabError(f"{flag} is {value}; expected 1 or more")
    if images and (faithfulness or sanity or objects or per_class):
        raise LabError("--faithfulness, --sanity, --objects and --per-class are of a split; leave --images out")
    folder, stored = open_network(run)
    if "cam" in names and not has_feature_maps(stored.model):
        if methods:
            last_feature_maps(stored.model)  # raises with the reason
        say("cam is skipped: this network has no feature maps before a global pooling", file=sys.stderr)
        names = tuple(name for name in names if name != "cam")
    rendering = Rendering(scope=scale, style=look)
    good, errors = select_readable(images, stored.size) if images else ([], [])
    judged = f"{len(good)} image files"
    if images:
        result = explain_files(folder, stored, good, names=names, rendering=rendering)
        report = partial(report_broken, errors, len(images))
    else:
        opened = judge(folder, stored, data=data, split=split)
        folder, dataset, source = opened.run, opened.dataset, opened.source
        report = partial(report_skipped, folder, dataset)
        judged = f"{describe_images(len(dataset), dataset.split)} of {source}"
        tests = ImageCounts(
            faithfulness=followed * faithfulness, sanity=randomized * sanity, objects=annotated * objects
        )
        options = {"count": limit, "per_class": per_class, "rendering": rendering, "tests": tests}
        result = explain_split(folder, stored, dataset, data=source, names=names, **options)
    if json:
        print_json(result.to_json())
        return report()
    say(f"examples from {judged}")
    if result.undefined:
        say(f"undefined: {result.undefined} of {result.images} images have NaN or infinite scores; they are not shown")
    if result.faithfulness:
        _show_faithfulness(result.faithfulness)
    if result.sanity:
        for name, values in result.sanity.methods.items():
            say(f"sanity of {name}, {result.sanity.images} images: {values.verdict}")
        if result.sanity.untouched:
            say(f"not randomized: {', '.join(result.sanity.untouched)}")
    if result.objects:
        _show_objects(result.objects)
    if has_tensorboard():
        say(f"slider: tensorboard --logdir={shlex.quote(str(folder.events))} --samples_per_plugin images=1000")
    say(f"page: {folder.results / ('attention-files' if images else 'attention') / 'attention.html'}")
    return report()


def _show_faithfulness(faithfulness: "Faithfulness") -> None:
    methods, kinds = faithfulness.methods.items(), ("deletion", "insertion")
    summaries = {(name, kind): getattr(values, kind) for name, values in methods for kind in kinds}
    rows = [[name, *(_with_interval(summaries[name, kind]) for kind in kinds)] for name, _ in methods]
    title = f"faithfulness, {faithfulness.images} images: areas with 95 % intervals; the first four maps use no network"
    print_table(title, ["map", "deletion (low is good)", "insertion (high is good)"], rows)
    baselines = [name for name, values in methods if values.baseline]
    rows = [
        [f"{name}, {kind}", *(_gain(summary.better[other]) for other in baselines)]
        for (name, kind), summary in summaries.items()
        if name not in baselines
    ]
    print_table("better by, on the same images (95 %)", ["map", *(f"than {name}" for name in baselines)], rows)


def _with_interval(summary: "CurveSummary") -> str:
    interval = "" if summary.interval is None else " ({:.3f}–{:.3f})".format(*summary.interval)
    return f"{summary.area:.3f}{interval}"


def _gain(gain: "Gain") -> str:
    interval = "" if gain.interval is None else " ({:+.3f} to {:+.3f})".format(*gain.interval)
    return f"{gain.mean:+.3f}{interval}"


def _show_objects(objects: "Localization") -> None:
    rows = []
    for name, values in objects.methods.items():
        pointing, items = values.pointing, [item for item in values.items if item.interval]
        more, less = (sum(item.verdict == verdict for item in items) for verdict in ("more", "less"))
        hits = f"{pointing.hits} of {pointing.images}"
        chance = "{:.0f} ({:.0f}–{:.0f})".format(pointing.chance, *pointing.interval)
        counts = f"{more} more, {less} less, of {len(items)}; by chance {0.05 * len(items):.0f}"
        rows.append([name, hits, chance, counts, str(pointing.empty)])
    print_table(
        f"{objects.images} annotated images, {len(objects.broken)} invalid annotations skipped",
        ["map", "largest value on an object", "by area (95 %)", "object classes against other images' maps", "empty"],
        rows,
    )
    for name, values in objects.methods.items():
        print_table(
            f"what {name} lies on when the network says …: attribution over area (95 %), the same for other images' "
            "maps, images; objects of most images",
            ["scene", "images", "objects"],
            [[scene, str(part.images), _scene(part.items)] for scene, part in values.scenes.items()],
        )


def _scene(items: "list[ItemSummary]", *, max_items: int = 4) -> str:
    cells = []
    for item in items[:max_items]:
        interval = "" if item.interval is None else " ({:.1f}–{:.1f})".format(*item.interval)
        cells.append(f"{item.item} {item.density:.1f}×{interval}, others {item.elsewhere:.1f}×, {item.images}")
    return "; ".join(cells) or "no object in enough images"
