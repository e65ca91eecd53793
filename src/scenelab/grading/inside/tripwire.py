"""Native convolutions that refuse to work while a student's own convolution is graded.

While armed, every operator of torch whose name says that it is a convolution has a kernel that writes to the record and
raises. The dispatcher calls it whichever way the operator is reached: by any name, from any thread, inside a custom
operator or a scripted function, in a process that was forked. Code that calls none pays nothing.
"""

from collections.abc import Callable
from typing import Any

import torch

from inside.record import Record

KEYS = ("CPU", "MkldnnCPU", "QuantizedCPU")
PROBE = "probe"


class NativeConvolutionError(RuntimeError):
    """PyTorch's own convolution was reached."""


def convolutions() -> list[tuple[str, str, str]]:
    """Namespace, operator and dispatch key of each kernel that computes a convolution on a CPU."""
    listed = []
    for name in sorted(torch._C._dispatch_get_all_op_names()):
        namespace, _, operator = name.partition("::")
        if "conv" not in operator or "convert" in operator or not torch._C._dispatch_has_kernel(name):
            continue
        if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd"):
            continue  # it calls others of this list
        listed += [
            (namespace, operator, key)
            for key in KEYS
            if torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, key)
        ]
    return listed


class Tripwire:
    """Arms and disarms the refusing kernels."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._libraries: dict[str, Any] = {}
        self._make = torch._C._dispatch_library

    def arm(self) -> None:
        """Refuse from here on; does nothing where that is so already."""
        if self._libraries:
            return
        for namespace, operator, key in convolutions():  # anew: torchvision brings one when it is imported
            if namespace not in self._libraries:
                self._libraries[namespace] = self._make("IMPL", namespace, "", __file__, 1)
            self._libraries[namespace].impl(operator, key, self._refusal(f"{namespace}::{operator}"))

    def disarm(self) -> None:
        """Give the native kernels back."""
        for library in self._libraries.values():
            library.reset()
        self._libraries.clear()

    def _refusal(self, name: str) -> Callable[..., Any]:
        record = self._record

        def refuse(*_arguments: Any, **_named: Any) -> Any:
            record.note("convolution", f"{name} {record.place_here()}".strip())
            raise NativeConvolutionError(f"PyTorch's own convolution was called ({name})")

        return refuse

    def probe(self) -> None:
        """Call a native convolution, which the record has to show: else the kernels are not those of `arm`."""
        ones = torch.ones(1, 1, 1, 1)
        try:
            torch.conv2d(ones, ones)
        except NativeConvolutionError:
            return
