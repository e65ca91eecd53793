"""Questions to the explorer, as they are in JSON."""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from scenelab.app.limits import ATTACK_LEVELS, ATTACK_STEPS
from scenelab.schema import STRICT, Model

Name = Annotated[str, Field(min_length=1, max_length=1000)]
ImageName = Annotated[str, Field(pattern=r"^(upload:[0-9a-f]{32}|val:\d{1,9}|synthetic:[a-z_]{1,40}:\d{1,9})$")]


class Question(Model):
    """About one image and the network of one run."""

    model_config = ConfigDict(**{**STRICT, "frozen": True})
    run: Name
    image: ImageName


class ExplainQuestion(Question):
    """Which attribution method, for which category (by default the predicted one), with a deletion curve or not."""

    method: Name
    category: Name | None = None
    faithfulness: bool = False


class AttackQuestion(Question):
    """Which attack, its radius in units of 1/255, its steps, and the target (by default any other category)."""

    method: Literal["pgd", "fgsm", "apgd", "square"] = "pgd"
    levels: Annotated[int, Field(ge=0, le=ATTACK_LEVELS)] = 2
    steps: Annotated[int, Field(ge=1, le=ATTACK_STEPS)] = 10
    target: Name | None = None


class LayerQuestion(Question):
    """Which layer; with a channel, the patches that excite it most are asked for."""

    layer: Name
    channel: Annotated[int, Field(ge=0, le=100_000)] | None = None
