"""Occlusion: how far the score falls when a patch is covered (Zeiler & Fergus 2014, section 4.2)."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.classifier import (
    BATCH,
    Advance,
    Model,
    ask,
    check_classes,
    check_count,
    choose_targets,
    evaluating,
    silent,
)
from scenelab.errors import LabError


def occlusion(
    model: Model,
    images: Float[Tensor, "n c h w"],
    targets: Int64[Tensor, " n"] | None = None,
    *,
    window: int = 16,
    stride: int = 8,
    fill: float = 0.5,
    batch_size: int = BATCH,
    advance: Advance = silent,
) -> Float[Tensor, "n 1 h w"]:
    """Each pixel's mean, over the windows that cover it, of score(image) - score(image with the window covered).

    Windows begin at 0, `stride`, 2·`stride`, … as long as there is a pixel that no window before has covered; the last
    ones are cut at the border.

    Args:
        window, stride: sides in pixels; a stride above the window would leave pixels uncovered.
        fill: what covered pixels show, in the images' units; grey by default for images in [0, 1].
        advance: called with 1 after each image.

    Raises:
        LabError: arguments that do not fit.
    """
    for name, value in (("window", window), ("stride", stride), ("batch_size", batch_size)):
        check_count(name, value)
    if stride > window:
        raise LabError(f"stride is {stride}; at most the window's {window} pixels leave none uncovered")
    with evaluating(model), torch.no_grad():
        targets = choose_targets(model, images, targets, batch_size=batch_size)
        height, width = images.shape[2:]
        corners = [(top, left) for top in starts(height, window, stride) for left in starts(width, window, stride)]
        falls, covered = images.new_zeros(len(images), 1, height, width), images.new_zeros(height, width)
        for top, left in corners:
            covered[top : top + window, left : left + window] += 1
        for row in range(len(images)):
            base = _score(model, images[row : row + 1], targets[row : row + 1])
            for first in range(0, len(corners), batch_size):
                chosen = corners[first : first + batch_size]
                copies = images[row].detach().repeat(len(chosen), 1, 1, 1)
                for copy, (top, left) in zip(copies, chosen, strict=True):
                    copy[:, top : top + window, left : left + window] = fill
                drops = base - _score(model, copies, targets[row].expand(len(chosen)))
                for drop, (top, left) in zip(drops, chosen, strict=True):
                    falls[row, 0, top : top + window, left : left + window] += drop
            advance(1)
    return falls / covered


def _score(model: Model, images: Tensor, targets: Tensor) -> Tensor:
    scores = ask(model, images)
    check_classes(scores, targets)
    return scores.gather(1, targets[:, None])[:, 0]


def starts(side: int, window: int, stride: int) -> list[int]:
    """Where windows begin along a side: until one reaches its end."""
    count = 1 + max(0, -(-(side - window) // stride))
    return [number * stride for number in range(count)]
