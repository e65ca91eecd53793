"""SimpleNet, the handout's network: convolutions, ReLU, max pooling and a linear layer, without normalization.

There are two variants: spring 2019 (1,368,676 parameters for 100 classes), and fall 2019 and later (365,028).
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

ConvOp = Callable[..., nn.Module]
Factory = Callable[..., nn.Module]  # called with num_classes=…


def _conv(conv_op: ConvOp, *args: Any, **kwargs: Any) -> list[nn.Module]:
    return [conv_op(*args, **kwargs), nn.ReLU(inplace=True)]


def _pool() -> nn.Module:
    return nn.MaxPool2d(kernel_size=3, stride=2, padding=1)


def _stem(conv_op: ConvOp) -> list[nn.Module]:
    stem = _conv(conv_op, 3, 64, kernel_size=7, stride=2, padding=3)
    return [*stem, _pool(), *_bottleneck(conv_op, 64, 64, 256), _pool()]


def _bottleneck(conv_op: ConvOp, wide: int, narrow: int, out: int) -> list[nn.Module]:
    return [
        *_conv(conv_op, wide, narrow, kernel_size=1),
        *_conv(conv_op, narrow, narrow, kernel_size=3, padding=1),
        *_conv(conv_op, narrow, out, kernel_size=1),
    ]


class _PooledNet(nn.Module):
    """Base class of networks: convolutional features, global average pooling and a linear layer."""

    def __init__(self, features: list[nn.Module], width: int, num_classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*features)
        self.avgpool = nn.AdaptiveAvgPool2d((1, 1))
        self.fc = nn.Linear(width, num_classes)

    def forward(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n k"]:
        """Return N×num_classes logits of N×3×H×W normalized images."""
        return self.fc(self.avgpool(self.features(images)).flatten(1))


class SimpleNet(_PooledNet):
    """SimpleNet of the handout of spring 2019, for normalized images of at least 16×16 pixels."""

    def __init__(self, conv_op: ConvOp = nn.Conv2d, num_classes: int = 100) -> None:
        features = [
            *_stem(conv_op),
            *_bottleneck(conv_op, 256, 64, 256),
            _pool(),
            *_conv(conv_op, 256, 512, kernel_size=3, padding=1),
        ]
        super().__init__(features, 512, num_classes)


class SimpleNetSmall(_PooledNet):
    """SimpleNet of the handouts of fall 2019 and later."""

    def __init__(self, conv_op: ConvOp = nn.Conv2d, num_classes: int = 100) -> None:
        super().__init__([*_stem(conv_op), *_bottleneck(conv_op, 256, 128, 512)], 512, num_classes)
