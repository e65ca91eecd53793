"""Studies, which train variants of a network or recipe with the same seeds and compare them."""

from typing import TYPE_CHECKING

from scenelab.lazy import lazy_exports

if TYPE_CHECKING:
    from scenelab.studies import adversarial, conv, design
    from scenelab.studies.conv_speed import measure_convolutions
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = ["adversarial", "conv", "design", "measure_convolutions"]
