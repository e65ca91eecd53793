"""Tests of attributions, against a planted model that looks at a known place, and by hand."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from scenelab.attribution import GradientTimesInput, Saliency
from scenelab.evaluation.attribution_gallery import divide_by_mean, scale_maps, scale_together, select_examples
from scenelab.evaluation.attribution_plots import paint
from scenelab.evaluation.attribution_results import LayerCheck
from scenelab.evaluation.faithfulness import BASELINES, GRAY, areas, blur, deletion_insertion, gain
from scenelab.evaluation.localization import Overlap, overlaps, pair_up, peak, pointing_game, summarize
from scenelab.evaluation.sanity import layer_groups, randomize_layers, rank_correlation, unrandomized
from scenelab.evaluation.sanity import verdict as judge
from scenelab.models.registry import create_model

SIDE = 32
PATCH = slice(8, 16)
TARGETS = torch.zeros(4, dtype=torch.int64)
random_map, edge_map, blob_map, center_map = BASELINES.values()


def planted(images: torch.Tensor) -> torch.Tensor:
    """Class 0 is how much the patch varies from pixel to pixel, which blurring takes away."""
    patch = images[:, :, PATCH, PATCH]
    contrast = (patch[..., 1:] - patch[..., :-1]).abs().mean(dim=(1, 2, 3))
    return torch.stack([40 * contrast, torch.full_like(contrast, 5.0)], dim=1)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(4, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))


def patch_map(images: torch.Tensor) -> torch.Tensor:
    maps = torch.zeros(len(images), 1, SIDE, SIDE)
    maps[:, :, PATCH, PATCH] = 1.0
    return maps


# Faithfulness


def test_the_right_map_beats_the_baselines_and_the_wrong_one_loses(images):
    right = deletion_insertion(planted, images, patch_map(images), TARGETS)
    wrong = deletion_insertion(planted, images, -patch_map(images), TARGETS)
    for baseline in (random_map(images), edge_map(images)):
        other = deletion_insertion(planted, images, baseline, TARGETS)
        for better, worse in ((right, other), (other, wrong)):
            assert (areas(better["deletion"]) < areas(worse["deletion"])).all()
            assert (areas(better["insertion"]) > areas(worse["insertion"])).all()


def test_curves_start_and_end_at_the_image_and_its_replacements(images):
    curves = deletion_insertion(planted, images, random_map(images), TARGETS, steps=4)
    assert curves["deletion"].shape == (4, 5)
    inputs = (images, blur(images), torch.full_like(images, GRAY))
    whole, blurred, gray = (planted(batch).softmax(dim=1)[:, 0] for batch in inputs)
    torch.testing.assert_close(curves["deletion"][:, [0, -1]], torch.stack([whole, gray], dim=1))
    torch.testing.assert_close(curves["insertion"][:, [0, -1]], torch.stack([blurred, whole], dim=1))


@pytest.mark.parametrize(("maps", "top", "bottom"), [("ramp", 0.0, 0.5), ("zeros", 0.25, 0.25)])
def test_the_most_important_pixels_go_first_and_ties_in_random_order(images, maps, top, bottom):
    batches = []

    def model(batch):
        batches.append(batch)
        return batch.new_ones(len(batch), 2)

    values = torch.arange(SIDE * SIDE, dtype=torch.float32) if maps == "ramp" else torch.zeros(SIDE * SIDE)
    deletion_insertion(model, images, values.view(1, 1, SIDE, SIDE).expand(4, -1, -1, -1), TARGETS, steps=4)
    deleted = (batches[2] != images).any(dim=1).float()  # after a quarter
    assert deleted[:, : SIDE // 2].mean().item() == pytest.approx(top, abs=0.06)
    assert deleted[:, SIDE // 2 :].mean().item() == pytest.approx(bottom, abs=0.06)
    if maps == "ramp":
        assert not deleted[:, : SIDE * 3 // 4].any()


def test_areas_and_gains_by_hand():
    assert areas(torch.tensor([[1.0, 0.5, 0.0], [0.0, 0.0, 1.0]])).tolist() == [0.5, 0.25]
    assert gain([0.5, 0.75], [0.25, 0.25], 1).mean == 0.375
    assert gain([0.5, 0.75], [0.25, 0.25], -1).mean == -0.375
    assert gain([0.5], [0.25], 1).interval is None


def test_edges_are_where_brightness_changes():
    images = torch.zeros(1, 3, 8, 8)
    images[:, :, :, 4:] = 1.0
    edges = edge_map(images)[0, 0]
    assert edges[:, 3:5].min() == 4.0
    assert not edges[:, [0, 1, 2, 5, 6, 7]].any()


def test_random_coarse_and_central_baselines():
    images = torch.rand(2, 3, 64, 64)
    blobs, noise = blob_map(images), random_map(images)
    assert torch.equal(blobs, blob_map(images))
    assert torch.equal(noise, random_map(images))
    assert not torch.equal(noise, random_map(images, seed=1))
    assert blobs.shape == noise.shape == (2, 1, 64, 64)
    assert blobs.diff(dim=3).abs().mean() < 0.2 * noise.diff(dim=3).abs().mean()
    assert set(peak(center_map(images)[0])) <= {31, 32}


# Sanity


def test_rank_correlation_by_hand():
    """Spearman with a tie: ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3. Then many ties, as SciPy has it."""
    first = torch.tensor([1.0, -2.0, 2.0, 5.0]).view(1, 1, 2, 2)
    second = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    assert rank_correlation(first, second).item() == pytest.approx(4.5 / math.sqrt(4.5 * 5))
    assert rank_correlation(first, first).item() == pytest.approx(1)
    assert rank_correlation(second, 5 - second).item() == pytest.approx(-1)
    assert rank_correlation(first, torch.ones_like(first)).isnan()
    assert rank_correlation(first, first.where(first != 1, math.nan)).isnan()
    maps, others = torch.rand(2, 5, 1, 8, 8, generator=torch.Generator().manual_seed(0)).mul(9).round()
    expected = [spearmanr(*pair).statistic for pair in zip(maps.flatten(1), others.flatten(1), strict=True)]
    assert rank_correlation(maps, -others).tolist() == pytest.approx(expected)


def test_a_map_of_edges_fails_and_a_gradient_does_not(images):
    torch.manual_seed(0)
    model = create_model("simplenet-small", num_classes=5)
    before = [value.clone() for value in model.state_dict().values()]
    state = torch.get_rng_state()
    failing = randomize_layers(model, lambda network: edge_map(images))
    assert all(check.cascading == pytest.approx(1.0) for check in failing)
    assert judge(failing).startswith("fails")
    passing = randomize_layers(model, lambda network: Saliency()(network, images, TARGETS))
    assert not judge(passing).startswith("fails")
    assert all(check.cascading < 0.7 for check in passing)
    assert (passing[0].layer, passing[-1].layer) == ("network.fc", "network.features.0")
    assert passing[0].cascading == passing[0].independent
    assert all(torch.equal(one, other) for one, other in zip(before, model.state_dict().values(), strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert passing == randomize_layers(model, lambda network: Saliency()(network, images, TARGETS))


def test_independent_randomization_changes_one_layer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
    trained = [parameter.clone() for parameter in model.parameters()]
    changed = []

    def explain(network: nn.Module) -> torch.Tensor:
        pairs = zip(network.parameters(), trained, strict=True)
        changed.append([not torch.equal(one, other) for one, other in pairs])
        return torch.rand(1, 1, 2, 2)

    randomize_layers(model, explain)
    first, last = [True, True, False, False], [False, False, True, True]
    assert changed == [[False] * 4, last, last, [True] * 4, first]  # as trained, then cascading and independent


def test_a_normalization_goes_with_its_layer():
    network = create_model("residual-small", num_classes=4)
    groups = layer_groups(network)
    assert groups[0] == ["network.features.0.0", "network.features.0.1"]
    assert groups[-1] == ["network.fc"]
    assert len(groups) == 11
    assert unrandomized(network) == []
    transformer = layer_groups(create_model("vit", num_classes=4))
    assert all(len(names) == 1 for names in transformer)  # its normalizations precede their layers
    bare = nn.Sequential(nn.Linear(2, 2))
    bare.extra = nn.Parameter(torch.zeros(2))
    assert unrandomized(bare) == ["extra"]
    counts = []
    randomize_layers(network, lambda model: torch.rand(1, 1, 2, 2), on_progress=counts.append)
    assert sum(counts) == 1 + 2 * len(groups)


def test_empty_maps_do_not_pass():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    maps = iter([torch.rand(2, 1, 2, 2), *[torch.zeros(2, 1, 2, 2)] * 2])
    (check,) = randomize_layers(model, lambda network: next(maps))
    assert check.cascading is check.error is None
    assert judge([check]).startswith("undecided: the randomized network's")


@pytest.mark.parametrize(
    ("last", "first", "start"),
    [
        ((0.2, 0.0), (0.9, 0.0), "fails"),
        ((0.3, 0.0), (0.1, 0.0), "passes: "),
        ((0.9, 0.0), (0.1, 0.0), "passes in part"),
        ((0.5, 0.0), (0.5, 0.0), "undecided"),
        ((0.3, 0.0), (0.3, 0.2), "undecided"),  # at the worse end of the error
        ((0.6, 0.2), (0.1, 0.0), "passes in part"),
    ],
)
def test_verdicts_in_words(last, first, start):
    checks = [LayerCheck(name, mean, 0.0, error, 8) for name, (mean, error) in (("b", last), ("a", first))]
    assert judge(checks).startswith(start)


def test_a_verdict_names_insensitive_layers():
    text = judge([LayerCheck("b", 0.3, 0.9), LayerCheck("m", 0.2, 0.8), LayerCheck("a", 0.1, 0.2)])
    assert text.endswith("; alone random, b, m hardly change them")


# Localization


def test_a_map_on_one_object_by_hand():
    values, other = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
    values[0, 0, 0], values[0, 3, 3] = 3.0, 1.0
    masks = {item: torch.zeros(4, 4, dtype=torch.bool) for item in (5, 6, 7)}  # 7 covers no pixel
    masks[5][0, :2] = masks[6][3, 3] = True
    first, second = overlaps(values, other, masks, image=4, scene=2)
    assert first == Overlap(image=4, scene=2, item=5, inside=0.75, elsewhere=0.125, area=0.125, hit=True)
    assert second == Overlap(image=4, scene=2, item=6, inside=0.25, elsewhere=1 / 16, area=1 / 16, hit=False)
    assert overlaps(torch.zeros(1, 4, 4), other, masks, image=4, scene=2) == []
    (swapped, _) = overlaps(other, values, masks, image=4, scene=2)
    assert (swapped.inside, swapped.elsewhere) == (0.125, 0.75)


def test_the_pointing_game_counts_per_image():
    """Overlapping objects count once; of four images one map is empty, and one has no object that covers a pixel."""
    left, top = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    left[:, :2] = top[:2] = True
    maps = torch.zeros(4, 1, 4, 4)
    maps[0, 0, 0, 0] = maps[1, 0, 3, 3] = maps[3, 0, 0, 0] = 1.0
    result = pointing_game(maps, [{0: left, 1: top}, {0: left}, {0: left}, {0: torch.zeros_like(left)}])
    assert (result.images, result.hits, result.empty) == (2, 1, 1)
    assert result.chance == pytest.approx(0.75 + 0.5)
    error = 1.959964 * math.sqrt(0.75 * 0.25 + 0.25)
    assert result.interval == pytest.approx((1.25 - error, 1.25 + error))


@pytest.mark.parametrize("method", [Saliency(), GradientTimesInput()])
def test_a_planted_model_looks_at_its_patch(images, method):
    inside = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    inside[PATCH, PATCH] = True
    maps = method(planted, images, TARGETS).abs().sum(dim=1, keepdim=True)
    even, masks = torch.ones(1, SIDE, SIDE), {0: inside, 1: ~inside}
    entries = [entry for row in maps for entry in overlaps(row, even, masks, image=0, scene=0)]
    patch, rest = summarize(entries, ("patch",))
    assert (patch.item, patch.hits, rest.item) == ("patch", 4, "object 1")
    assert patch.density == pytest.approx((SIDE / 8) ** 2)
    assert patch.elsewhere == pytest.approx(1)
    assert rest.density < 1e-4


def test_density_gain_and_interval_by_hand():
    """Σ inside / Σ area; images of equal ratios have an interval of no width."""
    entries = [
        Overlap(image=n, scene=0, item=0, inside=0.08 * n, elsewhere=0.06 * n, area=0.04 * n, hit=n == 1)
        for n in range(1, 9)
    ]
    (summary,) = summarize(entries, ("bed",))
    assert (summary.density, summary.elsewhere, summary.gain) == pytest.approx((2, 1.5, 0.5))
    assert summary.interval == pytest.approx((2, 2))
    assert summary.gain_interval == pytest.approx((0.5, 0.5))
    assert (summary.images, summary.hits, summary.verdict) == (8, 1, "more")
    assert summary.chance == pytest.approx(1.44)
    (few,) = summarize(entries[:7], ("bed",))
    assert (few.interval, few.verdict) == (None, "too few")
    swapped = [replace(entry, inside=entry.elsewhere, elsewhere=entry.inside) for entry in entries]
    assert summarize(swapped, ("bed",))[0].verdict == "less"


def test_peaks_and_partners_by_hand():
    """The peak is the middle of equal values; a partner is of the same scene if there is one."""
    values = torch.zeros(1, 5, 5)
    values[0, 1:4, 2:5] = 2.0
    assert peak(values) == (2, 3)
    assert pair_up(torch.tensor([2, 2, 2, 5, 7])) == [1, 2, 0, 4, 0]


# Choice and scale


def test_the_most_confident_correct_and_wrong_predictions_are_selected():
    logits = torch.tensor([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0], [0.0, 3.0], [4.0, 0.0]])
    labels = torch.tensor([0, 0, 0, 0, 1])
    rows = select_examples(logits, labels, count=2, per_class=True)
    assert rows == {"right": [1, 0], "wrong": [4, 3], "classes": [1, 4]}
    assert list(select_examples(logits, labels, count=2, per_class=False)) == ["right", "wrong"]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_images_with_undefined_scores_are_in_no_gallery(value):
    logits = torch.tensor([[value, 0.0], [5.0, 0.0], [0.0, 1.0], [value, 3.0]])
    rows = select_examples(logits, torch.tensor([0, 0, 0, 1]), count=2, per_class=True)
    assert rows == {"right": [1], "wrong": [2], "classes": [1]}
    rows = select_examples(logits * math.nan, torch.tensor([0, 0, 0, 1]), count=2, per_class=True)
    assert rows == {"right": [], "wrong": [], "classes": []}


def test_maps_are_scaled_to_a_percentile_or_a_limit():
    maps = torch.zeros(3, 1, 10, 10)
    maps[0] = torch.arange(100.0).view(1, 10, 10)
    maps[1, 0, 0, 0] = 4.0
    scaled, limits = scale_maps(maps, percentile=50)
    assert limits == pytest.approx([49.5, 4.0, 0.0])
    assert scaled.amax(dim=(1, 2, 3)).tolist() == [1, 1, 0]
    assert scaled[0, 0, 2, 0].item() == pytest.approx(20 / 49.5)
    shared, limits = scale_maps(maps, percentile=50, limit=99.0)
    assert limits == [99.0] * 3
    assert shared[1, 0, 0, 0].item() == pytest.approx(4 / 99)


def test_one_scale_for_all_is_in_units_of_the_mean():
    small = torch.ones(2, 1, 10, 10)
    small[0, 0, 0] = 9.0
    maps = {"small": small, "large": 1000 * small}
    assert divide_by_mean(small).mean(dim=(1, 2, 3)).tolist() == pytest.approx([1, 1])
    assert not divide_by_mean(torch.zeros(1, 1, 2, 2)).any()
    scaled, limits = scale_together(maps, "all")
    torch.testing.assert_close(scaled["small"], scaled["large"])
    assert limits["small"] == limits["large"] == pytest.approx([9 / 1.8] * 2)
    assert scaled["small"][1].max().item() == pytest.approx(1.8 / 9)
    assert scale_together(maps, "method")[1] == {"small": [9.0, 9.0], "large": [9000.0, 9000.0]}


def test_a_map_is_painted_alone_or_over_the_gray_image():
    image, values = torch.full((3, 2, 2), 0.5), torch.tensor([[0.0, 1.0], [0.5, 0.2]])
    heat, overlay = paint(image, values, "heat"), paint(image, values, "overlay")
    assert heat.shape == (2, 2, 3)
    assert overlay == pytest.approx(0.25 * 0.5 + 0.75 * heat)
