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
# # 5 · Your own images: fine-tuning
#
# A network that has learned 100 kinds of scenes from 90,000 photos comes with scenelab. You ask it about photos, teach
# it classes that it has never seen, with ten images per class, and compare it with a network that starts from nothing.

# %%
from importlib.util import find_spec

# Without scenelab here, fill in the address of its repository, or the name of a wheel that you uploaded.
SOURCE = "git+https://ADDRESS-OF-THE-REPOSITORY"
if find_spec("scenelab") is None:
    # %pip install --quiet {SOURCE}
    pass

import dataclasses
import json
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import torch
from PIL import Image

import scenelab
from scenelab.data import open_dataset, open_split
from scenelab.evaluation import confusion, most_confused, predict_logits, wilson
from scenelab.runs import FinetuneConfig, OptimizerConfig, Run, example_images, read_network
from scenelab.training import finetune_config, pick_device
from scenelab_scenes import write_scenes

device = pick_device("auto")  # a GPU if there is one
plt.rcParams.update({"font.size": 11, "figure.constrained_layout.use": True, "savefig.dpi": 110})
print(f"torch {torch.__version__} on {device}")

# %% [markdown]
# ## A trained network
#
# Ten photos that it was not trained on. `classify` is a function from an image, or the path of one, to the most likely
# classes and their probabilities.
#
# **Predict.** It is right for about every second photo of its validation set, among 100 classes. Which of these ten
# look difficult to you?

# %%
classify = scenelab.load("miniplaces")
figure, axes = plt.subplots(2, 5, figsize=(11, 5.8))
for axis, path in zip(axes.flat, example_images(), strict=True):
    [(category, probability)] = classify(path, top=1)
    axis.imshow(Image.open(path))
    axis.set(xticks=[], yticks=[])
    axis.set_xlabel(f"{category.replace('_', ' ')}, {100 * probability:.0f} %", fontsize=10)
    axis.set_title(path.stem.replace("_", " "))
plt.show()

# %% [markdown]
# ## Classes of your own
#
# Put images in one folder per class, all of these folders in one, and its name here. Without such a folder the lesson
# uses drawn scenes of twelve kinds, ten images per kind: the network has never seen a drawing.

# %%
own = Path("my-images")
if not own.is_dir():
    own = Path(tempfile.mkdtemp(prefix="scenelab-")) / "scenes"
    write_scenes(own, train_per_class=10, val_per_class=20, test=1, size=128)
start = read_network(Path("miniplaces"))
training_images = open_split(own, "train")
val = open_dataset(own, None, "val", start.size)
print(f"{len(training_images)} training images, {len(val)} others to judge by, {len(val.categories)} classes")

figure, axes = plt.subplots(2, 6, figsize=(11, 4.2))
for axis, row in zip(axes.flat, torch.linspace(0, len(val) - 1, 12).long().tolist(), strict=True):
    axis.imshow(val.gather(slice(row, row + 1))[0].permute(1, 2, 0))
    axis.set(title=val.categories[int(val.labels[row])].replace("_", " "), xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Three ways to train
#
# 1. **From scratch**: the same architecture with random weights.
# 2. **Last layer only**: everything else keeps what it learned from photos. The network computes the same features as
#    before, and only their weighted sums are new.
# 3. **Fine-tuning**: first the last layer, then all layers, the early ones with small learning rates.
#
# **Predict.** Ten images per class, eight epochs. Rank the three.


# %%
def train(**changes):
    """Train for eight epochs; return the run, and the accuracy on val after each epoch."""
    config = finetune_config("miniplaces", start, training_images, epochs=8)
    config = dataclasses.replace(config, holdout=0.0, patience=0, keep="last", **changes)
    run = Run(Path(tempfile.mkdtemp(prefix="scenelab-")))
    scenelab.train(run.folder, own, config)
    rows = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    return run, [row["top1"] for row in rows if row.get("split") == "val"]


scratch_rate = OptimizerConfig(name="muon", lr=0.02, weight_decay=0.02, adam_lr=2e-3, decay_vectors=False)
ways = {
    "from scratch": train(finetune=None, optimizer=scratch_rate),
    "last layer only": train(finetune=FinetuneConfig(network="miniplaces", head_epochs=8)),
    "fine-tuning": train(),
}

# %%
figure, axis = plt.subplots(figsize=(8, 4.2))
for name, (_, accuracies) in ways.items():
    epochs = range(1, len(accuracies) + 1)
    (line,) = axis.plot(epochs, accuracies, marker="o", ms=4, label=name)
    intervals = [wilson(round(accuracy / 100 * len(val)), len(val)) for accuracy in accuracies]
    axis.fill_between(epochs, *zip(*intervals, strict=True), alpha=0.15, color=line.get_color())
axis.axhline(100 / len(val.categories), color="black", ls=":", lw=1, label="guessing")
axis.set(xlabel="epoch", ylabel="top-1 accuracy on val, %", ylim=(0, 100), title="The same images, three beginnings")
axis.legend(loc="upper left")
plt.show()
for name, (_, accuracies) in ways.items():
    low, high = wilson(round(accuracies[-1] / 100 * len(val)), len(val))
    print(f"{name:<16} {accuracies[-1]:5.1f} %, 95 % interval {low:.1f} to {high:.1f} %")

# %% [markdown]
# The bands are 95 % intervals (Wilson 1927); they tell how far chance in the choice of the val images reaches. The
# features of the early layers, edges, textures and their arrangements, serve drawings as well as photos (Yosinski et
# al. 2014); ten images per class would not be enough to learn them.
#
# ## What it gets wrong
#
# An accuracy alone does not say whether the classifier is of use. Look at the images that it gets wrong with the
# highest confidence, and at the pairs of classes that it confuses.

# %%
network = read_network(ways["fine-tuning"][0].folder)
logits = predict_logits(network.model, val, size=network.size, mirror=True)
confidence, predicted = logits.softmax(dim=1).max(dim=1)
wrong = (predicted != val.labels).nonzero()[:, 0]
wrong = wrong[confidence[wrong].argsort(descending=True)][:6]
figure, axes = plt.subplots(1, 6, figsize=(11, 2.9))
for axis in axes:
    axis.set_axis_off()
for axis, row in zip(axes, wrong.tolist(), strict=False):
    truth, guess = (val.categories[int(label)].replace("_", " ") for label in (val.labels[row], predicted[row]))
    axis.imshow(val.gather(slice(row, row + 1))[0].permute(1, 2, 0))
    axis.set_title(f"{truth}\nnot {guess}, {100 * confidence[row]:.0f} %", fontsize=9)
plt.show()
for pair in most_confused(confusion(predicted, val.labels, len(val.categories)), val.categories, 3):
    print(f"{pair.count} of {pair.of} images of {pair.true} are predicted as {pair.predicted}")

# %% [markdown]
# ## Use it
#
# The run folder holds the network. In a program of your own:

# %%
classify = scenelab.load(ways["fine-tuning"][0].folder)
files = open_split(own, "val")
print(classify(files.root / files.paths[0], top=3))

# %% [markdown]
# In a terminal: `scenelab finetune my-images --out runs/mine` holds images out, or uses cross-validation where there
# are few, and stops when the accuracy no longer improves; `scenelab predict runs/mine holiday --csv holiday.csv`
# classifies a folder of photos; `scenelab app runs` shows all of it in a browser.
#
# ## Try
#
# 1. Take 5 images per kind instead of 10, then 40. When does training from scratch catch up?
# 2. Show the network something that belongs to none of its classes: a screenshot, noise. What does it say, and how
#    sure is it?
# 3. Fine-tune with a learning rate ten times larger. What happens to the features that it had?
