"""Attribution methods by command-line name, each reduced to a non-negative single-channel map."""

from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from scenelab.attribution.attribution import Attribution
from scenelab.attribution.grad_cam import GradCAM
from scenelab.attribution.gradient import Gradient, GradientTimesInput, SmoothGrad, VarGrad
from scenelab.attribution.integrated_gradients import IntegratedGradients
from scenelab.attribution.occlusion import Occlusion
from scenelab.classifier import Images, Labels, Model, OnProgress, no_progress
from scenelab.errors import LabError

SAMPLES = 50


@dataclass(frozen=True)
class Method:
    """An attribution method, its reduction to a non-negative single-channel map, and a description."""

    attribution: Attribution
    reduce: Callable[[Tensor], Tensor]
    description: str

    def __call__(
        self, model: Model, images: Images, targets: Labels | None = None, *, on_progress: OnProgress = no_progress
    ) -> Float[Tensor, "n 1 h w"]:
        """Return one non-negative map per image, for the same arguments as `Attribution.__call__`."""
        return self.reduce(self.attribution(model, images, targets, on_progress=on_progress))


def _max_abs(values: Tensor) -> Tensor:
    return values.abs().amax(dim=1, keepdim=True)


def _abs_sum(values: Tensor) -> Tensor:
    return values.sum(dim=1, keepdim=True).abs()


def _positive(values: Tensor) -> Tensor:
    return values.clamp_min(0)


_NOISY = f"over {SAMPLES} noisy copies"
_BLACK = f"what a pixel adds to the score of a black image, {SAMPLES} steps, absolute"
_GRADIENT = "how much the score changes with a pixel: |∂score/∂x|, the largest of the colors"
METHODS: dict[str, Method] = {
    "gradient": Method(Gradient(), _max_abs, _GRADIENT),
    "gradient-input": Method(GradientTimesInput(), _abs_sum, "gradient times pixel, absolute"),
    "smooth": Method(SmoothGrad(samples=SAMPLES), _max_abs, f"the gradient's mean {_NOISY} (SmoothGrad)"),
    "variance": Method(VarGrad(samples=SAMPLES), _max_abs, f"the gradient's variance {_NOISY} (VarGrad)"),
    "integrated": Method(IntegratedGradients(steps=SAMPLES), _abs_sum, _BLACK),
    "cam": Method(GradCAM(), _positive, "the last layer's maps weighted by the class, what speaks for it (Grad-CAM)"),
    "occlusion": Method(Occlusion(), _positive, "how far the score falls when a patch is gray, falls only"),
}
"""Methods of `scenelab explain`, by name."""
DEFAULT_METHODS = ("gradient", "smooth", "integrated", "cam", "occlusion")


def check_methods(names: tuple[str, ...]) -> None:
    """Raise LabError unless every name is a key of METHODS."""
    for name in names:
        if name not in METHODS:
            raise LabError(f"--methods has {name!r}; the methods are {', '.join(METHODS)}")
