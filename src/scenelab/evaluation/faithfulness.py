"""Faithfulness of attribution maps: deletion and insertion (Petsiuk et al. 2018).

Deletion turns pixels gray, insertion restores pixels in a blurred image, the most important pixels first. With a
faithful map, the target's probability falls fast under deletion and rises fast under insertion. The areas under the
curves are compared with baselines: maps that do not depend on the model.
"""

from collections.abc import Callable
from statistics import mean

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from scenelab.attribution import IntegratedGradients
from scenelab.classifier import Model, eval_mode, logits_of
from scenelab.evaluation.attribution_gallery import BATCH_SIZE, compute_maps
from scenelab.evaluation.attribution_results import Completeness, CurveSummary, Faithfulness, Gain, MethodFaithfulness
from scenelab.evaluation.intervals import mean_interval
from scenelab.evaluation.predict import top1
from scenelab.evaluation.results import stamp_test
from scenelab.progress import progress
from scenelab.runs.network import Stored

BLUR = 11.0  # standard deviation in pixels for an image of 128 pixels; it scales with the image
GRAY = 0.5  # value of deleted pixels, for images in [0, 1]
STEPS = 20
BLOB_SIZE = 16  # pixels per value of a blob map, as in the last feature maps of our networks


def areas(curves: Float[Tensor, "n s"]) -> Float[Tensor, " n"]:
    """Return the area in [0, 1] under each probability curve; lower is better for deletion, higher for insertion."""
    return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1), dim=1)


def deletion_insertion(
    model: Model,
    images: Float[Tensor, "n c h w"],
    maps: Float[Tensor, "n 1 h w"],
    targets: Int64[Tensor, " n"],
    *,
    steps: int = STEPS,
) -> dict[str, Float[Tensor, "n s"]]:
    """Return the target's probability after 0, 1, … `steps` steps, N×(steps + 1), for `deletion` and `insertion`.

    Each step replaces the same number of pixels. Ties are broken by one random order for all images.
    """
    blurred, gray = blur(images), torch.full_like(images, GRAY)
    pixels = maps.shape[2] * maps.shape[3]
    shuffled = torch.randperm(pixels, generator=torch.Generator().manual_seed(0)).to(maps.device)
    order = shuffled[maps.flatten(1)[:, shuffled].argsort(dim=1, descending=True, stable=True)]
    ranks = order.argsort(dim=1).view_as(maps)
    curves: dict[str, list[Tensor]] = {"deletion": [], "insertion": []}
    with eval_mode(model), torch.no_grad():
        for step in range(steps + 1):
            replaced = ranks < round(pixels * step / steps)
            for kind, inside, outside in (("deletion", gray, images), ("insertion", images, blurred)):
                logits = logits_of(model, torch.where(replaced, inside, outside))
                curves[kind].append(logits.softmax(dim=1).gather(1, targets[:, None])[:, 0])
    return {kind: torch.stack(points, dim=1) for kind, points in curves.items()}


def blur(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Return images after a Gaussian blur with a standard deviation of 11 pixels per 128 pixels of width."""
    from torchvision.transforms.v2.functional import gaussian_blur  # torchvision is slow to import

    sigma = BLUR * images.shape[-1] / 128
    side = min(2 * round(3 * sigma) + 1, 2 * (min(images.shape[2:]) // 2) - 1)
    return gaussian_blur(images, [side, side], [sigma, sigma])


def edge_map(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return the Sobel gradient magnitude of each image's mean over channels, a map independent of the model."""
    gray = images.mean(dim=1, keepdim=True)
    sobel = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], dtype=images.dtype, device=images.device)
    kernels = torch.stack([sobel, sobel.t()])[:, None]
    return F.conv2d(F.pad(gray, (1, 1, 1, 1), mode="replicate"), kernels).square().sum(dim=1, keepdim=True).sqrt()


def random_map(images: Float[Tensor, "n c h w"], *, seed: int = 0) -> Float[Tensor, "n 1 h w"]:
    """Return maps of independent random values, uniform in [0, 1)."""
    generator = torch.Generator(device=images.device).manual_seed(seed)
    shape = (len(images), 1, *images.shape[2:])
    return torch.rand(shape, generator=generator, dtype=images.dtype, device=images.device)


def blob_map(images: Float[Tensor, "n c h w"], *, seed: int = 1) -> Float[Tensor, "n 1 h w"]:
    """Return maps of uniform random values, one per 16×16 pixels, upsampled bilinearly as in Grad-CAM."""
    height, width = images.shape[2:]
    coarse = images.new_empty(len(images), 1, max(2, height // BLOB_SIZE), max(2, width // BLOB_SIZE))
    return F.interpolate(random_map(coarse, seed=seed), (height, width), mode="bilinear", align_corners=False)


def center_map(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return identical maps with a Gaussian at the image center, the usual place of a photograph's subject."""
    rows, columns = (torch.linspace(-1, 1, side, dtype=images.dtype, device=images.device) for side in images.shape[2:])
    value = torch.exp(-2 * (rows[:, None].square() + columns.square()))
    return value.expand(len(images), 1, *images.shape[2:]).contiguous()


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "random": random_map,
    "edges": edge_map,
    "blobs": blob_map,
    "middle": center_map,
}


def measure_faithfulness(stored: Stored, images: Float[Tensor, "n 3 h w"], names: tuple[str, ...]) -> Faithfulness:
    """Return deletion and insertion results of methods and baselines for the predicted class of each image."""
    model, targets = stored.model, top1(stored.model, images, batch_size=BATCH_SIZE)[1]
    methods: dict[str, MethodFaithfulness] = {}
    known: dict[str, dict[str, list[float]]] = {"deletion": {}, "insertion": {}}  # areas of each baseline
    with progress("faithfulness", len(images) * (len(names) + len(BASELINES))) as advance:
        for name in (*BASELINES, *names):
            maps = BASELINES[name](images) if name in BASELINES else compute_maps(name, model, images, targets)
            batches = []
            for parts in zip(*(values.split(BATCH_SIZE) for values in (images, maps, targets)), strict=True):
                batches.append(deletion_insertion(model, *parts))
                advance(len(parts[0]))
            summaries = {}
            for kind, sign in (("deletion", -1), ("insertion", 1)):
                curves = torch.cat([part[kind] for part in batches])
                values, curve = areas(curves).tolist(), curves.mean(dim=0).tolist()
                better = {other: gain(values, baseline, sign) for other, baseline in known[kind].items()}
                area, interval = mean(values), mean_interval(values)
                summaries[kind] = CurveSummary(curve=curve, area=area, interval=interval, better=better)
                if name in BASELINES:
                    known[kind][name] = values
            methods[name] = MethodFaithfulness(baseline=name in BASELINES, **summaries)
    return Faithfulness(**stamp_test(names, images), methods=methods)


def gain(values: list[float], baseline: list[float], sign: int) -> Gain:
    """Return the mean over images of `sign` · (area - baseline's area); `sign` is -1 for deletion, 1 for insertion."""
    gains = [sign * (first - second) for first, second in zip(values, baseline, strict=True)]
    return Gain(mean=mean(gains), interval=mean_interval(gains))


def measure_completeness(stored: Stored, images: Float[Tensor, "n 3 h w"], names: tuple[str, ...]) -> Completeness:
    """Return the completeness of integrated gradients for the predicted classes.

    `names`, all methods that the user requested, is only stored in the result.
    """
    method, targets = IntegratedGradients(), top1(stored.model, images, batch_size=BATCH_SIZE)[1]
    values = method(stored.model, images, targets).contiguous(memory_format=torch.channels_last)
    gap = method.completeness_gap(stored.model, images, values, targets)
    explained = (values.sum(dim=(1, 2, 3)) - gap).abs().mean().item()
    return Completeness(**stamp_test(names, images), gap=gap.abs().mean().item(), explained=explained)
