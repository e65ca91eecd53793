"""Attribution reports of a run: galleries of maps as PNG files and an HTML page, and tests of the maps."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from scenelab.attribution import METHODS
from scenelab.data.cache import MemmapDataset
from scenelab.data.decode import read_images
from scenelab.evaluation.attribution_gallery import PERCENTILE, Gallery, Rendering, make_gallery, select_examples
from scenelab.evaluation.attribution_plots import (
    draw_faithfulness,
    draw_objects,
    draw_sanity,
    draw_sheet,
    paint,
    write_page,
)
from scenelab.evaluation.attribution_results import AttributionResult, Completeness, Faithfulness, Localization, Sanity
from scenelab.evaluation.faithfulness import measure_completeness, measure_faithfulness
from scenelab.evaluation.localization import find_annotated, measure_objects
from scenelab.evaluation.metrics import is_undefined, predict_logits
from scenelab.evaluation.predict import load_images, spread_rows
from scenelab.evaluation.results import SaliencyTest, stamp_result
from scenelab.evaluation.sanity import check_sanity
from scenelab.io import read_object
from scenelab.models.inference import prepare_for_inference
from scenelab.runs.events import open_writer
from scenelab.runs.network import Stored
from scenelab.runs.run import Run, event_folder
from scenelab.schema import parse

SHEET_IMAGES = 8
COMPLETENESS_IMAGES = 8
TESTS = {"completeness": Completeness, "faithfulness": Faithfulness, "sanity": Sanity, "objects": Localization}
FIGURES = {"faithfulness": draw_faithfulness, "sanity": draw_sanity, "objects": draw_objects}


@dataclass(frozen=True, kw_only=True)
class ImageCounts:
    """Maximum number of images for each test of attribution maps; 0 skips the test."""

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
) -> AttributionResult:
    """Write galleries of attribution maps for a split, and results of the requested tests, to RUN/results.

    Galleries of correct and of wrong predictions have at most `count` images each; `per_class` adds a gallery with
    one image per class. `names` are keys of METHODS. `data` is the data folder with the object annotations.
    """
    path, folder = run.results / "attribution.json", run.results / "attention"
    event_folder(run.events)
    if tests.objects:
        find_annotated(dataset, data)
    logits, fast, galleries = predict_logits(stored.model, dataset, size=stored.size), _prepared(stored), []
    for name, rows in select_examples(logits, dataset.labels, count=count, per_class=per_class).items():
        images, labels = load_images(dataset, rows, stored.size), dataset.labels[rows].tolist()
        galleries.append(make_gallery(name, rows, images, fast, names, rendering, labels=labels))
    about = {"split": dataset.split, "images": len(dataset), "digest": dataset.digest}
    if undefined := int(is_undefined(logits).sum()):
        about["undefined"] = undefined
    result = _make_result(run, stored, names, galleries, **about)
    result = result.model_copy(update=_earlier_tests(path, result))
    for name, test in _run_tests(stored, fast, dataset, data, names, tests):
        result = result.model_copy(update={name: test})
        result.write(path)
    for name, draw in FIGURES.items():
        if test := getattr(result, name):
            draw(test, folder / f"{name}.png")
    return _write(run, result, galleries, path, folder)


def _prepared(stored: Stored) -> Stored:
    return replace(stored, model=prepare_for_inference(stored.model))


def _run_tests(
    stored: Stored, fast: Stored, dataset: MemmapDataset, data: Path, names: tuple[str, ...], counts: ImageCounts
) -> Iterator[tuple[str, SaliencyTest]]:
    for name, measure, count in (
        ("completeness", measure_completeness, COMPLETENESS_IMAGES if "integrated" in names else 0),
        ("faithfulness", measure_faithfulness, counts.faithfulness),
        ("sanity", check_sanity, counts.sanity),
    ):
        if count:
            images = load_images(dataset, spread_rows(len(dataset), count), stored.size)
            yield name, measure(stored if name == "sanity" else fast, images, names)  # sanity draws weights per layer
    if counts.objects:
        yield "objects", measure_objects(fast, dataset, data, names, max_images=counts.objects)


def _earlier_tests(path: Path, result: AttributionResult) -> dict[str, SaliencyTest]:
    """Return test results by name from the file at `path`, if weights, images, image size and version agree."""
    earlier = read_object(path) if path.exists() else {}
    if any(earlier.get(name) != getattr(result, name) for name in ("weights", "split", "digest", "size")):
        return {}
    return {
        name: parse(kind, earlier[name], f"{path}: ")
        for name, kind in TESTS.items()
        if isinstance(test := earlier.get(name), dict) and test.get("version") == version("scenelab")
    }


def explain_files(
    run: Run, stored: Stored, paths: list[Path], *, names: tuple[str, ...], rendering: Rendering
) -> AttributionResult:
    """Write a gallery of attribution maps for image files, resized and center-cropped, to RUN/results."""
    event_folder(run.events)
    images = read_images(paths, stored.size).contiguous(memory_format=torch.channels_last)
    gallery = make_gallery("images", [path.name for path in paths], images, _prepared(stored), names, rendering)
    about = {"undefined": undefined} if (undefined := len(paths) - len(gallery.rows)) else {}
    result = _make_result(run, stored, names, [gallery], split=None, images=len(paths), **about)
    return _write(run, result, [gallery], run.results / "attribution-files.json", run.results / "attention-files")


def _make_result(
    run: Run, stored: Stored, names: tuple[str, ...], galleries: list[Gallery], **values: Any
) -> AttributionResult:
    return AttributionResult(
        **stamp_result(run, stored.arch, stored.size),
        **values,
        percentile=PERCENTILE,
        scale=galleries[0].rendering.scope,
        methods={name: METHODS[name].description for name in names},
        galleries={gallery.name: [row.explanation for row in gallery.rows] for gallery in galleries},
    )


def _write(
    run: Run, result: AttributionResult, galleries: list[Gallery], path: Path, folder: Path
) -> AttributionResult:
    for sheet in folder.glob("*-[0-9]*.png"):
        sheet.unlink()  # of an earlier call
    for gallery in galleries:
        for number, start in enumerate(range(0, len(gallery.rows), SHEET_IMAGES), start=1):
            rows = gallery.rows[start : start + SHEET_IMAGES]
            draw_sheet(rows, gallery.title, gallery.rendering, folder / f"{gallery.name}-{number}.png")
    write_page(folder / "attention.html", result, galleries)
    _log_images(run, galleries)
    result.write(path)
    return result


def _log_images(run: Run, galleries: list[Gallery]) -> None:
    """Log galleries as TensorBoard events, replacing earlier ones; each step has one image beside its maps."""
    if (events := open_writer(run.events / "attention")) is None:
        return
    with events as writer:
        for gallery in galleries:
            for step, row in enumerate(gallery.rows):
                maps = [paint(row.image, values, gallery.rendering.style) for values in row.maps.values()]
                tiles = [row.image, *(torch.from_numpy(pixels).permute(2, 0, 1).float() for pixels in maps)]
                writer.add_image(f"attention/{gallery.name}", torch.cat(tiles, dim=2), step)
