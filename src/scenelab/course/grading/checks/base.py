"""What a check is: a function whose docstring the student reads, with points, what it needs, and three ways to end."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from scenelab.course.grading.scenelab_runner.wire import Message
from scenelab.course.grading.submission_reader import Submission
from scenelab.course.grading.worker import SubmissionError, Worker
from scenelab.models.normalize import IMAGENET_MEAN, IMAGENET_STD

SHOWN = 16  # values of a counter-example


@dataclass
class CheckFailed(Exception):  # noqa: N818 - an outcome
    """The check was run and the answer is wrong.

    Attributes:
        reason: for the student, one or two sentences.
        example: a small case that shows it, as text.
        share: of the points that is earned all the same.
        known: the answer is the one that is asked for but for a mistake that has a name: what other checks look at,
            such as its shape, is worth points.
    """

    reason: str
    example: str = ""
    share: float = 0.0
    known: bool = False


@dataclass
class CheckSkipped(Exception):  # noqa: N818 - an outcome
    """The check could not be run: for the student, why."""

    reason: str


@dataclass
class CheckContext:
    """What a check works with.

    Attributes:
        worker: runs the student's code.
        submission: what was handed in.
        seed: of all inputs that are drawn.
        name: of the check that runs.
        remarks: what a check wants said though it costs nothing.
        watched: whether the convolution was right in the case in which its calls are watched.
        compared: whether it answered where its last bits are compared.
    """

    worker: Worker
    submission: Submission
    seed: int
    name: str = ""
    remarks: list[str] = field(default_factory=list)
    watched: bool = True
    compared: bool = True

    def generator(self, name: str = "") -> torch.Generator:
        """Draws the same for the same check and seed, whatever ran before."""
        key = hashlib.blake2b(str(self.seed).encode(), digest_size=32).digest()
        digest = hashlib.blake2b((name or self.name).encode(), digest_size=8, key=key).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)

    @property
    def own_seed(self) -> int:
        """What the student's process is seeded with: it does not depend on the seed, so it tells nothing of it."""
        digest = hashlib.blake2b(self.name.encode(), digest_size=4, person=b"student").digest()
        return int.from_bytes(digest, "little")

    def remark(self, text: str) -> None:
        """Say something once."""
        if text not in self.remarks:
            self.remarks.append(text)


@dataclass(frozen=True)
class Check:
    """A check by its name; `text` is what the student reads, `needs` the checks without which it makes no sense."""

    name: str
    group: str
    text: str
    needs: tuple[str, ...]
    run: Callable[[CheckContext], None]


CHECKS: dict[str, Check] = {}


def check(
    group: str, *, needs: tuple[str, ...] = ()
) -> Callable[[Callable[[CheckContext], None]], Callable[[CheckContext], None]]:
    """Make a function a check; its name is the check's, its docstring what the student reads."""

    def register(function: Callable[[CheckContext], None]) -> Callable[[CheckContext], None]:
        name = function.__name__
        text = " ".join((function.__doc__ or "").split())
        if not text or name in CHECKS:
            raise ValueError(f"check {name} has no docstring or is there twice")
        CHECKS[name] = Check(name, group, text, needs, function)
        return function

    return register


def draw_images(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Images as a network of the handout gets them: drawn from [0, 1] and normalised, channels taking turns."""
    images = torch.rand(*shape, generator=generator, dtype=torch.float64)
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in (IMAGENET_MEAN, IMAGENET_STD))
    repeated = [index % 3 for index in range(shape[1])]
    return ((images - mean[repeated][:, None, None]) / std[repeated][:, None, None]).to(dtype)


def draw(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Normal values."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def close(found: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Whether tensors of one shape differ nowhere by more than `tolerance` of the largest expected value or of 1."""
    if found.shape != expected.shape or not (found.is_floating_point() or found.dtype == expected.dtype):
        return False
    difference = (found.double() - expected.double()).abs()
    scale = max(1.0, expected.double().abs().max().item()) if expected.numel() else 1.0
    return bool(difference.isfinite().all()) and (
        not difference.numel() or difference.max().item() <= tolerance * scale
    )


def shape_of(tensor: Tensor) -> str:
    """2×3×12×12."""
    return "×".join(map(str, tensor.shape)) or "a single number"


def show(tensor: Tensor) -> str:
    """Values to three decimals, the first of them where there are many."""
    values = [f"{float(value):.3f}" for value in tensor.detach().reshape(-1)[:SHOWN].double()]
    rows = tensor.shape[-1] if tensor.dim() and 0 < tensor.shape[-1] <= SHOWN else SHOWN
    lines = [" ".join(f"{value:>8}" for value in values[i : i + rows]) for i in range(0, len(values), max(1, rows))]
    more = f"\n… {tensor.numel() - SHOWN} more" if tensor.numel() > SHOWN else ""
    return "\n".join(lines) + more


def comparison(found: Tensor, expected: Tensor) -> str:
    """The largest difference and where it is, then both tensors."""
    lines = []
    if found.shape == expected.shape and found.numel():
        difference = (found.double() - expected.double()).abs().nan_to_num(float("inf"))
        worst = tuple(int(i) for i in torch.unravel_index(difference.argmax(), difference.shape))
        lines.append(f"largest difference: {difference.max().item():.3g} at index {worst}")
    lines += [f"expected ({shape_of(expected)}):", show(expected), f"got ({shape_of(found)}):", show(found)]
    return "\n".join(lines)


def listed(values: dict[str, Any], name: str) -> list[str]:
    """The first of a list of names from the student's process."""
    return all_listed(values, name)[:3]


def all_listed(values: dict[str, Any], name: str) -> list[str]:
    """A list of names from the student's process, which may send anything.

    Raises:
        SubmissionError: it is none.
    """
    found = values.get(name, [])
    if not isinstance(found, list):
        raise SubmissionError("protocol", "disturbed what the grader's process tells of it")
    return [str(each)[:80] for each in found]


def require_finite(found: Tensor, what: str) -> None:
    """Fail where a value is no number."""
    if found.is_floating_point() and not found.isfinite().all():
        raise CheckFailed(f"{what} holds values that are no numbers (inf or nan)")


def ask_own(context: CheckContext, operation: str, tensors: dict[str, Tensor], **values: Any) -> Message:
    """Ask something that runs the student's convolution; PyTorch's own refuses to work meanwhile.

    Raises:
        CheckFailed: it was called.
        SubmissionError: there is no answer for another reason.
    """
    try:
        return context.worker.call(operation, tensors, seed=context.own_seed, **values)
    finally:
        reached = context.worker.convolutions
        if reached:
            names = "; ".join(dict.fromkeys(reached[:3]))
            raise CheckFailed(f"calls a convolution that is not its own ({names}); write it yourself")


def floats(reply: Message, name: str, what: str) -> Tensor:
    """A tensor of numbers from an answer.

    Raises:
        CheckFailed: its dtype is not a floating-point one.
    """
    tensor = reply.tensors[name]
    if not tensor.is_floating_point():
        raise CheckFailed(f"{what} is a tensor of {tensor.dtype}; floating-point numbers are expected")
    return tensor
