"""scenelab explain: attention maps of a run, and whether they can be trusted."""

import sys
from pathlib import Path
from typing import Any, Literal

from tyro.conf import Positional

from scenelab.cli.output import print_json, print_table


def explain(
    run: Positional[Path],
    *,
    images: list[Path] | None = None,
    methods: list[str] | None = None,
    split: Literal["val", "train"] = "val",
    data: Path | None = None,
    limit: int = 16,
    per_class: bool = False,
    scale: Literal["map", "method", "all"] = "map",
    look: Literal["overlay", "heat"] = "overlay",
    faithfulness: bool = False,
    followed: int = 100,
    sanity: bool = False,
    randomised: int = 8,
    objects: bool = False,
    annotated: int = 400,
    json: bool = False,
) -> None:
    """Draw where a network looks, and test whether the maps say so.

    Writes RUN/results/attribution.json, pictures and one page, RUN/results/attention/attention.html, and TensorBoard.

    Example: scenelab explain runs/laptop --faithfulness --sanity --objects

    Args:
        run: a run folder.
        images: image files to explain in place of a split.
        methods: gradient, gradient-input, smooth, variance, integrated, cam, occlusion; five of them by default.
        split: whose images are explained.
        data: another data folder than the one that the run was trained on.
        limit: images of each gallery (right and confident, wrong and confident).
        per_class: add a gallery with one image of each class.
        scale: what has one scale of colours: each map, all maps of a method, or all maps of all methods (each then
            divided by its mean).
        look: colours over the grey picture, or alone; the picture stands beside them.
        faithfulness: follow the first guess while pixels are deleted and inserted, beside maps that know no network.
        followed: images for --faithfulness, spread over the split.
        sanity: randomise the network layer by layer and see whether the maps notice.
        randomised: images for --sanity, each explained twice a layer.
        objects: hold the maps against MiniPlaces' annotated objects.
        annotated: images for --objects at most.
        json: print attribution.json.
    """
    from scenelab.errors import LabError
    from scenelab.evaluation.attention import DEFAULT, check_methods, has_maps, last_maps
    from scenelab.evaluation.explain import explain_files, explain_split
    from scenelab.evaluation.gallery import Rendering
    from scenelab.runs.loading import open_images, open_network

    names = tuple(dict.fromkeys(methods or DEFAULT))
    check_methods(names)
    for flag, value in (
        ("--limit", limit), ("--followed", followed), ("--randomised", randomised), ("--annotated", annotated),
    ):  # fmt: skip
        if value < 1:
            raise LabError(f"{flag} is {value}; expected 1 or more")
    if images and (faithfulness or sanity or objects or per_class):
        raise LabError("--faithfulness, --sanity, --objects and --per-class are of a split; leave --images out")
    folder, stored = open_network(run)
    if "cam" in names and not has_maps(stored.model):
        if methods:
            last_maps(stored.model)  # says why not
        print("cam is left out: this network has no maps in front of a global pooling", file=sys.stderr)
        names = tuple(name for name in names if name != "cam")
    rendering = Rendering(scope=scale, look=look)
    if images:
        result = explain_files(folder, stored, images, names=names, rendering=rendering)
    else:
        dataset, source = open_images(folder, stored, data=data, split=split)
        result = explain_split(
            folder, stored, dataset, data=source, names=names, count=limit, classes=per_class,
            rendering=rendering, faithfulness=followed if faithfulness else 0,
            sanity=randomised if sanity else 0, objects=annotated if objects else 0,
        )  # fmt: skip
    if json:
        print_json(result)
        return
    _show(result)
    print(f"slider: tensorboard --logdir={folder.events} --samples_per_plugin images=1000")
    print(f"pictures: {folder.results / ('attention-files' if images else 'attention') / 'attention.html'}")


def _show(result: dict[str, Any]) -> None:
    if "faithfulness" in result:
        _show_faithfulness(result["faithfulness"])
    if "sanity" in result:
        for name, values in result["sanity"]["methods"].items():
            print(f"sanity of {name}, {result['sanity']['images']} images: {values['verdict']}")
        if result["sanity"]["untouched"]:
            print(f"not randomised: {', '.join(result['sanity']['untouched'])}")
    if "objects" in result:
        _show_objects(result["objects"])


def _show_faithfulness(faithfulness: dict[str, Any]) -> None:
    rows = [
        [name, *(_with_interval(values[kind]["area"], values[kind]["interval"]) for kind in ("deletion", "insertion"))]
        for name, values in faithfulness["methods"].items()
    ]
    title = f"faithfulness, {faithfulness['images']} images: areas with 95 % intervals; the first four know no network"
    print_table(title, ["map", "deletion (low is good)", "insertion (high is good)"], rows)
    baselines = [name for name, values in faithfulness["methods"].items() if values["baseline"]]
    rows = [
        [f"{name}, {kind}", *(_sure(values[kind]["better"][other]) for other in baselines)]
        for name, values in faithfulness["methods"].items() if not values["baseline"]
        for kind in ("deletion", "insertion")
    ]  # fmt: skip
    print_table("better by, on the same images (95 %)", ["map", *(f"than {name}" for name in baselines)], rows)


def _with_interval(value: float, interval: list[float] | None) -> str:
    return f"{value:.3f} ({interval[0]:.3f}–{interval[1]:.3f})" if interval else f"{value:.3f}"


def _sure(gain: dict[str, Any]) -> str:
    if not gain["interval"]:
        return f"{gain['mean']:+.3f}"
    low, high = gain["interval"]
    return f"{gain['mean']:+.3f} ({low:+.3f} to {high:+.3f})"


def _show_objects(objects: dict[str, Any]) -> None:
    rows = []
    for name, values in objects["methods"].items():
        pointing, items = values["pointing"], [item for item in values["items"] if item["interval"]]
        low, high = pointing["interval"]
        counts = [sum(item["verdict"] == verdict for item in items) for verdict in ("more", "less")]
        rows.append(
            [
                name, f"{pointing['hits']} of {pointing['images']}", f"{pointing['chance']:.0f} ({low:.0f}–{high:.0f})",
                f"{counts[0]} more, {counts[1]} less, of {len(items)}; by chance {0.05 * len(items):.0f}",
                str(pointing["empty"]),
            ]
        )  # fmt: skip
    print_table(
        f"{objects['images']} annotated images, {len(objects['broken'])} broken annotations passed over",
        ["map", "largest value on an object", "by area (95 %)", "object classes against other images' maps", "empty"],
        rows,
    )
    for name, values in objects["methods"].items():
        print_table(
            f"what {name} lies on when the network says …: attribution over area (95 %), the same for other images' "
            "maps, "
            "images; objects of most images",
            ["scene", "images", "objects"],
            [[scene, str(part["images"]), _scene(part["items"])] for scene, part in values["scenes"].items()],
        )


def _scene(items: list[dict[str, Any]], *, most: int = 4) -> str:
    cells = []
    for item in items[:most]:
        interval = "" if item["interval"] is None else f" ({item['interval'][0]:.1f}–{item['interval'][1]:.1f})"
        told = f"{item['item']} {item['density']:.1f}×{interval}"
        cells.append(f"{told}, others {item['elsewhere']:.1f}×, {item['images']}")
    return "; ".join(cells) or "no object in enough images"
