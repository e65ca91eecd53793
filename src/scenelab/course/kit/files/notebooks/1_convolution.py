# %% [markdown]
# # Part 1: your convolution, step by step
#
# Each cell calls `CustomConv2DFunction` in `code/student_code.py` and shows what it returns beside what it should
# return. Change your code, save the file, run the cell again. A cell says so if there is nothing to check yet.

# %%
import torch
import torch.nn.functional as F
from torch import nn

from show_steps import ResultError, check_shape, compare, require_shape, say, step, student

# %% [markdown]
# ## 1. The shape of the output
#
# Predict each shape with the formula of the handout before you run the cell. The third image is not square. In the
# last case the window does not fit a whole number of times.

# %%
with step():
    for size, filters, stride, padding, expected in [
        ((1, 1, 5, 5), (1, 1, 3, 3), 1, 0, (1, 1, 3, 3)),
        ((1, 1, 5, 5), (1, 1, 3, 3), 1, 1, (1, 1, 5, 5)),
        ((2, 3, 8, 6), (4, 3, 3, 3), 1, 0, (2, 4, 6, 4)),
        ((2, 3, 8, 6), (4, 3, 1, 1), 1, 0, (2, 4, 8, 6)),
        ((2, 3, 8, 6), (4, 3, 3, 3), 2, 1, (2, 4, 4, 3)),
    ]:
        output = student.custom_conv2d(torch.zeros(size), torch.zeros(filters), None, stride, padding)
        check_shape(f"image {size}, weight {filters}, stride {stride}, padding {padding}", output, expected)

# %% [markdown]
# ## 2. Numbers that you can compute by hand
#
# One channel, a 3×3 image, a 2×2 filter. Compute one value of the output on paper, then run the cell.

# %%
image = torch.arange(1.0, 10).view(1, 1, 3, 3)
weight = torch.tensor([[1.0, 0], [0, 2]]).view(1, 1, 2, 2)
beside = [("image", image[0, 0]), ("filter", weight[0, 0])]
with step():
    expected = torch.tensor([[11.0, 14], [20, 23]])
    compare("stride 1, no padding", expected, student.custom_conv2d(image, weight, None, 1, 0)[0, 0], beside=beside)
    expected = torch.tensor([[2.0, 6], [14, 23]])
    compare("stride 2, padding 1", expected, student.custom_conv2d(image, weight, None, 2, 1)[0, 0], beside=beside)

# %% [markdown]
# Two images, two channels in, two filters, a bias for each: every number of the second output channel below is 100
# more than the sum of two windows.

# %%
with step():
    channels = torch.stack([image[0], 10 * image[0]]).view(1, 2, 3, 3)
    pair = torch.stack([torch.cat([weight, 0 * weight], dim=1)[0], torch.cat([weight, weight], dim=1)[0]])
    output = student.custom_conv2d(torch.cat([0 * channels, channels]), pair, torch.tensor([0.0, 100]), 1, 0)
    check_shape("output", output, (2, 2, 2, 2))
    compare("second image, first filter", torch.tensor([[11.0, 14], [20, 23]]), output[1, 0])
    compare("second image, second filter", torch.tensor([[221.0, 254], [320, 353]]), output[1, 1])
    compare("first image (zeros), second filter", torch.full((2, 2), 100.0), output[0, 1])

# %% [markdown]
# ## 3. Many shapes, beside PyTorch

# %%
with step():
    torch.manual_seed(0)
    for size, filters, stride, padding in [
        ((2, 3, 12, 12), (8, 3, 7, 7), 2, 3),
        ((2, 3, 9, 14), (4, 3, 3, 3), 1, 1),
        ((1, 4, 8, 6), (5, 4, 1, 1), 1, 0),
        ((1, 2, 10, 7), (3, 2, 3, 3), 3, 0),
        ((1, 2, 6, 6), (3, 2, 2, 2), 1, 2),
    ]:
        for bias in (torch.randn(filters[0], dtype=torch.float64), None):
            tensors = torch.randn(size, dtype=torch.float64), torch.randn(filters, dtype=torch.float64), bias
            theirs = F.conv2d(*tensors, stride, padding)
            ours = student.custom_conv2d(*tensors, stride, padding)
            require_shape(f"image {size}, weight {filters}", ours, theirs.shape)
            worst = (ours - theirs).abs().max().item()
            end = f"{'no bias' if bias is None else 'bias'}: largest difference {worst:.1e}"
            say(worst < 1e-9, f"image {size}, weight {filters}, stride {stride}, padding {padding}, {end}")

# %% [markdown]
# ## 4. The gradients, beside finite differences
#
# Change one number by a little, and see how much $L = \sum G \cdot Y$ changes: this needs your `forward` alone.
# `backward` should give the same.
#
# $$\frac{\partial L}{\partial a} \approx \frac{L(a + h) - L(a - h)}{2h}$$
#
# **Predict.** Which pixels of the image have the largest gradient if all of $G$ and of the filter are 1?


# %%
def finite_differences(function, values, h=1e-4):
    """Return how much function() changes with each entry of values, which are changed in place and restored."""
    slopes = torch.zeros_like(values)
    with torch.no_grad():
        for place in range(values.numel()):
            entry, before = values.view(-1), values.view(-1)[place].item()
            entry[place] = before + h
            above = function()
            entry[place] = before - h
            slopes.view(-1)[place] = (above - function()) / (2 * h)
            entry[place] = before
    return slopes


def check_gradients(image, weight, bias, stride, padding, towards):
    """Draw the three gradients of a convolution with one channel in and out beside finite differences."""

    def loss():
        return (student.custom_conv2d(image, weight, bias, stride, padding) * towards).sum()

    slopes = [finite_differences(loss, values) for values in (image, weight, bias)]
    leaves = [values.requires_grad_() for values in (image, weight, bias)]
    gradients = torch.autograd.grad(loss(), leaves, allow_unused=True)
    for name, expected, got in zip(("of the image", "of the weight", "of the bias"), slopes, gradients):
        if got is None:
            raise ResultError(f"backward returned None for the gradient {name}")
        require_shape(f"gradient {name}", got, expected.shape)
        if expected.dim() == 4:
            compare(f"gradient {name}", expected[0, 0], got[0, 0], words=("finite differences", "your backward"))
        else:
            worst = (expected - got).abs().max().item()
            say(worst < 1e-5, f"gradient {name}: expected {expected.item():.4g}, got {got.item():.4g}")


with step():
    ones = torch.ones(1, 1, 3, 3, dtype=torch.float64)
    bias = torch.zeros(1, dtype=torch.float64)
    check_gradients(torch.arange(25, dtype=torch.float64).view(1, 1, 5, 5), ones, bias, 1, 0, ones)

# %% [markdown]
# Random numbers, stride 2 and padding 1: now every entry differs, and a transposed or shifted gradient shows.

# %%
with step():
    torch.manual_seed(1)
    shapes = [(1, 1, 5, 5), (1, 1, 3, 3), (1,), (1, 1, 3, 3)]
    tensors = [torch.randn(shape, dtype=torch.float64) for shape in shapes]
    check_gradients(*tensors[:3], 2, 1, tensors[3])

# %% [markdown]
# ## 5. In a network
#
# Behind each convolution of `SimpleNet` stands a ReLU that overwrites its input. That works only if your output is a
# tensor of its own, not a view of another one.

# %%
with step():
    torch.manual_seed(2)
    layers = student.CustomConv2d(3, 4, kernel_size=3, padding=1), nn.Conv2d(3, 4, kernel_size=3, padding=1)
    layers[1].load_state_dict(layers[0].state_dict())
    images = torch.randn(2, 3, 6, 6)
    for layer in layers:
        nn.Sequential(layer, nn.ReLU(inplace=True)).forward(images).square().sum().backward()
    for (name, mine), theirs in zip(layers[0].named_parameters(), layers[1].parameters()):
        worst = (mine.grad - theirs.grad).abs().max().item()
        say(worst < 1e-3, f"gradient of the layer's {name} behind ReLU(inplace=True): largest difference {worst:.1e}")

# %% [markdown]
# All ✓? Then run `python ./test_conv.py` in `code/`, and describe in your writeup how your implementation works.
