"""Part 1: the convolution by hand."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scenelab.course.grading.checks.base import (
    CheckContext,
    CheckFailed,
    ask_own,
    check,
    close,
    comparison,
    draw,
    draw_images,
    floats,
    require_finite,
    shape_of,
)
from scenelab.course.grading.checks.convolution_cases import (
    HANDOUT,
    POINT,
    SQUARE,
    TOLERANCE,
    TOLERANCE_SINGLE,
    UNEVEN,
    WATCHED,
    WIDE,
    Case,
    Drawn,
    draw_case,
    example_of,
    explain_mistake,
    forward_guesses,
    gradient_guesses,
)
from scenelab.course.grading.scenelab_runner.networks import build, load
from scenelab.course.grading.scenelab_runner.wire import Message
from scenelab.course.grading.worker import SubmissionError

ONE_IN = 8  # further calls that are watched as the first is: which ones, nobody can tell
BITS = 20  # inputs whose results are compared bit for bit
SLIM = [
    ["conv", 3, 4, 7, 2, 3, True], ["relu"], ["pool"],
    ["conv", 4, 4, 1, 1, 0, True], ["relu"], ["conv", 4, 4, 3, 1, 1, True], ["relu"],
    ["conv", 4, 8, 1, 1, 0, True], ["relu"], ["pool"],
    ["conv", 8, 12, 3, 1, 1, True], ["relu"], ["mean"], ["linear", 12, 10],
]  # fmt: skip
"""SimpleNet's kinds of layers with few channels: about 110,000 products, which loops in Python do in seconds."""


def _ask(context: CheckContext, drawn: Drawn, of: str | None) -> Message:
    name = f"watch {context.name} {drawn.case} {of}"
    trace = bool(torch.randint(ONE_IN, (), generator=context.generator(name)) == 0) and drawn.case.k < HANDOUT.k
    return ask_own(context, "convolve", drawn.sent, stride=drawn.case.s, padding=drawn.case.p, of=of, trace=trace)


def _check_forward(context: CheckContext, cases: tuple[Case, ...], *, bias: bool = True) -> None:
    generator = context.generator()
    for case in cases:
        drawn = draw_case(context, case, generator, bias=bias)
        found, expected = floats(_ask(context, drawn, None), "output", "the output"), drawn.output()
        example = example_of(drawn, found, expected)
        if found.shape != expected.shape:
            why = explain_mistake(found, forward_guesses(drawn))
            text = f"the output is {shape_of(found)} where {shape_of(expected)} is expected{why}"
            raise CheckFailed(text, example)
        require_finite(found, "the output")
        if not close(found, expected, TOLERANCE):
            why = explain_mistake(found, forward_guesses(drawn))
            raise CheckFailed(f"the outputs are wrong{why}", example)


def _check_gradient(context: CheckContext, cases: tuple[Case, ...], of: str, *, bias: bool = True) -> None:
    generator = context.generator()
    for case in cases:
        drawn = draw_case(context, case, generator, bias=bias)
        found, expected = floats(_ask(context, drawn, of), "gradient", f"the gradient of {of}"), drawn.gradient(of)
        example = example_of(drawn, found, expected, of=of)
        if found.shape != expected.shape:
            raise CheckFailed(f"the gradient of {of} is {shape_of(found)}, {shape_of(expected)} is expected", example)
        require_finite(found, f"the gradient of {of}")
        if not close(found, expected, TOLERANCE):
            why = explain_mistake(found, gradient_guesses(of, expected, drawn))
            raise CheckFailed(f"the gradient of {of} is wrong{why}", example)


@check("convolution")
def conv_by_hand(context: CheckContext) -> None:
    """The convolution is your own: when it runs, it calls no convolution of PyTorch or of another package."""
    source = context.submission.source
    drawn = draw_case(context, WATCHED, context.generator())
    try:
        reply = ask_own(
            context, "convolve", drawn.sent, stride=drawn.case.s, padding=drawn.case.p, of="weight", trace=True
        )
        context.watched = close(reply.tensors["output"], drawn.output(), TOLERANCE)
    except SubmissionError:
        context.watched = False  # what does not run calls nothing; the next checks say what is wrong
        return
    if source.banned:
        context.remark(
            f"PyTorch's convolution is named, which costs nothing as long as yours does not call it: "
            f"{'; '.join(source.banned[:4])}."
        )
    _compare_bits(context)


def second_opinion(context: CheckContext) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Twenty inputs in float32 whose sums come out differently, in the last bits, in another order; and their cases."""
    generator = context.generator("second opinion")
    tensors, cases = {}, []
    for number in range(BITS):
        channels, kernel = 12 + 2 * number, 3 + number % 2
        tensors[f"input{number}"] = draw(generator, 2, channels, kernel, kernel + 1, dtype=torch.float32)
        tensors[f"weight{number}"] = draw(generator, 2, channels, kernel, kernel, dtype=torch.float32)
        tensors[f"bias{number}"] = draw(generator, 2, dtype=torch.float32)
        cases.append([1, 0])
    return tensors, {"cases": cases}


def _compare_bits(context: CheckContext) -> None:
    """Mark a convolution that is equal to PyTorch's to the last bit, by the sums that it makes in the same order."""
    worker = context.worker
    if worker.first is None:
        return
    tensors, values = second_opinion(context)
    try:
        reply = worker.call("convolve_all", tensors, seed=context.own_seed, **values)
    except SubmissionError:
        context.compared = False
        return
    native = worker.first.tensors
    outputs = [reply.tensors[f"output{number}"] for number in range(BITS)]
    if any(
        all(torch.equal(output, native[f"{way}{number}"]) for number, output in enumerate(outputs))
        for way in ("output", "apart")
    ):
        slower = worker.seconds > 1.5 * worker.first_seconds + 0.005
        worker.flag(
            f"the convolution is equal to PyTorch's to the last bit in {BITS} cases in which another order of the sums "
            f"is not{'' if slower else ', and takes no longer'}"
        )


@check("convolution", needs=("conv_by_hand",))
def conv_forward(context: CheckContext) -> None:
    """custom_conv2d gives the values of F.conv2d."""
    _check_forward(context, SQUARE)
    if not context.watched:
        context.worker.flag("the convolution fails where its calls are watched, and is right elsewhere")
    if not context.compared:
        context.worker.flag("the convolution fails where its last bits are compared, and is right elsewhere")


@check("convolution", needs=("conv_by_hand",))
def conv_grad_input(context: CheckContext) -> None:
    """backward gives the gradient of the input."""
    _check_gradient(context, SQUARE, "input")


@check("convolution", needs=("conv_by_hand",))
def conv_grad_weight(context: CheckContext) -> None:
    """backward gives the gradient of the weight, summed over the images of the batch."""
    _check_gradient(context, SQUARE, "weight")


@check("convolution", needs=("conv_by_hand",))
def conv_grad_bias(context: CheckContext) -> None:
    """backward gives the gradient of the bias: the sum over images and places."""
    _check_gradient(context, SQUARE, "bias")


@check("convolution", needs=("conv_by_hand",))
def conv_rectangle(context: CheckContext) -> None:
    """Images may be wider than high: values and all three gradients."""
    _all_four(context, WIDE)


@check("convolution", needs=("conv_by_hand",))
def conv_stride(context: CheckContext) -> None:
    """The stride need not divide the image: values and all three gradients."""
    _all_four(context, UNEVEN)


@check("convolution", needs=("conv_by_hand",))
def conv_one_by_one(context: CheckContext) -> None:
    """1×1 kernels work, with and without stride and padding: values and all three gradients."""
    _all_four(context, POINT)


def _all_four(context: CheckContext, cases: tuple[Case, ...], *, bias: bool = True) -> None:
    """Values and gradients of each case before the next, so that the smallest that fails is shown."""
    for case in cases:
        _check_forward(context, (case,), bias=bias)
        for of in ("input", "weight", "bias") if bias else ("input", "weight"):
            _check_gradient(context, (case,), of, bias=bias)


@check("convolution", needs=("conv_by_hand",))
def conv_no_bias(context: CheckContext) -> None:
    """The bias may be None, forward and backward; networks with batch normalisation need that."""
    _all_four(context, (SQUARE[0], SQUARE[2]), bias=False)


@check("convolution", needs=("conv_by_hand",))
def conv_dtype(context: CheckContext) -> None:
    """The output has the dtype of the input: float32 stays float32, float64 stays float64."""
    generator = context.generator()
    for dtype in (torch.float32, torch.float64):
        drawn = draw_case(context, SQUARE[2], generator, dtype=dtype)
        found = floats(_ask(context, drawn, None), "output", "the output")
        if found.dtype != dtype:
            raise CheckFailed(f"the output is {found.dtype} for an input of {dtype}")
        _require_convolution(drawn, found)


def _require_convolution(drawn: Drawn, found: Tensor) -> None:
    """Fail where the output is no convolution, not even one with a mistake that has a name: what it leaves alone and
    which dtype it has is worth nothing then.
    """
    expected, tolerance = drawn.output(), TOLERANCE if found.dtype == torch.float64 else TOLERANCE_SINGLE
    guesses = forward_guesses(drawn)
    if not close(found, expected, tolerance) and not explain_mistake(found, guesses, tolerance, by_shape=False):
        raise CheckFailed("the output is not that of a convolution", example_of(drawn, found, expected))


@check("convolution", needs=("conv_by_hand",))
def conv_leaves_input(context: CheckContext) -> None:
    """Input, weight and bias are the same after the call as before."""
    drawn = draw_case(context, HANDOUT, context.generator())
    reply = _ask(context, drawn, "weight")
    for name in ("input", "weight", "bias"):
        after = reply.tensors.get(f"{name}_after")
        if after is None or after.dtype != drawn.sent[name].dtype or not torch.equal(after, drawn.sent[name]):
            raise CheckFailed(f"{name} has been changed by the call; work on a copy")
    _require_convolution(drawn, floats(reply, "output", "the output"))


@check("convolution", needs=("conv_by_hand",))
def conv_inplace_relu(context: CheckContext) -> None:
    """CustomConv2d works with nn.ReLU(inplace=True) behind it, as in SimpleNet; a view must not be returned."""
    generator, case = context.generator(), Case(2, 3, 4, 3, 1, 1, 6, 6)
    drawn = draw_case(context, case, generator, dtype=torch.float32)
    reply = ask_own(context, "run_module", drawn.sent, kernel=case.k, stride=case.s, padding=case.p)
    leaves = drawn.leaves()
    output = F.relu(F.conv2d(leaves["input"], leaves["weight"], leaves["bias"], case.s, case.p))
    gradients = torch.autograd.grad(output, list(leaves.values()), drawn.sent["towards"].double())
    _compare(reply, "output", output, "the output behind the ReLU")
    for name, expected in zip(leaves, gradients, strict=True):
        _compare(reply, f"{name}_gradient", expected, f"the gradient of {name} behind the ReLU")


@check("convolution", needs=("conv_by_hand",))
def conv_in_network(context: CheckContext) -> None:
    """A training step of a small SimpleNet made of CustomConv2d gives the loss and the gradients of nn.Conv2d."""
    generator = context.generator()
    native = build(SLIM).double()
    weights = {n: draw(generator, *p.shape) / max(1, p[0].numel()) ** 0.5 for n, p in native.named_parameters()}
    images, labels = draw_images(generator, 2, 3, 16, 20), torch.randint(0, 10, (2,), generator=generator)
    load(native, weights)
    loss = F.cross_entropy(native(images.double()), labels)
    loss.backward()
    sent: dict[str, Any] = {name: value.float() for name, value in weights.items()}
    try:
        reply = ask_own(context, "train_step", {**sent, "input": images, "labels": labels}, layers=SLIM)
    except SubmissionError as error:
        if error.kind == "time":
            error.text += "; the convolution may be right and too slow for a network: use matrix products"
        raise
    _compare(reply, "loss", loss, "the loss")
    for name, parameter in native.named_parameters():
        assert parameter.grad is not None
        _compare(reply, name, parameter.grad, f"the gradient of layer {name}")


def _compare(reply: Message, name: str, expected: Tensor, what: str) -> None:
    found = reply.tensors.get(name)
    if found is None:
        raise CheckFailed(f"{what} is missing: nothing reached it in the backward pass")
    found = floats(reply, name, what)
    require_finite(found, what)
    if not close(found, expected.detach(), TOLERANCE_SINGLE):
        raise CheckFailed(f"{what} is wrong", comparison(found, expected.detach()))
