"""Compare the kernels that replace native convolutions; a program, since they cannot be removed from a process.

Prints JSON: the largest difference, the numbers of counted calls, and the outcomes of calls of other kernels.
"""

import json
import mmap
import os
import sys
import tempfile

import torch
import torch.nn.functional as F

UPSAMPLING = {"stride": 2, "padding": 1, "output_padding": 1, "groups": 2}
CASES = [
    (F.conv2d, (2, 4, 9, 7), (6, 4, 3, 3), True, {"stride": 2, "padding": 1}),
    (F.conv2d, (2, 4, 9, 7), (6, 2, 3, 2), False, {"groups": 2, "dilation": 2, "padding": (1, 2)}),
    (F.conv2d, (2, 4, 9, 7), (8, 1, 3, 3), True, {"groups": 4, "padding": "same"}),
    (F.conv2d, (4, 9, 7), (6, 4, 3, 3), True, {}),
    (F.conv1d, (2, 4, 9), (6, 2, 3), True, {"stride": 2, "padding": 1, "groups": 2}),
    (F.conv_transpose2d, (2, 4, 5, 6), (4, 3, 3, 3), False, UPSAMPLING),
    (F.conv_transpose2d, (2, 4, 5, 6), (4, 3, 3, 3), True, {"stride": 3, "dilation": 2}),
    (F.conv_transpose1d, (2, 4, 9), (4, 2, 3), True, {"stride": 2, "padding": 1}),
]


def values():
    """Return outputs, gradients and gradients of gradients."""
    results, generator = [], torch.Generator().manual_seed(1)
    for function, input_shape, weight_shape, bias, options in CASES:
        leaves = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in (input_shape, weight_shape)]
        if bias:
            channels = function(*leaves, **options).shape[-(len(weight_shape) - 1)]
            leaves.append(torch.randn(channels, generator=generator, dtype=torch.float64))
        output = function(*(leaf.requires_grad_(True) for leaf in leaves), **options)
        gradients = torch.autograd.grad(output.square().sum(), leaves, create_graph=True)
        again = torch.autograd.grad(sum(each.square().sum() for each in gradients), leaves, allow_unused=True)
        results += [output, *gradients, *(each for each in again if each is not None)]
    return [each.detach() for each in results]


def outcome(call):
    try:
        call()
    except Exception as error:
        return type(error).__name__
    return "computed"


def trace():
    return torch.jit.trace(lambda x, w: torch.conv2d(x, w), (torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)))


def main():
    sys.path.insert(0, sys.argv[1])
    from scenelab_runner import record, tripwire, wire

    traced, expected = trace(), values()
    with tempfile.TemporaryFile() as file:
        file.truncate(mmap.PAGESIZE)
        memory = mmap.mmap(file.fileno(), mmap.PAGESIZE)
        tripwire.replace_kernels(record.Record(os.open(os.devnull, os.O_WRONLY)), os.dup(file.fileno()))
    difference = max((a - b).abs().max().item() for a, b in zip(expected, values(), strict=True))
    x, w = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3)
    counts = []
    for call in (lambda: None, lambda: traced(x, w), trace):
        result = call()
        counts.append(wire.COUNTER.unpack_from(memory, 0)[0])
    result(x, w)
    counts.append(wire.COUNTER.unpack_from(memory, 0)[0])
    keys, key = torch._C.DispatchKeySet(torch._C.DispatchKey.CPU), torch._C.DispatchKey.CompositeExplicitAutograd
    native, settings = torch.ops.aten.mkldnn_convolution.default, (None, [0, 0], [1, 1], [1, 1], 1)
    slow = torch.library.get_kernel("aten::_slow_conv2d_forward", "CPU")
    from torchvision.ops import deform_conv2d

    others = {
        "mkldnn": lambda: torch.mkldnn_convolution(x, w, *settings),
        "key": lambda: native._op_dk(key, x, w, *settings),
        "kernel": lambda: slow.call_boxed(keys, x, w, [3, 3], None, [1, 1], [0, 0]),
        "deformable": lambda: deform_conv2d(x, torch.zeros(2, 18, 6, 6), w),
    }
    refused = {name: outcome(call) for name, call in others.items()}
    print(json.dumps({"difference": difference, "counts": counts, "refused": refused}))


if __name__ == "__main__":
    main()
