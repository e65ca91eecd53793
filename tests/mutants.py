"""Wrong answers: the kit's solution with one thing changed, and the checks that each has to lose, no more and no fewer."""

import ast
import re
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import scenelab_runner
from scenelab.course.grading import checks
from scenelab.course.grading.rubric import read_rubric
from scenelab.course.kit import files
from scenelab.course.submission import write_zip

PDF = b"%PDF-1.7\n%%EOF\n"
CHECKS = tuple(read_rubric().checks)
CONV = frozenset(name for name in CHECKS if name.startswith("conv_"))
ATTACK = frozenset(name for name in CHECKS if name.startswith("attack_"))
ATTENTION = frozenset(name for name in CHECKS if name.startswith("attention_"))
MODEL = frozenset(name for name in CHECKS if name.startswith("model_"))
GRADS = frozenset({"conv_grad_input", "conv_grad_weight", "conv_grad_bias"})
ALL_FOUR = frozenset({"conv_rectangle", "conv_stride", "conv_one_by_one", "conv_no_bias"})
MODULE = frozenset({"conv_inplace_relu", "conv_in_network"})
WITH_BIAS = MODULE | {"conv_forward", "conv_rectangle", "conv_stride", "conv_one_by_one"}
UNLIKE_POINTS = MODULE | {"conv_forward", "conv_rectangle", "conv_stride", "conv_no_bias"}


@dataclass(frozen=True)
class Mutant:
    """A change of student_code.py."""

    name: str
    changes: tuple[tuple[str, str], ...]  # old and new text; each old one occurs once
    loses: frozenset[str]  # checks that do not pass
    earned: tuple[tuple[str, float], ...] = ()  # shares of lost checks' points that are earned all the same
    says: str = ""  # part of what the student is told, of any lost check
    review: str = ""  # part of what a person is asked to look at


def mutant(name, *changes, loses=(), earned=(), says="", review=""):
    return Mutant(name, changes, frozenset(loses), tuple(earned), says, review)


def hostile(name, code, *, loses=("attention_shape",), says="", review="", top="import os, sys, time"):
    """Code that runs inside explain for one image of one check, attention_shape, and nowhere else."""
    body = "".join(f"            {line}\n" for line in code.strip().splitlines())
    place = "        images = input.detach().clone().requires_grad_(True)\n"
    changes = ("import math\n", f"import math\n{top}\n"), (place, f"        if input.shape[2] == 5:\n{body}{place}")
    return mutant(name, *changes, loses=loses, says=says, review=review)


BIAS = "            output = output + bias[:, None]\n"
RETURN = "        return output.unflatten(2, (height, width)).clone()\n"
STEP = "output = output.detach() - self.step_size * gradient.sign()"
CLIP = "            output = torch.minimum(torch.maximum(output, original - self.epsilon), original + self.epsilon)\n"
TARGET = "            target = model(original).argmin(dim=1)\n"
ATTENTION_END = "        return gradient.abs().amax(dim=1, keepdim=True)\n"
PREDICTED = "            loss = self.loss_fn(scores, scores.argmax(dim=1))\n"
ATTACK_END = CLIP + "        return output\n"
CALL = "        output = weight.flatten(1) @ windows  # N x Co x Ho Wo\n"
OWN = "default_model = ResidualNet\n"

MUTANTS = [
    # convolution
    mutant("bias not added", (BIAS, "            pass\n"), says="bias is not added", loses=WITH_BIAS),
    mutant("bias subtracted", (BIAS, BIAS.replace("+ bias", "- bias")), says="bias is subtracted",
           loses=WITH_BIAS),
    mutant("kernel flipped", (CALL, CALL.replace("weight.flatten", "weight.flip(2, 3).flatten")), says="flipped",
           loses=UNLIKE_POINTS),
    mutant("weight transposed", (CALL, CALL.replace("weight.flatten", "weight.transpose(2, 3).flatten")), says="rows and columns",
           loses=UNLIKE_POINTS),
    mutant("padding forgotten", ("F.unfold(input_feats, kernel, padding=padding,", "F.unfold(input_feats, kernel,"), loses=CONV - {"conv_by_hand"}),
    mutant("padding forgotten everywhere", ("        kernel = weight.shape[-1]\n", "        padding, kernel = 0, weight.shape[-1]\n"),
           loses=CONV - {"conv_by_hand", "conv_dtype"}, says="padding is left out"),
    mutant("stride ignored", ("        kernel = weight.shape[-1]\n", "        stride, kernel = 1, weight.shape[-1]\n"),
           loses={"conv_forward", "conv_rectangle", "conv_stride", "conv_one_by_one", "conv_in_network", "conv_leaves_input"} | GRADS),
    mutant("weight's gradient transposed", (".sum(dim=0).view_as(weight)", ".sum(dim=0).view_as(weight).transpose(2, 3)"), says="rows and columns are exchanged",
           loses={"conv_grad_weight", "conv_rectangle", "conv_stride", "conv_no_bias"} | MODULE),
    mutant("weight's gradient a mean", (".sum(dim=0).view_as", ".mean(dim=0).view_as"), says="number of images", loses={"conv_grad_weight", *ALL_FOUR} | MODULE),
    mutant("weight's gradient not reshaped", (".sum(dim=0).view_as(weight)", ".sum(dim=0)"), says="invalid gradient at index 1",
           loses={"conv_grad_weight", "conv_leaves_input", *ALL_FOUR} | MODULE),
    mutant("bias's gradient a mean", ("grad_output.sum(dim=(0, 2, 3))", "grad_output.mean(dim=0).sum(dim=(1, 2))"), says="number of images",
           loses={"conv_grad_bias", "conv_rectangle", "conv_stride", "conv_one_by_one"} | MODULE),
    mutant("no gradient of the input", ("return grad_input, grad_weight", "return None, grad_weight"), says="returned None",
           loses={"conv_grad_input", *ALL_FOUR} | MODULE),
    mutant("input's gradient flipped", ("handed_back = weight.flatten", "handed_back = weight.flip(2, 3).flatten"),
           loses={"conv_grad_input", "conv_rectangle", "conv_stride", "conv_no_bias"} | MODULE),
    mutant("input's gradient of the wrong sign", ("return grad_input, grad_weight", "return -grad_input, grad_weight"), says="sign is wrong",
           loses={"conv_grad_input", *ALL_FOUR} | MODULE),
    mutant("no bias forward", ("        if bias is not None:\n" + BIAS, "        output = output + bias[:, None]\n"), loses={"conv_no_bias"}),
    mutant("no bias backward", (" if ctx.has_bias else None", ""), loses={"conv_no_bias"}),
    mutant("bias's gradient unassigned where it is not needed", (" if ctx.has_bias else None", " if ctx.has_bias and ctx.needs_input_grad[2] else grad_bias"),
           loses={"conv_no_bias"}, says="UnboundLocalError"),
    mutant("view returned", (RETURN, RETURN.replace(".clone()", "")), loses=MODULE, says="view"),
    mutant("view returned without a bias", (RETURN, "        output = output.unflatten(2, (height, width))\n        return output if bias is None else output.clone()\n"),
           loses={"conv_inplace_relu"}, says="bias None"),
    mutant("weight's gradient of one image", (".sum(dim=0).view_as", "[0].view_as"), loses={"conv_grad_weight", *ALL_FOUR} | MODULE, says="one image alone"),
    mutant("always float32", (RETURN, RETURN.replace(".clone()", ".clone().float()")),
           ("        windows, weight = ctx.saved_tensors\n", "        windows, weight = ctx.saved_tensors\n        grad_output = grad_output.to(weight.dtype)\n"),
           loses={"conv_dtype"}),
    mutant("bias changed", (RETURN, "        if bias is not None:\n            bias.mul_(2)\n" + RETURN), loses={"conv_leaves_input"}, says="has been changed"),
    mutant("height and width exchanged", ("(height, width)).clone()", "(width, height)).clone()"), loses={"conv_rectangle"}),
    mutant("size rounded up",
           ("height = (input_feats.shape[2] + 2 * padding - kernel) // stride + 1", "height = -(-(input_feats.shape[2] + 2 * padding - kernel) // stride) + 1"),
           loses={"conv_forward", "conv_stride", "conv_leaves_input", "conv_in_network"} | GRADS),
    mutant("F.conv2d", (CALL, "        output = F.conv2d(input_feats, weight, None, stride, padding).flatten(2)\n"), loses=CONV, says="not its own"),
    mutant("F.conv2d through a helper", (CALL, "        output = _convolve(input_feats, weight, stride, padding)\n"),
           ("class CustomConv2DFunction", "def _convolve(x, w, s, p):\n    return torch.conv2d(x, w, None, s, p).flatten(2)\n\n\nclass CustomConv2DFunction"),
           loses=CONV, says="not its own"),
    mutant("F.conv2d by a name that is made up", (CALL, "        output = getattr(F, 'con' + 'v2d')(input_feats, weight, None, stride, padding).flatten(2)\n"),
           loses=CONV, says="not its own", review="getattr with a name that is made up"),
    mutant("nn.Conv2d from the network",
           (CALL, "        layer = SimpleNet().features[0]\n        layer.weight = nn.Parameter(weight)\n        layer.bias, layer.stride, layer.padding = None, (stride, stride), (padding, padding)\n        output = layer(input_feats).flatten(2)\n"),
           loses=CONV, says="not its own"),
    mutant("a convolution where no name says so",
           ("from torchvision.utils import make_grid\n", "from torchvision.ops import Conv2dNormActivation as Layer\nfrom torchvision.utils import make_grid\n"),
           (CALL, "        layer = Layer(weight.shape[1], weight.shape[0], kernel, stride, padding, norm_layer=None, activation_layer=None, bias=False)\n        layer[0].weight = nn.Parameter(weight)\n        output = layer(input_feats).flatten(2)\n"),
           loses=CONV, says="not its own"),
    mutant("answers from a package", ("import math\n", "import math\nimport scenelab.conv\n"), loses=set(CHECKS)),
    # attack
    mutant("wrong sign", (STEP, STEP.replace("- self", "+ self")), loses={"attack_descends"}, earned=[("attack_descends", 0.25)], says="wrong sign"),
    mutant("no clip", (CLIP, ""), loses={"attack_stays_close"}, says="clip after each step"),
    mutant("clip to twice epsilon", (CLIP, CLIP.replace("self.epsilon", "2 * self.epsilon")), loses={"attack_stays_close"}),
    mutant("epsilon ignored", (CLIP, CLIP.replace("self.epsilon", "0.1")), loses={"attack_stays_close"}),
    mutant("most confident label", (TARGET, TARGET.replace("argmin", "argmax")), loses={"attack_label", "attack_descends"}, says="most confident"),
    mutant("batch's label", (TARGET, TARGET.replace("argmin(dim=1)", "mean(dim=0).argmin().expand(len(original))")), loses={"attack_label"}, says="whole batch"),
    mutant("one step", ("for _ in range(self.num_steps):", "for _ in range(1):"), loses={"attack_steps", "attack_descends"}),
    mutant("step size ignored", (STEP, STEP.replace("self.step_size", "0.01")), loses={"attack_steps"}),
    mutant("gradient without its sign", (STEP, STEP.replace("gradient.sign()", "gradient")), loses={"attack_steps", "attack_descends"}),
    mutant("cross-entropy whatever is given", ("loss = self.loss_fn(model(output), target)", "loss = F.cross_entropy(model(output), target)"), loses={"attack_loss"},
           says="use self.loss_fn"),
    mutant("the score in place of a loss", ("loss = self.loss_fn(model(output), target)", "loss = -model(output).amin(dim=1).sum()"), loses={"attack_loss"}),
    mutant("graph kept", ("            output.requires_grad_(True)\n", ""), ("output = original.clone()\n", "output = original.clone().requires_grad_(True)\n"),
           (STEP, STEP.replace(".detach()", "")), loses={"attack_graph"}),
    mutant("graph kept, then detached", ("            output.requires_grad_(True)\n", ""),
           ("output = original.clone()\n", "output = original.clone().requires_grad_(True)\n"), (STEP, STEP.replace(".detach()", "")),
           (ATTACK_END, ATTACK_END.replace("return output", "return output.detach()")), loses={"attack_graph"}, says="grows from step to step"),
    mutant("images changed", (ATTACK_END, CLIP + "        input.copy_(output)\n        return output\n"), loses={"attack_leaves_model"}, says="changes the images"),
    mutant("left in train mode", (ATTACK_END, CLIP + "        model.train()\n        return output\n"), loses={"attack_leaves_model"}, says="another mode"),
    mutant("attacked in train mode", ("        original = input.detach()\n", "        original = input.detach()\n        model.train()\n"),
           (ATTACK_END, CLIP + "        model.eval()\n        return output\n"), loses={"attack_leaves_model"}, says="changes the model"),
    mutant("a flag that no network takes", ("self.loss_fn(model(output), target)", "self.loss_fn(model(output, attack=False), target)"), loses=ATTACK,
           says="given one named attack"),
    mutant("images come back as they were", (STEP, "output = output.detach() - 0 * gradient"), loses=ATTACK),
    # attention
    mutant("mean of the channels", (ATTENTION_END, ATTENTION_END.replace("amax", "mean")), loses={"attention_map"}, says="mean of the channels"),
    mutant("no absolute value", (ATTENTION_END, ATTENTION_END.replace(".abs()", "")), loses={"attention_map"}, says="without its absolute value"),
    mutant("first channel", (ATTENTION_END, "        return gradient[:, :1].abs()\n"), loses={"attention_map"}, says="first channel"),
    mutant("least confident label", (PREDICTED, PREDICTED.replace("argmax", "argmin")), loses={"attention_map"}, says="least confident"),
    mutant("the score's gradient", (PREDICTED, "            loss = scores.amax(dim=1).mean()\n"), loses={"attention_map"}, earned=[("attention_map", 0.5)],
           says="that of the score"),
    mutant("maximum of the scores over the batch", (PREDICTED, "            loss = scores.amax(dim=0).sum()\n"),
           loses={"attention_map", "attention_each_image"}, says="the scores is taken over the batch"),
    mutant("the batch's label", (PREDICTED, PREDICTED.replace("argmax(dim=1)", "mean(dim=0).argmax().expand(len(images))")), loses={"attention_each_image"},
           says="taken over the batch"),
    mutant("normalized", (ATTENTION_END, "        maps = gradient.abs().amax(dim=1, keepdim=True)\n        return maps / maps.max()\n"), loses={"attention_values"},
           says="scaled"),
    mutant("three dimensions", (ATTENTION_END, ATTENTION_END.replace("dim=1, keepdim=True", "dim=1")), loses={"attention_shape"}),
    mutant("all channels", (ATTENTION_END, "        return gradient.abs()\n"), loses=ATTENTION),
    mutant("map with a graph", ("(gradient,) = torch.autograd.grad(loss, images)", "(gradient,) = torch.autograd.grad(loss, images, create_graph=True)"),
           loses={"attention_detached"}),
    mutant("model left in train mode", (ATTENTION_END, "        model.train()\n" + ATTENTION_END), loses={"attention_leaves_model"}),
    # network
    mutant("the kit's network", (OWN, "default_model = SimpleNet\n"), loses=MODEL, says="still the kit's"),
    mutant("one image size", ("        self.fc = nn.Linear(256, num_classes)\n", "        self.fc = nn.Linear(64, num_classes)\n"),
           ("return self.fc(self.features(x).mean(dim=(2, 3)))", "return self.fc(self.features(x).mean(dim=1).flatten(1))"), loses={"model_trains"}),
    mutant("ten classes", ("        self.fc = nn.Linear(256, num_classes)\n", "        self.fc = nn.Linear(256, 10)\n"), loses={"model_trains"},
           says="2×100 is expected"),
    mutant("too large",
           ("        self.fc = nn.Linear(256, num_classes)\n", "        self.fc = nn.Linear(256, num_classes)\n        self.more = nn.Parameter(torch.zeros(1000, 1000))\n"),
           loses={"model_small"}, says="the challenge allows"),
    mutant("no numbers", ("return self.fc(self.features(x).mean(dim=(2, 3)))", "return self.fc(self.features(x).mean(dim=(2, 3))) / 0 * 0"), loses={"model_trains"},
           says="no numbers"),
]  # fmt: skip

HOSTILE = [
    hostile("sleeps", "time.sleep(10_000)", says="did not end within"),
    hostile("never ends", "while True:\n    pass", says="did not end within"),
    hostile("eats memory", "kept = []\nwhile True:\n    kept.append(b'x' * (64 << 20))"),
    hostile("eats memory through torch", "kept = []\nwhile True:\n    kept.append(torch.ones(1 << 24))"),
    hostile("forks", "while True:\n    try:\n        os.fork()\n    except OSError:\n        time.sleep(1)", review="os.fork"),
    hostile("fills the scratch disk", "while True:\n    with open(f'/tmp/{time.time()}', 'wb') as file:\n        file.write(b'x' * (8 << 20))"),
    hostile("ends the process", "os._exit(0)", says="ended the process", review="os._exit"),
    hostile("exits", "sys.exit(0)", says="SystemExit"),
    hostile("crashes the interpreter", "import ctypes\nctypes.string_at(0)", says="ended the process", review="ctypes"),
    hostile("recurses", "def down():\n    return down()\ndown()", says="RecursionError"),
    hostile("prints a gigabyte", "for _ in range(1024):\n    sys.stdout.buffer.write(b'passed\\n' * 149_797)", loses=()),
    hostile("reads standard input", "sys.stdin.read()", loses=()),
    hostile("leaves threads behind", "def turn():\n    while True:\n        time.sleep(0.01)\nfor _ in range(5):\n    threading.Thread(target=turn, daemon=False).start()",
            loses=(), top="import threading, time", review="threading"),
    hostile("kills its parent", "os.kill(os.getppid(), 9)", loses=(), review="os.kill"),
    hostile("kills everything", "os.kill(-1, 9)", review="os.kill"),
    hostile("writes to the pipe", "for number in range(3, 64):\n    try:\n        os.write(number, b'SLAB' + bytes(64))\n    except OSError:\n        pass",
            says="pipe"),
    hostile("answers in the grader's stead", "main = sys.modules['__main__'].__file__\nsys.path.append(os.path.dirname(os.path.dirname(main)))\nfrom scenelab_runner.wire import Message, encode\nfor number in range(3, 64):\n    try:\n        os.write(number, encode(Message({'number': 10**6, 'passed': True, 'score': 15})))\n    except OSError:\n        pass",
            says="pipe", review="sys.modules"),
    hostile("closes the pipe", "os.closerange(3, 64)"),
    hostile("patches torch", "torch.allclose = torch.equal = lambda *a, **k: True\ntorch.Tensor.sum = None", loses=(), review="torch.allclose"),
    hostile("raises what is no exception", "raise KeyboardInterrupt"),
    hostile("an error with a page of text", "raise ValueError('<script>alert(1)</script>' * 10_000)", says="script"),
    hostile("an error that no file can hold", "raise ValueError(chr(0xd800) + chr(27) + '[2J')"),
    hostile("an error type that no file can hold", "raise type(chr(0xd800), (Exception,), {})('x')"),
    hostile("shared memory", "kept = mmap.mmap(-1, 3 << 30)\nfor place in range(0, 3 << 30, 4096):\n    kept[place] = 1",
            top="import mmap", says="MiB of memory", review="mmap"),
    hostile("fills the memory that is a disk", "with open('/dev/shm/x', 'wb') as file:\n    while True:\n        file.write(b'x' * (1 << 20))"),
    hostile("children that leave", "if os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        time.sleep(1000)\n    os._exit(0)",
            loses=(), review="os.fork"),
    hostile("returns something else", "return 'passed'", says="returned str"),
    hostile("returns a huge tensor", "return torch.zeros(1).expand(10_000, 10_000, 100)", says="too many"),
    hostile("returns half precision", "return torch.zeros(1, 1, 5, 4, dtype=torch.complex64)"),
]  # fmt: skip


def solution(year: int = 2019) -> dict[str, bytes]:
    """A whole hand-in that is right, by path."""
    kit = files(year, solution=True)
    handed = {name: text.encode() for name, text in kit.items() if name.startswith("code/")}
    return {**handed, "writeup/report.pdf": PDF, "results/curves.png": b"\x89PNG\r\n"}


def part(change: Mutant) -> str:
    """Which part of the assignment a change is wrong in; "all" for more than one."""
    parts = {name.partition("_")[0] for name in change.loses}
    return parts.pop() if len(parts) == 1 else "all"


def together() -> dict[str, list[Mutant]]:
    """Submissions that hold one wrong answer of each part at most: what is wrong in one must not be seen in another."""
    parts: dict[str, list[Mutant]] = {}
    for change in MUTANTS:
        parts.setdefault(part(change), []).append(change)
    alone = [[change] for change in parts.pop("all", [])]
    rows = [[change for change in row if change is not None] for row in zip_longest(*parts.values())]
    return {f"wrong-{number}": row for number, row in enumerate([*rows, *alone])}


def mutate(*changes: Mutant) -> dict[str, bytes]:
    """The solution with the changes in it."""
    handed = solution()
    text = handed["code/student_code.py"].decode()
    for change in changes:
        for old, new in change.changes:
            assert text.count(old) == 1, (change.name, old, text.count(old))
            text = text.replace(old, new)
    return {**handed, "code/student_code.py": text.encode()}


def inner_names() -> re.Pattern[str]:
    """Names of the grader's inside that no student should read: of its modules, classes and functions."""
    folders = [Path(scenelab_runner.__file__).parent, Path(checks.__file__).parent]
    names = {"scenelab_runner"}
    for path in (path for folder in folders for path in folder.rglob("*.py")):
        nodes = ast.walk(ast.parse(path.read_text()))
        names |= {node.name.strip("_") for node in nodes if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    odd = {name for name in names if re.search("_|[a-z][A-Z]", name)} - set(checks.CHECKS) - {"elapsed_time"}
    return re.compile(rf"<locals>|(?<![a-zA-Z])({'|'.join(sorted(odd))})(?!\w)")


def write(folder: Path, handed: dict[str, bytes]) -> Path:
    """Write files as a folder."""
    for name, content in handed.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_as_zip(path: Path, handed: dict[str, bytes], scratch: Path) -> Path:
    """Write files as zip_submission.py does."""
    write_zip(write(scratch, handed), path)
    return path
