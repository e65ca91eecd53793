"""Which packages and functions of others a call runs: a profile function for one small case, since it costs time."""

import gc
import re
import sys
import threading
from types import CodeType, FrameType
from typing import Any

from runner.record import Record

CONVOLUTION = re.compile(r"(convolve|correlate|correlateND|convolution|filter2D)|(^|_)conv(olve)?_?[123]?d?$")
"""Functions of SciPy, NumPy, OpenCV and others that are convolutions."""
USUAL = ("torch", "numpy", "scipy", "torchvision", "einops", "opt_einsum", "typing_extensions", "jaxtyping", "beartype",
         "typeguard", "tqdm", "matplotlib", "_distutils_hack", "sympy", "mpmath", "absl",
         "tensorboard", "google", "six", "packaging", "PIL", "runner")  # fmt: skip
PACKAGE = re.compile(r"/(?:site|dist)-packages/([^/.]+)")


class CallTrace:
    """A context in which calls are noted, in this thread and in those that it starts; at its end they are told.

    Args:
        record: gets the convolutions among them, as if they were torch's, and a mark for packages that one does not
            expect.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._codes: dict[int, CodeType] = {}
        self._functions: dict[int, Any] = {}

    def __enter__(self) -> "CallTrace":
        gc.disable()  # what it finalizes is not called by the student's code
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)
        gc.enable()
        for name in self.convolutions():
            self._record.note("foreign", name)
        packages = self.packages()
        if packages:
            self._record.flag(f"the convolution runs code of {', '.join(packages[:6])}")

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            self._codes[id(frame.f_code)] = frame.f_code
        elif event == "c_call":
            self._functions[id(argument)] = argument

    def _calls(self) -> set[tuple[str, str]]:
        """Package and function of what is neither the student's nor of the standard library."""
        called = set()
        for code in self._codes.values():
            match = PACKAGE.search(code.co_filename)
            if match:
                called.add((match[1], code.co_name))
        for function in self._functions.values():
            module = getattr(function, "__module__", None)
            package = module.partition(".")[0] if isinstance(module, str) else ""
            if package and package not in sys.stdlib_module_names:
                called.add((package, str(getattr(function, "__name__", ""))))
        return called

    def convolutions(self) -> list[str]:
        """Functions of other packages that are convolutions."""
        return sorted(
            f"{package}.{name}" for package, name in self._calls() if package != "torch" and CONVOLUTION.search(name)
        )

    def packages(self) -> list[str]:
        """Other packages than one expects."""
        return sorted({package for package, _ in self._calls()} - set(USUAL))
