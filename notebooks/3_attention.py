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
# # 3 · Attention: does the map show where the network looks?
#
# An attribution map colors the pixels that a decision depends on. It always looks convincing, so how can it be
# tested? Here on images for which you know the answer: scenes with an object at a random place, and two networks. One
# learns to name the **object**, the other the **scene**. This is the idea of the benchmark BAM (Yang & Kim 2019).

# %%
from importlib.util import find_spec

# Without scenelab here, fill in the address of its repository, or the name of a wheel that you uploaded.
SOURCE = "git+https://ADDRESS-OF-THE-REPOSITORY"
if find_spec("scenelab") is None:
    # %pip install --quiet {SOURCE}
    pass

import dataclasses
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from PIL import Image

import scenelab
from scenelab.attribution import METHODS
from scenelab.conv import conv2d
from scenelab.data import Augment
from scenelab.evaluation import randomize_layers, top_k
from scenelab.runs import ScheduleConfig
from scenelab.training import RECIPES, pick_device
from scenelab_scenes import render

device = pick_device("auto")  # a GPU if there is one
plt.rcParams.update({"font.size": 11, "figure.constrained_layout.use": True, "savefig.dpi": 110})
print(f"torch {torch.__version__} on {device}")

# %% [markdown]
# ## Images with a known answer
#
# Every scene is combined with every object. So the scene says nothing about the object, nor the object about the
# scene.

# %%
SIZE, SIDE = 48, 13  # pixels of an image and of an object
SCENES, OBJECTS = ("coast", "forest", "bedroom", "highway"), ("disk", "ring", "cross")
y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
radius = np.hypot(x, y)
SHAPES = {"disk": radius < 1, "ring": (radius < 1) & (radius > 0.55), "cross": (abs(x) < 0.3) | (abs(y) < 0.3)}


def compose(scene, shape, seed):
    """Return a scene with an object of a bright color at a random place, and the object's mask."""
    rng = np.random.default_rng(seed)
    image, mask = render(scene, seed=seed, size=SIZE).copy(), np.zeros((SIZE, SIZE), bool)
    top, left = rng.integers(2, SIZE - SIDE - 2, size=2)
    mask[top : top + SIDE, left : left + SIDE] = SHAPES[shape]
    image[mask] = rng.permutation([rng.integers(200, 256), rng.integers(0, 256), rng.integers(0, 60)])
    return image, mask


lab = Path(tempfile.mkdtemp(prefix="scenelab-"))
images, masks, scenes, objects = [], [], [], []  # of val
for split, count, first_seed in (("train", 960, 0), ("val", 120, 10**6)):
    for number in range(count):
        scene, shape = SCENES[number % 4], OBJECTS[number // 4 % 3]
        image, mask = compose(scene, shape, first_seed + number)
        for task, name in (
            ("scene", scene),
            ("object", shape),
        ):  # the same image in two data sets, one folder per class
            path = lab / task / split / name / f"{number:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        if split == "val":
            images.append(image), masks.append(mask), scenes.append(scene), objects.append(shape)
images = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().to(device) / 255
masks = torch.from_numpy(np.stack(masks))[:, None].to(device)

figure, axes = plt.subplots(1, 6, figsize=(12, 2.5))
for axis, row in zip(axes, (0, 5, 10, 3, 4, 9), strict=True):
    axis.imshow(images[row].permute(1, 2, 0).cpu())
    axis.set(title=f"{scenes[row]}, {objects[row]}", xticks=[], yticks=[])
plt.show()
print(f"an object covers {100 * masks.float().mean():.1f} % of its image on average")

# %% [markdown]
# ## Two networks
#
# They see the same images and differ only in the question.


# %%
def train(task):
    """Train a small network on one of the two data sets; return it and its classes."""
    config = dataclasses.replace(
        RECIPES["demo"](),
        model="residual-small",
        epochs=8,
        batch_size=32,
        schedule=ScheduleConfig(warmup_epochs=0.5, sizes=((0.0, SIZE),)),
        augment=Augment(flip=True),
        stored_size=SIZE,
        eval_size=SIZE,
        threads=1,  # enough for images this small
    )
    run = Path(tempfile.mkdtemp(dir=lab))
    scenelab.train(run, lab / task, config)
    stored = scenelab.open_run(run).stored
    return stored.model.to(device), stored.categories


networks = {task: train(task) for task in ("object", "scene")}

# %%
labels = {
    task: torch.tensor([networks[task][1].index(name) for name in names], device=device)
    for task, names in (("object", objects), ("scene", scenes))
}
with torch.no_grad():
    for task, (model, names) in networks.items():
        print(f"{task} network: top-1 {top_k(model(images), labels[task], 1):.0f} %, guessing {100 / len(names):.0f} %")

# %% [markdown]
# ## Their maps
#
# The gradient of the logit of a class says how the logit $z_y$ changes with each pixel; its magnitude is the map of
# Simonyan et al. (2014). *SmoothGrad* is the mean gradient over noisy copies of the image, and *Grad-CAM* weights the
# last feature maps by their gradients:
#
# $$M = \max_c \left| \frac{\partial z_y}{\partial X_c} \right| \qquad
# M_\text{smooth} = \max_c \left| \frac{1}{n} \sum_{i=1}^n \frac{\partial z_y}{\partial X_c}(X + \delta_i) \right|
# \qquad M_\text{cam} = \operatorname{relu} \sum_k \alpha_k A_k$$
#
# **Predict.** Where are the maps of the object network bright? And those of the scene network, which has learned to
# ignore the object?

# %%
NAMES = {"gradient": "gradient", "smooth": "SmoothGrad", "cam": "Grad-CAM"}
maps = {
    (task, name): METHODS[name](model, images, labels[task]) for task, (model, _) in networks.items() for name in NAMES
}

rows = (4, 10, 3)
figure, axes = plt.subplots(3, 7, figsize=(13, 6.2))
for line, row in zip(axes, rows, strict=True):
    line[0].imshow(images[row].permute(1, 2, 0).cpu())
    line[0].set_ylabel(f"{scenes[row]}, {objects[row]}")
    for axis, ((task, name), values) in zip(line[1:], maps.items(), strict=True):
        axis.imshow(values[row, 0].cpu(), cmap="magma", vmin=0, vmax=values[row].quantile(0.99).item())
        axis.contour(masks[row, 0].cpu(), levels=[0.5], colors="cyan", linewidths=1)
        if row == rows[0]:
            axis.set_title(f"{task} network\n{NAMES[name]}", fontsize=11)
axes[0, 0].set_title("image")
for axis in axes.flat:
    axis.set(xticks=[], yticks=[])
figure.suptitle(
    "Attribution maps, from 0 (black) to the 99th percentile of the map; cyan: the outline of the object", y=1.05
)
plt.show()

# %% [markdown]
# ## In numbers
#
# The *density* of a map on the object is its share on the object divided by the share of pixels that the object
# covers:
#
# $$d = \frac{\sum_{p \in \text{object}} M_p \,/\, \sum_p M_p}{|\text{object}| \,/\, |\text{image}|}$$
#
# A map that is blind to the object has $d = 1$.
#
# **Predict.** What density has an edge detector, which knows no network? And an untrained network?


# %%
def density(values):
    """Return the density of maps on the objects, per image."""
    return (values * masks).sum(dim=(1, 2, 3)) / values.sum(dim=(1, 2, 3)) / masks.float().mean(dim=(1, 2, 3))


def edges(images):
    """Return the magnitude of the gray image's slope: a map that looks convincing and depends on no network."""
    right = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=device)
    filters = torch.stack([right, right.t()])[:, None]
    gray = torch.nn.functional.pad(images.mean(dim=1, keepdim=True), (1, 1, 1, 1), mode="replicate")
    return conv2d(gray, filters).square().sum(dim=1, keepdim=True).sqrt()


torch.manual_seed(0)
untrained = scenelab.create_model("residual-small", num_classes=3).to(device).eval()
bars = {(f"{task} network", NAMES[name]): values for (task, name), values in maps.items()}
bars |= {("untrained", NAMES[name]): METHODS[name](untrained, images) for name in NAMES}
bars["no network", "edges"] = edges(images)

figure, axis = plt.subplots(figsize=(9, 4.2))
colors = {"object network": "tab:orange", "scene network": "tab:blue", "untrained": "0.65", "no network": "0.35"}
for place, ((network, _), values) in enumerate(bars.items()):
    means = density(values).nanmean().item()
    axis.barh(place, means, color=colors[network])
    axis.text(means - 0.05, place, f"{means:.1f}", va="center", ha="right", color="white")
axis.axvline(1, color="black", ls=":", zorder=0, label="blind to the object")
axis.set(yticks=range(len(bars)), yticklabels=[f"{network}, {method}" for network, method in bars])
axis.set(xlabel="density of the map on the object (mean of 120 images)", title="Whose maps lie on the object?")
axis.invert_yaxis()
axis.legend(loc="lower right")
plt.show()

# %% [markdown]
# (Grad-CAM is coarse: its maps have 3×3 values for images of 48 pixels.)
#
# What counts is the **difference** between the two networks. A bright object with sharp outlines catches some of any
# map, even that of an untrained network or of an edge detector: a map on the object proves nothing by itself.
#
# ## A sanity check
#
# Adebayo et al. (2018) ask: does the map change when the network forgets what it learned? Give the layers random
# weights one after the other, the last one first, and compare the maps with those of the trained network by their
# rank correlation (1: the same order of pixels).
#
# **Predict.** Draw the curve of the edge detector, and that of a method that shows what the network learned.

# %%
model, _ = networks["object"]
few, targets = images[:12], labels["object"][:12]
curves = {
    NAMES[name]: randomize_layers(model, lambda net, name=name: METHODS[name](net, few, targets)) for name in NAMES
}
curves["edges"] = randomize_layers(model, lambda net: edges(few))

figure, axis = plt.subplots(figsize=(9, 4.2))
for (name, checks), marker in zip(curves.items(), "os^D", strict=True):
    axis.plot([1.0] + [check.cascading for check in checks], marker=marker, ms=5, label=name)
ticks = ["trained"] + [check.layer.removeprefix("network.") for check in curves["edges"]]
axis.set_xticks(range(len(ticks)), ticks, rotation=60, ha="right", fontsize=9)
axis.set(ylabel="rank correlation", xlabel="this layer and all to its left are random", ylim=(-0.3, 1.08))
axis.set_title("Which maps depend on what the network learned?")
axis.axhline(0, color="black", lw=0.8)
axis.legend(loc="upper right", bbox_to_anchor=(1, 0.92), ncols=2)
plt.show()
for name, checks in curves.items():
    print(f"{name:<11} all layers random: {checks[-1].cascading:.2f}")

# %% [markdown]
# The edge detector fails, as it must: it shows the image, not the network. A method passes when its maps differ with
# random layers.
#
# ## Try
#
# 1. Give the objects a color per shape instead of a random one in `compose`. Does the network still look at the
#    shape? How would you know?
# 2. Place the object always in the upper left. What happens to the density of the object network's maps, and why is
#    that no longer a good test?
# 3. `METHODS` has more methods, such as `"integrated"` and `"occlusion"`. Which has the largest difference between
#    the two networks?
