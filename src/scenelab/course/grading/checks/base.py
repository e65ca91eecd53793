"""Registration and context of checks, and helpers that draw inputs, compare tensors and validate replies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from scenelab.course.grading.checks.verdict import CheckFailed, SubmissionError
from scenelab_runner.message import Message

MAX_SHOWN = 16  # values printed per tensor
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, with which main.py normalizes images


class Worker(Protocol):
    """Whatever runs the submission: a process in the grader's sandbox, or the student's own check.py."""

    first: Message | None  # reply to `bitwise_request` by PyTorch's convolution, which took `first_seconds`
    first_seconds: float
    seconds: float  # of the last request

    @property
    def convolutions(self) -> list[str]:
        """Names of library convolutions that the last request called."""
        ...

    def call(
        self, operation: str, tensors: dict[str, Tensor] | None = None, *, seed: int = 0, **values: Any
    ) -> Message:
        """Send a request and return the reply; raise SubmissionError if the code fails."""
        ...

    def flag(self, text: str) -> None:
        """Add a flag for manual review."""


@dataclass
class CheckContext:
    """Input of a check: the worker that runs the submission, the submission's folder, and a random seed."""

    worker: Worker
    root: Path  # of the submission: it contains code/ and results/
    seed: int  # of all random inputs
    unfilled: list[str] = field(default_factory=list)  # functions of the kit that are not filled in
    banned: list[str] = field(default_factory=list)  # convolutions of libraries that the code names
    name: str = ""  # of the current check
    remarks: list[str] = field(default_factory=list)  # messages to the student that cost no points
    watched: bool = True  # whether the convolution was correct while its calls were traced
    compared: bool = True  # whether the convolution ran on the inputs of the bitwise comparison

    def generator(self, name: str = "") -> torch.Generator:
        """Return a random generator seeded from `seed` and `name`, by default the check's name."""
        key = hashlib.blake2b(str(self.seed).encode(), digest_size=32).digest()
        digest = hashlib.blake2b((name or self.name).encode(), digest_size=8, key=key).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest, "little") >> 1)

    @property
    def own_seed(self) -> int:
        """Seed sent to the student's process; derived from the check's name, so it does not reveal `seed`."""
        return int.from_bytes(hashlib.blake2b(self.name.encode(), digest_size=4, person=b"student").digest(), "little")

    def call(self, operation: str, tensors: dict[str, Tensor] | None = None, **values: Any) -> Message:
        """Run `operation` in the student's process and return its reply; raise SubmissionError if it fails."""
        return self.worker.call(operation, tensors, seed=self.own_seed, **values)

    def call_own(self, operation: str, tensors: dict[str, Tensor], **values: Any) -> Message:
        """Run `operation` like `call`; raise CheckFailed if the student's code calls a library's convolution."""
        try:
            return self.call(operation, tensors, **values)
        finally:
            if self.worker.convolutions:
                names = "; ".join(dict.fromkeys(self.worker.convolutions[:3]))
                raise CheckFailed(f"calls a convolution that is not its own ({names}); write it yourself")

    def call_function(self, name: str, *arguments: Any, **options: Any) -> Message:
        """Call a function of the student's file and return its reply: `tensors["output"]`, or `values["result"]`.

        The arguments are tensors and JSON values; the reply has the tensors as the call left them, `argument0_after`.
        """
        tensors = {f"argument{n}": each for n, each in enumerate(arguments) if isinstance(each, Tensor)}
        order = [f"argument{n}" if isinstance(each, Tensor) else [each] for n, each in enumerate(arguments)]
        return self.call("call_function", tensors, name=name, order=order, options=options)

    def remark(self, text: str) -> None:
        """Add a remark for the student, unless it is a duplicate."""
        if text not in self.remarks:
            self.remarks.append(text)


@dataclass(frozen=True)
class Check:
    """A registered check, with its text for students and the checks that must pass before it runs."""

    name: str
    group: str
    text: str
    needs: tuple[str, ...]
    run: Callable[[CheckContext], None]


Run = Callable[[CheckContext], None]
CHECKS: dict[str, Check] = {}


def check(group: str, *, needs: tuple[str, ...] = ()) -> Callable[[Run], Run]:
    """Return a decorator that registers a function in `CHECKS`; the function's docstring is the text for students.

    `group` is the assignment's topic, such as "attack". `needs` lists checks that must pass first.
    """

    def register(function: Run) -> Run:
        name, text = function.__name__, " ".join((function.__doc__ or "").split())
        if not text or name in CHECKS:
            raise ValueError(f"check {name} has no docstring or is there twice")
        CHECKS[name] = Check(name, group, text, needs, function)
        return function

    return register


def draw_images(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return random images of `shape` N×C×H×W, uniform in [0, 1], then normalized by the ImageNet statistics."""
    images = torch.rand(*shape, generator=generator, dtype=torch.float64)
    channels = [index % 3 for index in range(shape[1])]
    mean, std = (torch.tensor(values, dtype=torch.float64)[channels] for values in (MEAN, STD))
    return ((images - mean[:, None, None]) / std[:, None, None]).to(dtype)


def draw(generator: torch.Generator, *shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return a tensor drawn from the standard normal distribution."""
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def close(actual: Tensor, expected: Tensor, tolerance: float) -> bool:
    """Return whether shapes match and values differ by at most `tolerance` * max(1, max(abs(expected)))."""
    if actual.shape != expected.shape or not (actual.is_floating_point() or actual.dtype == expected.dtype):
        return False
    if not expected.numel():
        return True
    difference, scale = (actual.double() - expected.double()).abs(), expected.double().abs().max().clamp_min(1)
    return bool(difference.isfinite().all()) and difference.max().item() <= tolerance * scale.item()


def shape_of(tensor: Tensor) -> str:
    """Format a tensor's shape, as in 2×3×12×12."""
    return "×".join(map(str, tensor.shape)) or "a single number"


def show(tensor: Tensor) -> str:
    """Format the first `MAX_SHOWN` values of a tensor to three decimals."""
    values = [f"{float(value):>8.3f}" for value in tensor.detach().reshape(-1)[:MAX_SHOWN].double()]
    columns = tensor.shape[-1] if tensor.dim() and 0 < tensor.shape[-1] <= MAX_SHOWN else MAX_SHOWN
    lines = [" ".join(values[i : i + columns]) for i in range(0, len(values), columns)]
    more = [f"… {tensor.numel() - MAX_SHOWN} more"] if tensor.numel() > MAX_SHOWN else []
    return "\n".join(lines + more)


def comparison(actual: Tensor, expected: Tensor) -> str:
    """Format the largest absolute difference and its index (if shapes match), then the first values of each tensor."""
    lines = []
    if actual.shape == expected.shape and actual.numel():
        difference = (actual.double() - expected.double()).abs().nan_to_num(float("inf"))
        worst = tuple(int(i) for i in torch.unravel_index(difference.argmax(), difference.shape))
        lines.append(f"largest difference: {difference.max().item():.3g} at index {worst}")
    lines += [f"expected ({shape_of(expected)}):", show(expected), f"got ({shape_of(actual)}):", show(actual)]
    return "\n".join(lines)


def names_in(reply: Message, name: str) -> list[str]:
    """Return the list `reply.values[name]` as short strings, [] if missing; raise SubmissionError if it is no list."""
    names = reply.values.get(name, [])
    if not isinstance(names, list):
        raise SubmissionError("protocol", "disturbed what the grader's process tells of it")
    return [str(each)[:80] for each in names]


def require_finite(tensor: Tensor, what: str) -> None:
    """Raise CheckFailed if a value is inf or NaN; `what` names the tensor in the message."""
    if tensor.is_floating_point() and not tensor.isfinite().all():
        raise CheckFailed(f"{what} holds values that are no numbers (inf or nan)")


def floats(reply: Message, name: str, what: str) -> Tensor:
    """Return the tensor `name` of a reply; if it is not floating-point, raise CheckFailed with `what` as its name."""
    tensor = reply.tensors[name]
    if not tensor.is_floating_point():
        raise CheckFailed(f"{what} is a tensor of {tensor.dtype}; floating-point numbers are expected")
    return tensor
