"""Sizes and tensors for the convolution checks, and explanations of common mistakes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from scenelab.course.grading.checks.base import close, comparison, draw, draw_images, show

TOLERANCE = 1e-5  # same as in test_conv.py, relative to max(1, largest value)
TOLERANCE_SINGLE = 1e-4  # for float32: the error of a sum of a few hundred products is about 1e-6
Guesses = Iterator[tuple[str, Callable[[], Tensor]]]


class Case(NamedTuple):
    """Sizes of a convolution, small enough for seven nested Python loops on a slow machine."""

    images: int
    inputs: int  # channels
    outputs: int  # channels
    kernel: int
    stride: int
    padding: int
    height: int
    width: int

    def __str__(self) -> str:
        images, inputs, outputs, kernel, stride, padding, height, width = self
        sizes = f"input {images}×{inputs}×{height}×{width}, weight {outputs}×{inputs}×{kernel}×{kernel}"
        return f"{sizes}, stride {stride}, padding {padding}"


HANDOUT = Case(2, 3, 4, 7, 2, 3, 8, 8)  # test_conv.py's kernel, stride and padding
WATCHED = Case(1, 2, 3, 3, 1, 1, 4, 4)
PADDED = Case(2, 3, 4, 3, 1, 1, 6, 6)
COMBINED = Case(2, 3, 4, 3, 2, 1, 8, 5)  # stride and sides that differ
SQUARE = (Case(1, 1, 1, 2, 1, 0, 3, 3), Case(1, 1, 1, 3, 1, 1, 3, 3), PADDED, HANDOUT)
WIDE = (Case(1, 1, 1, 2, 1, 0, 2, 4), Case(2, 3, 5, 3, 2, 1, 9, 5), Case(2, 2, 3, 3, 1, 0, 4, 11))
UNEVEN = (Case(1, 1, 1, 2, 2, 0, 3, 3), Case(2, 3, 4, 3, 2, 0, 8, 8), Case(1, 2, 3, 3, 3, 1, 9, 9))
UNEVEN += (Case(2, 2, 2, 5, 4, 2, 11, 11),)
POINT = (Case(1, 1, 1, 1, 1, 0, 2, 2), Case(2, 4, 3, 1, 1, 0, 5, 5), Case(2, 3, 2, 1, 2, 0, 5, 5))
POINT += (Case(1, 2, 3, 1, 1, 1, 4, 4),)
COMBINATIONS = [
    (case, bias, torch.float32 if bias == (case.stride == 1) else torch.float64)
    for case in (PADDED, PADDED._replace(width=4), PADDED._replace(stride=2), COMBINED)
    for bias in (True, False)
]
"""Bias × stride × H≠W; bias × H≠W and stride × H≠W come with both dtypes. The first is the plainest."""


@dataclass
class Drawn:
    """Tensors of a case by name: input, weight, optional bias, and `towards`, the upstream gradient of the output."""

    case: Case
    sent: dict[str, Tensor]

    def leaves(self) -> dict[str, Tensor]:
        """Return input, weight and bias as float64 leaves that require gradients."""
        names = ("input", "weight", "bias")
        return {name: self.sent[name].double().detach().requires_grad_(True) for name in names if name in self.sent}

    def expected(self, of: str | None = None) -> Tensor:
        """Return PyTorch's output in float64, or the gradient with respect to the argument `of`."""
        leaves = self.leaves()
        output = F.conv2d(leaves["input"], leaves["weight"], leaves.get("bias"), self.case.stride, self.case.padding)
        if of is None:
            return output.detach()
        return torch.autograd.grad(output, leaves[of], self.sent["towards"].double())[0]


def draw_case(
    case: Case, generator: torch.Generator, *, bias: bool = True, dtype: torch.dtype = torch.float64
) -> Drawn:
    """Return random tensors of a case: normalized images, and standard normal weight, bias and upstream gradient."""
    sent = {
        "input": draw_images(generator, case.images, case.inputs, case.height, case.width, dtype=dtype),
        "weight": draw(generator, case.outputs, case.inputs, case.kernel, case.kernel, dtype=dtype),
    }
    if bias:
        sent["bias"] = draw(generator, case.outputs, dtype=dtype)
    drawn = Drawn(case, sent)
    sent["towards"] = draw(generator, *drawn.expected().shape, dtype=dtype)
    return drawn


def example_of(drawn: Drawn, actual: Tensor, expected: Tensor, *, of: str | None = None) -> str:
    """Format the sizes of a case, its tensors if all are small, and the `comparison` of both results."""
    lines = [str(drawn.case) + ("" if "bias" in drawn.sent else ", bias None")]
    if all(value.numel() <= 16 for value in drawn.sent.values()):
        for name, tensor in drawn.sent.items():
            if name != "towards":
                lines += [f"{name}:", show(tensor)]
            elif of is not None:
                lines += ["gradient of the output:", show(tensor)]
    return "\n".join([*lines, comparison(actual, expected)])


def guesses(drawn: Drawn, of: str | None) -> Guesses:
    """Return an iterator of common mistakes, as pairs: description, and function that computes the wrong result.

    The result is the output if `of` is None, else the gradient with respect to the argument named `of`.
    """
    return _output_guesses(drawn) if of is None else _gradient_guesses(drawn, of)


def _output_guesses(drawn: Drawn) -> Guesses:
    x, w, b = drawn.sent["input"], drawn.sent["weight"], drawn.sent.get("bias")
    s, p = drawn.case.stride, drawn.case.padding
    yield "the bias is not added", lambda: F.conv2d(x, w, None, s, p)
    if b is not None:
        yield "the bias is subtracted", lambda: F.conv2d(x, w, -b, s, p)
        yield "the bias is added twice or more often", lambda: F.conv2d(x, w, 2 * b, s, p)
    yield "the kernel is flipped; Y = W * X is a correlation, as in PyTorch", lambda: F.conv2d(x, w.flip(2, 3), b, s, p)
    yield "the kernel's rows and columns are exchanged", lambda: F.conv2d(x, w.transpose(2, 3), b, s, p)
    if w.shape[0] == w.shape[1]:
        yield "the weight's input and output channels are exchanged", lambda: F.conv2d(x, w.transpose(0, 1), b, s, p)
    yield "the padding is left out", lambda: F.conv2d(x, w, b, s, 0)
    yield "the stride is left out", lambda: F.conv2d(x, w, b, 1, p)
    yield "height and width are exchanged", lambda: F.conv2d(x, w, b, s, p).transpose(2, 3)
    bordered = F.pad(x, (p, p, p, p), mode="replicate")
    yield "the padding repeats the border; it has to be zeros", lambda: F.conv2d(bordered, w, b, s)
    rows = F.conv2d(x, w, b, s, p).flatten(2).transpose(1, 2).reshape(drawn.expected().shape)
    yield "outputs lie in another order (a view where a permute is needed)", lambda: rows


def _gradient_guesses(drawn: Drawn, of: str) -> Guesses:
    expected, images, places = drawn.expected(of), drawn.case.images, drawn.sent["towards"][0, 0].numel()
    yield "its sign is wrong", lambda: -expected
    yield "it is divided by the number of images; gradients are sums", lambda: expected / images
    yield "it is divided by the number of places; gradients are sums", lambda: expected / places
    yield "it is divided by images and places; gradients are sums", lambda: expected / (images * places)
    if of != "input" and images > 1:
        for index in (0, -1):
            first = {name: tensor[index:][:1] for name, tensor in drawn.sent.items() if name in ("input", "towards")}
            alone = Drawn(drawn.case, {**drawn.sent, **first})
            yield "it is that of one image alone; gradients are sums over the batch", partial(alone.expected, of)
    if of == "weight":
        yield "the kernel is flipped", lambda: expected.flip(2, 3)
        yield "the kernel's rows and columns are exchanged", lambda: expected.transpose(2, 3)


def explain_mistake(actual: Tensor, guesses: Guesses, tolerance: float = TOLERANCE, *, by_shape: bool = True) -> str:
    """Return "; " and the description of the first mistake in `guesses` that gives the result `actual`, else "".

    Equal values identify a mistake. With `by_shape`, the output shape also identifies missing padding or stride.
    """
    fallback = ""
    for text, compute in guesses:
        try:
            guess = compute().detach()
        except RuntimeError:  # sizes that do not fit
            continue
        if close(actual, guess, tolerance):
            return f"; {text}"
        if by_shape and not fallback and actual.shape == guess.shape and "left out" in text:
            fallback = f"; {text}, by its shape"
    return fallback
