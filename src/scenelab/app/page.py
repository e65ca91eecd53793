"""The explorer's page: gradio components, and the callbacks of their events."""

from collections.abc import Callable
from typing import Any

import gradio as gr

from scenelab.app.callbacks import Callbacks
from scenelab.app.errors_gallery import ErrorsGallery, Mistake
from scenelab.app.handlers import ANY_OTHER, ATTACKS, LEAST_LIKELY, PREDICTED, TARGETED, TITLES, Handlers
from scenelab.app.shown_files import write_atomically
from scenelab.evaluation.adversarial import QUERIES_PER_STEP

SIDES = ("left", "right")
MAX_LEVELS, MAX_STEPS = 16, 100
DEFAULT_METHOD = "cam"  # attribution method, if a network supports it
WELCOME = (
    "# scenelab\nDrop, paste or choose an image, or take a validation image. Everything is computed on this machine; "
    "nothing is sent anywhere else."
)
ATTRIBUTION_NOTE = (
    "Bright pixels are important, dark ones are not; the brightest color is the map's 99th percentile. A map shows "
    "which pixels change one score. Two methods may disagree."
)
CSS = """
.gradio-container, .gradio-container > main { width: 100% !important; max-width: 1240px !important; margin: auto }
footer { display: none !important }
#picture img, .small img { width: 100%; height: 100%; object-fit: contain }
.small img { image-rendering: pixelated }
.caption-label { white-space: normal !important; max-width: 96% !important; line-height: 1.2 !important }
"""
PRIVATE: dict[str, Any] = {"api_visibility": "private"}  # no API endpoints for programs
FREE: dict[str, Any] = {"concurrency_limit": None, **PRIVATE}


class Page:
    """Builder of the page's components, for one network or two networks side by side."""

    def __init__(self, handlers: Handlers) -> None:
        self.handlers = handlers
        self.names = list(handlers.sessions)
        self.sides = SIDES[: len(self.names)]
        self.callbacks = Callbacks(handlers, outputs=5 * len(self.sides))
        sessions = handlers.sessions.values()
        self.methods = list(dict.fromkeys(name for session in sessions for name in session.methods))
        self.classes = list(dict.fromkeys(name for session in sessions for name in session.stored.categories))

    def build(self) -> gr.Blocks:
        """Build the components, connect their events to the callbacks, and return the gradio page."""
        with gr.Blocks(title="scenelab", analytics_enabled=False, fill_width=True) as blocks:
            gr.Markdown(WELCOME)
            with gr.Row():
                with gr.Column(scale=2, min_width=260):
                    self._build_image()
                with gr.Column(scale=5, min_width=320):
                    with gr.Row():
                        several = len(self.names) > 1
                        self.networks = [
                            gr.Dropdown(self.names, value=name, label="network", interactive=several, elem_id=side)
                            for side, name in zip(self.sides, self.names, strict=False)
                        ]
                    with gr.Tab("Prediction"), gr.Row():
                        self.labels = [gr.Label(label="top five", elem_id=f"{side}-top") for side in self.sides]
                    with gr.Tab("Attribution"):
                        self._build_attribution()
                    with gr.Tab("Attack"):
                        self._build_attack()
                    with gr.Tab("Mistakes"):
                        self._build_mistakes()
            self._connect()
            blocks.unload(self.callbacks.forget)
        return blocks

    def _build_image(self) -> None:
        """Add the image input, its message, and the button for validation images."""
        sources: dict[str, Any] = {"sources": ["upload", "clipboard"], "image_mode": None, "format": "png"}
        self.image = gr.Image(label="image", type="filepath", height=300, elem_id="picture", buttons=[], **sources)
        self.image.preprocess = _uploaded_path  # gradio would decode the file without the checks of `read_image`
        write_atomically(self.image)
        self.truth = gr.Markdown("", elem_id="truth")
        self.message = gr.Markdown("", elem_id="message")
        gallery = self.handlers.gallery
        categories = list(gallery.dataset.categories) if gallery else []
        with gr.Group(visible=bool(gallery)):
            self.category = gr.Dropdown(categories, label="class", value=categories[0] if categories else None)
            self.another = gr.Button("Show a validation image", elem_id="another")

    def _build_attribution(self) -> None:
        first = DEFAULT_METHOD if DEFAULT_METHOD in self.methods else self.methods[0]
        with gr.Row():
            choices = [(TITLES[name], name) for name in self.methods]
            self.method = gr.Dropdown(choices, value=first, label="method", elem_id="method")
            self.explained = gr.Dropdown([PREDICTED, *self.classes], value=PREDICTED, label="class to explain")
            self.opacity = gr.Slider(0, 1, value=0.6, step=0.05, label="opacity", elem_id="opacity")
        alt = "the image under the attribution map, bright where it is important"
        self.maps, self.overlays, self.notes = [], [], []
        with gr.Row():
            for side in self.sides:
                with gr.Column(min_width=240):
                    self.maps.append(gr.State(None))
                    self.overlays.append(image_output("attribution map", f"{side}-map", height=340, alt=alt))
                    self.notes.append(gr.Markdown(""))
        gr.Markdown(ATTRIBUTION_NOTE)

    def _build_attack(self) -> None:
        with gr.Row():
            self.kind = gr.Dropdown(list(ATTACKS), value=next(iter(ATTACKS)), label="attack")
            targets = [ANY_OTHER, LEAST_LIKELY, *self.classes]
            self.target = gr.Dropdown(targets, value=ANY_OTHER, label="target")
        with gr.Row():
            epsilon = "ε: largest change, in 1/255"
            self.levels = gr.Slider(0, MAX_LEVELS, value=2, step=1, label=epsilon, elem_id="epsilon")
            self.steps = gr.Slider(1, MAX_STEPS, value=10, step=1, label="steps", elem_id="steps")
        with gr.Row():
            self.start = gr.Button("Attack", variant="primary", elem_id="attack")
            self.stop = gr.Button("Stop", elem_id="stop")
        self.attacked: list[Any] = []
        for side in self.sides:
            result = gr.Markdown("", elem_id=f"{side}-result")
            with gr.Row():
                images = [
                    image_output(name, f"{side}-{name}", height=250, alt=f"{name}, at the size that the network sees")
                    for name in ("original", "adversarial", "difference")
                ]
                after = gr.Label(label="top five after", elem_id=f"{side}-after", min_width=200)
            self.attacked += [*images, after, result]

    def _build_mistakes(self) -> None:
        gallery, name = self.handlers.gallery, self.names[0]
        self.galleries: list[tuple[gr.Gallery, ErrorsGallery, list[Mistake]]] = []
        if not gallery or not gallery.is_evaluated:
            gr.Markdown(
                f"There is no evaluation of {name} with its present weights and images. "
                "Run `scenelab evaluate` on its run folder to make one."
            )
            return
        count, split = len(gallery.dataset), gallery.dataset.split
        gr.Markdown(f"Mistakes of {name} on {count:,} {split} images. Choose one to see more of it.")
        titles = {"Most confused classes": gallery.confused, "Most confident mistakes": gallery.confident}
        look: dict[str, Any] = {"show_label": False, "columns": 6, "height": "auto", "object_fit": "cover"}
        for title, mistakes in titles.items():
            images = [(gallery.pixels(mistake.row), mistake.caption) for mistake in mistakes]
            gr.Markdown(f"### {title}" + ("" if images else "\n\nNone."))
            look["visible"] = bool(images)
            view = gr.Gallery(images, label=title, allow_preview=False, format="png", buttons=[], **look)
            self.galleries.append((view, gallery, mistakes))

    def _connect(self) -> None:
        calls = self.callbacks
        inputs = [self.image, self.method, self.explained, self.opacity, *self.networks]
        maps = [*self.maps, *self.overlays, *self.notes]
        explain: dict[str, Any] = {"concurrency_id": "explain", "show_progress": "minimal", **PRIVATE}
        chosen = [self.image.change, *(part.change for part in self.networks)]
        outputs = [self.message, *self.labels, *maps, *self.attacked]
        predicted = gr.on(chosen, calls.predict, [self.image, *self.networks], outputs, **PRIVATE)
        predicted.then(calls.explain, inputs, maps, **explain)
        gr.on([self.method.change, self.explained.change], calls.explain, inputs, maps, **explain)
        self.opacity.change(calls.paint, [self.opacity, *self.maps], self.overlays, show_progress="hidden", **PRIVATE)
        self.image.input(lambda: "", None, self.truth, **FREE)
        settings = [self.image, self.kind, self.levels, self.steps, self.target, *self.networks]
        attack: dict[str, Any] = {"show_progress": "minimal", "trigger_mode": "multiple", **FREE}
        self.start.click(calls.attack, settings, self.attacked, **attack)
        self.stop.click(calls.halt, **FREE)
        self.kind.change(_settings_of, self.kind, [self.target, self.steps], **FREE)
        if self.handlers.gallery:
            self.another.click(self.handlers.sample, self.category, [self.image, self.truth], **PRIVATE)
        for view, gallery, mistakes in self.galleries:
            view.select(_select(gallery, mistakes), None, [self.image, self.truth], **PRIVATE)


def image_output(label: str, name: str, *, height: int, alt: str) -> gr.Image:
    """Return a component for computed images, shown as PNG at a height in pixels, with a download button."""
    look: dict[str, Any] = {"height": height, "elem_id": name, "elem_classes": ["small"], "alt_text": alt}
    output = gr.Image(label=label, interactive=False, format="png", buttons=["download"], **look)
    write_atomically(output)
    return output


def _uploaded_path(payload: Any) -> str | None:
    """Return the path of an uploaded file, or None. `Gate` has checked that it is in the folder of uploads."""
    return payload.path if payload else None


def _settings_of(attack: str) -> tuple[Any, Any]:
    """Return updates of the target and steps inputs, which are disabled if the attack does not use them."""
    kind = ATTACKS[attack]
    label = f"steps, of {QUERIES_PER_STEP} queries each" if kind == "square" else "steps"
    return gr.update(interactive=kind in TARGETED), gr.update(interactive=kind != "fgsm", label=label)


def _select(gallery: ErrorsGallery, mistakes: list[Mistake]) -> Callable[[gr.SelectData], tuple[Any, str]]:
    def show(event: gr.SelectData) -> tuple[Any, str]:
        return gallery.show(mistakes[event.index].row)

    return show
