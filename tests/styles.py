"""Submissions in many styles: the kit's solution with another convolution, or other files beside it."""

import io
import json
import re
import zipfile
from pathlib import Path

from mutants import ATTACK_END, ATTENTION_END, CALL, solution

CODE = "code/student_code.py"
TEXT = solution()[CODE].decode()


def lost(grade):
    """Reasons of checks that did not pass, by name."""
    return {outcome.name: outcome.reason for outcome in grade.result.outcomes if outcome.status != "passed"}


def between(begin: str, end: str, text: str = TEXT) -> str:
    start = text.index(begin)
    return text[start : text.index(end, start)]


def sections(name: str) -> dict[str, str]:
    """Return pieces of code by their headings, lines that begin with ##."""
    text = (Path(__file__).parent / "programs" / name).read_text()
    return dict(re.findall(r"^## (.*)\n((?:(?!## ).*\n)*)", text, re.MULTILINE))


CONVOLUTION, PIECES, PROGRAM = (sections(f"{name}.txt") for name in ("convolutions", "honest", "native"))
FORWARD = between("        kernel = weight.shape[-1]\n", "\n    @staticmethod\n    def backward")
BACKWARD = between("        windows, weight = ctx.saved_tensors\n", "\n\ncustom_conv2d")
PGD = between("        original = input.detach()\n", "\n\ndefault_attack")
ATTENTION = between("        images = input.detach().clone()", "\n\ndefault_attention")
GRADIENTS = "        gradients = grad_output.flatten(2)"
ORIGINAL = "        original = input.detach()\n"
INIT = "conv_op=nn.Conv2d, num_classes=100)"


def changed(*pairs, top="", end="", files=None):
    """Return the solution with pieces of its text replaced, lines above and below it, and files beside it."""
    text = TEXT
    for old, new in pairs:
        assert text.count(old) == 1, (old, text.count(old))
        text = text.replace(old, new)
    text = text.replace("import math\n", f"import math\n{top}", 1) + end
    encoded = {name: each if isinstance(each, bytes) else each.encode() for name, each in (files or {}).items()}
    return {**solution(), CODE: text.encode(), **encoded}


def convolution(name, top=""):
    """Return the solution with another convolution."""
    old, own = {"forward": FORWARD, "backward": BACKWARD}, CONVOLUTION
    return changed(*((old[way], own[way] + own["sizes"] + own[f"{name} {way}"]) for way in old), top=top)


def with_helper(call, top, files):
    """Return the solution with its forward pass in other files."""
    old = between("        windows = F.unfold", "        if bias is not None", FORWARD)
    return changed(
        (old, f"        windows, output = {call}(input_feats, weight, padding, stride)\n"), top=top, files=files
    )


def random_start(noise, top):
    """Return the solution with an attack that starts at random, a twentieth of epsilon away."""
    line = "        output = original.clone()\n"
    return changed((line, f"        output = original + {noise} * self.epsilon / 20\n"), top=f"{top}\n")


def notebook():
    """Return the solution as a notebook, with lines that only a notebook can have."""
    sources = ["%matplotlib inline\n!nvidia-smi\ntorch?\nx = 1\n", TEXT, "%%bash\nls -l\n"]
    cells = [
        {"cell_type": "markdown", "source": ["# Homework"]},
        *({"cell_type": "code", "source": s} for s in sources),
    ]
    others = {name: content for name, content in solution().items() if name != CODE}
    return {**others, "code/hw3.ipynb": json.dumps({"cells": cells, "nbformat": 4}).encode()}


OWN = "default_model = ResidualNet\n"
PARAMETERS = "def __init__(self, loss_fn, num_steps=10, step_size=0.01"
STARTER = (Path(__file__).parent / "programs" / "original_starter.txt").read_bytes()
POOL = "stride=2, padding=1),\n            conv_op(256, 512"
LINEAR = between("    def __init__(self, conv_op=", "            conv_op(3, 64")
HONEST = {
    "vectorized": solution(),
    "seven loops": convolution("seven loops", "from itertools import product\n"),
    "numpy": convolution("numpy", "import numpy as np\n"),
    **{name: convolution(name) for name in ("fft", "shifts", "strided views")},
    "helper": with_helper("convolve", "from helper import convolve\n", {"code/helper.py": PIECES["helper"]}),
    "module of helpers": with_helper("ops.convolve", "import my_ops as ops\n", {"code/my_ops.py": PIECES["helper"]}),
    "package": with_helper(
        "convolve",
        "from layers import convolve\n",
        {"code/layers/__init__.py": "from .native import convolve\n", "code/layers/native.py": PIECES["helper"]},
    ),
    "dataclass and hints": changed(
        (
            LINEAR,
            LINEAR.replace("conv_op=", "conv_op: type = ").replace(
                "num_classes=100)", "num_classes: int = 100) -> None"
            ),
        ),
        top=PIECES["imports of classes"],
        end=PIECES["classes"],
    ),
    **{name: changed(end=PIECES[name]) for name in ("registry", "self-test", "main or else", "argparse", "logging")},
    **{name: changed(end=PIECES[name]) for name in ("words that hide nothing", "paths in strings")},
    "files beside it": changed(
        end=PIECES["files beside it"], files={"code/widths.json": "[1, 2]", "code/configs/net.txt": "net"}
    ),
    "debug prints": changed((CALL, PIECES["debug prints"])),
    "debug prints and stray imports": changed(top=PIECES["debug prints and stray imports"]),
    "old names": changed(
        ("self.loss_fn(model(output), target)", "self.loss_fn(model.forward(output), target)"), top=PIECES["old names"]
    ),
    **{
        name: random_start(*PIECES[name].rstrip().split("\n")[::-1])
        for name in PIECES
        if name.startswith("random start")
    },
    "backward": changed((PGD, PIECES["backward attack"]), (ATTENTION, PIECES["backward attention"])),
    "attack on data": changed((PGD, PIECES["attack on data"])),
    "single images": changed((ATTENTION, PIECES["attention of single images"])),
    "1000 classes": changed((OWN, PIECES["network of 1000 classes"])),
    "SimpleNet with dropout": changed(
        (OWN, "default_model = SimpleNet\n"), (POOL, POOL.replace("),", "), nn.Dropout(0.2),"))
    ),
    "no custom_conv2d": changed(
        ("custom_conv2d = CustomConv2DFunction.apply\n", "conv = CustomConv2DFunction.apply\n"),
        ("return custom_conv2d(input", "return conv(input"),
    ),
    "if there is a GPU": changed((ORIGINAL, PIECES["if there is a GPU"])),
    "notebook": notebook(),
    "parameters of other names": changed(
        (PARAMETERS, PARAMETERS.replace("loss_fn, num_steps", "criterion, steps").replace("step_size", "alpha")),
        (
            "self.loss_fn = loss_fn\n        self.num_steps = num_steps",
            "self.loss_fn = criterion\n        self.num_steps = steps",
        ),
        ("self.step_size = step_size", "self.step_size = alpha"),
    ),
    "compiled": changed(
        (CALL, CALL.replace("weight.flatten(1) @ windows", "_multiply(weight.flatten(1), windows)")),
        (
            "\n\nclass CustomConv2DFunction",
            "\n\n@torch.compile\ndef _multiply(a, b):\n    return a @ b\n\n\nclass CustomConv2DFunction",
        ),
    ),
    "gradients left disabled": changed(
        (ATTACK_END, ATTACK_END.replace("return output", "torch.set_grad_enabled(False)\n        return output"))
    ),
    "an unfilled file beside it": {
        **{name: content for name, content in solution().items() if name != CODE},
        CODE: STARTER,
        "code/final/student_code.py": TEXT.encode(),
    },
    "a flag of one's own network": changed(
        ("def forward(self, x):\n        # [Bonus]", "def forward(self, x, attack=False):\n        # [Bonus]"),
        ("self.loss_fn(model(output), target)", "self.loss_fn(model(output, attack=False), target)"),
    ),
}
"""Each is correct and earns every point, without a penalty."""
GPU = {
    "habits": changed((ORIGINAL, PIECES["GPU timing"]), top=PIECES["GPU properties"], end=PIECES["GPU network"]),
    "in the attack": changed((ORIGINAL, "        model.cuda()\n        original = input.cuda().detach()\n")),
    "when imported": changed(top="import torch\nDEVICE = torch.device('cuda:0')\nONES = torch.ones(3).to(DEVICE)\n"),
    "in the convolution": changed(
        (CALL, f"        zero = torch.zeros(1, device='cuda')\n{CALL}        output = zero + output\n")
    ),
    "Apple's": changed(
        (
            ORIGINAL,
            "        model.to('mps')\n        original = input.to('mps').detach()\n        torch.mps.synchronize()\n",
        )
    ),
    "float tensor": changed((ATTENTION_END, PIECES["GPU tensor"])),
    "asked for in the convolution": changed(
        (CALL, PIECES["GPU asked for"] + CALL + "        output = output + zero\n")
    ),
    "asked for when imported": changed(top=PIECES["GPU asked for when imported"]),
}
"""What people with a GPU write; every check passes, with one deduction."""


def native(call="magic", *, top="", files=None):
    """Return the solution with a forward pass that calls PyTorch's convolution in some disguise."""
    line = f"        output = {call}(input_feats, weight, None, stride, padding).flatten(2)\n"
    return changed((CALL, line), top=top, files=files)


PLAIN = "import torch\nmagic = torch.conv2d\n"
CALLS = """
plainly: F.conv2d
a name that is made up: getattr(F, 'con' + 'v2d')
eval: eval('torch.con' + 'v2d')
an operator: (lambda x, w, b, s, p: torch.ops.aten.convolution(x, w, b, [s] * 2, [p] * 2, [1] * 2, False, [0] * 2, 1))
oneDNN's own: (lambda x, w, b, s, p: torch.mkldnn_convolution(x.float(), w.float(), b, [p] * 2, [s] * 2, [1] * 2, 1).to(x))
another key: (lambda x, w, b, s, p: torch.ops.aten.mkldnn_convolution.default._op_dk(torch._C.DispatchKey.CompositeExplicitAutograd, x.detach().float(), w.detach().float(), None, [p] * 2, [s] * 2, [1] * 2, 1).to(x))
vmap: (lambda x, w, b, s, p: torch.func.vmap(lambda a: torch.conv2d(a[None], w, None, s, p)[0])(x))
transposed: (lambda x, w, b, s, p: torch.nn.grad.conv2d_input((x.shape[0], len(w), (x.shape[2] + 2 * p - w.shape[-1]) // s + 1, (x.shape[3] + 2 * p - w.shape[-1]) // s + 1), torch.ones(1), x))
"""
STAYS = PROGRAM["a process that stays"]
UNAME = STAYS.replace('[sys.executable, "-c", open("serving.txt").read()]', '["uname"]').replace(
    "stdout=subprocess.PIPE)", "stdout=subprocess.PIPE, env={'PATH': folder})"
)
PROGRAM["a program called uname"] = PROGRAM.pop("uname") + UNAME


def zipped(name, text):
    """Return a zip archive of one module."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, text)
    return file.getvalue()


FILES = {"notes.txt": PLAIN, **{name: PROGRAM.pop(name) for name in ("serving.txt", "worker.py")}}
CHAIN = {f"code/m{n}.py": f"from m{n + 1} import magic\n" for n in range(45)} | {"code/m45.py": PLAIN}
FORTY = {f"code/a{n}.py": "x = 1\n" for n in range(40)} | {"code/last.py": PLAIN}
ON_PATH = "import sys\nsys.path.insert(0, '{}')\nfrom {} import magic\n"
NATIVE = {
    **{name: native(call) for name, call in (line.split(": ", 1) for line in CALLS.strip().splitlines())},
    **{
        name: native(top=text, files={f"code/{file}": FILES[file] for file in FILES if file in text})
        for name, text in PROGRAM.items()
    },
    "a folder on sys.path": native(top=ON_PATH.format("../extra", "thing"), files={"extra/thing.py": PLAIN}),
    "a zip on sys.path": native(
        top=ON_PATH.format("lib.zip", "zipped"), files={"code/lib.zip": zipped("zipped.py", PLAIN)}
    ),
    "a long module": native(top="from long import magic\n", files={"code/long.py": PLAIN + "# x\n" * 600_000}),
    "behind forty imports": native(
        top="".join(f"import a{n}\n" for n in range(40)) + "from last import magic\n", files=FORTY
    ),
    "a chain of modules": native(top="from m0 import magic\n", files=CHAIN),
    "a package's init": native(
        top="import pkg.empty\nfrom pkg import magic\n", files={"code/pkg/__init__.py": PLAIN, "code/pkg/empty.py": ""}
    ),
}
"""Each reaches PyTorch's or another package's convolution: the points are lost, or wait for review."""
