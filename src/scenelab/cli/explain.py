"""scenelab explain: attention maps of a run, and whether they can be trusted."""

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
    objects: bool = False,
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
        faithfulness: follow the first guess while pixels are deleted and inserted, beside two baselines.
        followed: images for --faithfulness, spread over the split.
        sanity: randomise the network layer by layer and see whether the maps notice.
        objects: hold the maps against MiniPlaces' annotated objects.
        json: print attribution.json.
    """
    import torch

    from scenelab.errors import LabError
    from scenelab.evaluation.attention import DEFAULT, check_methods, has_maps, last_maps
    from scenelab.evaluation.explain import explain_files, explain_split
    from scenelab.evaluation.gallery import Rendering
    from scenelab.models.stored import read_classifier
    from scenelab.runs import Run
    from scenelab.training.config import from_plain
    from scenelab.training.session import open_packed

    names = tuple(dict.fromkeys(methods or DEFAULT))
    check_methods(names)
    for flag, value in (("--limit", limit), ("--followed", followed)):
        if value < 1:
            raise LabError(f"{flag} is {value}; expected 1 or more")
    if images and (faithfulness or sanity or objects):
        raise LabError("--faithfulness, --sanity and --objects test a split; leave --images out")
    folder = Run(run)
    stored_config = folder.read_config()
    config = from_plain(stored_config["train"])
    torch.set_num_threads(config.threads)
    stored = read_classifier(folder.best)
    stored.model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    if "cam" in names and not has_maps(stored.model):
        if methods:
            last_maps(stored.model)  # says why not
        names = tuple(name for name in names if name != "cam")
    rendering = Rendering(scope=scale, look=look)
    if images:
        result = explain_files(folder, stored, images, names=names, rendering=rendering)
    else:
        source = data or Path(stored_config["data"])
        cache = Path(stored_config["cache"]) if stored_config["cache"] and data is None else None
        packed = open_packed(source, cache, split, config.stored_size)
        if packed.categories != stored.categories:
            raise LabError(f"{source} has other categories than {run} was trained on; explain it on its own data")
        result = explain_split(
            folder, stored, packed, data=source, names=names, count=limit, classes=per_class, rendering=rendering,
            faithfulness=followed if faithfulness else 0, sanity=sanity, objects=objects,
        )  # fmt: skip
    if json:
        print_json(result)
        return
    _show(result)
    print(f"pictures: {folder.results / ('attention-files' if images else 'attention') / 'attention.html'}")


def _show(result: dict[str, Any]) -> None:
    if "faithfulness" in result:
        rows = []
        for name, values in result["faithfulness"]["methods"].items():
            cells = [
                f"{values[kind]['area']:.3f} ({values[kind]['interval'][0]:.3f}–{values[kind]['interval'][1]:.3f})"
                if values[kind]["interval"]
                else f"{values[kind]['area']:.3f}"
                for kind in ("deletion", "insertion")
            ]
            rows.append([name, *cells])
        title = f"faithfulness, {result['faithfulness']['images']} images: areas with 95 % intervals"
        print_table(title, ["method", "deletion (low is good)", "insertion (high is good)"], rows)
    if "sanity" in result:
        for name, values in result["sanity"]["methods"].items():
            print(f"sanity of {name}: {values['verdict']}")
    if "objects" in result:
        print_table(
            f"pointing game on {result['objects']['images']} annotated images, "
            f"{len(result['objects']['broken'])} broken annotations passed over",
            ["method", "largest value on the object", "by area alone", "objects", "looked at most"],
            [_pointing(name, values) for name, values in result["objects"]["methods"].items()],
        )
        for name, values in result["objects"]["methods"].items():
            print_table(
                f"what {name} looks at when the network says … (attribution over area, 95 %, images)",
                ["scene", "images", "objects"],
                _scenes(values),
            )


def _scenes(values: dict[str, Any]) -> list[list[str]]:
    """What is looked at when a scene is said: the three densest objects of which the interval lies above 1."""
    rows = []
    for scene, part in values["scenes"].items():
        sure = [item for item in part["items"] if item["interval"] and item["interval"][0] > 1][:3]
        cells = []
        for item in sure:
            low, high = item["interval"]
            cells.append(f"{item['item']} {item['density']:.1f}× ({low:.1f}–{high:.1f}, n {item['images']})")
        rows.append([scene, str(part["images"]), ", ".join(cells) or "nothing for sure"])
    return rows


def _pointing(name: str, values: dict[str, Any]) -> list[str]:
    pointing = values["pointing"]
    sure = [item for item in values["items"] if item["interval"] and item["interval"][0] > 1][:4]
    best = ", ".join(f"{item['item']} {item['density']:.1f}×" for item in sure)
    return [name, str(pointing["hits"]), f"{pointing['chance']:.0f}", str(pointing["objects"]), best]
