"""The tests of attention maps, held against a planted model that looks at a known place, and by hand."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from scenelab.attribution import GradientTimesInput, Saliency
from scenelab.attribution.registry import check_methods
from scenelab.errors import LabError
from scenelab.evaluation.attribution_gallery import divide_by_mean, scale_maps, scale_together, select_examples
from scenelab.evaluation.attribution_plots import paint
from scenelab.evaluation.faithfulness import GRAY, blob_map, blur, center_map, deletion_insertion, edge_map, random_map
from scenelab.evaluation.localization import Overlap, overlaps, peak, pointing_game, summarize
from scenelab.evaluation.saliency_tests import _gain, _partners
from scenelab.evaluation.sanity import (
    LayerCheck,
    layer_groups,
    randomize_layers,
    rank_correlation,
    unrandomized,
    verdict,
)
from scenelab.models.registry import create_model

SIDE = 32
PATCH = slice(8, 16)


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
    targets = torch.zeros(4, dtype=torch.int64)
    right = deletion_insertion(planted, images, patch_map(images), targets)
    wrong = deletion_insertion(planted, images, -patch_map(images), targets)
    for baseline in (random_map(images), edge_map(images)):
        other = deletion_insertion(planted, images, baseline, targets)
        assert (right.deletion_area < other.deletion_area).all()
        assert (right.insertion_area > other.insertion_area).all()
        assert (wrong.deletion_area > other.deletion_area).all()
        assert (wrong.insertion_area < other.insertion_area).all()


def test_curves_begin_and_end_where_they_must(images):
    targets = torch.zeros(4, dtype=torch.int64)
    curves = deletion_insertion(planted, images, random_map(images), targets, steps=4)
    assert curves.deletion.shape == (4, 5)
    grey = torch.full_like(images, GRAY)
    whole, gone, bare = (planted(given).softmax(dim=1)[:, 0] for given in (images, blur(images), grey))
    torch.testing.assert_close(curves.deletion[:, 0], whole)
    torch.testing.assert_close(curves.deletion[:, -1], bare)
    torch.testing.assert_close(curves.insertion[:, 0], gone)
    torch.testing.assert_close(curves.insertion[:, -1], whole)


def test_the_most_important_pixels_go_first(images):
    seen = []

    def model(given):
        seen.append(given)
        return given.new_ones(len(given), 2)

    ramp = torch.arange(SIDE * SIDE, dtype=torch.float32).view(1, 1, SIDE, SIDE).expand(4, -1, -1, -1)
    deletion_insertion(model, images, ramp, torch.zeros(4, dtype=torch.int64), steps=4)
    deleted = (seen[2] != images).any(dim=1)  # after a quarter
    assert deleted[:, SIDE * 3 // 4 :].float().mean() > 0.99
    assert not deleted[:, : SIDE * 3 // 4].any()


def test_the_area_is_that_below_the_curve():
    from scenelab.evaluation.faithfulness import Curves

    curves = Curves(torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([[0.0, 0.0, 1.0]]))
    assert curves.deletion_area.item() == pytest.approx(0.5)
    assert curves.insertion_area.item() == pytest.approx(0.25)


def test_edges_lie_where_brightness_changes():
    images = torch.zeros(1, 3, 8, 8)
    images[:, :, :, 4:] = 1.0
    found = edge_map(images)[0, 0]
    assert found[:, 3:5].min() == 4.0
    assert not found[:, :3].any()
    assert not found[:, 5:].any()


def test_random_maps_are_a_function_of_the_seed(images):
    assert torch.equal(random_map(images), random_map(images))
    assert not torch.equal(random_map(images), random_map(images, seed=1))


# Sanity


def test_rank_correlation_by_hand():
    """Spearman with a tie: ranks 0, 1.5, 1.5, 3 against 0, 1, 2, 3."""
    first = torch.tensor([1.0, -2.0, 2.0, 5.0]).view(1, 1, 2, 2)
    second = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 2, 2)
    expected = 4.5 / math.sqrt(4.5 * 5)
    assert rank_correlation(first, second).item() == pytest.approx(expected)
    assert rank_correlation(first, first).item() == pytest.approx(1)
    assert rank_correlation(second, 5 - second).item() == pytest.approx(-1)
    assert rank_correlation(first, torch.ones_like(first)).isnan()


def test_a_map_of_edges_fails_and_a_gradient_does_not(images):
    torch.manual_seed(0)
    model = create_model("simplenet-small", num_classes=5)
    before = [value.clone() for value in model.state_dict().values()]
    state = torch.get_rng_state()
    targets = torch.zeros(4, dtype=torch.int64)
    failing = randomize_layers(model, lambda network: edge_map(images))
    assert all(check.cascading == pytest.approx(1.0) for check in failing)
    assert verdict(failing).startswith("fails")
    passing = randomize_layers(model, lambda network: Saliency()(network, images, targets))
    assert not verdict(passing).startswith("fails")
    assert all(check.cascading < 0.7 for check in passing)
    assert passing[0].layer == "network.fc"
    assert passing[-1].layer == "network.features.0"
    assert passing[0].cascading == passing[0].independent
    assert all(torch.equal(one, other) for one, other in zip(before, model.state_dict().values(), strict=True))
    assert torch.equal(state, torch.get_rng_state())
    assert passing == randomize_layers(model, lambda network: Saliency()(network, images, targets))


def test_independent_randomisation_touches_one_layer():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4), nn.ReLU(), nn.Linear(4, 2))
    kept = [parameter.clone() for parameter in model.parameters()]
    touched = []

    def note(network: nn.Module) -> torch.Tensor:
        pairs = zip(network.parameters(), kept, strict=True)
        touched.append([not torch.equal(one, other) for one, other in pairs])
        return torch.rand(1, 1, 2, 2)

    randomize_layers(model, note)
    assert touched == [
        [False] * 4,  # as trained
        [False, False, True, True],  # cascading: the last
        [False, False, True, True],  # independent: the last
        [True] * 4,  # cascading: both
        [True, True, False, False],  # independent: the first
    ]


def test_a_normalisation_goes_with_its_layer():
    network = create_model("residual-small", num_classes=4)
    found = layer_groups(network)
    assert found[0] == ["network.features.0.0", "network.features.0.1"]
    assert found[-1] == ["network.fc"]
    assert len(found) == 11
    assert unrandomized(network) == []
    transformer = layer_groups(create_model("vit", num_classes=4))
    assert all(len(names) == 1 for names in transformer)  # its normalisations stand before what they belong to
    bare = nn.Sequential(nn.Linear(2, 2))
    bare.extra = nn.Parameter(torch.zeros(2))
    assert unrandomized(bare) == ["extra"]
    made = []
    randomize_layers(network, lambda model: torch.rand(1, 1, 2, 2), on_progress=made.append)
    assert sum(made) == 1 + 2 * len(found)


def test_empty_maps_are_no_pass():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 4))
    maps = iter([torch.rand(2, 1, 2, 2), *[torch.zeros(2, 1, 2, 2)] * 2])
    assert verdict(randomize_layers(model, lambda network: next(maps))).startswith(
        "undecided: the randomised network's"
    )


@pytest.mark.parametrize(
    ("last", "first", "start"),
    [(0.2, 0.9, "fails"), (0.3, 0.1, "passes: "), (0.9, 0.1, "passes in part"), (0.5, 0.5, "undecided")],
)
def test_verdicts_in_words(last, first, start):
    assert verdict([LayerCheck("b", last, 0.0), LayerCheck("a", first, 0.0)]).startswith(start)


def test_a_verdict_is_given_at_the_worse_end_of_the_error_and_names_layers_that_are_not_noticed():
    assert verdict([LayerCheck("b", 0.3, 0.0), LayerCheck("a", 0.3, 0.0, 0.2, 8)]).startswith("undecided")
    assert verdict([LayerCheck("b", 0.6, 0.0, 0.2, 8), LayerCheck("a", 0.1, 0.0)]).startswith("passes in part")
    told = verdict([LayerCheck("b", 0.3, 0.9), LayerCheck("m", 0.2, 0.8), LayerCheck("a", 0.1, 0.2)])
    assert told.endswith("; alone random, b, m hardly change them")


# Localisation


def test_a_map_on_one_object_by_hand():
    values, other = torch.zeros(1, 4, 4), torch.ones(1, 4, 4)
    values[0, 0, 0], values[0, 3, 3] = 3.0, 1.0
    masks = {5: torch.zeros(4, 4, dtype=torch.bool), 6: torch.zeros(4, 4, dtype=torch.bool)}
    masks[5][0, :2] = True
    masks[6][3, 3] = True
    masks[7] = torch.zeros(4, 4, dtype=torch.bool)  # covers no pixel
    first, second = overlaps(values, other, masks, image=4, scene=2)
    assert first == Overlap(image=4, scene=2, item=5, inside=0.75, elsewhere=0.125, area=0.125, hit=True)
    assert second == Overlap(image=4, scene=2, item=6, inside=0.25, elsewhere=1 / 16, area=1 / 16, hit=False)
    assert overlaps(torch.zeros(1, 4, 4), other, masks, image=4, scene=2) == []
    (swapped, _) = overlaps(other, values, masks, image=4, scene=2)
    assert (swapped.inside, swapped.elsewhere) == (0.125, 0.75)


def test_the_pointing_game_is_played_image_by_image():
    """Overlapping objects count once; three images, one of them empty, one without an object that covers a pixel."""
    left, top = torch.zeros(4, 4, dtype=torch.bool), torch.zeros(4, 4, dtype=torch.bool)
    left[:, :2], top[:2] = True, True
    maps = torch.zeros(4, 1, 4, 4)
    maps[0, 0, 0, 0], maps[1, 0, 3, 3], maps[3, 0, 0, 0] = 1.0, 1.0, 1.0
    found = pointing_game(maps, [{0: left, 1: top}, {0: left}, {0: left}, {0: torch.zeros_like(left)}])
    assert (found.images, found.hits, found.empty) == (2, 1, 1)
    assert found.chance == pytest.approx(0.75 + 0.5)
    away = 1.959964 * math.sqrt(0.75 * 0.25 + 0.25)
    assert found.interval == (pytest.approx(1.25 - away), pytest.approx(1.25 + away))


def test_of_equal_values_the_middle_one_points():
    values = torch.zeros(1, 5, 5)
    values[0, 1:4, 2:5] = 2.0
    assert peak(values) == (2, 3)


def test_a_planted_model_looks_at_its_patch(images):
    masks = {0: torch.zeros(SIDE, SIDE, dtype=torch.bool), 1: torch.ones(SIDE, SIDE, dtype=torch.bool)}
    masks[0][PATCH, PATCH] = True
    masks[1] &= ~masks[0]
    for method in (Saliency(), GradientTimesInput()):
        maps = method(planted, images, torch.zeros(4, dtype=torch.int64)).abs().sum(dim=1, keepdim=True)
        other = torch.ones(1, SIDE, SIDE)
        looks = [entry for row in maps for entry in overlaps(row, other, masks, image=0, scene=0)]
        found = {gaze.item: gaze for gaze in summarize(looks)}
        assert found[0].hits == 4
        assert found[0].density == pytest.approx((SIDE / 8) ** 2)
        assert found[0].elsewhere == pytest.approx(1)
        assert found[1].density < 1e-4


def test_density_gain_and_interval_by_hand():
    """Σ inside / Σ area; where every image has the same ratio there is nothing to be unsure of."""
    looks = [
        Overlap(image=n, scene=0, item=1, inside=0.08 * n, elsewhere=0.06 * n, area=0.04 * n, hit=n == 1)
        for n in range(1, 9)
    ]
    (gaze,) = summarize(looks)
    assert (gaze.density, gaze.elsewhere, gaze.gain) == (pytest.approx(2), pytest.approx(1.5), pytest.approx(0.5))
    assert gaze.interval == pytest.approx((2, 2))
    assert gaze.gain_interval == pytest.approx((0.5, 0.5))
    assert gaze.verdict == "more"
    assert (gaze.images, gaze.hits) == (8, 1)
    assert gaze.chance == pytest.approx(1.44)
    assert summarize(looks[:7])[0].interval is None
    assert summarize(looks[:7])[0].verdict == "too few"
    turned = [replace(entry, inside=entry.elsewhere, elsewhere=entry.inside) for entry in looks]
    assert summarize(turned)[0].verdict == "less"


def test_partners_are_of_the_same_scene_where_there_is_one():
    assert _partners(torch.tensor([2, 2, 2, 5, 7])) == [1, 2, 0, 4, 0]


def test_gains_have_the_sign_of_what_is_good(images):
    """Of the planted patch's own map: deletion falls and insertion rises faster than any baseline's."""
    targets = torch.zeros(4, dtype=torch.int64)
    right, other = (
        deletion_insertion(planted, images, maps, targets) for maps in (patch_map(images), random_map(images))
    )
    for kind, sign in (("deletion", -1), ("insertion", 1)):
        areas = [getattr(curves, f"{kind}_area").tolist() for curves in (right, other)]
        assert _gain(areas[0], areas[1], sign)["mean"] > 0


def test_coarse_and_central_baselines():
    images = torch.rand(2, 3, 64, 64)
    found = blob_map(images)
    assert found.shape == (2, 1, 64, 64)
    assert torch.equal(found, blob_map(images))
    rough = (found[..., 1:] - found[..., :-1]).abs().mean()
    assert rough < 0.2 * (random_map(images)[..., 1:] - random_map(images)[..., :-1]).abs().mean()
    assert peak(center_map(images)[0]) in {(31, 31), (31, 32), (32, 31), (32, 32)}


def test_equal_values_go_in_a_random_order(images):
    """A map of nothing is no better than a random one: its pixels are not taken from the top."""
    targets = torch.zeros(4, dtype=torch.int64)
    seen = []

    def model(given):
        seen.append(given)
        return given.new_ones(len(given), 2)

    deletion_insertion(model, images, torch.zeros(4, 1, SIDE, SIDE), targets, steps=2)
    deleted = (seen[2] != images).any(dim=1).float()
    assert deleted[:, : SIDE // 2].mean().item() == pytest.approx(0.5, abs=0.06)


# Choice and scale


def test_the_surest_right_and_wrong_guesses_are_chosen():
    logits = torch.tensor([[2.0, 0.0], [5.0, 0.0], [0.0, 1.0], [0.0, 3.0], [4.0, 0.0]])
    labels = torch.tensor([0, 0, 0, 0, 1])
    right, wrong, classes = select_examples(logits, labels, count=2, per_class=True)
    assert right.rows == (1, 0)
    assert wrong.rows == (4, 3)
    assert classes.rows == (1, 4)
    assert [entry.name for entry in select_examples(logits, labels, count=2, per_class=False)] == ["right", "wrong"]


def test_scales_are_stated():
    maps = torch.zeros(3, 1, 10, 10)
    maps[0] = torch.arange(100.0).view(1, 10, 10)
    maps[1, 0, 0, 0] = 4.0
    scaled, limits = scale_maps(maps, percentile=50)
    assert limits == pytest.approx([49.5, 4.0, 0.0])
    assert scaled[0].max() == 1.0
    assert scaled[0, 0, 2, 0].item() == pytest.approx(20 / 49.5)
    assert scaled[1, 0, 0, 0] == 1.0
    assert not scaled[2].any()
    shared, limits = scale_maps(maps, percentile=50, limit=99.0)
    assert limits == [99.0] * 3
    assert shared[1, 0, 0, 0].item() == pytest.approx(4 / 99)


def test_one_scale_for_all():
    """Of maps in units of 1 and of 1,000 neither drowns the other: what is shared is the share of the mean."""
    small = torch.ones(2, 1, 10, 10)
    small[0, 0, 0] = 9.0
    maps = {"small": small, "large": 1000 * small}
    assert divide_by_mean(small).mean(dim=(1, 2, 3)).tolist() == pytest.approx([1, 1])
    scaled, limits = scale_together(maps, "all")
    torch.testing.assert_close(scaled["small"], scaled["large"])
    assert len({limit for values in limits.values() for limit in values}) == 1
    assert limits["small"][0] == pytest.approx(9 / 1.8)
    assert scaled["small"][1].max().item() == pytest.approx(1.8 / 9)
    scaled, limits = scale_together(maps, "method")
    assert limits == {"small": [9.0, 9.0], "large": [9000.0, 9000.0]}
    assert not divide_by_mean(torch.zeros(1, 1, 2, 2)).any()


def test_looks():
    picture, values = torch.full((3, 2, 2), 0.5), torch.tensor([[0.0, 1.0], [0.5, 0.2]])
    heat, over = paint(picture, values, "heat"), paint(picture, values, "overlay")
    assert heat.shape == over.shape == (2, 2, 3)
    assert over == pytest.approx(0.25 * 0.5 + 0.75 * heat)


def test_an_unknown_method():
    with pytest.raises(LabError, match="^--methods has 'magic'; the methods are gradient, "):
        check_methods(("gradient", "magic"))
