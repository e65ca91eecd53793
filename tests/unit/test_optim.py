import pytest
import torch
from torch import nn

from scenelab.runs.config import OptimizerConfig
from scenelab.training.muon import COEFFICIENTS, STEPS, Muon, orthogonalize
from scenelab.training.optim import build_optimizers, set_learning_rate


def channels_last_conv() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(5, 7, 3).to(memory_format=torch.channels_last)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def iterate(matrix: torch.Tensor) -> torch.Tensor:
    """Newton and Schulz as Jordan et al. write it, one product with the whole matrix a step."""
    a, b, c = COEFFICIENTS
    result = matrix / matrix.norm()
    for _ in range(STEPS):
        gram = result @ result.T
        result = a * result + (b * gram + c * gram @ gram) @ result
    return result


@pytest.mark.parametrize("shape", [(7, 45), (45, 7), (16, 16), (1, 9), (64, 576)])
def test_the_gathered_iteration_is_the_written_one(shape):
    matrix = drawn(*shape, dtype=torch.float64)
    torch.testing.assert_close(orthogonalize(matrix), iterate(matrix), rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(orthogonalize(matrix.float()).double(), iterate(matrix), rtol=0, atol=2e-5)


def test_singular_values_end_near_one_and_stay_bounded_in_float32():
    values = torch.linalg.svdvals(orthogonalize(drawn(32, 288)))
    assert 0.6 < values.min() < values.max() < 1.3
    left, right = (torch.linalg.qr(drawn(side, 64, dtype=torch.float64)).Q for side in (64, 576))
    matrix = left @ torch.diag(torch.logspace(0, -8, 64, dtype=torch.float64)) @ right.T
    result = orthogonalize(matrix.float()).double()
    assert (result - iterate(matrix)).norm() < 0.01 * iterate(matrix).norm()
    assert torch.linalg.matrix_norm(result, 2) < 1.3
    assert torch.equal(orthogonalize(torch.zeros(3, 5)), torch.zeros(3, 5))  # no gradient moves nothing


def test_muon_is_torchs_muon_on_the_flattened_filters():
    conv = channels_last_conv()
    weight = conv.weight
    matrix = weight.detach().permute(0, 2, 3, 1).reshape(7, -1).clone().requires_grad_()
    ours = Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.01)
    oracle = torch.optim.Muon([matrix], lr=0.1, momentum=0.9, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    for seed in range(3):
        gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        weight.grad = gradient.clone(memory_format=torch.channels_last)
        matrix.grad = gradient.permute(0, 2, 3, 1).reshape(7, -1).clone()
        ours.step()
        oracle.step()
    # torch's iterates in bfloat16, with 8 bits of precision; the update is 0.1 · 0.2 · √45 = 0.13 times that
    torch.testing.assert_close(weight.permute(0, 2, 3, 1).reshape(7, -1), matrix, rtol=0, atol=0.004)


def test_muon_gives_the_same_in_either_layout():
    results = []
    for layout in (torch.channels_last, torch.contiguous_format):
        weight = nn.Parameter(channels_last_conv().weight.detach().contiguous(memory_format=layout))
        optimizer = Muon([weight], lr=0.1, momentum=0.9, weight_decay=0.0)
        weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
        optimizer.step()
        results.append(weight.detach().clone())
    torch.testing.assert_close(*results)


def test_muon_leaves_every_other_parameter_to_adamw():
    model = nn.Sequential(channels_last_conv(), nn.BatchNorm2d(7), nn.Flatten(), nn.Linear(7, 3))
    muon, adamw = build_optimizers(model, OptimizerConfig(name="muon", decay_vectors=False))
    assert isinstance(muon, Muon)
    assert muon.param_groups[0]["params"] == [model[0].weight]
    held = {id(parameter) for group in adamw.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.parameters() if parameter is not model[0].weight}


@pytest.mark.parametrize("decay_vectors", [True, False])
def test_vectors_are_decayed_only_where_asked(decay_vectors):
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    (optimizer,) = build_optimizers(model, OptimizerConfig(weight_decay=0.5, decay_vectors=decay_vectors))
    decays = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decays[id(model[0].weight)] == 0.5
    assert decays[id(model[0].bias)] == decays[id(model[1].weight)] == (0.5 if decay_vectors else 0.0)


def test_the_schedule_scales_each_groups_own_peak():
    model = nn.Sequential(channels_last_conv(), nn.Flatten(), nn.Linear(7, 3))
    optimizers = build_optimizers(model, OptimizerConfig(name="muon", lr=0.02, adam_lr=0.004))
    assert set_learning_rate(optimizers, 0.5) == pytest.approx(0.01)
    assert optimizers[1].param_groups[0]["lr"] == pytest.approx(0.002)


@pytest.mark.parametrize("name", ["sgd", "muon"])
def test_parameters_have_learning_rates_of_their_own(name):
    model = nn.Sequential(channels_last_conv(), nn.Flatten(), nn.Linear(7, 3))
    rates = dict(zip(model.parameters(), (0.1, 0.1, 1.0, 0.5), strict=False))
    optimizers = build_optimizers(model, OptimizerConfig(name=name, lr=0.02, adam_lr=0.004), rates)
    set_learning_rate(optimizers, 0.5)
    found = {p: group["lr"] for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    assert found.keys() == set(model.parameters())
    for parameter, rate in found.items():
        peak = 0.004 if name == "muon" and parameter.ndim != 4 else 0.02
        assert rate == pytest.approx(0.5 * peak * rates[parameter])
