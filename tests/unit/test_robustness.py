"""Robustness of planted models: one that hides its gradients in each way, and one that hides nothing."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import nn

from scenelab.attacks import PGD, Linf, Square
from scenelab.evaluation.adversarial import name_epsilon, round_to_levels, through_png
from scenelab.evaluation.gradient_masking import (
    check_black_box,
    check_gradients,
    check_large,
    check_monotone,
    check_outputs,
    check_steps,
)
from scenelab.evaluation.robustness import find_signs
from scenelab.models.inference import prepare_for_inference
from scenelab.models.registry import create_model

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
    """Colours in four levels: the gradient is zero nearly everywhere."""

    def forward(self, images):
        return super().forward((3 * images).round() / 3)


class Saturated(Plain):
    """Scores so large that the softmax is 1 in floats, and its loss has no gradient."""

    def forward(self, images):
        return 1e5 * super().forward(images)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.randint(20, 236, (40, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(0)) / 255


def said(model: nn.Module, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(images).argmax(dim=1)


def signs(model: nn.Module, images: torch.Tensor) -> set[str]:
    labels = said(model, images)
    found = [*check_outputs(model, images), *check_gradients(model, images, labels)]
    found += [*check_large(model, images, labels), *check_steps(model, images, labels, epsilon=4 / 255)]
    return {sign.sign for sign in found}


def test_a_plain_model_shows_no_sign(images):
    assert signs(Plain(), images) == set()


def test_probabilities_are_noticed(images):
    assert "probabilities" in signs(Softmax(), images)


def test_a_randomised_answer_is_noticed(images):
    assert "randomised" in signs(Noisy(), images)


def test_vanishing_gradients_are_noticed(images):
    assert {"vanishing", "large"} <= signs(Rounded(), images)
    assert "vanishing" in signs(Saturated(), images)


def test_what_one_step_finds_and_many_do_not_is_noticed():
    """A ripple turns the way back after the first small step; one full step lands where the answer is another."""
    epsilon, grey = 4 / 255, torch.full((8, 3, SIDE, SIDE), 0.5)
    ripple = torch.pi / (2.5 * epsilon / 20)

    def trap(given):
        change = given - 0.5
        near = 1 - 0.1 * (ripple * change).sin().mean(dim=(1, 2, 3))
        far = change.mean(dim=(1, 2, 3)) > 0.99 * epsilon
        first = torch.where(far, near - 100, near)
        return torch.stack([first, torch.zeros_like(first), torch.zeros_like(first)], dim=1)

    (sign,) = check_steps(trap, grey, torch.zeros(8, dtype=torch.int64), epsilon=epsilon)
    assert sign.sign == "steps"
    assert sign.text.startswith("20 steps leave 100 % standing, one step 0 %")


def test_a_black_box_that_wins_is_noticed(images):
    model = Rounded()
    labels = said(model, images)
    white = PGD()(model, images, labels, threat=Linf(16 / 255))
    assert not white.success.any()
    black = Square(queries=200)(model, images, labels, threat=Linf(16 / 255))
    assert black.success.sum() > 4
    (sign,) = check_black_box("16/255", fooled=int(black.success.sum()), images=len(images))
    assert sign.sign == "black box"
    assert sign.text.startswith("at ε = 16/255 ")
    assert check_black_box("16/255", fooled=2, images=100) == []


def entry(epsilon: float, standing: int, square: int, images: int = 40) -> dict:
    """Of a report: how many of the images stood, and how many Square fooled of those that stood the others."""
    return {
        "epsilon": epsilon, "name": name_epsilon(epsilon), "alone": {"accuracy": 100 * standing / images, "of": images},
        "attacks": {"square": {"fooled": list(range(square))}},
    }  # fmt: skip


def test_all_signs_are_looked_for(images):
    """What `find_signs` says of planted models and of curves, not of each check by itself."""
    entries = [entry(2 / 255, 20, 0), entry(4 / 255, 30, 0), entry(8 / 255, 5, 9)]
    plain, rounded = Plain(), Rounded()
    found = {sign.sign for sign in find_signs(plain, images, said(plain, images), entries)}
    assert found == {"not monotone", "black box"}
    fine = [entry(2 / 255, 20, 0), entry(4 / 255, 10, 0)]
    assert find_signs(plain, images, said(plain, images), fine) == []
    assert {"vanishing", "large"} <= {sign.sign for sign in find_signs(rounded, images, said(rounded, images), fine)}
    softmax = Softmax()
    assert "probabilities" in {sign.sign for sign in find_signs(softmax, images, said(softmax, images), [])}
    noisy = Noisy()
    assert "randomised" in {sign.sign for sign in find_signs(noisy, images, said(noisy, images), [])}


def test_a_curve_that_rises_is_noticed():
    assert check_monotone([0.01, 0.02, 0.04], [30.0, 20.0, 21.0]) == []
    (sign,) = check_monotone([0.01, 0.02, 0.04], [30.0, 20.0, 25.0])
    assert sign.sign == "not monotone"
    assert "25.0 % stand" in sign.text


def test_levels_and_files():
    images = torch.rand(2, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    levels = round_to_levels(images)
    assert (levels - images).abs().max() <= 0.5 / 255 + 1e-7
    assert torch.equal(through_png(levels[0]), levels[0])
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
    folded = [module for module in ready.modules() if isinstance(module, nn.BatchNorm2d)]
    assert not folded


# The report


def test_a_report_is_made_once_and_says_what_it_found(explained_run, capsys):
    import json

    from scenelab.cli import main
    from scenelab.io import read_json

    run, _ = explained_run
    command = ["robustness", str(run.folder), "--epsilons", "0", "2/255", "16/255", "--images", "12", "--json"]
    assert main.run(command) == 0
    result = json.loads(capsys.readouterr().out)
    assert result == read_json(run.results / "robustness.json")
    assert [entry["name"] for entry in result["epsilons"]] == ["0/255", "2/255", "16/255"]
    accuracy = [entry["worst"]["accuracy"] for entry in result["epsilons"]]
    assert accuracy[0] == result["clean"]["accuracy"]
    assert accuracy[0] >= accuracy[1] >= accuracy[2]
    fooled = set()
    for entry in result["epsilons"][1:]:
        left, own = int(result["clean"]["images"]), set()
        for name, part in entry["attacks"].items():
            assert part["png"] <= len(part["fooled"])
            assert name != "pgd-8bit" or part["png"] == len(part["fooled"])
            assert part["largest"] <= entry["epsilon"] + 1e-6
            assert part["given"] == (left - len(own) if name in ("apgd-t", "square") else left)
            own |= set(part["fooled"])
        fooled |= own
        assert entry["alone"]["images"] == left - len(own)
        assert entry["worst"]["images"] == left - len(fooled)
    assert result["checked"] == result["clean"]["images"]
    assert {path.name for path in (run.results / "robustness").glob("*.png")} == {"robustness.png", "samples.png"}


def test_a_report_goes_on_where_it_was_stopped(explained_run, monkeypatch, capsys):
    """Stopped in an attack, then asked for another ε, then for the first again: nothing is lost, nothing done twice."""
    from scenelab.cli import main
    from scenelab.evaluation import robustness
    from scenelab.io import read_json

    run, _ = explained_run
    (run.results / "robustness.json").unlink(missing_ok=True)
    real, calls = robustness._attack, []

    def stopping(*args):
        calls.append("first")
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(robustness, "_attack", stopping)
    command = ["robustness", str(run.folder), "--images", "8", "--json", "--epsilons"]
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        raise SystemExit(main.run([*command, "4/255"]))
    monkeypatch.setattr(robustness, "_attack", lambda *args: calls.append("again") or real(*args))
    assert list(read_json(run.results / "robustness.json")["begun"]["attacks"]) == ["fgsm", "pgd"]
    assert main.run([*command, "4/255"]) == 0
    assert calls.count("again") == 4
    assert main.run([*command, "4/255"]) == 0
    assert calls.count("again") == 4
    assert main.run([*command, "0", "2/255"]) == 0
    found = read_json(run.results / "robustness.json")
    assert [entry["name"] for entry in found["epsilons"]] == ["0/255", "2/255", "4/255"]
    assert "begun" not in found
    capsys.readouterr()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--epsilons", "four"], "epsilon is 'four'; expected numbers from 0 to 1 in pixel units, such as 4/255"),
        (["--epsilons", "1/0"], "epsilon is '1/0'; expected"),
        (["--epsilons", "8"], "epsilon is '8'; expected"),
        (["--images", "0"], "--images is 0; expected 1 or more"),
    ],
)
def test_errors_are_one_line(arguments, message, explained_run, capsys):
    from scenelab.cli import main

    run, _ = explained_run
    assert main.run(["robustness", str(run.folder), *arguments]) == 1
    assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def explained_run(scenes, tmp_path_factory):
    """A run on synthetic scenes that has learned enough to have something to lose."""
    from scenelab.data.augment import Augment
    from scenelab.progress import LogProgress
    from scenelab.runs.config import OptimizerConfig, ScheduleConfig, TrainConfig
    from scenelab.runs.run import Run
    from scenelab.training.session import start_run

    config = TrainConfig(
        model="residual-small", epochs=10, batch_size=24, stored_size=32, eval_size=32, threads=2, augment=Augment(),
        schedule=ScheduleConfig(sizes=((0.0, 32),)), optimizer=OptimizerConfig(name="muon", lr=0.02),
    )  # fmt: skip
    folder: Path = tmp_path_factory.mktemp("robust") / "run"
    start_run(folder, scenes, dataclasses.replace(config), display=LogProgress(every_steps=10**9))
    return Run(folder), scenes


def test_adversarial_pictures_are_files_that_still_fool(explained_run, tmp_path, capsys):
    import json

    from PIL import Image

    from scenelab.cli import main
    from scenelab.data.decode import read_image
    from scenelab.runs.network import read_classifier

    run, _ = explained_run
    assert main.run(["attack", str(run.folder), "--limit", "5", "--epsilon", "16/255", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    stored = read_classifier(run.best)
    assert len(result["images"]) == 5
    for entry in result["images"]:
        image = read_image(run.results / "attack" / entry["file"]).float().div(255)
        assert stored.categories[int(stored.model(image[None]).argmax())] == entry["after"]
        assert entry["fooled"] == (entry["after"] != entry["label"])
    assert (run.results / "attack" / "attack.png").exists()
    Image.new("RGB", (50, 40), (200, 30, 30)).save(tmp_path / "red.png")
    target = stored.categories[3]
    files = ["--images", str(tmp_path / "red.png"), "--target", target, "--epsilon", "0.5", "--steps", "40"]
    assert main.run(["attack", str(run.folder), *files]) == 0
    assert f"{target} " in capsys.readouterr().out
    for method in ("fgsm", "apgd", "apgd-t", "square"):
        assert main.run(["attack", str(run.folder), "--limit", "2", "--method", method, "--steps", "2"]) == 0
    capsys.readouterr()
    assert main.run(["attack", str(run.folder), "--target", "moon"]) == 1
    assert "--target is 'moon'; expected a category such as" in capsys.readouterr().err
    assert main.run(["attack", str(run.folder), "--target", target, "--method", "square"]) == 1
    assert "--target works with fgsm and pgd, not with square" in capsys.readouterr().err
