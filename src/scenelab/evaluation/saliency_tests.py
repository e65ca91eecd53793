"""Tests of a run's attribution maps: faithfulness, parameter randomization, localization on labeled objects."""

import math
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.attribution import METHODS
from scenelab.data.annotations import draw_masks, object_file, read_object_names, read_objects
from scenelab.data.augment import resize
from scenelab.data.cache import MemmapDataset
from scenelab.errors import LabError
from scenelab.evaluation.adversarial import top1
from scenelab.evaluation.attribution_gallery import BATCH_SIZE, compute_maps
from scenelab.evaluation.faithfulness import BASELINES, deletion_insertion
from scenelab.evaluation.intervals import mean_interval
from scenelab.evaluation.localization import ItemSummary, Masks, Overlap, overlaps, pointing_game, summarize
from scenelab.evaluation.sanity import LayerCheck, layer_groups, randomize_layers, unrandomized, verdict
from scenelab.models.normalize import Classifier
from scenelab.progress import progress
from scenelab.runs.network import Stored

SANITY_IMAGES = 8
MAX_ANNOTATED = 400  # images for localization
MIN_ITEM_IMAGES = 4  # images of a scene with an object class that is listed
MAX_SCENES = 12  # scenes that are listed, those of most images


def load_images(dataset: MemmapDataset, rows: list[int], side: int) -> Float[Tensor, "n 3 s s"]:
    """Return images of a split in [0, 1] at the evaluation size of a network."""
    if not rows:
        return torch.empty(0, 3, side, side)
    index = torch.tensor(rows, dtype=torch.int64).numpy()
    images = resize(dataset.gather(index).float().div_(255), side).clamp(0, 1)  # resizing can overshoot
    return images.contiguous(memory_format=torch.channels_last)


def spread_rows(total: int, count: int) -> list[int]:
    """Return at most `count` row indices, evenly spread over the total."""
    return torch.linspace(0, total - 1, min(total, count)).long().tolist()


def predict(model: Classifier, images: Float[Tensor, "n 3 h w"]) -> Int64[Tensor, " n"]:
    """Return the predicted classes."""
    return top1(model, images, batch_size=BATCH_SIZE)[1]


def measure_faithfulness(stored: Stored, images: Float[Tensor, "n 3 h w"], names: tuple[str, ...]) -> dict[str, Any]:
    """Measure deletion and insertion areas of methods and baselines, with 95 % intervals over the images.

    `better` is the advantage in area over each baseline on the same images.
    """
    targets = predict(stored.model, images)
    methods: dict[str, Any] = {}
    areas: dict[str, dict[str, list[float]]] = {}
    with progress("faithfulness", len(images) * (len(names) + len(BASELINES))) as advance:
        for name in (*BASELINES, *names):
            is_baseline = name in BASELINES
            maps = BASELINES[name](images) if is_baseline else compute_maps(name, stored.model, images, targets)
            curves = []
            for parts in zip(*(values.split(BATCH_SIZE) for values in (images, maps, targets)), strict=True):
                curves.append(deletion_insertion(stored.model, *parts))
                advance(len(parts[0]))
            methods[name], areas[name] = {"baseline": is_baseline}, {}
            for kind, sign in (("deletion", -1), ("insertion", 1)):
                areas[name][kind] = torch.cat([getattr(part, f"{kind}_area") for part in curves]).tolist()
                methods[name][kind] = {
                    "curve": torch.cat([getattr(part, kind) for part in curves]).mean(dim=0).tolist(),
                    "area": mean(areas[name][kind]),
                    "interval": mean_interval(areas[name][kind]),
                    "better": {
                        other: _gain(areas[name][kind], areas[other][kind], sign)
                        for other in BASELINES
                        if other != name and other in areas
                    },
                }
    return {"images": len(images), "methods": methods}


def _gain(values: list[float], other: list[float], sign: int) -> dict[str, Any]:
    gains = [sign * (first - second) for first, second in zip(values, other, strict=True)]
    return {"mean": mean(gains), "interval": mean_interval(gains)}


def check_sanity(stored: Stored, images: Float[Tensor, "n 3 h w"], names: tuple[str, ...]) -> dict[str, Any]:
    """Randomize the network's layers and compare each method's maps, and an edge detector's, with a verdict.

    The targets stay the trained model's predictions, so that all maps explain the same class.
    """
    targets = predict(stored.model, images)
    methods = {}
    with progress("sanity", len(names) * (1 + 2 * len(layer_groups(stored.model))), unit="sets of maps") as advance:
        for name in names:
            explain = partial(METHODS[name], images=images, targets=targets)
            methods[name] = _sanity(randomize_layers(stored.model, explain, on_progress=advance))
    methods["edges"] = _sanity(randomize_layers(stored.model, lambda model: BASELINES["edges"](images)))
    return {"images": len(images), "untouched": unrandomized(stored.model), "methods": methods}


def _sanity(checks: list[LayerCheck]) -> dict[str, Any]:
    return {"verdict": verdict(checks), "layers": [_without_nan(asdict(check)) for check in checks]}


def _without_nan(values: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN, which JSON does not have, by None."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}


def find_annotated(dataset: MemmapDataset, data: Path) -> list[int]:
    """Return the row indices of annotated images.

    Raises:
        LabError: there are none, or the names of the object classes are missing.
    """
    rows = [row for row, path in enumerate(dataset.paths) if object_file(data, path).exists()]
    if not rows:
        raise LabError(
            f"no {dataset.split} image has a file below {data / 'objects'}; --objects needs MiniPlaces' annotations"
        )
    read_object_names(data)
    return rows


def measure_objects(
    stored: Stored, dataset: MemmapDataset, data: Path, names: tuple[str, ...], *, max_images: int = MAX_ANNOTATED
) -> dict[str, Any]:
    """Measure attribution on annotated objects: by object class, and by object class per predicted scene.

    Each map is compared with the map of another image on the same objects, of the same predicted scene if possible, and
    with an edge detector. Invalid annotations are listed and their images skipped.

    Raises:
        LabError: no image of the split has a valid annotation.
    """
    items, annotated = read_object_names(data), find_annotated(dataset, data)
    objects, broken = {}, []
    for row in (annotated[place] for place in spread_rows(len(annotated), max_images)):
        try:
            objects[row] = read_objects(object_file(data, dataset.paths[row]))
        except LabError as error:
            broken.append(str(error))
    if not objects:
        raise LabError(f"none of the {len(broken)} annotations is valid; the first: {broken[0]}")
    images = load_images(dataset, list(objects), stored.size)
    targets = predict(stored.model, images)
    order = targets.argsort(stable=True)
    images, targets = images[order].contiguous(memory_format=torch.channels_last), targets[order]
    rows = [list(objects)[place] for place in order.tolist()]
    masks = [draw_masks(objects[row], stored.size) for row in rows]
    methods: dict[str, Any] = {}
    with progress("objects", len(rows) * len(names)) as advance:
        for name in (*names, "edges"):
            if name in METHODS:
                maps = compute_maps(name, stored.model, images, targets, on_progress=advance)
            else:
                maps = BASELINES[name](images)
            entries = _all_overlaps(maps, masks, rows, targets)
            methods[name] = {
                "pointing": asdict(pointing_game(maps, masks)),
                "items": [_named(summary, items) for summary in summarize(entries)],
                "scenes": _by_scene(entries, items, stored.categories),
            }
    return {"images": len(rows), "broken": broken, "methods": methods}


def _all_overlaps(maps: Tensor, masks: list[Masks], rows: list[int], targets: Int64[Tensor, " n"]) -> list[Overlap]:
    entries: list[Overlap] = []
    for place, (scene, partner) in enumerate(zip(targets.tolist(), _partners(targets), strict=True)):
        entries += overlaps(maps[place], maps[partner], masks[place], image=rows[place], scene=scene)
    return entries


def _partners(targets: Int64[Tensor, " n"]) -> list[int]:
    """Return another image for each of the images, sorted by scene: the next of its scene, or else of all."""
    partners = []
    for place, scene in enumerate(targets.tolist()):
        same = (targets == scene).nonzero()[:, 0].tolist()
        partners.append(same[(same.index(place) + 1) % len(same)] if len(same) > 1 else (place + 1) % len(targets))
    return partners


def _by_scene(entries: list[Overlap], items: tuple[str, ...], categories: tuple[str, ...]) -> dict[str, Any]:
    scenes: dict[int, list[Overlap]] = {}
    for entry in entries:
        scenes.setdefault(entry.scene, []).append(entry)
    images = {scene: len({entry.image for entry in part}) for scene, part in scenes.items()}
    return {
        categories[scene]: {
            "images": images[scene],
            "items": [
                _named(summary, items) for summary in summarize(scenes[scene]) if summary.images >= MIN_ITEM_IMAGES
            ],
        }
        for scene in sorted(scenes, key=lambda scene: -images[scene])[:MAX_SCENES]
    }


def _named(summary: ItemSummary, items: tuple[str, ...]) -> dict[str, Any]:
    name = items[summary.item] if summary.item < len(items) else f"object {summary.item}"
    return {**asdict(summary), "item": name, "verdict": summary.verdict}
