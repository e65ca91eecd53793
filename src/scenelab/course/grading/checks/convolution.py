"""Checks of the convolution written by hand, part 1 of the assignment."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scenelab.course.grading.checks import base
from scenelab.course.grading.checks import convolution_cases as cases
from scenelab.course.grading.checks.base import CheckContext, check
from scenelab.course.grading.checks.convolution_cases import TOLERANCE, TOLERANCE_SINGLE, Case, Drawn, draw_case
from scenelab.course.grading.checks.verdict import CheckFailed, SubmissionError
from scenelab_runner.message import Message
from scenelab_runner.networks import build, load

ONE_IN = 8  # one call in this number is traced, drawn at random so that a submission cannot tell which
BITS = 20  # inputs of the bitwise comparison with PyTorch
NEEDS = ("conv_by_hand",)
STEM = [["conv", 3, 4, 7, 2, 3, True], ["relu"], ["pool"]]
NARROW = [["conv", 4, 4, 1, 1, 0, True], ["relu"], ["conv", 4, 4, 3, 1, 1, True], ["relu"]]
WIDER = [["conv", 4, 8, 1, 1, 0, True], ["relu"], ["pool"], ["conv", 8, 12, 3, 1, 1, True], ["relu"]]
SLIM = [*STEM, *NARROW, *WIDER, ["mean"], ["linear", 12, 10]]
"""SimpleNet's layer types with few channels: about 110,000 products, or a few seconds of Python loops."""


def _ask(context: CheckContext, drawn: Drawn, of: str | None, *, trace: bool = False) -> Message:
    case = drawn.case
    return context.call_own("convolve", drawn.sent, stride=case.stride, padding=case.padding, of=of, trace=trace)


def _ask_sometimes_watched(context: CheckContext, drawn: Drawn, of: str | None) -> Message:
    generator = context.generator(f"watch {context.name} {drawn.case} {of}")
    trace = bool(torch.randint(ONE_IN, (), generator=generator) == 0) and drawn.case.kernel < cases.HANDOUT.kernel
    return _ask(context, drawn, of, trace=trace)


def _require_values(context: CheckContext, case: Case, of: str | None, *, bias: bool) -> None:
    """Run the student's convolution on random tensors of a case; raise CheckFailed if the result is wrong.

    The result is the output if `of` is None, else the gradient with respect to the argument named `of`.
    """
    drawn = draw_case(case, context.generator(), bias=bias)
    name, what = ("output", "the output") if of is None else ("gradient", f"the gradient of {of}")
    actual, expected = base.floats(_ask_sometimes_watched(context, drawn, of), name, what), drawn.expected(of)
    example = cases.example_of(drawn, actual, expected, of=of)
    if actual.shape != expected.shape:
        why = cases.explain_mistake(actual, cases.guesses(drawn, of))
        raise CheckFailed(
            f"{what} is {base.shape_of(actual)} where {base.shape_of(expected)} is expected{why}", example
        )
    base.require_finite(actual, what)
    if not base.close(actual, expected, TOLERANCE):
        raise CheckFailed(f"{what} is wrong{cases.explain_mistake(actual, cases.guesses(drawn, of))}", example)


@check("convolution")
def conv_by_hand(context: CheckContext) -> None:
    """The convolution is your own: when it runs, it calls no convolution of PyTorch or of another package."""
    drawn = draw_case(cases.WATCHED, context.generator())
    try:
        try:
            reply = _ask(context, drawn, "weight", trace=True)
        except SubmissionError:  # perhaps backward fails alone
            reply = _ask(context, drawn, None, trace=True)
        context.watched = base.close(reply.tensors["output"], drawn.expected(), TOLERANCE)
    except SubmissionError:
        context.watched = False  # code that fails has called nothing; the next checks report the error
        return
    if banned := context.banned:
        context.remark(
            "PyTorch's convolution is named, which costs nothing as long as yours does not call it: "
            f"{'; '.join(banned[:4])}."
        )
    _compare_bits(context)


def bitwise_request(context: CheckContext) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and values of a request that runs `BITS` random convolutions, to compare results bit by bit.

    The last bits of the float32 results depend on the order of summation.
    """
    generator = context.generator("second opinion")
    tensors = {}
    for number in range(BITS):
        channels, kernel = 12 + 2 * number, 3 + number % 2
        tensors[f"input{number}"] = base.draw(generator, 2, channels, kernel + 1, kernel + 1, dtype=torch.float32)
        tensors[f"weight{number}"] = base.draw(generator, 2, channels, kernel, kernel, dtype=torch.float32)
        tensors[f"bias{number}"] = base.draw(generator, 2, dtype=torch.float32)
    return tensors, {"cases": [[1, 0]] * BITS}


def _compare_bits(context: CheckContext) -> None:
    """Flag the student's convolution for review if it equals PyTorch's results bit for bit in all `BITS` cases."""
    worker = context.worker
    if worker.first is None:
        return
    tensors, values = bitwise_request(context)
    try:
        reply = context.call("convolve_all", tensors, **values)
    except SubmissionError:  # a suspicion, if float32 does not fail as such
        context.compared = not _is_right_alone(
            context, draw_case(cases.PADDED, context.generator(), dtype=torch.float32)
        )
        return
    native = worker.first.tensors
    outputs = [reply.tensors[f"output{number}"] for number in range(BITS)]
    for way in ("output", "apart"):
        if all(torch.equal(output, native[f"{way}{number}"]) for number, output in enumerate(outputs)):
            is_slower = worker.seconds > 1.5 * worker.first_seconds + 0.005
            worker.flag(
                f"the convolution is equal to PyTorch's to the last bit in {BITS} cases in which another order of the "
                f"sums is not{'' if is_slower else ', and takes no longer'}"
            )
            return


@check("convolution", needs=NEEDS)
def conv_forward(context: CheckContext) -> None:
    """custom_conv2d gives the values of F.conv2d."""
    for case in cases.SQUARE:
        _require_values(context, case, None, bias=True)
    for right, what in ((context.watched, "its calls are watched"), (context.compared, "its last bits are compared")):
        if not right:
            context.worker.flag(f"the convolution fails where {what}, and is right elsewhere")


def _register(
    name: str, text: str, sizes: tuple[Case, ...], parts: tuple[str | None, ...], *, bias: bool = True
) -> None:
    """Register a check that compares the student's convolution with PyTorch's for each case in `sizes`.

    An item of `parts` is None to compare outputs, or the argument whose gradients are compared.
    """

    def run(context: CheckContext) -> None:
        for case in sizes:
            for of in parts:
                _require_values(context, case, of, bias=bias)

    run.__name__, run.__doc__ = name, text
    check("convolution", needs=NEEDS)(run)


ARGUMENTS = {
    "input": "the input",
    "weight": "the weight, summed over the images of the batch",
    "bias": "the bias: the sum over images and places",
}
for argument, text in ARGUMENTS.items():
    _register(f"conv_grad_{argument}", f"backward gives the gradient of {text}.", cases.SQUARE, (argument,))
SIZES = {
    "conv_rectangle": ("Images may be wider than high", cases.WIDE),
    "conv_stride": ("The stride need not divide the image", cases.UNEVEN),
    "conv_one_by_one": ("1×1 kernels work, with and without stride and padding", cases.POINT),
}
for name, (text, sizes) in SIZES.items():
    _register(name, f"{text}: values and all three gradients.", sizes, (None, *ARGUMENTS))


@check("convolution", needs=NEEDS)
def conv_no_bias(context: CheckContext) -> None:
    """The bias may be None, forward and backward; networks with batch normalization need that."""
    for case in (cases.SQUARE[0], cases.PADDED, cases.COMBINED):
        try:
            for of in (None, "input", "weight"):
                _require_values(context, case, of, bias=False)
        except (CheckFailed, SubmissionError):
            if case != cases.COMBINED or _is_right_alone(context, draw_case(case, context.generator())):
                raise


@check("convolution", needs=NEEDS)
def conv_dtype(context: CheckContext) -> None:
    """The output has the dtype of the input: float32 stays float32, float64 stays float64."""
    generator = context.generator()
    for bias, dtype in ((True, torch.float32), (True, torch.float64), (False, torch.float64), (False, torch.float32)):
        drawn = draw_case(cases.PADDED, generator, bias=bias, dtype=dtype)
        try:
            output = base.floats(_ask_sometimes_watched(context, drawn, None), "output", "the output")
        except SubmissionError:
            if not bias and dtype == torch.float64:
                return  # conv_no_bias reports it
            raise
        if output.dtype != dtype:
            raise CheckFailed(f"the output is {output.dtype} for an input of {dtype}" + ", bias None" * (not bias))
        _require_convolution(drawn, output)


def _require_convolution(drawn: Drawn, output: Tensor) -> None:
    """Raise CheckFailed if the output is wrong, except by a common mistake, which other checks report."""
    expected, tolerance = drawn.expected(), TOLERANCE if output.dtype == torch.float64 else TOLERANCE_SINGLE
    why = cases.explain_mistake(output, cases.guesses(drawn, None), tolerance, by_shape=False)
    if not why and not base.close(output, expected, tolerance):
        raise CheckFailed("the output is not that of a convolution", cases.example_of(drawn, output, expected))


@check("convolution", needs=NEEDS)
def conv_leaves_input(context: CheckContext) -> None:
    """Input, weight and bias are the same after the call as before."""
    drawn = draw_case(cases.HANDOUT, context.generator())
    reply = _ask_sometimes_watched(context, drawn, "weight")
    for name in ARGUMENTS:
        after = reply.tensors.get(f"{name}_after")
        if after is None or after.dtype != drawn.sent[name].dtype or not torch.equal(after, drawn.sent[name]):
            raise CheckFailed(f"{name} has been changed by the call; work on a copy")
    _require_convolution(drawn, base.floats(reply, "output", "the output"))


@check("convolution", needs=NEEDS)
def conv_inplace_relu(context: CheckContext) -> None:
    """CustomConv2d works when nn.ReLU(inplace=True) follows it, as in SimpleNet: its output must not be a view."""
    generator = context.generator()
    for case, bias, dtype in cases.COMBINATIONS:
        drawn, is_plain = draw_case(case, generator, bias=bias, dtype=dtype), (case, bias) == (cases.PADDED, True)
        where = "" if is_plain else f"; this is with bias {'given' if bias else None}, {case}, {dtype}"
        try:
            _require_module(context, drawn)
        except (CheckFailed, SubmissionError) as error:
            if not is_plain and not _is_right_alone(context, drawn):
                continue  # other checks report it
            if isinstance(error, CheckFailed):
                error.reason += where
            else:
                error.text += where
            raise


def _require_module(context: CheckContext, drawn: Drawn) -> None:
    """Run the student's CustomConv2d and ReLU(inplace=True); raise CheckFailed if output or gradients are wrong."""
    case, leaves = drawn.case, drawn.leaves()
    reply = context.call_own("run_module", drawn.sent, kernel=case.kernel, stride=case.stride, padding=case.padding)
    output = F.relu(F.conv2d(leaves["input"], leaves["weight"], leaves.get("bias"), case.stride, case.padding))
    gradients = torch.autograd.grad(output, list(leaves.values()), drawn.sent["towards"].double())
    _require_close(reply, "output", output, "the output behind the ReLU")
    for name, expected in zip(leaves, gradients):
        _require_close(reply, f"{name}_gradient", expected, f"the gradient of {name} behind the ReLU")


def _is_right_alone(context: CheckContext, drawn: Drawn) -> bool:
    """Return whether the convolution's output and gradients are right without the ReLU."""
    for of in ("input", "weight"):
        try:
            tensors = _ask(context, drawn, of).tensors
        except SubmissionError:
            return False
        pairs = ((tensors["output"], drawn.expected()), (tensors["gradient"], drawn.expected(of)))
        if not all(base.close(actual, expected, TOLERANCE_SINGLE) for actual, expected in pairs):
            return False
    return True


@check("convolution", needs=NEEDS)
def conv_in_network(context: CheckContext) -> None:
    """A training step of a small SimpleNet made of CustomConv2d gives the loss and the gradients of nn.Conv2d."""
    generator = context.generator()
    native = build(SLIM).double()
    weights = {n: base.draw(generator, *p.shape) / max(1, p[0].numel()) ** 0.5 for n, p in native.named_parameters()}
    images, labels = base.draw_images(generator, 2, 3, 16, 16), torch.randint(0, 10, (2,), generator=generator)
    load(native, weights)
    loss = F.cross_entropy(native(images.double()), labels)
    gradients = torch.autograd.grad(loss, list(native.parameters()))
    sent = {**{name: value.float() for name, value in weights.items()}, "input": images, "labels": labels}
    try:
        reply = context.call_own("train_step", sent, layers=SLIM)
    except SubmissionError as error:
        if error.kind == "time":
            error.text += "; the convolution may be right and too slow for a network: use matrix products"
        raise
    _require_close(reply, "loss", loss, "the loss")
    for name, expected in zip(weights, gradients):
        _require_close(reply, name, expected, f"the gradient of layer {name}")


def _require_close(reply: Message, name: str, expected: Tensor, what: str) -> None:
    if name not in reply.tensors:
        raise CheckFailed(f"{what} is missing: nothing reached it in the backward pass")
    actual = base.floats(reply, name, what)
    base.require_finite(actual, what)
    if not base.close(actual, expected.detach(), TOLERANCE_SINGLE):
        raise CheckFailed(f"{what} is wrong", base.comparison(actual, expected.detach()))
