"""Record the packages and functions that a call runs, by a profile function; for one small case, since it is slow."""

import gc
import re
import sys
import threading
from types import CodeType, FrameType
from typing import Any

from runner.record import Record

CONVOLUTION = re.compile(r"(convolve|correlate|correlateND|convolution|filter2D)|(^|_)conv(olve)?_?[123]?d?$")
"""Functions of SciPy, NumPy, OpenCV and others that are convolutions."""
USUAL = """
    torch numpy scipy torchvision einops opt_einsum typing_extensions jaxtyping beartype typeguard tqdm matplotlib
    _distutils_hack sympy mpmath absl tensorboard google six packaging PIL runner
""".split()
PACKAGE = re.compile(r"/(?:site|dist)-packages/([^/.]+)")


class CallTrace:
    """A context that traces calls in this thread and in those that it starts, and reports at its end.

    Args:
        record: gets other packages' convolutions, and a review flag for unusual packages.
    """

    def __init__(self, record: Record) -> None:
        self._record = record
        self._codes: dict[int, CodeType] = {}
        self._functions: dict[int, Any] = {}

    def __enter__(self) -> "CallTrace":
        gc.disable()  # finalizers are not the student's calls
        threading.setprofile(self._trace)
        sys.setprofile(self._trace)
        return self

    def __exit__(self, *_error: object) -> None:
        sys.setprofile(None)
        threading.setprofile(None)
        gc.enable()
        calls = self._calls()
        foreign = [f"{package}.{name}" for package, name in calls if package != "torch" and CONVOLUTION.search(name)]
        for name in sorted(foreign):
            self._record.note("foreign", name)
        packages = sorted({package for package, _ in calls} - set(USUAL))
        if packages:
            self._record.flag(f"the convolution runs code of {', '.join(packages[:6])}")

    def _trace(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            self._codes[id(frame.f_code)] = frame.f_code
        elif event == "c_call":
            self._functions[id(argument)] = argument

    def _calls(self) -> set[tuple[str, str]]:
        """Return package and function of calls outside the submission and the standard library."""
        calls = set()
        for code in self._codes.values():
            match = PACKAGE.search(code.co_filename)
            if match:
                calls.add((match[1], code.co_name))
        for function in self._functions.values():
            module = getattr(function, "__module__", None)
            package = module.partition(".")[0] if isinstance(module, str) else ""
            if package and package not in sys.stdlib_module_names:
                calls.add((package, str(getattr(function, "__name__", ""))))
        return calls
