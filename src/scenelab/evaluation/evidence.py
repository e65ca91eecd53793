"""The three tests of a run's attention maps: faithfulness, sanity, and where they lie on labelled objects."""

from collections.abc import Callable
from dataclasses import asdict
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
from scenelab.evaluation.localization import Gaze, Look, look, pointing_game, summarize_looks
from scenelab.evaluation.sanity import check_layers, verdict
from scenelab.evaluation.student import quantile
from scenelab.models.normalize import Classifier
from scenelab.models.stored import Stored
from scenelab.progress import progress

BATCH = 20
SANITY_IMAGES = 8
SCENES = 12  # the table of what is looked at has so many scenes, those of most images
FEWEST = 3  # images of an object in a scene for a line of that table


def show_images(packed: Packed, rows: list[int], side: int) -> Float[Tensor, "n 3 s s"]:
    """Images of a split in [0, 1] at the side that a network is evaluated at."""
    index = torch.tensor(rows, dtype=torch.int64).numpy()
    images = resize(packed.rows(index).float().div_(255), side).clamp(0, 1)  # resizing rounds past 1
    return images.contiguous(memory_format=torch.channels_last)


def first_guesses(model: Classifier, images: Float[Tensor, "n 3 h w"]) -> Int64[Tensor, " n"]:
    """The class that the model says of each image."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(dim=1) for part in images.split(BATCH)])


def measure_faithfulness(stored: Stored, images: Float[Tensor, "n 3 h w"], names: tuple[str, ...]) -> dict[str, Any]:
    """Deletion and insertion areas of each method and of two baselines, with 95 % intervals over the images."""
    targets = first_guesses(stored.model, images)
    makers: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], bool]] = {
        name: (lambda part, chosen, name=name: METHODS[name].explain(stored.model, part, chosen), False)
        for name in names
    }
    makers |= {name: (lambda part, chosen, make=make: make(part), True) for name, make in BASELINES.items()}
    methods: dict[str, Any] = {}
    with progress("faithfulness", len(images) * len(makers)) as advance:
        for name, (make, baseline) in makers.items():
            parts = []
            for part, chosen in zip(images.split(BATCH), targets.split(BATCH), strict=True):
                parts.append(follow(stored.model, part, make(part, chosen), chosen))
                advance(len(part))
            methods[name] = {"baseline": baseline}
            for kind in ("deletion", "insertion"):
                curves = torch.cat([getattr(curve, kind) for curve in parts])
                areas = torch.cat([getattr(curve, f"{kind}_area") for curve in parts]).tolist()
                methods[name][kind] = {
                    "curve": curves.mean(dim=0).tolist(), "area": mean(areas), "interval": _interval(areas),
                }  # fmt: skip
    return {"images": len(images), "methods": methods}


def _interval(values: list[float]) -> list[float] | None:
    if len(values) < 2:
        return None
    away = quantile(len(values) - 1) * stdev(values) / len(values) ** 0.5
    return [mean(values) - away, mean(values) + away]


def check_sanity(stored: Stored, images: Float[Tensor, "n 3 h w"], names: tuple[str, ...]) -> dict[str, Any]:
    """What randomising the network's layers does to each method's maps, with a verdict in words.

    The target stays the trained model's first guess, so that the maps are of one class throughout.
    """
    images = images[:SANITY_IMAGES]
    targets = first_guesses(stored.model, images)
    methods = {}
    with progress("sanity", len(names), unit="methods") as advance:
        for name in names:
            explain = METHODS[name].explain
            checks = check_layers(stored.model, lambda model, explain=explain: explain(model, images, targets))
            methods[name] = {"verdict": verdict(checks), "layers": [asdict(check) for check in checks]}
            advance(1)
    return {"images": len(images), "methods": methods}


def measure_gaze(stored: Stored, packed: Packed, data: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Where the maps of annotated images lie: by object class, and by object class in each scene that is said.

    Broken annotations are counted and named, and their images passed over.

    Raises:
        LabError: no image of the split has an annotation.
    """
    annotated = [row for row, path in enumerate(packed.paths) if object_file(data, path).exists()]
    if not annotated:
        raise LabError(
            f"no {packed.split} image has a file below {data / 'objects'}; --objects needs MiniPlaces' annotations"
        )
    items, broken, good = read_object_names(data), [], []
    objects = {}
    for row in annotated:
        try:
            objects[row] = read_objects(object_file(data, packed.paths[row]))
            good.append(row)
        except LabError as error:
            broken.append(str(error))
    looks: dict[str, list[Look]] = {name: [] for name in names}
    with progress("objects", len(good) * len(names)) as advance:
        for start in range(0, len(good), BATCH):
            rows = good[start : start + BATCH]
            images = show_images(packed, rows, stored.size)
            targets = first_guesses(stored.model, images)
            masks = [draw_masks(objects[row], stored.size) for row in rows]
            for name in names:
                maps = METHODS[name].explain(stored.model, images, targets)
                for number, mask in enumerate(masks):
                    looks[name] += look(maps[number], mask, scene=int(targets[number]))
                advance(len(rows))
    methods = {name: _gaze_of(found, items, stored.categories) for name, found in looks.items()}
    return {"images": len(good), "broken": broken, "methods": methods}


def _gaze_of(looks: list[Look], items: tuple[str, ...], categories: tuple[str, ...]) -> dict[str, Any]:
    hits, chance, count = pointing_game(looks)
    scenes: dict[int, list[Look]] = {}
    for entry in looks:
        scenes.setdefault(entry.scene, []).append(entry)
    frequent = sorted(scenes, key=lambda scene: -len(scenes[scene]))[:SCENES]

    def named(gaze: Gaze) -> dict[str, Any]:
        return {**asdict(gaze), "item": items[gaze.item] if gaze.item < len(items) else f"object {gaze.item}"}

    return {
        "pointing": {"hits": hits, "chance": chance, "objects": count},
        "items": [named(gaze) for gaze in summarize_looks(looks)],
        "scenes": {
            categories[scene]: [named(gaze) for gaze in summarize_looks(scenes[scene]) if gaze.images >= FEWEST]
            for scene in frequent
        },
    }
