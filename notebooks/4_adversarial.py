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
# # 4 · Adversarial examples
#
# A network that is right on most images can be made wrong on nearly all of them, by changes that you hardly see. How
# small can they be, what do they have that random noise lacks, and do they fool another network too?

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
import torch

import scenelab
from scenelab.attacks import FGSM, PGD, Linf
from scenelab.evaluation import top_k
from scenelab.runs import ScheduleConfig
from scenelab.training import RECIPES, pick_device
from scenelab_scenes import KINDS, write_scenes

device = pick_device("auto")  # a GPU if there is one
plt.rcParams.update({"font.size": 11, "figure.constrained_layout.use": True, "savefig.dpi": 110})
print(f"torch {torch.__version__} on {device}")

# %% [markdown]
# ## Two networks to attack
#
# Two architectures, trained on the same drawn scenes. The first one gets attacked; the second waits for the end.

# %%
SIZE = 48
lab = Path(tempfile.mkdtemp(prefix="scenelab-"))
write_scenes(lab / "scenes", train_per_class=80, val_per_class=15, test=1, size=SIZE)


def train(model):
    """Train a small network on the scenes; return it with the images of val and their labels."""
    config = dataclasses.replace(
        RECIPES["demo"](),
        model=model,
        epochs=8,
        batch_size=32,
        schedule=ScheduleConfig(warmup_epochs=0.5, sizes=((0.0, SIZE),)),
        stored_size=SIZE,
        eval_size=SIZE,
        threads=1,  # enough for images this small
    )
    run = Path(tempfile.mkdtemp(dir=lab))
    scenelab.train(run, lab / "scenes", config)
    opened = scenelab.open_run(run)
    images = opened.dataset.gather(slice(None)).float() / 255
    return opened.stored.model.to(device), images.to(device), opened.dataset.labels.to(device)


first, images, labels = train("residual-small")
second, _, _ = train("inception")


# %%
def accuracy(model, images):
    """Return the top-1 accuracy in percent."""
    with torch.no_grad():
        return top_k(model(images), labels, 1)


print(
    f"{len(images)} images; residual-small {accuracy(first, images):.0f} %, inception {accuracy(second, images):.0f} %"
)

# %% [markdown]
# ## What ε means
#
# Pixel values are in [0, 1], stored in 256 levels. The threat model $L_\infty$ with $\varepsilon = 4/255$ allows
# **every** value of **every** pixel to change by up to 4 levels, and no more:
#
# $$\|X' - X\|_\infty = \max_p |X'_p - X_p| \le \varepsilon$$
#
# **Predict.** From which ε on can you see noise in the image? How much accuracy does random noise of this size cost?

# %%
generator = torch.Generator().manual_seed(0)
signs = torch.randint(0, 2, images.shape, generator=generator).to(device) * 2 - 1  # ±1: noise of the full size
levels = [0, 1, 2, 4, 8, 16]
noisy = {level: (images + level / 255 * signs).clamp(0, 1) for level in levels}

row = int((labels == KINDS.index("highway")).nonzero()[0])
figure, axes = plt.subplots(1, len(levels), figsize=(13, 2.7))
for axis, (level, changed) in zip(axes, noisy.items(), strict=True):
    axis.imshow(changed[row].permute(1, 2, 0).cpu())
    axis.set(title=f"ε = {level}/255", xlabel=f"accuracy {accuracy(first, changed):.0f} %", xticks=[], yticks=[])
figure.suptitle("Random noise", y=1.1)
plt.show()

# %% [markdown]
# ## The same size, in the worst direction
#
# *FGSM* (Goodfellow et al. 2015) takes one step of size ε along the sign of the gradient of the loss $L$. *PGD*
# (Madry et al. 2018) takes many smaller steps of size $\alpha$, and projects onto the ball (and to [0, 1]) after
# each:
#
# $$X'_\text{FGSM} = X + \varepsilon\, \operatorname{sign} \nabla_X L(X, y) \qquad
# X^{t+1} = \Pi_{\|X' - X\|_\infty \le \varepsilon}\bigl(X^t + \alpha \operatorname{sign} \nabla_X L(X^t, y)\bigr)$$
#
# **Predict.** The accuracy at $\varepsilon = 4/255$: after noise, after FGSM, after PGD?

# %%
attacks = {"FGSM": FGSM(), "PGD, 20 steps": PGD(steps=20)}
curves = {"random noise": [accuracy(first, noisy[level]) for level in levels]}
for name, attack in attacks.items():
    adversarial = [attack(first, images, labels, threat=Linf(level / 255)).images for level in levels]
    curves[name] = [accuracy(first, changed) for changed in adversarial]

figure, axis = plt.subplots(figsize=(8, 4.2))
for (name, values), marker in zip(curves.items(), "^os", strict=True):
    axis.plot(levels, values, marker=marker, label=name)
axis.axhline(100 / len(KINDS), color="black", ls=":", lw=1, label="guessing")
axis.set(
    xlabel="ε, in levels of 255",
    ylabel="top-1 accuracy, %",
    ylim=(-3, 100),
    title="The direction matters more than the size",
)
axis.legend()
plt.show()
for name, values in curves.items():
    print(
        f"{name:<14}", "  ".join(f"ε {level}/255: {value:3.0f} %" for level, value in zip(levels, values, strict=True))
    )

# %% [markdown]
# Below guessing: the attack does not blur what the network knows, it uses it. Small changes suffice because a logit
# adds up the effects of $3 \cdot 48 \cdot 48 = 6912$ changed values, and all of them push the same way.
#
# ## Look at one
#
# By default `PGD` stops as soon as an image fools the network, just past the border between two classes. With
# `early_stop=False` it goes on.
#
# **Predict.** Does the perturbation look like noise, or like something? And how sure is the network of its wrong
# answer?

# %%
epsilon = 4 / 255
to_the_end = PGD(steps=20, early_stop=False)
result = to_the_end(first, images, labels, threat=Linf(epsilon))
shown = result.success.nonzero()[:3, 0].tolist()
with torch.no_grad():
    before, after = (first(batch).softmax(dim=1).max(dim=1) for batch in (images, result.images))

figure, axes = plt.subplots(3, 3, figsize=(8, 8.6))
for line, row in zip(axes, shown, strict=True):
    change = (result.images[row] - images[row]) / epsilon
    for axis, picture in zip(line, (images[row], change / 2 + 0.5, result.images[row]), strict=True):
        axis.imshow(picture.permute(1, 2, 0).cpu().clamp(0, 1))
        axis.set(xticks=[], yticks=[])
    for axis, guess in ((line[0], before), (line[2], after)):
        axis.set_title(f"{KINDS[guess.indices[row]].replace('_', ' ')}, {100 * guess.values[row]:.0f} %")
    line[1].set_title("+ perturbation (gray: 0)")
figure.suptitle("original, perturbation from −4/255 (dark) to 4/255 (bright), adversarial example")
plt.show()

# %% [markdown]
# ## Any class you like
#
# A *targeted* attack lowers the loss of a class of your choice instead of raising that of the true one.
#
# **Predict.** Can every image become every class? At which ε?

# %%
one_each = torch.stack([(labels == label).nonzero()[0, 0] for label in range(len(KINDS))])
sources = one_each.repeat_interleave(len(KINDS))
targets = torch.arange(len(KINDS), device=device).repeat(len(KINDS))
figure, axes = plt.subplots(1, 2, figsize=(12, 6), sharey=True)
for axis, level in zip(axes, (2, 8), strict=True):
    result = to_the_end(first, images[sources], labels[sources], threat=Linf(level / 255), targets=targets)
    with torch.no_grad():
        share = first(result.images).softmax(dim=1).gather(1, targets[:, None]).view(len(KINDS), -1)
    drawn = axis.imshow(100 * share.cpu(), cmap="viridis", vmin=0, vmax=100)
    reached = (result.predictions == targets)[targets != labels[sources]].float().mean()
    names = [kind.replace("_", " ") for kind in KINDS]
    axis.set_xticks(range(len(KINDS)), names, rotation=90)
    axis.set_yticks(range(len(KINDS)), names)
    axis.set(xlabel="target", title=f"ε = {level}/255: {100 * reached:.0f} % reach the target")
axes[0].set_ylabel("true class of the image")
figure.colorbar(drawn, ax=axes, shrink=0.8, label="probability of the target, %")
plt.show()

# %% [markdown]
# ## Does it fool another network?
#
# An attacker may not have your network, but can train one. The examples below are made against residual-small and
# shown to both.
#
# **Predict.** How much accuracy do they cost inception? Does it matter whether the attack stops as soon as it fools
# residual-small?

# %%
batches = {"clean images": images, "random noise": noisy[8]}
for name, attack in (("PGD,\nstopped early", PGD(steps=20)), ("PGD,\nto the end", to_the_end)):
    batches[name] = attack(first, images, labels, threat=Linf(8 / 255)).images

figure, axis = plt.subplots(figsize=(8, 4.2))
for offset, (name, model) in zip((-0.2, 0.2), {"residual-small": first, "inception": second}.items(), strict=True):
    heights = [accuracy(model, batch) for batch in batches.values()]
    bars = axis.bar([place + offset for place in range(len(batches))], heights, width=0.38, label=f"shown to {name}")
    axis.bar_label(bars, fmt="%.0f")
axis.set_xticks(range(len(batches)), batches)
axis.set(ylabel="top-1 accuracy, %", ylim=(0, 112), title="Transfer of examples made against residual-small, ε = 8/255")
axis.legend()
plt.show()

# %% [markdown]
# An example just past the border of one network fools that one alone. One deep inside the wrong class carries over in
# part, since networks that were trained on the same data lean on similar cues. So a network is not safe because
# another one's examples fail, and an attack that fails proves nothing about stronger ones: `scenelab robustness` uses
# six attacks and counts the worst, per image.
#
# ## Try
#
# 1. Attack with `L2(0.5)` instead of `Linf` (from `scenelab.attacks`). Where do the perturbations concentrate now?
# 2. Train `first` with `adversarial=AdversarialConfig(method="fast", epsilon=4 / 255)` (from `scenelab.runs`). What
#    happens to both accuracies?
# 3. Use one PGD step, then 2, 5 and 50. From how many on does the accuracy stop falling, and why can more steps not
#    hurt the attack much?
