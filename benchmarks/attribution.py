"""SmoothGrad and integrated gradients against captum: SimpleNet, 8 images of 128 pixels, 50 samples or steps.

The subjects run alternately, each in its own process. All pass batches of 32 images through the network.
"""

from collections.abc import Callable
from typing import Any

from scenelab.studies.timing import Measurements, interleave, ratio, seconds_of
from scenelab.studies.worker import run_worker

IMAGES, SAMPLES, BATCH_SIZE = 8, 50, 32
SUBJECTS = ("smooth ours", "smooth captum", "integrated ours", "integrated captum")


def worker(name: str) -> Measurements:
    """Return the seconds of one call of a subject, after a warm-up call, and the peak memory in bytes."""
    import captum.attr  # noqa: F401 - for all subjects, so that their memory is comparable
    import torch

    from scenelab.models.registry import create_model
    from scenelab.runtime import peak_memory

    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = create_model("simplenet", num_classes=100).eval()
    work = _attribution(name, model, torch.rand(IMAGES, 3, 128, 128), torch.arange(IMAGES))
    work()
    return {**seconds_of(work), "bytes": peak_memory()}


def _attribution(name: str, model: Any, images: Any, targets: Any) -> Callable[[], object]:
    import torch
    from captum.attr import IntegratedGradients, NoiseTunnel, Saliency

    from scenelab import attribution
    from scenelab.models.inference import prepare_for_inference

    at_once, ready = BATCH_SIZE // IMAGES, prepare_for_inference(model)
    laid = images.contiguous(memory_format=torch.channels_last)
    smooth, integrated = attribution.SmoothGrad(samples=SAMPLES), attribution.IntegratedGradients(steps=SAMPLES)
    return {
        "smooth ours": lambda: smooth(ready, laid, targets, batch_size=BATCH_SIZE),
        "integrated ours": lambda: integrated(ready, laid, targets, batch_size=BATCH_SIZE),
        "smooth captum": lambda: NoiseTunnel(Saliency(model)).attribute(
            images, nt_samples=SAMPLES, nt_samples_batch_size=at_once, stdevs=0.1, target=targets, abs=False
        ),
        "integrated captum": lambda: IntegratedGradients(model).attribute(
            images, target=targets, n_steps=SAMPLES, internal_batch_size=BATCH_SIZE, return_convergence_delta=True
        ),
    }[name]


def bench_attribution(*, rounds: int = 3) -> dict[str, Any]:
    """Compare SmoothGrad and integrated gradients with captum: ratios of time and peak memory, ours over captum's.

    Args:
        rounds: number of measurements per subject, taken in turns.
    """
    values = interleave(SUBJECTS, lambda name: run_worker("benchmarks.attribution", name, prepared=True), rounds)
    ratios = {
        f"{method}_{quantity}_vs_captum": ratio(values[quantity], f"{method} ours", f"{method} captum")
        for method in ("smooth", "integrated")
        for quantity in values
    }
    return {**ratios, **values}
