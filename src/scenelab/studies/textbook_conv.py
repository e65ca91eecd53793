"""Textbook convolution, a baseline of `scenelab bench conv`: unfolds all windows and saves them for backward."""

from typing import Any

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import Function


class TextbookConv2dFunction(Function):
    """Convolution as Y = W · unfold(X) + b, one matrix product per image."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
        """Return the convolution of `images` with `weight`, plus `bias`, of shape N×Co×Ho×Wo."""
        kernel = weight.shape[2:]
        windows = F.unfold(images, kernel, padding=padding, stride=stride)  # n, c·k·k, l
        ctx.save_for_backward(windows, weight)
        ctx.image_size, ctx.stride, ctx.padding = images.shape[2:], stride, padding
        sides = zip(ctx.image_size, kernel, strict=True)
        height, width = ((side + 2 * padding - size) // stride + 1 for side, size in sides)
        output = (weight.flatten(1) @ windows).view(len(images), len(weight), height, width)
        # Not a view, because an in-place ReLU follows.
        return output.clone() if bias is None else output + bias.view(-1, 1, 1)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients with respect to images, weight and bias (None if not needed), and two None."""
        windows, weight = ctx.saved_tensors
        grad = grads[0].flatten(2)  # n, o, l
        grad_images = grad_weight = grad_bias = None
        if ctx.needs_input_grad[0]:
            grad_windows = weight.flatten(1).T @ grad  # n, c·k·k, l
            grad_images = F.fold(grad_windows, ctx.image_size, weight.shape[2:], padding=ctx.padding, stride=ctx.stride)
        if ctx.needs_input_grad[1]:
            grad_weight = (grad @ windows.transpose(1, 2)).sum(0).view_as(weight)
        if ctx.needs_input_grad[2]:
            grad_bias = grad.sum((0, 2))
        return grad_images, grad_weight, grad_bias, None, None


class TextbookConv2d(nn.Conv2d):
    """Replacement for `nn.Conv2d` with equal strides and equal padding on both axes, without dilation or groups."""

    def forward(self, input: Float[Tensor, "n c h w"]) -> Float[Tensor, "n o p q"]:
        """Return the convolution of `input`, of shape N×Co×Ho×Wo."""
        stride, padding = self.stride[0], self.padding[0]
        return TextbookConv2dFunction.apply(input, self.weight, self.bias, stride, padding)
