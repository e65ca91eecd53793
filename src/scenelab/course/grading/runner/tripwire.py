"""Native convolutions are counted, and are no longer native: put in place before a student's code is there, for good.

Every kernel of torch that computes a convolution on a CPU is replaced by one that counts the call in memory shared with
the grader and writes it to the record. `aten::convolution` and its backward then compute by unfold and matrix products,
so that self-tests and networks work; all others refuse. The dispatcher calls them whichever way an operator is reached:
by any name, from any thread, inside a custom operator or a scripted function, in a process that was forked. There is no
native kernel to return to and nothing to switch off. Code that calls none pays nothing.

Who called them, and whether that was allowed then, the grader decides.
"""

import ctypes
import importlib.util
import mmap
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from runner.record import Record
from runner.wire import COUNTER

KEYS = ("CPU", "MkldnnCPU", "QuantizedCPU", "SparseCPU", "SparseCsrCPU", "NestedTensorCPU", "CompositeExplicitAutograd",
        "CompositeExplicitAutogradNonFunctional")  # fmt: skip
BYTES = 4096  # of the shared memory
total = torch.sum  # bound here: a student may have put something else in its place


class NativeConvolutionError(RuntimeError):
    """A kernel of PyTorch's own convolutions was reached that nobody calls by its name."""


def _expand(values: Any) -> tuple[int, int]:
    """A stride, padding or dilation for height and width; that of one dimension is a height's of 1."""
    values = [int(value) for value in values]
    return (values[0], values[-1])


def _two(stride: Any, padding: Any, dilation: Any, output_padding: Any) -> tuple[list[int], ...]:
    """Settings of one dimension for a height of 1 and that as the width."""
    return [1, *stride], [0, *padding], [1, *dilation], [0, *output_padding]


def _convolution(
    input: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int, *_flags: Any,
) -> Tensor:  # fmt: skip
    """`aten::convolution` of one and two dimensions, by unfold, matrix products and fold."""
    if weight.dim() == 3:
        s, p, d, o = _two(stride, padding, dilation, output_padding)
        high, kernels = input.unsqueeze(-2), weight.unsqueeze(-2)
        return _convolution(high, kernels, bias, s, p, d, transposed, o, groups).squeeze(-2)
    if weight.dim() != 4:
        raise NotImplementedError("convolutions of one and two dimensions alone are there while this is graded")
    s, p, d = _expand(stride), _expand(padding), _expand(dilation)
    kernel = tuple(weight.shape[2:])
    if transposed:
        size = tuple(
            (input.shape[2 + i] - 1) * s[i] - 2 * p[i] + d[i] * (kernel[i] - 1) + int(list(output_padding)[i]) + 1
            for i in (0, 1)
        )
        output = _spread(input, weight, size, s, p, d, groups)
    else:
        size = tuple((input.shape[2 + i] + 2 * p[i] - d[i] * (kernel[i] - 1) - 1) // s[i] + 1 for i in (0, 1))
        columns = F.unfold(input, kernel, dilation=d, padding=p, stride=s).unflatten(1, (groups, -1))
        output = (weight.reshape(groups, weight.shape[0] // groups, -1) @ columns).flatten(1, 2).unflatten(2, size)
    return output if bias is None else output + bias[:, None, None]


def _spread(gradient: Tensor, weight: Tensor, size: Any, s: Any, p: Any, d: Any, groups: int) -> Tensor:
    """The transposed map: what each output hands back to the places that it was made of."""
    grouped = weight.reshape(groups, weight.shape[0] // groups, -1)
    columns = grouped.transpose(1, 2) @ gradient.flatten(2).unflatten(1, (groups, -1))
    return F.fold(columns.flatten(1, 2), size, tuple(weight.shape[2:]), dilation=d, padding=p, stride=s)


def _convolution_backward(
    grad: Tensor, input: Tensor, weight: Tensor, _bias_sizes: Any, stride: Any, padding: Any, dilation: Any,
    transposed: bool, output_padding: Any, groups: int, mask: Any,
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:  # fmt: skip
    """`aten::convolution_backward`, the gradients of input, weight and bias where the mask asks for them."""
    if weight.dim() == 3:
        s, p, d, o = _two(stride, padding, dilation, output_padding)
        upper, high, kernels = grad.unsqueeze(-2), input.unsqueeze(-2), weight.unsqueeze(-2)
        dx, dw, db = _convolution_backward(upper, high, kernels, None, s, p, d, transposed, o, groups, mask)
        return dx if dx is None else dx.squeeze(-2), dw if dw is None else dw.squeeze(-2), db
    s, p, d = _expand(stride), _expand(padding), _expand(dilation)
    kernel = tuple(weight.shape[2:])
    large, small = (grad, input) if transposed else (input, grad)
    dx = dw = None
    if mask[0] and transposed:
        dx = _convolution(grad, weight, None, stride, padding, dilation, False, output_padding, groups)
    elif mask[0]:
        dx = _spread(grad, weight, tuple(input.shape[2:]), s, p, d, groups)
    if mask[1]:
        columns = F.unfold(large, kernel, dilation=d, padding=p, stride=s).unflatten(1, (groups, -1))
        places = small.flatten(2).unflatten(1, (groups, -1))
        dw = total(places @ columns.transpose(2, 3), dim=0).reshape(weight.shape)
    return dx, dw, total(grad, dim=(0, 2, 3)) if mask[2] else None


COMPUTED: dict[str, Callable[..., Any]] = {
    "aten::convolution": _convolution,
    "aten::_convolution": _convolution,
    "aten::convolution_overrideable": _convolution,
    "aten::convolution_backward": _convolution_backward,
    "aten::convolution_backward_overrideable": _convolution_backward,
}


def put_in_place(record: Record, counter: int) -> None:
    """Replace the kernels of this process and of those that it forks, for good.

    Args:
        record: gets a note of each call.
        counter: file descriptor of the memory in which calls are counted; it is closed.
    """
    memory = mmap.mmap(counter, BYTES)
    os.close(counter)
    _load_torchvision()
    libraries: dict[str, Any] = {}
    for name in sorted(torch._C._dispatch_get_all_op_names()):
        namespace, _, operator = name.partition("::")
        if "conv" not in operator or "convert" in operator:
            continue
        if torch._C._dispatch_has_kernel_for_dispatch_key(name, "CompositeImplicitAutograd"):
            continue  # it calls others of this list
        kernel = _kernel(name, COMPUTED.get(name), record, memory)
        for key in KEYS:
            has = torch._C._dispatch_has_kernel_for_dispatch_key(name, key)
            if has or (key == "CPU" and torch._C._dispatch_has_computed_kernel_for_dispatch_key(name, key)):
                if namespace not in libraries:
                    libraries[namespace] = torch._C._dispatch_library("IMPL", namespace, "", __file__, 1)
                libraries[namespace].impl(operator, key, kernel)
    for library in libraries.values():
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(library))  # stays, and nothing in Python leads to it


def _kernel(name: str, compute: Callable[..., Any] | None, record: Record, memory: mmap.mmap) -> Callable[..., Any]:
    get_tracing, traced = torch._C._get_tracing_state, torch.ops.aten._convolution
    read, write, note, place = COUNTER.unpack_from, COUNTER.pack_into, record.note, record.place_here

    def kernel(*arguments: Any, **named: Any) -> Any:
        write(memory, 0, read(memory, 0)[0] + 1)
        note("convolution", f"{name} {place()}".strip())
        if compute is None:
            raise NativeConvolutionError(f"PyTorch's own convolution was called ({name})")
        if name == "aten::convolution" and get_tracing() is not None:
            return traced(*arguments, False, False, True, True)  # a trace has that, not how it is computed
        return compute(*arguments, **named)

    return kernel


def _load_torchvision() -> None:
    """Its operators, of which one is a convolution, are registered when it is imported, which may be later."""
    spec = importlib.util.find_spec("torchvision")
    for folder in spec.submodule_search_locations or [] if spec is not None else []:
        for path in Path(folder).glob("_C*.so"):
            torch.ops.load_library(str(path))


def probe() -> None:
    """Call a native convolution once, which the counter and the record have to show."""
    torch.conv2d(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
