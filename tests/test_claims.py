"""What docstrings say without exception holds without exception."""

import inspect
import re
import warnings

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

import skad
from skad._limits import upper_limit
from skad.calibration import ConformalDetector, EVTThreshold

RNG = np.random.default_rng(0)
MIXED = RNG.normal(size=(6, 6))
X, X_NEW = RNG.normal(size=(300, 6)) @ MIXED, 1.3 * RNG.normal(size=(100, 6)) @ MIXED
UNITS = np.array([1e-3, 1, 10, 1e4, 3, 0.2])
SHIFT = np.array([5, -3, 100, 1e3, 0, 2.0])
TURN = np.linalg.qr(RNG.normal(size=(6, 6)))[0]
ORDER = RNG.permutation(6)

CHANGES = {
    "each scaled": lambda rows: rows * UNITS,
    "scaled together": lambda rows: 7.5 * rows,
    "shifted": lambda rows: rows + SHIFT,
    "rotated": lambda rows: rows @ TURN,
    "permuted": lambda rows: rows[:, ORDER],
    "bent": lambda rows: np.where(rows > 0, 1.02 * rows, rows),  # no skewness turns
    "increasing": lambda rows: rows + 0.3 * np.tanh(rows),
    "decreasing": lambda rows: -np.sinh(rows / 4),
}

# What a class says does not change its scores, in each setting that it says it of.
UNCHANGED = {
    "ABOD": [({"n_neighbors": k}, ["shifted", "rotated"]) for k in (10, None)],
    "CBLOF": [({}, ["shifted", "rotated"])],
    "COF": [({}, ["shifted", "rotated", "scaled together"])],
    "CookDistance": [({}, ["each scaled", "shifted"])],
    "COPOD": [({"aggregation": a}, ["bent"]) for a in ("feature", "sample")],
    "ECOD": [({"aggregation": "feature"}, ["increasing", "decreasing"])],
    "HalfSpaceTrees": [({"random_state": 0}, ["each scaled", "shifted"])],
    "HBOS": [
        ({"binning": b}, ["each scaled", "shifted"]) for b in ("static", "dynamic")
    ],
    "HDBSCANOutliers": [({}, ["shifted", "rotated", "scaled together"])],
    "INNE": [({}, ["shifted", "rotated", "scaled together"])],
    "IsolationForest": [({}, ["each scaled", "shifted"])],
    "KNN": [
        ({"metric": "cosine"}, ["permuted"]),
        ({"metric": "manhattan"}, ["permuted", "shifted"]),
        ({"metric": "euclidean"}, ["permuted", "shifted"]),
    ],
    "LDKNN": [({}, ["shifted", "rotated"])],
    "LOCI": [({}, ["shifted", "rotated", "scaled together"])],
    "LOF": [
        ({"metric": "cosine"}, ["scaled together"]),
        ({"metric": "manhattan"}, ["scaled together", "shifted"]),
        ({"metric": "euclidean"}, ["scaled together", "shifted"]),
    ],
    "Mahalanobis": [
        *[({"covariance": c}, ["shifted"]) for c in ("ledoit_wolf", "oas")],
        *[
            ({"covariance": c}, ["shifted", "each scaled"])
            for c in ("empirical", "mcd")
        ],
        ({"covariance": "low_rank", "rank": 2}, ["shifted", "each scaled"]),
    ],
    "QMCD": [({}, ["each scaled", "shifted"])],
    "ROD": [({}, ["each scaled", "shifted"])],
    "RSHash": [({"random_state": 0}, ["each scaled", "shifted"])],
    "SOS": [({}, ["shifted", "rotated", "scaled together"])],
    "SpectralResidual": [
        ({"measure": m}, ["scaled together", "each scaled"])
        for m in ("saliency", "relative")
    ],
}
# Exceptions that a class names, so that nobody has to be told that they are none.
CHANGED = [
    ("LOF", {"metric": "cosine"}, "shifted"),
    ("KNN", {"metric": "cosine"}, "shifted"),
    ("Mahalanobis", {"covariance": "ledoit_wolf"}, "each scaled"),
    ("Mahalanobis", {"covariance": "oas"}, "each scaled"),
]


def difference(name, setting, change):
    """Return how far a change of the features moves scores, in parts of their range."""
    detector = getattr(skad, name)(**setting)
    if "random_state" in detector.get_params():
        detector.set_params(random_state=0)
    change = CHANGES[change]
    scores = clone(detector).fit(X).score_samples(X_NEW)
    moved = clone(detector).fit(change(X)).score_samples(change(X_NEW))
    return np.abs(moved - scores).max() / np.ptp(scores)


@pytest.mark.parametrize(
    ("name", "setting", "change"),
    [
        (name, setting, change)
        for name, claims in UNCHANGED.items()
        for setting, changes in claims
        for change in changes
    ],
)
def test_scores_do_not_change(name, setting, change):
    assert difference(name, setting, change) < 1e-8


@pytest.mark.parametrize(("name", "setting", "change"), CHANGED)
def test_exceptions_are_named(name, setting, change):
    assert difference(name, setting, change) > 1e-3
    words = " ".join(inspect.getdoc(getattr(skad, name)).split())
    (value,) = setting.values()
    assert re.search(rf'but for [^.]*"{value}"', words)


@pytest.mark.parametrize("covariance", ["empirical", "mcd"])
def test_units_far_apart_do_not_change_scores(covariance):
    rows, units = X[:200], 10.0 ** np.array([-6, 0, 3, 6, -2, 1])
    detector = skad.Mahalanobis(covariance=covariance, random_state=0)
    scores = clone(detector).fit(rows).score_samples(X_NEW)
    moved = clone(detector).fit(rows * units).score_samples(X_NEW * units)
    np.testing.assert_allclose(moved, scores, rtol=1e-7)


def test_every_claim_that_scores_do_not_change_is_tested():
    claim = re.compile(
        r"\b(?:[Ss]cores?|factor|Forests|it) do(?:es)? not change\b"
        "|changes its scores when"
    )
    found = {
        name
        for name, cls in skad.all_detectors()
        if claim.search(" ".join(inspect.getdoc(cls).split()))
    }
    assert found == set(UNCHANGED)


@pytest.mark.parametrize(("n_classes", "sign"), [(2, 0), (3, 1), (10, 1)])
def test_concentrations_of_outliers_shrink_with_three_classes_and_more(n_classes, sign):
    detector = skad.DirichletPrior(hidden_sizes=(4,))
    detector.classes_ = np.arange(n_classes)
    network = detector._network((3,))
    logits = torch.zeros(1, n_classes, requires_grad=True)  # concentrations of one
    (slope,) = torch.autograd.grad(network.outside(logits).sum(), logits)
    assert (torch.sign(slope.round(decimals=6)) == sign).all()
    network = detector.set_params(loss="dpn+")._network((3,))
    (slope,) = torch.autograd.grad(network.outside(logits).sum(), logits)
    assert (slope < 0).all()


def test_the_share_in_the_principal_space_is_in_0_to_1():
    labels = (X[:, 0] > 0).astype(int)
    detector = skad.NECO(n_components=1.0, weighted=False).fit(X, labels)
    scores = detector.score_samples(np.concatenate([X, X_NEW, X.mean(0)[None]]))
    assert 0 <= scores.min() <= scores.max() <= 1


# --------------------------------------------------------------------- shares and rates


@pytest.mark.parametrize("name", ["OneClassSVM", "SVDD"])
@pytest.mark.parametrize("kernel", ["rbf", "linear", "poly"])
@pytest.mark.parametrize("nu", [0.02, 0.1, 0.5])
def test_at_most_the_share_nu_is_outside(name, kernel, nu):
    detector = getattr(skad, name)(nu=nu, kernel=kernel).fit(X)
    outside = (detector.decision_function(X) < 0).mean()
    assert outside <= nu
    if name == "OneClassSVM":
        assert len(detector.support_) >= nu * len(X)


@pytest.mark.parametrize("m", [19, 29, 39, 50])
@pytest.mark.parametrize("shape", [0.2, 1.0, 5.0])
def test_a_limit_is_passed_at_the_rate_or_between_those_of_two_ranks(m, shape):
    rng, rate = np.random.default_rng(m), 0.05
    draws = (1 - rng.random((4000, m))) ** -shape  # of a Pareto distribution
    passed = [upper_limit(row, rate) ** (-1 / shape) for row in draws]
    rank = (m + 1) * (1 - rate)
    near = [1 - np.floor(rank) / (m + 1), 1 - np.ceil(rank) / (m + 1)]
    error = 4 * np.std(passed) / np.sqrt(len(passed))
    assert near[1] - error < np.mean(passed) < near[0] + error
    if m in (19, 39):
        assert np.mean(passed) == pytest.approx(rate, abs=error)


# --------------------------------------------------------------------------------- rows

STREAMS = [
    (name, cls) for name, cls in skad.all_detectors() if hasattr(cls, "partial_fit")
]


def test_a_stream_of_edges_begins_with_one_edge():
    """`test_first_use` has those of rows."""
    assert {cls._data for _, cls in STREAMS} == {"rows", "edges"}
    for _, cls in STREAMS:
        if cls._data == "edges":
            edges = np.array([[1.0, 2.0, 1.0]])
            detector = cls(random_state=0).partial_fit(edges)
            assert np.isfinite(detector.score_samples(edges)).all()


def test_what_a_default_needs_is_said_before_anything_else_is_wrong_with_the_rows():
    """README names the class whose default asks for more rows than the checks have."""
    results = check_estimator(skad.ConformalDetector(), on_fail=None, on_skip=None)
    failed = [row for row in results if row["status"] == "failed"]
    assert failed
    for row in failed:
        assert "needs at least 19 normal samples" in repr(row["exception"]), row
    assert len(results) - len(failed) > 25


# ------------------------------------------------------------------ signs and bounds

# Maps that are "never negative", in each setting that the class says it of.
NEVER_NEGATIVE = {
    "COF": [{}],
    "KNN": [{"metric": m} for m in ("euclidean", "cosine", "manhattan")],
    "LOF": [{"metric": m} for m in ("euclidean", "cosine", "manhattan")],
    "Mahalanobis": [{}, {"covariance": "ledoit_wolf"}],
    "MatrixSketch": [{}],
    "PCAReconstruction": [
        {"measure": m} for m in ("both", "reconstruction", "hotelling")
    ],
    "KernelPCAReconstruction": [{}, {"kernel": "linear"}, {"n_components": 40}],
    "OneClassSVM": [{}, {"nu": 0.05}],
    "SVDD": [{}, {"nu": 0.05}],
    "ZScore": [{}],
}


@pytest.mark.parametrize(
    ("name", "setting"),
    [(name, own) for name, settings in NEVER_NEGATIVE.items() for own in settings],
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.filterwarnings("ignore")
def test_maps_are_never_negative(name, setting, dtype):
    rows = np.concatenate([X[:60], X[:5], 0 * X[:2], np.round(X[:20])]).astype(dtype)
    far = np.concatenate([rows, 1e3 * rows, X_NEW]).astype(dtype)
    detector = getattr(skad, name)(**setting).fit(rows)
    maps = detector.transform(far)
    assert maps.min() >= 0, maps.min()


def test_every_map_that_is_said_to_be_never_negative_is_tested():
    found = {
        name
        for name, cls in skad.all_detectors()
        if re.search(r"never negative\b", " ".join(inspect.getdoc(cls).split()))
        and cls._data in ("rows", "series")
    }
    assert found == set(NEVER_NEGATIVE)


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan", "sqeuclidean"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("algorithm", ["brute", "kd_tree"])
def test_a_training_row_is_never_its_own_neighbour(metric, dtype, algorithm):
    rows = (X + 20).astype(dtype)  # none is there twice
    algorithm = "brute" if metric == "cosine" else algorithm
    detector = skad.KNN(1, metric=metric, algorithm=algorithm).fit(rows)
    expected = detector.score_samples(rows)
    assert (expected < 0).all()
    # whatever brings them: arrays in another order, tensors, one row at a time
    for given in (np.asfortranarray(rows), torch.tensor(rows)):
        found = np.asarray(detector.score_samples(given))
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-9)
    single = [float(detector.score_samples(row[None])[0]) for row in rows[:20]]
    np.testing.assert_allclose(single, expected[:20], rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("method", ["split", "cross", "jackknife+"])
def test_p_values_are_between_their_bounds(method):
    detector = ConformalDetector(skad.KNN(), method=method).fit(X)
    p = detector.p_values(np.concatenate([X, 1e6 * X, 0 * X]))
    assert p.max() <= 1
    assert p.min() == pytest.approx(1 / (detector.n_calibration_ + 1))


@pytest.mark.parametrize("rate", [0.05, 0.2])
def test_few_beyond_all_calibration_scores_are_needed_to_find_something(rate):
    detector = ConformalDetector(skad.KNN()).fit(X)
    n, m = detector.n_calibration_, 200
    needed = m / (rate * (n + 1))
    inside = X[np.argsort(-detector.score_samples(X))[:5]]
    for beyond in range(1, m, 7):
        rows = np.concatenate([1e6 + X[:beyond], np.resize(inside, (m - beyond, 6))])
        labels = detector.detect(rows, false_discovery_rate=rate)
        assert (labels == -1).any() == (beyond >= needed)


def test_a_regret_is_between_its_bounds():
    y = np.arange(len(X)) % 3
    linear = torch.nn.Linear
    model = torch.nn.Sequential(linear(6, 8), torch.nn.ReLU(), linear(8, 3)).eval()
    detector = skad.PNML(model).fit(X.astype(np.float32), y)
    rows = np.concatenate([X, 1e5 * X, 0 * X[:1], 1e-9 * X]).astype(np.float32)
    anomaly = -detector.score_samples(rows)
    assert anomaly.min() >= 0
    assert anomaly.max() <= 1


def test_a_score_does_not_depend_on_the_length_of_a_sample():
    detector = skad.RSRAE(max_epochs=2, random_state=0).fit(X)
    scores = detector.score_samples(X_NEW)
    longer = detector.score_samples(50 * X_NEW)
    np.testing.assert_allclose(longer, scores, rtol=1e-4)


@pytest.mark.parametrize("n", [12, 60, 9000])
def test_a_tail_holds_at_least_ten_and_at_most_a_thousand(n):
    scores = np.random.default_rng(n).normal(size=(n, 1))
    detector = EVTThreshold(skad.KDE()).fit(scores)
    assert 10 <= detector.n_peaks_ <= 1000


# --------------------------------------------------------------- equalities and costs


@pytest.mark.parametrize(
    "detector",
    [
        skad.KNN(),
        skad.Mahalanobis(covariance="empirical"),
        skad.GMM(reg_covar=0.0, random_state=0),
        skad.KDE(),
    ],
    ids=repr,
)
def test_the_threshold_is_of_rows_that_were_really_left_out(detector):
    rows = X[:60]
    left_out = [
        clone(detector).fit(np.delete(rows, i, axis=0)).score_samples(rows[i : i + 1])
        for i in range(len(rows))
    ]
    expected = -upper_limit(-np.concatenate(left_out), 0.05)
    assert detector.fit(rows).offset_ == pytest.approx(expected, rel=1e-6)


def test_a_sketch_loses_no_more_than_it_says():
    rows = np.random.default_rng(0).normal(size=(504, 30)) * np.linspace(3, 0.1, 30)
    detector = skad.MatrixSketch(n_components=3, sketch_size=8).fit(rows)
    # the last few rows wait in a buffer: for some number of rows it is their sketch
    lost = [
        np.linalg.eigvalsh(
            rows[:n].T @ rows[:n] - detector.sketch_.T @ detector.sketch_
        )[[0, -1]]
        for n in range(480, 505)
    ]
    within = [low > -1e-6 and high <= detector.sketch_error_ for low, high in lost]
    assert any(within)
    assert 0 < detector.sketch_error_ <= (rows**2).sum() / 9
    again = skad.MatrixSketch(n_components=3, sketch_size=8)
    for start in range(0, 504, 13):
        again.partial_fit(rows[start : start + 13])
    np.testing.assert_allclose(again.sketch_, detector.sketch_, atol=1e-9)


@pytest.mark.parametrize(
    "detector", [skad.PCAReconstruction(), skad.Mahalanobis()], ids=repr
)
def test_a_fit_is_in_double_precision_whatever_the_dtype(detector):
    rows = (X + 1e4).astype(np.float32)
    single, double = clone(detector).fit(rows), clone(detector).fit(rows.astype(float))
    name = "components_" if hasattr(single, "components_") else "covariance_"
    found, expected = getattr(single, name), getattr(double, name)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)


SERIES = np.sin(np.arange(900) / 9)[:, None] * [1, 0.5] + 0.1 * RNG.normal(
    size=(900, 2)
)


@pytest.mark.parametrize(
    "detector",
    [
        skad.LeftMatrixProfile(window_size=30),
        skad.RegressionForecaster(window_size=20),
    ],
    ids=repr,
)
def test_what_never_looks_ahead_scores_a_beginning_as_the_whole(detector):
    detector.fit(SERIES[:400])
    whole = detector.score_samples(SERIES[400:])
    beginning = detector.score_samples(SERIES[400:700])
    np.testing.assert_allclose(beginning, whole[:300], rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    "name", ["SubsequenceKNN", "SubsequenceLOF", "MatrixProfile", "Discord", "PASAD"]
)
@pytest.mark.filterwarnings("ignore")
def test_no_window_runs_from_one_series_to_the_next(name):
    detector = getattr(skad, name)(window_size=30).fit(SERIES[:400])
    new, groups = SERIES[400:], np.repeat(["a", "b"], 250)
    parts = [detector.score_samples(new[groups == group]) for group in "ab"]
    scores = detector.score_samples(new, groups=groups)
    np.testing.assert_allclose(scores, np.concatenate(parts), rtol=1e-9)


def test_false_discoveries_are_those_of_benjamini_and_hochberg():
    detector = ConformalDetector(skad.KNN()).fit(X)
    rows = np.concatenate([X_NEW, X_NEW[:30] + 20])
    p = detector.p_values(rows)
    ranks = np.arange(1, len(p) + 1) / len(p)
    (passed,) = np.nonzero(np.sort(p) <= 0.1 * ranks + 1e-12)
    flagged = detector.detect(rows, false_discovery_rate=0.1) == -1
    assert passed.size
    np.testing.assert_array_equal(flagged, p <= np.sort(p)[passed[-1]])


def test_no_class_is_without_a_weight_unsaid():
    rng = np.random.default_rng(0)
    rows, y = rng.normal(size=(90, 4)) + np.arange(3).repeat(30)[:, None], np.arange(3)
    linear = torch.nn.Linear(4, 3)
    with pytest.warns(UserWarning, match="classes without a weight among 4 features"):
        skad.DICE(linear).fit(rows.astype(np.float32), y.repeat(30))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "sparsity=")
        skad.DICE(linear, sparsity=0.0).fit(rows.astype(np.float32), y.repeat(30))


def test_a_fitted_array_is_no_part_of_a_larger_one():
    detector = skad.LOF().fit(X)
    assert detector._reach_.base is None or detector._reach_.base.nbytes < 9 * len(X)
    mean = skad.KDE().fit(X)._mean_
    assert mean.base is None or mean.base.nbytes == mean.nbytes


@pytest.mark.parametrize(
    ("apart", "length", "window"),
    [(400, 1, 100), (400, 20, 100), (1000, 100, 50), (1000, 200, 100), (100, 1, 30)],
)
@pytest.mark.parametrize("form", ["tsb", "original"])
def test_noise_under_the_volumes_is_between_its_bounds(apart, length, window, form):
    steps, rng = np.arange(2000), np.random.default_rng(0)
    place = steps % apart
    y = np.where(place < length, -1, 1)
    near = (place < length + window // 2) | (place >= apart - window // 2)
    noise = rng.normal(size=(6, 2000))
    found = np.mean(
        [skad.metrics.vus_pr(y, one, window=window, form=form) for one in noise]
    )
    share = (y == -1).mean()
    assert share < found < near.mean()
    if length >= window:
        assert found < 1.4 * share
    assert found < share + near.mean() / 2
    areas = [skad.metrics.vus_roc(y, one, window=window, form=form) for one in noise]
    assert 0.5 < np.mean(areas) < 0.98


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_the_map_of_several_clouds_sums_to_what_it_says(covariance_type):
    detector = skad.GMM(3, covariance_type=covariance_type, random_state=0).fit(X)
    mixture, d = detector.mixture_, X.shape[1]
    shares = mixture.predict_proba(X_NEW)
    entropy = -np.sum(shares * np.log(shares + 1e-300), axis=1)
    whole = {
        "full": lambda j: mixture.covariances_[j],
        "tied": lambda j: mixture.covariances_,
        "diag": lambda j: np.diag(mixture.covariances_[j]),
        "spherical": lambda j: mixture.covariances_[j] * np.eye(d),
    }[covariance_type]
    heights = [np.linalg.slogdet(2 * np.pi * whole(j))[1] / 2 for j in range(3)]
    constant = shares @ (heights - np.log(mixture.weights_))
    expected = -detector.score_samples(X_NEW) + entropy - constant
    np.testing.assert_allclose(detector.transform(X_NEW).sum(1), expected, atol=1e-8)


def test_both_tail_detectors_agree_on_the_papers_formula():
    one, other = (
        getattr(skad, name)(aggregation="sample").fit(X) for name in ("ECOD", "COPOD")
    )
    np.testing.assert_array_equal(one.score_samples(X_NEW), other.score_samples(X_NEW))


def test_all_scalings_add_the_same_to_an_angle():
    scores = skad.ABOD().fit(X).score_samples(X_NEW)
    larger = skad.ABOD().fit(7.5 * X).score_samples(7.5 * X_NEW)
    np.testing.assert_allclose(scores - larger, 4 * np.log(7.5))


def test_one_layer_of_many_is_deep_svdd():
    rows, new = X / X.std(0), X_NEW / X.std(0)
    setting = {"max_epochs": 2, "random_state": 0}
    expected = skad.DeepSVDD(**setting).fit(rows).score_samples(new)
    for detector in (skad.MOCCA(layers=(-1,), **setting), skad.DeepSAD(**setting)):
        found = detector.fit(rows).score_samples(new)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["HalfSpaceTrees", "RSHash", "XStream", "RRCF"])
def test_pieces_of_a_stream_do_not_matter(name):
    rows = RNG.normal(size=(1500, 3))
    one, other = (getattr(skad, name)(random_state=0) for _ in range(2))
    for detector, size in ((one, 500), (other, 250)):
        for start in range(0, 1500, size):
            detector.partial_fit(rows[start : start + size])
    np.testing.assert_allclose(
        other.score_samples(rows[:50]), one.score_samples(rows[:50]), rtol=1e-9
    )
