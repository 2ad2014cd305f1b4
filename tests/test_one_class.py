"""OneClassSVM and SVDD against libsvm, closed forms, a general solver and gradients."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import laplacian_kernel, pairwise_kernels, rbf_kernel
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.svm import OneClassSVM as LibSVM

from skad.one_class import SVDD, OneClassSVM
from skad.one_class._dual import decompose, fill, minimise, violation
from skad.one_class._grams import MatrixGram
from skad.one_class._kernels import Kernel
from skad.one_class._relevance import path_relevance, wave_relevance, waves
from tests._shared import peer_figures, tables

KERNELS = {
    "rbf": {},
    "rbf narrow": {"gamma": 5.0},
    "linear": {"kernel": "linear"},
    "poly": {"kernel": "poly", "coef0": 1.0},
    "sigmoid": {"kernel": "sigmoid", "gamma": 1e-3, "coef0": 0.5},
}


def cloud(n, d=4, shift=3.0, seed=0):
    """Correlated rows away from the origin, so that every kernel has a solution."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * 0.5 + shift


def objective(detector, X):
    """Half of alpha' K alpha, through the scores of the support vectors."""
    return 0.5 * float(
        detector.dual_coef_[0] @ detector.score_samples(X)[detector.support_]
    )


# ------------------------------------------------------------------- OneClassSVM, exact


@pytest.mark.parametrize("nu", [0.01, 0.1, 0.5, 0.953])
@pytest.mark.parametrize("n", [2, 30, 400, 1800])
@pytest.mark.parametrize("name", KERNELS)
def test_reaches_libsvm_solution(name, n, nu):
    X, setting = cloud(n), {"nu": nu, **KERNELS[name]}
    ours = OneClassSVM(**setting).fit(X)
    theirs = LibSVM(tol=1e-6, **setting).fit(X)
    probe = np.concatenate([X[:200], cloud(50, seed=9) + 1])
    size = max(abs(float(theirs.offset_[0])), 1e-12)
    assert ours.dual_coef_.sum() == pytest.approx(nu * n)
    assert ours.dual_coef_.min() > 0
    assert ours.dual_coef_.max() <= 1
    assert objective(ours, X) == pytest.approx(objective(theirs, X), rel=1e-4)
    found = ours.score_samples(probe)
    assert_allclose(found, theirs.score_samples(probe), atol=1e-3 * size, rtol=1e-3)
    if nu * n > 1:  # below, libsvm's own threshold is any value in an interval
        assert ours.offset_ == pytest.approx(float(theirs.offset_[0]), abs=1e-3 * size)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("nu", [0.01, 0.1, 0.29, 0.5])
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("kind", [OneClassSVM, SVDD])
def test_at_most_the_share_nu_of_training_rows_is_outside(kind, name, nu, dtype):
    rng = np.random.default_rng(0)
    signs = np.repeat([1.0, -1.0], [37, 13])[:, None]
    sets = [
        *(rng.normal(size=shape) for shape in ((2, 1), (30, 10), (100, 30))),
        *(rng.integers(0, 4, (n, 2)) + 0.0 for n in (50, 300)),
        signs,
    ]
    settings = [KERNELS[name]]
    if kind is OneClassSVM and name == "rbf":
        settings += [{"solver": "nystroem"}, {"solver": "fourier"}]
    for X, setting in itertools.product(sets, settings):
        X = X.astype(dtype)
        detector = kind(nu=nu, **setting).fit(X)
        assert (detector.predict(X) == -1).mean() <= nu
        alone = np.concatenate([detector.predict(row[None]) for row in X[:50]])
        assert not np.any((alone == -1) & (detector.predict(X[:50]) == 1))


@pytest.mark.parametrize("kind", ["duplicates", "constant", "two values"])
def test_degenerate_rows_reach_libsvm_solution(kind):
    X = {
        "duplicates": cloud(20)[np.arange(200) % 20],
        "constant": np.ones((50, 3)),
        "two values": np.repeat([[0.0, 0.0], [1.0, 1.0]], [90, 10], axis=0),
    }[kind]
    ours, theirs = OneClassSVM(nu=0.2).fit(X), LibSVM(nu=0.2, tol=1e-6).fit(X)
    assert objective(ours, X) == pytest.approx(objective(theirs, X), rel=1e-4)
    assert_allclose(ours.score_samples(X), theirs.score_samples(X), rtol=1e-3)


def test_nu_one_weighs_every_row_alike():
    X = cloud(60)
    detector = OneClassSVM(nu=1.0, gamma=0.3).fit(X)
    assert_allclose(detector.score_samples(X), rbf_kernel(X, gamma=0.3).sum(axis=1))
    assert detector.decision_function(X).max() == pytest.approx(0, abs=1e-9)


def test_nu_bounds_the_share_outside_and_of_support_vectors():
    X = cloud(2000)
    detector = OneClassSVM(nu=0.2).fit(X)
    assert (detector.decision_function(X) < -1e-3).mean() <= 0.2
    assert len(detector.support_) / 2000 >= 0.2


@pytest.mark.parametrize("name", ["rbf", "poly"])
def test_optimality_conditions_hold(name):
    X = cloud(5000)
    detector = OneClassSVM(nu=0.1, **KERNELS[name]).fit(X)
    alpha = np.zeros(5000)
    alpha[detector.support_] = detector.dual_coef_[0]
    scores = detector.score_samples(X)
    diagonal = pairwise_kernels(X[:1], **_kernel_of(detector))[0, 0]
    gap = scores[alpha > 0].max() - scores[alpha < 1].min()
    assert gap <= 1.01e-4 * max(diagonal, _median_diagonal(detector, X))


def _kernel_of(detector):
    if detector.kernel == "rbf":
        return {"metric": "rbf", "gamma": detector.gamma_}
    return {
        "metric": "poly",
        "gamma": detector.gamma_,
        "degree": detector.degree,
        "coef0": detector.coef0,
    }


def _median_diagonal(detector, X):
    rows = X[::10]
    return np.median(np.diag(pairwise_kernels(rows, **_kernel_of(detector))))


def test_precomputed_and_callable_are_the_kernel_they_compute():
    X, probe = cloud(300), cloud(40, seed=3)
    named = OneClassSVM(nu=0.2, gamma=0.4).fit(X)
    matrix = OneClassSVM("precomputed", nu=0.2).fit(rbf_kernel(X, gamma=0.4))
    function = OneClassSVM(lambda A, B: rbf_kernel(A, B, gamma=0.4), nu=0.2).fit(X)
    expected = named.score_samples(probe)
    columns = rbf_kernel(probe, X, gamma=0.4)
    assert_allclose(matrix.score_samples(columns), expected, rtol=1e-5)
    assert_allclose(function.score_samples(probe), expected, rtol=1e-5)
    assert matrix.__sklearn_tags__().input_tags.pairwise
    # the map of a precomputed kernel is the terms of the score
    assert_allclose(matrix.transform(columns).sum(axis=1), -expected, rtol=1e-5)


def test_precomputed_kernel_in_a_grid_search():
    matrix = rbf_kernel(cloud(60))
    search = GridSearchCV(
        OneClassSVM("precomputed"),
        {"nu": [0.1, 0.5]},
        scoring=lambda detector, X, y=None: detector.score_samples(X).mean(),
        cv=KFold(3),
    )
    assert search.fit(matrix).best_params_ == {"nu": 0.5}


@pytest.mark.parametrize("setting", KERNELS.values(), ids=KERNELS)
@pytest.mark.parametrize("solver", ["exact", "nystroem"])
def test_tensors_and_float32_agree(solver, setting):
    X, probe = cloud(500), cloud(30, seed=4)
    setting = {"nu": 0.2, "solver": solver, "random_state": 0, **setting}
    double = OneClassSVM(**setting).fit(X)
    tensor = OneClassSVM(**setting).fit(torch.as_tensor(X))
    single = OneClassSVM(**setting).fit(X.astype(np.float32))
    expected = double.score_samples(probe)
    found = tensor.score_samples(torch.as_tensor(probe))
    assert found.dtype == torch.float64
    assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-6)
    size = np.abs(expected).max()
    found = single.score_samples(probe.astype(np.float32))
    assert_allclose(found, expected, rtol=2e-3, atol=2e-3 * size)
    maps = tensor.transform(torch.as_tensor(probe))
    assert_allclose(maps.numpy(), double.transform(probe), rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize(
    ("setting", "word"),
    [
        ({"nu": 0.0}, "nu"),
        ({"nu": 1.5}, "nu"),
        ({"gamma": 0.0}, "gamma"),
        ({"gamma": "wide"}, "gamma"),
        ({"kernel": "cubic"}, "kernel"),
        ({"solver": "fourier", "kernel": "poly"}, "solver='fourier' needs"),
        ({"solver": "nystroem", "kernel": "precomputed"}, "solver='nystroem' needs"),
        ({"kernel": "precomputed"}, "square kernel matrix"),
        ({"kernel": lambda A, B: A}, "must return"),
        ({"kernel": lambda A, B: np.full((len(A), len(B)), np.nan)}, "not finite"),
    ],
)
def test_parameters_are_checked(setting, word):
    with pytest.raises(ValueError, match=word):
        OneClassSVM(**setting).fit(cloud(20))


def test_overflow_is_refused():
    with pytest.raises(ValueError, match="too large"):
        OneClassSVM("poly", gamma=1.0).fit(cloud(20) * 1e110)


def test_giving_up_warns():
    with pytest.warns(ConvergenceWarning, match="max_rounds"):
        OneClassSVM(nu=0.1, gamma=3.0, max_rounds=1).fit(cloud(3000))


def test_one_round_is_reported_to_callbacks_as_a_step():
    seen = []

    class Watched(OneClassSVM):
        def _steps(self, iterable, name, total, **kwargs):
            for item in iterable:
                seen.append(name)
                yield item

    detector = Watched(nu=0.1).fit(cloud(3000))
    assert seen == ["round"] * detector.n_rounds_
    assert seen


# ----------------------------------------------------------------------- approximations


def test_nystroem_on_all_rows_is_exact():
    X, probe = cloud(150), cloud(40, seed=5)
    exact = OneClassSVM(nu=0.2).fit(X)
    found = OneClassSVM(nu=0.2, solver="nystroem", random_state=0).fit(X)
    assert_allclose(
        found.decision_function(probe),
        exact.decision_function(probe),
        atol=1e-3 * exact.offset_,
    )


@pytest.mark.parametrize(
    ("solver", "n_basis", "correlation"),
    [("nystroem", 100, 0.999), ("fourier", 1000, 0.99)],
)
def test_approximations_come_near_the_exact_score(solver, n_basis, correlation):
    X, probe = cloud(2000), cloud(500, seed=6)
    exact = OneClassSVM(nu=0.2).fit(X).score_samples(probe)
    setting = {"nu": 0.2, "solver": solver, "n_basis": n_basis, "random_state": 0}
    found = OneClassSVM(**setting).fit(X).score_samples(probe)
    assert np.corrcoef(exact, found)[0, 1] > correlation
    assert_allclose(found, exact, atol=0.2 * exact.max())


@pytest.mark.parametrize("solver", ["nystroem", "fourier"])
def test_approximations_map_sums_to_the_difference_from_the_mean_row(solver):
    X, probe = cloud(300), np.concatenate([cloud(20, seed=7), cloud(20, seed=7) * 50])
    detector = OneClassSVM(nu=0.2, solver=solver, n_basis=50, random_state=0).fit(X)
    maps = detector.transform(probe)
    anomaly = -detector.score_samples(probe)
    at_mean = -detector.score_samples(X.mean(axis=0, keepdims=True))
    assert_allclose(maps.sum(axis=1), anomaly - at_mean, rtol=1e-6, atol=1e-8)


def test_path_relevance_is_the_integral_of_the_gradient():
    rng = np.random.default_rng(0)
    vectors, weights = rng.normal(size=(15, 3)), rng.normal(size=15)
    origin, gamma = rng.normal(size=3), 0.7
    for reach in [1e-9, 1e-3, 0.1, 1.0, 5.0]:
        x = origin + reach * rng.normal(size=3)
        times = (np.arange(20000) + 0.5) / 20000
        path = origin + times[:, None] * (x - origin)
        values = rbf_kernel(path, vectors, gamma=gamma) * weights
        slopes = -2 * gamma * (values.sum(axis=1)[:, None] * path - values @ vectors)
        expected = (x - origin) * slopes.mean(axis=0)
        found = path_relevance(x[None], origin, vectors, weights, gamma)[0]
        assert_allclose(found, expected, rtol=1e-6, atol=1e-7 * reach)


def test_wave_relevance_is_the_integral_of_the_gradient():
    rng = np.random.default_rng(0)
    frequencies, weights = rng.normal(size=(15, 3)), rng.normal(size=(2, 15))
    x = rng.normal(size=3)
    times = (np.arange(20000) + 0.5) / 20000
    phases = times[:, None] * (frequencies @ x)
    slopes = (np.cos(phases) * weights[1] - np.sin(phases) * weights[0]) @ frequencies
    found = wave_relevance(x[None], frequencies, weights)[0]
    assert_allclose(found, x * slopes.mean(axis=0), rtol=1e-6)
    ends = waves(np.stack([x, 0 * x]), frequencies, weights)
    assert found.sum() == pytest.approx(ends[0] - ends[1])


@pytest.mark.full
def test_real_tables_rank_as_libsvm_and_nystroem_nearly_as_well(shared):
    peers = peer_figures(shared, "skl.OCSVM")
    exact, near = [], []
    for key, train, rows, labels in tables(shared):
        found = [
            roc_auc_score(
                labels, -OneClassSVM(**setting).fit(train).score_samples(rows)
            )
            for setting in ({}, {"solver": "nystroem", "random_state": 0})
        ]
        assert found[0] == pytest.approx(peers[key], abs=1e-3), key
        exact.append(found[0])
        near.append(found[1])
    assert np.mean(near) == pytest.approx(np.mean(exact), abs=0.005)


# ---------------------------------------------------------------------------- relevance


@given(st.integers(0, 10**6), st.floats(-3, 5))
@settings(max_examples=25, deadline=None)
def test_rbf_relevance_sums_to_the_outlier_score(seed, reach):
    X = cloud(80, seed=seed)
    rng = np.random.default_rng(seed)
    probe = np.concatenate([X[:5], X[:5] + 10.0**reach * rng.normal(size=(5, 4))])
    detector = OneClassSVM(nu=0.3).fit(X)
    alpha = detector.dual_coef_[0]
    squares = ((probe[:, None] - detector.support_vectors_) ** 2).sum(axis=2)
    strength = np.log(alpha / alpha.sum()) - detector.gamma_ * squares
    outlier = -logsumexp(strength, axis=1)
    maps = detector.transform(probe)
    assert (maps >= 0).all()
    assert_allclose(maps.sum(axis=1), outlier, rtol=1e-8, atol=1e-10)
    order = np.argsort(outlier)
    assert (np.diff(detector.score_samples(probe)[order]) <= 1e-9).all()


def test_rbf_relevance_is_the_naive_double_sum():
    X, probe = cloud(60), cloud(10, seed=8) + 2
    detector = OneClassSVM(nu=0.4).fit(X)
    alpha, gamma = detector.dual_coef_[0], detector.gamma_
    found = detector.transform(probe)
    for x, relevance in zip(probe, found, strict=True):
        kernel = [
            np.exp(-gamma * ((x - v) ** 2).sum()) for v in detector.support_vectors_
        ]
        total = sum(a * k for a, k in zip(alpha, kernel, strict=True))
        score = -np.log(total / alpha.sum())
        expected = np.zeros(4)
        for a, k, v in zip(alpha, kernel, detector.support_vectors_, strict=True):
            expected += a * k / total * score * (x - v) ** 2 / ((x - v) ** 2).sum()
        assert_allclose(relevance, expected, rtol=1e-8)


def test_rbf_relevance_of_a_lone_support_vector_is_even_and_finite():
    detector = OneClassSVM(nu=0.5, gamma=1.0).fit([[0.0, 0.0], [3.0, 0.0]])
    assert_allclose(detector.transform([[0.0, 0.0]]), [[np.log(2) / 2] * 2], rtol=1e-2)


@pytest.mark.parametrize("name", ["linear", "poly", "sigmoid"])
@pytest.mark.parametrize("detector", [OneClassSVM(nu=0.2), SVDD(nu=0.2)], ids=repr)
def test_other_kernels_map_is_gradient_times_input(detector, name):
    if isinstance(detector, SVDD) and name == "linear":
        pytest.skip("additive: has its own test")
    X, probe = cloud(200), cloud(6, seed=2)
    detector = type(detector)(nu=0.2, **KERNELS[name]).fit(X)
    maps = detector.transform(probe)
    for i in range(4):
        step = 1e-5 * np.eye(4)[i]
        slope = detector.score_samples(probe + step) - detector.score_samples(
            probe - step
        )
        assert_allclose(maps[:, i], -probe[:, i] * slope / 2e-5, rtol=1e-4, atol=1e-6)
    if name == "linear":
        assert_allclose(maps.sum(axis=1), -detector.score_samples(probe))


def test_callable_map_is_the_loss_at_the_median():
    X, probe = cloud(100), cloud(5, seed=2)
    detector = OneClassSVM(laplacian_kernel, nu=0.2).fit(X)
    maps = detector.transform(probe)
    changed = probe.copy()
    changed[:, 2] = np.median(X[:, 2])
    loss = detector.score_samples(changed) - detector.score_samples(probe)
    assert_allclose(maps[:, 2], loss)


# --------------------------------------------------------------------------------- SVDD


@pytest.mark.parametrize(
    ("points", "center", "radius"),
    [
        ([[0, 0], [4, 0]], [2, 0], 2),
        ([[0, 0], [1, 0], [0.5, 3**0.5 / 2]], [0.5, 3**0.5 / 6], 3**-0.5),
        ([[0, 0], [2, 0], [0, 2], [2, 2], [1, 1.5]], [1, 1], 2**0.5),
        (np.eye(5), np.full(5, 0.2), 0.8**0.5),
        ([[0, 0], [4, 0], [2, 0.1]], [2, 0], 2),  # obtuse: two of them hold the circle
    ],
)
@pytest.mark.parametrize("shift", [0.0, 1000.0])
def test_svdd_linear_is_the_smallest_enclosing_ball(points, center, radius, shift):
    X = np.asarray(points, dtype=float) + shift
    detector = SVDD("linear", nu=0.1, tol=1e-8).fit(X)
    assert_allclose(detector.center_, np.asarray(center, float) + shift, atol=1e-5)
    assert detector.radius_ == pytest.approx(radius, abs=1e-5)
    assert detector.offset_ == -(detector.radius_**2)


@pytest.mark.parametrize("n", [40, 3000])
def test_svdd_rbf_is_the_one_class_svm_up_to_scale(n):
    X, probe = cloud(n), cloud(30, seed=2)
    svm, svdd = (M(nu=0.2, gamma=0.3, tol=1e-6).fit(X) for M in (OneClassSVM, SVDD))
    total = 0.2 * n
    alpha = svdd.dual_coef_[0]
    constant = 1 + alpha @ rbf_kernel(svdd.support_vectors_, gamma=0.3) @ alpha
    expected = 2 / total * svm.score_samples(probe) - constant
    assert_allclose(svdd.score_samples(probe), expected, atol=1e-6)
    assert svdd.offset_ == pytest.approx(2 / total * svm.offset_ - constant, abs=1e-6)
    assert_allclose(svdd.transform(probe), svm.transform(probe), rtol=1e-3)


@pytest.mark.parametrize("cost", [0.5, 1.0, 20.0])
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_svdd_with_known_anomalies_against_a_general_solver(kernel, cost):
    X = cloud(24, d=2)
    y = np.where(np.arange(24) % 6 == 0, -1, 1)
    nu = 0.3
    gram = X @ X.T if kernel == "linear" else rbf_kernel(X, gamma=0.5)
    bound = 1 / (nu * 20)
    found = minimize(
        lambda a: (y * a) @ gram @ (y * a) - (y * a) @ np.diag(gram),
        np.where(y > 0, 1 / 20, 0.0),
        jac=lambda a: y * (2 * gram @ (y * a) - np.diag(gram)),
        bounds=[(0, bound if label > 0 else cost * bound) for label in y],
        constraints={"type": "eq", "fun": lambda a: y @ a - 1, "jac": lambda a: y},
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 2000},
    )
    weights = y * found.x
    squares = np.diag(gram) - 2 * gram @ weights + weights @ gram @ weights
    detector = SVDD(kernel, gamma=0.5, nu=nu, anomaly_cost=cost, tol=1e-7).fit(X, y)
    assert_allclose(-detector.score_samples(X), squares, rtol=1e-3, atol=1e-4)
    assert detector.dual_coef_.sum() == pytest.approx(1)


def test_svdd_puts_known_anomalies_outside():
    rng = np.random.default_rng(0)
    normal, anomalies = rng.normal(size=(300, 2)), rng.normal(size=(15, 2)) * 0.2 + 2
    X, y = np.concatenate([normal, anomalies]), np.repeat([1, -1], [300, 15])
    ignorant = SVDD(nu=0.05, gamma=0.5).fit(X)
    taught = SVDD(nu=0.05, gamma=0.5, anomaly_cost=50.0).fit(X, y)
    fresh = rng.normal(size=(200, 2)) * 0.2 + 2
    assert (ignorant.predict(fresh) == -1).mean() < 0.5
    assert (taught.predict(fresh) == -1).mean() > 0.9
    assert (taught.predict(rng.normal(size=(500, 2))) == 1).mean() > 0.8
    # weights of both signs: the map is the integrated gradient from the mean row
    at_mean = taught.score_samples(X.mean(axis=0, keepdims=True))
    change = at_mean - taught.score_samples(fresh)
    assert_allclose(taught.transform(fresh).sum(axis=1), change, atol=1e-8)


def test_svdd_labels_other_than_minus_one_count_as_unlabelled():
    X = cloud(50)
    plain = SVDD().fit(X).score_samples(X)
    assert_array_equal(SVDD().fit(X, np.arange(50) % 2).score_samples(X), plain)
    with pytest.warns(UserWarning, match="labels other than"):
        SVDD().fit(X, np.arange(50) % 3)


def test_svdd_linear_map_is_additive():
    X = cloud(100)
    detector = SVDD("linear", nu=0.3).fit(X)
    maps = detector.transform(X)
    assert_allclose(maps, (X - detector.center_) ** 2)
    assert_allclose(maps.sum(axis=1), -detector.score_samples(X), rtol=1e-12)


def test_svdd_precomputed_and_callable_are_the_kernel_they_compute():
    X, probe = cloud(100), cloud(10, seed=3)
    named = SVDD(nu=0.2, gamma=0.4).fit(X).score_samples(probe)
    matrix = SVDD("precomputed", nu=0.2).fit(rbf_kernel(X, gamma=0.4))
    function = SVDD(lambda A, B: rbf_kernel(A, B, gamma=0.4), nu=0.2).fit(X)
    columns = rbf_kernel(probe, X, gamma=0.4)
    assert_allclose(matrix.score_samples(columns), named, rtol=1e-6)
    assert_allclose(function.score_samples(probe), named, rtol=1e-6)


@pytest.mark.parametrize(
    ("setting", "y", "word"),
    [
        ({"nu": 0.0}, None, "nu"),
        ({"anomaly_cost": 0.0}, None, "anomaly_cost"),
        ({}, np.full(20, -1), "y is -1 for all samples"),
        ({}, np.ones(19), "19 labels for 20 samples"),
        ({"kernel": "precomputed"}, None, "square kernel matrix"),
    ],
)
def test_svdd_arguments_are_checked(setting, y, word):
    with pytest.raises(ValueError, match=word):
        SVDD(**setting).fit(cloud(20), y)


def test_svdd_precomputed_needs_a_constant_diagonal():
    X = cloud(20)
    with pytest.raises(ValueError, match="constant diagonal"):
        SVDD("precomputed").fit(X @ X.T)


# ------------------------------------------------------------------------------- solver


@given(st.integers(0, 10**6))
@settings(max_examples=25, deadline=None)
def test_solver_on_random_boxes_ends_optimal_and_feasible(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(2, 60))
    factor = rng.normal(size=(n, int(rng.integers(1, n + 1))))
    matrix = factor @ factor.T
    linear = rng.normal(size=n)
    low, high = -rng.uniform(0, 1, n) * (rng.random(n) < 0.5), rng.uniform(0.1, 1, n)
    total = rng.uniform(low.sum(), high.sum())
    beta, gradient, _ = minimise(MatrixGram(matrix), linear, low, high, total, 1e-6)
    assert (beta >= low).all()
    assert (beta <= high).all()
    assert beta.sum() == pytest.approx(total)
    assert_allclose(gradient, matrix @ beta + linear, atol=1e-8)
    assert violation(gradient, beta, low, high)[0] <= 1e-6


def test_each_round_lowers_the_objective():
    X = cloud(1200)
    matrix = rbf_kernel(X, gamma=2.0)
    low, high = np.zeros(1200), np.ones(1200)
    beta = fill(np.zeros(1200), np.arange(1200), low, high, 120.0)
    gradient = matrix @ beta
    values = [beta @ gradient]
    for _ in decompose(MatrixGram(matrix), beta, gradient, low, high, 1e-4):
        values.append(beta @ gradient)
    assert len(values) > 2
    assert (np.diff(values) < 0).all()


def test_fill_is_greedy_in_order():
    low, high = np.zeros(4), np.array([1.0, 1.0, 0.5, 1.0])
    order = np.array([2, 0, 3, 1])
    raised = fill(np.zeros(4), order, low, high, 1.7)
    assert_allclose(raised, [1.0, 0.0, 0.5, 0.2])
    assert_allclose(fill(raised, order, low, high, 0.6), [0.1, 0.0, 0.5, 0.0])


def test_kernel_matrix_is_scikit_learns():
    X, V = cloud(20), cloud(7, seed=1)
    for name, extra in [("poly", {"degree": 4}), ("sigmoid", {}), ("linear", {})]:
        kernel = Kernel(name, 0.1, extra.get("degree", 3), 0.7)
        words = {} if name == "linear" else {"gamma": 0.1, "coef0": 0.7, **extra}
        expected = pairwise_kernels(X, V, metric=name, **words)
        assert_allclose(kernel.matrix(X, V), expected)
    kernel = Kernel("rbf", 0.1, centre=X.mean(axis=0))
    assert_allclose(kernel.matrix(X, V), rbf_kernel(X, V, gamma=0.1))


@pytest.mark.parametrize("kernel", ["rbf", "poly", "sigmoid"])
@pytest.mark.parametrize("cls", [OneClassSVM, SVDD])
def test_kept_kernel_values_change_nothing(cls, kernel, monkeypatch):
    X = np.random.default_rng(0).normal(size=(300, 4)) + 5
    if cls is SVDD and kernel != "rbf":
        pytest.skip("needs a constant diagonal")
    settings = {"kernel": kernel, "nu": 0.1, "gamma": 0.02}
    kept = cls(**settings).fit(X)
    monkeypatch.setattr("skad.one_class._grams._KEPT", 0)
    monkeypatch.setattr("skad.one_class._svm._FEW_ROUNDS", -1)
    again = cls(**settings).fit(X)
    np.testing.assert_array_equal(kept.support_, again.support_)
    np.testing.assert_allclose(kept.dual_coef_, again.dual_coef_, rtol=1e-8)
    scores = kept.score_samples(X)
    np.testing.assert_allclose(scores, again.score_samples(X), rtol=1e-9)
    np.testing.assert_allclose(kept.offset_, again.offset_, rtol=1e-9)
    for row, score in zip(X, scores, strict=True):  # as they are alone
        assert (kept.predict(row[None])[0] == 1) == (score >= kept.offset_)
