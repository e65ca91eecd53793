"""In each of several processes: three steps of each kind of training give all of them the same weights."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from scenelab.data.cache import pack
from scenelab.data.splits import open_split
from scenelab.errors import LabError
from scenelab.progress import TrainProgress
from scenelab.runs.config import AdversarialConfig
from scenelab.runs.run import Run
from scenelab.training.distributed import init_distributed
from scenelab.training.metrics_logger import MetricsLogger
from scenelab.training.recipes import laptop
from scenelab.training.session import start_run
from scenelab.training.state import initialize, make_loader
from scenelab.training.trainer import Trainer

CPU = torch.device("cpu")


def adversarial(method: str, steps: int, epsilon: float = 4 / 255) -> AdversarialConfig:
    return AdversarialConfig(method=method, epsilon=epsilon, steps=steps)


def main(data: Path, folder: Path) -> None:
    base = replace(laptop(), plan=False, minutes=0.0, model="residual-small", batch_size=16, device="cpu", threads=1)
    with init_distributed() as world:
        dataset = pack(open_split(data, "train"), folder, size=32)
        for method in (None, adversarial("pgd", 2), adversarial("fast", 1), adversarial("free", 2)):
            config = replace(base, adversarial=method)
            trainer = Trainer(
                run=Run(folder),
                config=config,
                state=initialize(config, num_classes=len(dataset.categories), device=CPU),
                loader=make_loader(dataset, config, CPU),
                val=None,
                logger=MetricsLogger(),
                display=TrainProgress(),
                world=world,
            )
            for _ in range(3):
                trainer.step()
            values = [*trainer.state.model.state_dict().values(), *trainer.state.average.state_dict().values()]
            world.require_same([value.double().sum().item() for value in values], f"weights with {method}")
        handout = replace(base, adversarial=adversarial("handout", 1, epsilon=0.1))
        with pytest.raises(LabError, match="needs a single process"):
            start_run(folder / "run", data, handout, world=world)
        with pytest.raises(LabError, match="the processes have different images"):
            world.require_same(world.rank, "images")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
