"""Put a network into the package: python tools/ship.py RUN NAME. Evaluate RUN first; its card states the figures.

Writes src/scenelab/pretrained/NAME: config.json without paths of this machine, model.safetensors, and README.md, which
is the model card of `scenelab report --card` with the terms of the data.
"""

import dataclasses
import shutil
import sys
from pathlib import Path

from scenelab.cli.main import run as command
from scenelab.course.submission import MAX_MODEL_BYTES
from scenelab.io import atomic_write, write_json
from scenelab.runs.config import to_plain
from scenelab.runs.pretrained import FOLDER
from scenelab.runs.run import Run

TERMS = """
## Calibration

The temperature of the probabilities, stored in the file, was fitted on the val images of the metrics above.

## Terms

Trained on MiniPlaces, a part of Places (Zhou et al. 2017), whose images are for non-commercial research and education.
The weights are offered under the license of this package, as far as its authors hold rights to them.
"""


def ship(folder: Path, name: str) -> None:
    """Write the network of a run folder to the package under a name."""
    if command(["export", str(folder), "--format", "safetensors"]) or command(
        ["report", str(folder), "--card", "--html-only", "--out", str(folder / "card")]
    ):
        sys.exit(1)
    weights, config = folder / "export" / "model.safetensors", Run(folder).read_config()
    if (size := weights.stat().st_size) > MAX_MODEL_BYTES:
        sys.exit(f"{weights} has {size:,} bytes; the limit is {MAX_MODEL_BYTES:,}")
    target = FOLDER / name
    target.mkdir(parents=True, exist_ok=True)
    neutral = {f"scenelab robustness {folder}`": f"scenelab robustness {name} --data data`", config.data: "data"}
    neutral |= {str(folder): f"runs/{name}", f"# {folder.name}": f"# {name}"}
    neutral |= {
        f'"{folder.name}"': f'"{name}"',
        f'"{Path(config.data).name}"': '"MiniPlaces"',
        "__main__.py": "scenelab",
    }
    write_json(target / "config.json", to_plain(dataclasses.replace(config, data="miniplaces", cache=None)))
    shutil.copy(weights, target / "model.safetensors")
    card = (folder / "card" / "card.md").read_text(encoding="utf-8")
    for path, replacement in neutral.items():
        card = card.replace(path, replacement)
    with atomic_write(target / "README.md", "w") as file:
        file.write(card.rstrip() + "\n" + TERMS)
    print(f"written: {target} ({size:,} bytes)")


if __name__ == "__main__":
    ship(Path(sys.argv[1]), sys.argv[2])
