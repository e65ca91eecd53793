"""The networks: create one by name, or import its class."""

from scenelab.models.flops import count_flops, model_size
from scenelab.models.inception import InceptionNet
from scenelab.models.inference import prepare_for_inference
from scenelab.models.normalize import Classifier, Normalize
from scenelab.models.plain import PlainNet
from scenelab.models.registry import create_model, list_models
from scenelab.models.residual import ResidualNet
from scenelab.models.simplenet import SimpleNet, SimpleNetSmall
from scenelab.models.vit import VisionTransformer

__all__ = [
    "Classifier",
    "InceptionNet",
    "Normalize",
    "PlainNet",
    "ResidualNet",
    "SimpleNet",
    "SimpleNetSmall",
    "VisionTransformer",
    "count_flops",
    "create_model",
    "list_models",
    "model_size",
    "prepare_for_inference",
]
