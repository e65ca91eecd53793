"""`torch.func`'s transforms of our convolution: batches, Jacobians, forward mode."""

import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

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


@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node")  # PyTorch's own, in `linearize`
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


@pytest.mark.parametrize("batched", ["input", "weight", "bias", "no sample"])
@pytest.mark.parametrize("geometry", [{"stride": (1, 1)}, {"padding": [1, 1]}, {"stride": (1, (2,))}], ids=str)
def test_a_pair_in_place_of_a_number_is_refused_under_vmap_as_without(batched, geometry):
    arguments = dict(zip(("input", "weight", "bias"), leaves(), strict=True))
    with pytest.raises(LabError) as expected:
        conv2d(**arguments, **geometry)
    name = "input" if batched == "no sample" else batched
    batch = torch.stack([arguments[name]] * 2)[: 0 if batched == "no sample" else 2]
    with pytest.raises(LabError) as caught:
        torch.func.vmap(lambda part: conv2d(**{**arguments, name: part}, **geometry))(batch)
    assert str(caught.value) == str(expected.value)


def test_convolutions_of_fake_and_real_tensors_do_not_affect_each_other():
    input, weight = torch.randn(1, 64, 9, 9), torch.randn(64, 64, 3, 3)
    for _ in range(2):
        with FakeTensorMode():
            assert conv2d(torch.empty(1, 64, 9, 9), torch.empty(64, 64, 3, 3), padding=1).shape == input.shape
        torch.testing.assert_close(
            conv2d(input, weight, padding=1), F.conv2d(input, weight, padding=1), rtol=0, atol=2e-3
        )
