"""The handout's own commands, typed in code/ as it says."""

import contextlib
import importlib
import io
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from scenelab.errors import LabError
from scenelab.models.simplenet import SimpleNetSmall
from scenelab.runs.run import Run

REPOSITORY = Path(__file__).parents[2]
BOTH = ([], ["--use-custom-conv"])
EPOCH = ("../data", "--epochs=1", "-b", "24", "--gpu=-1")
BEST = ("../data", "--resume=../models/model_best.pth.tar", "--gpu=-1")


def set_up(folder: Path, scenes: Path) -> Path:
    """Copy the front door beside ../data, as a student has it."""
    shutil.copytree(REPOSITORY / "code", folder / "code", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "data").symlink_to(scenes)
    return folder


@pytest.fixture
def lab(tmp_path, scenes) -> Path:
    """A copy of the front door."""
    return set_up(tmp_path, scenes)


@pytest.fixture(scope="module")
def first_training(scenes, tmp_path_factory) -> tuple[Path, str]:
    """A lab after its first epoch, and what that printed."""
    folder = set_up(tmp_path_factory.mktemp("lab"), scenes)
    return folder, main(folder, *EPOCH, "-p", "1")


@pytest.fixture
def trained(first_training, tmp_path) -> Path:
    """A copy of that lab."""
    return shutil.copytree(first_training[0], tmp_path, symlinks=True, dirs_exist_ok=True)


def type_main(lab: Path, *arguments: str) -> str:
    """Run main.py in its own process and return its errors and output."""
    command = [sys.executable, "./main.py", *arguments]
    done = subprocess.run(command, cwd=lab / "code", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stderr + done.stdout


def main(lab: Path, *arguments: str, status: int = 0) -> str:
    """Run main.py in this process, where torch is loaded already."""
    stdout, stderr, given, path, actual = io.StringIO(), io.StringIO(), sys.argv, [*sys.path], 0
    with contextlib.chdir(lab / "code"), contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        try:
            sys.argv, sys.path[:0] = ["./main.py", *arguments], [str(lab / "code")]
            runpy.run_path("./main.py", run_name="__main__")
        except SystemExit as stop:
            actual = 1 if isinstance(stop.code, str) else stop.code or 0
            print(stop.code if isinstance(stop.code, str) else "", file=sys.stderr)
        finally:
            sys.argv, sys.path[:] = given, path
            sys.modules.pop("student_code", None)
    assert actual == status, stdout.getvalue() + stderr.getvalue()
    return stderr.getvalue() + stdout.getvalue()


def append(lab: Path, line: str) -> None:
    with (lab / "code" / "student_code.py").open("a") as file:
        file.write(f"{line}\n")


def images_in(logs: Path) -> dict:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logs), size_guidance={"images": 0}).Reload()
    return {tag: events.Images(tag) for tag in events.Tags()["images"]}


def test_train_evaluate_and_continue(lab):
    text = type_main(lab, "../data", "--epoches=1", "-b", "24", "-p", "1", "--gpu=-1")
    assert "epoch 1 [3/3]" in text
    for name in ("checkpoint.pth.tar", "model_best.pth.tar"):
        assert (lab / "models" / name).is_file()
    assert list((lab / "logs").glob("events.out.tfevents.*"))

    text = type_main(lab, "../data", "--resume=../models/model_best.pth.tar", "-e")
    assert re.fullmatch(r"\*{6}Acc@1 \d+\.\d{3} Acc@5 \d+\.\d{3}", text.strip().splitlines()[-1])

    text = type_main(lab, "../data", "--epochs=2", "-b", "24", "--resume=../models/checkpoint.pth.tar")
    assert "No GPU here: training on the CPU" in text
    assert "epoch 2: train loss" in text
    assert "epoch 1: train loss" not in text
    assert not (lab / "models" / "earlier-1").exists()


def test_training_resumes_from_the_best_model_and_says_what_is_new(trained):
    first = (trained / "models" / "metrics.jsonl").read_bytes()
    main(trained, *BEST, "-a", "-v")
    images = images_in(trained / "logs")
    text = main(trained, *BEST, "--epochs=2", "-b", "24")
    assert "The checkpoint does not hold the optimizer's momentum" in text
    assert "epoch 2: train loss" in text
    rows = (trained / "models" / "metrics.jsonl").read_bytes()
    assert rows.startswith(first)
    assert len(rows) > len(first) > 0
    assert Run(trained / "models").read_config().train.epochs == 2
    assert images_in(trained / "logs").keys() == images.keys() != set()


@pytest.mark.parametrize("resume", ["./models/model_best.pth.tar", "../models/keep/model_best.pth.tar"])
def test_a_run_is_moved_only_after_the_checkpoint_to_resume_from_is_read(trained, resume):
    files = sorted(path.name for path in (trained / "models").iterdir())
    assert "does not exist" in main(trained, "../data", "--epochs=1", f"--resume={resume}", status=1)
    assert sorted(path.name for path in (trained / "models").iterdir()) == files
    (trained / "models" / "keep").mkdir()
    shutil.copy(trained / "models" / "model_best.pth.tar", trained / "models" / "keep")
    kept = ("--resume=../models/keep/model_best.pth.tar", "--gpu=-1")
    assert "moved to ../models/earlier-1" in main(trained, "../data", "--epochs=2", "-b", "24", *kept)


def test_a_second_training_keeps_the_first(trained):
    first = (trained / "models" / "model_best.pth.tar").read_bytes()
    assert "moved to ../models/earlier-1" in main(trained, *EPOCH, "--lr=0.01")
    assert (trained / "models" / "earlier-1" / "model_best.pth.tar").read_bytes() == first
    assert list((trained / "logs" / "earlier-1").glob("events.out.tfevents.*"))


def test_training_with_the_convolution_by_hand(trained, first_training):
    """With the same seed and data the first epoch ends as with PyTorch's convolution, except for rounding."""
    texts = (first_training[1], main(trained, *EPOCH, "--use-custom-conv"))
    assert ["Using custom convolutions" in text for text in texts] == [False, True]
    losses = [float(re.search(r"epoch 1: train loss (\d+\.\d+)", text)[1]) for text in texts]
    assert losses[0] == pytest.approx(losses[1], abs=2e-3)
    last_lines = [main(trained, *BEST, "-e", *flags).strip().splitlines()[-1] for flags in BOTH]
    assert last_lines[0] == last_lines[1]


def test_a_network_of_ones_own_is_trained(lab):
    (lab / "code" / "student_code.py").write_text(
        "from torch import nn\n"
        "class Mine(nn.Sequential):\n"
        "    def __init__(self, conv_op=nn.Conv2d, num_classes=100):\n"
        "        pool = nn.AdaptiveAvgPool2d(1)\n"
        "        super().__init__(conv_op(3, 8, 3), nn.ReLU(), pool, nn.Flatten(), nn.Linear(8, num_classes))\n"
        "default_model = Mine\n"
    )
    main(lab, *EPOCH)
    assert "******Acc@1" in main(lab, *BEST, "-e")


@pytest.mark.parametrize("name", ["residual", "vit"])
def test_our_networks_are_trained_and_evaluated_by_their_name(lab, name):
    main(lab, *EPOCH, "--lr=0.01", f"--use-{name}")
    named, unnamed = (main(lab, *BEST, "-e", *flags).strip().splitlines() for flags in ([f"--use-{name}"], []))
    assert f"The checkpoint holds a {name}: evaluating that." in unnamed
    assert named[-1] == unnamed[-1]
    assert named[-1].startswith("******Acc@1")


def test_attention_maps_are_logged_per_batch(trained):
    text = main(trained, *BEST, "-e", "-v")
    assert "******Acc@1" in text
    assert "Attention maps: tensorboard --logdir=../logs" in text
    (image,) = images_in(trained / "logs")["Image/Image_Atten"]  # 36 val images are one batch
    assert (image.step, image.width, image.height) == (0, 10 * 162 + 2, 4 * 162 + 2)


def test_images_without_tensorboard_are_refused_before_the_evaluation(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    text = main(trained, *BEST, "-e", "-v", status=1)
    assert text.startswith("main.py: error: a log for TensorBoard needs tensorboard; install it with: ")
    assert "Acc@1" not in text


def test_a_map_of_the_wrong_shape_is_one_line(trained):
    append(trained, "GradAttention.explain = lambda self, model, input: input")
    shapes = "(36, 3, 160, 160) for images (36, 3, 160, 160); expected a tensor (36, 1, 160"
    assert f"main.py: error: explain returned {shapes}" in main(trained, *BEST, "-e", "-v", status=1)
    code = "from scenelab.models.simplenet import SimpleNet as default_model\n"
    (trained / "code" / "student_code.py").write_text(code)
    text = main(trained, *BEST, "-e", "-v", status=1)
    assert "student_code.py has no default_attention, which this needs, as in the handout" in text


def test_val_is_attacked_and_shown(trained):
    lines = main(trained, *BEST, "-a", "-v").strip().splitlines()
    assert lines[-5] == "Largest change of a normalized value: 0.1000"
    assert (lines[-4], lines[-2]) == ("=> clean:", "=> attacked:")
    assert all(re.fullmatch(r"\*{6}Acc@1 \d+\.\d{3} Acc@5 \d+\.\d{3}", lines[place]) for place in (-3, -1))
    images = images_in(trained / "logs")
    assert {"Image/Org_Image", "Image/Adv_Image"} <= set(images)
    (image,) = images["Image/Adv_Image"]
    assert (image.width, image.height) == (10 * 162 + 2, 4 * 162 + 2)
    append(trained, "PGDAttack.perturb = lambda self, model, input: None")
    text = main(trained, *BEST, "-a", status=1)
    assert "main.py: error: perturb returned NoneType for images (36, 3, 160, 160); expected a tensor" in text


def require_untouched(model, images, copy, result):
    assert torch.equal(images, copy)
    assert not images.requires_grad
    assert not result.requires_grad
    assert model.training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_handouts_attack_follows_its_steps(front_door):
    """Sign steps down the loss of the clean image's least likely class, each clipped to epsilon around the input."""
    torch.manual_seed(0)
    model, loss = SimpleNetSmall(num_classes=5).train(), torch.nn.CrossEntropyLoss()
    images = torch.randn(4, 3, 32, 32)
    copy, attack = images.clone(), importlib.import_module("student_code").PGDAttack
    adversarial = attack(loss, num_steps=4, step_size=0.03, epsilon=0.1).perturb(model, images)
    target, expected = model(images).argmin(dim=1), images.clone()
    for _ in range(4):
        leaf = expected.clone().requires_grad_()
        gradient = torch.autograd.grad(loss(model(leaf), target), leaf)[0]
        expected = images + (expected - 0.03 * gradient.sign() - images).clamp(-0.1, 0.1)
    torch.testing.assert_close(adversarial, expected)
    assert loss(model(adversarial), target) < loss(model(images), target)
    require_untouched(model, images, copy, adversarial)


def test_the_handouts_attention_follows_its_formula(front_door):
    """|∂ loss(first guess) / ∂ input|, the largest of the colors."""
    torch.manual_seed(0)
    model, attention = SimpleNetSmall(num_classes=5).train(), importlib.import_module("student_code").GradAttention
    images, loss = torch.randn(4, 3, 32, 32), torch.nn.CrossEntropyLoss()
    copy, leaf = images.clone(), images.clone().requires_grad_()
    maps = attention(loss).explain(model, images)
    require_untouched(model, images, copy, maps)
    assert attention(torch.nn.CrossEntropyLoss(reduction="none")).explain(model, images).shape == maps.shape
    scores = model(leaf)
    (gradient,) = torch.autograd.grad(loss(scores, scores.argmax(dim=1)), leaf)
    torch.testing.assert_close(maps, gradient.abs().amax(dim=1, keepdim=True))


@pytest.fixture
def front_door(lab, monkeypatch):
    """main.py as a module, in the student's folder."""
    monkeypatch.chdir(lab / "code")
    monkeypatch.syspath_prepend(str(lab / "code"))
    yield importlib.import_module("main")
    for name in ("main", "student_code"):
        sys.modules.pop(name, None)


NEEDS_MODEL = "-e and -a need a trained model; say which with --resume=../models/model_best.pth.tar"
INVALID = {
    "-a -v": NEEDS_MODEL,
    "-v": "-v draws what a trained model does; add -e for attention maps or -a for adversarial samples",
    "--use-vit --use-residual": "--use-vit and --use-residual name two networks; choose one",
    "--use-resnet18": "--use-resnet18 needs weights trained elsewhere",
    "-e": NEEDS_MODEL,
    "-e --resume=../models/none.pth.tar": "checkpoint ../models/none.pth.tar does not exist",
}


@pytest.mark.parametrize("arguments", INVALID)
def test_invalid_flags_are_one_line(front_door, arguments):
    with pytest.raises(LabError) as error:
        front_door.main(front_door.parser().parse_args(["../data", "--gpu=-1", *arguments.split()]))
    assert str(error.value).startswith(INVALID[arguments])


def test_a_wrong_data_folder_is_one_line(lab):
    text = main(lab, "../dta", "--gpu=-1", status=1)
    assert text.strip().startswith("main.py: error: data folder ../dta does not exist")


def test_the_handouts_defaults(front_door):
    flags = vars(front_door.parser().parse_args(["../data"]))
    expected = {"workers": 4, "epochs": 90, "start_epoch": 0, "warmup_epochs": 0, "batch_size": 256, "lr": 0.1}
    expected |= {"momentum": 0.9, "weight_decay": 1e-4, "clip_grad": 1.0, "print_freq": 10, "resume": "", "gpu": 0}
    expected |= dict.fromkeys(("evaluate", "attack", "vis", "use_custom_conv"), False)
    assert {name: flags[name] for name in expected} == expected


def test_adversarial_training_through_the_front_door(trained):
    code = trained / "code" / "student_code.py"
    code.write_text(code.read_text().replace("num_steps: int = 10", "num_steps: int = 1"))
    assert "epoch 1 [3/3]" in main(trained, *EPOCH, "-p", "1", "--adversarial")
    plain, attacked = ((trained / "models" / name / "metrics.jsonl").read_bytes() for name in ("earlier-1", "."))
    assert plain != attacked
    text = main(trained, *BEST, "-e", "--adversarial", status=1)
    assert "--adversarial is a way to train; leave -e and -a out" in text
