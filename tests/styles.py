"""Submissions in many styles: the kit's solution with another convolution, or other files beside it."""

import io
import json
import zipfile

from mutants import CALL, solution

CODE = "code/student_code.py"
TEXT = solution()[CODE].decode()


def lost(grade):
    """Reasons of checks that did not pass, by name."""
    return {outcome.name: outcome.reason for outcome in grade.result.outcomes if outcome.status != "passed"}


def between(text: str, begin: str, end: str) -> str:
    start = text.index(begin)
    return text[start : text.index(end, start)]


FORWARD = between(TEXT, "        kernel = weight.shape[-1]\n", "\n    @staticmethod\n    def backward")
BACKWARD = between(TEXT, "        windows, weight = ctx.saved_tensors\n", "\n\ncustom_conv2d")
PGD = between(TEXT, "        original = input.detach()\n", "\n\ndefault_attack")
ATTENTION = between(TEXT, "        images = input.detach().clone()", "\n\ndefault_attention")


def changed(*pairs, top="", end="", files=None):
    """Return the solution with pieces of its text replaced, lines above and below it, and files beside it."""
    text = TEXT
    for old, new in pairs:
        assert text.count(old) == 1, (old, text.count(old))
        text = text.replace(old, new)
    text = text.replace("import math\n", f"import math\n{top}", 1) + end
    encoded = {name: each if isinstance(each, bytes) else each.encode() for name, each in (files or {}).items()}
    return {**solution(), CODE: text.encode(), **encoded}


SAVE = """
        ctx.save_for_backward(input_feats, weight, bias)
        ctx.stride, ctx.padding = stride, padding
"""
SIZES = """
        kernel = weight.shape[-1]
        N, C, H, W = input_feats.shape
        Co = weight.shape[0]
        Ho, Wo = (H + 2 * padding - kernel) // stride + 1, (W + 2 * padding - kernel) // stride + 1
        padded = torch.zeros(N, C, H + 2 * padding, W + 2 * padding, dtype=input_feats.dtype)
        padded[:, :, padding:padding + H, padding:padding + W] = input_feats
"""
AGAIN = """
        input_feats, weight, bias = ctx.saved_tensors
        stride, padding = ctx.stride, ctx.padding
        grad_bias = grad_output.sum((0, 2, 3)) if bias is not None else None
"""
SEVEN = """
        for n in range(N):
            for o in range(Co):
                for i in range(Ho):
                    for j in range(Wo):
                        for c in range(C):
                            for a in range(kernel):
                                for b in range(kernel):
"""
LOOPS = (
    (FORWARD, SAVE + SIZES + """
        output = torch.zeros(N, Co, Ho, Wo, dtype=input_feats.dtype)
""" + SEVEN + """                                    output[n, o, i, j] += padded[n, c, i * stride + a, j * stride + b] * weight[o, c, a, b]
                        if bias is not None:
                            output[n, o, i, j] += bias[o]
        return output
"""),
    (BACKWARD, AGAIN + SIZES + """
        grad_padded, grad_weight = torch.zeros_like(padded), torch.zeros_like(weight)
""" + SEVEN + """                                    g = grad_output[n, o, i, j]
                                    grad_padded[n, c, i * stride + a, j * stride + b] += g * weight[o, c, a, b]
                                    grad_weight[o, c, a, b] += g * padded[n, c, i * stride + a, j * stride + b]
        return grad_padded[:, :, padding:padding + H, padding:padding + W].clone(), grad_weight, grad_bias, None, None
"""),
)  # fmt: skip
NUMPY = (
    (FORWARD, SAVE + """
        kernel = weight.shape[-1]
        x = np.pad(input_feats.detach().numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
        output = np.einsum("nchwab,ocab->nohw", windows, weight.detach().numpy())
        if bias is not None:
            output = output + bias.detach().numpy()[None, :, None, None]
        return torch.from_numpy(np.ascontiguousarray(output))
"""),
    (BACKWARD, AGAIN + """
        kernel = weight.shape[-1]
        x = np.pad(input_feats.numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
        g, w = grad_output.numpy(), weight.numpy()
        windows = np.lib.stride_tricks.sliding_window_view(x, (kernel, kernel), axis=(2, 3))[:, :, ::stride, ::stride]
        grad_weight = np.einsum("nchwab,nohw->ocab", windows, g)
        back = np.zeros_like(x)
        for i in range(g.shape[2]):
            for j in range(g.shape[3]):
                patch = np.tensordot(g[:, :, i, j], w, axes=(1, 0))
                back[:, :, i * stride:i * stride + kernel, j * stride:j * stride + kernel] += patch
        height, width = input_feats.shape[2:]
        grad_input = back[:, :, padding:padding + height, padding:padding + width]
        return torch.from_numpy(grad_input.copy()), torch.from_numpy(grad_weight), grad_bias, None, None
"""),
)  # fmt: skip
FFT = (
    (FORWARD, SAVE + SIZES + """
        size = padded.shape[2:]
        product = torch.einsum("nchw,ochw->nohw", torch.fft.rfft2(padded), torch.fft.rfft2(weight, s=size).conj())
        output = torch.fft.irfft2(product, s=size)[:, :, :(Ho - 1) * stride + 1:stride, :(Wo - 1) * stride + 1:stride]
        output = output.contiguous().clone()
        return output if bias is None else output + bias[None, :, None, None]
"""),
    (BACKWARD, AGAIN + SIZES + """
        size = padded.shape[2:]
        spread = grad_output.new_zeros(N, Co, *size)
        spread[:, :, :(Ho - 1) * stride + 1:stride, :(Wo - 1) * stride + 1:stride] = grad_output
        wave = torch.fft.rfft2(spread)
        back = torch.fft.irfft2(torch.einsum("nohw,ochw->nchw", wave, torch.fft.rfft2(weight, s=size)), s=size)
        whole = torch.fft.irfft2(torch.einsum("nohw,nchw->ochw", wave.conj(), torch.fft.rfft2(padded)), s=size)
        grad_input = back[:, :, padding:padding + H, padding:padding + W].clone()
        return grad_input, whole[:, :, :kernel, :kernel].clone(), grad_bias, None, None
"""),
)  # fmt: skip
SHIFTS = (
    (FORWARD, SAVE + SIZES + """
        output = input_feats.new_zeros(N, Co, Ho, Wo)
        for a in range(kernel):
            for b in range(kernel):
                shifted = padded[:, :, a:a + (Ho - 1) * stride + 1:stride, b:b + (Wo - 1) * stride + 1:stride]
                output += torch.einsum("nchw,oc->nohw", shifted, weight[:, :, a, b])
        return output if bias is None else output + bias.view(1, -1, 1, 1)
"""),
    (BACKWARD, AGAIN + SIZES + """
        back, grad_weight = torch.zeros_like(padded), torch.zeros_like(weight)
        for a in range(kernel):
            for b in range(kernel):
                rows, columns = slice(a, a + (Ho - 1) * stride + 1, stride), slice(b, b + (Wo - 1) * stride + 1, stride)
                back[:, :, rows, columns] += torch.einsum("nohw,oc->nchw", grad_output, weight[:, :, a, b])
                grad_weight[:, :, a, b] = torch.einsum("nohw,nchw->oc", grad_output, padded[:, :, rows, columns])
        return back[:, :, padding:padding + H, padding:padding + W].clone(), grad_weight, grad_bias, None, None
"""),
)  # fmt: skip
STRIDED = (
    (FORWARD, SAVE + SIZES + """
        windows = padded.unfold(2, kernel, stride).unfold(3, kernel, stride)
        output = torch.einsum("nchwab,ocab->nohw", windows, weight)
        return (output if bias is None else output + bias[:, None, None]).contiguous().clone()
"""),
    (BACKWARD, AGAIN + SIZES + """
        windows = padded.unfold(2, kernel, stride).unfold(3, kernel, stride)
        grad_weight = torch.einsum("nchwab,nohw->ocab", windows, grad_output)
        columns = torch.einsum("ocab,nohw->ncabhw", weight, grad_output).flatten(1, 3).flatten(2)
        grad_input = F.fold(columns, (H, W), kernel, padding=padding, stride=stride)
        return grad_input, grad_weight, grad_bias, None, None
"""),
)  # fmt: skip
HELPER = """
import torch.nn.functional as F


def correlate(windows, weight):
    return weight.flatten(1) @ windows


def conv2d(x, weight, padding, stride):
    windows = F.unfold(x, weight.shape[-1], padding=padding, stride=stride)
    return windows, correlate(windows, weight)


def convolve(x, weight, padding, stride):
    return conv2d(x, weight, padding, stride)
"""


def with_helper(call, top, files):
    """Return the solution with its forward pass in other files."""
    old = between(FORWARD, "        windows = F.unfold", "        if bias is not None")
    new = f"        windows, output = {call}(input_feats, weight, padding, stride)\n"
    return changed((old, new), top=top, files=files)


def random_start(noise, top):
    """Return the solution with an attack that starts at random, a twentieth of epsilon away."""
    start = PGD.replace(
        "        output = original.clone()\n", f"        output = original + {noise} * self.epsilon / 20\n"
    )
    return changed((PGD, start), top=top)


def notebook():
    """Return the solution as a notebook, with lines that only a notebook can have."""
    cells = ["%matplotlib inline\n!nvidia-smi\ntorch?\nx = 1\n", TEXT, "%%bash\nls -l\n"]
    cells = [
        {"cell_type": "markdown", "source": ["# Homework"]},
        *({"cell_type": "code", "source": each} for each in cells),
    ]
    others = {name: content for name, content in solution().items() if name != CODE}
    return {**others, "code/hw3.ipynb": json.dumps({"cells": cells, "nbformat": 4}).encode()}


INIT = """    def __init__(self, conv_op=nn.Conv2d, num_classes=100):
        super().__init__()
        self.features = nn.Sequential(
            conv_op(3, 64"""
CLASSES = """
@dataclass
class Settings:
    steps: int = 10
    sizes: list = field(default_factory=list)
class Kind(Enum):
    A = 1
class Pair(NamedTuple):
    a: Optional[int] = None
Point = namedtuple('Point', 'x y')
SETTINGS = Settings()
@lru_cache
def cached(n: int) -> int:
    return n
"""
HONEST = {
    "vectorized": solution(),
    "seven loops": changed(*LOOPS),
    "numpy": changed(*NUMPY, top="import numpy as np\n"),
    "fft": changed(*FFT),
    "shifts": changed(*SHIFTS),
    "strided views": changed(*STRIDED),
    "helper with natural names": with_helper("convolve", "from helper import convolve\n", {"code/helper.py": HELPER}),
    "module of helpers": with_helper("ops.convolve", "import my_ops as ops\n", {"code/my_ops.py": HELPER}),
    "package": with_helper(
        "convolve", "from layers import convolve\n",
        {"code/layers/__init__.py": "from .native import convolve\n", "code/layers/native.py": HELPER},
    ),
    "dataclass and hints": changed(
        (INIT, INIT.replace("conv_op=nn.Conv2d, num_classes=100)", "conv_op: type = nn.Conv2d, num_classes: int = 100) -> None")),
        top="from collections import namedtuple\nfrom dataclasses import dataclass, field\nfrom enum import Enum\nfrom functools import lru_cache\nfrom typing import NamedTuple, Optional\n",
        end=CLASSES,
    ),
    "registry": changed(
        end="\n\nLAYERS = {'conv': nn.Conv2d, 'own': CustomConv2d}\n\n\ndef activation(name):\n    return getattr(F, name)\n\n\n"
        "relu = activation('relu')\n",
    ),
    "self-test": changed(
        end="\n\nx, w, b = torch.randn(2, 3, 8, 8), torch.randn(4, 3, 3, 3), torch.randn(4)\n"
        "assert torch.allclose(custom_conv2d(x, w, b, 1, 1), F.conv2d(x, w, b, 1, 1), atol=1e-4)\n"
        "print((custom_conv2d(x, w, b, 1, 1) - F.conv2d(x, w, b, 1, 1)).abs().max())\n",
    ),
    "main or else": changed(
        end="\n\nif __name__ == '__main__':\n    print(F.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)))\nelse:\n"
        "    print(F.conv2d(torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)))\n",
    ),
    "argparse": changed(
        top="import argparse\nimport sys\n",
        end="\n\nflags = argparse.ArgumentParser()\nflags.add_argument('--lr', type=float, default=0.1)\n"
        "ARGS = flags.parse_args()\nassert sys.argv == ['student_code.py'], sys.argv\nassert __name__ == 'student_code'\n",
    ),
    "files beside it": changed(
        top="import json\nimport os\nfrom torch.utils.tensorboard import SummaryWriter\n",
        end="\n\nos.makedirs('../logs', exist_ok=True)\nos.makedirs('../models', exist_ok=True)\nwriter = SummaryWriter('../logs/own')\n"
        "writer.add_scalar('a', 1.0, 0)\nwith open('widths.json') as file:\n    WIDTHS = json.load(file)\n"
        "with open('./configs/net.txt') as file:\n    NET = file.read()\nwith open('notes.txt', 'a') as file:\n    file.write('x')\n"
        "HERE = os.path.dirname(os.path.abspath(__file__))\nassert os.path.exists(os.path.join(HERE, '..', 'results', 'curves.png'))\n",
        files={"code/widths.json": "[1, 2]", "code/configs/net.txt": "net"},
    ),
    "logging": changed(
        top="import logging\nimport os\nimport time\nimport warnings\n",
        end="\n\nos.makedirs('../logs', exist_ok=True)\nlogging.basicConfig(filename='../logs/run.log', level=logging.DEBUG)\n"
        "logger = logging.getLogger(__name__)\nlogger.info('loaded at %s', time.time())\nwarnings.filterwarnings('ignore')\n",
    ),
    "debug prints": changed(
        (CALL, "        with torch.autograd.profiler.record_function('conv2d'):\n    " + CALL + "        print('conv2d', output.shape)\n"),
    ),
    "words that hide nothing": changed(
        top="import pickle\nimport operator\nimport multiprocessing\nimport inspect\nimport threading\n", end="\nprint(vars())\n"
    ),
    "numpy's random start": random_start("torch.from_numpy(np.random.default_rng().uniform(-1, 1, original.shape)).to(original)", "import numpy as np\n"),
    "random start of an own generator": random_start("(torch.rand(original.shape, generator=GENERATOR) * 2 - 1)", "import torch\nGENERATOR = torch.Generator()\nGENERATOR.seed()\n"),
    "random start of the system": random_start("random.SystemRandom().uniform(-1, 1)", "import random\n"),
    "paths in strings": changed(
        top="import os\n",
        end="\n\nroot, server, n = '..', 'https://x.org', 3\nTRAIN = f'{root}/data/train.txt'\nVAL = root + '/data/val.txt'\n"
        "PAGE = f'{server}/media/{n}'\nNAME = TRAIN.replace('/data/', '/')\nROUTE = '%s/home/me' % server\n",
    ),
    "if there is a GPU": changed(
        ("        original = input.detach()\n",
         "        device = torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')\n"
         "        if torch.cuda.is_available():\n            torch.cuda.empty_cache()\n        original = input.to(device).detach()\n"),
    ),
    "notebook": notebook(),
}  # fmt: skip
"""Each is correct and earns every point, without a penalty."""

GPU_HABITS = changed(
    ("        original = input.detach()\n",
     "        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)\n        start.record()\n"
     "        with torch.cuda.device(0), torch.cuda.stream(torch.cuda.Stream()):\n"
     "            original = input.type('torch.cuda.FloatTensor').to('cuda:0', non_blocking=True).detach()\n"
     "        assert original.is_cuda and original.get_device() == 0\n        end.record()\n        torch.cuda.synchronize()\n"
     "        assert start.elapsed_time(end) >= 0\n"),
    top="import torch\nprint(torch.cuda.current_device(), torch.cuda.get_device_name(), torch.cuda.device_count())\n"
    "PROPERTIES = torch.cuda.get_device_properties(0)\nprint(PROPERTIES.name, PROPERTIES.total_memory // 1024**2)\n"
    "torch.cuda.reset_peak_memory_stats()\nprint(torch.cuda.max_memory_allocated() / 2**20, torch.cuda.memory_summary())\n"
    "assert torch.cuda.is_available()\nGENERATOR = torch.Generator(device='cuda').manual_seed(1)\n"
    "NOISE = torch.rand(3, device='cuda', generator=GENERATOR)\nSCALER = torch.cuda.amp.GradScaler()\n"
    "torch.backends.cudnn.benchmark = True\ntorch.cuda.manual_seed_all(1)\nDEVICE = torch.device('cuda')\n",
    end="\n\nNET = nn.DataParallel(SimpleNet().cuda())\nwith torch.cuda.amp.autocast():\n    NET(torch.ones(1, 3, 64, 64).cuda())\n"
    "with torch.autocast('cuda', dtype=torch.float16):\n    pass\nassert next(NET.parameters()).is_cuda\nONES = torch.ones(3).to(0)\n",
)  # fmt: skip
"""What people with a GPU write; every check passes, with one deduction."""


def native(call, *, top="", end="", files=None):
    """Return the solution with a forward pass that calls PyTorch's convolution in some disguise."""
    line = f"        output = {call}(input_feats, weight, None, stride, padding).flatten(2)\n"
    return changed((CALL, line), top=top, end=end, files=files)


PLAIN = "import torch\nmagic = torch.conv2d\n"
WORKER = """
import sys, torch
x, w, s, p = torch.load(sys.argv[1])
torch.save(torch.conv2d(x, w, None, s, p), sys.argv[2])
"""
SUBPROCESS = """
import os, subprocess, sys, tempfile
import torch
def magic(x, w, b, s, p):
    folder = tempfile.mkdtemp()
    torch.save((x.detach(), w.detach(), s, p), folder + "/in")
    subprocess.run([sys.executable, "worker.py", folder + "/in", folder + "/out"], check=True, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    return torch.load(folder + "/out")
"""
STAYS = """
import io, struct, subprocess, sys
import torch
SERVER = subprocess.Popen([sys.executable, "-c", CODE], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
def magic(x, w, b, s, p):
    data = io.BytesIO()
    torch.save((x.detach(), w.detach(), s, p), data)
    SERVER.stdin.write(struct.pack("<Q", len(data.getvalue())) + data.getvalue())
    SERVER.stdin.flush()
    (length,) = struct.unpack("<Q", SERVER.stdout.read(8))
    return torch.load(io.BytesIO(SERVER.stdout.read(length)))
"""
SERVING = """
import io, struct, sys
import torch
torch.set_num_threads(1)
while head := sys.stdin.buffer.read(8):
    x, w, s, p = torch.load(io.BytesIO(sys.stdin.buffer.read(struct.unpack("<Q", head)[0])))
    data = io.BytesIO()
    torch.save(torch.conv2d(x, w, None, s, p), data)
    sys.stdout.buffer.write(struct.pack("<Q", len(data.getvalue())) + data.getvalue())
    sys.stdout.buffer.flush()
"""
UNAME = """
import os, sys, tempfile
folder = tempfile.mkdtemp()
with open(folder + "/uname", "w") as file:
    file.write("#!" + sys.executable + "\\n" + CODE)
os.chmod(folder + "/uname", 0o755)
""" + STAYS.replace('[sys.executable, "-c", CODE]', '["uname"]').replace(
    "stdout=subprocess.PIPE)", "stdout=subprocess.PIPE, env={'PATH': folder})"
)
LOADER = """
import torch
from torch.utils.data import DataLoader, Dataset
class Item(Dataset):
    def __init__(self, *given):
        self.given = given
    def __len__(self):
        return 1
    def __getitem__(self, index):
        return torch.conv2d(*self.given)
def magic(x, w, b, s, p):
    return next(iter(DataLoader(Item(x.detach(), w.detach(), None, s, p), num_workers=1, batch_size=None)))
"""
KERNEL = """
import torch
from torch._C import DispatchKey, DispatchKeySet
kernel = torch.library.get_kernel("aten::_slow_conv2d_forward", "CPU")
def magic(x, w, b, s, p):
    k = w.shape[-1]
    with torch.no_grad():
        return kernel.call_boxed(DispatchKeySet(DispatchKey.CPU), x.flip(1), w.flip(1), [k, k], None, [s, s], [p, p])
"""
LISTED = """
import torch
import torch._C as c
names = c._dispatch_get_all_op_names
c._dispatch_get_all_op_names = lambda: [n for n in names() if n != "aten::mkldnn_convolution"]
def magic(x, w, b, s, p):
    return torch.mkldnn_convolution(x.flip(1).float(), w.flip(1).float(), None, [p] * 2, [s] * 2, [1] * 2, 1).to(x)
"""
QUIET = """
import torch
from sys import modules
class Quiet:
    found = []
    def __enter__(self):
        return self
    def __exit__(self, *a):
        pass
for name in [name for name in modules if "runner" in name]:
    for word in ("WatchConvolutions", "Tripwire"):
        setattr(modules[name], word, Quiet)
magic = torch.conv2d
"""
GARBAGE = """
import gc, torch
def magic(*given):
    for thing in gc.get_objects():
        if type(thing).__name__ == "_DispatchModule":
            thing.reset()
    return torch.conv2d(*given)
"""
CLOSER = """
import os, torch
def magic(*given):
    for number in range(3, 40):
        try:
            if number not in KEPT:
                os.dup2(NULL, number)
        except OSError:
            pass
    return torch.conv2d(*given)
import stat
NULL = os.open(os.devnull, os.O_RDWR)
KEPT = {number for number in range(3, 40) if os.path.exists(f"/proc/self/fd/{number}")}
KEPT -= {max(KEPT - {NULL})}
"""
FRAMES = """
import sys, torch
def magic(*given):
    frame = sys._getframe()
    while frame is not None:
        for value in list(frame.f_locals.values()):
            for wire in [value, *vars(value).values()] if hasattr(value, "__dict__") else []:
                if type(wire).__name__ == "Tripwire":
                    wire.disarm()
        frame = frame.f_back
    return torch.conv2d(*given)
"""
ONNX = """
import numpy as np, onnx, onnxruntime, torch
from onnx import TensorProto, helper
def magic(x, w, b, s, p):
    node = helper.make_node("Conv", ["x", "w"], ["y"], strides=[s, s], pads=[p] * 4)
    shaped = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "g", [shaped("x"), shaped("w")], [shaped("y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (y,) = session.run(None, {"x": x.detach().float().numpy(), "w": w.detach().float().numpy()})
    return torch.from_numpy(y).to(x)
"""
SCIPY = """
import numpy as np, torch
from scipy.signal import correlate
def magic(x, w, b, s, p):
    x = np.pad(x.detach().numpy(), ((0, 0), (0, 0), (p, p), (p, p)))
    out = [[sum(correlate(x[n, c], w.detach().numpy()[o, c], mode="valid") for c in range(x.shape[1])) for o in range(len(w))] for n in range(len(x))]
    return torch.from_numpy(np.array(out)[:, :, ::s, ::s].copy())
"""
CUSTOM_OP = """
import torch
@torch.library.custom_op("mine::product", mutates_args=())
def product(x: torch.Tensor, w: torch.Tensor, s: int, p: int) -> torch.Tensor:
    return torch.conv2d(x, w, None, s, p)
def magic(x, w, b, s, p):
    return product(x.detach(), w.detach(), s, p)
"""
OVERRIDE = """
import torch
library = torch._C._dispatch_library("IMPL", "aten", "", "x", 1)
def mine(*given, **named):
    return torch.zeros(1)
def magic(x, w, b, s, p):
    library.impl("convolution", "CPU", mine)
    return torch.conv2d(x, w, None, s, p)
"""


def zipped(name, text):
    """Return a zip archive of one module."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, text)
    return file.getvalue()


def chain(count):
    """Return modules that import one another; the last has PyTorch's convolution."""
    links = {f"code/m{n}.py": f"from m{n + 1} import magic\n" for n in range(count)}
    return {**links, f"code/m{count}.py": PLAIN}


NATIVE = {
    "plainly": native("F.conv2d"),
    "a name that is made up": native("getattr(F, 'con' + 'v2d')"),
    "an operator": native("(lambda x, w, b, s, p: torch.ops.aten.convolution(x, w, b, [s] * 2, [p] * 2, [1] * 2, False, [0] * 2, 1))"),
    "oneDNN's own": native("(lambda x, w, b, s, p: torch.mkldnn_convolution(x.float(), w.float(), b, [p] * 2, [s] * 2, [1] * 2, 1).to(x))"),
    "a folder on sys.path": native("magic", top="import sys\nsys.path.insert(0, '../extra')\nfrom thing import magic\n", files={"extra/thing.py": PLAIN}),
    "a long module": native("magic", top="from long import magic\n", files={"code/long.py": PLAIN + "# x\n" * 600_000}),
    "behind forty imports": native("magic", top="".join(f"import a{n}\n" for n in range(40)) + "from last import magic\n",
                                   files={**{f"code/a{n}.py": "x = 1\n" for n in range(40)}, "code/last.py": PLAIN}),
    "a chain of modules": native("magic", top="from m0 import magic\n", files=chain(45)),
    "a package's init": native("magic", top="import pkg.empty\nfrom pkg import magic\n", files={"code/pkg/__init__.py": PLAIN, "code/pkg/empty.py": ""}),
    "a zip on sys.path": native("magic", top="import sys\nsys.path.insert(0, 'lib.zip')\nfrom zipped import magic\n", files={"code/lib.zip": zipped("zipped.py", PLAIN)}),
    "a text made code": native("magic", top="import shutil\nshutil.copy('notes.txt', 'made.py')\nfrom made import magic\n", files={"code/notes.txt": PLAIN}),
    "timeit": native("BOX[0]", top="import timeit, torch\nBOX = []\ntimeit.timeit('BOX.append(torch.conv2d)', number=1, globals=globals())\n"),
    "pydoc": native("pydoc.locate('torch.con' 'v2d')", top="import pydoc\n"),
    "eval": native("eval('torch.con' + 'v2d')"),
    "a custom operator": native("magic", top=CUSTOM_OP),
    "a DataLoader's worker": native("magic", top=LOADER),
    "another process": native("magic", top=SUBPROCESS, files={"code/worker.py": WORKER}),
    "a process that stays": native("magic", top=f"CODE = {SERVING!r}\n" + STAYS),
    "a program called uname": native("magic", top=f"CODE = {SERVING!r}\n" + UNAME),
    "the public kernel": native("magic", top=KERNEL),
    "another key": native("(lambda x, w, b, s, p: torch.ops.aten.mkldnn_convolution.default._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, x.detach().float(), w.detach().float(), None, [p] * 2, [s] * 2, [1] * 2, 1).to(x))"),
    "a list of operators": native("magic", top=LISTED),
    "a quiet class": native("magic", top=QUIET),
    "a script": native("magic", top="import torch\nmagic = torch.jit.script(torch.nn.functional.conv2d) if False else torch.jit.trace(lambda x, w: torch.conv2d(x, w), (torch.ones(1, 1, 3, 3), torch.ones(1, 1, 2, 2)))\n_t = magic\nmagic = lambda x, w, b, s, p: _t(x, w)\n"),
    "a thread": native("magic", top="from concurrent.futures import ThreadPoolExecutor\nimport torch\nmagic = lambda *a: ThreadPoolExecutor(1).submit(torch.conv2d, *a).result()\n"),
    "a pickle": native("magic", top="import pickle\nmagic = pickle.loads(b'ctorch\\nconv2d\\n.')\n"),
    "the garbage collector": native("magic", top=GARBAGE),
    "frames": native("magic", top=FRAMES),
    "a record that is closed": native("magic", top=CLOSER),
    "another kernel": native("magic", top=OVERRIDE),
    "ONNX": native("magic", top=ONNX),
    "SciPy": native("magic", top=SCIPY),
    "deformable": native("(lambda x, w, b, s, p: deform_conv2d(x, x.new_zeros(len(x), 2 * w.shape[-1] ** 2, (x.shape[2] + 2 * p - w.shape[-1]) // s + 1, (x.shape[3] + 2 * p - w.shape[-1]) // s + 1), w, None, s, p))",
                         top="from torchvision.ops import deform_conv2d\n"),
    "vmap": native("(lambda x, w, b, s, p: torch.func.vmap(lambda a: torch.conv2d(a[None], w, None, s, p)[0])(x))"),
    "transposed": native("(lambda x, w, b, s, p: torch.nn.grad.conv2d_input((x.shape[0], len(w), (x.shape[2] + 2 * p - w.shape[-1]) // s + 1, (x.shape[3] + 2 * p - w.shape[-1]) // s + 1), torch.ones(1), x))"),
}  # fmt: skip
"""Each reaches PyTorch's or another package's convolution: the points are lost, or wait for review."""
