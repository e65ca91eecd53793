"""What the handout's `main.py` does, on scenelab's own functions: its folders, its checkpoints, its last line."""

from scenelab.course.handout.judging import attack, evaluate, log_attention
from scenelab.course.handout.training import DEFAULT, attach_attack, chosen, config_from_flags, name_of, network, train

__all__ = [
    "DEFAULT",
    "attach_attack",
    "attack",
    "chosen",
    "config_from_flags",
    "evaluate",
    "log_attention",
    "name_of",
    "network",
    "train",
]
