"""The convolution under torch.compile."""

import copy
import shutil

import pytest
import torch
from torch import nn

from scenelab.conv.conv2d import Conv2d

needs_compiler = pytest.mark.skipif(not any(map(shutil.which, ("g++", "clang++"))), reason="needs a C++ compiler")


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch._dynamo's own
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=[pytest.mark.slow, needs_compiler])])
def test_compiled_modules_agree(backend):
    """From the second size on the sides are symbols in the graph that torch.compile sees."""
    network = nn.Sequential(Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(inplace=True), Conv2d(4, 2, 1, bias=False))
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(network), backend=backend)
    for height, width in [(6, 7), (9, 5), (8, 8)] if backend == "aot_eager" else [(6, 7)]:
        images = torch.rand(2, 3, height, width, requires_grad=True)
        twins = images.detach().clone().requires_grad_()
        output, expected = compiled(twins), network(images)
        torch.testing.assert_close(output, expected)
        output.square().sum().backward()
        expected.square().sum().backward()
        torch.testing.assert_close(twins.grad, images.grad)
    for mine, theirs in zip(compiled.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
