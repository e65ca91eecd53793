"""A run's network in the explorer: predictions, attribution maps and attacks for single images.

Requests may be concurrent. Predictions and attributions hold a lock, because attributions register hooks on the
network. Attacks need no lock, because they use a separate copy.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from scenelab.attacks import AttackResult
from scenelab.attribution.grad_cam import has_feature_maps
from scenelab.attribution.registry import DEFAULT_METHODS, METHODS
from scenelab.data.decode import fit
from scenelab.errors import LabError
from scenelab.evaluation.adversarial import AttackSettings, attack_images
from scenelab.evaluation.attribution_gallery import scale_maps
from scenelab.evaluation.attribution_plots import paint
from scenelab.evaluation.predict import rank
from scenelab.models.inference import prepare_for_inference
from scenelab.models.normalize import Classifier
from scenelab.runs.loading import open_network
from scenelab.runs.network import Stored

PERCENTILE = 99.0  # of a map's values, drawn in the brightest color
PROGRESS_SECONDS = 0.1  # between two progress reports of an attack


@dataclass(frozen=True)
class AttributionMap:
    """An attribution map in [0, 1], the network's input image in [0, 1], and the explained category."""

    image: Float[Tensor, "3 s s"]
    values: Float[Tensor, "s s"]
    category: str


@dataclass(frozen=True)
class Attacked:
    """An image and its adversarial example, with the probabilities of the five most likely categories of each.

    `fooled_before` is true if the image is classified as the target without an attack.
    """

    image: Float[Tensor, "3 s s"]
    adversarial: Float[Tensor, "3 s s"]
    before: dict[str, float]
    after: dict[str, float]
    success: bool
    fooled_before: bool


@dataclass(frozen=True)
class Session:
    """A run's network in the explorer; `fused` is a copy for attacks, with batch normalization folded in."""

    name: str
    stored: Stored
    fused: Classifier
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the attribution methods that the network supports."""
        has_maps = has_feature_maps(self.stored.model)
        return tuple(name for name in DEFAULT_METHODS if has_maps or name != "cam")

    def resize(self, image: UInt8[Tensor, "3 h w"]) -> Float[Tensor, "1 3 s s"]:
        """Return the image in [0, 1], resized and center-cropped to the network's input size, as a batch of one."""
        return fit(image, self.stored.size).float().div(255)[None]

    def predict(self, image: UInt8[Tensor, "3 h w"]) -> dict[str, float]:
        """Return the top five categories with probabilities, from mean logits of the image and its mirror image."""
        with self.lock:
            return self.rank(self._mirror_averaged(self.resize(image)))

    def _mirror_averaged(self, image: Float[Tensor, "1 3 s s"]) -> Float[Tensor, "1 k"]:
        with torch.no_grad():
            return (self.stored.model(image) + self.stored.model(image.flip(-1))) / 2

    def rank(self, logits: Float[Tensor, "1 k"]) -> dict[str, float]:
        """Return the five most likely categories with probabilities, most likely first."""
        return dict(rank(logits, self.stored.categories, count=5))

    def explain(self, image: UInt8[Tensor, "3 h w"], method: str, category: str | None) -> AttributionMap:
        """Return the attribution map of one image for a category, by default the predicted category.

        Raises:
            LabError: the network does not support the method or does not know the category.
        """
        if method not in self.methods:
            raise LabError(f"{self.name} has no maps by {method!r}; choose {', '.join(self.methods)}")
        categories, resized = self.stored.categories, self.resize(image)
        if category is not None and category not in categories:
            raise LabError(f"{self.name} does not know {category!r}; choose one of its {len(categories)}")
        with self.lock:
            logits = self._mirror_averaged(resized)
            target = categories.index(category) if category else int(logits.argmax())
            maps = METHODS[method](self.stored.model, resized, torch.tensor([target]))
        values, _ = scale_maps(maps, percentile=PERCENTILE)
        return AttributionMap(resized[0], values[0, 0], categories[target])

    def attack(
        self, image: UInt8[Tensor, "3 h w"], settings: AttackSettings, stop: threading.Event
    ) -> Iterator[int | Attacked]:
        """Attack one image; yield the number of forward passes so far at intervals, and finally an `Attacked` result.

        The attack ends without a result if `stop` is set or the iterator is closed.

        Raises:
            LabError: the target is invalid.
        """
        resized = self.resize(image)

        def run(model: Callable[[Tensor], Tensor]) -> AttackResult:
            return attack_images(model, resized, None, self.stored.categories, settings)

        for answer in _run_in_thread(run, self.fused, stop):
            if isinstance(answer, int):
                yield answer
                continue
            with torch.no_grad():
                before, after = (self.rank(self.fused(images)) for images in (resized, answer.images))
            success, fooled_before = bool(answer.success[0]), bool(answer.fooled_before[0])
            yield Attacked(resized[0], answer.images[0], before, after, success, fooled_before)


class _StoppedError(Exception):
    """Raised in the attack's thread to end an attack that was stopped."""


def _run_in_thread(
    attack: Callable[[Callable[[Tensor], Tensor]], AttackResult], model: Classifier, stop: threading.Event
) -> Iterator[int | AttackResult]:
    """Run an attack in a thread; yield its number of forward passes at intervals, and finally its result.

    If `stop` is set or the iterator is closed, the iterator ends at once, and the thread at its next forward pass.
    """
    result: Future[AttackResult] = Future()
    closed = threading.Event()
    passes = 0

    def counted(images: Tensor) -> Tensor:
        nonlocal passes
        if stop.is_set() or closed.is_set():
            raise _StoppedError
        passes += 1
        return model(images)

    def run() -> None:
        try:
            result.set_result(attack(counted))
        except BaseException as error:  # `result()` raises it again in the waiting thread
            result.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    reported = 0
    try:
        while not stop.is_set():
            try:
                answer = result.result(timeout=PROGRESS_SECONDS)
            except TimeoutError:
                if passes > reported:
                    reported = passes
                    yield reported
            except _StoppedError:
                return
            else:
                yield answer
                return
    finally:
        closed.set()


def open_session(folder: Path) -> Session:
    """Return a session with the best checkpoint of a run folder; raise LabError if the run has no checkpoint."""
    run, stored = open_network(folder)
    return Session(run.folder.resolve().name, stored, prepare_for_inference(stored.model))


def draw_map(result: AttributionMap, opacity: float) -> np.ndarray:
    """Return the map drawn over the gray image, or the color image if `opacity` is 0, as uint8 pixels (s, s, 3)."""
    if opacity == 0:
        return to_pixels(result.image)
    return _to_uint8(paint(result.image, result.values, "overlay", opacity=opacity))


def draw_difference(result: Attacked) -> tuple[np.ndarray, float]:
    """Return the perturbation, scaled to full contrast around gray, as uint8 pixels, and its L∞ norm."""
    change = result.adversarial - result.image
    largest = change.abs().max().item()
    return to_pixels(0.5 + change * (0.5 / largest if largest else 1)), largest


def to_pixels(image: Float[Tensor, "3 s s"]) -> np.ndarray:
    """Return an image in [0, 1] as uint8 pixels (s, s, 3); multiples of 1/255 are exact."""
    return _to_uint8(image.permute(1, 2, 0).numpy())


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    return (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
