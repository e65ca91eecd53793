"""Convolution as an `autograd.Function` that can be differentiated as often as one likes.

Convolution is bilinear in input and weight, so each of its gradients is bilinear too, and the gradients of those are
convolutions again. Three Functions close the circle; each calls one kernel forward and the other two backward:

    Conv2dFunction  (X, W)     Y  = X ⋆ W
    InputGradient   (∂Y, W)    ∂X = Conv2dFunctionᵀ in X, with W held
    WeightGradient  (∂Y, X)    ∂W = Conv2dFunctionᵀ in W, with X held

What is kept for backward is the input and the weight, never the windows of the input.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

from scenelab.conv import checks, dispatch

Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


class Conv2dFunction(Function):
    """Y = X ⋆ W + b; `Conv2dFunction.apply(input, weight, bias, stride=1, padding=0)`.

    Differentiable any number of times, also under `torch.func`. Arguments and errors as `scenelab.conv.conv2d.conv2d`.
    """

    @staticmethod
    def forward(input: Tensor, weight: Tensor, bias: Tensor | None, stride: int = 1, padding: int = 0) -> Tensor:
        return convolve(input, weight, bias, stride, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        input, weight, _, stride, padding = inputs
        remember(ctx, input, weight, stride, padding)

    @staticmethod
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return *gradients(ctx, grad_output), None, None


class InputGradient(Function):
    """∂L/∂X from ∂L/∂Y and W; both of them have gradients."""

    @staticmethod
    def forward(
        grad_output: Tensor, weight: Tensor, input_shape: tuple[int, int, int, int], stride: int, padding: int
    ) -> Tensor:
        with _autocast_off(grad_output):
            return dispatch.grad_input(grad_output, weight, input_shape, stride, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        grad_output, weight, _, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(grad_output, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad_output, weight = ctx.saved_tensors
        to_output = to_weight = None
        with _autocast_off(grad):
            if ctx.needs_input_grad[0]:
                to_output = Conv2dFunction.apply(grad, weight, None, ctx.stride, ctx.padding)
            if ctx.needs_input_grad[1]:
                to_weight = WeightGradient.apply(grad_output, grad, weight.shape[-1], ctx.stride, ctx.padding)
        return to_output, to_weight, None, None, None


class WeightGradient(Function):
    """∂L/∂W from ∂L/∂Y and X; both of them have gradients."""

    @staticmethod
    def forward(grad_output: Tensor, input: Tensor, kernel_size: int, stride: int, padding: int) -> Tensor:
        with _autocast_off(grad_output):
            return dispatch.grad_weight(grad_output, input, kernel_size, stride, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Tensor) -> None:
        grad_output, input, _, ctx.stride, ctx.padding = inputs
        ctx.save_for_backward(grad_output, input)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        grad_output, input = ctx.saved_tensors
        to_output = to_input = None
        with _autocast_off(grad):
            if ctx.needs_input_grad[0]:
                to_output = Conv2dFunction.apply(input, grad, None, ctx.stride, ctx.padding)
            if ctx.needs_input_grad[1]:
                to_input = InputGradient.apply(grad_output, grad, tuple(input.shape), ctx.stride, ctx.padding)
        return to_output, to_input, None, None, None


def convolve(input: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int) -> Tensor:
    """Check the arguments and compute Y, under autocast in its dtype; builds no graph of its own."""
    input, weight, bias = _autocast(input), _autocast(weight), _autocast(bias)
    checks.check(input, weight, bias, stride, padding)
    with _autocast_off(input):
        return dispatch.forward(input, weight, bias, stride, padding)


def remember(ctx: Any, input: Tensor, weight: Tensor, stride: int, padding: int) -> None:
    """Keep for `gradients` what it will need: the input for the weight's gradient, the weight for the input's."""
    needs_input, needs_weight = ctx.needs_input_grad[:2]
    ctx.save_for_backward(input if needs_weight else None, weight if needs_input else None)
    ctx.input_shape, ctx.kernel_size = tuple(input.shape), weight.shape[-1]
    ctx.stride, ctx.padding = stride, padding


def gradients(ctx: Any, grad_output: Float[Tensor, "n co ho wo"]) -> Gradients:
    """∂L/∂X, ∂L/∂W and ∂L/∂b = Σ_n,h,w ∂L/∂Y, each only where it is needed; they can be differentiated again."""
    input, weight = ctx.saved_tensors
    needs_input, needs_weight, needs_bias = ctx.needs_input_grad[:3]
    to_input = to_weight = to_bias = None
    with _autocast_off(grad_output):
        # Under autocast ∂L/∂Y comes in its dtype, and input and weight were converted on the way forward.
        if needs_input:
            weight = weight.to(grad_output.dtype)
            to_input = InputGradient.apply(grad_output, weight, ctx.input_shape, ctx.stride, ctx.padding)
        if needs_weight:
            input = input.to(grad_output.dtype)
            to_weight = WeightGradient.apply(grad_output, input, ctx.kernel_size, ctx.stride, ctx.padding)
        if needs_bias:
            to_bias = grad_output.sum(dim=(0, 2, 3))
    return to_input, to_weight, to_bias


def _autocasting(tensor: Any) -> bool:
    """Whether autocast is on for this tensor's device."""
    if not isinstance(tensor, Tensor):
        return False
    kind = tensor.device.type
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)


def _autocast(tensor: Any) -> Any:
    """The tensor in autocast's dtype, as autocast does for `F.conv2d`: any float but float64."""
    if not _autocasting(tensor) or not tensor.is_floating_point() or tensor.dtype == torch.float64:
        return tensor
    return tensor.to(torch.get_autocast_dtype(tensor.device.type))


def _autocast_off(tensor: Tensor) -> AbstractContextManager:
    """The kernels compute in the dtype that they are given, also where backward is called under autocast."""
    return torch.autocast(tensor.device.type, enabled=False) if _autocasting(tensor) else nullcontext()
