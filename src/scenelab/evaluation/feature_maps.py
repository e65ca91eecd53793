"""Feature maps of a network's layers, the receptive fields of their units, and the patches that excite a channel."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from scenelab.data.cache import MemmapDataset
from scenelab.errors import LabError
from scenelab.evaluation.predict import BATCH_SIZE, load_images, spread_rows
from scenelab.models.normalize import Classifier

FIELD_WIDTH = 16  # columns of the images that show the receptive fields of rows


def feature_maps(model: Classifier, images: Float[Tensor, "n 3 h w"], names: list[str]) -> dict[str, Tensor]:
    """Return the outputs of layers (modules of `model.network`) by name, N×K×H'×W', before a later layer changes them.

    Layers whose output has another shape, or a single row, are left out.
    """
    outputs: dict[str, Tensor] = {}

    def keep(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(module: nn.Module, arguments: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4 and output.shape[2] > 1:
                outputs[name] = output.detach().clone(memory_format=torch.contiguous_format)

        return hook

    modules = dict(model.network.named_modules())
    hooks = [modules[name].register_forward_hook(keep(name)) for name in names]
    try:
        with torch.no_grad():
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs


def feature_layers(model: Classifier, size: int) -> dict[str, tuple[int, int]]:
    """Return channels and height of the maps of each layer for images of `size` pixels, from the first layer on.

    Layers are modules of the network and of its `features`; what is inside their blocks is left out.
    """
    names = [name for name, _ in model.network.named_modules() if name and name != "features" and name.count(".") < 2]
    outputs = feature_maps(model, torch.zeros(1, 3, size, size), names)
    return {name: (maps.shape[1], maps.shape[2]) for name, maps in outputs.items()}


def receptive_fields(model: Classifier, layer: str, size: int) -> list[tuple[int, int]]:
    """Return the first and last row of a `size`×`size` image on which each row of a layer's maps depends.

    A pixel that is not a number makes every unit that depends on it not a number, so a batch of images with one row of
    such pixels each shows the fields of all units, within the image. Columns are the same.
    """
    images = torch.zeros(size, 3, size, min(size, FIELD_WIDTH))
    images[torch.arange(size), :, torch.arange(size)] = torch.nan
    depends = feature_maps(model, images, [layer])[layer].isnan().any(dim=3).any(dim=1)
    fields = [rows.nonzero().flatten().tolist() for rows in depends.T]
    return [(rows[0], rows[-1]) if rows else (0, size - 1) for rows in fields]


def strongest_units(
    model: Classifier, dataset: MemmapDataset, layer: str, channel: int, *, size: int, images: int, count: int
) -> list[dict[str, Any]]:
    """Return image, place and value of a channel's largest values in `images` images of a data set, one per image.

    Each item has `row` (of the data set), `y` and `x` (of the map), and `value`; the largest comes first.
    """
    rows = spread_rows(len(dataset), images)
    parts = [rows[start : start + BATCH_SIZE] for start in range(0, len(rows), BATCH_SIZE)]
    outputs = [feature_maps(model, load_images(dataset, part, size), [layer]) for part in parts]
    if not outputs or layer not in outputs[0] or channel >= outputs[0][layer].shape[1]:
        raise LabError(f"layer {layer!r} has no channel {channel}; choose one of its maps")
    maps = torch.cat([output[layer][:, channel] for output in outputs])
    values, places = maps.flatten(1).max(dim=1)
    best = values.topk(min(count, len(rows))).indices.tolist()
    cells = [(each, *divmod(int(places[each]), maps.shape[2])) for each in best]
    return [{"row": rows[each], "y": y, "x": x, "value": values[each].item()} for each, y, x in cells]
