"""Section on convolution: what is computed, its gradients, and what the convolution study measured."""

from scenelab.report.blocks import Section
from scenelab.report.collect import Collected
from scenelab.report.figures import draw_loss_pair


def convolution(found: Collected) -> Section:
    """The handout's part 3.1 and section 2 of part 3.2."""
    section = Section("convolution", "Understanding convolutions")
    section.text(
        "A layer turns features *X* of *Cᵢ* channels into *Y* of *Cₒ* channels: each output is the sum of a window of "
        "*K* × *K* pixels of the padded input, weighted by *W*, plus a bias *B* a channel. Windows lie *S* pixels "
        "apart."
    )
    section.formula("Y[n, o, y, x] = B[o] + Σ_c Σ_i Σ_j  W[o, c, i, j] · X̄[n, c, S·y + i, S·x + j]")
    section.formula("Hₒ = ⌊(Hᵢ + 2P − K) / S⌋ + 1,   Wₒ = ⌊(Wᵢ + 2P − K) / S⌋ + 1")
    section.text(
        "*X̄* is *X* with *P* rows and columns of zeros around it. Written as matrices the windows are the columns of "
        "a matrix *X̂*, and the layer is one product *Y* = *W* *X̂* + *B*. With *G* = ∂*L*/∂*Y* each gradient is a sum "
        "over the places where the value was used:"
    )
    section.formula("∂L/∂B[o] = Σ_n Σ_y Σ_x G[n, o, y, x]")
    section.formula("∂L/∂W[o, c, i, j] = Σ_n Σ_y Σ_x G[n, o, y, x] · X̄[n, c, S·y + i, S·x + j]")
    section.formula("∂L/∂X̄[n, c, p, q] = Σ_o Σ_(i,j): S·y+i=p, S·x+j=q  W[o, c, i, j] · G[n, o, y, x]")
    section.text(
        "The last one is itself a convolution, of *G* with zeros put between its values and the filters turned by half "
        "a turn; the padding's rows and columns are dropped from it. The code avoids building *X̂*, which holds each "
        "pixel *K*² times: it multiplies by views of the input, a row of the filter at a time, or by Winograd's "
        "transforms for 3 × 3 filters, and keeps only the input for the way back. It is checked against PyTorch's "
        "own convolution, a loop written out in float64, and numerical gradients."
    )
    _study(section, found)
    return section


def _study(section: Section, found: Collected) -> None:
    section.heading("Against PyTorch's own")
    if "conv" not in found.studies:
        section.missing(
            "the comparison of memory, speed and convergence",
            "scenelab study conv --data data --out runs/study-conv --epochs 10",
        )
        return
    folder, study = found.studies["conv"]
    native, custom = study["sides"]["native"], study["sides"]["custom"]
    accounting = native["accounting"]
    rows = [
        [
            name, f"{side['images_per_second']:.0f}", f"{side['peak_memory_bytes'] / 2**20:.0f}",
            f"{study['final'][name]['train_loss']:.3f}", f"{study['final'][name]['val_top1']:.2f}",
            f"{study['final'][name]['val_top5']:.2f}",
        ]
        for name, side in (("native", native), ("custom", custom))
    ]  # fmt: skip
    place = study["environment"]
    section.table(
        ["convolution", "images/s", "peak memory, MiB", "train loss", "val top-1 %", "val top-5 %"], rows,
        f"SimpleNet with PyTorch's convolution and with ours, {accounting['steps']} steps from one seed, n = 1 each, "
        f"{study['data']['val_images']} val images. {place['processor']}, {accounting['threads']} threads; "
        f"{folder.name}, {place['date'][:10]}: {place['command']}",
    )  # fmt: skip
    section.figure(
        draw_loss_pair(study), "Training loss by step with native and with custom convolution",
        "Training loss of both. They differ by rounding alone at first and drift apart as rounding is amplified.",
    )  # fmt: skip
    largest = study["loss_difference"]
    section.text(
        f"Ours trains at {study['speed_vs_native']:.2f} of the speed and {study['memory_vs_native']:.2f} of the "
        "memory. "
        f"The losses differ by {largest['first']:.1e} at the first step and at most by {largest['largest']:.2g} "
        f"(step {largest['largest_at_step']}); val top-1 differs by at most {study['largest_top1_difference']:.2f} "
        "points in any epoch. Both compute the same sums in another order, so they converge alike."
    )
