"""Attribution methods against captum: SimpleNet, 8 images of 128 pixels, 50 samples or steps.

The subjects run alternately, each in its own process. All pass batches of 32 images through the network; Grad-CAM takes
the 8 images 20 times. Ours use `prepare_for_inference`; captum attributes the original network.
"""

from collections.abc import Callable
from typing import Any

from scenelab.studies.timing import Measurements, interleave, ratio, seconds_of
from scenelab.studies.worker import run_worker

IMAGES, SAMPLES, BATCH_SIZE = 8, 50, 32
WINDOW, STRIDE, REPEATS = 16, 8, 20
METHODS = ("smooth", "integrated", "occlusion", "cam")
SUBJECTS = tuple(f"{method} {library}" for method in METHODS for library in ("ours", "captum"))


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
    from captum.attr import IntegratedGradients, LayerAttribution, LayerGradCam, NoiseTunnel, Occlusion, Saliency

    from scenelab import attribution
    from scenelab.models.inference import prepare_for_inference

    at_once, ready = BATCH_SIZE // IMAGES, prepare_for_inference(model)
    laid = images.contiguous(memory_format=torch.channels_last)
    smooth, integrated = attribution.SmoothGrad(samples=SAMPLES), attribution.IntegratedGradients(steps=SAMPLES)
    occlusion, cam = attribution.Occlusion(window=WINDOW, stride=STRIDE), attribution.GradCAM()
    theirs = LayerGradCam(model, model.network.features[-1])

    def their_cam() -> list[object]:
        maps = (theirs.attribute(images, targets, relu_attributions=True) for _ in range(REPEATS))
        return [LayerAttribution.interpolate(each, images.shape[2:], "bilinear") for each in maps]

    return {
        "smooth ours": lambda: smooth(ready, laid, targets, batch_size=BATCH_SIZE),
        "integrated ours": lambda: integrated(ready, laid, targets, batch_size=BATCH_SIZE),
        "occlusion ours": lambda: occlusion(ready, laid, targets, batch_size=BATCH_SIZE),
        "cam ours": lambda: [cam(ready, laid, targets, batch_size=BATCH_SIZE) for _ in range(REPEATS)],
        "cam captum": their_cam,
        "occlusion captum": lambda: Occlusion(model).attribute(
            images,
            sliding_window_shapes=(3, WINDOW, WINDOW),
            strides=(3, STRIDE, STRIDE),
            baselines=0.5,
            target=targets,
            perturbations_per_eval=at_once,
        ),
        "smooth captum": lambda: NoiseTunnel(Saliency(model)).attribute(
            images, nt_samples=SAMPLES, nt_samples_batch_size=at_once, stdevs=0.1, target=targets, abs=False
        ),
        "integrated captum": lambda: IntegratedGradients(model).attribute(
            images, target=targets, n_steps=SAMPLES, internal_batch_size=BATCH_SIZE, return_convergence_delta=True
        ),
    }[name]


def bench_attribution(*, rounds: int = 5) -> dict[str, Any]:
    """Compare SmoothGrad, integrated gradients, occlusion and Grad-CAM with captum: ratios of time and peak memory.

    Args:
        rounds: number of measurements per subject, taken in turns.
    """
    values = interleave(SUBJECTS, lambda name: run_worker("benchmarks.attribution", name, prepared=True), rounds)
    ratios = {
        f"{method}_{quantity}_vs_captum": ratio(values[quantity], f"{method} ours", f"{method} captum")
        for method in METHODS
        for quantity in values
    }
    return {**ratios, **values}
