"""SLAD: its divergence, its weights, its vectors, and the whole by a loop."""

import copy
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import jensenshannon
from scipy.special import log_softmax, softmax

from skad.self_supervised import SLAD
from skad.self_supervised._slad import SubspaceVectors, divergence, feature_weights

SMALL = {
    "n_groups": 3,
    "group_size": 4,
    "vector_size": 8,
    "hidden_sizes": (16,),
    "max_epochs": 3,
    "contamination": 0.1,
    "random_state": 0,
}


@pytest.fixture(scope="module", name="X")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(80, 3)) @ rng.normal(size=(3, 5))


def test_divergence_is_that_of_jensen_and_shannon():
    rng = np.random.default_rng(0)
    p, q = log_softmax(3 * rng.normal(size=(2, 7, 4)), axis=2)
    found = divergence(torch.as_tensor(p), torch.as_tensor(q))
    expected = [
        jensenshannon(*each) ** 2 for each in zip(np.exp(p), np.exp(q), strict=True)
    ]
    assert_allclose(found, expected)
    assert_allclose(divergence(torch.as_tensor(q), torch.as_tensor(p)), found)
    assert_allclose(divergence(torch.as_tensor(p), torch.as_tensor(p)), 0, atol=1e-12)
    far = torch.log_softmax(torch.tensor([[1e4, 0], [0, 1e4]]), dim=1)
    assert float(divergence(*far)) == pytest.approx(math.log(2))


def test_weights_are_mean_correlations_from_0_to_1(X):
    expected = np.abs(np.corrcoef(X.T)).mean(axis=1)
    expected = (expected - expected.min()) / np.ptp(expected)
    assert_allclose(feature_weights(torch.as_tensor(X)), expected, atol=1e-12)
    flat = np.concatenate([X, np.zeros((80, 1))], axis=1)
    assert feature_weights(torch.as_tensor(flat))[5] == 0
    wide = np.random.default_rng(0).normal(size=(60, 50))
    for equal in (X[:, :2], wide):
        assert_array_equal(feature_weights(torch.as_tensor(equal)), 1)
    assert not np.all(feature_weights(torch.as_tensor(wide[:, :49])).numpy() == 1)


@pytest.mark.parametrize("d", [6, 12])
def test_parts_of_one_size_share_their_matrix(d):
    torch.manual_seed(0)
    made = SubspaceVectors(d, 5, 6, 3, 4)
    counts, matrices = made.counts.flatten(0, 1), made.matrices.flatten(0, 1)
    sizes = counts.sum(1)
    assert len(set(sizes.tolist())) <= 3
    assert d <= 10 or counts.max() == 1
    for size in set(sizes.tolist()):
        # the rows of the matrix are dealt to the features: what they add to is one
        totals = matrices[sizes == size].sum(1)
        assert_allclose(totals, totals[:1].expand_as(totals), atol=1e-6)
    assert_array_equal(made.matrices[made.counts == 0], 0)
    x = torch.randn(2, d)
    assert_allclose(made(x)[1, 3, 2], x[1] @ made.matrices[3, 2], rtol=1e-5, atol=1e-6)


def test_anomaly_is_its_loop(X):
    detector = SLAD(**SMALL).fit(X)
    net = copy.deepcopy(detector.net_).double()
    weights, scores = feature_weights(torch.as_tensor(X)).numpy(), []
    assert_allclose(net.weights, weights, atol=1e-5)
    for x in X[:6]:
        parts = []
        for g in range(3):
            numbers, scales = [], []
            for i in range(4):
                vector = torch.as_tensor(x @ net.vectors.matrices[g, i].numpy())
                numbers.append(float(net.body(vector[None])))
                features = net.vectors.counts[g, i].numpy()
                scales.append(200 * (features @ weights) / 8)
            parts.append(jensenshannon(softmax(numbers), softmax(scales)) ** 2)
        scores.append(np.mean(parts))
    assert_allclose(-detector.score_samples(X[:6]), scores, rtol=1e-4)
    loss = float(net.loss(torch.as_tensor(X[:6]), None))
    assert loss == pytest.approx(np.mean(scores), rel=1e-4)


def test_a_step_of_training_sees_one_group(X):
    net, x = SLAD(**SMALL).fit(X).net_, torch.as_tensor(X, dtype=torch.float32)
    whole = float(net.loss(x, None))
    groups = [float(net.anomaly(x, [g]).mean()) for g in range(3)]
    assert np.mean(groups) == pytest.approx(whole, rel=1e-5)
    net.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        seen = [float(net.loss(x, None).detach()) for _ in range(30)]
    assert_allclose(
        np.unique(np.round(seen, 5)), np.unique(np.round(groups, 5)), atol=2e-5
    )


def test_a_row_of_zeros_has_parts_that_look_the_same(X):
    detector = SLAD(**SMALL).fit(X)
    net = copy.deepcopy(detector.net_).double()
    assert_allclose(net.log_shares(torch.zeros(1, 5).double()), -math.log(4))
    for weights in net.body.parameters():
        weights.zero_()
    assert np.ptp(net.anomaly(torch.as_tensor(X)).numpy()) == 0


def test_training_tells_scales_better_than_none(X):
    few = {**SMALL, "max_epochs": 30, "lr": 0.01}
    trained = SLAD(**few).fit(X).history_
    assert trained[-1]["train_loss"] < 0.7 * trained[0]["train_loss"]


def test_one_feature_is_refused():
    with pytest.raises(ValueError, match="at least 2 features"):
        SLAD(**SMALL).fit(np.zeros((20, 1)))
