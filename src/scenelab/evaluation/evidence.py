"""The three tests of a run's attention maps: faithfulness, sanity, and where they lie on labelled objects."""

import math
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.data.augment import resize
from scenelab.data.objects import draw_masks, object_file, read_object_names, read_objects
from scenelab.data.packed import Packed
from scenelab.errors import LabError
from scenelab.evaluation.attention import METHODS
from scenelab.evaluation.faithfulness import BASELINES, follow
from scenelab.evaluation.localization import LEAST, Gaze, Look, look, pointing_game, summarize_looks
from scenelab.evaluation.sanity import LayerCheck, check_layers, layers, verdict
from scenelab.evaluation.student import quantile
from scenelab.models.normalize import Classifier
from scenelab.models.stored import Stored
from scenelab.progress import progress

BATCH = 20
SANITY_IMAGES = 8
SCENES = 12  # the table of what is looked at has so many scenes, those of most images


def show_images(packed: Packed, rows: list[int], side: int) -> Float[Tensor, "n 3 s s"]:
    """Images of a split in [0, 1] at the side that a network is evaluated at."""
    if not rows:
        return torch.empty(0, 3, side, side)
    index = torch.tensor(rows, dtype=torch.int64).numpy()
    images = resize(packed.rows(index).float().div_(255), side).clamp(0, 1)  # resizing rounds past 1
    return images.contiguous(memory_format=torch.channels_last)


def first_guesses(model: Classifier, images: Float[Tensor, "n 3 h w"]) -> Int64[Tensor, " n"]:
    """The class that the model says of each image."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(dim=1) for part in images.split(BATCH)])


def measure_faithfulness(stored: Stored, images: Float[Tensor, "n 3 h w"], names: tuple[str, ...]) -> dict[str, Any]:
    """Deletion and insertion areas of each method and of two baselines, with 95 % intervals over the images.

    `better` is by how much a method's area is better than a baseline's on the same images, with its interval.
    """
    targets = first_guesses(stored.model, images)
    methods: dict[str, Any] = {}
    areas: dict[str, dict[str, list[float]]] = {}
    with progress("faithfulness", len(images) * (len(names) + len(BASELINES))) as advance:
        for name in (*BASELINES, *names):
            whole = BASELINES[name](images) if name in BASELINES else None
            parts = []
            for start in range(0, len(images), BATCH):
                stop = start + BATCH
                part, chosen = images[start:stop], targets[start:stop]
                maps = METHODS[name].explain(stored.model, part, chosen) if whole is None else whole[start:stop]
                parts.append(follow(stored.model, part, maps, chosen))
                advance(len(part))
            methods[name], areas[name] = {"baseline": whole is not None}, {}
            for kind, sign in (("deletion", -1), ("insertion", 1)):
                curves = torch.cat([getattr(curve, kind) for curve in parts])
                areas[name][kind] = torch.cat([getattr(curve, f"{kind}_area") for curve in parts]).tolist()
                methods[name][kind] = {
                    "curve": curves.mean(dim=0).tolist(),
                    "area": mean(areas[name][kind]),
                    "interval": _interval(areas[name][kind]),
                    "better": {
                        other: _gain(areas[name][kind], areas[other][kind], sign)
                        for other in BASELINES if other != name and other in areas
                    },
                }  # fmt: skip
    return {"images": len(images), "methods": methods}


def _gain(values: list[float], other: list[float], sign: int) -> dict[str, Any]:
    gains = [sign * (mine - theirs) for mine, theirs in zip(values, other, strict=True)]
    return {"mean": mean(gains), "interval": _interval(gains)}


def _interval(values: list[float]) -> list[float] | None:
    if len(values) < 2:
        return None
    away = quantile(len(values) - 1) * stdev(values) / len(values) ** 0.5
    return [mean(values) - away, mean(values) + away]


def check_sanity(stored: Stored, images: Float[Tensor, "n 3 h w"], names: tuple[str, ...]) -> dict[str, Any]:
    """What randomising the network's layers does to each method's maps, and to an edge detector's, with a verdict.

    The target stays the trained model's first guess, so that the maps are of one class throughout.
    """
    targets = first_guesses(stored.model, images)
    methods = {}
    with progress("sanity", len(names) * (1 + 2 * len(layers(stored.model))), unit="sets of maps") as advance:
        for name in names:
            explain = partial(METHODS[name].explain, images=images, targets=targets)
            methods[name] = _sanity(check_layers(stored.model, explain, advance=advance))
    methods["edges"] = _sanity(check_layers(stored.model, lambda model: BASELINES["edges"](images)))
    return {"images": len(images), "methods": methods}


def _sanity(checks: list[LayerCheck]) -> dict[str, Any]:
    return {"verdict": verdict(checks), "layers": [_plain(asdict(check)) for check in checks]}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}


def find_annotated(packed: Packed, data: Path) -> list[int]:
    """The images of a split that have an annotation, by their number.

    Raises:
        LabError: there are none, or the names of the object classes are missing.
    """
    found = [row for row, path in enumerate(packed.paths) if object_file(data, path).exists()]
    if not found:
        raise LabError(
            f"no {packed.split} image has a file below {data / 'objects'}; --objects needs MiniPlaces' annotations"
        )
    read_object_names(data)
    return found


def measure_gaze(stored: Stored, packed: Packed, data: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Where the maps of annotated images lie: by object class, and by object class in each scene that is said.

    Beside each density stands that of maps which belong to another image (`elsewhere`): what the habit of photographs,
    and of a method, to have things in the middle gives by itself. Broken annotations are counted and named, and their
    images passed over.

    Raises:
        LabError: no image of the split has an annotation.
    """
    items, objects, broken = read_object_names(data), {}, []
    for row in find_annotated(packed, data):
        try:
            objects[row] = read_objects(object_file(data, packed.paths[row]))
        except LabError as error:
            broken.append(str(error))
    rows = list(objects)
    looks: dict[str, list[Look]] = {name: [] for name in names}
    elsewhere: dict[str, list[Look]] = {name: [] for name in names}
    with progress("objects", len(rows) * len(names)) as advance:
        for start in range(0, len(rows), BATCH):
            chosen = rows[start : start + BATCH]
            images = show_images(packed, chosen, stored.size)
            targets = first_guesses(stored.model, images)
            masks = [draw_masks(objects[row], stored.size) for row in chosen]
            for name in names:
                maps = METHODS[name].explain(stored.model, images, targets, advance)
                for number, (row, mask) in enumerate(zip(chosen, masks, strict=True)):
                    scene = int(targets[number])
                    looks[name] += look(maps[number], mask, image=row, scene=scene)
                    if len(chosen) > 1:
                        elsewhere[name] += look(maps[number - 1], mask, image=row, scene=scene)
    methods = {name: _gaze_of(looks[name], elsewhere[name], items, stored.categories) for name in names}
    return {"images": len(rows), "broken": broken, "methods": methods}


def _gaze_of(
    looks: list[Look], elsewhere: list[Look], items: tuple[str, ...], categories: tuple[str, ...]
) -> dict[str, Any]:
    hits, chance, count = pointing_game(looks)
    habit = {gaze.item: gaze.density for gaze in summarize_looks(elsewhere)}
    scenes: dict[int, list[Look]] = {}
    for entry in looks:
        scenes.setdefault(entry.scene, []).append(entry)
    images = {scene: len({entry.image for entry in entries}) for scene, entries in scenes.items()}
    frequent = sorted(scenes, key=lambda scene: -images[scene])[:SCENES]

    def named(gaze: Gaze) -> dict[str, Any]:
        name = items[gaze.item] if gaze.item < len(items) else f"object {gaze.item}"
        return {**asdict(gaze), "item": name, "elsewhere": habit.get(gaze.item)}

    return {
        "pointing": {"hits": hits, "chance": chance, "objects": count},
        "items": [named(gaze) for gaze in summarize_looks(looks)],
        "scenes": {
            categories[scene]: {
                "images": images[scene],
                "items": [named(gaze) for gaze in summarize_looks(scenes[scene]) if gaze.images >= LEAST],
            }
            for scene in frequent
        },
    }
