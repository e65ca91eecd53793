"""Replacement of PyTorch's native CPU convolutions by kernels that report their calls to the grader.

The kernels are replaced before the student's code is imported. Each call is counted in memory shared with the grader
and written to the record. `aten::convolution` and its backward then compute by unfold and matrix products, so that
self-tests and networks work; all other convolution kernels raise NativeConvolutionError. The dispatcher calls them for
public and private functions alike, in any thread or forked process. The grader decides which calls were allowed.
"""

import ctypes
import importlib.util
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from scenelab_runner.record import Record

KEYS = """
    CPU MkldnnCPU QuantizedCPU SparseCPU SparseCsrCPU NestedTensorCPU CompositeExplicitAutograd
    CompositeExplicitAutogradNonFunctional
""".split()
BYTES = 4096  # size of the shared memory
total, convolve, ones = torch.sum, torch.conv2d, torch.ones  # bound here: the student's code may replace them


class NativeConvolutionError(RuntimeError):
    """Error raised by a replaced convolution kernel that has no implementation in Python."""


def _as_2d(stride: Any, padding: Any, dilation: Any, output_padding: Any) -> tuple[list[int], ...]:
    """Return the settings of a 1-D convolution as settings of a 2-D convolution on inputs of height 1."""
    return [1, *stride], [0, *padding], [1, *dilation], [0, *output_padding]


def _pairs(*settings: Any) -> list[tuple[int, int]]:
    return [(int(values[0]), int(values[-1])) for values in map(list, settings)]


def _convolution(input: Tensor, weight: Tensor, bias: Tensor | None, *settings: Any) -> Tensor:
    """Compute `aten::convolution` in 1-D or 2-D by unfold (fold if transposed) and matrix products."""
    stride, padding, dilation, transposed, output_padding, groups, *_flags = settings
    if weight.dim() == 3:
        s, p, d, o = _as_2d(stride, padding, dilation, output_padding)
        return _convolution(input[..., None, :], weight[..., None, :], bias, s, p, d, transposed, o, groups).squeeze(-2)
    if weight.dim() != 4:
        raise RuntimeError("convolutions of one and two dimensions alone are there while this is graded")
    s, p, d = _pairs(stride, padding, dilation)
    kernel, (height, width) = tuple(weight.shape[2:]), input.shape[2:]
    spans = [d[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    if transposed:
        more = [int(value) for value in output_padding]
        size = [(n - 1) * s[i] - 2 * p[i] + spans[i] + more[i] for i, n in enumerate((height, width))]
        output = _transpose(input, weight, size, s, p, d, groups)
    else:
        size = [(n + 2 * p[i] - spans[i]) // s[i] + 1 for i, n in enumerate((height, width))]
        columns = F.unfold(input, kernel, dilation=d, padding=p, stride=s).unflatten(1, (groups, -1))
        output = (weight.reshape(groups, weight.shape[0] // groups, -1) @ columns).flatten(1, 2).unflatten(2, size)
    return output if bias is None else output + bias[:, None, None]


def _transpose(grad: Tensor, weight: Tensor, size: Any, s: Any, p: Any, d: Any, groups: int) -> Tensor:
    grouped = weight.reshape(groups, weight.shape[0] // groups, -1)
    columns = grouped.transpose(1, 2) @ grad.flatten(2).unflatten(1, (groups, -1))
    return F.fold(columns.flatten(1, 2), size, tuple(weight.shape[2:]), dilation=d, padding=p, stride=s)


def _convolution_backward(
    grad: Tensor, input: Tensor, weight: Tensor, _bias_sizes: Any, *settings: Any
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """Compute `aten::convolution_backward`: gradients of input, weight, bias; None where `output_mask` is False."""
    stride, padding, dilation, transposed, output_padding, groups, mask = settings
    if weight.dim() == 3:
        s, p, d, o = _as_2d(stride, padding, dilation, output_padding)
        grad, input, weight = (each[..., None, :] for each in (grad, input, weight))
        dx, dw, db = _convolution_backward(grad, input, weight, None, s, p, d, transposed, o, groups, mask)
        return dx if dx is None else dx.squeeze(-2), dw if dw is None else dw.squeeze(-2), db
    s, p, d = _pairs(stride, padding, dilation)
    large, small = (grad, input) if transposed else (input, grad)
    dx = dw = None
    if mask[0] and transposed:
        dx = _convolution(grad, weight, None, stride, padding, dilation, False, output_padding, groups)
    elif mask[0]:
        dx = _transpose(grad, weight, tuple(input.shape[2:]), s, p, d, groups)
    if mask[1]:
        columns = F.unfold(large, tuple(weight.shape[2:]), dilation=d, padding=p, stride=s)
        places = small.flatten(2).unflatten(1, (groups, -1))
        dw = total(places @ columns.unflatten(1, (groups, -1)).transpose(2, 3), dim=0).reshape(weight.shape)
    return dx, dw, total(grad, dim=(0, 2, 3)) if mask[2] else None


COMPUTED: dict[str, Callable[..., Any]] = {
    **dict.fromkeys(["aten::convolution", "aten::_convolution", "aten::convolution_overrideable"], _convolution),
    **dict.fromkeys(["aten::convolution_backward", "aten::convolution_backward_overrideable"], _convolution_backward),
}


def replace_kernels(record: Record, counter: int) -> None:
    """Replace the native CPU convolution kernels of all loaded libraries by kernels that report their calls.

    Args:
        record: record that receives a note per call.
        counter: file descriptor of the shared memory that counts the calls. It is closed.
    """
    calls = map_counter(counter)
    os.close(counter)
    spec = importlib.util.find_spec("torchvision")
    for folder in spec.submodule_search_locations or [] if spec is not None else []:
        for path in Path(folder).glob("_C*.so"):  # loaded now, because torchvision has a convolution operator too
            torch.ops.load_library(str(path))
    libraries: dict[str, Any] = {}
    for name in sorted(torch._C._dispatch_get_all_op_names()):
        namespace, _, operator = name.partition("::")
        if "conv" not in operator or "convert" in operator:
            continue
        if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd"):
            continue  # composite: it calls operators that are replaced
        kernel = _kernel(name, COMPUTED.get(name), record, calls)
        for key in KEYS:
            has = torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
            if has or (key == "CPU" and torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, key)):
                if namespace not in libraries:
                    libraries[namespace] = torch._C._dispatch_library("IMPL", namespace, "", __file__, 1)
                libraries[namespace].impl(operator, key, kernel)
    for library in libraries.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))  # keeps the library alive without a reference from Python


def map_counter(handle: int) -> ctypes.c_uint64:
    """Return the counter in shared memory; unlike `mmap.mmap`, this keeps no file descriptor that could be written."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
    libc.mmap.restype = ctypes.c_void_p
    address = libc.mmap(None, BYTES, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_SHARED, handle, 0)
    if address in (None, ctypes.c_void_p(-1).value):
        raise OSError(ctypes.get_errno(), "the counter cannot be mapped")
    return ctypes.c_uint64.from_address(address)


def _kernel(
    name: str, compute: Callable[..., Any] | None, record: Record, calls: ctypes.c_uint64
) -> Callable[..., Any]:
    get_tracing, traced, getframe = torch._C._get_tracing_state, torch.ops.aten._convolution, sys._getframe
    note, place = record.note, record.place

    def kernel(*args: Any, **kwargs: Any) -> Any:
        calls.value += 1
        note("convolution", f"{name} {place(getframe())}".strip())
        if compute is None:
            raise NativeConvolutionError(f"PyTorch's own convolution was called ({name})")
        if name == "aten::convolution" and get_tracing() is not None:
            return traced(*args, False, False, True, True)  # a traced graph shows this operator, not its replacement
        return compute(*args, **kwargs)

    return kernel


def probe() -> None:
    """Call `torch.conv2d` once, so that the grader can check that calls are still counted."""
    convolve(ones(1, 1, 1, 1), ones(1, 1, 1, 1))
