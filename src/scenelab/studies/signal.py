"""Size of the signal and of the gradient in each layer of a network."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Int64
from torch import Tensor, nn

from scenelab.classifier import Images
from scenelab.evaluation.study_results import LayerSignal


def measure_signal(model: nn.Module, images: Images, labels: Int64[Tensor, " n"]) -> list[LayerSignal]:
    """Return signal and gradient of each convolution and linear layer on one batch, from the first to the last layer.

    The signal is the root mean square of the outputs minus their mean over the images: what the layer knows of the
    image. The gradient is that of the mean cross-entropy with respect to the weights, relative to the weights.

    Args:
        model: a classifier of images in [0, 1]; its gradients are replaced.
        images: (n, 3, h, w), pixel values in [0, 1].
        labels: class indices.
    """
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d | nn.Linear)}
    signals: dict[str, float] = {}

    def record(name: str) -> Any:
        def hook(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            signals[name] = _rms(output.detach() - output.detach().mean(dim=0))

        return hook

    handles = [layer.register_forward_hook(record(name)) for name, layer in layers.items()]
    try:
        model.zero_grad()
        F.cross_entropy(model(images), labels).backward()
    finally:
        for handle in handles:
            handle.remove()
    rows = []
    for name, signal in signals.items():
        weight = layers[name].weight
        assert isinstance(weight, nn.Parameter)
        assert weight.grad is not None
        gradient = _rms(weight.grad) / _rms(weight.detach())
        rows.append(LayerSignal(layer=name.removeprefix("network."), signal=signal, gradient=gradient))
    return rows


def _rms(values: Tensor) -> float:
    return float(values.square().mean().sqrt())
