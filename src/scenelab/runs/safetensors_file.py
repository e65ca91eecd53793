"""Read a network from a safetensors file that `scenelab export` wrote."""

import json
from pathlib import Path
from typing import Any

from scenelab.errors import LabError, suggest_path


def load_safetensors(path: Path) -> dict[str, Any]:
    """Return the content of a safetensors file with the keys of a checkpoint; see `runs.network.to_values`.

    Raises:
        LabError: the file is missing or damaged, or its metadata is not that of an exported network.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise LabError(f"checkpoint {path} does not exist{suggest_path(path)}; check the path")
    try:
        with safe_open(path, framework="pt") as file:
            weights, header = {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
        lists = {key: json.loads(header[name]) for key, name in LISTS.items() if name in header}
        size = {name: kind(header[name]) for name, kind in NUMBERS.items() if name in header}
    except (OSError, SafetensorError, ValueError) as error:
        raise LabError(f"checkpoint {path} is refused: {error}; use one written by scenelab export") from None
    return {"state_dict": weights, "model_arch": header.get("architecture", ""), **lists, **size}


NUMBERS = {"size": int, "temperature": float, "threshold": float}
LISTS = {"categories": "labels", "mean": "mean", "std": "std"}
"""Keys of lists in a checkpoint and in the metadata, where they are JSON."""
