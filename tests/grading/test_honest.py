"""Right answers that are written otherwise than ours get all points; what a machine lacks costs what the rubric says."""

import pytest

from mutants import ATTENTION_END, CHECKS, PDF, Mutant, mutant, mutate, solution, write
from scenelab.course.grading.batch import Batch
from scenelab.course.grading.rubric import read_rubric
from scenelab.course.grading.sandbox import best
from styles import ATTENTION, BACKWARD, FORWARD, PGD

FORWARD_LOOP = """
        kernel = weight.shape[-1]
        N, C, H, W = input_feats.shape
        Ho, Wo = (H + 2 * padding - kernel) // stride + 1, (W + 2 * padding - kernel) // stride + 1
        padded = torch.nn.functional.pad(input_feats, (padding,) * 4)
        ctx.save_for_backward(input_feats, weight, bias)
        ctx.stride, ctx.padding = stride, padding
        output = input_feats.new_zeros(N, weight.shape[0], Ho, Wo)
        for i in range(Ho):
            for j in range(Wo):
                patch = padded[:, :, i * stride:i * stride + kernel, j * stride:j * stride + kernel]
                output[:, :, i, j] = torch.einsum("ncab,ocab->no", patch, weight)
        if bias is not None:
            output += bias.view(1, -1, 1, 1)
        return output
"""
BACKWARD_LOOP = """
        input_feats, weight, bias = ctx.saved_tensors
        stride, padding, kernel = ctx.stride, ctx.padding, weight.shape[-1]
        grad_input = grad_weight = grad_bias = None
        padded = torch.nn.functional.pad(input_feats, (padding,) * 4)
        back = torch.zeros_like(padded)
        grad_weight = torch.zeros_like(weight)
        for i in range(grad_output.shape[2]):
            for j in range(grad_output.shape[3]):
                rows, columns = slice(i * stride, i * stride + kernel), slice(j * stride, j * stride + kernel)
                g = grad_output[:, :, i, j]
                back[:, :, rows, columns] += torch.einsum("no,ocab->ncab", g, weight)
                grad_weight += torch.einsum("no,ncab->ocab", g, padded[:, :, rows, columns])
        H, W = input_feats.shape[2:]
        if ctx.needs_input_grad[0]:
            grad_input = back[:, :, padding:padding + H, padding:padding + W]
        if bias is not None and ctx.needs_input_grad[2]:
            grad_bias = grad_output.sum((0, 2, 3))
        return grad_input, grad_weight, grad_bias, None, None
"""


BACKWARD_PGD = """
        output = input.clone()
        input.requires_grad = False
        target = None
        for _ in range(self.num_steps):
            output = output.clone().detach()
            output.requires_grad = True
            scores = model(output)
            _, target = torch.min(scores, 1)
            loss = self.loss_fn(scores, target)
            loss.backward()
            delta = torch.clamp(output.data - self.step_size * output.grad.sign() - input, -self.epsilon, self.epsilon)
            output = input + delta
        return output
"""
RANDOM_PGD = PGD.replace(
    "        output = original.clone()\n",
    "        output = original + torch.empty_like(original).uniform_(-self.epsilon / 20, self.epsilon / 20)\n",
)
BACKWARD_ATTENTION = """
        input.requires_grad = True
        if input.grad is not None:
            input.grad.zero_()
        scores = model(input)
        _, predicted = scores.max(1)
        loss = self.loss_fn(scores, predicted)
        loss.backward()
        output, _ = torch.max(torch.abs(input.grad.data), dim=1, keepdim=True)
        return output
"""
DATA_PGD = """
        output = input.clone()
        output.requires_grad = True
        input.requires_grad = False
        for _ in range(self.num_steps):
            scores = model(output)
            model.zero_grad()
            self.loss_fn(scores, torch.min(scores, 1)[1]).backward()
            output.data = output.data - self.step_size * torch.sign(output.grad.data)
            output.data = torch.max(torch.min(output.data, input + self.epsilon), input - self.epsilon)
            output.grad.zero_()
        return output
"""
EACH_ATTENTION = """
        maps = []
        for image in input:
            x = image.detach()[None].clone().requires_grad_(True)
            s = model(x)
            self.loss_fn(s, s.argmax(1)).backward()
            maps.append(x.grad.abs().max(1, keepdim=True)[0])
        return torch.cat(maps)
"""
HONEST = [
    mutant("loops", (FORWARD, FORWARD_LOOP), (BACKWARD, BACKWARD_LOOP)),
    mutant("backward and grad", (PGD, BACKWARD_PGD), (ATTENTION, BACKWARD_ATTENTION)),
    mutant("random start and single images", (PGD, RANDOM_PGD), (ATTENTION, EACH_ATTENTION)),
    mutant("leaf that requires gradients", (PGD, DATA_PGD)),
    mutant("a network of 1000 classes", ("default_model = ResidualNet\n", "class Own(ResidualNet):\n"
           "    def __init__(self, conv_op=nn.Conv2d, num_classes=1000):\n        super().__init__(conv_op, num_classes)\n\n\n"
           "default_model = Own\n")),
    mutant("SimpleNet with dropout", ("default_model = ResidualNet\n", "default_model = SimpleNet\n"),
           ("nn.MaxPool2d(kernel_size=3, stride=2, padding=1),\n            conv_op(256, 512", "nn.MaxPool2d(kernel_size=3, stride=2, padding=1), nn.Dropout(0.2),\n            conv_op(256, 512")),
    mutant("model.forward and old names", ("loss = self.loss_fn(model(output), target)", "loss = self.loss_fn(model.forward(output), target)"),
           ("import math\n", "import math\nfrom collections import Iterable\nimport numpy as np\nKIND = np.float\nimport cv2\nassert cv2.__version__\n")),
    mutant("no custom_conv2d by name", ("custom_conv2d = CustomConv2DFunction.apply\n", "conv = CustomConv2DFunction.apply\n"),
           ("return custom_conv2d(input", "return conv(input")),
    mutant("debug prints and stray imports", ("import math\n", "import math\nimport cv2\nfrom tensorboardX import SummaryWriter\n"
           "from utils import resize_image\nimport custom_transforms as transforms2\nprint('hello')\nwriter = SummaryWriter\n")),
]  # fmt: skip
GPU = [
    mutant("cuda in the attack", ("        original = input.detach()\n", "        model.cuda()\n        original = input.cuda().detach()\n")),
    mutant("cuda when imported", ("import math\n", "import math\nimport torch\nDEVICE = torch.device('cuda:0')\nONES = torch.ones(3).to(DEVICE)\n")),
    mutant("cuda tensors", ("        output = weight.flatten(1) @ windows", "        zero = torch.zeros(1, device='cuda')\n"
           "        output = zero + weight.flatten(1) @ windows")),
    mutant("cuda float tensor", (ATTENTION_END, "        scale = torch.cuda.FloatTensor([1.0])\n" + ATTENTION_END.replace("gradient.abs()", "scale * gradient.abs()"))),
]  # fmt: skip
POLITE = mutant(
    "cuda if there is one",
    (
        "        original = input.detach()\n",
        "        device = 'cuda' if torch.cuda.is_available() else 'cpu'\n        original = input.to(device).detach()\n",
    ),
)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    folder = tmp_path_factory.mktemp("honest")
    for change in [*HONEST, *GPU, POLITE]:
        write(folder / "in" / change.name.replace(" ", "-"), mutate(change))
    broken = {
        "unwritten-rules": {**solution(), "data/train.txt": b"x", "results/model_big.pth": bytes(10_000_001)},
        "syntax": {**solution(), "code/student_code.py": b"class CustomConv2d:\n    def forward(self\n"},
        "import-fails": {**solution(), "code/student_code.py": b"CustomConv2d = 1\nraise ValueError('no')\n"},
        "needs-einops": mutate(mutant("x", ("import math\n", "import math\nfrom einops_exts import rearrange\n"),
                                      ("        return output.unflatten(2, (height, width)).clone()\n",
                                       "        return rearrange(output, 'n c (h w) -> n c h w', h=height)\n"))),
        "no-pdf": {name: content for name, content in solution().items() if not name.startswith("writeup")},
        "absolute": mutate(mutant("x", ("import math\n", "import math\nLOGS = '/home/me/logs/'\n"))),
        "slow-import": mutate(mutant("x", ("import math\n", "import math\nimport time\ntime.sleep(100)\n"))),
    }  # fmt: skip
    for name, handed in broken.items():
        write(folder / "in" / name, handed)
    rubric = read_rubric()
    object.__setattr__(rubric.limits, "seconds", 8.0)
    batch = Batch(folder / "out", rubric, best(folder / "out" / ".work"))
    return {grade.entry.student: grade for grade in batch.run([folder / "in"], jobs=2)}


def lost(grade):
    return {outcome.name: outcome.reason for outcome in grade.result.outcomes if outcome.status != "passed"}


@pytest.mark.slow
@pytest.mark.parametrize("change", HONEST, ids=lambda change: change.name)
def test_another_right_answer_gets_all_points(graded, change: Mutant):
    grade = graded[change.name.replace(" ", "-")]
    assert lost(grade) == {}
    assert grade.penalties == []


@pytest.mark.slow
def test_what_it_leaves_behind_is_remarked(graded):
    assert "still require gradients" in " ".join(graded["leaf-that-requires-gradients"].result.remarks)
    assert "leaves gradients in the model's parameters" in " ".join(graded["backward-and-grad"].result.remarks)
    notes = " ".join(graded["debug-prints-and-stray-imports"].result.notes)
    assert all(name in notes for name in ("cv2", "tensorboardX", "utils", "custom_transforms"))


@pytest.mark.slow
@pytest.mark.parametrize("change", GPU, ids=lambda change: change.name)
def test_a_gpu_that_is_not_there_costs_what_the_rubric_says(graded, change: Mutant):
    grade = graded[change.name.replace(" ", "-")]
    assert lost(grade) == {}
    assert [points for _, points in grade.penalties] == [0.75]
    assert "GPU" in grade.penalties[0][0]
    assert grade.score == 7.25


@pytest.mark.slow
def test_asking_whether_there_is_one_costs_nothing(graded):
    assert graded["cuda-if-there-is-one"].score == 8.0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "says"),
    [("syntax", "line 2: '(' was never closed"), ("import-fails", "raised ValueError: no (student_code.py, line 2"),
     ("slow-import", "did not end within 8 seconds")],
)  # fmt: skip
def test_what_cannot_run_says_why(graded, name, says):
    grade = graded[name]
    assert grade.score == 0
    assert says in grade.result.problem
    assert {outcome.status for outcome in grade.result.outcomes} == {"not run"}


@pytest.mark.slow
def test_a_package_that_is_missing_is_not_a_wrong_answer(graded):
    outcome = next(each for each in graded["needs-einops"].result.outcomes if each.name == "conv_forward")
    assert outcome.status == "not run"
    assert "einops_exts" in outcome.reason
    assert set(lost(graded["needs-einops"])) == {name for name in CHECKS if name.startswith("conv_")} - {"conv_by_hand"}


@pytest.mark.slow
def test_format_costs_after_the_first(graded):
    rules = graded["unwritten-rules"].result.violations
    assert set(rules) == {"forbidden folders", "sizes"}
    assert [points for _, points in graded["unwritten-rules"].penalties] == [0.0, 0.75]
    assert set(lost(graded["unwritten-rules"])) == {"model_small"}
    assert [points for _, points in graded["no-pdf"].penalties] == [0.0]
    assert graded["no-pdf"].score == 8.0
    assert "/home/me/logs/" in graded["absolute"].penalties[0][0]
    for grade in graded.values():
        assert "/stage-" not in str(grade.result.to_dict()), "a folder of the grader's is named"


def test_pdf_is_one():
    assert PDF.startswith(b"%PDF-")
