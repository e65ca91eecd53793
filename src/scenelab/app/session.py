"""A run's network as the explorer asks it about one picture: what it says, where it looks, what fools it.

Several people may ask at once. Attributions hang hooks on the network, so they take turns; attacks have a copy of their
own and wait for nobody.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, Queue

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from scenelab.attacks import AttackResult
from scenelab.attribution.grad_cam import has_feature_maps
from scenelab.attribution.registry import DEFAULT_METHODS, METHODS
from scenelab.data.decode import fit
from scenelab.errors import LabError
from scenelab.evaluation.adversarial import AttackSettings, MethodName, attack_images
from scenelab.evaluation.attribution_gallery import scale_maps
from scenelab.evaluation.attribution_plots import paint
from scenelab.evaluation.predict import rank
from scenelab.models.inference import prepare_for_inference
from scenelab.models.normalize import Classifier
from scenelab.runs.loading import open_network
from scenelab.runs.network import Stored

GUESSES = 5
PERCENTILE = 99.0  # of a map that has the brightest colour
PATIENCE = 0.1  # seconds between two looks at how far an attack has come


@dataclass(frozen=True)
class View:
    """A map of attention in [0, 1] on the picture that the network saw, and the class that it speaks for."""

    picture: Float[Tensor, "3 s s"]
    values: Float[Tensor, "s s"]
    category: str
    empty: bool


@dataclass(frozen=True)
class Fooled:
    """A picture, what an attack made of it, and what the network says of both."""

    image: Float[Tensor, "3 s s"]
    adversarial: Float[Tensor, "3 s s"]
    before: dict[str, float]
    after: dict[str, float]
    success: bool
    largest: float


@dataclass(frozen=True)
class Lens:
    """One network with its name; `fused` is its copy for attacks, with the normalisation folded away."""

    name: str
    stored: Stored
    fused: Classifier
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def methods(self) -> tuple[str, ...]:
        """Attributions that this network has."""
        return (
            DEFAULT_METHODS
            if has_feature_maps(self.stored.model)
            else tuple(name for name in DEFAULT_METHODS if name != "cam")
        )

    def see(self, picture: UInt8[Tensor, "3 h w"]) -> Float[Tensor, "1 3 s s"]:
        """The picture as this network is shown it: its middle, at the network's size."""
        return fit(picture, self.stored.size).float().div(255)[None]

    def guess(self, picture: UInt8[Tensor, "3 h w"]) -> dict[str, float]:
        """The five most likely categories with their probabilities, mirror-averaged."""
        with self.lock:
            return self.most_likely(self._look_twice(self.see(picture)))

    def _look_twice(self, image: Float[Tensor, "1 3 s s"]) -> Float[Tensor, "1 k"]:
        with torch.no_grad():
            return (self.stored.model(image) + self.stored.model(image.flip(-1))) / 2

    def most_likely(self, logits: Float[Tensor, "1 k"]) -> dict[str, float]:
        """The five first, by the order of one image's logits."""
        return dict(rank(logits, self.stored.categories, count=GUESSES))

    def look(self, picture: UInt8[Tensor, "3 h w"], method: str, category: str | None) -> View:
        """Where it looks for a category, by default for its first guess.

        Raises:
            LabError: no such method or category.
        """
        if method not in self.methods:
            raise LabError(f"{self.name} has no maps by {method!r}; choose {', '.join(self.methods)}")
        image = self.see(picture)
        with self.lock:
            target = self.label(category) if category else int(self._look_twice(image).argmax())
            maps = METHODS[method](self.stored.model, image, torch.tensor([target]))
        values, _ = scale_maps(maps, percentile=PERCENTILE)
        return View(image[0], values[0, 0], self.stored.categories[target], empty=not bool(values.any()))

    def label(self, category: str) -> int:
        """A category's number.

        Raises:
            LabError: the network does not know it.
        """
        if category not in self.stored.categories:
            raise LabError(f"{self.name} does not know {category!r}; choose one of its {len(self.stored.categories)}")
        return self.stored.categories.index(category)

    def fool(
        self, picture: UInt8[Tensor, "3 h w"], method: MethodName, epsilon: float, steps: int, target: str | None,
        stop: threading.Event,
    ) -> Iterator[int | Fooled]:  # fmt: skip
        """Attack away from the first guess, or towards a target: numbers of passes while it runs, then what came out.

        Ends without a result when `stop` is set, or when the iterator is closed.

        Raises:
            LabError: the target is none of its categories, or does not go with the method.
        """
        image = self.see(picture)
        categories = self.stored.categories

        def work(model: Callable[[Tensor], Tensor]) -> AttackResult:
            return attack_images(
                model,
                image,
                None,
                categories,
                AttackSettings(method=method, epsilon=epsilon, steps=steps, target=target),
            )

        for answer in _watched(work, self.fused, stop):
            if isinstance(answer, int):
                yield answer
                continue
            with torch.no_grad():
                before, after = self.fused(image), self.fused(answer.images)
            yield Fooled(
                image[0], answer.images[0], self.most_likely(before), self.most_likely(after),
                success=bool(answer.success[0]), largest=answer.norms[0].item(),
            )  # fmt: skip


class _StopError(Exception):
    """Nobody waits for the attack any more."""


def _watched(
    work: Callable[[Callable[[Tensor], Tensor]], AttackResult], model: Classifier, stop: threading.Event
) -> Iterator[int | AttackResult]:
    """Do the work in a thread of its own: now and then how many passes through the model it had, then its result.

    A pass is where it can be stopped; nobody waits for the thread once the result is not wanted any more.
    """
    outcome: Queue[AttackResult | BaseException] = Queue()
    unheard = threading.Event()
    passes = 0

    def asked(images: Tensor) -> Tensor:
        nonlocal passes
        if stop.is_set() or unheard.is_set():
            raise _StopError
        passes += 1
        return model(images)

    def run() -> None:
        try:
            outcome.put(work(asked))
        except BaseException as error:  # goes on in the thread that waits
            outcome.put(error)

    threading.Thread(target=run, daemon=True).start()
    told = 0
    try:
        while not stop.is_set():
            try:
                found = outcome.get(timeout=PATIENCE)
            except Empty:
                if passes > told:
                    told = passes
                    yield told
                continue
            if isinstance(found, AttackResult):
                yield found
            elif not isinstance(found, _StopError):
                raise found
            return
    finally:
        unheard.set()


def open_lens(folder: Path) -> Lens:
    """A run's best weights.

    Raises:
        LabError: the folder holds no run, or its weights cannot be read.
    """
    run, stored = open_network(folder)
    return Lens(run.folder.resolve().name, stored, prepare_for_inference(stored.model))


def draw_view(view: View, opacity: float) -> np.ndarray:
    """Colours over the grey picture, as uint8 pixels; opacity 0 is the picture itself, in its colours."""
    if opacity == 0:
        return to_pixels(view.picture)
    return _to_bytes(paint(view.picture, view.values, "overlay", opacity=opacity))


def to_pixels(image: Float[Tensor, "3 s s"]) -> np.ndarray:
    """An image in [0, 1] as uint8 pixels: where it lies on whole levels, exactly."""
    return _to_bytes(image.permute(1, 2, 0).numpy())


def draw_difference(found: Fooled) -> tuple[np.ndarray, float]:
    """The change on grey, as large as it fits, and how many times it is enlarged."""
    change = found.adversarial - found.image
    largest = change.abs().max().item()
    factor = 0.5 / largest if largest else 1.0
    return to_pixels(0.5 + factor * change), factor


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    return (np.clip(pixels, 0, 1) * 255).round().astype(np.uint8)
