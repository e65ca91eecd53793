"""Faster inference and gradients with respect to images, by rewriting a network without changing its function."""

import copy
from itertools import pairwise
from typing import Any, TypeGuard

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from scenelab.models.normalize import Classifier

CHANNELS, BLOCK = 3, 16
"""Channels of an image, and the number of output channels that a convolution computes at once."""
MIN_KERNEL = 5  # smaller kernels are no faster
PACKAGES = ("scenelab.", "torch.nn.")  # of modules that use no values between the layers of an `nn.Sequential`
TOLERANCE = 1e-3  # relative difference of logits


def prepare_for_inference(model: Classifier, images: Float[Tensor, "n 3 h w"] | None = None) -> Classifier:
    """Return a faster copy of a model in eval mode, with equal logits up to rounding.

    In the copy, batch normalization is folded into the preceding convolutions, max pooling precedes ReLU, the gradient
    of a large strided convolution with respect to images is that of `StridedConv2d`, parameters do not require
    gradients, and weights are in channels_last format.

    A network with modules of other packages may use values between two layers, which this changes. It is rewritten only
    if its logits of some `images`, with values in [0, 1], stay the same.
    """
    plain = copy.deepcopy(model).eval()
    is_known = all(type(module).__module__.startswith(PACKAGES) for module in model.modules())
    ready = _rewrite(plain) if is_known or images is not None else plain
    if not is_known and images is not None and not _agree(plain, ready, images):
        ready = plain
    return ready.requires_grad_(False).to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


def _agree(first: Classifier, second: Classifier, images: Tensor) -> bool:
    with torch.no_grad():
        expected = first(images)
        try:
            return bool((second(images) - expected).norm() <= TOLERANCE * expected.norm())
        except Exception:  # of a student's forward pass, which may ask for the class of a layer
            return False


def _rewrite(model: Classifier) -> Classifier:
    ready = copy.deepcopy(model)
    for module in list(ready.modules()):
        if isinstance(module, nn.Sequential) and type(module).forward is nn.Sequential.forward:
            _fold(module)
            _pool_first(module)
            for name, layer in module._modules.items():
                if _is_strided_stem(layer):
                    module._modules[name] = StridedConv2d(layer)
    return ready


def _fold(sequence: nn.Sequential) -> None:
    """Fold each `nn.BatchNorm2d` into the `nn.Conv2d` directly before it; change the sequence in place."""
    names = list(sequence._modules)
    for name, following in pairwise(names):
        convolution, norm = sequence._modules[name], sequence._modules[following]
        if type(convolution) is nn.Conv2d and isinstance(norm, nn.BatchNorm2d) and norm.track_running_stats:
            sequence._modules[name] = fuse_conv_bn_eval(convolution, norm)
            sequence._modules[following] = nn.Identity()


def _pool_first(sequence: nn.Sequential) -> None:
    """Exchange each `nn.ReLU` with the `nn.MaxPool2d` directly after it; change the sequence in place.

    Both are monotone, so values and gradients stay the same, and ReLU has fewer values to process.
    """
    for name, following in pairwise(list(sequence._modules)):
        relu, pool = sequence._modules[name], sequence._modules[following]
        if type(relu) is nn.ReLU and type(pool) is nn.MaxPool2d and not pool.return_indices:
            sequence._modules[name], sequence._modules[following] = pool, relu


def _is_strided_stem(layer: nn.Module | None) -> TypeGuard[nn.Conv2d]:
    return (
        type(layer) is nn.Conv2d
        and layer.in_channels == CHANNELS
        and min(layer.kernel_size) >= MIN_KERNEL
        and (layer.stride, layer.dilation, layer.groups) == ((2, 2), (1, 1), 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


class StridedConv2d(nn.Conv2d):
    """Convolution of RGB images with stride 2, whose gradient with respect to the images is computed on 2×2 blocks.

    On blocks of 2×2 pixels, each one pixel of 12 channels, it is a convolution of stride 1, and its gradient is one,
    too; with the channels padded to 16, this takes half the time of PyTorch's (docs/performance.md). Weights that
    require gradients have PyTorch's.

    Args:
        convolution: the convolution to copy: stride 2, zero padding, no dilation or groups.
    """

    turned: Tensor

    def __init__(self, convolution: nn.Conv2d) -> None:
        out, channels, *kernel = convolution.weight.shape
        padding = [int(pad) for pad in convolution.padding]
        super().__init__(channels, out, tuple(kernel), stride=2, padding=tuple(padding), bias=False)  # pyright: ignore
        self.weight, self.bias = convolution.weight, convolution.bias
        (height, width), (top, left) = kernel, [pad % 2 for pad in padding]
        tall, wide = (height + top + 1) // 2, (width + left + 1) // 2  # in blocks
        weight = F.pad(self.weight.detach(), (left, 2 * wide - width - left, top, 2 * tall - height - top))
        weight = weight.unflatten(3, (wide, 2)).unflatten(2, (tall, 2)).permute(1, 3, 5, 0, 2, 4).flatten(0, 2)
        turned = F.pad(weight.flip(2, 3), (0, 0, 0, 0, 0, 0, 0, BLOCK - 4 * channels))
        self.register_buffer("turned", turned, persistent=False)

    def forward(self, input: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n d h2 w2"]:
        """Return the values of the convolution."""
        if self.weight.requires_grad:
            return super().forward(input)
        return _StridedConv2d.apply(input, self)  # pyright: ignore[reportReturnType]


class _StridedConv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, images: Tensor, layer: StridedConv2d) -> Tensor:
        ctx.layer, ctx.size = layer, images.shape[2:]
        return F.conv2d(images, layer.weight, layer.bias, layer.stride, layer.padding)

    @staticmethod
    def backward(ctx: Any, grads: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        turned, (height, width) = ctx.layer.turned.to(grads.dtype), ctx.size
        tall, wide = turned.shape[2:]
        blocks = F.conv2d(grads, turned, padding=(tall - 1, wide - 1))
        top, left = ((pad + 1) // 2 for pad in ctx.layer.padding)  # blocks of padding
        bottom, right = ((height + 1) // 2 + top - blocks.shape[2], (width + 1) // 2 + left - blocks.shape[3])
        blocks = F.pad(blocks[:, : 4 * CHANNELS], (-left, right, -top, bottom))
        return F.pixel_shuffle(blocks, 2)[:, :, :height, :width], None
