"""Report section on convolution: formulas, gradients, and the results of the convolution study."""

from scenelab.report.collect import Collected
from scenelab.report.sections import Section

ROUNDING = 1e-4  # two float32 networks with equal weights have a smaller relative difference of the loss


def convolution(collected: Collected) -> Section:
    """Return the section with formulas of convolution and gradients, and the comparison with PyTorch's convolution."""
    section = Section("convolution", "Understanding convolutions")
    section.prose("convolution")
    section.heading("Comparison with PyTorch")
    if collected.conv is None:
        command = "scenelab study conv --data data --out runs/study-conv --epochs 10"
        section.missing("the comparison of memory, speed and convergence", command)
        return section
    data, study = collected.conv, collected.conv.result
    native, loss = study.sides["native"], study.loss_difference
    accounting = native.accounting
    rows = []
    for name in ("native", "custom"):
        side, final = study.sides[name], study.final[name]
        cells = [f"{side.images_per_second:.0f}", f"{side.peak_memory_bytes / 2**20:.0f}"]
        cells += [f"{final.train_loss:.3f}", f"{final.val_top1:.2f}", f"{final.val_top5:.2f}"]
        rows.append([name, *cells])
    section.table(
        "convolution|images/s|peak memory, MiB|train loss|val top-1 %|val top-5 %".split("|"),
        rows,
        f"SimpleNet with PyTorch's and with our convolution, {accounting.steps} steps from one seed, n = 1 each, "
        f"{study.data.val_images} val images, {accounting.threads} threads. {data.source}",
    )
    first = native.loss[0][1]
    cause = (
        "both compute the same sums in a different order, and training amplifies the rounding errors"
        if loss.first <= ROUNDING * first
        else "at the first step, this is more than rounding explains"
    )
    section.image(
        data.folder / "study.png",
        "Training loss, its difference, val accuracy, speed and memory with native and with custom convolution",
        "Native and custom convolution.",
    )
    section.text(
        f"Our convolution trains at {study.speed_vs_native:.2f} times the speed and with "
        f"{study.memory_vs_native:.2f} times the memory. The losses differ by {loss.first:.1e} at the first step "
        f"and by at most {loss.largest:.2g} (step {loss.largest_at_step}). Val top-1 accuracy differs by at most "
        f"{study.largest_top1_difference:.2f} points in any epoch; {cause}."
    )
    return section
