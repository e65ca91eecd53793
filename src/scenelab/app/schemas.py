"""Schemas of the JSON bodies of requests to the explorer."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from scenelab.app.limits import ATTACK_LEVELS, ATTACK_STEPS
from scenelab.schema import STRICT, Model

Name = Annotated[str, Field(min_length=1, max_length=1000)]
ImageName = Annotated[
    str, Field(pattern=r"^(upload:[0-9a-f]{32}|val:\d{1,9}(@.{1,1000})?|example:[\w-]+|synthetic:[a-z_]+:\d{1,9})$")
]


class Question(Model):
    """Question about an image to the network of a run."""

    model_config = ConfigDict(**{**STRICT, "frozen": True})
    run: Name
    image: ImageName


class ExplainQuestion(Question):
    """Attribution method, category (None: the predicted one), and whether to compute the deletion curve."""

    method: Name
    category: Name | None = None
    faithfulness: bool = False


class AttackQuestion(Question):
    """Attack, its radius in units of 1/255, its number of steps, and its target (None: any other category)."""

    method: Literal["pgd", "fgsm", "apgd", "square"] = "pgd"
    levels: Annotated[int, Field(ge=0, le=ATTACK_LEVELS)] = 2
    steps: Annotated[int, Field(ge=1, le=ATTACK_STEPS)] = 10
    target: Name | None = None


class LayerQuestion(Question):
    """Layer whose feature maps to return; with a channel, the patches that excite it most instead."""

    layer: Name
    channel: Annotated[int, Field(ge=0, le=100_000)] | None = None
