"""Weights, known outliers, masks and boxes: what `fit` takes besides `X` and `y`."""

import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn.covariance
import sklearn.ensemble
import sklearn.neighbors
import sklearn.svm
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.metrics import make_scorer, roc_auc_score
from sklearn.metrics.pairwise import laplacian_kernel, rbf_kernel
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skad._cross_fitting import cross_fitted, folds, part_of
from skad._fit_parameters import MasksMixin
from skad._limits import thinned, upper_limit, weighted_quantile
from skad._parameters import with_parameters
from skad._weights import check_sample_weight
from skad.density import KDE, Mahalanobis
from skad.density._covariance import weighted_ledoit_wolf
from skad.ensemble import IsolationForest
from skad.image._base import ImageDetector
from skad.marginal import HBOS
from skad.one_class import SVDD, DeepSAD, OneClassSVM
from skad.ood import GeneralizedODIN, OutlierExposure
from tests._instances import identify
from tests._weighted import weight_failures


class LeftOut(KDE):
    """A density whose scores of training rows leave them out, as its threshold says."""

    _honesty = "leave one out"

    def _honest_anomaly(self, X, y, anomaly, **params):
        return self._seen_anomaly(X, anomaly)


# As exactly as repetition can be, up to rounding.
EXACT = [
    KDE(),
    KDE(0.3),
    KDE("scott", kernel="exponential"),
    KDE("silverman"),
    Mahalanobis(),
    Mahalanobis("oas"),
    Mahalanobis("ledoit_wolf"),
    Mahalanobis("low_rank", rank=2),
    HBOS(),
    HBOS("auto"),
    HBOS(binning="dynamic"),
    HBOS("auto", binning="dynamic"),
]
# As exactly as the solver is.
SOLVED = [
    OneClassSVM(tol=1e-9),
    OneClassSVM(nu=0.1, tol=1e-9),
    OneClassSVM(nu=1.0, tol=1e-9),
    OneClassSVM(kernel="poly", degree=2, coef0=1.0, tol=1e-9),
    OneClassSVM(kernel=laplacian_kernel, tol=1e-9),
    OneClassSVM(solver="fourier", n_basis=50, random_state=0, tol=1e-9),
    OneClassSVM(solver="nystroem", n_basis=999, random_state=0, tol=1e-9),
]
ALL = [Mahalanobis(), KDE(), HBOS(), OneClassSVM(), IsolationForest(n_estimators=5)]
every = pytest.mark.parametrize("detector", ALL, ids=identify)


@pytest.fixture(scope="module")
def rows():
    """Rows, two of them equal, whole weights with zeros, and rows to score."""
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(80, 4)), rng.integers(0, 4, size=80)
    X[6], weights[5:7] = X[5], (2, 1)
    return X, weights, 2 * rng.normal(size=(30, 4))


def assert_repeats(detector, X, weights, new, rtol):
    """Raise unless weights and repetition give the same detector."""
    weighted = clone(detector).fit(X, sample_weight=weights)
    repeated = clone(detector).fit(np.repeat(X, weights, axis=0))
    for method in ("score_samples", "transform"):
        for part in (X, new):
            found, expected = (
                getattr(one, method)(part) for one in (weighted, repeated)
            )
            assert_allclose(found, expected, rtol=rtol, atol=rtol)
    assert_allclose(weighted.offset_, repeated.offset_, rtol=rtol, atol=rtol)
    plain = clone(detector).fit(X)
    assert np.abs(plain.score_samples(new) - weighted.score_samples(new)).max() > 1e-6


# ------------------------------------------------------------------------------ weights


@pytest.mark.parametrize("contamination", [0.1, 0.37])
@pytest.mark.parametrize("detector", EXACT, ids=identify)
def test_whole_weights_repeat_rows(detector, contamination, rows):
    # the exponential kernel takes roots of rounding errors between equal rows
    rtol = 1e-6 if getattr(detector, "kernel", "") == "exponential" else 1e-10
    detector = clone(detector).set_params(contamination=contamination)
    assert_repeats(detector, *rows, rtol)


@pytest.mark.parametrize(
    "detector",
    [LeftOut(), *(one for one in EXACT if not weight_failures(one))],
    ids=identify,
)
def test_thresholds_of_rows_left_out_are_those_of_repeated_rows(detector, rows):
    assert_repeats(detector, *rows, 1e-6 if "exponential" in repr(detector) else 1e-9)


def test_copies_score_rows_with_weights_in_their_order(rows):
    X, _, _ = rows
    weights = np.random.default_rng(3).uniform(0.5, 2, size=len(X))
    detector = Mahalanobis("low_rank", rank=2).fit(X, sample_weight=weights)
    found = cross_fitted(detector, X, None, {"sample_weight": weights})
    held = folds(len(X))[0]
    kept = np.setdiff1d(np.arange(len(X)), held)
    copy = clone(detector).fit(X[kept], sample_weight=weights[kept])
    assert_allclose(found[held], -copy.score_samples(X[held]), rtol=1e-10)
    many = np.random.default_rng(3).normal(size=(1500, 4))
    found = cross_fitted(detector, many, None, {"sample_weight": np.ones(1500)})
    assert_array_equal(np.flatnonzero(~np.isnan(found)), np.sort(folds(1500)[0]))


@pytest.mark.parametrize(
    "column",
    [
        [3, 4, 5],
        [[3], [4, 4], []],
        [None, np.ones((1, 4)), np.ones((2, 4))],
        np.array([3, 4, 5]),
        torch.tensor([3, 4, 5]),
        pd.Series([3, 4, 5], index=[2, 1, 0]),
        pd.DataFrame({"a": [3, 4, 5]}),
    ],
    ids=lambda column: type(column).__name__,
)
def test_columns_of_any_kind_are_cut(column):
    found = part_of(column, np.array([2, 0]), 3)
    values = column.to_numpy() if hasattr(column, "iloc") else column
    assert len(found) == 2
    assert_array_equal(np.asarray(found[:1]).ravel()[:1], np.ravel(values[2])[:1])
    assert part_of(column, np.array([2, 0]), 4) is column
    assert part_of(None, np.array([2, 0]), 3) is None


def test_the_anomalies_of_reports_count_weights(rows):
    X, weights, _ = rows
    for contamination in ("auto", 0.1):
        detector = Mahalanobis(contamination=contamination)
        repeated = clone(detector).fit(np.repeat(X, weights, axis=0))
        detector.fit(X, sample_weight=weights)
        assert_allclose(detector._reference_, repeated._reference_, rtol=1e-9)
    ordered = np.sort(np.random.default_rng(0).normal(size=1000))
    found = thinned(ordered, np.repeat([1.0, 3.0], 500))
    assert found.shape == (500,)
    assert np.mean(found > ordered[499]) == pytest.approx(0.75, abs=0.004)


@pytest.mark.parametrize("detector", SOLVED, ids=identify)
def test_whole_weights_repeat_rows_of_a_kernel_machine(detector, rows):
    assert_repeats(detector, *rows, 1e-6)


def test_large_kernel_machines_start_within_the_bounds(rows):
    rng = np.random.default_rng(1)
    X, weights = rng.normal(size=(1600, 3)), rng.integers(0, 3, size=1600)
    weights[::4] = weights[::4] > 1  # the quarter that is solved first has less room
    detector = OneClassSVM(nu=0.9, tol=1e-7)
    assert_repeats(detector, X, weights, rng.normal(size=(50, 3)), 1e-5)


@pytest.mark.parametrize("detector", [*EXACT, *SOLVED], ids=identify)
def test_weights_of_one_change_nothing(detector, rows):
    X, _, new = rows
    with_ones = clone(detector).fit(X, sample_weight=np.ones(len(X)))
    plain = clone(detector).fit(X)
    assert_allclose(with_ones.score_samples(new), plain.score_samples(new), rtol=1e-6)


@pytest.mark.parametrize("detector", EXACT[:1] + EXACT[4:], ids=identify)
def test_tensors_and_single_precision_take_weights(detector, rows):
    X, weights, new = rows
    detector = clone(detector).set_params(contamination=0.2)
    plain = clone(detector).fit(X, sample_weight=weights)
    one = clone(detector).fit(torch.tensor(X), sample_weight=torch.tensor(weights))
    found = one.score_samples(torch.tensor(new)).numpy()
    assert_allclose(found, plain.score_samples(new), rtol=1e-9)
    assert_allclose(one.offset_, plain.offset_, rtol=1e-9)
    small = clone(detector).fit(X.astype(np.float32), sample_weight=weights)
    single = clone(detector).fit(np.repeat(X.astype(np.float32), weights, axis=0))
    assert_allclose(small.offset_, single.offset_, rtol=1e-4)


def test_densities_with_any_weights_are_those_of_scikit_learn(rows):
    X, weights, new = rows
    weights = weights + 0.25
    ours = KDE(0.7).fit(X, sample_weight=weights)
    theirs = sklearn.neighbors.KernelDensity(bandwidth=0.7, rtol=1e-12)
    theirs.fit(X, sample_weight=weights)
    assert_allclose(ours.score_samples(new), theirs.score_samples(new), rtol=1e-8)


@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
def test_the_own_row_loses_one_repetition(kernel, rows):
    X, _, _ = rows
    X, weights = X[10:40], np.random.default_rng(2).uniform(0.2, 3, size=30)
    detector = KDE(0.8, kernel=kernel).fit(X, sample_weight=weights)
    found = detector.score_samples(X)
    for i in range(30):
        rest = weights.copy()
        rest[i] = max(rest[i] - 1, 0)
        kept = rest > 0
        naive = sklearn.neighbors.KernelDensity(bandwidth=0.8, kernel=kernel)
        naive.fit(X[kept], sample_weight=rest[kept])
        assert_allclose(found[i], naive.score_samples(X[i : i + 1])[0], rtol=1e-5)
    again = pickle.loads(pickle.dumps(detector))
    assert_array_equal(again.score_samples(X), found)


def test_ledoit_wolf_with_weights_is_scikit_learns_of_repeated_rows(rows):
    X, weights, _ = rows
    repeated = np.repeat(X, weights, axis=0)
    expected, _ = sklearn.covariance.ledoit_wolf(repeated)
    kept = weights > 0
    centred = (X - repeated.mean(axis=0))[kept]
    found, _ = weighted_ledoit_wolf(centred, weights[kept])
    assert_allclose(found, expected, rtol=1e-12)


def test_the_subset_of_mcd_refuses_weights(rows):
    with pytest.raises(ValueError, match="repeat the rows"):
        Mahalanobis("mcd").fit(rows[0], sample_weight=rows[1])


@pytest.mark.parametrize("nu", [0.1, 0.5, 0.9])
def test_kernel_machines_with_weights_are_libsvms(nu, rows):
    X, weights, new = rows
    weights = weights + np.linspace(0.1, 0.9, len(X))
    ours = OneClassSVM(nu=nu, gamma=0.3, tol=1e-9).fit(X, sample_weight=weights)
    theirs = sklearn.svm.OneClassSVM(nu=nu, gamma=0.3, tol=1e-9)
    theirs.fit(X, sample_weight=weights)
    assert_allclose(ours.score_samples(new), theirs.score_samples(new), rtol=1e-6)
    assert_allclose(ours.offset_, theirs.offset_[0], rtol=1e-6)


def test_rows_without_weight_stay_columns_of_a_kernel_matrix(rows):
    X, weights, new = rows
    detector = OneClassSVM(kernel="precomputed", nu=0.3, tol=1e-9)
    detector.fit(rbf_kernel(X, gamma=0.2), sample_weight=weights)
    plain = OneClassSVM(gamma=0.2, nu=0.3, tol=1e-9).fit(X, sample_weight=weights)
    found = detector.score_samples(rbf_kernel(new, X, gamma=0.2))
    assert_allclose(found, plain.score_samples(new), rtol=1e-7)
    assert not set(detector.support_) & set(np.flatnonzero(weights == 0))


def test_landmarks_are_drawn_by_weight():
    X = np.random.default_rng(0).normal(size=(200, 2))
    weights = np.where(np.arange(200) < 20, 1e9, 1e-6)
    detector = OneClassSVM(solver="nystroem", n_basis=20, random_state=0)
    detector.fit(X, sample_weight=weights)
    assert_array_equal(np.sort(detector.landmarks_, axis=0), np.sort(X[:20], axis=0))


@pytest.mark.parametrize(
    "params", [{"bootstrap": True}, {"max_samples": 30}, {"max_samples": 0.3}], ids=repr
)
def test_forests_draw_rows_as_scikit_learns(params, rows):
    X, weights, new = rows
    weights = weights + 0.5
    ours = IsolationForest(20, random_state=0, contamination=0.2, **params)
    theirs = sklearn.ensemble.IsolationForest(
        n_estimators=20, random_state=0, contamination=0.2, **params
    )
    ours.fit(X, sample_weight=weights)
    theirs.fit(X, sample_weight=weights)
    assert_allclose(ours.score_samples(new), theirs.score_samples(new), rtol=1e-12)
    assert ours.offset_ == weighted_quantile(ours.score_samples(X), 0.2, weights)
    assert ours.offset_ != theirs.offset_  # which counts each row once


def test_forests_of_all_rows_say_that_they_know_no_weights(rows):
    X, weights, _ = rows
    with pytest.warns(UserWarning, match="bootstrap=True"):
        IsolationForest(5, contamination=0.1).fit(X, sample_weight=weights)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        IsolationForest(5, contamination=0.1).fit(X, sample_weight=np.full(len(X), 2))
        forest = IsolationForest(5, contamination=0.1, bootstrap=True)
        forest.fit(X, sample_weight=weights)


def test_repetition_and_weight_draw_forests_to_the_same_rows():
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(40, 2)), np.repeat([1, 9], 20)
    repeated = np.repeat(X, weights, axis=0)
    forest = IsolationForest(400, bootstrap=True, max_samples=40, contamination=0.1)
    scores = [
        clone(forest).set_params(random_state=i).fit(train, **given).score_samples(X)
        for i, (train, given) in enumerate(
            [(repeated, {}), (X, {"sample_weight": weights}), (X, {})]
        )
    ]
    repeated, weighted, plain = (part[20:].mean() - part[:20].mean() for part in scores)
    assert min(repeated, weighted) > plain + 0.02


@every
@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ([1.0] * 79, "expected"),
        (np.ones((80, 1)), "1D"),
        ([0.0] * 80, "zero or negative weights"),
        ([-1.0] + [1.0] * 79, "[Nn]egative"),
        ([np.nan] + [1.0] * 79, "NaN"),
        ([np.inf] + [1.0] * 79, "infinity"),
        ([1 / 80] * 80, "sample_weight.mean"),
        (["a"] * 80, "could not convert"),
    ],
)
def test_bad_weights_are_refused_with_words(detector, weights, message, rows):
    detector = clone(detector).fit(rows[0])
    before = pickle.dumps(detector)
    with pytest.raises(ValueError, match=message):
        detector.fit(rows[0], sample_weight=weights)
    assert pickle.dumps(detector) == before


def test_checked_weights_are_numbers():
    for weights in ([1, 2], np.array([1, 2]), torch.tensor([1, 2]), pd.Series([1, 2])):
        found = check_sample_weight(weights, 2)
        assert_array_equal(found, [1.0, 2.0])
        assert found.dtype == np.float64
    assert_array_equal(check_sample_weight(3, 2), [3.0, 3.0])


@every
def test_labels_are_predicted_with_the_weights_of_the_fit(detector, rows):
    X, weights, _ = rows
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = clone(detector)
        if "random_state" in detector.get_params():
            detector.set_params(random_state=0)
        found = detector.fit_predict(X, sample_weight=weights)
        assert_array_equal(found, detector.fit(X, None, weights).predict(X))


def test_weights_of_dask_rows_are_refused(rows):
    array = pytest.importorskip("dask.array")
    X = array.from_array(rows[0], chunks=(20, 4))
    with pytest.raises(ValueError, match="compute"):
        HBOS(contamination=0.1).fit(X, sample_weight=rows[1])


@pytest.mark.parametrize("covariance", ["empirical", "oas"])
def test_streams_count_weights(covariance, rows):
    X, weights, new = rows
    repeated = np.repeat(X, weights, axis=0)
    whole = Mahalanobis(covariance, contamination=0.2).fit(repeated)
    parts = Mahalanobis(covariance, contamination=0.2)
    parts.partial_fit(X[:30], sample_weight=weights[:30])
    parts.partial_fit(X[30:], sample_weight=weights[30:])
    mixed = Mahalanobis(covariance, contamination=0.2)
    mixed.partial_fit(repeated[: weights[:30].sum()])
    mixed.partial_fit(X[30:50], sample_weight=weights[30:50])
    mixed.partial_fit(np.repeat(X[50:], weights[50:], axis=0))
    first, second = (
        Mahalanobis(covariance, contamination=0.2).fit(X[part], sample_weight=w)
        for part, w in [
            (slice(0, 30), weights[:30]),
            (slice(30, 80), weights[30:]),
        ]
    )
    plain = Mahalanobis(covariance, contamination=0.2).fit(
        repeated[weights[:30].sum() :]
    )
    for found in (parts, mixed, first.merge(second), first.merge(plain)):
        assert found.n_samples_seen_ == len(repeated)
        assert_allclose(found.score_samples(new), whole.score_samples(new), rtol=1e-9)
        assert_allclose(found.offset_, whole.offset_, rtol=1e-9)
        further = clone(whole).fit(np.r_[repeated, new])
        assert_allclose(found.partial_fit(new).offset_, further.offset_, rtol=1e-9)


def test_long_streams_thin_weights_with_their_rows():
    rng = np.random.default_rng(0)
    X, weights = rng.normal(size=(9000, 2)), rng.integers(1, 4, size=9000)
    detector = Mahalanobis(contamination=0.1)
    for start in range(0, 9000, 1000):
        part = slice(start, start + 1000)
        detector.partial_fit(X[part], sample_weight=weights[part])
    stride, sample = detector._sample_
    assert_array_equal(sample, X[::stride])
    assert_array_equal(detector._sample_weights_, weights[::stride])
    flagged = np.average(detector.predict(X) == -1, weights=weights)
    assert 0.08 < flagged < 0.12


def test_limits_with_whole_weights_are_those_of_repeated_values():
    rng = np.random.default_rng(0)
    for m in range(2, 60):
        values = rng.normal(size=m).round(1) + (5 if m % 2 else 0)
        weights = rng.integers(1, 4, size=m).astype(float)
        repeated = np.repeat(values, weights.astype(int))
        rate = rng.uniform(0.01, 0.5)
        found = upper_limit(values, rate, weights)
        assert_allclose(found, upper_limit(repeated, rate), rtol=1e-12)
        assert weighted_quantile(values, rate, weights) == np.quantile(repeated, rate)


@pytest.mark.parametrize("n", [100, 1500])
def test_cross_fitted_thresholds_hold_with_weights(n):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, 3))
    # half of the rows would be twice as wide as what they are weighted to
    X[::2] *= 3
    weights = np.where(np.arange(n) % 2, 10.0, 0.01)
    detector = Mahalanobis("ledoit_wolf", false_alarm_rate=0.1)
    flagged = detector.fit(X, sample_weight=weights).predict(rng.normal(size=(4000, 3)))
    assert 0.03 < np.mean(flagged == -1) < 0.2


def test_searches_cut_weights_to_their_folds(rows):
    X, weights, _ = rows
    rng = np.random.default_rng(1)
    X, weights = rng.permutation(X[weights > 0]) + 0.0, weights[weights > 0]
    X += 0.1 * np.arange(len(X))[:, None]  # no two are equal
    seen = []

    class Seeing(HBOS):
        def _fit(self, X, y, sample_weight=None):
            seen.append((X.copy(), sample_weight.copy()))
            return super()._fit(X, y, sample_weight)

    with config_context(enable_metadata_routing=True):
        detector = Seeing(contamination=0.1).set_fit_request(sample_weight=True)
        pipeline = make_pipeline(StandardScaler(with_mean=False, with_std=False))
        pipeline.steps[0][1].set_fit_request(sample_weight=False)
        pipeline.steps.append(("hbos", detector))
        grid = {"hbos__n_bins": [5]}
        search = GridSearchCV(pipeline, grid, cv=2, scoring=lambda *_: 0)
        search.fit(X, sample_weight=weights)
    n = len(X)
    assert [len(part) for part, _ in seen] == [n // 2, n - n // 2, n]
    for part, own in seen:
        where = [int(np.flatnonzero((row == X).all(axis=1))[0]) for row in part]
        assert_allclose(own, weights[where])


# ----------------------------------------------------------------------- known outliers

SMALL = {"max_epochs": 5, "hidden_sizes": (8,), "random_state": 0}
SAD = DeepSAD(pretrain_epochs=2, latent_size=4, eta=5.0, **SMALL)


@pytest.fixture(scope="module")
def exposed():
    """Rows, outliers and classes of the rows."""
    rng = np.random.default_rng(0)
    return rng.normal(size=(90, 4)), rng.normal(5, 1, size=(15, 4)), np.arange(90) % 3


@pytest.mark.parametrize("detector", [SAD, SVDD(nu=0.1)], ids=["DeepSAD", "SVDD"])
def test_known_outliers_are_rows_labelled_so(detector, exposed):
    X, outliers, _ = exposed
    joined, labels = np.concatenate([X, outliers]), np.repeat([0, -1], [90, 15])
    expected = clone(detector).fit(joined, labels)
    for given in (outliers, lambda: outliers, torch.tensor(outliers)):
        found = clone(detector).fit(X, X_outliers=given)
        assert_array_equal(found.score_samples(X), expected.score_samples(X))
        assert found.offset_ == expected.offset_
    plain = clone(detector).fit(X)
    assert np.abs(plain.score_samples(X) - expected.score_samples(X)).max() > 1e-6
    labels[:10], labels[10:20] = 1, -1
    both = clone(detector).fit(X, labels[:90], X_outliers=outliers)
    expected = clone(detector).fit(joined, labels)
    assert_array_equal(both.score_samples(X), expected.score_samples(X))


def test_known_outliers_beside_tensors_and_pictures(exposed):
    X, outliers, _ = exposed
    tensor = clone(SAD).fit(torch.tensor(X), X_outliers=outliers)
    plain = clone(SAD).fit(X, X_outliers=outliers)
    assert_allclose(tensor.score_samples(X), plain.score_samples(X), rtol=1e-6)
    pictures = clone(SAD).fit(
        X.reshape(90, 2, 2), X_outliers=outliers.reshape(15, 2, 2)
    )
    assert pictures.n_samples_seen_ == 105
    with pytest.raises(ValueError, match=r"X_outliers cannot be used: X has 6 feat"):
        clone(SAD).fit(X.reshape(90, 2, 2), X_outliers=np.zeros((4, 3, 2)))


def test_outliers_are_exposed_as_those_among_the_rows(exposed):
    X, outliers, classes = exposed
    joined = np.concatenate([X, outliers])
    labels, mark = np.r_[classes, np.zeros(15, int)], np.repeat([1, -1], [90, 15])
    detector = OutlierExposure(**SMALL)
    expected = clone(detector).fit(joined, labels, y_ood=mark)
    names = np.array(["a", "b", "c"])[classes]
    for y, given in [
        (classes, {}),
        (names, {}),
        (None, {"y_class": classes}),
        (np.ones(90, int), {"y_class": classes}),
        (classes, {"y_ood": np.ones(90, int)}),
    ]:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", "y has no label -1")
            found = clone(detector).fit(X, y, X_outliers=outliers, **given)
        assert_array_equal(found.score_samples(X), expected.score_samples(X))
    some = clone(detector).fit(
        joined[:95], labels[:95], y_ood=mark[:95], X_outliers=outliers[5:]
    )
    assert_array_equal(some.score_samples(X), expected.score_samples(X))
    with pytest.raises(ValueError, match="requires y"):
        clone(detector).fit(X, X_outliers=outliers)
    with pytest.warns(UserWarning, match="X_outliers"):
        clone(detector).fit(X, classes)


def test_only_what_learns_from_outliers_takes_them(exposed):
    X, outliers, classes = exposed
    with pytest.raises(TypeError, match="X_outliers"):
        GeneralizedODIN(**SMALL).fit(X, classes, X_outliers=outliers)
    with pytest.raises(TypeError, match="X_outliers"):
        HBOS().fit(X, X_outliers=outliers)


@pytest.mark.parametrize(
    ("outliers", "message"),
    [
        (np.zeros((3, 5)), "X_outliers cannot be used: X has 5 features"),
        (np.full((3, 4), np.nan), "X_outliers cannot be used: Input X contains NaN"),
        (np.zeros((0, 4)), "X_outliers cannot be used: Found array with 0 sample"),
        (np.zeros(4), "X_outliers cannot be used: Expected 2D"),
    ],
)
def test_bad_outliers_are_refused(outliers, message, exposed):
    detector = SVDD().fit(exposed[0])
    before = pickle.dumps(detector)
    with pytest.raises(ValueError, match=message):
        detector.fit(exposed[0], X_outliers=outliers)
    assert pickle.dumps(detector) == before


def test_a_kernel_matrix_has_no_outliers_beside_it(exposed):
    with pytest.raises(ValueError, match="kernel matrix"):
        SVDD(kernel="precomputed").fit(np.eye(5), X_outliers=np.zeros((2, 5)))


def seeing(detector):
    """Return a detector of the same kind, and the list of what its fits see."""
    seen = []

    class Seeing(type(detector)):
        def _fit(self, X, y, **params):
            seen.append((X.copy(), None if y is None else np.array(y), params))
            return super()._fit(X, y, **params)

    Seeing.__name__ = type(detector).__name__
    return Seeing(**detector.get_params(deep=False)), seen


@pytest.mark.parametrize("n_outliers", [15, 90])
def test_searches_pass_outliers_whole(n_outliers, exposed):
    X, outliers, _ = exposed
    outliers = np.resize(outliers, (n_outliers, 4))
    # as many as rows would be cut to the folds, unless they come from a callable
    given = (lambda: outliers) if n_outliers == len(X) else outliers
    detector, seen = seeing(SVDD(nu=0.1))
    y = np.where(np.arange(90) % 10, 1, -1)
    with config_context(enable_metadata_routing=True):
        detector.set_fit_request(X_outliers=True)
        search = GridSearchCV(detector, {"nu": [0.1, 0.2]}, cv=3, scoring="roc_auc")
        search.fit(X, y, X_outliers=given)
    assert len(seen) == 7
    for part, labels, _ in seen[:-1]:
        assert part.shape == (60 + n_outliers, 4)
        assert_array_equal(part[60:], outliers)
        assert_array_equal(labels[60:], -1)


def test_pipelines_transform_outliers_that_they_name(exposed):
    X, outliers, _ = exposed
    scaler = StandardScaler().fit(X)
    moved = scaler.transform(X), scaler.transform(outliers)
    expected = SVDD(nu=0.1).fit(moved[0], X_outliers=moved[1])
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(
            StandardScaler(),
            SVDD(nu=0.1).set_fit_request(X_outliers=True),
            transform_input=["X_outliers"],
        )
        pipeline.fit(X, X_outliers=outliers)
        found = pipeline.score_samples(X)
    assert_allclose(found, expected.score_samples(moved[0]), rtol=1e-12)


# ---------------------------------------------------------------------- masks and boxes


@with_parameters
class MaskedMean(MasksMixin, ImageDetector):
    """Distance to the mean of normal pixels, at each pixel."""

    _uses_labels = True

    def _fit(self, X, y, masks=None):
        self.seen_ = y, masks
        pictures = X[:]
        normal = np.ones(pictures.shape[:3], bool) if masks is None else masks == 0
        self.mean_ = pictures[normal].mean(axis=0)

    def _patches(self, x):
        return ((x - torch.as_tensor(self.mean_)) ** 2).sum(3)


TOY = MaskedMean(smoothing=0.0, contamination=0.1)


@pytest.fixture(scope="module")
def pictures():
    """Pictures (8, 6, 5, 1), masks of two of them and NaN for one, and their labels."""
    rng = np.random.default_rng(0)
    X, masks = rng.uniform(0, 0.2, size=(8, 6, 5, 1)), np.zeros((8, 6, 5))
    masks[6, 1:3, 2:5], masks[7, 0:2, 0:1], masks[7, 4:6, 3:5] = 1, 1, 1
    masks[5] = np.nan
    X[masks == 1] += 0.7
    return X, masks, np.array([1, 1, 1, 1, 1, 0, -1, -1])


BOXES = [[], [], [], [], [], None, [(1, 2, 3, 5)], [(0, 0, 2, 1), (4, 3, 6, 5)]]


def test_masks_reach_the_fit_with_the_labels_they_mean(pictures):
    X, masks, labels = pictures
    fitted = clone(TOY).fit(X, masks=masks)
    y, seen = fitted.seen_
    assert_array_equal(seen, masks.astype(np.float32))
    assert seen.dtype == np.float32
    assert_array_equal(y, labels)
    assert_allclose(fitted.mean_, X[masks == 0].mean(axis=0))
    assert_array_equal(clone(TOY).fit(X).seen_[1], None)
    maps = fitted.transform(X[6:])
    assert roc_auc_score(masks[6:].ravel(), maps.ravel()) == 1


@pytest.mark.parametrize(
    "give",
    [
        lambda masks: masks.astype(np.float32),
        lambda masks: torch.tensor(masks),
        lambda masks: masks.tolist(),
        lambda masks: list(masks),
    ],
    ids=["float32", "tensor", "lists", "list"],
)
def test_masks_come_in_any_container(give, pictures):
    X, masks, labels = pictures
    y, seen = clone(TOY).fit(X, masks=give(masks)).seen_
    assert_array_equal(seen, masks)
    assert_array_equal(y, labels)


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64])
def test_masks_without_unknown_ones_are_whole_numbers(dtype, pictures):
    X, masks, _ = pictures
    seen = clone(TOY).fit(X, masks=np.nan_to_num(masks).astype(dtype)).seen_[1]
    assert_array_equal(seen, np.nan_to_num(masks))


@pytest.mark.parametrize("give", [list, tuple])
def test_boxes_are_masks(give, pictures):
    X, masks, labels = pictures
    y, seen = clone(TOY).fit(X, boxes=give(BOXES)).seen_
    assert_array_equal(seen, masks)
    assert_array_equal(y, labels)
    arrays = [None if own is None else np.array(own) for own in BOXES]
    assert_array_equal(clone(TOY).fit(X, boxes=arrays).seen_[1], masks)
    tensors = [None if own is None else torch.tensor(own) for own in BOXES]
    assert_array_equal(clone(TOY).fit(X, boxes=tensors).seen_[1], masks)


def test_labels_add_what_masks_leave_open(pictures):
    X, masks, labels = pictures
    for known in (-1, 1, 0):
        given = np.where(np.arange(8) == 5, known, labels)
        assert_array_equal(clone(TOY).fit(X, given, masks=masks).seen_[0], given)


def test_masks_go_with_files_and_rows(pictures, tmp_path):
    from PIL import Image

    X, masks, labels = pictures
    files = []
    for i, picture in enumerate(X):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray((255 * picture[..., 0]).astype(np.uint8)).save(files[-1])
    assert_array_equal(clone(TOY).fit(files, masks=masks).seen_[0], labels)
    rows = clone(TOY).set_params(image_shape=(6, 5))
    assert_array_equal(rows.fit(X.reshape(8, -1), masks=masks).seen_[1], masks)


def changed(masks, i, value):
    masks = masks.copy()
    masks[i] = value
    return masks


@pytest.mark.parametrize(
    ("give", "message"),
    [
        (lambda m, y: {"masks": m[:, :5]}, r"shape \(8, 5, 5\).*\(8, 6, 5\)"),
        (lambda m, y: {"masks": m[:7]}, r"shape \(7, 6, 5\)"),
        (lambda m, y: {"masks": m[..., None]}, r"shape \(8, 6, 5, 1\)"),
        (lambda m, y: {"masks": 255 * m}, "255 in picture 6.*masks > 0"),
        (lambda m, y: {"masks": changed(m, (3, 2, 2), 0.5)}, "0.5 in picture 3"),
        (lambda m, y: {"masks": changed(m, (3, 2, 2), np.inf)}, "inf in picture 3"),
        (lambda m, y: {"masks": changed(m, (4, 2, 2), np.nan)}, "part of picture 4"),
        (lambda m, y: {"masks": [["a"]]}, "no array of numbers"),
        (lambda m, y: {"masks": [[[0.0]], [[0.0, 1.0]]]}, "no array of numbers"),
        (lambda m, y: {"masks": m, "y": y**2}, "picture 6 is normal"),
        (lambda m, y: {"masks": m, "y": np.full(8, -1)}, "picture 0 is anomalous"),
        (lambda m, y: {"masks": m, "y": y[:5]}, "5 labels for 8"),
        (lambda m, y: {"masks": m, "boxes": BOXES}, "pass one of them"),
        (lambda m, y: {"boxes": BOXES[:7]}, "7 pictures, X has 8"),
        (lambda m, y: {"boxes": [*BOXES[:7], [(0, 0, 7, 1)]]}, "picture 7: .*<= 6"),
        (lambda m, y: {"boxes": [*BOXES[:7], [(-1, 0, 2, 1)]]}, "picture 7"),
        (lambda m, y: {"boxes": [*BOXES[:7], [(2, 0, 2, 1)]]}, "picture 7"),
        (lambda m, y: {"boxes": [*BOXES[:7], [(0, 0.5, 2, 1)]]}, "picture 7"),
        (lambda m, y: {"boxes": [*BOXES[:7], (0, 0, 2, 1)]}, r"picture 7 .*\(4,\)"),
        (lambda m, y: {"boxes": [*BOXES[:7], [(0, 0, 2)]]}, r"picture 7 .*\(1, 3\)"),
        (lambda m, y: {"boxes": [*BOXES[:7], [(0, 0, 2), (1,)]]}, "picture 7 are no"),
        (lambda m, y: {"boxes": BOXES, "y": np.ones(8, int)}, "picture 6 is normal"),
    ],
)
def test_bad_masks_and_boxes_are_refused(give, message, pictures):
    X, masks, labels = pictures
    detector = clone(TOY).fit(X)
    mean = detector.mean_
    with pytest.raises(ValueError, match=message):
        detector.fit(X, **give(masks, labels))
    assert detector.mean_ is mean


def test_searches_cut_masks_and_boxes_to_their_folds(pictures):
    X, masks, labels = pictures
    order = [6, 0, 5, 1, 7, 2, 3, 4]
    X, masks, labels = X[order], masks[order], labels[order]
    boxes = [BOXES[i] for i in order]
    scorer = make_scorer(lambda y, z: 0.0, response_method="decision_function")
    with config_context(enable_metadata_routing=True):
        for given in ({"masks": masks}, {"boxes": boxes}):
            request = dict.fromkeys(given, True)
            detector = clone(TOY).set_fit_request(**request)
            found = cross_validate(
                make_pipeline(detector),
                X,
                labels,
                cv=2,
                scoring=scorer,
                params=given,
                return_estimator=True,
                return_indices=True,
                error_score="raise",
            )
            folds = zip(found["estimator"], found["indices"]["train"], strict=True)
            for fitted, train in folds:
                y, seen = fitted[-1].seen_
                assert_array_equal(seen, masks[train])
                assert_array_equal(y, labels[train])


def test_copies_for_the_threshold_get_their_part_of_the_masks(pictures):
    X, masks, _ = pictures
    X, masks = np.tile(X, (3, 1, 1, 1)), np.tile(masks, (3, 1, 1))
    detector = clone(TOY).set_params(contamination="auto").fit(X, masks=masks)
    # of the normal pictures alone, whose pixels are at most 0.2
    assert -0.1 < detector.offset_ < 0


@pytest.mark.parametrize("m", [2, 5, 30, 1_000])
def test_thresholds_without_weights_are_those_of_weights_of_one(m):
    anomaly = np.random.default_rng(m).exponential(size=m)
    ones = np.ones(m)
    for rate in (0.01, 0.05, 0.5):
        limit = upper_limit(anomaly, rate)
        assert limit == pytest.approx(upper_limit(anomaly, rate, ones), rel=1e-12)
    np.testing.assert_array_equal(thinned(anomaly), thinned(anomaly, ones))
