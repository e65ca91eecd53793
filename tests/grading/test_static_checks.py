"""Findings in a file's syntax tree; honest code has none."""

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
BANNED = """F.conv2d(x, w) | torch.conv2d(x, w) | nn.Conv2d(1, 1, 1)(x) | torch.nn.grad.conv2d_input(x.shape, w, b) |
torch.ops.aten.convolution(x, w) | F.conv_transpose2d(x, w) | scipy.signal.convolve2d(x, w) | getattr(F, 'conv2d')(x, w)"""
HIDING = """getattr(F, name)(x, w) | eval('F.con' + 'v2d')(x, w) | vars(F)['con' + 'v2d'](x, w) | sys.modules['torch'].x |
F.__dict__['con' + 'v2d'](x) | getattr(*(F, x)) | F.__getattribute__(x) | os.system('x') | sys._getframe(1).f_locals |
__builtins__['eval']"""
HIDING_LINES = "import threading | from concurrent import futures | import pickle | g = getattr | import subprocess"
FOREIGN = "import scenelab | from scenelab.conv import conv2d | from torchattacks import PGD | import captum.attr"
IMPORTED = """from torch import conv2d as magic | from torch.nn.functional import conv2d | from scipy.signal import convolve2d as m |
if True: CustomConv2DFunction = torch.conv2d | CustomConv2DFunction.forward = torch.conv2d"""
HONEST_NET = """
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
def convolve(x, w):
    return unfold(x, w.shape[-1])
"""
HONEST = (
    HONEST_NET,
    "class Net(nn.Module):\n    def forward(self, x):\n        return getattr(self, f'layer{1}')(x)",
    "if __name__ == '__main__':\n    print(F.conv2d(torch.ones(1), torch.ones(1)))",
    "from torch.nn.functional import conv2d\nclass Net(nn.Module):\n    def forward(self, x):\n        return conv2d(x, x)",
    "torch.backends.cudnn.benchmark = True",
)


def cells(table):
    return [cell.strip() for cell in table.split("|")]


def examine_text(tmp_path, text):
    path = tmp_path / "student_code.py"
    path.write_text(f"{text}\n")
    return examine(path)


@pytest.mark.parametrize("body", cells(BANNED))
def test_convolutions_of_libraries_are_found(tmp_path, body):
    assert examine_text(tmp_path, HEAD + CONV.format(body=body)).banned != []


@pytest.mark.parametrize("line", cells(IMPORTED))
def test_imported_and_assigned_convolutions_are_found(tmp_path, line):
    name = line.rpartition(" ")[2] if line.startswith("from") else "x"
    assert examine_text(tmp_path, HEAD + line + "\n" + CONV.format(body=f"{name}(w)")).banned != []


@pytest.mark.parametrize("text", [*(CONV.format(body=body) for body in cells(HIDING)), *cells(HIDING_LINES)])
def test_ways_to_hide_a_call_are_found(tmp_path, text):
    assert examine_text(tmp_path, HEAD + text).hiding != []


@pytest.mark.parametrize("line", cells(FOREIGN))
def test_packages_with_the_answers_are_found(tmp_path, line):
    assert examine_text(tmp_path, line).foreign != []


@pytest.mark.parametrize("text", HONEST)
@pytest.mark.parametrize(
    "body", ["CustomConv2DFunction.convolve(x, w)", "convolve(x, w) if 'a convolution' else self.convolution"]
)
def test_honest_code_has_no_findings(tmp_path, text, body):
    method = (
        "    @staticmethod\n    def convolve(x, w):\n        convolution = unfold(x, 3)\n        return convolution\n"
    )
    source = examine_text(tmp_path, HEAD + CONV.format(body=body) + method + "conv2d_ = 1\n" + text)
    assert source.banned == source.hiding == source.foreign == source.review == []
