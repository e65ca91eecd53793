"""What the handout's `main.py` does, by scenelab's own functions: its flags, folders, checkpoints and last line."""

from scenelab.course.handout.judging import attack, evaluate, log_attention
from scenelab.course.handout.training import DEFAULT, attach_attack, config_from_flags, lookup, name_of, network, train

__all__ = ["DEFAULT", "attach_attack", "attack", "config_from_flags", "evaluate", "log_attention"]
__all__ += ["lookup", "name_of", "network", "train"]
