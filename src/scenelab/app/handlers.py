"""Handlers of the page: predict, explain or attack one image with one network; errors become messages."""

import random
import threading
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from scenelab.app.decoder import Decoder
from scenelab.app.errors_gallery import ErrorsGallery
from scenelab.app.session import Attacked, AttributionMap, Session, draw_difference, draw_map, to_pixels
from scenelab.attribution import METHODS
from scenelab.data.decode import fit
from scenelab.errors import LabError
from scenelab.evaluation.adversarial import QUERIES_PER_STEP, AttackSettings, MethodName

PREDICTED, ANY_OTHER, LEAST_LIKELY = "the predicted class", "any other class", "the least likely class"
LIST_ADVICE = "; replace it or remove it from the list"  # in the decoder's errors; uploads are in no list
ATTACKS: dict[str, MethodName] = {"PGD": "pgd", "FGSM (one step)": "fgsm", "Auto-PGD": "apgd"}
ATTACKS["Square (no gradient)"] = "square"
TARGETED = ("pgd", "fgsm")
TITLES = {"gradient": "gradient", "smooth": "SmoothGrad", "integrated": "integrated gradients", "cam": "Grad-CAM"}
TITLES["occlusion"] = "occlusion"
MAX_DECODED = 64  # images in the cache of decoded and resized uploads
NO_RESULT = (None, None, None, None)


class Handlers:
    """Handlers for an uploaded image and a network, selected by session name; the last decoded images are cached."""

    def __init__(self, sessions: list[Session], gallery: ErrorsGallery | None) -> None:
        self.sessions = {session.name: session for session in sessions}
        self.gallery = gallery
        self.decoder = Decoder()
        self._decoding = threading.Lock()  # one image at a time, because large ones need much memory
        self._decode_once = lru_cache(MAX_DECODED)(self._decode)

    def predict(self, path: str | None, name: str) -> tuple[dict[str, float] | None, str]:
        """Return the probabilities of the top five categories and "", or None and an error message."""
        if path is None:
            return None, ""
        try:
            return self.sessions[name].predict(self._image(path, name)), ""
        except LabError as error:
            return None, _warning(error, path)

    def explain(
        self, path: str | None, name: str, method: str, category: str, opacity: float
    ) -> tuple[AttributionMap | None, np.ndarray | None, str]:
        """Return a map of the image file `path`, its overlay as uint8 pixels (side, side, 3), and a caption.

        On errors, return None, None and a message; `name` is the network's name in the page.
        """
        if path is None:
            return None, None, ""
        try:
            chosen = None if category == PREDICTED else category
            result = self.sessions[name].explain(self._image(path, name), method, chosen)
        except LabError as error:
            return None, None, _warning(error, path)
        note = f"for **{result.category}**: {METHODS[method].description}" + (
            "" if result.values.any() else "; the map is empty"
        )
        return result, draw_map(result, opacity), note

    def attack(
        self, path: str | None, name: str, method: str, levels: float, steps: float, target: str, stop: threading.Event
    ) -> Iterator[tuple[Any, ...]]:
        """Yield original, adversarial and difference image, top five categories after the attack, and a message.

        While the attack runs, only the message is not None. Setting `stop` ends the attack without a result.

        Args:
            path: uploaded image.
            name: name of the session.
            method: key of ATTACKS.
            levels: epsilon in units of 1/255.
            steps: number of steps.
            target: target category, ANY_OTHER or LEAST_LIKELY.
        """
        if path is None:
            yield *NO_RESULT, "Choose an image first."
            return
        kind = ATTACKS[method]
        target = target if kind in TARGETED else ANY_OTHER
        goal = {ANY_OTHER: None, LEAST_LIKELY: "least-likely"}.get(target, target)
        settings = AttackSettings(method=kind, epsilon=levels / 255, steps=int(steps), target=goal)
        try:
            for answer in self.sessions[name].attack(self._image(path, name), settings, stop):
                if isinstance(answer, int):
                    yield *NO_RESULT, f"Running; forward passes: {answer}"
                    continue
                difference, largest = draw_difference(answer)
                images = (to_pixels(answer.image), to_pixels(answer.adversarial), difference)
                how = f"{method}, ε = {levels:g}/255{_length(kind, int(steps))}, target: {target}"
                yield *images, answer.after, _describe(answer, largest, target, how)
        except LabError as error:
            yield *NO_RESULT, _warning(error, path)

    def sample(self, category: str) -> tuple[np.ndarray | None, str]:
        """Return a random validation image of a category with a sentence about it, or None and an error message."""
        assert self.gallery is not None  # without a gallery the page hides the button
        try:
            return self.gallery.show(random.choice(self.gallery.rows_of(category)))
        except LabError as error:
            return None, f"⚠ {error}"

    def _image(self, path: str, name: str) -> UInt8[Tensor, "3 s s"]:
        with self._decoding:
            result = self._decode_once(path)
        if isinstance(result, str):
            raise LabError(result)
        return result[self.sessions[name].stored.size]

    def _decode(self, path: str) -> dict[int, Tensor] | str:
        """Return an image center-cropped at each network's input size, keyed by size in pixels, or an error message."""
        try:
            image = torch.from_numpy(self.decoder.read(Path(path))).permute(2, 0, 1)
        except LabError as error:
            return str(error)
        return {size: fit(image, size).clone() for size in {each.stored.size for each in self.sessions.values()}}


def _length(kind: MethodName, steps: int) -> str:
    return {"fgsm": "", "square": f", {QUERIES_PER_STEP * steps} queries"}.get(kind, f", {steps} steps")


def _describe(result: Attacked, largest: float, target: str, how: str) -> str:
    before, after = (next(iter(values.items())) for values in (result.before, result.after))
    outcome = "The attack succeeded" if result.success else "The attack failed"
    if result.fooled_before:
        outcome = f"The image is classified as {before[0]} without an attack; choose another target"
    elif not result.success and target != ANY_OTHER and before[0] != after[0]:
        outcome = f"The class changed, but not to {target}"
    strength = f"; the difference is shown {0.5 / largest:.0f} times as strong" if largest else ""
    return (
        f"**{outcome}.** {before[0]} {100 * before[1]:.0f} % → {after[0]} {100 * after[1]:.0f} %, without averaging "
        f"over the mirror image. {how}; largest change {255 * largest:.0f}/255{strength}. The PNG to download is "
        "exactly this image."
    )


def _warning(error: LabError, path: str) -> str:
    """Return the error message with the name of the uploaded file instead of its path on the server."""
    return "⚠ " + str(error).replace(str(path), Path(path).name).removesuffix(LIST_ADVICE)
