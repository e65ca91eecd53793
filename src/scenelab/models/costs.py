"""Descriptions, size and floating-point operations of the networks, as a table that needs no PyTorch."""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ModelSize:
    """Number of learnable parameters, and size of the state dict in bytes."""

    parameters: int
    bytes: int


@dataclass(frozen=True)
class ModelCost(ModelSize):
    """Size of a network, and its floating-point operations per image in inference and in training."""

    flops: int
    training_flops: int


COSTS_SIDE = 64  # pixels
COSTS = {
    "simplenet": ModelCost(1_368_676, 5_474_704, 95_391_744, 266_907_648),
    "simplenet-small": ModelCost(365_028, 1_460_112, 80_187_392, 221_294_592),
    "plain": ModelCost(1_963_972, 7_855_888, 144_754_688, 431_118_336),
    "plain-deep": ModelCost(5_062_340, 20_249_360, 371_247_104, 1_110_595_584),
    "residual-bare": ModelCost(1_963_972, 7_855_888, 144_754_688, 431_118_336),
    "residual-small": ModelCost(498_884, 2_001_120, 36_987_904, 109_390_848),
    "residual": ModelCost(1_965_348, 7_872_480, 144_754_688, 431_118_336),
    "residual-large": ModelCost(3_515_428, 14_080_016, 258_000_896, 770_856_960),
    "residual-deep": ModelCost(4_548_132, 18_212_864, 220_252_160, 657_610_752),
    "inception": ModelCost(1_025_892, 4_120_320, 75_941_888, 224_679_936),
    "vit": ModelCost(2_281_060, 9_124_240, 303_601_152, 906_084_864),
}
"""Results of `models.flops.measure_cost` at `COSTS_SIDE` pixels, for 100 classes; a test checks them."""

DESCRIPTIONS = {
    "simplenet": "the handout's network, spring 2019",
    "simplenet-small": "the handout's network, fall 2019 and later",
    "plain": "ten convolutions with ReLU, as in VGG",
    "plain-deep": "the same with 22 convolutions",
    "residual-bare": "residual blocks without normalization",
    "residual-small": "residual, normalized, half the width",
    "residual": "ours: residual blocks with batch normalization",
    "residual-large": "the same with twice the blocks",
    "residual-deep": "five residual blocks, three of them in the last stage",
    "inception": "several filter sizes side by side, batch normalization",
    "vit": "a small vision transformer, patches of 8×8 pixels",
}


def describe_costs() -> dict[str, dict[str, Any]]:
    """Return by name each network's description, parameters, bytes, and FLOPs for an image of `COSTS_SIDE` pixels."""
    return {name: {"what": DESCRIPTIONS[name], **asdict(cost)} for name, cost in COSTS.items()}
