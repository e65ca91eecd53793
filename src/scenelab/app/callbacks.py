"""Gradio callbacks of the page: each calls a handler per selected network and returns new values of components."""

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from scenelab.app.handlers import NO_RESULT, Handlers
from scenelab.app.session import AttributionMap, draw_map

MAX_ATTACKS = 2  # running at the same time; others wait, and can be stopped while they wait
WAIT_SECONDS = 0.3  # between two updates of a waiting attack
Values = list[Any]


class Stop(threading.Event):
    """Event that, when set, ends an attack; the page then shows `message`."""

    message = ""


class Callbacks:
    """Callbacks of one page; they store per visitor the running attack and a count of image changes."""

    def __init__(self, handlers: Handlers, outputs: int) -> None:
        self.handlers = handlers
        self.outputs = outputs  # number of components that show attacks, for all networks
        self.stops: dict[str, Stop] = {}
        self.serials: dict[str, int] = {}
        self.turns = threading.Semaphore(MAX_ATTACKS)

    def predict(self, request: gr.Request, path: str | None, *names: str) -> Values:
        """Stop the visitor's attack; return a message, predictions, and values that clear old maps and attacks."""
        self.stop(request)
        self.serials[_visitor(request)] = self.serials.get(_visitor(request), 0) + 1
        labels, messages = zip(*(self.handlers.predict(path, name) for name in names), strict=True)
        message = next(filter(None, messages), "")
        no_maps = [None] * len(names) * 2 + [""] * len(names)
        return [message, *labels, *no_maps, *[None] * self.outputs]

    def explain(
        self, request: gr.Request, path: str | None, method: str, category: str, opacity: float, *names: str
    ) -> Values:
        """Return maps, overlays and captions of all networks, or no updates if the visitor has changed the image."""
        serial = self.serials.get(_visitor(request))
        results = [self.handlers.explain(path, name, method, category, opacity) for name in names]
        if self.serials.get(_visitor(request)) != serial:
            return [gr.skip()] * (3 * len(names))
        return [value for values in zip(*results, strict=True) for value in values]

    def paint(self, opacity: float, *maps: AttributionMap | None) -> Any:
        """Return overlays of attribution maps with an opacity in [0, 1]: one image for one map, else a list."""
        images = [None if each is None else draw_map(each, opacity) for each in maps]
        return images[0] if len(images) == 1 else images

    def attack(
        self, request: gr.Request, path: str | None, attack: str, levels: float, steps: float, target: str, *names: str
    ) -> Iterator[Values]:
        """Attack the networks one after another; yield values of all attack outputs, first progress and then results.

        A new attack or a new image of the same visitor stops the attack. Arguments are as in `Handlers.attack`.
        """
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
            if stop.is_set():  # the page keeps showing the last values
                yield [*NO_RESULT, stop.message] * len(names)
        finally:
            if has_turn:
                self.turns.release()
            if self.stops.get(_visitor(request)) is stop:
                del self.stops[_visitor(request)]

    def halt(self, request: gr.Request) -> None:
        """Stop the visitor's attack after a click on the stop button."""
        self.stop(request, message="Stopped.")

    def stop(self, request: gr.Request, *, message: str = "") -> None:
        """Stop the visitor's attack, if one is running; the page then shows the message."""
        stop = self.stops.pop(_visitor(request), None)
        if stop is not None:
            stop.message = message
            stop.set()

    def stop_all(self) -> None:
        """Stop the attacks of all visitors, because their threads would disturb the exit of the process."""
        for stop in [*self.stops.values()]:
            stop.set()

    def forget(self, request: gr.Request) -> None:
        """Stop the attack of a visitor who has closed the page, and delete the visitor's state."""
        self.stop(request)
        self.serials.pop(_visitor(request), None)


def _visitor(request: gr.Request) -> str:
    return request.session_hash or ""
