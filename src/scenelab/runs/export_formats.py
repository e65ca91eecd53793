"""The export formats: ONNX for other runtimes, a torch.export program, and weights in safetensors.

Each writer writes a classifier with its normalisation and returns a function that predicts with the written file.
"""

import copy
import importlib
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from scenelab.errors import LabError
from scenelab.models.normalize import Classifier
from scenelab.runs.network import Stored

Format = Literal["onnx", "pt2", "safetensors"]
Predict = Callable[[Tensor], Tensor]
"""From N×3×H×W images in [0, 1] to N×K logits."""

OPSET = 20
INPUT, OUTPUT = "images", "logits"


def metadata(stored: Stored) -> dict[str, str]:
    """Return the metadata of the file: labels in the order of the logits, and the preprocessing."""
    mean, std = (value.flatten().tolist() for value in (stored.model.normalize.mean, stored.model.normalize.std))
    return {
        "labels": json.dumps(list(stored.categories), ensure_ascii=False),
        "architecture": stored.arch,
        "input": f"float32 N×3×{stored.size}×{stored.size}, RGB in [0, 1], not normalised; any N",
        "output": f"float32 N×{len(stored.categories)} logits",
        "preprocessing": f"resize the shorter side to {stored.size} with antialiasing, cut out the centre",
        "size": str(stored.size),
        "mean": json.dumps(mean),
        "std": json.dumps(std),
        "written_by": f"scenelab {version('scenelab')}",
    }


def write_onnx(stored: Stored, path: Path) -> Predict:
    """Write one file with weights, normalisation and `metadata`."""
    onnx, runtime = _require("onnx"), _require("onnxruntime")
    _require("onnxscript")
    with _quiet():
        program = torch.onnx.export(
            stored.model,
            (_example(stored),),
            dynamo=True,
            opset_version=OPSET,
            verbose=False,
            input_names=[INPUT],
            output_names=[OUTPUT],
            dynamic_shapes={INPUT: {0: torch.export.Dim("batch")}},
        )
        assert program is not None
        model = program.model_proto
    del model.metadata_props[:]
    for node in model.graph.node:  # source locations: half of the file, useless to its reader
        del node.metadata_props[:]
        node.doc_string = ""
    model.doc_string, model.producer_name, model.producer_version = "", "scenelab", version("scenelab")
    onnx.helper.set_model_props(model, metadata(stored))
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    session = runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.contiguous().numpy()})[0])


def write_pt2(stored: Stored, path: Path) -> Predict:
    """Write a `torch.export` program with the normalisation; `metadata` is its extra file `scenelab.json`."""
    with _quiet():
        program = torch.export.export(
            stored.model, (_example(stored),), dynamic_shapes=({0: torch.export.Dim("batch")},)
        )
        for node in program.graph.nodes:  # source locations, with paths of this machine
            node.meta.pop("stack_trace", None)
        torch.export.save(program, path, extra_files={"scenelab.json": json.dumps(metadata(stored))})
        return torch.export.load(path).module()


def write_safetensors(stored: Stored, path: Path) -> Predict:
    """Write the bare network's state dict, with `metadata`, mean and std included.

    The file holds no graph: its reader creates the network, loads the weights and normalises.
    """
    safe = _require("safetensors.torch")
    weights = {name: value.contiguous() for name, value in stored.model.network.state_dict().items()}
    header = {"format": "pt", **metadata(stored)}
    header["input"] = header["input"].replace("not normalised", "then (x - mean) / std")
    path.write_bytes(safe.save(weights, metadata=header))
    network = copy.deepcopy(stored.model.network)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.zero_()
    network.load_state_dict(safe.load_file(path))
    return Classifier(network, stored.model.normalize).eval()


WRITERS: dict[Format, Callable[[Stored, Path], Predict]] = {
    "onnx": write_onnx,
    "pt2": write_pt2,
    "safetensors": write_safetensors,
}


def _example(stored: Stored) -> Tensor:
    return torch.rand(2, 3, stored.size, stored.size)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' own warnings and logs."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _require(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise LabError(
            f"export needs the package {name.partition('.')[0]}; install it with: pip install 'scenelab[export]'"
        ) from error
