"""What the report says about training follows from the config, and from nothing else."""

import dataclasses

import pytest

from scenelab.data.augment_config import Augment
from scenelab.report.methods_text import describe, start
from scenelab.runs.config import AdversarialConfig, FinetuneConfig, OptimizerConfig, ScheduleConfig, TrainConfig
from scenelab.training.recipes import RECIPES, laptop, starter


def test_the_handouts_recipe_in_words():
    text = describe(starter(), classes=100)
    assert text["loss"] == "Cross-entropy of the softmax over 100 classes, averaged over the batch."
    assert text["optimizer"] == (
        "Stochastic gradient descent with momentum 0.9; weight decay 0.0001, added to the gradient. "
        "The batch size is 256; the gradient norm is clipped to 1."
    )
    assert text["schedule"] == (
        "The learning rate starts at its peak of 0.1 and decays along half a cosine to zero. "
        "The run takes 90 epochs. The training resolution is 128×128 pixels."
    )
    assert "flipped horizontally with probability 0.5, cropped to 25%–100% of their area" in text["regularization"]
    assert "rotated by up to 15 degrees" in text["regularization"]
    assert "val was used for selection" in text["metrics"]
    held_out = describe(dataclasses.replace(starter(), holdout=0.1))["metrics"]
    assert "on the held-out training images, so these were used for selection" in held_out


def test_what_is_not_in_the_config_is_not_mentioned():
    config = dataclasses.replace(starter(), augment=Augment(), optimizer=OptimizerConfig(weight_decay=0), keep="last")
    text = describe(config)
    assert text["regularization"] == "Training images are not augmented."
    assert "val was not used for selection" in text["metrics"]
    assert "smooth" not in text["loss"] + text["regularization"]
    text = describe(dataclasses.replace(MIXED, augment=dataclasses.replace(MIXED.augment, mixed=0.0)))
    assert "mixed" not in text["loss"] + text["regularization"]


MIXED = dataclasses.replace(starter(), augment=Augment(mixup=0.2, cutmix=1.0, erase=0.25, brightness=0.4, gain=0.1))


TUNED = dataclasses.replace(
    starter(), finetune=FinetuneConfig(network="miniplaces"), schedule=ScheduleConfig(decay="linear")
)


def test_a_report_says_what_training_started_from():
    assert start(starter()) == "trained from scratch"
    assert start(TUNED) == "fine-tuned from the network `miniplaces`, with a new last layer,"


@pytest.mark.parametrize(
    ("config", "topic", "phrases"),
    [
        (laptop(), "loss", "12 classes|spreads 0.1 of each target evenly"),
        (laptop(), "optimizer", "Muon with momentum|for the convolutions|except for biases and normalization"),
        (laptop(), "schedule", "takes 20 minutes; the schedule follows the clock"),
        (laptop(), "regularization", "moving average (decay 0.99 per step)"),
        (TUNED, "schedule", "decays linearly to zero|first 2 epochs only the last layer|first layer is 0.1 of that"),
        (MIXED, "loss", "weights the labels of its two sources"),
        (MIXED, "regularization", "mixup, Beta(0.2, 0.2)|cutmix, Beta(1, 1)|probability 0.25|brightness by up to 40%"),
    ],
)
def test_the_settings_of_a_recipe_are_named(config, topic, phrases):
    text = describe(config, classes=12)[topic]
    assert [phrase for phrase in phrases.split("|") if phrase not in text] == []


@pytest.mark.parametrize(
    ("method", "values", "phrase"),
    [
        ("fast", {}, "by at most 8/255 to increase the loss, with one step of 10/255 from a random start"),
        ("pgd", {"steps": 3}, "with 3 steps of 6.67/255"),
        ("free", {"steps": 3}, "takes 3 steps on each batch, while its images move by at most 8/255"),
        ("handout", {"steps": 2}, "towards its least likely class, by 2 sign steps of 0.01"),
    ],
)
def test_adversarial_training_is_described(method, values, phrase):
    config = TrainConfig(adversarial=AdversarialConfig(method=method, epsilon=8 / 255, **values))
    assert phrase in describe(config)["regularization"]


@pytest.mark.parametrize("make", RECIPES.values(), ids=RECIPES)
def test_every_recipe_has_every_answer(make):
    answers = describe(make())
    assert set(answers) == {"loss", "optimizer", "schedule", "regularization", "metrics"}
    assert all(answer.endswith(".") and "  " not in answer for answer in answers.values())
