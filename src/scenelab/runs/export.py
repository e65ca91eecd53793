"""Export a network as ONNX, int8 ONNX, torch.export program or safetensors, and verify the written file."""

import copy
import json
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from scenelab.errors import LabError
from scenelab.extras import ONNX
from scenelab.io import explain_write_errors, sync_folder, temporary_folder
from scenelab.models.normalize import Classifier
from scenelab.runs.network import Stored

Format = Literal["onnx", "int8", "pt2", "safetensors"]
Predict = Callable[[Tensor], Tensor]
"""Function from N×3×H×W images in [0, 1] to N×K logits."""

OPSET = 20
INPUT, OUTPUT = "images", "logits"
TOLERANCE = 1e-3  # absolute difference of a logit; runtimes add float32 numbers in different orders
SPEED_ROUNDS, SPEED_CALLS = 5, 4
MIN_AGREEMENT = 0.9  # fraction of images with the same top-1 class, of an int8 file
BATCH_SIZE = 16


def require_packages(format: Format) -> None:
    """Raise a LabError if a package that writes files of this format is missing."""
    if format in ("onnx", "int8"):
        ONNX.require()


def export(
    stored: Stored,
    images: Float[Tensor, "n 3 s s"],
    format: Format,
    path: Path,
    *,
    labels: Int64[Tensor, " n"] | None = None,
    calibration: Float[Tensor, "m 3 s s"] | None = None,
) -> dict[str, Any]:
    """Export a network to `path`; keep the file only if it reproduces the network's logits.

    The logits of an int8 file differ; it is kept if its top-1 classes mostly agree, and its speed is measured.

    Args:
        stored: the classifier with its class names and resolution.
        images: images in [0, 1], at the network's resolution, on which the logits are compared.
        format: format of the file.
        path: the file to write.
        labels: classes of the images, for the accuracy.
        calibration: training images, from which int8 takes the ranges of the activations.

    Returns:
        Format, path, size in bytes, tolerance, the values of `compare` and, for int8, of `compare_speed`.
    """
    require_packages(format)
    with explain_write_errors(path, "choose another with --out"), temporary_folder(path) as folder:
        temporary, speed = folder / path.name, {}
        try:
            if format == "int8":
                assert calibration is not None
                reference = write_onnx(stored, folder / "float32.onnx")
                predict = quantize(folder / "float32.onnx", temporary, calibration)
                speed = compare_speed(reference, predict, images[:BATCH_SIZE])
            else:
                predict = WRITERS[format](stored, temporary)
        except (LabError, OSError):
            raise
        except Exception as error:  # the exporters raise many undocumented types
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise LabError(f"{stored.arch} cannot be exported as {format}: {reason}; try another --format") from error
        comparison = compare(stored, images, predict, labels)
        difference, same = comparison["largest_difference"], comparison["same_first_guess"]
        if format == "int8" and same < MIN_AGREEMENT:
            raise LabError(
                f"int8 was not written: it agrees with the network on {same:.0%} of {len(images)} images, less than "
                f"{MIN_AGREEMENT:.0%}; use onnx"
            )
        if format != "int8" and not difference <= TOLERANCE:
            raise LabError(
                f"{format} was not written: its logits differ from the network's by up to {difference:.2g} on "
                f"{len(images)} images, more than {TOLERANCE:g}"
            )
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    size = path.stat().st_size
    tolerance = {} if format == "int8" else {"tolerance": TOLERANCE}
    return {"format": format, "file": str(path), "bytes": size, **tolerance, **comparison, **speed}


@torch.no_grad()
def compare(
    stored: Stored, images: Float[Tensor, "n 3 s s"], predict: Predict, labels: Int64[Tensor, " n"] | None = None
) -> dict[str, float]:
    """Compare the logits of the exported file and of the network, in a batch of 1 and batches of up to 16 images.

    Returns:
        Number of images, largest absolute difference between logits, largest absolute logit, fraction of images with
        the same top-1 class and, with labels, the top-1 accuracy of network and file in percent.
    """
    if not len(images):
        raise LabError("images is empty; the export is checked on at least one image")
    batches = [batch for batch in (images[:1], *images[1:].split(BATCH_SIZE)) if len(batch)]
    expected, logits = (torch.cat([model(batch) for batch in batches]) for model in (stored.model, predict))
    if logits.shape != expected.shape:
        shapes = f"{tuple(logits.shape)} for {len(images)} images, not {tuple(expected.shape)}"
        raise LabError(f"the file returns shape {shapes}")
    accuracy = {}
    if labels is not None:
        accuracy = {
            name: 100 * (values.argmax(1) == labels).double().mean().item()
            for name, values in (("top1_of_network", expected), ("top1_of_file", logits))
        }
    return {
        **accuracy,
        "images": len(images),
        "largest_difference": (expected - logits).abs().max().item(),
        "largest_logit": expected.abs().max().item(),
        "same_first_guess": (expected.argmax(1) == logits.argmax(1)).double().mean().item(),
    }


def metadata(stored: Stored) -> dict[str, str]:
    """Return the exported file's metadata: class names in logit order, input and output format, and preprocessing."""
    mean, std = (value.flatten().tolist() for value in (stored.model.normalize.mean, stored.model.normalize.std))
    threshold = {} if stored.model.threshold is None else {"threshold": repr(stored.model.threshold)}
    return {
        "labels": json.dumps(list(stored.categories), ensure_ascii=False),
        "architecture": stored.arch,
        "input": f"float32 N×3×{stored.size}×{stored.size}, RGB in [0, 1], not normalized; any N",
        "output": f"float32 N×{len(stored.categories)} logits",
        "preprocessing": f"resize the shorter side to {stored.size} with antialiasing, cut out the center",
        "size": str(stored.size),
        "mean": json.dumps(mean),
        "std": json.dumps(std),
        "temperature": repr(stored.model.temperature),
        **threshold,
        "written_by": f"scenelab {version('scenelab')}",
    }


def write_onnx(stored: Stored, path: Path) -> Predict:
    """Write normalization and network to an ONNX file, with metadata; return a function that predicts with the file."""
    import onnx

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
    for node in model.graph.node:  # source locations are half of the file and useless to its reader
        del node.metadata_props[:]
        node.doc_string = ""
    model.doc_string, model.producer_name, model.producer_version = "", "scenelab", version("scenelab")
    onnx.helper.set_model_props(model, metadata(stored))
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())
    return _open_onnx(path)


def _open_onnx(path: Path) -> Predict:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run([OUTPUT], {INPUT: images.contiguous().numpy()})[0])


def quantize(source: Path, path: Path, calibration: Float[Tensor, "m 3 s s"]) -> Predict:
    """Write an ONNX file with int8 weights and activations; return a function that predicts with the file.

    Weights have 7 bits, since processors without VNNI instructions saturate on 8, and a scale per output channel. The
    ranges of the activations are those on the calibration images.

    Args:
        source: ONNX file of the network in float32.
        path: the file to write.
        calibration: images in [0, 1] at the network's resolution.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, quantize_static

    class Batches(CalibrationDataReader):
        def __init__(self) -> None:
            self.batches = iter(calibration.split(BATCH_SIZE))

        def get_next(self) -> dict[str, Any] | None:  # pyright: ignore[reportIncompatibleMethodOverride]
            batch = next(self.batches, None)
            return None if batch is None else {INPUT: batch.contiguous().numpy()}

    with _quiet():
        quantize_static(str(source), str(path), Batches(), per_channel=True, reduce_range=True)
    model, original = onnx.load(str(path)), onnx.load(str(source))
    onnx.helper.set_model_props(model, {entry.key: entry.value for entry in original.metadata_props})
    path.write_bytes(model.SerializeToString())
    return _open_onnx(path)


def compare_speed(reference: Predict, predict: Predict, images: Float[Tensor, "n 3 s s"]) -> dict[str, Any]:
    """Return the median and range of the quotient of two functions' times, measured in turns."""
    times: list[list[float]] = [[], []]
    for _ in range(SPEED_ROUNDS):
        for each, function in zip(times, (reference, predict), strict=True):
            began = time.perf_counter()
            for _ in range(SPEED_CALLS):
                function(images)
            each.append(time.perf_counter() - began)
    quotients = sorted(first / second for first, second in zip(*times, strict=True))
    return {
        "speedup": median(quotients),
        "speedup_range": [quotients[0], quotients[-1]],
        "speedup_rounds": SPEED_ROUNDS,
    }


def write_pt2(stored: Stored, path: Path) -> Predict:
    """Write a `torch.export` program, with `metadata` in the extra file `scenelab.json`; return the reloaded module."""
    shapes = ({0: torch.export.Dim("batch")},)
    with _quiet():
        program = torch.export.export(stored.model, (_example(stored),), dynamic_shapes=shapes)
        for node in program.graph.nodes:  # source locations reveal paths of the machine
            node.meta.pop("stack_trace", None)
        torch.export.save(program, path, extra_files={"scenelab.json": json.dumps(metadata(stored))})
        return torch.export.load(path).module()


def write_safetensors(stored: Stored, path: Path) -> Predict:
    """Write `metadata` and the network's state dict without normalization; return the reloaded classifier.

    Tensors that float16 holds without loss, as those of runs with the config `half`, are written in float16.
    """
    from safetensors.torch import load_file, save

    network = copy.deepcopy(stored.model.network)
    weights = {name: _shortest(value).contiguous() for name, value in network.state_dict().items()}
    header = {"format": "pt", **metadata(stored)}
    header["input"] = header["input"].replace("not normalized", "then (x - mean) / std")
    header["output"] += ", then z / temperature"
    path.write_bytes(save(weights, metadata=header))
    with torch.no_grad():
        for value in network.state_dict().values():
            value.zero_()
    network.load_state_dict(load_file(path))
    model = Classifier(network, stored.model.normalize)
    model.temperature = stored.model.temperature
    return model.eval()


def _shortest(value: Tensor) -> Tensor:
    is_half = value.dtype == torch.float32 and torch.equal(value.half().float(), value)
    return value.half() if is_half else value


WRITERS = {"onnx": write_onnx, "pt2": write_pt2, "safetensors": write_safetensors}
"""Functions that write a classifier to a file and return a function that predicts with this file, by format."""


def _example(stored: Stored) -> Tensor:
    return torch.rand(2, 3, stored.size, stored.size)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporters' warnings and logs inside the block."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
