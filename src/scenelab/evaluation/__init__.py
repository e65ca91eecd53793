"""Evaluation of networks: accuracy, calibration, robustness, and tests of attribution maps."""

from typing import TYPE_CHECKING

from scenelab.lazy import lazy_exports

if TYPE_CHECKING:
    from scenelab.evaluation.calibration import expected_calibration_error
    from scenelab.evaluation.explain import explain_files, explain_split
    from scenelab.evaluation.faithfulness import deletion_insertion
    from scenelab.evaluation.intervals import paired_difference, wilson
    from scenelab.evaluation.metrics import confusion, most_confused, predict_logits, top_k
    from scenelab.evaluation.predict import predict_files
    from scenelab.evaluation.robustness import measure_robustness
    from scenelab.evaluation.sanity import randomize_layers
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = [
    "confusion",
    "deletion_insertion",
    "expected_calibration_error",
    "explain_files",
    "explain_split",
    "measure_robustness",
    "most_confused",
    "paired_difference",
    "predict_files",
    "predict_logits",
    "randomize_layers",
    "top_k",
    "wilson",
]
