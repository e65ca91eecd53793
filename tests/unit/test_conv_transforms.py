"""`torch.func`'s transforms of our convolution: batches, Jacobians, forward mode."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from scenelab.conv import conv2d
from scenelab.errors import LabError


def leaves(images: int = 2, height: int = 6, width: int = 7, kernel: int = 3) -> list[Tensor]:
    """Input, weight and bias."""
    dice = Generator().manual_seed(0)
    shapes = (images, 3, height, width), (4, 3, kernel, kernel), (4,)
    return [torch.randn(shape, generator=dice, dtype=torch.float64) for shape in shapes]


BATCHES = [
    dims for dims in itertools.product((None, 0, 2), (None, 0, 3), (None, 1)) if any(d is not None for d in dims)
]


@pytest.mark.parametrize("dims", BATCHES, ids=str)
def test_vmap_over_any_argument_and_its_gradients_per_sample(dims):
    batch = [torch.stack([leaf * factor for factor in (1, -2, 0.5)]) for leaf in leaves()]
    arguments = [b[1] if dim is None else b.movedim(0, dim) for b, dim in zip(batch, dims, strict=True)]

    def transforms(convolution):
        outputs = torch.func.vmap(lambda *a: convolution(*a, 2, 1), in_dims=dims)
        slopes = torch.func.grad(lambda *a: convolution(*a, 2, 1).sin().sum(), argnums=(0, 1, 2))
        return outputs(*arguments), torch.func.vmap(slopes, in_dims=dims)(*arguments)

    torch.testing.assert_close(transforms(conv2d), transforms(F.conv2d))


TRANSFORMS = {
    "jacrev": lambda f, x, w: torch.func.jacrev(f, argnums=(0, 1))(x, w),
    "jacfwd": lambda f, x, w: torch.func.jacfwd(f, argnums=(0, 1))(x, w),
    "hessian": lambda f, x, w: torch.func.hessian(lambda *a: f(*a).sum(), argnums=(0, 1))(x, w),
    "jacrev of jacfwd": lambda f, x, w: torch.func.jacrev(torch.func.jacfwd(lambda a: f(a, w).sum()))(x),
    "jvp": lambda f, x, w: torch.func.jvp(f, (x, w), (x.cos(), w.cos())),
    "jvp per sample": lambda f, x, w: torch.func.vmap(lambda v: torch.func.jvp(lambda a: f(a, w), (x,), (v,)))(
        torch.stack([x, x.cos()])
    ),
    "linearize": lambda f, x, w: torch.func.linearize(f, x, w)[1](x.cos(), w.cos()),
    "nested vmap": lambda f, x, w: torch.func.vmap(torch.func.vmap(f, in_dims=(None, 0)), in_dims=(0, None))(
        torch.stack([x, x.cos()]), torch.stack([w, w.cos()])
    ),
    "chunks": lambda f, x, w: torch.func.vmap(f, in_dims=(0, None), chunk_size=2)(torch.stack([x] * 3), w),
    "no sample": lambda f, x, w: torch.func.vmap(lambda a, b: f(a, b).flatten(), in_dims=(0, None))(x[None][:0], w),
    "batched gradients": lambda f, x, w: torch.autograd.functional.hessian(
        lambda a: f(a, w).sum(), x, vectorize=True, outer_jacobian_strategy="forward-mode"
    ),
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated", "ignore:Attempted to insert a get_attr Node")
# Both warnings are PyTorch's own, in forward mode and in `linearize`.
@pytest.mark.parametrize("name", TRANSFORMS)
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 1, 0)])
def test_function_transforms_are_those_of_pytorchs_convolution(name, kernel, stride, padding):
    input, weight, _ = leaves(images=1, height=4, width=5, kernel=kernel)
    ours, native = (
        TRANSFORMS[name](lambda x, w, op=op: op(x.sin(), w, None, stride, padding).sin().sum((0, 2)), input, weight)
        for op in (conv2d, F.conv2d)
    )
    torch.testing.assert_close(ours, native)


def test_errors_under_vmap_name_the_shapes_of_one_sample_and_nested_forward_mode_is_refused():
    input, weight, bias = leaves()
    with pytest.raises(LabError, match=r"^conv2d: bias must have shape \(4,\), .*, got shape \(2,\)$"):
        torch.func.vmap(lambda b: conv2d(input, weight, b))(torch.zeros(3, 2))
    with pytest.raises(LabError, match=r"forward mode inside forward mode .*; use jacfwd\(jacrev"):
        torch.func.jacfwd(torch.func.jacfwd(lambda b: conv2d(input, weight, b).sin().sum()))(bias)
