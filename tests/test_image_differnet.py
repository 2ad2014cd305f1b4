"""DifferNet: means of maps at several sizes, a flow of them, and turned pictures."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.image import DifferNet
from skad.image.density._differnet import Dense, DifferNetNetwork
from skad.nn.flow import Flow
from skad.nn.joint_flow import JointCoupling

SMALL = {"n_steps": 2, "hidden_size": 6, "lr": 0.02, "max_epochs": 8, "random_state": 0}
STILL = {**SMALL, "n_rotations": 0, "smoothing": 0}
BACKBONE = {"layers": ["scale2"]}


def pictures(n, size=(24, 24), seed=0):
    rng = np.random.default_rng(seed)
    base = np.random.default_rng(9).normal(0.5, 0.1, size=size)
    return base * rng.normal(1, 0.05, (n, 1, 1)) + rng.normal(0, 0.02, (n, *size))


pytestmark = pytest.mark.usefixtures("own_generator")


@pytest.fixture(scope="module")
def still():
    settings = {**STILL, **BACKBONE, "n_scales": 2, "contamination": 0.1}
    return DifferNet(**settings).fit(pictures(12))


def by_hand(detector, X):
    """Return standardized features (n, d) of pictures, and what the flow makes."""
    x, found = torch.as_tensor(X)[:, None], []
    for i in range(detector.n_scales):
        if i:
            half = [n // 2 for n in x.shape[2:]]
            x = F.interpolate(x, half, mode="bilinear", antialias=True)
        maps = detector.embedding_.feature_maps(x[:, 0, :, :, None])
        found += [each.mean((2, 3)) for each in maps]
    network = detector.net_.double()
    rows = (torch.cat(found, 1) - network.scale.mean) / network.scale.std
    return rows, network.flow([rows])


def test_the_log_determinant_is_that_of_the_jacobian():
    flow = Flow(
        JointCoupling(6, lambda *n: Dense(*n, 5), clamp=3.0) for _ in range(3)
    ).double()
    for weight in flow.parameters():
        nn.init.normal_(weight, 0, 0.7)
    x = torch.randn(1, 6).double()
    jacobian = torch.autograd.functional.jacobian(lambda row: flow([row])[0][0], x)
    _, logdet = flow([x])
    expected = torch.linalg.slogdet(jacobian[0, :, 0]).logabsdet
    assert abs(expected) > 0.1
    assert_allclose(logdet.detach(), [expected], rtol=1e-9)
    assert_allclose(flow.inverse(flow([x])[0])[0].detach(), x, atol=1e-9)


def test_it_scores_the_length_of_what_the_flow_makes(still):
    X = pictures(5, seed=1)
    rows, ((z,), logdet) = by_hand(still, X)
    assert rows.shape[1] == 2 * 37
    assert_allclose(-still.score_samples(X), z.square().mean(1), rtol=1e-4)
    normal = torch.distributions.Normal(0, 1)
    likelihood = normal.log_prob(z).sum(1) + logdet
    constant = np.log(2 * np.pi) / 2
    loss = still.net_.double().loss(torch.as_tensor(X).flatten(1), None)
    assert_allclose(loss, -likelihood.mean() / 74 - constant, rtol=1e-4)


def test_features_are_brought_to_unit_scale(still):
    X = pictures(12)
    rows, _ = by_hand(still, X)
    assert_allclose(rows.mean(0), 0, atol=1e-3)
    varies = still.net_.scale.std != 1
    assert varies.sum() > 60
    assert_allclose(rows.std(0, correction=0)[varies], 1, rtol=1e-3)


def test_its_map_is_what_a_pixel_changes(still):
    X = pictures(2, seed=1)
    X[:, 8:12, 4:10] = 0.9
    maps, network = still.transform(X), still.net_.double()

    def unlikely(x):
        z, logdet = network.transformed(x[:, None])
        return (z.square().sum(1) / 2 - logdet) / 74

    x, step = torch.tensor(X), 1e-5
    for row, column in [(0, 0), (9, 6), (20, 3), (23, 23)]:
        moved = torch.zeros_like(x)
        moved[:, row, column] = step
        slope = (unlikely(x + moved) - unlikely(x - moved)) / (2 * step)
        assert_allclose(maps[:, row, column], slope.abs(), rtol=1e-4, atol=1e-7)


def test_channels_do_not_cancel_in_the_map():
    X = np.stack([pictures(12, seed=i) for i in range(3)], axis=-1)
    backbone = {"backbone": nn.Sequential(nn.Identity()), "layers": ["0"]}
    settings = {**STILL, **backbone, "contamination": 0.1, "n_scales": 1}
    detector = DifferNet(**settings, normalization=None).fit(X)
    network, x = detector.net_.double(), torch.tensor(X[:2]).movedim(3, 1)
    x.requires_grad_(True)
    z, logdet = network.transformed(x)
    (z.square().sum(1) / 2 - logdet).sum().backward()
    slopes = x.grad / z.shape[1]
    assert_allclose(detector.transform(X[:2]), slopes.abs().mean(1), rtol=1e-3)
    assert slopes.mean(1).abs().sum() < 0.9 * slopes.abs().mean(1).sum()


def test_derivatives_are_smoothed_before_their_sizes_are_taken(still):
    X = pictures(2, seed=1)
    smooth = clone(still).set_params(smoothing=2.0).fit(pictures(12))
    # sizes would keep their sum; derivatives of both signs do not
    assert smooth.transform(X).sum() < 0.8 * still.transform(X).sum()


def test_a_turned_picture_keeps_its_score_and_turns_its_map():
    X = pictures(3, seed=1)
    X[:, 3:9, 14:20] = 0.9
    detector = DifferNet(**SMALL, **BACKBONE, n_scales=2, n_scored_rotations=4)
    detector.fit(pictures(12))
    quarter = np.rot90(X, axes=(1, 2)).copy()
    scores, maps = detector.score_samples(X), detector.transform(X)
    assert np.ptp(scores) > 1e-4
    assert_allclose(detector.score_samples(quarter), scores, rtol=1e-5)
    turned = np.rot90(maps, axes=(1, 2))
    assert_allclose(detector.transform(quarter), turned, rtol=1e-3, atol=1e-5)


def test_training_looks_at_turned_pictures():
    """Four quarter turns of a half that is bright are one picture in the mean."""
    network = DifferNetNetwork(
        One(),
        (2, 12, 12),
        *(1, 1, 4, 3.0),
        n_rotations=500,
        n_scored_rotations=1,
        smoothing=0,
    )
    x = torch.zeros(1, 2, 12, 12)
    x[:, :, :6] = 1.0
    seen = network.altered(x.flatten(1))
    assert seen.shape == (500, 2, 12, 12)
    mean = seen.mean(0)[0]
    assert_allclose(mean[3:9, 3:9], 0.5, atol=0.1)
    assert mean[0, 0] < 0.35  # black where nothing is seen
    assert seen[:, 0, 5:7, 5:7].std() > 0.1


class One(nn.Module):
    """Its one map is the picture."""

    def forward(self, x):
        return [x]


@pytest.mark.parametrize(
    "wrong",
    [{"n_scales": 0}, {"n_rotations": -1}, {"n_scored_rotations": 0}, {"clamp": 0.0}],
)
def test_parameters_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        DifferNet(**wrong).fit(pictures(6))
