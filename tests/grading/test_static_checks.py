"""What is found in a file by reading it, and what honest code is left alone for."""

import pytest

from scenelab.course.grading.static_checks import examine

HEAD = """import math, sys, re
import torch, torch.nn as nn, torch.nn.functional as F
from torch.nn.functional import fold, unfold
"""
CONV = """
class CustomConv2DFunction(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w, b, s=1, p=0):
        return {body}
"""


def found(tmp_path, text):
    path = tmp_path / "student_code.py"
    path.write_text(text)
    return examine(path)


@pytest.mark.parametrize("body", [
    "F.conv2d(x, w)", "torch.conv2d(x, w)", "nn.Conv2d(1, 1, 1)(x)", "torch.nn.grad.conv2d_input(x.shape, w, b)",
    "torch.ops.aten.convolution(x, w)", "F.conv_transpose2d(x, w)", "scipy.signal.convolve2d(x, w)", "getattr(F, 'conv2d')(x, w)",
])  # fmt: skip
def test_foreign_convolutions(tmp_path, body):
    assert found(tmp_path, HEAD + CONV.format(body=body)).banned != []


@pytest.mark.parametrize("body", [
    "getattr(F, name)(x, w)", "eval('F.con' + 'v2d')(x, w)", "vars(F)['con' + 'v2d'](x, w)", "sys.modules['torch'].x",
    "F.__dict__['con' + 'v2d'](x)", "getattr(*(F, x))", "F.__getattribute__(x)", "os.system('x')", "sys._getframe(1).f_locals", "__builtins__['eval']",
])  # fmt: skip
def test_ways_to_hide_one(tmp_path, body):
    assert found(tmp_path, HEAD + CONV.format(body=body)).hiding != []


def test_honest_code_is_left_alone(tmp_path):
    text = (
        HEAD
        + CONV.format(body="convolve(x, w) if 'a convolution' else self.convolution")
        + """
import gc
pattern = re.compile("x")
class CustomConv2d(nn.Module):
    def extra_repr(self):
        return "{in_channels}".format(**self.__dict__)
class Net(nn.Module):
    def __init__(self, conv_op=nn.Conv2d):
        super().__init__()
        self.inside = conv_op(3, 3, 3)
        self.first = nn.Conv2d(3, 3, 3)
        for m in self.modules():
            if isinstance(m, nn.Conv2d):
                nn.init.kaiming_normal_(m.weight)
        self.eval()
        setting = getattr(self, "first")
    def extra_repr(self):
        return "{in_channels}".format(**self.__dict__)
def convolve(x, w):
    return unfold(x, w.shape[-1])
"""
    )
    source = found(tmp_path, text)
    assert source.banned == source.hiding == source.foreign == []


@pytest.mark.parametrize(
    "line",
    ["import scenelab", "from scenelab.conv import conv2d", "from torchattacks import PGD", "import captum.attr"],
)
def test_packages_with_the_answers(tmp_path, line):
    assert found(tmp_path, line + "\n").foreign != []


@pytest.mark.parametrize("line", [
    "from torch import conv2d as magic", "from torch.nn.functional import conv2d", "from scipy.signal import convolve2d as m",
    "if True:\n    CustomConv2DFunction = torch.conv2d", "CustomConv2DFunction.forward = torch.conv2d",
])  # fmt: skip
def test_other_ways_to_bring_one_in(tmp_path, line):
    """Each gives the convolution a name that it then uses."""
    name = line.rpartition(" ")[2] if line.startswith("from") else "x"
    assert found(tmp_path, HEAD + line + "\n" + CONV.format(body=f"{name}(w)")).banned != []


@pytest.mark.parametrize(
    "line", ["import threading", "from concurrent import futures", "import pickle", "g = getattr", "import subprocess"]
)
def test_ways_out_of_the_watch(tmp_path, line):
    assert found(tmp_path, HEAD + line + "\n").hiding != []


@pytest.mark.parametrize("text", [
    "class Net(nn.Module):\n    def forward(self, x):\n        return getattr(self, f'layer{1}')(x)",
    "if __name__ == '__main__':\n    print(F.conv2d(torch.ones(1), torch.ones(1)))",
    "from torch.nn.functional import conv2d\nclass Net(nn.Module):\n    def forward(self, x):\n        return conv2d(x, x)",
    "torch.backends.cudnn.benchmark = True",
])  # fmt: skip
def test_more_honest_code(tmp_path, text):
    body = "CustomConv2DFunction.convolve(x, w)"
    extra = (
        "    @staticmethod\n    def convolve(x, w):\n        convolution = unfold(x, 3)\n        return convolution\n"
    )
    source = found(tmp_path, HEAD + CONV.format(body=body) + extra + "conv2d_ = 1\n" + text + "\n")
    assert source.banned == source.hiding == source.review == []
