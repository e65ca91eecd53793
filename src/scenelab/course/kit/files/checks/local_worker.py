"""Runner of a student's own file in this process, with the requests that the grader sends to its sandbox."""

from __future__ import annotations

import importlib.util
import os
import random
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from checks import gpu
from checks.message import Message, describe
from checks.operations import GRADED, OPERATIONS
from checks.record import Record, records
from checks.stand_ins import Missing, Refusal, StandIns, restore_old_names
from checks.verdict import ReplyTensors, SubmissionError

SECONDS = 20  # of CPU per request, as in the grader's rubric
MAX_WATCHED = 64  # values of an input up to which `_DeepWatch` is used


class _Calls(Record):
    """Record that keeps the names of convolutions which are not the student's own."""

    def __init__(self, root: str) -> None:
        super().__init__(-1, root)
        self.names: dict[str, None] = {}

    def note(self, kind: str, text: str = "") -> None:
        if kind in ("convolution", "foreign"):
            self.names[text.strip()] = None


    def see(self, name: str) -> None:
        """Note a function of PyTorch if it is a convolution."""
        if "conv" in name and "convert" not in name:
            self.note("convolution", f"{name} {self.place(sys._getframe())}")


class _Watch(TorchFunctionMode):
    """Mode that records each convolution of PyTorch that Python calls."""

    def __init__(self, calls: _Calls) -> None:
        super().__init__()
        self._calls = calls

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._calls.see(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


class _DeepWatch(TorchDispatchMode):
    """Mode that records each convolution of PyTorch, by any name and in backward passes, too; 20 times as slow."""

    def __init__(self, calls: _Calls) -> None:
        super().__init__()
        self._calls = calls

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # else PyTorch loads its compiler for seconds, and Triton complains at the end

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self._calls.see(func._schema.name)
        return func(*args, **(kwargs or {}))


class LocalWorker:
    """Student's file, imported in this process; `call` and `convolutions` are those of the grader's worker."""

    def __init__(self, path: Path) -> None:
        self.path, self.root = path.resolve(), f"{path.resolve().parent}{os.sep}"
        self.first: Message | None = None
        self.first_seconds = self.seconds = 0.0
        self.convolutions: list[str] = []
        self.gpu_places: list[str] = []
        self._calls, self._stand_ins, self._emulates_gpu = _Calls(self.root), StandIns(Path(self.root)), False
        self._undo: Callable[[], None] = lambda: None
        self._module: ModuleType | None = None
        records[:] = [self._calls]

    @property
    def defined(self) -> set[str]:
        """Names that the student's file defines or imports."""
        return set(vars(self._module)) if self._module else set()

    def flag(self, text: str) -> None:
        """Ignore a flag, which is for people who grade."""

    def start(self) -> None:
        """Import the student's file, in its folder; raise SubmissionError if that fails."""
        os.chdir(self.root)
        sys.argv[:] = ["student_code.py"]
        restore_old_names()
        sys.path.insert(0, self.root)
        sys.meta_path[:] = [Refusal(), *sys.meta_path, self._stand_ins]
        self._with_gpu(self._load)

    def call(
        self, operation: str, tensors: dict[str, Tensor] | None = None, *, seed: int = 0, **values: Any
    ) -> Message:
        """Send a request and return the reply; repeat it with an emulated GPU if the code needs a GPU."""
        request = values, {name: tensor.clone() for name, tensor in (tensors or {}).items()}
        return self._with_gpu(self._call, operation, seed, *request)

    def _with_gpu(self, work: Any, *arguments: Any) -> Any:
        try:
            return work(*arguments)
        except SubmissionError as error:
            if self._emulates_gpu or not error.wants_gpu:
                raise
            self._undo, self._emulates_gpu = gpu.emulate(), True
            try:
                if work != self._load:
                    self._load()
                result = work(*arguments)
            except SubmissionError as second:
                if second.wants_gpu and work != self._load:  # the missing GPU was not the cause
                    self.close()
                    self._load()
                    raise error from None
                self.gpu_places.append(error.place or error.text)
                raise
            self.gpu_places.append(error.place or error.text)
            return result

    def close(self) -> None:
        """Stop the emulation of a GPU."""
        self._undo()
        self._emulates_gpu = False

    def _load(self) -> None:
        spec = importlib.util.spec_from_file_location("student_code", self.path)
        assert spec is not None
        self._module = sys.modules["student_code"] = importlib.util.module_from_spec(spec)
        Missing.loading = True
        with self._errors(), self._modes():
            self._stand_ins.execute(self._module)
        Missing.loading = False

    def _call(self, operation: str, seed: int, values: dict[str, Any], tensors: dict[str, Tensor]) -> Message:
        for set_seed in (random.seed, numpy.random.seed, torch.manual_seed):
            set_seed(seed)
        self._calls.names.clear()
        begun, is_graded = time.process_time(), operation in GRADED
        is_small = bool(values.get("trace")) and tensors["input"].numel() <= MAX_WATCHED
        try:
            with self._errors(), self._modes(watch=is_graded, deep=is_small):
                reply = OPERATIONS[operation](self._module, Message(values, tensors))
                outputs = {name: tensor.detach().cpu().clone() for name, tensor in reply.tensors.items()}
        finally:
            self.seconds = time.process_time() - begun
            self.convolutions = list(self._calls.names) if is_graded else []
        if self.seconds > SECONDS:
            raise SubmissionError("time", f"did not end within {SECONDS} seconds")
        return Message(reply.values, ReplyTensors(outputs))

    def _modes(self, *, watch: bool = False, deep: bool = False) -> ExitStack:
        stack = ExitStack()
        if self._emulates_gpu:
            stack.enter_context(gpu.OnCpu())
        if watch:
            stack.enter_context(_DeepWatch(self._calls) if deep else _Watch(self._calls))
        return stack

    def _errors(self) -> _Errors:
        return _Errors(self.root)


class _Errors:
    """Context that turns each exception of the student's code, except Ctrl-C, into a SubmissionError."""

    def __init__(self, root: str) -> None:
        self._root = root

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: Any, error: BaseException | None, traceback: Any) -> None:
        torch.set_grad_enabled(True)  # the code may have left gradients disabled
        if error is not None and not isinstance(error, KeyboardInterrupt):
            raise SubmissionError.of(describe(error, self._root)) from None
