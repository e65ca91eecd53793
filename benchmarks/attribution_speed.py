"""SmoothGrad and integrated gradients against captum's: SimpleNet, 128 pixels, 8 images, 50 samples or steps each.

Each contestant runs in a process of its own, in turns; captum is given the same number of passes at once, 32.
python benchmarks/attribution_speed.py [rounds]
"""

import json
import statistics
import subprocess
import sys
import time

IMAGES, SAMPLES, AT_ONCE = 8, 50, 32
CONTESTANTS = ("smooth ours", "smooth captum", "integrated ours", "integrated captum")


def contestant(name: str) -> None:
    """Time one contestant, after a first pass that is not counted, and print seconds and peak memory as JSON."""
    from scenelab.runtime import prepare

    prepare()
    import captum.attr  # noqa: F401 - on both sides, so that memory is that of the work
    import torch

    from scenelab.models.registry import create_model as create
    from scenelab.runtime import peak_memory

    torch.set_num_threads(2)
    torch.manual_seed(0)
    model = create("simplenet", num_classes=100).eval()
    images, targets = torch.rand(IMAGES, 3, 128, 128), torch.arange(IMAGES)

    def work() -> None:
        if name == "smooth ours":
            from scenelab.attribution import SmoothGrad

            SmoothGrad(samples=SAMPLES)(model, images, targets, batch_size=AT_ONCE)
        elif name == "integrated ours":
            from scenelab.attribution import IntegratedGradients as Integrated

            Integrated(steps=SAMPLES)(model, images, targets, batch_size=AT_ONCE)
        elif name == "smooth captum":
            from captum.attr import NoiseTunnel, Saliency

            NoiseTunnel(Saliency(model)).attribute(
                images,
                nt_samples=SAMPLES,
                nt_samples_batch_size=AT_ONCE // IMAGES,
                stdevs=0.1,
                target=targets,
                abs=False,
            )
        else:
            from captum.attr import IntegratedGradients

            IntegratedGradients(model).attribute(
                images, target=targets, n_steps=SAMPLES, internal_batch_size=AT_ONCE, return_convergence_delta=True
            )

    work()
    began = time.perf_counter()
    work()
    print(json.dumps({"seconds": time.perf_counter() - began, "bytes": peak_memory()}))


def main(rounds: int) -> None:
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for number in range(rounds):
        for name in CONTESTANTS if number % 2 == 0 else CONTESTANTS[::-1]:
            command = [sys.executable, __file__, "--contestant", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    for method in ("smooth", "integrated"):
        for key, unit in (("seconds", 1.0), ("bytes", 2.0**20)):
            pairs = zip(found[f"{method} ours"], found[f"{method} captum"], strict=True)
            ratios = sorted(mine[key] / other[key] for mine, other in pairs)
            medians = [
                statistics.median(run[key] for run in found[f"{method} {side}"]) / unit for side in ("ours", "captum")
            ]
            print(
                f"{method} {key}: ours {medians[0]:.2f}, captum {medians[1]:.2f}; ours over captum "
                f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f}, n {rounds})"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--contestant"]:
        contestant(sys.argv[2])
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
