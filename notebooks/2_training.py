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
# # 2 · Training, and reading the curves
#
# What do the curves of a training look like when the learning rate is too small, when it is too large, and when the
# network only memorizes? You train small networks on drawn scenes, and predict each curve before you see it.

# %%
from importlib.util import find_spec

# Without scenelab here, fill in the address of its repository, or the name of a wheel that you uploaded.
SOURCE = "git+https://ADDRESS-OF-THE-REPOSITORY"
if find_spec("scenelab") is None:
    # %pip install --quiet {SOURCE}
    pass

import dataclasses
import json
import math
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import scenelab
from scenelab.data import open_dataset
from scenelab.evaluation import wilson
from scenelab.runs import OptimizerConfig, Run, ScheduleConfig, TrainConfig
from scenelab.training import pick_device
from scenelab_scenes import KINDS, write_scenes

device = pick_device("auto")  # a GPU if there is one
plt.rcParams.update({"font.size": 11, "figure.constrained_layout.use": True, "savefig.dpi": 110})
print(f"torch {torch.__version__} on {device}")

# %% [markdown]
# ## The data
#
# Twelve kinds of scenes, drawn by a program: 40 images per kind to learn from, 20 others per kind (*val*) to judge
# by. The images of a kind differ in light, camera, colors and what stands in front.

# %%
lab = Path(tempfile.mkdtemp(prefix="scenelab-"))
scenes = lab / "scenes"
write_scenes(scenes, train_per_class=40, val_per_class=20, test=1, size=48)
val = open_dataset(scenes, None, "val", 48)

figure, axes = plt.subplots(2, 6, figsize=(11, 4.2))
for label, axis in enumerate(axes.flat):
    row = (val.labels == label).nonzero()[0, 0].item()
    axis.imshow(val.gather(slice(row, row + 1))[0].permute(1, 2, 0))
    axis.set(title=KINDS[label].replace("_", " "), xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## One training
#
# The network outputs a logit $z_k$ per kind, and the loss of an image of kind $y$ is the cross-entropy
#
# $$L = -\log p_y, \qquad p_k = \frac{e^{z_k}}{\sum_j e^{z_j}}$$
#
# **Predict.** A network that knows nothing gives every kind the same probability. What is its loss, and its accuracy?


# %%
def train(data, **changes):
    """Train a small network in a new run folder; return the rows of its metrics."""
    config = TrainConfig(
        model="residual-small",
        epochs=8,
        batch_size=32,
        optimizer=OptimizerConfig(lr=0.05),
        schedule=ScheduleConfig(warmup_epochs=0.5, sizes=((0.0, 48),)),
        stored_size=48,
        eval_size=48,
        log_every=1,
        threads=1,  # enough for images this small
    )
    run = Run(Path(tempfile.mkdtemp(dir=lab)))
    scenelab.train(run.folder, data, dataclasses.replace(config, **changes))
    return [json.loads(line) for line in run.metrics.read_text().splitlines()]


def curve(rows, split, name):
    """Return the epochs and the values of one curve."""
    points = [(row["epoch"], row[name]) for row in rows if row.get("split") == split]
    return zip(*points, strict=True)


def step_losses(rows):
    """Return the loss of the batch at each step."""
    return [row["training_loss"] for row in rows if "training_loss" in row]


first = train(scenes)
print(f"a network that knows nothing: loss ln 12 = {math.log(12):.3f}, accuracy {100 / 12:.1f} %")
print(f"the loss at the first step:   {step_losses(first)[0]:.3f}")

# %% [markdown]
# The loss begins at $\ln 12$. Remember this number for your own data: $\ln K$ for $K$ classes. A loss that begins far
# above it points to initial weights or inputs of a wrong scale; one that stays there means that nothing is learned.
#
# ## Three learning rates
#
# **Predict.** The same network with a learning rate a hundred times smaller, and one forty times larger: draw both
# losses before you look.

# %%
rates = {0.0005: "too small", 0.05: "fits", 2.0: "too large"}
losses = {rate: step_losses(train(scenes, epochs=4, optimizer=OptimizerConfig(lr=rate))) for rate in rates}

# %%
figure, axis = plt.subplots(figsize=(8, 4.2))
for rate, word in rates.items():
    axis.plot(range(1, len(losses[rate]) + 1), losses[rate], label=f"{rate:g}: {word}")
axis.axhline(math.log(12), color="black", ls="--", lw=1, label="knows nothing: ln 12")
axis.set(xlabel="step", ylabel="training loss of the batch", title="Three learning rates", ylim=(1, 4))
axis.legend(loc="upper right", ncols=2)
plt.show()
for rate, values in losses.items():
    print(f"rate {rate:<7g} mean loss of the last ten steps {sum(values[-10:]) / 10:.2f}, largest {max(values):.1f}")

# %% [markdown]
# Too small: flat and quiet. Too large: first above the line, then noisy; the loss falls only toward the end, when the
# schedule has made the steps small. With a rate that fits it falls soon, with noise from the choice of images in each
# batch.
#
# ## Learning or memorizing?
#
# Now the network gets 4 images per kind instead of 40, and more epochs.
#
# **Predict.** What happens to the loss on these 48 images? And to the loss on val?

# %%
few = lab / "few"
write_scenes(few, train_per_class=4, val_per_class=20, test=1, size=48)
memorized = train(few, epochs=40, evaluate_every=4)

# %%
figure, axes = plt.subplots(1, 2, figsize=(10, 4), sharey=True)
for axis, rows, title in zip(axes, (first, memorized), ("40 images per kind", "4 images per kind"), strict=True):
    for split, style in (("train", "--"), ("val", "-")):
        axis.plot(*curve(rows, split, "loss"), style, marker="o", ms=4, label=split)
    axis.axhline(math.log(12), color="black", ls=":", lw=1, label="ln 12")
    axis.set(xlabel="epoch", ylabel="mean loss per image", title=title)
    axis.legend()
plt.show()
for rows, name in ((first, "40 images per kind"), (memorized, " 4 images per kind")):
    train_accuracy, val_accuracy = (list(curve(rows, split, "top1"))[1][-1] for split in ("train", "val"))
    print(f"{name}: top-1 {train_accuracy:.1f} % on the images it learned from, {val_accuracy:.1f} % on val")

# %% [markdown]
# The training loss alone tells nothing about new images: it is lowest where the network knows least. The **gap**
# between the two curves is what it memorized. A val loss that rises while the training loss falls is the sign of
# overfitting.
#
# ## How much of a curve is noise?
#
# The accuracy on val is a share of 240 images. By chance alone it varies; the 95 % interval of Wilson (1927) shows by
# how much.
#
# **Predict.** How many percent does the interval span: 1, 4 or 12? Which epochs of the first run differ by more than
# chance?

# %%
epochs, accuracies = curve(first, "val", "top1")
intervals = [wilson(round(accuracy / 100 * len(val)), len(val)) for accuracy in accuracies]
figure, axis = plt.subplots(figsize=(8, 4))
axis.plot(epochs, accuracies, marker="o", label="val")
axis.fill_between(epochs, *zip(*intervals, strict=True), alpha=0.2, label="95 % interval")
axis.axhline(100 / 12, color="black", ls=":", lw=1, label="guessing")
axis.set(xlabel="epoch", ylabel="top-1 accuracy, %", ylim=(0, 100), title=f"Accuracy on {len(val)} images")
axis.legend(loc="upper left")
plt.show()
low, high = intervals[-1]
print(f"last epoch: {accuracies[-1]:.1f} %, interval {low:.1f} to {high:.1f} %")

# %% [markdown]
# Half the width falls with $1/\sqrt{n}$: four times as many images halve it. Two networks whose intervals overlap
# widely may be equally good, and the epoch with the highest point is partly the luckiest one.
#
# ## Try
#
# 1. Give the memorizing network help: `augment=Augment(flip=True, area=(0.35, 1.0))` (from `scenelab.data`). What
#    happens to both curves?
# 2. Train with `model="simplenet"`, the handout's network without normalization. Compare its loss with $\ln 12$ after
#    8 epochs.
# 3. Repeat the first training with `seed=1`. By how much does the last accuracy change? Is that inside the interval?
