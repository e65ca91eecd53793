# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 1 · Convolution by hand, and its gradients
#
# What does one output value of a convolution depend on? And what does the gradient of one weight, or of one pixel,
# add up? Each section asks, lets you predict, and then shows the numbers.

# %%
from importlib.util import find_spec

# Without scenelab here, fill in the address of its repository, or the name of a wheel that you uploaded.
SOURCE = "git+https://ADDRESS-OF-THE-REPOSITORY"
if find_spec("scenelab") is None:
    # %pip install --quiet {SOURCE}
    pass

import matplotlib.pyplot as plt
import torch
from torch.nn import functional as F

from scenelab.conv import conv2d, conv2d_reference
from scenelab.training import pick_device
from scenelab_scenes import render

device = pick_device("auto")  # a GPU if there is one
plt.rcParams.update({"font.size": 11, "figure.constrained_layout.use": True, "savefig.dpi": 110})
print(f"torch {torch.__version__} on {device}")

# %% [markdown]
# ## One output value
#
# Place a filter $W$ on the image $X$, multiply the numbers that coincide, add the products and a bias. With stride
# $S$ and padding $P$ (all numbers from 0):
#
# $$Y_{o,h,w} = b_o + \sum_{c,i,j} W_{o,c,i,j}\; X_{c,\;Sh+i-P,\;Sw+j-P}$$
#
# The image below is dark on the left and bright on the right. The filter subtracts the left neighbor from the right
# one.
#
# **Predict.** How large is the output, and in which of its columns are the values not zero?


# %%
def show_numbers(axis, values, title, *, cmap="gray", limit=None, box=None):
    """Draw a small matrix with its numbers; `limit` makes the colors symmetric about 0, `box` frames a window."""
    values = values.detach().cpu()
    drawn = axis.imshow(values, cmap=cmap, vmin=-limit if limit else None, vmax=limit)
    for row, line in enumerate(values.tolist()):
        for column, value in enumerate(line):
            is_bright = sum(drawn.to_rgba(value)[:3]) > 1.6
            axis.text(column, row, f"{value:g}", ha="center", va="center", color="black" if is_bright else "white")
    if box:
        axis.add_patch(
            plt.Rectangle((box[1] - 0.5, box[0] - 0.5), box[2], box[2], fill=False, color="tab:orange", lw=3)
        )
    axis.set(title=title, xticks=range(values.shape[1]), yticks=range(values.shape[0]), xlabel="column", ylabel="row")


image = torch.tensor([[0.0, 0, 0, 9, 9, 9]] * 5, device=device)
weight = torch.tensor([[-1.0, 0, 1]] * 3, device=device)
output = conv2d(image[None, None], weight[None, None])[0, 0]

figure, axes = plt.subplots(1, 3, figsize=(10, 3.4), width_ratios=[6, 3, 4])
show_numbers(axes[0], image, "image X, 5×6", box=(0, 1, 3))
show_numbers(axes[1], weight, "filter W, 3×3", cmap="RdBu", limit=1.5)
show_numbers(axes[2], output, "output Y, 3×4", cmap="RdBu", limit=40, box=(0, 1, 1))
plt.show()

products = (image[0:3, 1:4] * weight + 0).flatten().tolist()
print("the framed value:", " + ".join(f"{value:g}" for value in products), "=", f"{sum(products):g}")

# %% [markdown]
# The filter fits $\lfloor (H + 2P - K)/S \rfloor + 1$ times into a height of $H$: here $5 - 3 + 1 = 3$ and $6 - 3 + 1
# = 4$. Only windows across the step from dark to bright see a difference.
#
# The three implementations agree: `conv2d_reference` is the formula written as loops, `conv2d` uses matrix products,
# and `F.conv2d` is PyTorch's.

# %%
generator = torch.Generator().manual_seed(0)
images, filters = torch.rand(2, 3, 9, 8, generator=generator), torch.randn(4, 3, 3, 3, generator=generator)
ours = conv2d(images, filters, None, stride=2, padding=1)
for name, other in (("loops", conv2d_reference), ("PyTorch", F.conv2d)):
    difference = (ours - other(images, filters, None, stride=2, padding=1)).abs().max().item()
    print(f"largest difference from {name}: {difference:.1e}")

# %% [markdown]
# ## Filters on a scene
#
# **Predict.** Which of these filters shows the upright edges of the towers, and which one the rails of the fence?
# What do three of the four leave of a smooth sky?

# %%
scene = torch.from_numpy(render("skyscraper", seed=6, size=128)).float().mean(dim=2).to(device) / 255
bank = {
    "right − left": [[-1, 0, 1]] * 3,
    "below − above": [[-1, -1, -1], [0, 0, 0], [1, 1, 1]],
    "mean of 3×3": [[1 / 9] * 3] * 3,
    "pixel − neighbors": [[0, -1, 0], [-1, 4, -1], [0, -1, 0]],
}
weights = torch.tensor(list(bank.values()), dtype=torch.float32, device=device)[:, None]
outputs = conv2d(scene[None, None], weights, padding=1)[0].cpu()

figure, axes = plt.subplots(1, 5, figsize=(13, 3.1))
axes[0].imshow(scene.cpu(), cmap="gray", vmin=0, vmax=1)
axes[0].set_title("image, gray")
for axis, name, values in zip(axes[1:], bank, outputs, strict=True):
    is_mean = name.startswith("mean")
    drawn = axis.imshow(values, cmap="gray" if is_mean else "RdBu", vmin=0 if is_mean else -1, vmax=1)
    axis.set_title(name)
    figure.colorbar(drawn, ax=axis, shrink=0.75, ticks=[0, 1] if is_mean else [-1, 0, 1])
for axis in axes:
    axis.set(xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## The gradient of a pixel
#
# Training asks how the loss $L$ changes when a number changes. With $G = \partial L/\partial Y$, the chain rule adds
# up every output value that the number contributes to:
#
# $$\frac{\partial L}{\partial b_o} = \sum_{h,w} G_{o,h,w} \qquad
# \frac{\partial L}{\partial W_{o,c,i,j}} = \sum_{h,w} G_{o,h,w}\, X_{c,\;Sh+i-P,\;Sw+j-P}$$
#
# $$\frac{\partial L}{\partial X_{c,y,x}} = \sum_{o,i,j} W_{o,c,i,j}\; G_{o,\;(y+P-i)/S,\;(x+P-j)/S}
# \quad\text{where the indices of } G \text{ are whole and inside}$$
#
# Take a filter of ones and $L = \sum Y$, so that $G = 1$. Then the gradient of a pixel **counts the windows that see
# it**.
#
# **Predict.** Which pixel of a 7×7 image is seen most often, and how often is a corner seen? What changes with
# padding 1, stride 2 and stride 3?

# %%
settings = {"stride 1": (1, 0), "stride 1, padding 1": (1, 1), "stride 2": (2, 0), "stride 3": (3, 0)}
figure, axes = plt.subplots(1, 4, figsize=(13, 3.5))
for axis, (name, (stride, padding)) in zip(axes, settings.items(), strict=True):
    pixels = torch.zeros(1, 1, 7, 7, device=device, requires_grad=True)
    conv2d(pixels, torch.ones(1, 1, 3, 3, device=device), stride=stride, padding=padding).sum().backward()
    show_numbers(axis, pixels.grad[0, 0], f"{name}: {pixels.grad.sum():.0f} in all", cmap="Blues")
figure.suptitle("∂L/∂X: the number of 3×3 windows that see each pixel", y=1.08)
plt.show()

# %% [markdown]
# At stride 3 windows do not overlap, and none sees the last row and column: the network cannot learn from them. At
# stride 2 the counts alternate, which is a cause of checkerboard patterns in attribution maps.
#
# ## Check a gradient by finite differences
#
# A gradient that was derived by hand deserves a test that knows nothing of the derivation. Change one weight by $h$,
# and look at the loss:
#
# $$\frac{\partial L}{\partial W} \approx \frac{L(W + h) - L(W)}{h}$$
#
# **Predict.** The smaller $h$, the better the estimate? Is float32 enough?


# %%
def loss(weight, pixels):
    """Return a scalar that depends on all outputs: the sum of their squares."""
    return conv2d(pixels, weight, padding=1).square().sum()


steps = [10.0**-power for power in range(13)]
errors = {}
for dtype in (torch.float32, torch.float64):
    generator = torch.Generator().manual_seed(1)
    pixels = torch.rand(1, 2, 8, 8, generator=generator, dtype=torch.float64).to(dtype)
    weight = torch.randn(3, 2, 3, 3, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()
    (grad,) = torch.autograd.grad(loss(weight, pixels), weight)
    errors[dtype] = []
    with torch.no_grad():
        for step in steps:
            changed = weight.clone()
            changed[1, 0, 2, 1] += step
            slope = (loss(changed, pixels) - loss(weight, pixels)) / step
            errors[dtype].append(abs(slope - grad[1, 0, 2, 1]).item() / abs(grad[1, 0, 2, 1]).item())

figure, axis = plt.subplots(figsize=(7, 4))
for (dtype, values), marker in zip(errors.items(), "os", strict=True):
    axis.loglog(steps, [max(value, 1e-16) for value in values], marker=marker, label=str(dtype).removeprefix("torch."))
axis.set(xlabel="step h", ylabel="relative error of the estimate", title="A smaller step is not always better")
axis.invert_xaxis()
axis.grid(alpha=0.3)
axis.legend()
plt.show()
for dtype, values in errors.items():
    best = min(range(len(steps)), key=values.__getitem__)
    print(f"{dtype}: best step {steps[best]:.0e}, relative error {values[best]:.1e}")

# %% [markdown]
# Two errors compete. The curvature of the loss gives an error in proportion to $h$. Rounding gives one in proportion
# to $\varepsilon_\text{machine}/h$, since two nearly equal losses are subtracted. This is why gradient checks use
# float64 and a step that is small but not tiny.
#
# ## Try
#
# 1. Replace the difference by $(L(W + h) - L(W - h))/2h$. Why does its first error vanish entirely for this loss,
#    whatever $h$ is?
# 2. Give `show_numbers` the gradient at stride 2 with a 4×4 filter instead of 3×3. Do the counts still alternate?
# 3. Design a 3×3 filter that answers to corners, but not to edges, and try it on other scenes
#    (`scenelab_scenes.KINDS` has their names).
