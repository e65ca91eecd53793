"""Networks, created by name with `create_model` or imported as classes, and their size and FLOPs."""

from typing import TYPE_CHECKING

from scenelab.lazy import lazy_exports

if TYPE_CHECKING:
    from scenelab.models.flops import count_flops, model_size
    from scenelab.models.inception import InceptionNet
    from scenelab.models.inference import prepare_for_inference
    from scenelab.models.normalize import Classifier, Normalize
    from scenelab.models.plain import PlainNet
    from scenelab.models.registry import create_model, list_models
    from scenelab.models.residual import ResidualNet
    from scenelab.models.simplenet import SimpleNet, SimpleNetSmall
    from scenelab.models.vit import VisionTransformer
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = ["InceptionNet", "PlainNet", "ResidualNet", "SimpleNet", "SimpleNetSmall", "VisionTransformer"]
__all__ += ["Classifier", "Normalize", "create_model", "list_models", "prepare_for_inference"]
__all__ += ["count_flops", "model_size"]
