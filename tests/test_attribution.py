"""What elements add to a score: gradients along the way from a baseline."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import skad
from skad.nn.architecture import MLP
from skad.nn.attribution import integrated_gradients

pytestmark = pytest.mark.usefixtures("own_generator")


def test_integrated_gradients_are_complete():
    torch.manual_seed(0)
    network = MLP((6,), (1,)).double()

    def score(x):
        return network(x).tanh().squeeze(1)

    x, baseline = torch.randn(5, 6).double(), torch.zeros(5, 6).double()
    parts = integrated_gradients(score, x, baseline, steps=2000)
    assert_allclose(
        parts.sum(1), (score(x) - score(baseline)).detach(), rtol=1e-3, atol=1e-5
    )


def kinked(seed=0):
    """Return the score of a network with kinks, samples and a baseline."""
    generator = torch.Generator().manual_seed(seed)
    weights = [
        torch.randn(size, generator=generator).double()
        for size in ((6, 40), (40, 40), (40, 1))
    ]

    def score(x):
        for weight in weights[:-1]:
            x = (x @ weight - 1).relu()
        return (x @ weights[-1]).squeeze(1)

    x = 3 * torch.randn((30, 6), generator=generator).double()
    return score, x, torch.zeros(6).double()


def test_integrated_gradients_cut_the_way_where_it_has_kinks():
    score, x, baseline = kinked()
    gap = score(x) - score(baseline.expand_as(x))
    seen = []

    def counted(x):
        seen.append(len(x) * x.requires_grad)
        return score(x)

    equal = integrated_gradients(counted, x, baseline, tolerance=np.inf)
    assert sum(seen) == 16 * len(x)
    assert ((equal.sum(1) - gap).abs() > 0.02 * gap.abs()).sum() > 10
    found = integrated_gradients(counted, x, baseline)
    fine = sum(seen) - sum(seen[:1])
    assert ((found.sum(1) - gap).abs() <= 0.0201 * gap.abs()).all()
    exact = integrated_gradients(score, x, baseline, steps=20_000, tolerance=np.inf)
    assert (found - exact).norm() < 0.85 * (equal - exact).norm()
    assert fine < 90 * len(x)
    # as many equal steps miss more
    many = integrated_gradients(score, x, baseline, steps=90, tolerance=np.inf)
    assert ((many.sum(1) - gap).abs() > 0.02 * gap.abs()).sum() > 5
    # the rows of a sample are its own
    alone = [integrated_gradients(score, x[i : i + 1], baseline)[0] for i in (0, 7)]
    assert_allclose(found[[0, 7]], torch.stack(alone), rtol=1e-9, atol=1e-12)
    pictures = integrated_gradients(
        lambda x: score(x.flatten(1)),
        x.reshape(30, 1, 2, 3),
        baseline.reshape(1, 2, 3),
    )
    assert_allclose(pictures.reshape(30, 6), found, rtol=1e-9, atol=1e-12)


def test_integrated_gradients_end_at_jumps():
    seen = []

    def score(x):
        seen.append(len(x))
        return x.sum(1) + (x[:, 0] > 0.3).to(x)

    x = torch.tensor([[1.0, 1.0, 0.0], [0.1, 0.2, 0.3]]).double()
    found = integrated_gradients(score, x, torch.zeros(3).double())
    assert_allclose(found, x)  # what jumps has no gradient
    assert sum(seen) < 200

    def everywhere(x):
        return (1000 * x[:, 0]).floor() + 0 * x.sum(1)

    found = integrated_gradients(everywhere, x, torch.zeros(3).double())
    assert_array_equal(found, torch.zeros(2, 3))
    nothing = integrated_gradients(lambda x: 0 * x.sum(1), x, torch.zeros(3).double())
    assert_array_equal(nothing, torch.zeros(2, 3))


def test_integrated_gradients_of_few_samples_take_few_passes():
    torch.manual_seed(0)
    network, passes = MLP((6,), (1,)).double(), []

    def score(x):
        passes.append(len(x))
        return network(x).tanh().squeeze(1)

    x, baseline = torch.randn(5, 6).double(), torch.ones(1, 6).double()
    few = integrated_gradients(score, x, baseline, steps=8, tolerance=np.inf)
    assert passes == [40, 5, 5]
    more = x.repeat(4000, 1)
    many = integrated_gradients(score, more, baseline, steps=8, tolerance=np.inf)
    assert max(passes[3:]) == len(many)
    assert_allclose(many[-5:], few, rtol=1e-12)
    none = integrated_gradients(score, x[:0], baseline, steps=8)
    assert none.shape == (0, 6)


# Detectors of tables whose maps are integrated gradients from the mean, and how much
# 16 equal steps missed in one row of ten of a table of 21 features.
FROM_THE_MEAN = {"GOAD": 1.45, "OCCNN": 0.27, "RoSAS": 0.18, "PReNet": 0.11}


@pytest.mark.parametrize("name", FROM_THE_MEAN)
def test_maps_from_the_mean_sum_to_the_anomaly_less_the_means(name):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 2)) @ rng.normal(size=(2, 9)) + 0.3 * rng.normal(
        size=(150, 9)
    )
    y = np.ones(150, dtype=int)
    y[-10:], X[-10:] = -1, X[-10:] + 3 * rng.normal(size=(10, 9))
    new = np.concatenate([X[:20] + 0.2, 4 * rng.normal(size=(20, 9))])
    detector = getattr(skad, name)(
        max_epochs=10, contamination=0.1, random_state=0
    ).fit(X, y)
    mean = detector.net_.baseline.double().numpy()[None]
    gap = detector.score_samples(mean) - detector.score_samples(new)
    missed = np.abs(detector.transform(new).sum(axis=1) - gap)
    assert (missed <= 0.0201 * np.abs(gap) + 1e-6).all()
    assert np.ptp(gap) > 0
