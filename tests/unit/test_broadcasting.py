"""One baseline for many images, and more classes than a batch shows."""

import pytest
import torch
from torch import Generator, nn

from scenelab.attribution import IntegratedGradients
from scenelab.data.augment import mix_batch
from scenelab.data.augment_config import Augment


@pytest.mark.parametrize("shape", [(1, 3, 6, 6), (3, 6, 6), (3, 1, 1)])
def test_a_baseline_of_one_image_is_expanded_over_the_batch(shape):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(64, 5)).double()
    images, baseline = torch.rand(3, 3, 6, 6, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
    one, each = (IntegratedGradients(steps=3, baseline=x) for x in (baseline, baseline.expand_as(images).clone()))
    values = one(model, images)
    torch.testing.assert_close(values, each(model, images))
    assert not torch.allclose(values, IntegratedGradients(steps=3)(model, images))
    gaps = [method.completeness_gap(model, images, values) for method in (one, each)]
    torch.testing.assert_close(*gaps)


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_mixed_labels_have_a_column_for_each_class_of_the_model(name):
    images, labels = torch.rand(4, 3, 8, 8), torch.tensor([1, 2, 1, 2])
    shares = mix_batch(images, labels, Augment(**{name: 1.0}), Generator().manual_seed(3), num_classes=7)[1]
    assert shares.shape == (4, 7)
    assert (shares[:, [0, 3, 4, 5, 6]] == 0).all()
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(4))
