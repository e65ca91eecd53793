"""Train, evaluate, explain and attack small image classifiers; includes a hand-written convolution."""

from scenelab.lazy import TYPE_CHECKING, lazy_exports

__version__ = "0.1.0"

if TYPE_CHECKING:
    from scenelab import attacks, attribution, conv, data, models
    from scenelab.errors import LabError
    from scenelab.evaluation.evaluate import evaluate
    from scenelab.evaluation.explain import explain_split as explain
    from scenelab.evaluation.predict import load
    from scenelab.evaluation.predict import predict_files as predict
    from scenelab.models.registry import create_model, list_models
    from scenelab.runs.loading import open_run
    from scenelab.training.session import resume_run as resume
    from scenelab.training.session import start_run as train
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = [
    "LabError",
    "__version__",
    "attacks",
    "attribution",
    "conv",
    "create_model",
    "data",
    "evaluate",
    "explain",
    "list_models",
    "load",
    "models",
    "open_run",
    "predict",
    "resume",
    "train",
]
