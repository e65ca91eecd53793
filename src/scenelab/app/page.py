"""The explorer's page: its parts, and which event asks for what."""

import hashlib
import io
import os
import secrets
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
from PIL import Image

from scenelab.app.errors_gallery import Album, Mistake
from scenelab.app.handlers import ATTACKS, ELSE, FIRST, LEAST, TARGETED, TITLES, Answers
from scenelab.app.session import View, draw_view
from scenelab.app.temporary import let_paths_grow
from scenelab.evaluation.adversarial import QUERIES_PER_STEP
from scenelab.io import atomic_write

SIDES = ("left", "right")
MOST_LEVELS, MOST_STEPS = 16, 100
AT_ONCE = 2  # attacks; others wait for their turn, and can be stopped while they do
PATIENCE = 0.3  # seconds between two looks at whether it has come
PREFERRED = "cam"  # shown first where a network has it
STALE = (600, 3600)  # seconds between two looks for uploaded pictures, and their age when they go
SALT = secrets.token_bytes(16)  # so that nobody can ask whether a picture was shown
ALT_MAP = "the picture with the map in colours, bright where it is important"
WELCOME = (
    "Drop, paste or choose a picture, or take one of the validation images. Nothing leaves this machine; all that is "
    "shown is computed here from the run folders."
)
CSS = """
.gradio-container, .gradio-container > main { width: 100% !important; max-width: 1240px !important; margin: auto }
footer { display: none !important }
#picture img, .small img { width: 100%; height: 100%; object-fit: contain }
.small img { image-rendering: pixelated }
.caption-label { white-space: normal !important; max-width: 96% !important; line-height: 1.2 !important }
"""
Parts = list[Any]


class Stop(threading.Event):
    """That an attack is to end, and its last word."""

    word = ""


class Page:
    """The components, and the handlers that lie between them and the answers.

    Args:
        answers: of all networks; one is shown alone, of more two side by side.
    """

    def __init__(self, answers: Answers) -> None:
        self.answers = answers
        self.names = list(answers.lenses)
        self.sides = SIDES[: len(self.names)]
        self.stops: dict[str, Stop] = {}
        self.asked: dict[str, int] = {}
        self.turns = threading.Semaphore(AT_ONCE)

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
            blocks.unload(self.forget)
        let_paths_grow(blocks)
        return blocks

    def _source(self) -> None:
        """The picture, its message, and the val images."""
        self.picture = gr.Image(
            label="picture", type="filepath", image_mode=None, sources=["upload", "clipboard"], format="png",
            height=300, elem_id="picture", buttons=[],
        )  # fmt: skip
        self.picture.preprocess = _path_of  # it would decode the file before it is known to be one
        _write_whole(self.picture)
        self.truth = gr.Markdown("", elem_id="truth")
        self.message = gr.Markdown("", elem_id="message")
        album = self.answers.album
        self.categories = list(album.dataset.categories) if album else []
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
            first = PREFERRED if PREFERRED in methods else next(iter(methods))
            self.method = gr.Dropdown(choices, value=first, label="method", elem_id="method")
            self.explained = gr.Dropdown([FIRST, *self._all_categories()], value=FIRST, label="explain")
            self.opacity = gr.Slider(0, 1, value=0.6, step=0.05, label="opacity of the map", elem_id="opacity")
        with gr.Row():
            self.views, self.overlays, self.notes = [], [], []
            for side in self.sides:
                with gr.Column(min_width=240):
                    self.views.append(gr.State(None))
                    self.overlays.append(show_pixels("map over the picture", f"{side}-map", height=340, alt=ALT_MAP))
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
                0, MOST_LEVELS, value=2, step=1, label="ε: largest change of a value, of 255", elem_id="epsilon"
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
                    show_pixels(name, f"{side}-{name}", height=250, alt=f"{name}, at the size that the network sees")
                    for name in ("original", "adversarial", "difference")
                ]
                after = gr.Label(label="top five now", elem_id=f"{side}-after", min_width=200)
            self.attacked += [*pictures, after, told]

    def _mistakes(self) -> None:
        album, self.galleries = self.answers.album, []
        if not album or not album.evaluated:
            gr.Markdown(
                f"There is no evaluation of {self.names[0]}, with its weights as they are, on images that are there. "
                "`scenelab evaluate` with its run folder makes one."
            )
            return
        gr.Markdown(
            f"What {self.names[0]} got wrong on {len(album.dataset):,} {album.dataset.split} images. "
            "Choose one to see more."
        )
        for title, mistakes in (
            ("Classes taken for each other most often", album.confused),
            ("Surest mistakes", album.confident),
        ):
            pictures = [(album.pixels(mistake.row), mistake.caption) for mistake in mistakes]
            gr.Markdown(f"### {title}" + ("" if pictures else "\n\nNone."))
            gallery = gr.Gallery(
                pictures, label=title, show_label=False, columns=6, height="auto", allow_preview=False, format="png",
                buttons=[], object_fit="cover", visible=bool(pictures),
            )  # fmt: skip
            self.galleries.append((gallery, album, mistakes))

    def _all_categories(self) -> list[str]:
        return list(dict.fromkeys(name for lens in self.answers.lenses.values() for name in lens.stored.categories))

    def _connect(self) -> None:
        """Which event asks for what; none of it is an interface for programs."""
        own: dict[str, Any] = {"api_visibility": "private"}
        asked = [self.picture, self.method, self.explained, self.opacity, *self.chosen]
        maps = [*self.views, *self.overlays, *self.notes]
        looks: dict[str, Any] = {"concurrency_id": "look", "show_progress": "minimal", **own}
        changed = gr.on(
            [self.picture.change, *(part.change for part in self.chosen)], self.ask, [self.picture, *self.chosen],
            [self.message, *self.labels, *maps, *self.attacked], **own,
        )  # fmt: skip
        changed.then(self.look, asked, maps, **looks)
        gr.on([self.method.change, self.explained.change], self.look, asked, maps, **looks)
        self.opacity.change(self.paint, [self.opacity, *self.views], self.overlays, show_progress="hidden", **own)
        self.picture.input(lambda: "", None, self.truth, concurrency_limit=None, **own)
        self.start.click(
            self.fool, [self.picture, self.attack, self.levels, self.steps, self.target, *self.chosen], self.attacked,
            show_progress="minimal", concurrency_limit=None, trigger_mode="multiple", **own,
        )  # fmt: skip
        self.stop.click(self.halt, concurrency_limit=None, **own)
        self.attack.change(_fitting, self.attack, [self.target, self.steps], concurrency_limit=None, **own)
        if self.answers.album:
            self.another.click(self.answers.take, self.category, [self.picture, self.truth], **own)
        for gallery, album, mistakes in self.galleries:
            gallery.select(_chooser(self.answers, album, mistakes), None, [self.picture, self.truth], **own)

    def ask(self, request: gr.Request, path: str | None, *names: str) -> Parts:
        """The top fives at once; what belongs to another picture goes, and an attack on it ends."""
        self.leave(request)
        self.asked[_who(request)] = self.asked.get(_who(request), 0) + 1
        said = [self.answers.guess(path, name) for name in names]
        message = next((text for _, text in said if text), "")
        count = len(names)
        no_maps = [*[None] * count, *[None] * count, *[""] * count]
        return [message, *(label for label, _ in said), *no_maps, *[None] * len(self.attacked)]

    def look(
        self, request: gr.Request, path: str | None, method: str, category: str, opacity: float, *names: str
    ) -> Parts:
        """The maps, unless another picture has come meanwhile."""
        serial = self.asked.get(_who(request))
        found = [self.answers.look(path, name, method, category, opacity) for name in names]
        if self.asked.get(_who(request)) != serial:
            return [gr.skip()] * (3 * len(names))
        return [*(view for view, _, _ in found), *(drawn for _, drawn, _ in found), *(text for _, _, text in found)]

    def paint(self, opacity: float, *views: View | None) -> Any:
        drawn = [None if view is None else draw_view(view, opacity) for view in views]
        return drawn[0] if len(drawn) == 1 else drawn

    def fool(
        self, request: gr.Request, path: str | None, attack: str, levels: float, steps: float, target: str, *names: str
    ) -> Iterator[Parts]:
        """One network after the other; a second click ends what the first began, and so does another picture."""
        self.leave(request)
        stop = self.stops[_who(request)] = Stop()
        results: list[tuple[Any, ...]] = [(None, None, None, None, "")] * len(names)
        mine = False
        try:
            while not stop.is_set() and not (mine := self.turns.acquire(timeout=PATIENCE)):
                yield _told("Waiting for the attacks of others …", names)
            for side, name in enumerate(names):
                for result in self.answers.fool(path, name, attack, levels, steps, target, stop):
                    if stop.is_set():
                        break
                    results[side] = (*result[:-1], f"{name}: {result[-1]}")
                    yield [part for answer in results for part in answer]
                if stop.is_set():
                    yield _told(stop.word, names)  # what is said last is what stays
                    return
        finally:
            if mine:
                self.turns.release()
            if self.stops.get(_who(request)) is stop:
                del self.stops[_who(request)]

    def halt(self, request: gr.Request) -> None:
        """The button."""
        self.leave(request, word="Stopped.")

    def leave(self, request: gr.Request, *, word: str = "") -> None:
        """End this visitor's attack; the word is what it says last."""
        stop = self.stops.pop(_who(request), None)
        if stop is not None:
            stop.word = word
            stop.set()

    def end(self) -> None:
        """End everybody's attacks: a thread that still computes would disturb the end of the process."""
        for stop in [*self.stops.values()]:
            stop.set()

    def forget(self, request: gr.Request) -> None:
        """A closed page."""
        self.leave(request)
        self.asked.pop(_who(request), None)


def _told(text: str, names: tuple[str, ...]) -> Parts:
    """No pictures, and a line for each network."""
    return [part for _ in names for part in (None, None, None, None, text)]


def _who(request: gr.Request) -> str:
    return request.session_hash or ""


def _path_of(payload: Any) -> str | None:
    """Where gradio has put the uploaded file; the gate lets no other path in."""
    return payload.path if payload else None


def _fitting(attack: str) -> tuple[Any, Any]:
    """What can be chosen with an attack: a target not with all, steps not with one step."""
    kind = ATTACKS[attack]
    label = f"steps, of {QUERIES_PER_STEP} queries each" if kind == "square" else "steps"
    return gr.update(interactive=kind in TARGETED), gr.update(interactive=kind != "fgsm", label=label)


def show_pixels(label: str, name: str, *, height: int, alt: str) -> gr.Image:
    """A place for what is drawn, which a visitor can download."""
    shown = gr.Image(
        label=label, interactive=False, format="png", height=height, elem_id=name, elem_classes=["small"],
        buttons=["download"], alt_text=alt,
    )  # fmt: skip
    _write_whole(shown)
    return shown


def _write_whole(shown: gr.Image) -> None:
    """Pictures are whole files before their names are told: gradio writes one that it has shown before into the same
    file again, while a browser may be reading it.
    """
    postprocess = shown.postprocess
    shown.postprocess = lambda value: postprocess(
        save_picture(value, Path(shown.GRADIO_CACHE)) if isinstance(value, np.ndarray) else value
    )


def save_picture(pixels: np.ndarray, folder: Path) -> str:
    """uint8 pixels (h, w, 3) as a PNG file that is whole as soon as it has its name, which comes from its content.

    Returns:
        Its path.
    """
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "png")
    path = folder / hashlib.blake2b(content.getbuffer(), digest_size=20, key=SALT).hexdigest() / "image.png"
    try:
        os.utime(path)  # it goes so long after it was last shown
    except FileNotFoundError:
        with atomic_write(path) as file:
            file.write(content.getbuffer())
    return str(path)


def _chooser(answers: Answers, album: Album, mistakes: list[Mistake]) -> Any:
    def choose(event: gr.SelectData) -> tuple[Any, str]:
        return answers.show(album, mistakes[event.index].row)

    return choose
