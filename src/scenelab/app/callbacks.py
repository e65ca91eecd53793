"""What the page's events call: the handlers for all networks shown, and the attacks of each visitor."""

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from scenelab.app.handlers import NO_RESULT, Handlers
from scenelab.app.session import AttributionMap, draw_map

MAX_ATTACKS = 2  # at once; others wait for their turn, and can be stopped while they do
WAIT_SECONDS = 0.3  # between two looks at whether it has come
Values = list[Any]


class Stop(threading.Event):
    """The end of an attack, and the last message of it."""

    message = ""


class Callbacks:
    """The running attack of each visitor, and how many images they have chosen."""

    def __init__(self, handlers: Handlers, outputs: int) -> None:
        self.handlers = handlers
        self.outputs = outputs  # of an attack, for all networks
        self.stops: dict[str, Stop] = {}
        self.serials: dict[str, int] = {}
        self.turns = threading.Semaphore(MAX_ATTACKS)

    def predict(self, request: gr.Request, path: str | None, *names: str) -> Values:
        """Show the predictions at once, clear what belongs to another image, and end its attack."""
        self.stop(request)
        self.serials[_visitor(request)] = self.serials.get(_visitor(request), 0) + 1
        labels, messages = zip(*(self.handlers.predict(path, name) for name in names), strict=True)
        message = next(filter(None, messages), "")
        no_maps = [None] * len(names) * 2 + [""] * len(names)
        return [message, *labels, *no_maps, *[None] * self.outputs]

    def explain(
        self, request: gr.Request, path: str | None, method: str, category: str, opacity: float, *names: str
    ) -> Values:
        """Show the attribution maps, unless another image has been chosen meanwhile."""
        serial = self.serials.get(_visitor(request))
        results = [self.handlers.explain(path, name, method, category, opacity) for name in names]
        if self.serials.get(_visitor(request)) != serial:
            return [gr.skip()] * (3 * len(names))
        return [value for values in zip(*results, strict=True) for value in values]

    def paint(self, opacity: float, *maps: AttributionMap | None) -> Any:
        """Paint the maps again with another opacity."""
        images = [None if each is None else draw_map(each, opacity) for each in maps]
        return images[0] if len(images) == 1 else images

    def attack(
        self, request: gr.Request, path: str | None, attack: str, levels: float, steps: float, target: str, *names: str
    ) -> Iterator[Values]:
        """Attack one network after the other; another attack or image of the same visitor ends it."""
        self.stop(request)
        stop = self.stops[_visitor(request)] = Stop()
        results: list[tuple[Any, ...]] = [(*NO_RESULT, "")] * len(names)
        has_turn = False
        try:
            while not stop.is_set() and not (has_turn := self.turns.acquire(timeout=WAIT_SECONDS)):
                yield [*NO_RESULT, "Waiting for other attacks …"] * len(names)
            for side, name in enumerate(names):
                for result in self.handlers.attack(path, name, attack, levels, steps, target, stop):
                    if stop.is_set():
                        break
                    results[side] = (*result[:-1], f"{name}: {result[-1]}")
                    yield [value for each in results for value in each]
            if stop.is_set():  # what is sent last is what remains
                yield [*NO_RESULT, stop.message] * len(names)
        finally:
            if has_turn:
                self.turns.release()
            if self.stops.get(_visitor(request)) is stop:
                del self.stops[_visitor(request)]

    def halt(self, request: gr.Request) -> None:
        """Stop the visitor's attack by the button."""
        self.stop(request, message="Stopped.")

    def stop(self, request: gr.Request, *, message: str = "") -> None:
        """Stop the visitor's attack, which then shows the message."""
        stop = self.stops.pop(_visitor(request), None)
        if stop is not None:
            stop.message = message
            stop.set()

    def stop_all(self) -> None:
        """Stop all attacks: a thread that still computes would disturb the end of the process."""
        for stop in [*self.stops.values()]:
            stop.set()

    def forget(self, request: gr.Request) -> None:
        """Forget a visitor who has closed the page."""
        self.stop(request)
        self.serials.pop(_visitor(request), None)


def _visitor(request: gr.Request) -> str:
    return request.session_hash or ""
