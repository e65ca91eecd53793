"""The three tests of a run's attention maps: faithfulness, sanity, and where they lie on labelled objects."""

import math
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.data.annotations import draw_masks, object_file, read_object_names, read_objects
from scenelab.data.augment import resize
from scenelab.data.cache import MemmapDataset
from scenelab.errors import LabError
from scenelab.evaluation.attention import METHODS
from scenelab.evaluation.faithfulness import BASELINES, follow
from scenelab.evaluation.intervals import mean_interval
from scenelab.evaluation.localization import Gaze, Look, look, point, summarize_looks
from scenelab.evaluation.sanity import LayerCheck, check_layers, layers, untouched, verdict
from scenelab.models.normalize import Classifier
from scenelab.progress import progress
from scenelab.runs.network import Stored

BATCH = 20
SANITY_IMAGES = 8
ANNOTATED = 400  # images for the objects
FEW = 4  # images of a scene that show an object class for it to be told of
SCENES = 12  # the table of what is looked at has so many scenes, those of most images


def show_images(dataset: MemmapDataset, rows: list[int], side: int) -> Float[Tensor, "n 3 s s"]:
    """Images of a split in [0, 1] at the side that a network is evaluated at."""
    if not rows:
        return torch.empty(0, 3, side, side)
    index = torch.tensor(rows, dtype=torch.int64).numpy()
    images = resize(dataset.gather(index).float().div_(255), side).clamp(0, 1)  # resizing rounds past 1
    return images.contiguous(memory_format=torch.channels_last)


def spread_rows(total: int, count: int) -> list[int]:
    """So many row numbers, or all, evenly spread over the total."""
    return torch.linspace(0, total - 1, min(total, count)).long().tolist()


def first_guesses(model: Classifier, images: Float[Tensor, "n 3 h w"]) -> Int64[Tensor, " n"]:
    """The class that the model says of each image."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(dim=1) for part in images.split(BATCH)])


def measure_faithfulness(stored: Stored, images: Float[Tensor, "n 3 h w"], names: tuple[str, ...]) -> dict[str, Any]:
    """Deletion and insertion areas of each method and of the baselines, with 95 % intervals over the images.

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
                    "interval": mean_interval(areas[name][kind]),
                    "better": {
                        other: _gain(areas[name][kind], areas[other][kind], sign)
                        for other in BASELINES if other != name and other in areas
                    },
                }  # fmt: skip
    return {"images": len(images), "methods": methods}


def _gain(values: list[float], other: list[float], sign: int) -> dict[str, Any]:
    gains = [sign * (mine - theirs) for mine, theirs in zip(values, other, strict=True)]
    return {"mean": mean(gains), "interval": mean_interval(gains)}


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
    return {"images": len(images), "untouched": untouched(stored.model), "methods": methods}


def _sanity(checks: list[LayerCheck]) -> dict[str, Any]:
    return {"verdict": verdict(checks), "layers": [_plain(asdict(check)) for check in checks]}


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}


def find_annotated(dataset: MemmapDataset, data: Path) -> list[int]:
    """The images of a split that have an annotation, by their number.

    Raises:
        LabError: there are none, or the names of the object classes are missing.
    """
    found = [row for row, path in enumerate(dataset.paths) if object_file(data, path).exists()]
    if not found:
        raise LabError(
            f"no {dataset.split} image has a file below {data / 'objects'}; --objects needs MiniPlaces' annotations"
        )
    read_object_names(data)
    return found


def measure_gaze(
    stored: Stored, dataset: MemmapDataset, data: Path, names: tuple[str, ...], *, most: int = ANNOTATED
) -> dict[str, Any]:
    """Where the maps of annotated images lie: by object class, and by object class in each scene that is said.

    Each map is held against that of another image on the same objects, one for which the model says the same scene
    where there is one. Beside the methods stands an edge detector. Broken annotations are counted and named, and their
    images passed over.

    Args:
        most: annotated images at most, spread over the split.

    Raises:
        LabError: no image of the split has an annotation that can be read.
    """
    items, annotated = read_object_names(data), find_annotated(dataset, data)
    objects, broken = {}, []
    for row in (annotated[place] for place in spread_rows(len(annotated), most)):
        try:
            objects[row] = read_objects(object_file(data, dataset.paths[row]))
        except LabError as error:
            broken.append(str(error))
    if not objects:
        raise LabError(f"none of the {len(broken)} annotations can be read; the first: {broken[0]}")
    images = show_images(dataset, list(objects), stored.size)
    targets = first_guesses(stored.model, images)
    order = targets.argsort(stable=True)
    images, targets = images[order].contiguous(memory_format=torch.channels_last), targets[order]
    rows = [list(objects)[place] for place in order.tolist()]
    masks = [draw_masks(objects[row], stored.size) for row in rows]
    others = _partners(targets)
    methods: dict[str, Any] = {}
    with progress("objects", len(rows) * len(names)) as advance:
        for name in (*names, "edges"):
            maps = [
                METHODS[name].explain(stored.model, part, said, advance) if name in METHODS else BASELINES[name](part)
                for part, said in zip(images.split(BATCH), targets.split(BATCH), strict=True)
            ]
            methods[name] = _gaze_of(torch.cat(maps), others, masks, rows, targets, items, stored.categories)
    return {"images": len(rows), "broken": broken, "methods": methods}


def _partners(targets: Int64[Tensor, " n"]) -> list[int]:
    """For each of the images, which are ordered by scene, another one: the next of its scene, or else of all."""
    partners = []
    for place, scene in enumerate(targets.tolist()):
        same = (targets == scene).nonzero()[:, 0].tolist()
        partners.append(same[(same.index(place) + 1) % len(same)] if len(same) > 1 else (place + 1) % len(targets))
    return partners


def _gaze_of(
    maps: Tensor, others: list[int], masks: list[dict[int, Tensor]], rows: list[int], targets: Tensor,
    items: tuple[str, ...], categories: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    looks: list[Look] = []
    for place, scene in enumerate(targets.tolist()):
        looks += look(maps[place], maps[others[place]], masks[place], image=rows[place], scene=scene)
    scenes: dict[int, list[Look]] = {}
    for entry in looks:
        scenes.setdefault(entry.scene, []).append(entry)
    images = {scene: len({entry.image for entry in entries}) for scene, entries in scenes.items()}
    frequent = sorted(scenes, key=lambda scene: -images[scene])[:SCENES]

    def named(gaze: Gaze) -> dict[str, Any]:
        name = items[gaze.item] if gaze.item < len(items) else f"object {gaze.item}"
        return {**asdict(gaze), "item": name, "verdict": gaze.verdict}

    return {
        "pointing": asdict(point(maps, masks)),
        "items": [named(gaze) for gaze in summarize_looks(looks)],
        "scenes": {
            categories[scene]: {
                "images": images[scene],
                "items": [named(gaze) for gaze in summarize_looks(scenes[scene]) if gaze.images >= FEW],
            }
            for scene in frequent
        },
    }
