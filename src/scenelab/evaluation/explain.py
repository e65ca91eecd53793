"""Explain a run: galleries of attribution maps as images and one page, and tests of the maps, in RUN/results."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from scenelab.attribution import METHODS, IntegratedGradients
from scenelab.data.cache import MemmapDataset
from scenelab.data.decode import read_images
from scenelab.evaluation.attribution_gallery import (
    PERCENTILE,
    Gallery,
    Rendering,
    Selection,
    make_gallery,
    select_examples,
)
from scenelab.evaluation.attribution_page import write_page
from scenelab.evaluation.attribution_plots import draw_faithfulness, draw_objects, draw_sanity, draw_sheet, paint
from scenelab.evaluation.metrics import predict_logits
from scenelab.evaluation.saliency_tests import (
    SANITY_IMAGES,
    check_sanity,
    find_annotated,
    load_images,
    measure_faithfulness,
    measure_objects,
    predict,
    spread_rows,
)
from scenelab.io import read_json, write_json
from scenelab.runs.network import Stored
from scenelab.runs.provenance import stamp
from scenelab.runs.run import Run

SHEET_IMAGES = 8
TESTS = ("completeness", "faithfulness", "sanity", "objects")
FIGURES = {"faithfulness": draw_faithfulness, "sanity": draw_sanity, "objects": draw_objects}


@dataclass(frozen=True, kw_only=True)
class ImageCounts:
    """Maximum number of images per test; 0 skips the test."""

    faithfulness: int = 0
    sanity: int = 0
    objects: int = 0


def explain_split(
    run: Run,
    stored: Stored,
    dataset: MemmapDataset,
    *,
    data: Path,
    names: tuple[str, ...],
    count: int,
    per_class: bool,
    rendering: Rendering,
    tests: ImageCounts = ImageCounts(),
) -> dict[str, Any]:
    """Write galleries of a split and the requested tests to RUN/results.

    Args:
        data: the data folder, for object annotations.
        names: methods.
        count: images per gallery.
        per_class: add a gallery with one image per class.

    Returns:
        The content of `results/attribution.json`.
    """
    folder = _remove_sheets(run.results / "attention")
    if tests.objects:
        find_annotated(dataset, data)
    logits = predict_logits(stored.model, dataset, size=stored.size)
    galleries = []
    for selection in select_examples(logits, dataset.labels, count=count, per_class=per_class):
        images = load_images(dataset, list(selection.rows), stored.size)
        labels = [int(dataset.labels[row]) for row in selection.rows]
        galleries.append(make_gallery(stored, selection, images, names, rendering, labels=labels))
    about = {"split": dataset.split, "images": len(dataset), "digest": dataset.digest}
    result = _header(run, stored, names, galleries, rendering, **about)
    result |= _earlier_tests(run.results / "attribution.json", result)
    for name, test in _requested_tests(stored, dataset, data, names, tests).items():
        result[name] = {**test(), **stamp(), "version": version("scenelab"), "methods_asked": list(names)}
        write_json(run.results / "attribution.json", result)
    for name, draw in FIGURES.items():
        if name in result:
            draw(result[name], folder / f"{name}.png")
    return _write(run, result, galleries, "attention")


def _requested_tests(
    stored: Stored, dataset: MemmapDataset, data: Path, names: tuple[str, ...], sizes: ImageCounts
) -> dict[str, Callable[[], dict[str, Any]]]:
    def images(count: int) -> Float[Tensor, "n 3 h w"]:
        return load_images(dataset, spread_rows(len(dataset), count), stored.size)

    tests: dict[str, Callable[[], dict[str, Any]]] = {}
    if "integrated" in names:
        tests["completeness"] = lambda: _completeness(stored, images(SANITY_IMAGES))
    if sizes.faithfulness:
        tests["faithfulness"] = lambda: measure_faithfulness(stored, images(sizes.faithfulness), names)
    if sizes.sanity:
        tests["sanity"] = lambda: check_sanity(stored, images(sizes.sanity), names)
    if sizes.objects:
        tests["objects"] = lambda: measure_objects(stored, dataset, data, names, max_images=sizes.objects)
    return tests


def _earlier_tests(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """Return earlier tests of this version on the same weights and images, so that they are not lost."""
    earlier = read_json(path) if path.exists() else {}
    if any(earlier.get(name) != result[name] for name in ("weights", "split", "digest", "size")):
        return {}
    return {name: earlier[name] for name in TESTS if earlier.get(name, {}).get("version") == version("scenelab")}


def _remove_sheets(folder: Path) -> Path:
    for path in folder.glob("*-[0-9]*.png"):
        path.unlink()
    return folder


def explain_files(
    run: Run, stored: Stored, paths: list[Path], *, names: tuple[str, ...], rendering: Rendering
) -> dict[str, Any]:
    """Write a gallery of center-cropped image files to RUN/results/attention-files; a split's results stay."""
    _remove_sheets(run.results / "attention-files")
    images = read_images(paths, stored.size).contiguous(memory_format=torch.channels_last)
    selection = Selection(name="images", title="images", rows=tuple(range(len(paths))))
    gallery = make_gallery(stored, selection, images, names, rendering, files=[path.name for path in paths])
    result = _header(run, stored, names, [gallery], rendering, split=None, images=len(paths))
    return _write(run, result, [gallery], "attention-files")


def _header(
    run: Run, stored: Stored, names: tuple[str, ...], galleries: list[Gallery], rendering: Rendering, **values: Any
) -> dict[str, Any]:
    return {
        **stamp(run.best),
        "model": stored.arch,
        "size": stored.size,
        **values,
        "percentile": PERCENTILE,
        "scale": rendering.scope,
        "methods": {name: METHODS[name].description for name in names},
        "galleries": {gallery.name: gallery.entries for gallery in galleries},
    }


def _write(run: Run, result: dict[str, Any], galleries: list[Gallery], name: str) -> dict[str, Any]:
    folder = run.results / name
    for gallery in galleries:
        for number, start in enumerate(range(0, len(gallery.rows), SHEET_IMAGES), start=1):
            path, rows = folder / f"{gallery.name}-{number}.png", gallery.rows[start : start + SHEET_IMAGES]
            draw_sheet(rows, gallery.title, gallery.rendering.caption, path, style=gallery.rendering.style)
    write_page(folder / "attention.html", result, galleries, folder)
    _log_images(run, galleries)
    write_json(run.results / f"{name.replace('attention', 'attribution')}.json", result)
    return result


def _completeness(stored: Stored, images: Float[Tensor, "n 3 h w"]) -> dict[str, Any]:
    """Measure the mean gap of integrated gradients beside the explained score, to judge the number of steps."""
    method, targets = IntegratedGradients(), predict(stored.model, images)
    values = method(stored.model, images, targets).contiguous(memory_format=torch.channels_last)
    gap = method.completeness_gap(stored.model, images, values, targets)
    explained = (values.sum(dim=(1, 2, 3)) - gap).abs().mean().item()
    return {"images": len(images), "gap": gap.abs().mean().item(), "explained": explained}


def _log_images(run: Run, galleries: list[Gallery]) -> None:
    """Write the galleries to TensorBoard, one image per step beside its maps; replace an earlier call's."""
    folder = run.events / "attention"
    for path in folder.glob("events.out.tfevents.*"):
        path.unlink()
    with SummaryWriter(str(folder)) as writer:
        for gallery in galleries:
            for step, row in enumerate(gallery.rows):
                maps = [paint(row.image, values, gallery.rendering.style) for values in row.maps.values()]
                tiles = [row.image, *(torch.from_numpy(pixels).permute(2, 0, 1).float() for pixels in maps)]
                writer.add_image(f"attention/{gallery.name}", torch.cat(tiles, dim=2), step)
