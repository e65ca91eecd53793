"""A run's network as the explorer uses it on one image: predictions, attribution maps, attacks.

Several visitors may ask at once. Attributions register hooks on the network, so they take turns; attacks use a copy of
their own and wait for nobody.
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

PERCENTILE = 99.0  # of a map that has the brightest colour
PROGRESS_SECONDS = 0.1  # between two reports of a running attack


@dataclass(frozen=True)
class AttributionMap:
    """A map in [0, 1] over the image that the network saw, and the category that it explains."""

    image: Float[Tensor, "3 s s"]
    values: Float[Tensor, "s s"]
    category: str


@dataclass(frozen=True)
class Attacked:
    """An image and its adversarial example, with the most likely categories of both."""

    image: Float[Tensor, "3 s s"]
    adversarial: Float[Tensor, "3 s s"]
    before: dict[str, float]
    after: dict[str, float]
    success: bool


@dataclass(frozen=True)
class Session:
    """One network with its name; `fused` is its copy for attacks, with the normalization folded in."""

    name: str
    stored: Stored
    fused: Classifier
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def methods(self) -> tuple[str, ...]:
        """Attribution methods that this network supports."""
        has_maps = has_feature_maps(self.stored.model)
        return tuple(name for name in DEFAULT_METHODS if has_maps or name != "cam")

    def resize(self, image: UInt8[Tensor, "3 h w"]) -> Float[Tensor, "1 3 s s"]:
        """Return the centre of the image at the network's size."""
        return fit(image, self.stored.size).float().div(255)[None]

    def predict(self, image: UInt8[Tensor, "3 h w"]) -> dict[str, float]:
        """Return the five most likely categories with their mirror-averaged probabilities."""
        with self.lock:
            return self.rank(self._mirror_averaged(self.resize(image)))

    def _mirror_averaged(self, image: Float[Tensor, "1 3 s s"]) -> Float[Tensor, "1 k"]:
        with torch.no_grad():
            return (self.stored.model(image) + self.stored.model(image.flip(-1))) / 2

    def rank(self, logits: Float[Tensor, "1 k"]) -> dict[str, float]:
        """Return the five most likely categories of one image's logits."""
        return dict(rank(logits, self.stored.categories, count=5))

    def explain(self, image: UInt8[Tensor, "3 h w"], method: str, category: str | None) -> AttributionMap:
        """Return the attribution map of a category, by default of the predicted one; raise LabError if it has none."""
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
        """Attack one image; yield the number of forward passes while it runs, then the result.

        Ends without a result when `stop` is set or the iterator is closed. Raises LabError for an invalid target.
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
            yield Attacked(resized[0], answer.images[0], before, after, bool(answer.success[0]))


class _StoppedError(Exception):
    """The result of the attack is not wanted any more."""


def _run_in_thread(
    attack: Callable[[Callable[[Tensor], Tensor]], AttackResult], model: Classifier, stop: threading.Event
) -> Iterator[int | AttackResult]:
    """Yield how many passes through the model an attack has made, now and then, and its result.

    It can be stopped at each pass; nobody waits for the thread once the result is not wanted.
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
        except BaseException as error:  # is raised again where the result is awaited
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
    """Load the best weights of a run; raise LabError if there are none."""
    run, stored = open_network(folder)
    return Session(run.folder.resolve().name, stored, prepare_for_inference(stored.model))


def draw_map(result: AttributionMap, opacity: float) -> np.ndarray:
    """Paint colours over the gray image, as uint8 pixels; opacity 0 gives the image itself, in its colours."""
    if opacity == 0:
        return to_pixels(result.image)
    return _to_uint8(paint(result.image, result.values, "overlay", opacity=opacity))


def draw_difference(result: Attacked) -> tuple[np.ndarray, float]:
    """Return the perturbation on gray, as strong as it fits, and its largest value."""
    change = result.adversarial - result.image
    largest = change.abs().max().item()
    return to_pixels(0.5 + change * (0.5 / largest if largest else 1)), largest


def to_pixels(image: Float[Tensor, "3 s s"]) -> np.ndarray:
    """Return an image in [0, 1] as uint8 pixels: exactly, where it lies on whole levels."""
    return _to_uint8(image.permute(1, 2, 0).numpy())


def _to_uint8(pixels: np.ndarray) -> np.ndarray:
    return (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
