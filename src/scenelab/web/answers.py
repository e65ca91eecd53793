"""What the page answers: for a picture and a network the top five, a map, an attack; each with its message."""

import random
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from scenelab.data.decode import read_image
from scenelab.errors import LabError
from scenelab.evaluation.adversarial import MethodName
from scenelab.evaluation.attention import METHODS
from scenelab.web.lens import Fooled, Lens, View, draw_difference, draw_view, to_pixels
from scenelab.web.mistakes import Album

FIRST, ELSE, LEAST = "its first guess", "anything else", "the least likely"
OF_A_LIST = "; replace it or take it out of the list"  # advice of the decoder that does not fit here
ATTACKS: dict[str, MethodName] = {
    "PGD": "pgd",
    "one step (FGSM)": "fgsm",
    "Auto-PGD": "apgd",
    "Square (no gradient)": "square",
}
TITLES = {
    "gradient": "gradient", "smooth": "SmoothGrad", "integrated": "integrated gradients", "cam": "Grad-CAM",
    "occlusion": "occlusion",
}  # fmt: skip


class Answers:
    """What the page knows: its networks, val images if there are any, and who has asked to stop."""

    def __init__(self, lenses: list[Lens], album: Album | None) -> None:
        self.lenses = {lens.name: lens for lens in lenses}
        self.album = album

    def guess(self, path: str | None, name: str) -> tuple[dict[str, float] | None, str]:
        """The top five, or nothing and a message."""
        if path is None:
            return None, ""
        try:
            return self.lenses[name].guess(read_image(Path(path))), ""
        except LabError as error:
            return None, _warn(error, path)

    def look(
        self, path: str | None, name: str, method: str, category: str, opacity: float
    ) -> tuple[View | None, np.ndarray | None, str]:
        """The map, how it is painted, and a line about it."""
        if path is None:
            return None, None, ""
        try:
            view = self.lenses[name].look(read_image(Path(path)), method, None if category == FIRST else category)
        except LabError as error:
            return None, None, _warn(error, path)
        said = f"for **{view.category}**: {METHODS[method].what}" + ("; the map is empty" if view.empty else "")
        return view, draw_view(view, opacity), said

    def fool(
        self, path: str | None, name: str, method: str, levels: float, steps: float, target: str, stop: threading.Event
    ) -> Iterator[tuple[Any, ...]]:
        """Original, adversarial image, difference, the new top five and a line; while it runs only the line."""
        nothing = (None, None, None, None)
        if path is None:
            yield *nothing, "There is no picture to attack yet."
            return
        towards = {ELSE: None, LEAST: "least-likely"}.get(target, target)
        attack = ATTACKS[method]
        try:
            for answer in self.lenses[name].fool(
                read_image(Path(path)),
                attack,
                levels / 255,
                int(steps),
                towards,
                stop,
            ):
                if isinstance(answer, Fooled):
                    difference, factor = draw_difference(answer)
                    yield (
                        to_pixels(answer.image), to_pixels(answer.adversarial), difference, answer.after,
                        _tell(answer, factor, target),
                    )  # fmt: skip
                    return
                yield *nothing, f"Attacking: {answer} passes through the network …"
            yield *nothing, "Stopped."
        except LabError as error:
            yield *nothing, _warn(error, path)

    def take(self, category: str) -> tuple[np.ndarray | None, str]:
        """Some val image of a category, and what it is."""
        try:
            assert self.album is not None
            row = random.choice(self.album.of(category))
        except LabError as error:
            return None, f"⚠ {error}"
        return self.show(row)

    def show(self, row: int) -> tuple[np.ndarray, str]:
        assert self.album is not None
        split, category = self.album.packed.split, self.album.category(row)
        return self.album.pixels(row), f"A {split} image of **{category}**."


def _tell(found: Fooled, factor: float, target: str) -> str:
    before, after = (max(values.items(), key=lambda pair: pair[1]) for values in (found.before, found.after))
    result = "Fooled" if found.success else f"Not fooled: not yet {target}" if target != ELSE else "Not fooled"
    return (
        f"**{result}.** {before[0]} {100 * before[1]:.0f} % → {after[0]} {100 * after[1]:.0f} %. Largest change "
        f"{255 * found.largest:.0f} levels of 255; the difference is shown {factor:.0f} times as strong. Saved as a "
        "PNG file the image is exactly this."
    )


def _warn(error: LabError, path: str) -> str:
    """The message without the server's own name of the file."""
    return "⚠ " + str(error).replace(str(path), Path(path).name).removesuffix(OF_A_LIST)
