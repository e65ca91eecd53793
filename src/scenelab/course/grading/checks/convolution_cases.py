"""Sizes and tensors of the convolution checks, and explanations of common mistakes."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from scenelab.course.grading.checks.base import CheckContext, close, comparison, draw, draw_images, show

TOLERANCE = 1e-5  # test_conv.py's, of the largest value or of 1
TOLERANCE_SINGLE = 1e-4  # the same in float32, whose products of some hundred terms are good to about 1e-6 each


@dataclass(frozen=True)
class Case:
    """A convolution's sizes: images, channels in and out, kernel, stride, padding, height, width.

    They are small, so that seven nested loops in Python end in time on a slow machine.
    """

    n: int
    ci: int
    co: int
    k: int
    s: int
    p: int
    h: int
    w: int

    def __str__(self) -> str:
        return (
            f"input {self.n}×{self.ci}×{self.h}×{self.w}, weight {self.co}×{self.ci}×{self.k}×{self.k}, "
            f"stride {self.s}, padding {self.p}"
        )


HANDOUT = Case(2, 3, 4, 7, 2, 3, 8, 8)  # test_conv.py's kernel, stride and padding
WATCHED = Case(1, 2, 3, 3, 1, 1, 4, 4)
SQUARE = (Case(1, 1, 1, 2, 1, 0, 3, 3), Case(1, 1, 1, 3, 1, 1, 3, 3), Case(2, 3, 4, 3, 1, 1, 6, 6), HANDOUT)
WIDE = (Case(1, 1, 1, 2, 1, 0, 2, 4), Case(2, 3, 5, 3, 2, 1, 9, 5), Case(2, 2, 3, 3, 1, 0, 4, 11))
UNEVEN = (
    Case(1, 1, 1, 2, 2, 0, 3, 3),
    Case(2, 3, 4, 3, 2, 0, 8, 8),
    Case(1, 2, 3, 3, 3, 1, 9, 9),
    Case(2, 2, 2, 5, 4, 2, 11, 11),
)
POINT = (
    Case(1, 1, 1, 1, 1, 0, 2, 2),
    Case(2, 4, 3, 1, 1, 0, 5, 5),
    Case(2, 3, 2, 1, 2, 0, 5, 5),
    Case(1, 2, 3, 1, 1, 1, 4, 4),
)


@dataclass
class Drawn:
    """Tensors of a case, and what PyTorch makes of them in float64."""

    case: Case
    sent: dict[str, Tensor]

    def leaves(self) -> dict[str, Tensor]:
        """The arguments in float64, with gradients."""
        names = ("input", "weight", "bias")
        return {name: self.sent[name].double().requires_grad_(True) for name in names if name in self.sent}

    def output(self) -> Tensor:
        """What is expected."""
        leaves = self.leaves()
        return F.conv2d(leaves["input"], leaves["weight"], leaves.get("bias"), self.case.s, self.case.p).detach()

    def gradient(self, of: str) -> Tensor:
        """The expected gradient of one argument."""
        leaves = self.leaves()
        output = F.conv2d(leaves["input"], leaves["weight"], leaves.get("bias"), self.case.s, self.case.p)
        return torch.autograd.grad(output, leaves[of], self.sent["towards"].double())[0]


def draw_case(context: CheckContext, case: Case, generator: torch.Generator, *, bias: bool = True,
          dtype: torch.dtype = torch.float64) -> Drawn:  # fmt: skip
    sent = {
        "input": draw_images(generator, case.n, case.ci, case.h, case.w, dtype=dtype),
        "weight": draw(generator, case.co, case.ci, case.k, case.k, dtype=dtype),
    }
    if bias:
        sent["bias"] = draw(generator, case.co, dtype=dtype)
    drawn = Drawn(case, sent)
    sent["towards"] = draw(generator, *drawn.output().shape, dtype=dtype)
    return drawn


def example_of(drawn: Drawn, found: Tensor, expected: Tensor, *, of: str | None = None) -> str:
    """The case in numbers where it is small, else its sizes."""
    lines = [str(drawn.case) + ("" if "bias" in drawn.sent else ", bias None")]
    if all(value.numel() <= 16 for value in drawn.sent.values()):
        names = ["input", "weight", "bias"] if of is None else ["input", "weight", "bias", "towards"]
        for name in names:
            if name in drawn.sent:
                lines += [f"{'gradient of the output' if name == 'towards' else name}:", show(drawn.sent[name])]
    return "\n".join([*lines, comparison(found, expected)])


def forward_guesses(drawn: Drawn) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    """What often goes wrong, and what comes of it."""
    x, w, b = (drawn.sent.get(name) for name in ("input", "weight", "bias"))
    assert x is not None
    assert w is not None
    s, p = drawn.case.s, drawn.case.p
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
    yield (
        "the padding repeats the border; it has to be zeros",
        lambda: F.conv2d(F.pad(x, (p, p, p, p), mode="replicate"), w, b, s),
    )
    yield (
        "outputs lie in another order (a view where a permute is needed)",
        lambda: F.conv2d(x, w, b, s, p).flatten(2).transpose(1, 2).reshape(drawn.output().shape),
    )


def gradient_guesses(of: str, expected: Tensor, drawn: Drawn) -> Iterator[tuple[str, Callable[[], Tensor]]]:
    images, places = drawn.case.n, drawn.sent["towards"][0, 0].numel()
    yield "its sign is wrong", lambda: -expected
    yield "it is divided by the number of images; gradients are sums", lambda: expected / images
    yield "it is divided by the number of places; gradients are sums", lambda: expected / places
    yield "it is divided by images and places; gradients are sums", lambda: expected / (images * places)
    if of == "weight":
        yield "the kernel is flipped", lambda: expected.flip(2, 3)
        yield "the kernel's rows and columns are exchanged", lambda: expected.transpose(2, 3)


def explain_mistake(
    found: Tensor,
    guesses: Iterator[tuple[str, Callable[[], Tensor]]],
    tolerance: float = TOLERANCE,
    *,
    by_shape: bool = True,
) -> str:
    """The first guess that explains a wrong result, by its values or, where the shape is wrong, by that."""
    fallback = ""
    for text, make in guesses:
        try:
            guess = make().detach()
        except RuntimeError:
            continue
        if close(found, guess, tolerance):
            return f"; {text}"
        if by_shape and not fallback and found.shape == guess.shape and "left out" in text:
            fallback = f"; {text}, by its shape"
    return fallback
