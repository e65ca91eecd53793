"""A run's network in the explorer: predictions, attribution maps, feature maps and attacks for single images.

All methods but `attack` are called by one thread, because some register hooks on the network. Attacks run beside them
on a copy of their own.
"""

import threading
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from torch import Tensor, nn

from scenelab.app import limits
from scenelab.app.schemas import AttackQuestion, ExplainQuestion, LayerQuestion, Question
from scenelab.attribution import METHODS
from scenelab.attribution.grad_cam import has_feature_maps
from scenelab.data.cache import MemmapDataset
from scenelab.data.contact_sheet import contact_sheet
from scenelab.data.decode import fit
from scenelab.errors import LabError
from scenelab.evaluation.adversarial import AttackSettings, attack_images, encode_image
from scenelab.evaluation.attribution_gallery import divide_by_mean, scale_maps
from scenelab.evaluation.attribution_plots import COLORMAP
from scenelab.evaluation.faithfulness import areas, deletion_insertion
from scenelab.evaluation.feature_maps import feature_layers, feature_maps, receptive_fields, strongest_units
from scenelab.evaluation.mistakes import compare, read_mistakes
from scenelab.evaluation.predict import rank, spread_rows
from scenelab.models.inference import prepare_for_inference
from scenelab.models.normalize import Classifier
from scenelab.runs.loading import Opened, judge, load_network
from scenelab.runs.network import Stored
from scenelab.runs.run import Run

TARGETED = ("pgd", "fgsm")
SCALE = 4.0  # multiple of a map's mean that has the brightest color, for all maps of all methods
MAX_PATH = 200  # points of the path of an attack
Square = UInt8[Tensor, "3 s s"]


@dataclass(frozen=True)
class Session:
    """A run's network, and two faster copies with the same logits and gradients; only `attacked` never has hooks."""

    run: Run
    name: str
    stored: Stored
    explained: Classifier
    attacked: Classifier
    data: Path | None = None

    @cached_property
    def opened(self) -> Opened:
        """The run with its validation images and the folder of results on them; a LabError if images are missing."""
        return judge(self.run, self.stored, data=self.data)

    @property
    def dataset(self) -> MemmapDataset:
        """The validation images."""
        return self.opened.dataset

    @cached_property
    def layers(self) -> dict[str, tuple[int, int]]:
        """Channels and side of the output of each layer that has feature maps, by name."""
        return feature_layers(self.stored.model, self.stored.size)

    def network(self) -> dict[str, Any]:
        """Return categories, input size, attribution methods, layers, and the labels of the validation images."""
        known = {"categories": self.stored.categories, "size": self.stored.size, "labels": [], "problem": ""}
        try:
            known |= {"labels": self.dataset.labels.tolist(), "split": self.dataset.split}
        except LabError as error:
            known["problem"] = str(error)
        usable = [name for name in METHODS if name != "cam" or has_feature_maps(self.stored.model)]
        layers = [(name, *shape) for name, shape in self.layers.items()]
        return {**known, "methods": {name: METHODS[name].description for name in usable}, "layers": layers}

    def val_image(self, row: int, size: int) -> Square:
        """Return a validation image, resized to `size` pixels."""
        if row >= len(self.dataset):
            raise LabError(f"there is no val image {row}; {self.name} has {len(self.dataset)}")
        return fit(self.dataset.gather(slice(row, row + 1))[0], size)

    def show(self, image: Square) -> bytes:
        """Return an image as PNG."""
        return encode_image(_to_batch(image)[0])

    def mistakes(self) -> dict[str, Any]:
        """Return the predictions of the run's evaluation; see `read_mistakes`."""
        return read_mistakes(self.opened)

    def compare(self, other: "Session") -> dict[str, Any]:
        """Return where this network and another one disagree; see `mistakes.compare`."""
        return compare(self.opened, other.opened, count=limits.DISAGREEMENTS)

    def predict(self, image: Square, question: Question) -> list[tuple[str, float]]:
        """Return the top five categories with probabilities, from mean logits of the image and its mirror image."""
        return rank(self._mirror_averaged(_to_batch(image)), self.stored.categories, count=5)

    def _mirror_averaged(self, images: Float[Tensor, "1 3 s s"]) -> Float[Tensor, "1 k"]:
        with torch.no_grad():
            return (self.stored.model(images) + self.stored.model(images.flip(-1))) / 2

    def explain(self, image: Square, question: ExplainQuestion) -> dict[str, Any]:
        """Return an attribution map as PNG in a data URL, its category, and the deletion curve if it is asked for.

        Raises:
            LabError: the network does not support the method or does not know the category.
        """
        methods, categories, images = self.network()["methods"], self.stored.categories, _to_batch(image)
        if question.method not in methods:
            raise LabError(f"{self.name} has no maps by {question.method!r}; choose {', '.join(methods)}")
        if question.category not in (None, *categories):
            raise LabError(f"{self.name} does not know {question.category!r}; choose one of its {len(categories)}")
        predicted = int(self._mirror_averaged(images).argmax())
        targets = torch.tensor([categories.index(question.category) if question.category else predicted])
        maps = METHODS[question.method](self.explained, images, targets).detach()
        values = scale_maps(divide_by_mean(maps), limit=SCALE)[0][0, 0]
        colors = torch.from_numpy(colormaps[COLORMAP](values.numpy())[:, :, :3]).permute(2, 0, 1)
        answer = {"map": to_url(colors), "category": categories[targets[0]], "is_empty": not values.any()}
        if question.faithfulness:
            curve = deletion_insertion(self.stored.model, images, maps, targets)["deletion"]
            answer |= {"deletion": curve[0].tolist(), "area": areas(curve).item()}
        return answer

    def attack(
        self, image: Square, question: AttackQuestion, stop: threading.Event, report: Callable[[int], Any]
    ) -> dict[str, Any]:
        """Attack an image; call `report` with the number of forward passes after each pass.

        Return the images as PNG in data URLs, the top five before and after, and after each pass the probabilities of
        two categories: the one predicted first, and the target or the one predicted last.

        Raises:
            LabError: the target is unknown, or `stop` was set.
        """
        clean, logits, categories = _to_batch(image), [], self.stored.categories

        def counted(images: Tensor) -> Tensor:
            if stop.is_set():
                raise LabError(f"the attack was stopped; it may take {limits.ATTACK_SECONDS:g} seconds")
            output = self.attacked(images)
            logits.append(output.detach()[:1])
            report(len(logits))
            return output

        target = question.target if question.method in TARGETED else None
        if target not in (None, "least-likely", *categories):
            raise LabError(f"{self.name} does not know {target!r}; choose one of its {len(categories)}")
        settings = {"epsilon": question.levels / 255, "steps": question.steps, "target": target}
        result = attack_images(counted, clean, None, categories, AttackSettings(method=question.method, **settings))
        with torch.no_grad():
            before, after = self.attacked(clean), self.attacked(result.images)
        first, last = int(before.argmax()), int(after.argmax())
        last = categories.index(target) if target in categories else last
        change = (result.images - clean)[0]
        largest = change.abs().max().item()
        amplified = 0.5 / largest if largest else 1.0
        outcome = "fooled before" if result.fooled_before[0] else "succeeded" if result.success[0] else "failed"
        shares = torch.cat(logits).softmax(dim=1)[:, [first, last]]
        images = {"original": clean[0], "adversarial": result.images[0], "difference": 0.5 + amplified * change}
        return {
            **{name: to_url(pixels) for name, pixels in images.items()},
            **{"amplified": amplified, "largest": largest, "passes": len(logits), "outcome": outcome},
            "before": rank(before, categories, count=5),
            "after": rank(after, categories, count=5),
            "categories": (categories[first], categories[last]),
            "path": shares[spread_rows(len(shares), MAX_PATH)].tolist(),
        }

    def features(self, image: Square, question: LayerQuestion) -> dict[str, Any]:
        """Return the layer's feature maps with the largest values, as one PNG of 8 columns, their channels and ranges.

        If the question has a channel, return the places in validation images where its values are largest instead.
        """
        model, size, layer = self.stored.model, self.stored.size, question.layer
        if layer not in self.layers:
            raise LabError(f"{self.name} has no maps of {layer!r}; choose one of its {len(self.layers)} layers")
        if question.channel is not None:
            bounds = {"size": size, "images": limits.PATCH_IMAGES, "count": limits.PATCHES}
            return {"patches": strongest_units(model, self.dataset, layer, question.channel, **bounds)}
        maps = feature_maps(model, _to_batch(image), [layer])[layer][0]
        channels, side = maps.flatten(1).amax(dim=1).argsort(descending=True)[: limits.FEATURE_MAPS], maps.shape[1]
        chosen = maps[channels]
        low, high = chosen.amin(dim=(1, 2), keepdim=True), chosen.amax(dim=(1, 2), keepdim=True)
        scaled = (chosen - low) / torch.where(high > low, high - low, torch.ones_like(high))
        sheet = contact_sheet(scaled[:, None].expand(-1, 3, -1, -1))
        ranges = torch.stack([low.flatten(), high.flatten()], dim=1).tolist()
        known = {"channels": channels.tolist(), "ranges": ranges, "side": side, "of": len(maps)}
        return {**known, "atlas": to_url(sheet), "fields": receptive_fields(model, layer, size)}

    def filters(self) -> dict[str, Any]:
        """Return weights (n×3×k×k), bias, stride and padding of the first convolution, and the normalization."""
        conv = next((module for module in self.stored.model.modules() if isinstance(module, nn.Conv2d)), None)
        if conv is None:
            raise LabError(f"{self.name} does not begin with a convolution of PyTorch; choose another run")
        weights = conv.weight.detach().mul(1e4).round().div(1e4).tolist()
        bias = [0.0] * conv.out_channels if conv.bias is None else conv.bias.tolist()
        mean, std = (getattr(self.stored.model.normalize, name).flatten().tolist() for name in ("mean", "std"))
        stride, padding = conv.stride[0], conv.padding[0]
        return {"weights": weights, "bias": bias, "mean": mean, "std": std, "stride": stride, "padding": padding}


def open_session(run: Run, name: str, data: Path | None) -> Session:
    """Return a session with the best checkpoint of a run; raise a LabError if it has none."""
    stored = load_network(run, calibrated=True)
    return Session(run, name, stored, prepare_for_inference(stored.model), prepare_for_inference(stored.model), data)


def _to_batch(image: Square) -> Float[Tensor, "1 3 s s"]:
    return image.float().div(255)[None]


def to_url(image: Float[Tensor, "3 h w"]) -> str:
    """Return an image in [0, 1] as PNG in a data URL; multiples of 1/255 are exact."""
    return "data:image/png;base64," + b64encode(encode_image(image.clamp(0, 1))).decode()
