"""Convert a network to and from a checkpoint's dictionary, which uses the handout's keys."""

import copy
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from scenelab.errors import Diverged, LabError
from scenelab.models.normalize import Classifier, Normalize
from scenelab.models.registry import NETWORKS, create_model
from scenelab.models.simplenet import Factory
from scenelab.runs.calibration import read_calibration
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.header import Header, read_header
from scenelab.runs.safetensors_file import load_safetensors

MANY_CLASSES = 1000  # above it, shapes are compared before the network is allocated
MAX_CLASSES = 100_000
PARTS = r"(?:^|(?<=\.))(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
PREFIXES = tuple(f"{name}." for name in "module model net network backbone ema_model _forward_module".split())
"""Names of modules within wrappers: of PyTorch anywhere in a name, and of frameworks in front of all names."""
NEVER_NEGATIVE = ("running_var", "num_batches_tracked", "n_averaged")  # of batch normalization and `AveragedModel`


@dataclass(frozen=True, kw_only=True)
class Stored:
    """Classifier loaded from a checkpoint, trained for `epoch` epochs, for images of `size`×`size` pixels."""

    model: Classifier
    arch: str
    categories: tuple[str, ...]
    size: int
    epoch: int


def to_values(
    model: Classifier, *, arch: str, categories: tuple[str, ...], size: int, epoch: int, half: bool = False
) -> dict[str, Any]:
    """Return the checkpoint dictionary of a classifier, with the handout's keys.

    The state dict is the network's, without input normalization. With `half`, parameters are stored in float16;
    buffers, such as batch statistics, are not rounded.
    """
    learned = {name for name, _ in model.network.named_parameters()} if half else set()
    weights = {name: value.detach().contiguous() for name, value in model.network.state_dict().items()}
    return {
        "epoch": epoch,
        "model_arch": arch,
        "state_dict": {name: value.half() if name in learned else value for name, value in weights.items()},
        "categories": list(categories),
        "size": size,
        "mean": model.normalize.mean.flatten().tolist(),
        "std": model.normalize.std.flatten().tolist(),
    }


def as_stored(model: Classifier, *, half: bool) -> Classifier:
    """Return the classifier itself or, with `half`, a copy whose parameters are rounded to float16."""
    if not half:
        return model
    rounded = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in rounded.parameters():
            parameter.copy_(parameter.half())
    return rounded


def read_classifier(path: Path, *, factory: Factory | None = None) -> Stored:
    """Load a classifier from a checkpoint of scenelab or the handout's `main.py`, or an exported safetensors file.

    Its temperature and threshold are those of `calibration.json` beside the file, or in the safetensors file.

    Args:
        path: the checkpoint.
        factory: function that builds the network; None builds the network named in the checkpoint.
    """
    values = load_safetensors(path) if path.suffix == ".safetensors" else load_checkpoint(path)
    header = read_header(path, values, Header)
    arch = header.model_arch or "simplenet"
    if factory is None and arch not in NETWORKS:
        raise LabError(f"checkpoint {path} holds a {arch[:60]!r}; this version knows {', '.join(sorted(NETWORKS))}")
    weights = header.state_dict
    classes = _num_classes(header.categories, plain_names(weights, path), path)
    if factory is None and classes > MANY_CLASSES:
        with torch.device("meta"):
            require_fit(create_model(arch, num_classes=classes).network, plain_names(weights, path), arch, path)
    model = Classifier(factory(num_classes=classes)) if factory else create_model(arch, num_classes=classes)
    model.normalize = Normalize(header.mean, header.std)
    calibration = read_calibration(path) or header
    model.temperature, model.threshold = calibration.temperature, calibration.threshold
    load_weights(model.network, weights, arch, path)
    categories = header.categories or tuple(f"class {label}" for label in range(classes))
    return Stored(model=model.eval(), arch=arch, categories=categories, size=header.size, epoch=header.epoch)


def plain_names(
    weights: dict[str, torch.Tensor], path: Path, expected: Collection[str] = ()
) -> dict[str, torch.Tensor]:
    """Return the weights without the prefixes that wrappers such as `DataParallel` add to their names.

    Weights with the `expected` names are returned unchanged. Prefixes of compiled and sharded modules are removed
    anywhere in a name, others only if all names have them. The counter `n_averaged` of a moving average is dropped.

    Raises:
        LabError: two names become one; the message cites the checkpoint `path`.
    """
    if weights.keys() == set(expected):
        return weights
    names = {name: re.sub(PARTS, "", name) for name in weights}
    while True:
        names = {name: plain for name, plain in names.items() if plain != "n_averaged" or plain in expected}
        prefix = next((part for part in PREFIXES if all(plain.startswith(part) for plain in names.values())), None)
        if not names or prefix is None or set(names.values()) == set(expected):
            break
        names = {name: plain.removeprefix(prefix) for name, plain in names.items()}
    firsts: dict[str, str] = {}
    for name, plain in names.items():
        if (first := firsts.setdefault(plain, name)) != name:
            raise LabError(f"checkpoint {path} has both {first[:80]} and {name[:80]}; keep one of them")
    return {plain: weights[name] for name, plain in names.items()}


def _num_classes(categories: tuple[str, ...], weights: dict[str, torch.Tensor], path: Path) -> int:
    """Return the number of classes: the outputs of layer `fc`, or the categories if there is no such layer."""
    last = weights.get("fc.weight")
    outputs = len(last) if last is not None and last.ndim else len(categories)
    if not outputs:
        first = f" (its first weight is {min(weights)[:80]})" if weights and last is None else ""
        raise LabError(
            f"checkpoint {path} has no final layer 'fc'{first}; expected one of {', '.join(sorted(NETWORKS))}"
        )
    if categories and len(categories) != outputs:
        what = f"names {len(categories)} categories and has {outputs} outputs"
        raise LabError(f"checkpoint {path} {what}; use one written by scenelab")
    if outputs > MAX_CLASSES:
        raise LabError(f"checkpoint {path} has {outputs:,} classes; at most {MAX_CLASSES:,} are read")
    return outputs


def load_weights(network: nn.Module, weights: dict[str, torch.Tensor], name: str, path: Path) -> None:
    """Check `weights` and load them into `network`.

    Raises:
        LabError: names, shapes or dtypes differ; the message cites the model `name` and the checkpoint `path`.
        Diverged: a value is not finite, or a variance or counter is negative.
    """
    weights = plain_names(weights, path, network.state_dict().keys())
    require_fit(network, weights, name, path)
    for key, expected in network.state_dict().items():
        value = weights[key].to(expected.device, expected.dtype)
        value, expected = (tensor.float() if tensor.dtype.itemsize == 1 else tensor for tensor in (value, expected))
        is_finite = bool((value.isfinite() | (value == expected)).all())  # masks are infinite in every such network
        if not is_finite or (key.endswith(NEVER_NEGATIVE) and (value < 0).any()):
            what = "a negative value" if is_finite else "a value that is not finite"
            raise Diverged(f"checkpoint {path} is refused: {key} holds {what}; take an earlier one, or train again")
    for module in network.modules():
        for key, buffer in module.named_buffers(recurse=False):
            if 0 in buffer.stride():  # PyTorch copies nothing into an expanded tensor
                setattr(module, key, buffer.clone(memory_format=torch.contiguous_format))
    network.load_state_dict(weights)


def require_fit(network: nn.Module, weights: dict[str, torch.Tensor], name: str, path: Path) -> None:
    """Raise a LabError if names, shapes or dtypes (float, complex or integer) of `weights` and `network` differ.

    The network may be on the meta device.
    """
    expected = network.state_dict()
    for key in sorted(expected.keys() | weights.keys(), key=lambda key: (key in expected, key)):
        if key not in weights or key not in expected:
            difference = f"{key[:80]} {'is missing from' if key not in weights else 'is not expected in'} it"
        elif expected[key].shape != weights[key].shape:
            difference = f"{key} is {tuple(weights[key].shape)}, expected {tuple(expected[key].shape)}"
        elif any(kind(expected[key]) != kind(weights[key]) for kind in (torch.is_floating_point, torch.is_complex)):
            difference = f"{key} is of {weights[key].dtype}, expected {expected[key].dtype}"
        else:
            continue
        raise LabError(f"checkpoint {path} is not of model {name!r}: {difference}; choose the model it was made of")
