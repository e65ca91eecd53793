"""Where a classifier looks: attributions for any callable from N×C×H×W images to N×K scores.

Every function leaves a module as it found it: the mode of each part, buffers, gradients, hooks, grad mode and random
state, also when it raises. A callable that is no module is called as it is: one that wraps a network in training mode
had better put it into eval mode. What is returned are raw values; rendering is another matter.
"""

from scenelab.attribution.cam import grad_cam
from scenelab.attribution.gradient import gradient, gradient_times_input, saliency
from scenelab.attribution.integrated import integrated_gradients
from scenelab.attribution.occlusion import occlusion
from scenelab.attribution.smooth import smooth_gradient

__all__ = [
    "grad_cam",
    "gradient",
    "gradient_times_input",
    "integrated_gradients",
    "occlusion",
    "saliency",
    "smooth_gradient",
]
