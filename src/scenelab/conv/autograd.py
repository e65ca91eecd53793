"""Convolution as an `autograd.Function` that supports gradients of any order.

Convolution is bilinear in input and weight, and both gradients are bilinear too. Three Functions are enough: Y from
(X, W), ∂X from (∂Y, W) and ∂W from (∂Y, X). The backward pass of each applies the other two. Each saves only its two
arguments, never the windows (im2col columns) of the input. Forward-mode derivatives use the product rule.
`scenelab.conv.batching` has the rules for `torch.func.vmap`.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from scenelab.conv import batching, checks, dispatch

Gradients = tuple[Tensor | None, ...]
Shape = tuple[int, int, int, int]


class Conv2dFunction(Function):
    """Differentiable convolution Y = X ⋆ W + b, called as `Conv2dFunction.apply(input, weight, bias, stride, padding)`.

    The arguments are as for `conv2d`.
    """

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, padding: int = 0) -> Tensor:
        """Return the N×Co×Ho×Wo output Y."""
        if batching.is_batched(input, weight, bias):
            return batching.call_vmap(Conv2dFunction, input, weight, bias, stride, padding)
        return convolve(input, weight, bias, stride, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        """Save input and weight (if needed), their shapes, stride and padding for `backward`."""
        input, weight, _, stride, padding = inputs
        save_context(ctx, input, weight, stride, padding)
        ctx.save_for_forward(input, weight)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> Gradients:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the gradients of input, weight and bias, and None for stride and padding."""
        return *gradients(ctx, grad_output), None, None

    @staticmethod
    def jvp(ctx: Any, input: Tensor | None, weight: Tensor | None, bias: Tensor | None, *_: None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Return the tangent dY = dX ⋆ W + X ⋆ dW + db of the output."""
        tangent = _product_rule(Conv2dFunction, ctx, input, weight, None, ctx.stride, ctx.padding)
        return _add_bias(tangent, bias)

    @staticmethod
    def vmap(info: Any, in_dims: batching.Dims, *arguments: Any) -> tuple[Tensor, int]:
        """Return the outputs of a batch of convolutions, and 0, the dimension in which they are stacked."""
        checks.check(*map(_autocast, batching.first_item(arguments, in_dims)))
        if in_dims[1:3] == (None, None):
            return batching.apply(Conv2dFunction, info, in_dims, arguments, axes=(0, 0)), 0
        input, weight, bias, *geometry = arguments
        output = batching.apply(Conv2dFunction, info, in_dims, (input, weight, None, *geometry), axes=(0, 0))
        if bias is None:
            return output, 0
        return _add_bias(output, bias if in_dims[2] is None else bias.movedim(in_dims[2], 0)[:, None]), 0


class _Gradient(Function):
    """Base class of the two gradient Functions; saves their tensors for backward and forward-mode derivatives."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        grad_output, factor, ctx.size, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(grad_output, factor)
        ctx.save_for_forward(grad_output, factor)


class _InputGradient(_Gradient):
    """Differentiable gradient of the input, ∂L/∂X, from ∂L/∂Y and W."""

    @staticmethod
    def forward(grad_output: Tensor, weight: Tensor, input_shape: Shape, stride: int, padding: int) -> Tensor:
        if batching.is_batched(grad_output, weight):
            return batching.call_vmap(_InputGradient, grad_output, weight, input_shape, stride, padding)
        with _autocast_off(grad_output):
            return dispatch.grad_input(grad_output, weight, input_shape, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad_output, weight), geometry = ctx.saved_tensors, (ctx.stride, ctx.padding)
        to_output = to_weight = None
        with _autocast_off(grad):
            if ctx.needs_input_grad[0]:
                to_output = Conv2dFunction.apply(grad, weight, None, *geometry)
            if ctx.needs_input_grad[1]:
                to_weight = _WeightGradient.apply(grad_output, grad, weight.shape[-1], *geometry)
        return to_output, to_weight, None, None, None

    @staticmethod
    def jvp(ctx: Any, grad_output: Tensor | None, weight: Tensor | None, *_: None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _product_rule(_InputGradient, ctx, grad_output, weight, ctx.size, ctx.stride, ctx.padding)

    @staticmethod
    def vmap(info: Any, in_dims: batching.Dims, *arguments: Any) -> tuple[Tensor, int]:
        return batching.apply(_InputGradient, info, in_dims, arguments, axes=(0, 1)), 0


class _WeightGradient(_Gradient):
    """Differentiable gradient of the weight, ∂L/∂W, from ∂L/∂Y and X."""

    @staticmethod
    def forward(grad_output: Tensor, input: Tensor, kernel_size: int, stride: int, padding: int) -> Tensor:
        if batching.is_batched(grad_output, input):
            return batching.call_vmap(_WeightGradient, grad_output, input, kernel_size, stride, padding)
        with _autocast_off(grad_output):
            return dispatch.grad_weight(grad_output, input, kernel_size, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Gradients:  # pyright: ignore[reportIncompatibleMethodOverride]
        (grad_output, input), geometry = ctx.saved_tensors, (ctx.stride, ctx.padding)
        to_output = to_input = None
        with _autocast_off(grad):
            if ctx.needs_input_grad[0]:
                to_output = Conv2dFunction.apply(input, grad, None, *geometry)
            if ctx.needs_input_grad[1]:
                to_input = _InputGradient.apply(grad_output, grad, tuple(input.shape), *geometry)
        return to_output, to_input, None, None, None

    @staticmethod
    def jvp(ctx: Any, grad_output: Tensor | None, input: Tensor | None, *_: None) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return _product_rule(_WeightGradient, ctx, grad_output, input, ctx.size, ctx.stride, ctx.padding)

    @staticmethod
    def vmap(info: Any, in_dims: batching.Dims, *arguments: Any) -> tuple[Tensor, int]:
        return batching.apply(_WeightGradient, info, in_dims, arguments, axes=(1, 1)), 0


def convolve(input: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """Check the arguments and return the convolution Y without an autograd graph, in autocast's dtype if enabled."""
    input, weight, bias = map(_autocast, (input, weight, bias))
    checks.check(input, weight, bias, stride, padding)
    with _autocast_off(input):
        return dispatch.forward(input, weight, bias, stride, padding)


def save_context(ctx: Any, input: Tensor, weight: Tensor, stride: int, padding: int) -> None:
    """Save what `gradients` needs: the input for the weight's gradient, the weight for the input's gradient."""
    needs_input, needs_weight = ctx.needs_input_grad[:2]
    ctx.save_for_backward(input if needs_weight else None, weight if needs_input else None)
    ctx.input_shape, ctx.kernel_size = tuple(input.shape), weight.shape[-1]
    ctx.stride, ctx.padding = stride, padding


def gradients(ctx: Any, grad_output: Float[Tensor, "n co ho wo"]) -> Gradients:
    """Return ∂L/∂X, ∂L/∂W and ∂L/∂b = Σ_n,h,w ∂L/∂Y, each None if not needed; the results are differentiable."""
    (input, weight), geometry = ctx.saved_tensors, (ctx.stride, ctx.padding)
    needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
    to_input = to_weight = to_bias = None
    with _autocast_off(grad_output):
        # Under autocast ∂L/∂Y has autocast's dtype; forward converted input and weight to it, but saved the originals.
        if needs_input:
            to_input = _InputGradient.apply(grad_output, weight.to(grad_output.dtype), ctx.input_shape, *geometry)
        if needs_weight:
            to_weight = _WeightGradient.apply(grad_output, input.to(grad_output.dtype), ctx.kernel_size, *geometry)
        if needs_bias:
            to_bias = grad_output.sum(dim=(0, 2, 3))
    return to_input, to_weight, to_bias


def _product_rule(function: type[Function], ctx: Any, left: Tensor | None, right: Tensor | None, *rest: Any) -> Any:
    """Return dL·R + L·dR for a bilinear Function, with saved L and R and tangents dL (`left`), dR (`right`) or None."""
    batching.check_forward_mode()
    first, second = ctx.saved_tensors
    terms = [] if left is None else [function.apply(left, second, *rest)]
    terms += [] if right is None else [function.apply(first, right, *rest)]
    return sum(terms[1:], terms[0]) if terms else None


def _add_bias(output: Tensor | None, bias: Tensor | None) -> Any:
    """Add one bias value per channel to outputs of shape …×Co×Ho×Wo; if either is None, return `output`."""
    if output is None or bias is None:
        return output
    return output + bias.to(output.dtype)[..., None, None]


def _is_autocast(tensor: Any) -> bool:
    device = tensor.device.type if isinstance(tensor, Tensor) else ""
    return bool(device) and torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)


def _autocast(tensor: Any) -> Any:
    """Convert a floating-point tensor, except float64, to autocast's dtype if autocast is on, as `F.conv2d` does."""
    if not _is_autocast(tensor) or not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(torch.get_autocast_dtype(tensor.device.type))


def _autocast_off(tensor: Tensor) -> AbstractContextManager:
    """Return a context without autocast, so that the kernels compute in the dtype of their arguments."""
    return torch.autocast(tensor.device.type, enabled=False) if _is_autocast(tensor) else nullcontext()
