import pytest
import torch
from torch import nn
from torch.optim import Muon

from scenelab.training.config import OptimizerConfig
from scenelab.training.optim import MuonOverFilters, build_optimizers, set_learning_rate


def channels_last_conv() -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(5, 7, 3).to(memory_format=torch.channels_last)


def test_muon_over_filters_is_torchs_muon_on_the_flattened_filters():
    conv = channels_last_conv()
    weight = conv.weight
    matrix = weight.detach().permute(0, 2, 3, 1).reshape(7, -1).clone().requires_grad_()
    ours = MuonOverFilters([weight], lr=0.1, momentum=0.9, weight_decay=0.01)
    oracle = Muon([matrix], lr=0.1, momentum=0.9, weight_decay=0.01, adjust_lr_fn="match_rms_adamw")
    for seed in range(3):
        gradient = torch.randn(weight.shape, generator=torch.Generator().manual_seed(seed))
        weight.grad = gradient.clone(memory_format=torch.channels_last)
        matrix.grad = gradient.permute(0, 2, 3, 1).reshape(7, -1).clone()
        ours.step()
        oracle.step()
    assert torch.equal(weight.permute(0, 2, 3, 1).reshape(7, -1), matrix)


def test_muon_takes_a_gradient_in_either_layout():
    results = []
    for layout in (torch.channels_last, torch.contiguous_format):
        conv = channels_last_conv()
        optimizer = MuonOverFilters([conv.weight], lr=0.1, momentum=0.9, weight_decay=0.0)
        conv.weight.grad = torch.ones_like(conv.weight).contiguous(memory_format=layout)
        optimizer.step()
        results.append(conv.weight.detach().clone())
    assert torch.equal(*results)


def test_muon_refuses_weights_that_it_could_not_update_in_place():
    with pytest.raises(ValueError, match="channels-last"):
        MuonOverFilters([nn.Conv2d(5, 7, 3).weight], lr=0.1, momentum=0.9, weight_decay=0.0)


def test_muon_leaves_every_other_parameter_to_adamw():
    model = nn.Sequential(channels_last_conv(), nn.BatchNorm2d(7), nn.Flatten(), nn.Linear(7, 3))
    muon, adamw = build_optimizers(model, OptimizerConfig(name="muon", decay_vectors=False))
    assert isinstance(muon, MuonOverFilters)
    assert muon.weights == [model[0].weight]
    held = {id(parameter) for group in adamw.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for parameter in model.parameters() if parameter is not model[0].weight}


def test_zero_grad_clears_the_weights_and_the_matrices():
    conv = channels_last_conv()
    optimizer = MuonOverFilters([conv.weight], lr=0.1, momentum=0.9, weight_decay=0.0)
    conv.weight.grad = torch.ones_like(conv.weight)
    optimizer.step()
    optimizer.zero_grad()
    assert conv.weight.grad is None
    assert optimizer.param_groups[0]["params"][0].grad is None


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
