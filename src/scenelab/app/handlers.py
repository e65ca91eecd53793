"""What the page answers: for a picture and a network the top five, a map, an attack; each with its message."""

import random
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from torch import Tensor

from scenelab.app.errors_gallery import Album
from scenelab.app.session import Fooled, Lens, View, draw_difference, draw_view, to_pixels
from scenelab.attribution import METHODS
from scenelab.data.decode import fit, read_image
from scenelab.errors import LabError
from scenelab.evaluation.adversarial import QUERIES_PER_STEP, MethodName

FIRST, ELSE, LEAST = "its first guess", "anything else", "the least likely"
OF_A_LIST = "; replace it or remove it from the list"  # advice of the decoder that does not fit here
ATTACKS: dict[str, MethodName] = {
    "PGD": "pgd", "one step (FGSM)": "fgsm", "Auto-PGD": "apgd", "Square (no gradient)": "square",
}  # fmt: skip
TARGETED = ("pgd", "fgsm")
TITLES = {
    "gradient": "gradient", "smooth": "SmoothGrad", "integrated": "integrated gradients", "cam": "Grad-CAM",
    "occlusion": "occlusion",
}  # fmt: skip
KEPT = 64  # pictures that are not decoded again, at the sizes of the networks


class Answers:
    """What the page knows: its networks, val images if there are any, and the last pictures that it was shown."""

    def __init__(self, lenses: list[Lens], album: Album | None) -> None:
        self.lenses = {lens.name: lens for lens in lenses}
        self.album = album
        self._seen: OrderedDict[str, dict[int, Tensor]] = OrderedDict()
        self._decoding = threading.Lock()

    def guess(self, path: str | None, name: str) -> tuple[dict[str, float] | None, str]:
        """The top five, or nothing and a message."""
        if path is None:
            return None, ""
        try:
            return self.lenses[name].guess(self._picture(path, name)), ""
        except LabError as error:
            return None, _warn(error, path)

    def look(
        self, path: str | None, name: str, method: str, category: str, opacity: float
    ) -> tuple[View | None, np.ndarray | None, str]:
        """The map, how it is painted, and a line about it."""
        if path is None:
            return None, None, ""
        try:
            view = self.lenses[name].look(self._picture(path, name), method, None if category == FIRST else category)
        except LabError as error:
            return None, None, _warn(error, path)
        said = f"for **{view.category}**: {METHODS[method].description}" + ("; the map is empty" if view.empty else "")
        return view, draw_view(view, opacity), said

    def fool(
        self, path: str | None, name: str, method: str, levels: float, steps: float, target: str, stop: threading.Event
    ) -> Iterator[tuple[Any, ...]]:
        """Original, adversarial image, difference, the new top five and a line; while it runs only the line.

        Ends without a word when `stop` is set.
        """
        nothing = (None, None, None, None)
        if path is None:
            yield *nothing, "There is no picture to attack yet."
            return
        attack = ATTACKS[method]
        wanted = target if attack in TARGETED else ELSE
        towards = {ELSE: None, LEAST: "least-likely"}.get(wanted, wanted)
        try:
            picture = self._picture(path, name)
            for answer in self.lenses[name].fool(picture, attack, levels / 255, int(steps), towards, stop):
                if isinstance(answer, Fooled):
                    difference, factor = draw_difference(answer)
                    how = f"{method}, ε = {levels:g}/255{_length(attack, int(steps))}, towards {wanted}"
                    yield (
                        to_pixels(answer.image), to_pixels(answer.adversarial), difference, answer.after,
                        _tell(answer, factor, wanted, how),
                    )  # fmt: skip
                else:
                    yield *nothing, f"Attacking; passes through the network: {answer}"
        except LabError as error:
            yield *nothing, _warn(error, path)

    def take(self, category: str) -> tuple[np.ndarray | None, str]:
        """Some val image of a category, and what it is."""
        if self.album is None:
            return None, ""
        try:
            return self.show(self.album, random.choice(self.album.of(category)))
        except LabError as error:
            return None, f"⚠ {error}"

    def show(self, album: Album, row: int) -> tuple[np.ndarray, str]:
        """A val image, and what it is."""
        return album.pixels(row), f"A {album.dataset.split} image of **{album.category(row)}**."

    def _picture(self, path: str, name: str) -> UInt8[Tensor, "3 s s"]:
        """The picture at a network's size. One is decoded at a time, each once: large ones take much memory."""
        with self._decoding:
            if path not in self._seen:
                image = read_image(Path(path))
                sizes = {lens.stored.size for lens in self.lenses.values()}
                self._seen[path] = {size: fit(image, size).clone() for size in sizes}
                while len(self._seen) > KEPT:
                    self._seen.popitem(last=False)
            self._seen.move_to_end(path)
            return self._seen[path][self.lenses[name].stored.size]


def _length(attack: MethodName, steps: int) -> str:
    return {"fgsm": "", "square": f", {QUERIES_PER_STEP * steps} queries"}.get(attack, f", {steps} steps")


def _tell(found: Fooled, factor: float, target: str, how: str) -> str:
    before, after = (max(values.items(), key=lambda pair: pair[1]) for values in (found.before, found.after))
    if found.success:
        result = "Fooled"
    elif target != ELSE and before[0] != after[0]:
        result = f"Changed, but not to {target}"
    else:
        result = "Not fooled"
    return (
        f"**{result}.** {before[0]} {100 * before[1]:.0f} % → {after[0]} {100 * after[1]:.0f} %, of one look, without "
        f"the mirror image. {how}; largest change {255 * found.largest:.0f} levels; the difference is shown "
        f"{factor:.0f} times as strong. The downloaded PNG is exactly this image."
    )


def _warn(error: LabError, path: str) -> str:
    """The message without the server's own name of the file."""
    return "⚠ " + str(error).replace(str(path), Path(path).name).removesuffix(OF_A_LIST)
