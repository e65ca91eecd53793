"""Pictures of a part's results in a notebook: your values beside those that are expected."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from checks import convolution_cases as cases
from checks.attack_path import perturb
from checks.attack_setting import SMALL, draw_setting, least, slopes
from checks.base import CheckContext, close, floats
from checks.verdict import CheckFailed, SubmissionError


def draw(part: str, context: CheckContext) -> None:
    """Draw the results of a part, unless the code fails or Matplotlib is missing."""
    try:
        import matplotlib.pyplot as plt

        {"convolution": _draw_convolution, "attack": _draw_attack, "attention": _draw_attention}[part](plt, context)
        plt.show()
    except (ImportError, KeyError, CheckFailed, SubmissionError):
        return


def _draw_convolution(plt: Any, context: CheckContext) -> None:
    """Draw the first result that is wrong, or the gradient of the input if all are right."""
    case = cases.PADDED
    drawn = cases.draw_case(case, context.generator("picture"))
    for of in (None, "weight", "input"):
        reply = context.call("convolve", drawn.sent, stride=case.stride, padding=case.padding, of=of)
        what = "output" if of is None else f"gradient of {of}"
        got, expected = floats(reply, "output" if of is None else "gradient", what), drawn.expected(of)
        if not close(got, expected, cases.TOLERANCE):
            break
    maps = {f"{what},\nexpected": expected, "got": got}
    if got.shape == expected.shape:
        maps["difference"] = got - expected
    _draw_maps(plt, maps)


def _draw_attack(plt: Any, context: CheckContext) -> None:
    """Draw the loss of the least confident label over the steps: the images on which the attack calls the network."""
    setting = draw_setting(context, SMALL, images=1, num_steps=10, step_size=0.02, epsilon=0.2)
    attack, network = perturb(context, setting), setting.network()
    with torch.no_grad():
        target = least(network(setting.images.double()))
        batches = [setting.images, *attack.batches, attack.output]
        moved = [a for a, b in zip(batches[1:], batches) if not torch.equal(a, b)]
        scores = [network(each.double()) for each in [setting.images, *moved]]
    losses = [nn.functional.cross_entropy(each, target).item() for each in scores]
    _, axis = plt.subplots(figsize=(5, 3), layout="constrained")
    axis.plot(losses, marker=".")
    axis.set(title="it should fall", xlabel="step", ylabel="loss of the least confident label")


def _draw_attention(plt: Any, context: CheckContext) -> None:
    """Draw the map of a 6×6 image beside that of finite differences: change a pixel, compute the loss again."""
    setting = draw_setting(context, SMALL, images=1)
    got = floats(setting.call(context, "explain"), "output", "the map")
    changes = slopes(setting, lambda scores: scores.argmax(dim=1)).abs()
    _draw_maps(plt, {"your map": got, "finite differences": changes.max(dim=1).values})


def _draw_maps(plt: Any, maps: dict[str, Tensor]) -> None:
    figure, axes = plt.subplots(1, len(maps), figsize=(3.2 * len(maps), 2.8), layout="constrained")
    for axis, (title, values) in zip(axes, maps.items()):
        while values.dim() > 2:
            values = values[0]
        figure.colorbar(axis.imshow(values.detach().double().numpy()), ax=axis)
        axis.set_title(title)
