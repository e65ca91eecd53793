import dataclasses

from scenelab.data.augment import Augment
from scenelab.report.methods_text import describe
from scenelab.runs.config import OptimizerConfig
from scenelab.training.recipes import RECIPES, laptop, starter


def test_the_handouts_recipe_in_words():
    text = describe(starter(), classes=100)
    assert text["loss"] == "Cross-entropy of the softmax over 100 classes, averaged over the batch."
    assert text["optimizer"] == (
        "Stochastic gradient descent with momentum 0.9; weight decay 0.0001, added to the gradient. "
        "Batches of 256 images; the gradient's norm is cut to 1."
    )
    assert text["schedule"] == (
        "The learning rate has its peak of 0.1 at the first step and falls along half a cosine to zero. "
        "The run takes 90 epochs. Pictures have 128×128 pixels."
    )
    assert "mirrored half of the time, cropped to 25%–100% of their area" in text["regularization"]
    assert "rotated by up to 15 degrees" in text["regularization"]
    assert "a choice made by looking at val" in text["metrics"]


def test_what_is_not_in_the_config_is_not_said():
    config = dataclasses.replace(starter(), augment=Augment(), optimizer=OptimizerConfig(weight_decay=0), keep="last")
    text = describe(config)
    assert text["regularization"] == "Training images are taken as they are."
    assert "choice" not in text["metrics"]
    assert "smooth" not in text["loss"] + text["regularization"]


def test_a_run_by_minutes():
    text = describe(laptop(), classes=12)
    assert "12 classes" in text["loss"]
    assert "of which 0.1 is spread evenly" in text["loss"]
    assert "Muon for the convolutions" in text["optimizer"]
    assert "not on biases and normalisation" in text["optimizer"]
    assert "takes 20 minutes and follows the clock" in text["schedule"]
    assert "a running average (0.99 a step)" in text["regularization"]


def test_every_recipe_has_every_answer():
    for make in RECIPES.values():
        answers = describe(make())
        assert set(answers) == {"loss", "optimizer", "schedule", "regularization", "metrics"}
        assert all(answer.endswith(".") and "  " not in answer for answer in answers.values())


def test_mixed_images_are_told():
    config = dataclasses.replace(
        starter(), augment=Augment(mixup=0.2, cutmix=1.0, erase=0.25, brightness=0.4, gain=0.1)
    )
    text = describe(config)
    assert "has the labels of both its sources" in text["loss"]
    for part in ("mixup, Beta(0.2, 0.2)", "cutmix, Beta(1, 1)", "probability 0.25", "brightness by up to 40%"):
        assert part in text["regularization"]
