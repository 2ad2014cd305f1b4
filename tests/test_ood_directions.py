"""Where features point: boundaries, weights of classes, principal space, relations."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.special import softmax
from sklearn.decomposition import PCA
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from skad.ood import (
    FDBD,
    NCI,
    NECO,
    MahalanobisOOD,
    MaxLogit,
    RelationOOD,
    RelativeMahalanobis,
    extract,
)
from skad.ood._fdbd import inverse_gaps, mean_boundary_distance
from tests.test_ood import unit


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    y = np.arange(90) % 3
    return 2 * rng.normal(size=(3, 4))[y] + rng.normal(size=(90, 4)), y


def linear(weight, bias):
    """Return a classifier whose features are its input, with a last layer."""
    layer = torch.nn.Linear(weight.shape[1], weight.shape[0]).double()
    with torch.no_grad():
        layer.weight.copy_(torch.as_tensor(weight))
        layer.bias.copy_(torch.as_tensor(bias))
    return layer


@pytest.fixture(scope="module")
def fitted(data):
    X, y = data
    model = LogisticRegression().fit(X, y)
    probe = 3 * np.random.default_rng(1).normal(size=(20, 4))
    z = probe @ model.coef_.T + model.intercept_
    return FrozenEstimator(model), model.coef_, probe, z


# ------------------------------------------------------------------------------- FDBD


def test_boundaries_are_as_far_as_features_have_to_move(fitted):
    """The shortest way on which another class gets as large a logit, by a search."""
    _, weight, probe, z = fitted
    bias = z[0] - probe[0] @ weight.T
    for x, own in zip(probe[:3], z[:3], strict=True):
        best, ways = own.argmax(), []
        for other in set(range(3)) - {best}:
            tie = {
                "type": "eq",
                "fun": lambda v, a=best, b=other: (
                    (weight[a] - weight[b]) @ v + bias[a] - bias[b]
                ),
            }
            found = minimize(
                lambda v, x=x: ((v - x) ** 2).sum(), x, constraints=tie, tol=1e-14
            )
            ways.append(np.sqrt(found.fun))
        distance = mean_boundary_distance(own[None], inverse_gaps(weight))
        assert_allclose(distance, np.mean(ways), rtol=1e-5)


def test_fdbd_of_two_classes_is_the_distance_to_the_plane(data):
    X, y = data
    model = LogisticRegression().fit(X, y > 0)
    detector = FDBD(FrozenEstimator(model)).fit(X)
    plane = np.abs(model.decision_function(X)) / np.linalg.norm(model.coef_)
    expected = plane / np.linalg.norm(X - X.mean(0), axis=1)
    assert_allclose(detector.score_samples(X), expected, rtol=1e-9)


def test_fdbd_where_there_is_no_boundary_and_at_the_mean(data):
    X, _ = data
    weight = np.array([[1.0, 0, 0, 0], [1.0, 0, 0, 0], [0, 1.0, 0, 0]])
    detector = FDBD(linear(weight, np.zeros(3))).fit(X)
    x = np.array([[3.0, 1, 0, 0]])
    expected = (2 / np.sqrt(2)) / 2 / np.linalg.norm(x - X.mean(0))
    assert_allclose(detector.score_samples(x), expected, rtol=1e-6)
    assert np.isfinite(detector.score_samples(detector.mean_[None])).all()


# -------------------------------------------------------------------------------- NCI


def test_nci_is_the_formula(data, fitted):
    X, _ = data
    classifier, weight, probe, _ = fitted
    detector = NCI(classifier, alpha=0.4).fit(X)

    def near(rows):
        z = rows @ weight.T + classifier.estimator.intercept_
        return (weight[z.argmax(1)] * unit(rows - X.mean(0))).sum(1)

    ratio = np.abs(near(X)).mean() / np.abs(X).sum(1).mean()
    assert detector.size_weight_ == pytest.approx(0.4 * ratio, rel=1e-9)
    expected = near(probe) + 0.4 * ratio * np.abs(probe).sum(1)
    assert_allclose(detector.score_samples(probe), expected, rtol=1e-9)


def test_nci_along_the_weights_is_their_length(data, fitted):
    X, _ = data
    classifier, weight, probe, z = fitted
    detector = NCI(classifier, alpha=0.0).fit(X)
    for k in range(3):
        ray = X.mean(0) + np.array([[20.0], [500.0]]) * weight[k]
        assert_array_equal(classifier.predict(ray), k)
        assert_allclose(detector.score_samples(ray), np.linalg.norm(weight[k]))
    bound = np.linalg.norm(weight, axis=1)[z.argmax(1)] + 1e-12
    assert (np.abs(detector.score_samples(probe)) <= bound).all()
    assert_array_equal(detector.score_samples(detector.mean_[None]), 0)


# ------------------------------------------------------------------------------- NECO


@pytest.mark.parametrize("n_components", [0.6, 0.9, 2])
def test_neco_is_scikit_learns_pca(data, fitted, n_components):
    X, _ = data
    classifier, _, probe, z = fitted
    scaler = StandardScaler().fit(X)
    pca = PCA(n_components, svd_solver="full").fit(scaler.transform(X))
    rows = scaler.transform(probe)
    share = np.linalg.norm(pca.transform(rows), axis=1) / np.linalg.norm(rows, axis=1)
    for weighted, expected in ((True, share * z.max(1)), (False, share)):
        detector = NECO(classifier, n_components=n_components, weighted=weighted).fit(X)
        assert detector.components_.shape == (4, pca.n_components_)
        assert_allclose(detector.score_samples(probe), expected, rtol=1e-9)


def test_neco_with_all_directions_is_the_largest_logit(data, fitted):
    X, _ = data
    classifier, _, probe, _ = fitted
    expected = MaxLogit(classifier).fit(X).score_samples(probe)
    for n_components in (4, 9, 1.0):
        detector = NECO(classifier, n_components=n_components).fit(X)
        assert_allclose(detector.score_samples(probe), expected, rtol=1e-9)


@pytest.mark.filterwarnings("ignore:All 90 training samples got the score")
def test_neco_sees_a_unit_that_never_fired(data):
    X, _ = data
    X = np.c_[X, np.zeros(len(X))]
    layer = linear(np.eye(3, 5), np.zeros(3))
    detector = NECO(layer, n_components=1.0, weighted=False).fit(X)
    probe = X[:2].copy()
    probe[1, 4] = 5.0
    quiet, loud = detector.score_samples(probe)
    assert quiet == pytest.approx(1)
    assert loud < 0.7


# --------------------------------------------------------------------------- relation


@pytest.mark.parametrize(("power", "threshold"), [(1.0, 0.03), (4.0, 0.3)])
def test_relation_is_the_loop(data, fitted, power, threshold):
    X, _ = data
    classifier, _, probe, z = fitted
    detector = RelationOOD(classifier, power=power, threshold=threshold).fit(X)
    P, p = classifier.predict_proba(X), softmax(z, axis=1)
    expected = np.zeros(len(probe))
    for i, x in enumerate(probe):
        for j, other in enumerate(X):
            cosine = x @ other / np.linalg.norm(x) / np.linalg.norm(other)
            relation = max(0.0, cosine) * (p[i] @ P[j])
            expected[i] += relation**power if relation > threshold else 0.0
    assert_allclose(detector.score_samples(probe), expected / len(X), rtol=1e-6)


@pytest.mark.filterwarnings("ignore:All 90 training samples got the score")
def test_gradients_of_relations_are_finite_where_none_counts(data):
    X, _ = data
    layer = linear(np.eye(3, 4), np.zeros(3))
    detector = RelationOOD(layer, power=0.5, threshold=0.99).fit(X)
    assert np.isfinite(detector.transform(-50 * X[:5])).all()


# ----------------------------------------------------------- Mahalanobis, unit features


@pytest.mark.parametrize("method", [MahalanobisOOD, RelativeMahalanobis])
def test_unit_features_have_no_length(data, method):
    X, y = data
    detector = method(normalize=True).fit(X, y)
    lengths = np.geomspace(0.01, 100, len(X))[:, None]
    assert_allclose(
        detector.score_samples(lengths * X), detector.score_samples(X), rtol=1e-6
    )
    plain = method().fit(unit(X), y)
    assert_allclose(detector.score_samples(X), plain.score_samples(unit(X)), rtol=1e-9)
    assert not np.allclose(detector.score_samples(X), plain.score_samples(X))


def test_steps_against_the_distance_of_unit_features(data):
    """By the sign of finite differences, element by element."""
    X, y = data
    detector = MahalanobisOOD(normalize=True, epsilon=0.02).fit(X, y)
    plain = MahalanobisOOD(normalize=True).fit(X, y)
    probe, step = 3 * X[::9], np.zeros((10, 4))
    for j in range(4):
        bump = 1e-6 * (np.arange(4) == j)
        gap = plain.score_samples(probe - bump) - plain.score_samples(probe + bump)
        step[:, j] = np.sign(gap)
    expected = plain.score_samples(probe - 0.02 * step)
    assert_allclose(detector.score_samples(probe), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["mlp_0", "cnn_0"])
def test_unit_features_of_a_network_tell_more(shared, kind):
    from tests.test_ood import Golden, roc_auc_score

    golden = Golden(shared, kind)
    areas = [
        roc_auc_score(
            golden.labels,
            golden.anomaly_of_outputs(MahalanobisOOD, normalize=normalize),
        )
        for normalize in (False, True)
    ]
    assert areas[1] > areas[0] + 0.01
    assert areas[1] > 0.96


def test_outputs_serve_all_of_them(data, fitted):
    X, _ = data
    classifier, _, probe, _ = fitted
    known, new = extract(classifier, X), extract(classifier, probe)
    for method in (FDBD, NCI, NECO, RelationOOD):
        direct = method(classifier).fit(X).score_samples(probe)
        ready = method(classifier).fit(known).score_samples(new)
        assert_allclose(ready, direct, rtol=1e-12)
