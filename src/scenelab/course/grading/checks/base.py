"""A check is a function with a docstring for the student; it passes, fails or is skipped."""

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

MAX_SHOWN = 16  # values of a counter-example


@dataclass
class CheckFailed(Exception):  # noqa: N818 - an outcome
    """The answer is wrong; `reason` is for the student, one or two sentences."""

    reason: str
    example: str = ""  # a small case that shows it
    share: float = 0.0  # of the points, earned all the same
    known: bool = False  # right except for one recognized mistake: checks of its other properties still run


@dataclass
class CheckSkipped(Exception):  # noqa: N818 - an outcome
    """The check could not run; `reason` is for the student."""

    reason: str


@dataclass
class CheckContext:
    """Input of the check `name`."""

    worker: Worker
    submission: Submission
    seed: int  # of all random inputs
    name: str = ""
    remarks: list[str] = field(default_factory=list)  # cost no points
    watched: bool = True  # the convolution was right in the case in which its calls are watched
    compared: bool = True  # it answered where its last bits are compared

    def generator(self, name: str = "") -> torch.Generator:
        """Return a generator that depends only on the seed and the name, by default the check's."""
        key = hashlib.blake2b(str(self.seed).encode(), digest_size=32).digest()
        digest = hashlib.blake2b((name or self.name).encode(), digest_size=8, key=key).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)

    @property
    def own_seed(self) -> int:
        """Seed of the student's process, which tells nothing of the grader's."""
        return int.from_bytes(hashlib.blake2b(self.name.encode(), digest_size=4, person=b"student").digest(), "little")

    def call(self, operation: str, tensors: dict[str, Tensor] | None = None, **values: Any) -> Message:
        """Run an operation in the student's process; raise SubmissionError if there is no answer."""
        return self.worker.call(operation, tensors, seed=self.own_seed, **values)

    def call_own(self, operation: str, tensors: dict[str, Tensor], **values: Any) -> Message:
        """Run the student's convolution, and fail if it calls a library's, which refuses to work meanwhile."""
        try:
            return self.call(operation, tensors, **values)
        finally:
            if self.worker.convolutions:
                names = "; ".join(dict.fromkeys(self.worker.convolutions[:3]))
                raise CheckFailed(f"calls a convolution that is not its own ({names}); write it yourself")

    def remark(self, text: str) -> None:
        """Add a remark once."""
        if text not in self.remarks:
            self.remarks.append(text)


@dataclass(frozen=True)
class Check:
    """A check; the student reads `text`, and it is skipped if a check in `needs` did not pass."""

    name: str
    group: str
    text: str
    needs: tuple[str, ...]
    run: Callable[[CheckContext], None]


Run = Callable[[CheckContext], None]
CHECKS: dict[str, Check] = {}


def check(group: str, *, needs: tuple[str, ...] = ()) -> Callable[[Run], Run]:
    """Register a function as a check, by its name and docstring."""

    def register(function: Run) -> Run:
        name, text = function.__name__, " ".join((function.__doc__ or "").split())
        if not text or name in CHECKS:
            raise ValueError(f"check {name} has no docstring or is there twice")
        CHECKS[name] = Check(name, group, text, needs, function)
        return function

    return register


def draw_images(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Draw images in [0, 1] and normalize them, as the handout's networks get them; channels repeat R, G, B."""
    images = torch.rand(*shape, generator=generator, dtype=torch.float64)
    channels = [index % 3 for index in range(shape[1])]
    mean, std = (torch.tensor(values, dtype=torch.float64)[channels] for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((images - mean[:, None, None]) / std[:, None, None]).to(dtype)


def draw(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Draw normal values."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def close(actual: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Return whether tensors of one shape differ by at most `tolerance` of the largest expected value or of 1."""
    if actual.shape != expected.shape or not (actual.is_floating_point() or actual.dtype == expected.dtype):
        return False
    if not expected.numel():
        return True
    difference, scale = (actual.double() - expected.double()).abs(), expected.double().abs().max().clamp_min(1)
    return bool(difference.isfinite().all()) and difference.max().item() <= tolerance * scale.item()


def shape_of(tensor: Tensor) -> str:
    """Format a shape, as in 2×3×12×12."""
    return "×".join(map(str, tensor.shape)) or "a single number"


def show(tensor: Tensor) -> str:
    """Format the first values to three decimals."""
    values = [f"{float(value):>8.3f}" for value in tensor.detach().reshape(-1)[:MAX_SHOWN].double()]
    columns = tensor.shape[-1] if tensor.dim() and 0 < tensor.shape[-1] <= MAX_SHOWN else MAX_SHOWN
    lines = [" ".join(values[i : i + columns]) for i in range(0, len(values), columns)]
    more = [f"… {tensor.numel() - MAX_SHOWN} more"] if tensor.numel() > MAX_SHOWN else []
    return "\n".join(lines + more)


def comparison(actual: Tensor, expected: Tensor) -> str:
    """Format the largest difference with its index, then both tensors."""
    lines = []
    if actual.shape == expected.shape and actual.numel():
        difference = (actual.double() - expected.double()).abs().nan_to_num(float("inf"))
        worst = tuple(int(i) for i in torch.unravel_index(difference.argmax(), difference.shape))
        lines.append(f"largest difference: {difference.max().item():.3g} at index {worst}")
    lines += [f"expected ({shape_of(expected)}):", show(expected), f"got ({shape_of(actual)}):", show(actual)]
    return "\n".join(lines)


def names_in(reply: Message, name: str) -> list[str]:
    """Return a list of names from the student's process; raise SubmissionError if it is not a list."""
    names = reply.values.get(name, [])
    if not isinstance(names, list):
        raise SubmissionError("protocol", "disturbed what the grader's process tells of it")
    return [str(each)[:80] for each in names]


def require_finite(tensor: Tensor, what: str) -> None:
    """Fail if a value is inf or nan."""
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise CheckFailed(f"{what} holds values that are no numbers (inf or nan)")


def floats(reply: Message, name: str, what: str) -> Tensor:
    """Return a tensor of an answer; fail if its dtype is not a floating-point one."""
    tensor = reply.tensors[name]
    if not tensor.is_floating_point():
        raise CheckFailed(f"{what} is a tensor of {tensor.dtype}; floating-point numbers are expected")
    return tensor
