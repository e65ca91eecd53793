"""Explain a run: galleries of maps as pictures and one page, and what the tests of the maps say, in RUN/results."""

from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter

from scenelab.attribution import integrated_gradients
from scenelab.data.cache import Packed
from scenelab.data.decode import read_pictures
from scenelab.evaluation.attention import METHODS, Choice, choose
from scenelab.evaluation.attention_figures import (
    draw_faithfulness,
    draw_gaze,
    draw_sanity,
    draw_sheet,
    paint,
)
from scenelab.evaluation.attention_page import write_page
from scenelab.evaluation.gallery import PERCENTILE, Rendering, Section, make_gallery
from scenelab.evaluation.metrics import predict_logits
from scenelab.evaluation.saliency_tests import (
    SANITY_IMAGES,
    check_sanity,
    find_annotated,
    first_guesses,
    measure_faithfulness,
    measure_gaze,
    show_images,
    spread_rows,
)
from scenelab.io import read_json, write_json
from scenelab.runs.network import Stored
from scenelab.runs.provenance import stamp
from scenelab.runs.run import Run

SHEET = 8  # images in one PNG
TESTS = ("completeness", "faithfulness", "sanity", "objects")
FIGURES = {"faithfulness": draw_faithfulness, "sanity": draw_sanity, "objects": draw_gaze}


def explain_split(
    run: Run, stored: Stored, packed: Packed, *, data: Path, names: tuple[str, ...], count: int, classes: bool,
    rendering: Rendering, faithfulness: int = 0, sanity: int = 0, objects: int = 0,
) -> dict[str, Any]:  # fmt: skip
    """Galleries of a split and the tests that are asked for; everything is written below RUN/results.

    Args:
        data: the data folder, for the objects.
        names: methods.
        count: images of each gallery.
        classes: whether there is a gallery of one image a class.
        rendering: how the maps are scaled and shown.
        faithfulness, sanity, objects: how many images each test has at most; 0 leaves it out.

    Returns:
        The content of `results/attribution.json`.
    """
    folder = _empty(run.results / "attention")
    if objects:
        find_annotated(packed, data)
    logits = predict_logits(stored.model, packed, size=stored.size)
    sections = []
    for choice in choose(logits, packed.labels, count=count, classes=classes):
        images = show_images(packed, list(choice.rows), stored.size)
        labels = [int(packed.labels[row]) for row in choice.rows]
        sections.append(make_gallery(stored, choice, images, labels, names, rendering))
    about = {"split": packed.split, "images": len(packed), "digest": packed.digest}
    result = _begin(run, stored, names, sections, rendering, **about)
    result |= _kept(run.results / "attribution.json", result)
    tests: dict[str, Callable[[], dict[str, Any]]] = {}
    if "integrated" in names:
        tests["completeness"] = lambda: _completeness(stored, _spread(stored, packed, SANITY_IMAGES))
    if faithfulness:
        tests["faithfulness"] = lambda: measure_faithfulness(stored, _spread(stored, packed, faithfulness), names)
    if sanity:
        tests["sanity"] = lambda: check_sanity(stored, _spread(stored, packed, sanity), names)
    if objects:
        tests["objects"] = lambda: measure_gaze(stored, packed, data, names, most=objects)
    for name, test in tests.items():
        result[name] = {**test(), **stamp(), "version": version("scenelab"), "methods_asked": list(names)}
        write_json(run.results / "attribution.json", result)
    for name, draw in FIGURES.items():
        if name in result:
            draw(result[name], folder / f"{name}.png")
    return _finish(run, result, sections, "attention")


def _kept(path: Path, result: dict[str, Any]) -> dict[str, Any]:
    """What an earlier call of this version tested on the same weights and images, so that a call that tests less does
    not lose it; each test has its own date.
    """
    earlier = read_json(path) if path.exists() else {}
    if any(earlier.get(name) != result[name] for name in ("weights", "split", "digest", "size")):
        return {}
    return {name: earlier[name] for name in TESTS if earlier.get(name, {}).get("version") == version("scenelab")}


def _spread(stored: Stored, packed: Packed, count: int) -> Float[Tensor, "n 3 h w"]:
    """So many images, evenly spread over the split."""
    return show_images(packed, spread_rows(len(packed), count), stored.size)


def _empty(folder: Path) -> Path:
    """The folder without the sheets that an earlier call left there."""
    for path in folder.glob("*-[0-9]*.png"):
        path.unlink()
    return folder


def explain_files(
    run: Run, stored: Stored, paths: list[Path], *, names: tuple[str, ...], rendering: Rendering
) -> dict[str, Any]:
    """One gallery of image files of any size, of which the centre is cut out; as `explain_split`.

    What it writes is called `attention-files` and leaves the tests of a split alone.
    """
    _empty(run.results / "attention-files")
    images = read_pictures(paths, stored.size).contiguous(memory_format=torch.channels_last)
    choice = Choice(name="images", title="images", rows=tuple(range(len(paths))))
    section = make_gallery(stored, choice, images, None, names, rendering, files=[path.name for path in paths])
    result = _begin(run, stored, names, [section], rendering, split=None, images=len(paths))
    return _finish(run, result, [section], "attention-files")


def _begin(
    run: Run, stored: Stored, names: tuple[str, ...], sections: list[Section], rendering: Rendering, **values: Any
) -> dict[str, Any]:
    return {
        **stamp(run.best),
        "model": stored.arch,
        "size": stored.size,
        **values,
        "percentile": PERCENTILE,
        "scale": rendering.scope,
        "methods": {name: METHODS[name].what for name in names},
        "galleries": {section.name: section.found for section in sections},
    }


def _finish(run: Run, result: dict[str, Any], sections: list[Section], name: str) -> dict[str, Any]:
    folder = run.results / name
    for section in sections:
        for number, start in enumerate(range(0, len(section.rows), SHEET), start=1):
            path = folder / f"{section.name}-{number}.png"
            rendering = section.rendering
            rows = section.rows[start : start + SHEET]
            draw_sheet(rows, section.title, rendering.caption, path, look=rendering.look)
    write_page(folder / "attention.html", result, sections, folder)
    _log(run, sections)
    write_json(run.results / f"{name.replace('attention', 'attribution')}.json", result)
    return result


def _completeness(stored: Stored, images: Float[Tensor, "n 3 h w"]) -> dict[str, Any]:
    """The mean gap of integrated gradients beside what should be explained, so that their steps can be judged."""
    targets = first_guesses(stored.model, images)
    found = integrated_gradients(stored.model, images, targets)
    total = found.values.sum(dim=(1, 2, 3)) - found.gap
    return {"images": len(images), "gap": found.gap.abs().mean().item(), "explained": total.abs().mean().item()}


def _log(run: Run, sections: list[Section]) -> None:
    """The galleries in TensorBoard, an image a step, each beside its overlays; in place of an earlier call's."""
    folder = run.events / "attention"
    for path in folder.glob("events.out.tfevents.*"):
        path.unlink()
    with SummaryWriter(str(folder)) as writer:
        for section in sections:
            for step, row in enumerate(section.rows):
                look = section.rendering.look
                tiles = [row.picture, *(_tensor(paint(row.picture, values, look)) for values in row.maps.values())]
                writer.add_image(f"attention/{section.name}", torch.cat(tiles, dim=2), step)


def _tensor(picture: Any) -> Tensor:
    return torch.from_numpy(picture).permute(2, 0, 1).float()
