"""Parameters of the augmentation of training images, in a config."""

from typing import Annotated

from pydantic import AfterValidator, Field

from scenelab.schema import Share, config_class


def _ordered(bounds: tuple[float, float]) -> tuple[float, float]:
    if not 0 < bounds[0] <= bounds[1]:
        raise ValueError("expected 0 < low <= high")
    return bounds


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
Strength = Annotated[float, Field(ge=0, le=10)]
Beta = Annotated[float, Field(ge=0, le=1000)]


@config_class("augment")
class Augment:
    """Augmentation of training images; 0, False or None switches a transform off.

    Attributes:
        flip: flip each image horizontally with probability 0.5.
        degrees: rotate by an angle from [-degrees, degrees]; pixels from outside the image are black.
        area: range of the crop's area as a fraction of the image; None does not crop.
        aspect: range of the crop's width divided by its height, sampled log-uniformly.
        gain: multiply each color channel by a factor from [1-gain, 1+gain].
        brightness: strength s of a factor from [1-s, 1+s] (torchvision's ColorJitter).
        contrast: the same for the contrast.
        saturation: the same for the saturation.
        erase: probability per image of filling a random square with its mean color (Zhong et al. 2020).
        mixup: parameter a of Beta(a, a) (Zhang et al. 2018).
        cutmix: the same (Yun et al. 2019); with both, each batch uses one.
        mixed: probability of applying mixup or CutMix to a batch.
    """

    flip: bool = False
    degrees: Annotated[float, Field(ge=0, le=360)] = 0.0
    area: Annotated[tuple[Share, Share], AfterValidator(_ordered)] | None = None
    aspect: Range = (3 / 4, 4 / 3)
    gain: Strength = 0.0
    brightness: Strength = 0.0
    contrast: Strength = 0.0
    saturation: Strength = 0.0
    erase: Share = 0.0
    mixup: Beta = 0.0
    cutmix: Beta = 0.0
    mixed: Share = 1.0

    @property
    def mixes(self) -> bool:
        """Whether any batch is mixed by mixup or CutMix."""
        return bool(self.mixed and (self.mixup or self.cutmix))


HANDOUT = Augment(flip=True, degrees=15.0, area=(0.25, 1.0), aspect=(0.8, 1.2), gain=0.15)
"""The handout's augmentation."""
