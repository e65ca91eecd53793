"""Robustness of planted models, some of which hide their gradients, and of a small run."""

import json

import pytest
import torch
from PIL import Image
from torch import nn

from conftest import make_untrained
from scenelab.attacks import PGD, Linf, Square
from scenelab.cli import main
from scenelab.data.augment_config import Augment
from scenelab.data.decode import read_image
from scenelab.evaluation import robustness
from scenelab.evaluation.adversarial import name_epsilon, round_to_levels, through_file
from scenelab.evaluation.gradient_masking import check_black_box, check_model, check_monotone
from scenelab.evaluation.results import Share
from scenelab.evaluation.robustness import find_signs
from scenelab.evaluation.robustness_results import EpsilonResult, Outcome
from scenelab.io import read_json
from scenelab.models.inference import prepare_for_inference
from scenelab.models.registry import create_model
from scenelab.progress import LogProgress
from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig
from scenelab.runs.network import read_classifier
from scenelab.runs.run import Run
from scenelab.training.session import start_run

SIDE, CLASSES = 12, 4


class Plain(nn.Module):
    """A small network that is easily fooled."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.conv, self.fc = nn.Conv2d(3, 6, 3), nn.Linear(6 * 10 * 10, CLASSES)
        with torch.no_grad():
            for parameter, scale in zip(self.parameters(), (0.4, 0.1, 0.15, 0.1), strict=True):
                parameter.copy_(scale * torch.randn(parameter.shape, generator=generator))

    def forward(self, images):
        return self.fc(self.conv(images - 0.5).relu().flatten(1))


class Softmax(Plain):
    def forward(self, images):
        return super().forward(images).softmax(dim=1)


class Noisy(Plain):
    def forward(self, images):
        return super().forward(images + 0.05 * torch.randn_like(images))


class Rounded(Plain):
    """Colors in four levels: the gradient is zero nearly everywhere."""

    def forward(self, images):
        return super().forward((3 * images).round() / 3)


class Saturated(Plain):
    """Scores so large that the softmax is 1 in floats, and its loss has no gradient."""

    def forward(self, images):
        return 1e5 * super().forward(images)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(20, 236, (40, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)) / 255


def predict(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(images).argmax(dim=1)


def entry(epsilon: float, robust: int, square: int = 0) -> EpsilonResult:
    """Of 40 images, `robust` resist all attacks, and Square fooled `square` of those that resisted the others."""
    share = Share(images=robust, of=40, accuracy=100 * robust / 40, interval=(0.0, 100.0))
    outcome = Outcome(given=40, fooled=list(range(square)), left=share, png=square, largest=epsilon, seconds=0.0)
    attacks = {"square": outcome}
    return EpsilonResult(epsilon=epsilon, name=name_epsilon(epsilon), attacks=attacks, alone=share, worst=share)


FALLING = [entry(2 / 255, 20), entry(4 / 255, 10)]


@pytest.mark.parametrize(
    ("model", "entries", "expected"),
    [
        (Plain, FALLING, set()),
        (Plain, [entry(2 / 255, 20), entry(4 / 255, 30), entry(8 / 255, 5, 9)], {"not monotone", "black box"}),
        (Softmax, [], {"probabilities"}),
        (Noisy, [], {"randomized"}),
        (Rounded, FALLING, {"vanishing", "large"}),
        (Saturated, [], {"vanishing"}),
    ],
)
def test_each_way_of_hiding_the_gradient_is_noticed(images, model, entries, expected):
    network = model()
    signs = {sign.sign for sign in find_signs(network, images, predict(network, images), entries)}
    assert signs >= expected
    assert model is not Plain or signs == expected


def test_one_step_that_beats_many_is_noticed():
    """A ripple turns the gradient after the first small step; one full step reaches another class."""
    epsilon, gray = 4 / 255, torch.full((8, 3, SIDE, SIDE), 0.5)
    ripple = torch.pi / (2.5 * epsilon / 20)

    def trap(batch):
        change = batch - 0.5
        near = 1 - 0.1 * (ripple * change).sin().mean(dim=(1, 2, 3))
        far = change.mean(dim=(1, 2, 3)) > 0.99 * epsilon
        first = torch.where(far, near - 100, near)
        return torch.stack([first, torch.zeros_like(first), torch.zeros_like(first)], dim=1)

    signs = {sign.sign: sign for sign in check_model(trap, gray, torch.zeros(8, dtype=torch.int64), epsilon=epsilon)}
    assert signs["steps"].text.startswith("100 % of the images are robust to 20 steps, 0 % to one step")


def test_a_black_box_attack_that_beats_gradients_is_noticed(images):
    model, threat = Rounded(), Linf(16 / 255)
    labels = predict(model, images)
    assert not PGD()(model, images, labels, threat=threat).success.any()
    fooled = int(Square(queries=200)(model, images, labels, threat=threat).success.sum())
    assert fooled > 4
    (sign,) = check_black_box("16/255", fooled=fooled, given=len(images), images=2 * len(images))
    assert sign.sign == "black box"
    assert sign.text.startswith(f"at ε = 16/255 an attack without gradients fooled {fooled} of {len(images)} images ")
    assert not list(check_black_box("16/255", fooled=2, given=4, images=100))


def test_accuracy_that_rises_with_epsilon_is_noticed():
    assert not list(check_monotone([(0.01, 30.0), (0.02, 20.0), (0.04, 21.0)]))
    (sign,) = check_monotone([(0.01, 30.0), (0.02, 20.0), (0.04, 25.0)])
    assert sign.text.startswith("at ε = 0.0400 25.0 % of the images are robust, at the smaller 0.0200 only 20.0 %")


def test_images_on_whole_levels_survive_png():
    images = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    levels = round_to_levels(images)
    assert (levels - images).abs().max() <= 0.5 / 255 + 1e-7
    assert torch.equal(through_file(levels[0]), levels[0])
    assert (name_epsilon(4 / 255), name_epsilon(0.3), name_epsilon(0.0)) == ("4/255", "0.3", "0/255")


@pytest.mark.parametrize("name", ["residual-small", "simplenet-small", "inception", "vit"])
def test_a_prepared_network_computes_the_same(name):
    torch.manual_seed(0)
    model = create_model(name, num_classes=CLASSES)
    images = torch.rand(4, 3, 32, 32)
    for _ in range(3):
        model.train()(images)
    expected = model.eval()(images)
    ready = prepare_for_inference(model.train())
    torch.testing.assert_close(ready(images), expected, rtol=1e-4, atol=1e-4)
    assert model.training
    assert not any(parameter.requires_grad for parameter in ready.parameters())
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert not any(isinstance(module, nn.BatchNorm2d) for module in ready.modules())


# Commands


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory) -> Run:
    """A run on synthetic scenes that classifies some images correctly."""
    sizes = {"stored_size": 32, "eval_size": 32, "schedule": ScheduleConfig(sizes=((0.0, 32),)), "batch_size": 24}
    optimizer = OptimizerConfig(name="muon", lr=0.02)
    config = TrainConfig(model="residual-small", epochs=10, threads=2, augment=Augment(), optimizer=optimizer, **sizes)
    run = Run(tmp_path_factory.mktemp("robust") / "run")
    start_run(run.folder, scenes, config, display=LogProgress(every_steps=10**9))
    return run


def test_the_result_is_consistent(run, capsys):
    command = ["robustness", str(run.folder), "--epsilons", "0", "2/255", "16/255", "--images", "12", "--json"]
    assert main.run(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == read_json(run.results / "robustness.json")
    clean, entries = result["clean"], result["epsilons"]
    assert [entry["name"] for entry in entries] == ["0/255", "2/255", "16/255"]
    assert entries[0]["worst"] == clean
    fooled = set()
    for entry in entries[1:]:
        fooled_here = set()
        for name, part in entry["attacks"].items():
            assert part["png"] <= len(part["fooled"])
            assert name != "pgd-8bit" or part["png"] == len(part["fooled"])
            assert part["largest"] <= entry["epsilon"] + 1e-6
            assert part["given"] == clean["images"] - (len(fooled_here) if name in ("apgd-t", "square") else 0)
            fooled_here |= set(part["fooled"])
        fooled |= fooled_here
        assert entry["alone"]["images"] == clean["images"] - len(fooled_here)
        assert entry["worst"]["images"] == clean["images"] - len(fooled)
    assert result["checked"] == clean["images"]
    assert {path.name for path in (run.results / "robustness").glob("*.png")} == {"robustness.png", "samples.png"}


@pytest.mark.parametrize(
    ("command", "name", "lines"),
    [
        ("evaluate", "val", ["count as wrong"]),
        ("robustness --epsilons 4/255 --images 4", "robustness", ["count as wrong", "gradient masking is not checked"]),
        ("explain --methods gradient --per-class", "attribution", ["are not shown"]),
    ],
)
def test_undefined_scores_are_counted_in_json_and_on_the_terminal(command, name, lines, scenes, tmp_path, capsys):
    run = make_untrained(tmp_path / "run", scenes)
    checkpoint = torch.load(run.best, weights_only=True)
    checkpoint["state_dict"] = {
        key: 1e30 * value if value.is_floating_point() else value for key, value in checkpoint["state_dict"].items()
    }
    torch.save(checkpoint, run.best)
    first, *flags = command.split()
    assert main.run([first, str(run.folder), *flags]) == 0
    output, result = capsys.readouterr().out, read_json(run.results / f"{name}.json")
    assert f"undefined: {result['images']} of {result['images']} images have NaN or infinite scores" in output
    assert result["undefined"] == result["images"]
    assert all(line in output for line in lines)


def test_finished_attacks_are_not_repeated(run, monkeypatch, capsys):
    """Interrupted in an attack, then repeated, then called for other ε: no attack is lost or done twice."""
    (run.results / "robustness.json").unlink(missing_ok=True)
    attack, calls = robustness._attack, []

    def interrupt(*args):
        calls.append("first")
        if len(calls) == 3:
            raise KeyboardInterrupt
        return attack(*args)

    monkeypatch.setattr(robustness, "_attack", interrupt)
    command = ["robustness", str(run.folder), "--images", "8", "--json", "--epsilons"]
    assert main.run([*command, "4/255"]) == 130
    monkeypatch.setattr(robustness, "_attack", lambda *args: calls.append("again") or attack(*args))
    assert list(read_json(run.results / "robustness.json")["begun"]["attacks"]) == ["fgsm", "pgd"]
    for _ in range(2):
        assert main.run([*command, "4/255"]) == 0
        assert calls.count("again") == 4
    assert main.run([*command, "0", "2/255"]) == 0
    result = read_json(run.results / "robustness.json")
    assert [entry["name"] for entry in result["epsilons"]] == ["0/255", "2/255", "4/255"]
    assert "begun" not in result


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("robustness --epsilons four", "epsilon is 'four'; expected numbers from 0 to 1 in pixel units, such as 4/255"),
        ("robustness --epsilons 1/0", "epsilon is '1/0'; expected"),
        ("robustness --epsilons 8", "epsilon is '8'; expected"),
        ("robustness --images 0", "--images is 0; expected 1 or more"),
        ("attack --target moon", "--target is 'moon'; expected a category such as"),
        ("attack --target bedroom --method square", "--target works with fgsm and pgd, not with square"),
    ],
)
def test_errors_are_one_line(arguments, message, run, capsys):
    command, *options = arguments.split()
    assert main.run([command, str(run.folder), *options]) == 1
    assert message in capsys.readouterr().err


def test_adversarial_examples_are_files_that_fool_the_network(run, tmp_path, capsys):
    attack = ["attack", str(run.folder)]
    assert main.run([*attack, "--limit", "5", "--epsilon", "16/255", "--json"]) == 0
    result, stored = json.loads(capsys.readouterr().out), read_classifier(run.best)
    assert len(result["images"]) == 5
    for entry in result["images"]:
        image = read_image(run.results / "attack" / entry["file"]).float().div(255)
        assert stored.categories[int(stored.model(image[None]).argmax())] == entry["after"]
        assert entry["fooled_before"] == (entry["before"] != entry["label"])
        assert entry["fooled"] == (entry["after"] != entry["label"] and not entry["fooled_before"])
    assert (run.results / "attack" / "attack.png").exists()
    Image.new("RGB", (50, 40), (200, 30, 30)).save(tmp_path / "red.png")
    files = ["--images", str(tmp_path / "red.png"), "--target", "bedroom", "--epsilon", "0.5", "--steps", "40"]
    assert main.run([*attack, *files]) == 0
    assert "bedroom " in capsys.readouterr().out
    assert main.run([*attack, *files[:2], "--steps", "1", "--json"]) == 0
    before = json.loads(capsys.readouterr().out)["images"][0]["before"]
    assert main.run([*attack, *files[:2], "--target", before]) == 0
    shown = capsys.readouterr().out
    assert "0 of 0 images fool" in shown
    assert "not counted: 1 of 1 images were predicted as the target, or of this class, before the attack" in shown
    for method in ("fgsm", "apgd", "apgd-t", "square"):
        assert main.run([*attack, "--limit", "2", "--method", method, "--steps", "2"]) == 0
