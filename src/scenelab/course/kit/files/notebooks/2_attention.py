# %% [markdown]
# # Part 3a: your attention maps, step by step
#
# Each cell calls `GradAttention.explain` in `code/student_code.py` and shows what it returns beside what it should
# return. Change your code, save the file, run the cell again. A cell says so if there is nothing to check yet.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from show_steps import check_shape, compare, require_shape, say, step, student

# %% [markdown]
# ## 1. The shape of the maps
#
# Two images of 3×8×6 values. How many values has a map, if each pixel gets one?

# %%
torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 4)
)
network = network.double().eval()
with torch.no_grad():
    network[-1].weight.mul_(4)
    network[-1].bias.copy_(torch.tensor([0.0, 0, 3, -3]))  # class 2 is the most confident one, class 3 the least
images = torch.randn(2, 3, 8, 6, dtype=torch.float64)

with step():
    maps = student.GradAttention(nn.CrossEntropyLoss()).explain(network, images)
    check_shape("maps", maps, (2, 1, 8, 6))
    say(maps.grad_fn is None, "the maps carry no graph of gradients")
    say(bool((maps >= 0).all()), "no value is negative")

# %% [markdown]
# ## 2. Numbers that you can compute by hand
#
# A network without hidden layers: the score of class 0 is the sum of the pixels times the weights below, the score of
# class 1 is always -10. The loss is simply the negative score of the label. So the gradients can be read off the
# weights. Write down the map that the handout describes, then run the cell.

# %%
weights = torch.tensor([[[1.0, 0.0], [0.0, -2.0]], [[0.0, 3.0], [0.0, 0.0]], [[0.0, -1.0], [0.5, 1.0]]])


class Linear(nn.Module):
    """The scores of two classes; the first is linear in the image."""

    def forward(self, images):
        scores = (images * weights).sum(dim=(1, 2, 3))
        return torch.stack([scores, torch.full_like(scores, -10.0)], dim=1)


def negative_score(scores, labels):
    """Return the sum of the labels' scores, with a minus."""
    return -scores.gather(1, labels[:, None]).sum()


with step():
    got = student.GradAttention(negative_score).explain(Linear(), torch.ones(1, 3, 2, 2))
    require_shape("map", got, (1, 1, 2, 2))
    beside = [("weights, red", weights[0]), ("weights, green", weights[1]), ("weights, blue", weights[2])]
    compare("a linear network", torch.tensor([[1.0, 3.0], [0.5, 2.0]]), got[0, 0], beside=beside)

# %% [markdown]
# ## 3. Beside finite differences
#
# The map says how much the loss changes with a pixel. So change a pixel by a little, each color by itself, and look
# at the loss of the network's own first guess, class 2. This needs no gradient at all:
#
# $$\frac{\partial L}{\partial X} \approx \frac{L(X + h) - L(X - h)}{2h}$$
#
# The bars are these slopes at six pixels. Where should the dot of your map lie?

# %%
image = torch.zeros(1, 3, 8, 8, dtype=torch.float64)
image[:, :, 2:6, 3:7] = torch.tensor([1.0, 0.5, -0.5], dtype=torch.float64).view(1, 3, 1, 1)
pixels = [(0, 0), (2, 3), (3, 5), (5, 6), (6, 2), (7, 7)]
h = 1e-4
slopes = torch.zeros(len(pixels), 3, dtype=torch.float64)
with torch.no_grad():
    for place, (row, column) in enumerate(pixels):
        for color in range(3):
            losses = []
            for change in (h, -h):
                changed = image.clone()
                changed[0, color, row, column] += change
                losses.append(F.cross_entropy(network(changed), torch.tensor([2])))
            slopes[place, color] = (losses[0] - losses[1]) / (2 * h)

with step():
    got = student.GradAttention(nn.CrossEntropyLoss()).explain(network, image)
    require_shape("map", got, (1, 1, 8, 8))
    values = torch.stack([got[0, 0, row, column].detach().double() for row, column in pixels])
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.8), width_ratios=[1, 1, 1.8])
    axes[0].imshow((image[0].permute(1, 2, 0) + 1) / 2)
    axes[0].set_title("image")
    axes[1].imshow(got[0, 0].detach(), cmap="magma", vmin=0)
    axes[1].set_title("your map (black: 0)")
    for axis in axes[:2]:
        for number, (row, column) in enumerate(pixels):
            axis.text(column, row, f"{number + 1}", color="tab:cyan", ha="center", va="center", weight="bold")
    for color, name in enumerate(("red", "green", "blue")):
        places = [number + 0.75 + 0.25 * color for number in range(len(pixels))]
        axes[2].bar(places, slopes[:, color], width=0.22, color=f"tab:{name}", label=f"slope, {name}")
    axes[2].plot(range(1, len(pixels) + 1), values, "ko", label="your map")
    axes[2].axhline(0, color="black", lw=0.8)
    axes[2].set(xlabel="pixel", ylabel="∂L/∂X", title="finite differences")
    axes[2].legend(fontsize=9)
    plt.show()
    for number, (value, three) in enumerate(zip(values.tolist(), slopes.tolist())):
        sizes = sorted(map(abs, three))
        passed = abs(value - sizes[-1]) < 1e-6
        say(passed, f"pixel {number + 1}: your map {value:.5f}, slopes " + " ".join(f"{slope:+.5f}" for slope in three))

# %% [markdown]
# ## 4. What must not happen
#
# A map is a look at the network; afterwards everything should be as before.

# %%
with step():
    images = torch.randn(2, 3, 8, 6, dtype=torch.float64)
    before = images.clone()
    student.GradAttention(nn.CrossEntropyLoss()).explain(network.train(), images)
    say(torch.equal(images, before), "the images are unchanged")
    say(not images.requires_grad, "the images still need no gradient")
    say(network.training, "the network is still in the mode that it was in")

# %% [markdown]
# All ✓? Then look at the maps of your trained network: `python ./main.py ../data
# --resume=../models/model_best.pth.tar -e -v`.
