"""OCNN: its objective in NumPy, its best distance, and cases with a closed form."""

import copy
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score

from skad.one_class import OCNN
from skad.one_class._ocnn import lower_quantile

SMALL = {"max_epochs": 5, "n_hidden": 8, "contamination": 0.1, "random_state": 0}
FUNCTIONS = {
    "cosine": lambda z: np.cos(z) / math.sqrt(8),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "linear": lambda z: z,
}


@pytest.fixture(scope="module", name="X")
def rows():
    return np.random.default_rng(0).normal(1.0, size=(130, 3))


def parts(detector):
    """Return the network in float64, `V` and `w`."""
    net = copy.deepcopy(detector.net_).double()
    return net, net.hidden.weight.numpy(), net.direction.weight.numpy()[0]


@pytest.mark.parametrize("penalty", [0.0, 0.7])
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_objective_and_anomaly_are_the_formula(X, activation, penalty):
    given = {"nu": 0.3, "activation": activation, "hidden_penalty": penalty}
    detector = OCNN(**given, **SMALL).fit(X)
    net, V, w = parts(detector)
    s = FUNCTIONS[activation](X @ V.T) @ w
    r = np.quantile(s, 0.3, method="inverted_cdf")
    assert_allclose(-detector.score_samples(X), r - s, atol=1e-6)
    net.distance.fill_(0.4)
    ((_, found),) = net.updates("fit", torch.as_tensor(X), None)
    hinge = np.maximum(0, 0.4 - s).mean() / 0.3
    expected = (w @ w) / 2 + penalty * (V**2).sum() / 2 + hinge - 0.4
    assert_allclose(float(found), expected, rtol=1e-6)


@pytest.mark.parametrize("nu", [0.05, 0.1, 0.7, 1 / 130])
def test_a_share_nu_of_training_rows_is_below_the_best_distance(X, nu):
    anomaly = -OCNN(nu=nu, **SMALL).fit(X).score_samples(X)
    assert abs((anomaly > 1e-9).mean() - nu) < 1 / 130 + 1e-9
    values = torch.arange(10.0)
    for share, place in ((0.1, 0), (0.3, 2), (0.31, 3), (0.999, 9)):
        assert float(lower_quantile(values, share)) == place


def test_at_the_best_distance_the_linear_objective_is_a_tail_mean(X):
    given = {"nu": 0.1, "activation": "linear", "hidden_penalty": 1.0}
    net, V, w = parts(OCNN(**given, **SMALL).fit(X))
    s = X @ V.T @ w
    net.distance.fill_(np.quantile(s, 0.1, method="inverted_cdf"))
    found = float(net.objective(torch.as_tensor(s)))
    tail = np.sort(s)[:13].mean()
    assert_allclose(found, (w @ w) / 2 + (V**2).sum() / 2 - tail, rtol=1e-6)


def test_without_a_layer_all_rows_are_equal(X):
    detector = OCNN(activation="sigmoid", **SMALL).fit(X)
    detector.net_.hidden.weight.zero_()
    assert np.ptp(detector.score_samples(X)) == 0


UNTRAINED = {"max_epochs": 1, "lr": 1e-12}


@pytest.mark.parametrize("scale", [1.0, 0.01])
def test_cosines_begin_as_a_gaussian_kernel_as_wide_as_the_data(X, scale):
    rows = scale * X * [1.0, 2.0, 3.0]
    detector = OCNN(**{**SMALL, **UNTRAINED, "n_hidden": 20_000}).fit(rows)
    V = parts(detector)[1]
    found = np.cos((rows[:20] - rows[20:40]) @ V.T).mean(axis=1)
    squares = ((rows[:20] - rows[20:40]) ** 2).sum(axis=1)
    expected = np.exp(-squares / rows.var(axis=0).sum())
    assert_allclose(found, expected, atol=0.03)
    detector.set_params(warm_start=True).fit(rows)  # the waves stay as they are
    assert_allclose(parts(detector)[1], V, rtol=1e-6)


def test_long_training_leaves_scores_apart_but_for_the_penalty():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 30)) * np.repeat([0.1, 1.0], 15)
    other = X[:50] + 0.3 * rng.normal(size=(50, 30))
    y = np.repeat([0, 1], [100, 50])
    both = np.concatenate([X, other])

    def found(**given):
        own = {**SMALL, "n_hidden": 32, "max_epochs": 300, "lr": 0.01}
        own |= given
        return -OCNN(**own).fit(X).score_samples(both)

    default, untrained = found(), found(**UNTRAINED)
    assert roc_auc_score(y, default) > 0.9 > roc_auc_score(y, untrained) + 0.2
    assert np.ptp(found(hidden_penalty=1.0)) < 1e-3 * np.ptp(default)


def test_it_learns_the_code_of_an_autoencoder(X):
    detector = OCNN(pretrain_epochs=3, latent_size=2, **SMALL).fit(X)
    assert [row["phase"] for row in detector.history_] == ["pretrain"] * 3 + ["fit"] * 5
    net, V, w = parts(detector)
    with torch.no_grad():
        code = net.encoder(torch.as_tensor(X)).numpy()
    assert code.shape == (130, 2)
    s = FUNCTIONS["cosine"](code @ V.T) @ w
    assert_allclose(-detector.score_samples(X), float(net.distance) - s, atol=1e-6)
