"""Our convolution: values by hand, errors, dtypes and layouts; it replaces PyTorch's own everywhere."""

import copy
import math
import pickle
import re
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.autograd import gradcheck, gradgradcheck
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode

from scenelab.conv import dispatch
from scenelab.conv.conv2d import Conv2d, Conv2dFunction, conv2d
from scenelab.conv.reference import conv2d_reference
from scenelab.errors import LabError

CODE = Path(__file__).parents[2] / "code"
DTYPES = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
CHANNELS_LAST = torch.channels_last


@pytest.fixture
def student(monkeypatch):
    """The module student_code of the front door."""
    monkeypatch.syspath_prepend(CODE)
    import student_code

    yield student_code
    del sys.modules["student_code"]


def leaves(dtype=torch.float64, images: int = 2, height: int = 6, width: int = 7, kernel: int = 3) -> list[Tensor]:
    """Input, weight and bias that require gradients."""
    dice = Generator().manual_seed(0)
    shapes = (images, 3, height, width), (4, 3, kernel, kernel), (4,)
    return [torch.randn(shape, generator=dice).to(dtype).requires_grad_() for shape in shapes]


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def test_by_hand():
    image = torch.tensor([[[[1.0, 2.0, 4.0], [8.0, 16.0, 32.0]]]], requires_grad=True)
    weight = torch.tensor([[[[1.0, 10.0], [100.0, 1000.0]]]], requires_grad=True)
    bias = torch.tensor([0.5], requires_grad=True)
    output = conv2d(image, weight, bias)
    assert output.tolist() == [[[[16821.5, 33642.5]]]]
    output.backward(torch.tensor([[[[1.0, 2.0]]]]))
    assert image.grad.tolist() == [[[[1.0, 12.0, 20.0], [100.0, 1200.0, 2000.0]]]]
    assert weight.grad.tolist() == [[[[5.0, 10.0], [40.0, 80.0]]]]
    assert bias.grad.tolist() == [3.0]
    assert Conv2dFunction.apply(image, weight, bias).equal(conv2d(image, weight, bias, 1, 0, 1, 1))
    image, weight = torch.tensor([[[[1.0, 2.0, 3.0]]]]), torch.tensor([[[[1.0] * 3, [10.0] * 3, [100.0] * 3]]])
    assert conv2d(image, weight, padding=1).tolist() == [[[[30.0, 60.0, 50.0]]]]
    assert conv2d(image, weight, stride=2, padding=1).tolist() == [[[[30.0, 50.0]]]]
    assert conv2d(image, weight, stride=2, padding=2).tolist() == [[[[100.0, 600.0, 300.0], [1.0, 6.0, 3.0]]]]


INPUT, WEIGHT, BIAS = torch.zeros(2, 3, 5, 6), torch.zeros(4, 3, 3, 3), torch.zeros(4)
NESTED = torch.nested.nested_tensor([*INPUT], layout=torch.jagged)
GOOD = {"input": INPUT, "weight": WEIGHT, "bias": BIAS, "stride": 1, "padding": 0}
FOUR = "must be a tensor of 4 dimensions"
SQUARE = "must have a square kernel (Co×Ci×K×K), got shape"
SMALL = "must be at least as large as the 3×3 kernel after padding, got"
FIX = "increase padding or use a smaller kernel"
FLOATS = "torch.float64, torch.float32, torch.bfloat16, torch.float16"
BIASES = "must have shape (4,), one value per output channel, got"
BIAS_DTYPE = "convert it with bias.to(weight.dtype)"
DENSE = "must be a dense tensor (torch.strided), got"
DTYPE, DEVICE = "convert it with weight.to(input.dtype)", "convert it with weight.to(input.device)"
WRONG = {
    "input": [
        (INPUT[0], f"{FOUR} (N×C×H×W), got shape (3, 5, 6); add the batch with input.unsqueeze(0)"),
        (INPUT[0, 0], f"{FOUR} (N×C×H×W), got shape (5, 6)"),
        ([1.0], f"{FOUR} (N×C×H×W), got list"),
        (INPUT.int(), f"must be one of {FLOATS}, got torch.int32; convert it with input.float()"),
        (INPUT[:, :2], "must have 3 channels for a weight of shape (4, 3, 3, 3), got shape (2, 2, 5, 6)"),
        (INPUT[:, :, :2], f"{SMALL} 2×6 pixels and padding 0; {FIX}"),
        (INPUT[..., :0], f"{SMALL} 5×0 pixels and padding 0; {FIX}"),
        (INPUT.to_sparse(), f"{DENSE} torch.sparse_coo; convert it with input.to_dense()"),
        (INPUT.to_mkldnn(), f"{DENSE} torch._mkldnn; convert it with input.to_dense()"),
        (NESTED, f"{DENSE} nested; convert it with torch.stack(input.unbind())"),
    ],
    "weight": [
        (WEIGHT[0], f"{FOUR} (Co×Ci×K×K), got shape (3, 3, 3); add the batch with weight.unsqueeze(0)"),
        (None, f"{FOUR} (Co×Ci×K×K), got NoneType"),
        (WEIGHT[..., :2], f"{SQUARE} (4, 3, 3, 2)"),
        (WEIGHT[..., :0, :0], f"{SQUARE} (4, 3, 0, 0)"),
        (WEIGHT.double(), f"must have the dtype of input, torch.float32, got torch.float64; {DTYPE}"),
        (WEIGHT.to_sparse(), f"{DENSE} torch.sparse_coo; convert it with weight.to_dense()"),
        (WEIGHT.to("meta"), f"must have the device of input, cpu, got meta; {DEVICE}"),
    ],
    "bias": [
        (BIAS[1:], f"{BIASES} shape (3,)"),
        (1.0, f"{BIASES} float"),
        (BIAS.to_sparse(), f"{DENSE} torch.sparse_coo; convert it with bias.to_dense()"),
        (NESTED, f"{BIASES} NestedTensor"),
        (BIAS.half(), f"must have the dtype of weight, torch.float32, got torch.float16; {BIAS_DTYPE}"),
    ],
    "stride": [(value, f"must be an int of at least 1, got {value}") for value in (0, -2, (1, 1))],
    "padding": [(value, f"must be an int of at least 0, got {value!r}") for value in (-1, "same", 1.0, True)],
}


@pytest.mark.parametrize(
    ("argument", "value", "message"), [(name, *case) for name, cases in WRONG.items() for case in cases]
)
def test_errors_name_the_argument_and_its_value(argument, value, message, student):
    arguments = {**GOOD, argument: value}
    for convolution in (conv2d, lambda *positional: student.custom_conv2d(*positional)):
        with pytest.raises(LabError) as caught:
            convolution(*arguments.values())
        assert str(caught.value) == f"conv2d: {argument} {message}"


@pytest.mark.parametrize("name", ["dilation", "groups"])
def test_dilation_and_groups_are_refused(name, student):
    for make in (partial(conv2d, INPUT, WEIGHT), partial(Conv2d, 3, 4, 3), partial(student.CustomConv2d, 3, 4, 3)):
        make(**{name: 1})
        with pytest.raises(LabError, match=f"^conv2d: {name} must be 1, got 2; torch.nn.Conv2d has {name}$"):
            make(**{name: 2})


def test_a_module_checks_its_numbers():
    good = {"in_channels": 3, "out_channels": 4, "kernel_size": 3}
    wrong = {"in_channels": 0, "out_channels": -1, "kernel_size": (3, 3), "stride": 0, "padding": "same"}
    for name, value in wrong.items():
        message = f"conv2d: {name} must be an int of at least {int(name != 'padding')}, got {value!r}"
        with pytest.raises(LabError, match=f"^{re.escape(message)}$"):
            Conv2d(**good | {name: value})


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES.items(), ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_every_dtype_is_kept_and_near_the_reference(dtype, tolerance, stride):
    arguments = leaves(dtype)
    output = conv2d(*arguments, stride, 1)
    assert output.dtype == dtype
    exact = conv2d_reference(*arguments, stride, 1)
    torch.testing.assert_close(output.double(), exact, rtol=tolerance, atol=tolerance * 4)
    exact_leaves = [leaf.detach().double().requires_grad_() for leaf in arguments]
    towards = torch.randn(output.shape, generator=Generator().manual_seed(1)).to(dtype)
    gradients = torch.autograd.grad(output, arguments, towards)
    expected = torch.autograd.grad(F.conv2d(*exact_leaves, stride, 1), exact_leaves, towards.double())
    for gradient, precise in zip(gradients, expected, strict=True):
        assert gradient.dtype == dtype
        torch.testing.assert_close(gradient.double(), precise, rtol=tolerance, atol=tolerance * 10)


@pytest.mark.parametrize("input_last", [False, True])
@pytest.mark.parametrize("weight_last", [False, True])
@pytest.mark.parametrize(("channels", "height", "width", "kernel"), [(3, 6, 7, 3), (3, 6, 7, 1), (1, 6, 7, 3)])
def test_layout_is_pytorchs(input_last, weight_last, channels, height, width, kernel):
    input, weight = torch.rand(2, channels, height, width), torch.rand(4, channels, kernel, kernel)
    input = (input.to(memory_format=CHANNELS_LAST) if input_last else input).requires_grad_()
    weight = (weight.to(memory_format=CHANNELS_LAST) if weight_last else weight).requires_grad_()
    strides = []
    for convolution in (conv2d, F.conv2d):
        output = convolution(input, weight)
        (to_input,) = torch.autograd.grad(output, input, torch.ones_like(output))
        strides.append((output.stride(), to_input.stride()))
    assert strides[0] == strides[1]


@pytest.mark.parametrize("kernel", [1, 3])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, CHANNELS_LAST])
def test_output_is_no_view_and_a_relu_in_place_works(kernel, bias, memory_format, student):
    input, weight, offset = leaves(kernel=kernel)
    image = input.detach().clone(memory_format=memory_format)
    before, learned = image.clone(), (weight, offset) if bias else (weight,)
    for convolution in (conv2d, student.custom_conv2d):
        output = convolution(image, weight, offset if bias else None)
        assert not output._is_view()
        assert storage(output) != storage(image)
        ours = torch.autograd.grad(F.relu(output, inplace=True).square().sum(), learned)
        native = torch.autograd.grad(F.relu(F.conv2d(image, *learned)).square().sum(), learned)
        torch.testing.assert_close(ours, native)
        assert image.equal(before)


@pytest.mark.parametrize("needed", [(i, w, b) for i in (0, 1) for w in (0, 1) for b in (0, 1)], ids=str)
def test_only_needed_gradients_are_computed_and_saved(needed, monkeypatch, student):
    called, saved = [], []
    for name in ("grad_input", "grad_weight"):
        kernel = getattr(dispatch, name)
        monkeypatch.setattr(dispatch, name, lambda *a, name=name, kernel=kernel: (called.append(name), kernel(*a))[1])
    arguments = [leaf.detach().requires_grad_(bool(need)) for leaf, need in zip(leaves(), needed, strict=True)]
    expected = [leaf.detach().clone().requires_grad_(leaf.requires_grad) for leaf in arguments]
    for convolution in (conv2d, student.custom_conv2d):
        called.clear()
        saved.clear()
        with saved_tensors_hooks(lambda tensor: (saved.append(tensor), tensor)[1], lambda tensor: tensor):
            output = convolution(*arguments, 1, 1)
        assert output.requires_grad == any(needed)
        input, weight, _ = arguments
        factors = [leaf for leaf, need in ((input, needed[1]), (weight, needed[0])) if need]
        assert list(map(storage, saved)) == list(map(storage, factors))
        if not any(needed):
            continue
        output.square().sum().backward()
        F.conv2d(*expected, 1, 1).square().sum().backward()
        assert called == [n for n, need in zip(("grad_input", "grad_weight"), needed, strict=False) if need]
        for mine, theirs in zip(arguments, expected, strict=True):
            torch.testing.assert_close(mine.grad, theirs.grad)  # None where not needed
            mine.grad = theirs.grad = None


CONVOLUTIONS = re.compile(r"conv(?!ert)|mkldnn|thnn|cudnn|miopen|nnpack|xnnpack|fused")


class Operators(TorchDispatchMode):
    """Record the name of every operator that reaches the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def operators(convolution, dtype, memory_format, kernel: int, stride: int, padding: int) -> list[str]:
    """Return the convolutions among the operators of a forward, a backward and a double backward pass."""
    input, weight, bias = leaves(dtype, kernel=kernel)
    input = input.detach().clone(memory_format=memory_format).requires_grad_()
    with Operators() as recorded:
        output = convolution(input, weight, bias, stride, padding)
        gradients = torch.autograd.grad(output.square().sum(), (input, weight, bias), create_graph=True)
        torch.autograd.grad(sum(gradient.square().sum() for gradient in gradients), (input, weight, bias))
    assert len(recorded.names) > 5
    return [name for name in recorded.names if CONVOLUTIONS.search(name)]


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (1, 2, 0), (3, 1, 1), (7, 2, 3)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, CHANNELS_LAST], ids=["nchw", "nhwc"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_no_convolution_is_called(dtype, memory_format, kernel, stride, padding, student):
    arguments = (dtype, memory_format, kernel, stride, padding)
    assert operators(conv2d, *arguments) == operators(student.custom_conv2d, *arguments) == []
    assert "aten::convolution" in operators(F.conv2d, *arguments)  # the pattern does match one


def test_differentiated_twice_in_the_handouts_style(student):
    arguments = leaves(images=1, height=3, width=4, kernel=2)
    for check in (gradcheck, gradgradcheck):
        assert check(lambda *a: student.custom_conv2d(*a, 2, 1), arguments)


def test_torch_func():
    arguments = tuple(leaf.detach() for leaf in leaves())

    def loss(convolution):
        return lambda *a: convolution(*a, 2, 1).square().sum()

    def penalty(convolution):  # a gradient inside a gradient
        return lambda *a: torch.func.grad(loss(convolution))(*a).square().sum()

    for scalar, argnums in ((loss, 0), (loss, 1), (loss, 2), (loss, (0, 1, 2)), (penalty, 0), (penalty, 1)):
        ours, native = (torch.func.grad(scalar(op), argnums=argnums)(*arguments) for op in (conv2d, F.conv2d))
        torch.testing.assert_close(ours, native, rtol=1e-9, atol=1e-9)


SPIKES = [
    *(
        (place, value)
        for place in ("input", "edge", "weight", "gradient", "its edge")
        for value in (math.nan, math.inf)
    ),
    ("input", 3e38),
    ("gradient", 3e38),
]


@pytest.mark.parametrize(("place", "value"), SPIKES)
@pytest.mark.parametrize("shape", [(64, 3, 1, 1), (64, 3, 1, 2), (8, 3, 1, 1), (8, 3, 2, 1), (8, 1, 1, 0)], ids=str)
def test_values_that_are_not_finite_reach_what_they_reach_in_pytorch(place, value, shape):
    channels, kernel, stride, padding = shape
    dice, (row, column) = Generator().manual_seed(0), (0, 0) if "edge" in place else (3, 2)
    input, weight = torch.randn(2, channels, 9, 9, generator=dice), torch.randn(channels, channels, kernel, kernel)
    if place in ("input", "edge"):
        input[0, 3, row, column] = value
    if place == "weight":
        weight[2, 3, 0, 0] = value
    masks = []
    for convolution in (conv2d, F.conv2d):
        leaves = [input.clone().requires_grad_(), 0.05 * weight.requires_grad_()]
        output = convolution(*leaves, None, stride, padding)
        towards = torch.randn(output.shape, generator=Generator().manual_seed(1))
        if "gradient" in place or "its" in place:
            towards[0, 3, row, column] = value
        to_input, to_weight = torch.autograd.grad(output, leaves, towards)
        # A product of 3e38 and a gradient overflows, or not, with the order of a sum.
        results = [output, to_input] if value == 3e38 else [output, to_input, to_weight]
        masks.append([result.isfinite() for result in results])
    assert all(ours.equal(native) for ours, native in zip(*masks, strict=True))


def test_without_a_check_as_on_gpus_winograd_spreads_a_nan_over_its_tile_at_most(monkeypatch):
    monkeypatch.setattr(dispatch, "_is_finite", lambda values: True)
    input, weight = torch.ones(2, 64, 12, 12), torch.ones(64, 64, 3, 3)
    input[0, 3, 5, 6] = math.nan
    tile = torch.zeros(2, 64, 12, 12, dtype=torch.bool)
    tile[0, :, 4:8, 4:8] = True
    assert conv2d(input, weight, None, 1, 1).isnan().equal(tile)


def test_autocast_as_pytorchs(student):
    torch.manual_seed(0)
    native = nn.Conv2d(3, 4, 3, padding=1)
    results = []
    for module in (native, Conv2d(3, 4, 3, padding=1), student.CustomConv2d(3, 4, 3, padding=1)):
        module.load_state_dict(native.state_dict())
        images = leaves(torch.float32)[0]
        with torch.autocast("cpu", torch.bfloat16):
            output = module(images)
            again = module(output[:, :3].relu())
        again.float().square().sum().backward()
        results.append((output, again, images.grad, module.weight.grad, module.bias.grad))
    expected, *others = results
    assert [tensor.dtype for tensor in expected] == [torch.bfloat16] * 2 + [torch.float32] * 3
    for ours in others:
        for mine, theirs in zip(ours, expected, strict=True):
            assert mine.dtype == theirs.dtype
            torch.testing.assert_close(mine, theirs, rtol=3e-2, atol=0.03 * theirs.abs().max().item())


def test_autocast_leaves_float64_and_a_backward_pass_alone():
    arguments, doubles = leaves(torch.float32), leaves()
    towards = torch.randn(2, 4, 6, 7, generator=Generator().manual_seed(1))
    output, options = conv2d(*arguments, 1, 1), {"retain_graph": True, "create_graph": True}
    expected = torch.autograd.grad(output, arguments, towards, **options)
    expected += torch.autograd.grad(expected[0].square().sum(), arguments[1], retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        gradients = torch.autograd.grad(output, arguments, towards, **options)
        gradients += torch.autograd.grad(gradients[0].square().sum(), arguments[1])
        assert conv2d(*doubles).dtype == torch.float64
        with pytest.raises(LabError, match="weight must have the dtype of input"):
            conv2d(doubles[0], arguments[1])
    assert all(mine.equal(theirs) for mine, theirs in zip(gradients, expected, strict=True))


@pytest.mark.parametrize("arguments", [(3, 4, 3), (1, 2, 1, 2), (5, 3, 4, 3, 2), (2, 2, 3, 1, 1, 1, 1, False)], ids=str)
def test_the_module_is_nn_conv2d(arguments, student):
    torch.manual_seed(7)
    native = nn.Conv2d(*arguments)
    behind = torch.rand(3)
    for kind in (Conv2d, student.CustomConv2d):
        torch.manual_seed(7)
        module = kind(*arguments)
        assert torch.rand(3).equal(behind)  # the generator has gone as far
        assert module.state_dict().keys() == native.state_dict().keys()
        for name, value in native.state_dict().items():
            assert module.state_dict()[name].equal(value)
        assert module.extra_repr() == native.extra_repr()
        assert repr(module).partition("(")[2] == repr(native).partition("(")[2]
        for name in "in_channels out_channels kernel_size stride padding dilation groups".split():
            assert getattr(module, name) == getattr(native, name)
        images = torch.rand(2, arguments[0], 9, 8)
        torch.testing.assert_close(module(images), native(images))
        module.reset_parameters()
        twin = nn.Conv2d(*arguments)
        twin.load_state_dict(module.state_dict())
        torch.testing.assert_close(module(images), twin(images))
        module.load_state_dict(native.state_dict())


def test_a_module_is_copied_and_pickled_and_needs_no_data():
    module, images = Conv2d(3, 4, 3, stride=2, padding=1), torch.rand(2, 3, 6, 5)
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert twin(images).equal(module(images))
        assert twin.weight is not module.weight
        twin(images).sum().backward()
        assert twin.weight.grad is not None
        assert module.weight.grad is None
    output = module.to("meta")(torch.empty(2, 3, 9, 8, device="meta"))
    assert output.shape == (2, 4, 5, 4)
    assert output.is_meta
