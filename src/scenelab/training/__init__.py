"""Training: recipes, the training loop, optimizers and data-parallel training."""

from typing import TYPE_CHECKING

from scenelab.lazy import lazy_exports

if TYPE_CHECKING:
    from scenelab.training.cross_validation import finetune_config
    from scenelab.training.device import pick_device
    from scenelab.training.distributed import init_distributed
    from scenelab.training.muon import Muon
    from scenelab.training.optim import build_optimizers
    from scenelab.training.recipes import RECIPES
    from scenelab.training.schedule import learning_rate_factor
    from scenelab.training.session import resume_run, start_run
    from scenelab.training.sync_batch_norm import convert_sync_batchnorm
    from scenelab.training.trainer import Trainer
else:
    __getattr__ = lazy_exports(__name__, __file__)

__all__ = [
    "RECIPES",
    "Muon",
    "Trainer",
    "build_optimizers",
    "convert_sync_batchnorm",
    "finetune_config",
    "init_distributed",
    "learning_rate_factor",
    "pick_device",
    "resume_run",
    "start_run",
]
