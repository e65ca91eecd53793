"""Attribution methods for any callable from N×C×H×W images to N×K logits.

A method is an immutable configuration: `SmoothGrad(samples=50)(model, images)`. A call runs the model in eval mode and
does not normalize the result. Training modes, gradients of parameters, hooks and grad mode stay the same. What the
model itself changes in a forward pass, such as a counter in a buffer or the random state, is not restored.
"""

from scenelab.attribution.attribution import Attribution, ScoreFn, target_logit, target_loss
from scenelab.attribution.grad_cam import GradCAM
from scenelab.attribution.gradient import Gradient, GradientTimesInput, Saliency, SmoothGrad, VarGrad
from scenelab.attribution.integrated_gradients import IntegratedGradients
from scenelab.attribution.occlusion import Occlusion
from scenelab.attribution.registry import METHODS

__all__ = ["GradCAM", "Gradient", "GradientTimesInput", "IntegratedGradients", "Occlusion", "Saliency", "SmoothGrad"]
__all__ += ["METHODS", "Attribution", "ScoreFn", "VarGrad", "target_logit", "target_loss"]
