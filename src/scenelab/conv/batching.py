"""Convolutions and gradients for a batch of arguments, under `torch.func.vmap` and `is_grads_batched=True`.

If one tensor is batched, its batch dimension is merged into its axis of images or channels, and one call computes all
results. If both tensors are batched, each pair is computed separately.
"""

from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch._C import _functorch  # pyright: ignore[reportAttributeAccessIssue]
from torch.autograd import Function

from scenelab.errors import LabError

Dims = tuple[Any, ...]
"""Batch dimension per argument, or None."""


def apply(function: type[Function], info: Any, in_dims: Dims, arguments: tuple, *, axes: tuple[int, int]) -> Tensor:
    """Return a Function's results for a batch, stacked in dimension 0; if no factor is batched, the single result.

    Args:
        function: Function of two 4D factors; if its third argument is a tuple, it is the result's shape.
        info: object with the attribute `batch_size`, from `torch.func.vmap`.
        in_dims: batch dimension of each argument, or None.
        arguments: the arguments of `function`.
        axes: axes that only one factor and the result have, and into which that factor's batch is folded: the axis of
            the first factor that is axis 0 of a single result, and the axis of the second factor that is its axis 1.
    """
    (*factors, size), rest, dims = arguments[:3], arguments[3:], in_dims[:2]
    if dims == (None, None):
        return function.apply(*factors, size, *rest)
    if None not in dims and info.batch_size:
        pairs = zip(*(factor.unbind(dim) for factor, dim in zip(factors, dims, strict=True)), strict=True)
        return torch.stack([function.apply(*pair, size, *rest) for pair in pairs])
    if None not in dims:  # an empty batch: its results depend on no value
        factors, dims = [factors[0], first_item(factors, dims)[1]], (dims[0], None)
    batched = 0 if dims[1] is None else 1
    axis = axes[batched]
    factor = factors[batched].movedim(dims[batched], axis)
    factors[batched] = factor.flatten(axis, axis + 1)
    if isinstance(size, tuple):
        size = tuple(side * info.batch_size if place == batched else side for place, side in enumerate(size))
    result = function.apply(*factors, size, *rest)
    return result.unflatten(batched, (info.batch_size, factor.shape[axis + 1])).movedim(batched, 0)


def first_item(arguments: Any, in_dims: Dims) -> list[Any]:
    """Return the arguments of the first batch item or, if the batch is empty, zeros of the same shapes."""
    # The dimensions of a tuple are a tuple; only tensors have a batch.
    dims = (dim if isinstance(value, Tensor) else None for value, dim in zip(arguments, in_dims, strict=True))
    pairs = list(zip(arguments, dims, strict=True))
    if all(dim is None or value.shape[dim] for value, dim in pairs):
        return [value if dim is None else value.select(dim, 0) for value, dim in pairs]
    return [value if dim is None else value.new_zeros(value.movedim(dim, 0).shape[1:]) for value, dim in pairs]


def is_batched(*values: Tensor | None) -> bool:
    """Return whether any tensor has the hidden batch dimension of `torch.autograd.grad(…, is_grads_batched=True)`.

    PyTorch passes such tensors, also used for vectorized Jacobians, to `forward` and does not call `vmap`.
    """
    if torch.compiler.is_compiling():
        return False
    return any(isinstance(value, Tensor) and _functorch.is_legacy_batchedtensor(value) for value in values)


def call_vmap(function: Any, *arguments: Any) -> Any:
    """Return the result of `function.vmap` for arguments with hidden batch dimensions (see `is_batched`)."""
    dims = tuple(0 if is_batched(value) else None for value in arguments)
    level, batch = 1, 1  # torch ignores the size where a tensor has a batch
    private: Any = torch
    plain = [
        value if dim is None else private._remove_batch_dim(value, level, batch, 0)
        for value, dim in zip(arguments, dims, strict=True)
    ]
    size = next(len(value) for value, dim in zip(plain, dims, strict=True) if dim == 0)
    result, dim = function.vmap(SimpleNamespace(batch_size=size), dims, *plain)
    return private._add_batch_dim(result.movedim(dim, 0).contiguous(), 0, level)


def check_forward_mode() -> None:
    """Raise LabError in nested forward-mode AD, where PyTorch drops terms of a custom Function's derivative."""
    stack = _functorch.get_interpreter_stack() or []
    if sum(interpreter.key() == _functorch.TransformType.Jvp for interpreter in stack) > 1:
        raise LabError("conv2d: forward mode inside forward mode is not supported; use jacfwd(jacrev(…)) or hessian")
