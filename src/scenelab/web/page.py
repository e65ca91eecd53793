"""The explorer's page: its parts, and which event asks for what."""

import threading
from collections.abc import Iterator
from typing import Any

import gradio as gr

from scenelab.web.answers import ATTACKS, ELSE, FIRST, LEAST, TITLES, Answers
from scenelab.web.lens import View, draw_view
from scenelab.web.mistakes import Mistake

SIDES = ("left", "right")
MOST_LEVELS, MOST_STEPS = 16, 100
STALE = (600, 3600)  # seconds between two looks for uploaded pictures, and their age when they go
WELCOME = (
    "Drop, paste or choose a picture, or take one of the validation images. Nothing leaves this machine; all that is "
    "shown is computed here from the run folders."
)
CSS = """
.gradio-container, .gradio-container > main { width: 100% !important; max-width: 1240px !important; margin: auto }
footer { display: none !important }
#picture img { width: 100%; height: 100%; object-fit: contain }
.caption-label { white-space: normal !important; max-width: 96% !important; line-height: 1.2 !important }
"""
Parts = list[Any]


class Page:
    """The components, and the handlers that lie between them and the answers.

    Args:
        answers: of all networks; one is shown alone, of more two side by side.
    """

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.names = list(answers.lenses)
        self.sides = SIDES[: len(self.names)]
        self.stops: dict[str, threading.Event] = {}

    def build(self) -> gr.Blocks:
        with gr.Blocks(title="scenelab", analytics_enabled=False, delete_cache=STALE, fill_width=True) as blocks:
            gr.Markdown(f"# scenelab\n{WELCOME}")
            with gr.Row():
                with gr.Column(scale=2, min_width=260):
                    self._source()
                with gr.Column(scale=5, min_width=320):
                    self._networks()
                    with gr.Tab("What it says"):
                        self._guesses()
                    with gr.Tab("Where it looks"):
                        self._attention()
                    with gr.Tab("What fools it"):
                        self._attack()
                    with gr.Tab("Its mistakes"):
                        self._mistakes()
            self._connect()
            blocks.unload(self.leave)
        return blocks

    def _source(self) -> None:
        """The picture, its message, and the val images."""
        self.picture = gr.Image(
            label="picture", type="filepath", image_mode=None, sources=["upload", "clipboard"], format="png",
            height=300, elem_id="picture", buttons=[],
        )  # fmt: skip
        self.picture.preprocess = _path_of  # it would decode the file before it is known to be one
        self.truth = gr.Markdown("", elem_id="truth")
        self.message = gr.Markdown("", elem_id="message")
        album = self.answers.album
        self.categories = list(album.packed.categories) if album else []
        with gr.Group(visible=bool(album)):
            self.category = gr.Dropdown(
                self.categories, label="validation image of", value=self.categories[0] if album else None
            )
            self.another = gr.Button("Show one", elem_id="another")

    def _networks(self) -> None:
        with gr.Row():
            self.chosen: Parts = [
                gr.Dropdown(self.names, value=name, label="network", interactive=len(self.names) > 1, elem_id=side)
                for side, name in zip(self.sides, self.names, strict=False)
            ]

    def _guesses(self) -> None:
        with gr.Row():
            self.labels: Parts = [gr.Label(label="top five", elem_id=f"{side}-top") for side in self.sides]

    def _attention(self) -> None:
        methods = dict.fromkeys(name for lens in self.answers.lenses.values() for name in lens.methods)
        with gr.Row():
            choices = [(TITLES[name], name) for name in methods]
            self.method = gr.Dropdown(choices, value=choices[-2][1], label="method", elem_id="method")
            self.explained = gr.Dropdown([FIRST, *self._all_categories()], value=FIRST, label="explain")
            self.opacity = gr.Slider(0, 1, value=0.6, step=0.05, label="opacity of the map", elem_id="opacity")
        with gr.Row():
            self.views, self.overlays, self.notes = [], [], []
            for side in self.sides:
                with gr.Column(min_width=240):
                    self.views.append(gr.State(None))
                    self.overlays.append(_shown("map over the picture", f"{side}-map", height=340))
                    self.notes.append(gr.Markdown(""))
        gr.Markdown(
            "Bright is important, dark is not; the brightest colour is the map's 99th percentile. A map shows what "
            "moves one score, not what the network means: two methods may disagree."
        )

    def _attack(self) -> None:
        with gr.Row():
            self.attack = gr.Dropdown(list(ATTACKS), value=next(iter(ATTACKS)), label="attack")
            self.target = gr.Dropdown([ELSE, LEAST, *self._all_categories()], value=ELSE, label="to be taken for")
        with gr.Row():
            self.levels = gr.Slider(
                0,
                MOST_LEVELS,
                value=2,
                step=0.5,
                label="ε: largest change of a pixel, levels of 255",
                elem_id="epsilon",
            )
            self.steps = gr.Slider(1, MOST_STEPS, value=10, step=1, label="steps", elem_id="steps")
        with gr.Row():
            self.start = gr.Button("Attack", variant="primary", elem_id="attack")
            self.stop = gr.Button("Stop", elem_id="stop")
        self.attacked: Parts = []
        for side in self.sides:
            told = gr.Markdown("", elem_id=f"{side}-told")
            with gr.Row():
                pictures = [
                    _shown(what, f"{side}-{name}", height=250)
                    for what, name in (
                        ("original", "original"), ("adversarial", "adversarial"), ("difference", "difference"),
                    )
                ]  # fmt: skip
                after = gr.Label(label="top five now", elem_id=f"{side}-after", min_width=200)
            self.attacked += [*pictures, after, told]

    def _mistakes(self) -> None:
        album, self.galleries = self.answers.album, []
        if not album or not album.confident:
            gr.Markdown(
                f"There is no evaluation of {self.names[0]} on these images to take mistakes from; "
                f"make one with `scenelab evaluate {self.names[0]}`."
            )
            return
        gr.Markdown(
            f"What {self.names[0]} got wrong on {len(album.packed):,} {album.packed.split} images. "
            "Choose one to see more."
        )
        for title, mistakes in (
            ("Classes taken for each other most often", album.confused), ("Surest mistakes", album.confident),
        ):  # fmt: skip
            pictures = [(album.pixels(mistake.row), mistake.caption) for mistake in mistakes]
            gr.Markdown(f"### {title}")
            gallery = gr.Gallery(
                pictures, label=title, show_label=False, columns=6, height="auto", allow_preview=False, format="png",
                buttons=[], object_fit="cover",
            )  # fmt: skip
            self.galleries.append((gallery, mistakes))

    def _all_categories(self) -> list[str]:
        return list(dict.fromkeys(name for lens in self.answers.lenses.values() for name in lens.stored.categories))

    def _connect(self) -> None:
        """Which event asks for what; none of it is an interface for programs."""
        own: dict[str, Any] = {"api_visibility": "private"}
        asked = [self.picture, self.method, self.explained, self.opacity, *self.chosen]
        maps = [*self.views, *self.overlays, *self.notes]
        everything = [self.message, *self.labels, *maps, *self.attacked]
        gr.on([self.picture.change, *(part.change for part in self.chosen)], self.ask, asked, everything, **own)
        gr.on([self.method.change, self.explained.change], self.look, asked, maps, show_progress="minimal", **own)
        self.opacity.change(self.paint, [self.opacity, *self.views], self.overlays, show_progress="hidden", **own)
        self.picture.input(lambda: "", None, self.truth, queue=False, **own)
        self.start.click(
            self.fool, [self.picture, self.attack, self.levels, self.steps, self.target, *self.chosen], self.attacked,
            show_progress="minimal", concurrency_limit=2, **own,
        )  # fmt: skip
        self.stop.click(self.leave, queue=False, **own)
        if self.answers.album:
            self.another.click(self.answers.take, self.category, [self.picture, self.truth], **own)
        for gallery, mistakes in self.galleries:
            gallery.select(_chooser(self.answers, mistakes), None, [self.picture, self.truth], **own)

    def ask(self, path: str | None, method: str, category: str, opacity: float, *names: str) -> Iterator[Parts]:
        """The top fives at once, then the maps; what an attack had made of another picture goes."""
        said = [self.answers.guess(path, name) for name in names]
        labels = [label for label, _ in said]
        message = next((text for _, text in said if text), "")
        gone = [None] * len(self.attacked)
        yield [message, *labels, *self._no_maps(), *gone]
        if path is not None and not message:
            yield [message, *labels, *self.look(path, method, category, opacity, *names), *gone]

    def look(self, path: str | None, method: str, category: str, opacity: float, *names: str) -> Parts:
        found = [self.answers.look(path, name, method, category, opacity) for name in names]
        return [*(view for view, _, _ in found), *(drawn for _, drawn, _ in found), *(text for _, _, text in found)]

    def _no_maps(self) -> Parts:
        count = len(self.sides)
        return [*[None] * count, *[None] * count, *[""] * count]

    def paint(self, opacity: float, *views: View | None) -> Any:
        drawn = [None if view is None else draw_view(view, opacity) for view in views]
        return drawn[0] if len(drawn) == 1 else drawn

    def fool(
        self, request: gr.Request, path: str | None, attack: str, levels: float, steps: float, target: str, *names: str
    ) -> Iterator[Parts]:
        """One network after the other; a second click stops what the first began."""
        self.leave(request)
        stop = self.stops[_who(request)] = threading.Event()
        results: list[tuple[Any, ...]] = [(None, None, None, None, "")] * len(names)
        for side, name in enumerate(names):
            for result in self.answers.fool(path, name, attack, levels, steps, target, stop):
                results[side] = (*result[:-1], f"{name}: {result[-1]}")
                yield [part for answer in results for part in answer]
            if stop.is_set():
                return

    def leave(self, request: gr.Request) -> None:
        """Stop this visitor's attack: the button, another attack, or a closed page."""
        stop = self.stops.pop(_who(request), None)
        if stop is not None:
            stop.set()


def _who(request: gr.Request) -> str:
    return request.session_hash or ""


def _path_of(payload: Any) -> str | None:
    """Where gradio has put the uploaded file; that it lies in gradio's own folder has been checked before."""
    return payload.path if payload else None


def _shown(label: str, name: str, *, height: int) -> gr.Image:
    return gr.Image(label=label, interactive=False, format="png", height=height, elem_id=name, buttons=["download"])


def _chooser(answers: Answers, mistakes: list[Mistake]) -> Any:
    def choose(event: gr.SelectData) -> tuple[Any, str]:
        return answers.show(mistakes[event.index].row)

    return choose
