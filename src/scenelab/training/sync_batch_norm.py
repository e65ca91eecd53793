"""Batch normalization with statistics over all ranks, on any device and for uneven shards.

`torch.nn.SyncBatchNorm` supports GPUs only; `SyncBatchNorm2d` is its counterpart for CPUs.
"""

from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from scenelab.training.distributed import World


def convert_sync_batchnorm(module: nn.Module, world: "World") -> nn.Module:
    """Replace each `nn.BatchNorm2d` of a module with a synchronized layer and return the module.

    The new layers share parameters and buffers with the old ones under the same names, so optimizers and state dicts
    stay valid.
    """
    if type(module) is nn.BatchNorm2d:
        if module.weight.is_cuda:
            return nn.SyncBatchNorm.convert_sync_batchnorm(module)
        return SyncBatchNorm2d.from_batch_norm(module, world)
    for name, child in module.named_children():
        converted = convert_sync_batchnorm(child, world)
        if converted is not child:
            module.add_module(name, converted)
    return module


class SyncBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization on CPUs with mean and variance over all ranks (Ioffe & Szegedy 2015)."""

    def __init__(self, num_features: int, eps: float, momentum: float | None, *, world: "World") -> None:
        super().__init__(num_features, eps, momentum)
        self.world = world

    @classmethod
    def from_batch_norm(cls, norm: nn.BatchNorm2d, world: "World") -> "SyncBatchNorm2d":
        """Return a synchronized layer that shares its parameters and buffers with `norm`."""
        result = cls(norm.num_features, norm.eps, norm.momentum, world=world)
        result.weight, result.bias = norm.weight, norm.bias
        result.running_mean, result.running_var = norm.running_mean, norm.running_var
        result.num_batches_tracked = norm.num_batches_tracked
        return result.train(norm.training)

    def forward(self, input: Tensor) -> Tensor:
        """Return normalized features (n, c, h, w); n may be 0 on some ranks."""
        if not self.training:
            return super().forward(input)
        mean, variance, count = _statistics(input.detach(), self.weight.dtype, self.world)
        self._update_running_statistics(mean, variance, count)
        return _SyncNormalize.apply(input, self.weight, self.bias, mean, variance, count, self.eps, self.world)

    def _update_running_statistics(self, mean: Tensor, variance: Tensor, count: float) -> None:
        """Update the running statistics as `nn.BatchNorm2d` does, from the mean and the biased variance."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        rate = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, rate)
        self.running_var.lerp_(variance * (count / max(1.0, count - 1)), rate)


class _SyncNormalize(torch.autograd.Function):
    """Differentiable normalization x̂ = (x - μ)/√(σ² + ε), y = γx̂ + β, with μ and σ² over all ranks.

    With N values per channel over all ranks, and sums over these values (Ioffe & Szegedy 2015, section 3):

        ∂L/∂x = γ/√(σ² + ε) · (∂L/∂y - Σ∂L/∂y / N - x̂ · Σ(x̂ · ∂L/∂y) / N)

    torch's batch normalization kernels compute this gradient in two parts. The first term is the gradient for fixed
    statistics. The other two terms together are a normalization of x with a different scale and shift.
    """

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> Tensor:
        images, weight, bias, mean, variance, ctx.count, ctx.eps, ctx.world = inputs
        ctx.save_for_backward(images, weight, mean, variance)
        return _normalize(images, mean, variance, weight, bias, ctx.eps)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor | None, ...]:
        images, weight, mean, variance = ctx.saved_tensors
        grad, grad_weight, grad_bias = images.clone(), torch.zeros_like(weight), torch.zeros_like(weight)
        if len(images):
            grad, grad_weight, grad_bias = torch.ops.aten.native_batch_norm_backward(
                grad_outputs[0], images, weight, mean, variance, None, None, False, ctx.eps, [True, True, True]
            )
        sums = ctx.world.all_reduce_tensor(torch.stack([grad_weight, grad_bias]))
        scale, shift = sums * (weight * (variance + ctx.eps).rsqrt() / -ctx.count)
        grad += _normalize(images, mean, variance, scale, shift, ctx.eps)
        return grad, grad_weight, grad_bias, None, None, None, None, None


def _normalize(images: Tensor, mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    # torch's kernel divides by zero for an empty batch
    return F.batch_norm(images, mean, variance, weight, bias, eps=eps) if len(images) else images.clone()


def _statistics(images: Tensor, dtype: torch.dtype, world: "World") -> tuple[Tensor, Tensor, float]:
    """Return the mean and biased variance per channel over all ranks, and the number of values per channel.

    The sums are in float64, so that subtracting the squared mean does not lose precision.
    """
    positions = images.shape[0] * images.shape[2] * images.shape[3]
    local = torch.zeros(2, images.shape[1], dtype=dtype)
    if positions:
        local = torch.stack(torch.batch_norm_update_stats(images, local[0], local[1], 0.0))
    local = local.double()
    local[1] += local[0].square()
    total = world.all_reduce_tensor(torch.cat([local.flatten() * positions, local.new_tensor([positions])]))
    mean, square = (total[:-1] / total[-1]).view(2, -1)
    return mean.to(dtype), (square - mean.square()).clamp_min(0).to(dtype), float(total[-1])
