"""What docstrings say without exception holds without exception."""

import inspect
import re

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.utils.estimator_checks import check_estimator

import skad
from skad._limits import upper_limit

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
    "CBLOF": [({}, ["shifted", "rotated"])],
    "COPOD": [({"aggregation": a}, ["bent"]) for a in ("feature", "sample")],
    "ECOD": [({"aggregation": "feature"}, ["increasing", "decreasing"])],
    "HBOS": [
        ({"binning": b}, ["each scaled", "shifted"]) for b in ("static", "dynamic")
    ],
    "IsolationForest": [({}, ["each scaled", "shifted"])],
    "KNN": [
        ({"metric": "cosine"}, ["permuted"]),
        ({"metric": "manhattan"}, ["permuted", "shifted"]),
        ({"metric": "euclidean"}, ["permuted", "shifted"]),
    ],
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


def test_every_claim_that_scores_do_not_change_is_tested():
    claim = re.compile(
        r"\b(?:scores?|factor|Forests|it) do(?:es)? not change\b"
        "|changes its scores when"
    )
    found = {
        name
        for name, cls in skad.all_detectors()
        if claim.search(" ".join(inspect.getdoc(cls).split()))
    }
    assert found == set(UNCHANGED)


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
