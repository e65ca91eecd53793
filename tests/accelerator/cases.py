"""Training, evaluation, attacks and attributions on an emulated accelerator give the CPU's numbers.

Bit by bit where the same operations run; optimizers and convolution in bfloat16 choose others by device.
"""

import pytest
import torch
from torch import Tensor

from accelerator.emulator import DEVICE, Emulator
from quick_studies import Quiet, tiny
from scenelab.attacks import APGD, FGSM, L2, PGD, Linf, Square, TargetedAPGD
from scenelab.attribution import METHODS
from scenelab.conv import Conv2d
from scenelab.data.augment import augment_batch, mix_batch
from scenelab.data.augment_config import Augment
from scenelab.data.splits import open_dataset
from scenelab.evaluation.metrics import predict_logits
from scenelab.models.registry import CONVOLUTIONS, create_model
from scenelab.runs.checkpoint import load_checkpoint
from scenelab.runs.config import AdversarialConfig, OptimizerConfig
from scenelab.runs.run import Run
from scenelab.training.device import adapt, pick_device
from scenelab.training.metrics_logger import read_metrics
from scenelab.training.session import resume_run, start_run

DEVICES = (torch.device("cpu"), DEVICE)


@pytest.fixture(autouse=True)
def emulator():
    with Emulator():
        yield


def on_cpu(value: Tensor, device: torch.device) -> Tensor:
    assert value.device == device
    return value.detach().cpu()


def model_and_images(device: torch.device):
    torch.manual_seed(0)
    model = create_model("residual-small", num_classes=5, conv_op=CONVOLUTIONS["custom"]).to(device).eval()
    images = torch.randint(256, (4, 3, 32, 32), generator=torch.Generator().manual_seed(1)) / 255
    return model, images.to(device), torch.tensor([0, 1, 2, 3]).to(device)


def test_an_operation_on_two_devices_is_refused():
    images = torch.ones(3, device=DEVICE)
    with pytest.raises(RuntimeError, match="found at least two devices, emu:0 and cpu"):
        images + torch.ones(3)
    assert (images + torch.tensor(2.0)).tolist() == [3, 3, 3]


def test_a_mistake_in_a_model_is_caught():
    model, images, labels = model_and_images(DEVICE)
    mask = torch.ones(32)  # without `.to(images.device)`
    with pytest.raises(RuntimeError, match="found at least two devices"):
        PGD(steps=1)(lambda batch: model(batch * mask), images, labels, threat=Linf(8 / 255))


@pytest.mark.parametrize(
    "attack",
    [
        FGSM(),
        PGD(steps=3, random_start=True, restarts=2),
        APGD(steps=5),
        TargetedAPGD(steps=4, classes=2),
        Square(queries=9),
    ],
)
@pytest.mark.parametrize(
    "threat", [Linf(8 / 255), L2(0.5), Linf(8 / 255, quantize=True)], ids=["linf", "l2", "linf-8bit"]
)
def test_attacks(attack, threat):
    if isinstance(attack, Square) and isinstance(threat, L2):
        pytest.skip("Square is an attack of the L∞ ball")
    cpu, other = (on_cpu(attack(*model_and_images(device), threat=threat).images, device) for device in DEVICES)
    assert torch.equal(cpu, other)


@pytest.mark.parametrize("name", METHODS)
def test_attributions(name):
    cpu, other = (on_cpu(METHODS[name](*model_and_images(device)), device) for device in DEVICES)
    assert torch.equal(cpu, other)


@pytest.mark.parametrize(("size", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 1, 0), (5, 1, 2), (4, 2, 1)])
@pytest.mark.parametrize("autocast", [False, True])
def test_convolution_and_its_gradients(size, stride, padding, autocast):
    results = []
    for device in DEVICES:
        torch.manual_seed(0)
        conv = Conv2d(64, 64, size, stride=stride, padding=padding).to(device)
        images = torch.rand(2, 64, 12, 14).to(device).requires_grad_()
        with torch.autocast(device.type, torch.bfloat16, enabled=autocast):
            output = conv(images)
        grads = torch.autograd.grad(output.square().sum(), [images, *conv.parameters()])
        results.append([on_cpu(value, device) for value in (output, *grads)])
    for cpu, other in zip(*results, strict=True):
        torch.testing.assert_close(cpu, other, rtol=0, atol=2**-6 * cpu.abs().max().item() if autocast else 0)


EACH = [
    {"flip": True},
    {"degrees": 15.0},
    {"area": (0.3, 1.0)},
    {"gain": 0.2},
    {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2},
    {"erase": 0.5},
    {"mixup": 0.2},
    {"cutmix": 1.0},
    {"mixup": 0.2, "cutmix": 1.0, "mixed": 0.5},
]


@pytest.mark.parametrize("values", EACH, ids=lambda values: "-".join(values))
def test_augmentation(values):
    results = []
    for device in DEVICES:
        images = torch.rand(6, 3, 40, 40, generator=torch.Generator().manual_seed(0)).to(device)
        generator = torch.Generator(device=device)
        generator.manual_seed(3)
        images = augment_batch(images, Augment(**values), generator, size=32)
        images, targets = mix_batch(images, torch.arange(6).to(device), Augment(**values), generator, num_classes=6)
        results.append([on_cpu(images, device), on_cpu(targets, device)])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


CONFIGS = {
    "sgd": {},
    "muon": {"model": "residual-small", "optimizer": OptimizerConfig(name="muon", lr=0.02), "ema": 0.9},
    "bfloat16": {"model": "residual-small", "autocast": True},
    "resident": {"resident": True, "augment": Augment(flip=True, area=(0.3, 1.0), mixup=0.2)},
    "custom": {"conv": "custom", "accumulate": 2},
    "pgd": {"model": "residual-small", "adversarial": AdversarialConfig(method="pgd", epsilon=0.02, steps=2)},
    "free": {"model": "residual-small", "adversarial": AdversarialConfig(method="free", epsilon=0.02, steps=2)},
}


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_has_the_metrics_of_the_cpu(name, scenes, tmp_path):
    for device in ("cpu", "emu"):
        start_run(tmp_path / device, scenes, tiny(epochs=2, device=device, **CONFIGS[name]), display=Quiet())
    cpu, other = (Run(tmp_path / device) for device in ("cpu", "emu"))
    losses = [[row["training_loss"] for row in read_metrics(run) if "training_loss" in row] for run in (cpu, other)]
    assert losses[0] == pytest.approx(losses[1], rel=0.02 if name == "bfloat16" else 1e-3)
    weights = [load_checkpoint(run.best)["state_dict"] for run in (cpu, other)]
    assert weights[0].keys() == weights[1].keys()
    assert all(value.device.type == "cpu" for value in weights[1].values())


def test_a_run_that_stopped_resumes(scenes, tmp_path, monkeypatch):
    class StopAt(Quiet):
        def step(self, moment):
            if moment.step == 2:
                raise KeyboardInterrupt

    config = tiny(epochs=2, device="emu", ema=0.9, checkpoint_seconds=0)
    start_run(tmp_path / "whole", scenes, config, display=Quiet())
    with pytest.raises(KeyboardInterrupt):
        start_run(tmp_path / "cut", scenes, config, display=StopAt())
    resume_run(tmp_path / "cut", display=Quiet())
    whole, cut = (Run(tmp_path / name).metrics.read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_evaluation(scenes):
    dataset = open_dataset(scenes, None, "val", 32)
    model = create_model("residual-small", num_classes=12).eval()
    cpu = predict_logits(model, dataset, size=32, mirror=True)
    model = model.to(DEVICE)
    assert torch.equal(cpu, predict_logits(model, dataset, size=32, mirror=True).cpu())


def test_what_a_device_supports_is_decided_in_one_place():
    config = tiny(autocast=True, compile=True)
    assert adapt(config, torch.device("cpu")) == config
    apple = adapt(config, torch.device("mps"))
    assert (apple.compile, apple.channels_last) == (False, False)
    assert not adapt(config, DEVICE).compile
    assert pick_device("emu") == torch.device("emu")
