# %% [markdown]
# # Part 3b: your adversarial samples, step by step
#
# Each cell calls `PGDAttack.perturb` in `code/student_code.py` and shows what it returns beside what it should
# return. Change your code, save the file, run the cell again. A cell says so if there is nothing to check yet.

# %%
import matplotlib.pyplot as plt
import torch
import torch.nn.functional as F
from torch import nn

from show_steps import check_shape, compare, require_shape, say, step, student

# %% [markdown]
# ## 1. The shape, and what must not happen

# %%
torch.manual_seed(0)
network = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1), nn.Tanh(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(128, 4)
)
network.eval()
with torch.no_grad():
    network[-1].weight.mul_(12)
    network[-1].bias.copy_(torch.tensor([0.0, 1, 0, -3]))  # class 3 is the least confident one
images = torch.randn(2, 3, 16, 16)

with step():
    before = images.clone()
    samples = student.PGDAttack(nn.CrossEntropyLoss()).perturb(network, images)
    check_shape("samples", samples, (2, 3, 16, 16))
    say(samples.grad_fn is None, "the samples carry no graph of gradients")
    say(torch.equal(images, before), "the images that went in are unchanged")
    say(not images.requires_grad, "and still need no gradient")
    say(not network.training, "the network is still in the mode that it was in")

# %% [markdown]
# ## 2. Numbers that you can compute by hand
#
# Two classes, four pixels. The score of class 0 is the sum of the pixels times the weights below, and class 1 has the
# negative score: it is the one that the network believes in least. Which way must each pixel move to make class 1
# more likely? Write the samples down, for one step of 0.25, and for ten steps with epsilon 0.5. Then run the cell.

# %%
weights = torch.tensor([[1.0, -1.0], [2.0, -3.0]])
image = torch.tensor([[1.0, 2.0], [3.0, 0.0]])


class TwoClasses(nn.Module):
    """Scores of two classes that are linear in the image, one the negative of the other."""

    def forward(self, images):
        scores = (images * weights).sum(dim=(1, 2, 3))
        return torch.stack([scores, -scores], dim=1)


beside = [("weights", weights), ("image", image)]
with step():
    for steps, expected in [(1, [[0.75, 2.25], [2.75, 0.25]]), (10, [[0.5, 2.5], [2.5, 0.5]])]:
        attack = student.PGDAttack(nn.CrossEntropyLoss(), num_steps=steps, step_size=0.25, epsilon=0.5)
        got = attack.perturb(TwoClasses(), image[None, None])
        require_shape("samples", got, (1, 1, 2, 2))
        title = f"step size 0.25, epsilon 0.5, num_steps {steps}"
        compare(title, torch.tensor(expected), got[0, 0], beside=beside)

# %% [markdown]
# ## 3. The loss over the steps
#
# The attack is run with 1, 2, … 20 steps. Three curves should be seen: the loss of the least confident label (class
# 3) falls; the largest change of a value grows by at most 0.01 in each step, and never past epsilon; and the size of
# the graph of gradients, which is measured in each step of the longest run, stays the same.
#
# **Predict.** After how many steps is the largest change as large as it may be?

# %%
step_size, epsilon, longest = 0.01, 0.1, 20


def graph_size(tensor):
    """Return the number of operations that a backward pass from this tensor would go through."""
    seen, waiting = set(), [tensor.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [before for before, _ in node.next_functions]
    return len(seen)


with step():
    losses, changes, sizes = [], [], []

    def loss_fn(scores, labels):
        """Return the cross-entropy, and write down the size of its graph."""
        value = F.cross_entropy(scores, labels)
        sizes.append(graph_size(value))
        return value

    labels = torch.tensor([3, 3])
    for steps in range(longest + 1):
        sizes.clear()
        attack = student.PGDAttack(loss_fn, num_steps=steps, step_size=step_size, epsilon=epsilon)
        samples = attack.perturb(network, images) if steps else images
        require_shape("samples", samples, images.shape)
        with torch.no_grad():
            losses.append(F.cross_entropy(network(samples), labels).item())
            changes.append((samples - images).abs().max().item())
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6))
    axes[0].plot(losses, marker="o", ms=4)
    axes[0].set(xlabel="num_steps", ylabel="cross-entropy", title="loss of the least confident label")
    axes[1].plot(changes, marker="o", ms=4, label="your samples")
    axes[1].axhline(epsilon, color="black", ls=":", label="epsilon")
    axes[1].set(xlabel="num_steps", ylabel="largest change of a value", title="distance from the images")
    axes[1].set_ylim(0)
    axes[1].legend()
    axes[2].plot(range(1, len(sizes) + 1), sizes, marker="o", ms=4)
    axes[2].set(xlabel="step", ylabel="operations", title="graph of gradients in each step", ylim=(0, None))
    plt.show()
    say(losses[-1] < losses[0], f"the loss falls: {losses[0]:.3f} before, {losses[-1]:.3f} after {longest} steps")
    falls = int((torch.tensor(losses).diff() < 0).sum())
    print(f"  (it falls in {falls} of {longest} steps; at the edge of the neighborhood it may stay as it is)")
    say(max(changes) <= epsilon + 1e-6, f"no value changes by more than epsilon: {max(changes):.4f}")
    if sizes:
        say(max(sizes) < 2 * sizes[0], f"the graph does not grow: {sizes[0]} operations at first, {sizes[-1]} at last")
    else:
        say(False, "the loss was never computed with self.loss_fn")

# %% [markdown]
# ## 4. Look at the samples
#
# Left: an image with a bright square. Middle: what the attack adds, enlarged. Can you see the difference between left
# and right?

# %%
with step():
    image = torch.zeros(1, 3, 16, 16)
    image[:, :, 4:12, 5:13] = torch.tensor([1.0, 0.5, -0.5]).view(1, 3, 1, 1)
    sample = student.PGDAttack(nn.CrossEntropyLoss()).perturb(network, image)
    require_shape("sample", sample, image.shape)
    with torch.no_grad():
        before, after = (100 * network(batch).softmax(dim=1)[0] for batch in (image, sample))
    figure, axes = plt.subplots(1, 4, figsize=(13, 3.4), width_ratios=[1, 1, 1, 1.3])
    pictures = {"image": image + 1.5, "change (gray: 0)": (sample - image) / 0.1 * 1.5 + 1.5, "sample": sample + 1.5}
    for axis, (title, values) in zip(axes, pictures.items()):
        axis.imshow((values[0].permute(1, 2, 0) / 3).clamp(0, 1))
        axis.set(title=title, xticks=[], yticks=[])
    for offset, values, name in ((-0.2, before, "image"), (0.2, after, "sample")):
        axes[3].bar([place + offset for place in range(4)], values, width=0.38, label=name)
    axes[3].set(xlabel="class", ylabel="probability, %", xticks=range(4), title="what the network says")
    axes[3].legend()
    plt.show()
    say(after[3] > before[3], f"class 3 gains: {before[3]:.1f} % before, {after[3]:.1f} % after")

# %% [markdown]
# All ✓? Then attack your trained network: `python ./main.py ../data --resume=../models/model_best.pth.tar -a -v`.
