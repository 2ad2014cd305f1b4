"""Rows that are odd as a table: stray values, constant and dependent features, ties."""

import re
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score

import skad
from skad._strays import strays
from tests._instances import OWN_LABELS, default_instance

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(200, 5))
PROBE = np.concatenate([RNG.normal(size=(100, 5)), 4 * RNG.normal(size=(60, 5))])
KNOWN = np.repeat([1, -1], [100, 60])
TABLES = [
    name
    for name, detector in skad.all_detectors()
    if detector._data == "rows" and name not in OWN_LABELS
]


def fitted(name, X):
    """Return a detector of few trees, fitted, and what it warned of."""
    detector = clone(default_instance(name))
    if "random_state" in detector.get_params():
        detector.set_params(random_state=0)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        detector.fit(X)
    return detector, [str(one.message) for one in said]


def quality(name, X, probe=PROBE):
    """Return the ROC AUC after a fit, and the flagged shares of both kinds."""
    detector = fitted(name, X)[0]
    scores, flagged = detector.score_samples(probe), detector.predict(probe) < 0
    assert np.isfinite(scores).all()
    assert np.isfinite(detector.transform(probe)).all()
    shares = flagged[KNOWN == 1].mean(), flagged[KNOWN == -1].mean()
    return roc_auc_score(KNOWN, scores), *shares


# networks that are trained say that features are far from unit scale, and refuse 1e12;
# the search for self-representations costs a minute
FREE = [
    name
    for name in TABLES
    if "max_epochs" not in getattr(skad, name)().get_params()
    and name != "SelfRepresentation"
]


def every(test):
    """Ask all of them, by turns."""
    return pytest.mark.by_turns(pytest.mark.parametrize("name", FREE)(test))


# ------------------------------------------------------------------------ stray values


@every
def test_no_stray_value_hides_other_rows_in_silence(name):
    clean = quality(name, ROWS)[0]
    for value, whole in ((1e8, False), (1e12, False), (-1e12, True), (1e30, False)):
        X = ROWS.copy()
        X[7, slice(None) if whole else 2] = value
        try:
            found, words = quality(name, X)[0], fitted(name, X)[1]
        except ValueError as error:  # no variance of the others is left
            found, words = 0.0, [str(error)]
        warned = re.search("far from the median|scale the input data", str(words))
        assert found > clean - 0.15 or warned, (value, whole, found, clean)


# where it is far enough to have a node, or to be a direction, by itself
OWN_PLACE = "KernelPCAReconstruction", "SOM"


@every
@pytest.mark.parametrize("n_strays", [1, 3])
@pytest.mark.parametrize("far", [10, 100])
def test_stray_rows_are_found_among_the_training_rows(name, n_strays, far):
    away = far * np.array([[1, -1, 1, 1, -1], [-1, -1, 1, -1, 1], [1, 1, 1, 1, 1.0]])
    rows = np.concatenate([ROWS, away[:n_strays]])
    score = fitted(name, rows)[0].score_samples(rows)
    assert score[200:].max() < np.quantile(score, 0.05) or (
        far == 100 and name in OWN_PLACE
    )


@pytest.mark.parametrize("covariance_type", ["full", "tied", "diag", "spherical"])
def test_a_cloud_of_a_stray_row_is_warned_of(covariance_type):
    rows = np.concatenate([ROWS, [[30.0, -30, 30, 30, -30]]])
    detector = skad.GMM(2, covariance_type=covariance_type, random_state=0)
    with pytest.warns(UserWarning, match=r"cloud with about 1\.0 of the training rows"):
        score = detector.fit(rows).score_samples(rows)
    assert score[200] > np.quantile(score, 0.05)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone(detector).fit(ROWS)


@pytest.mark.parametrize(
    ("name", "settings", "value"),
    [
        ("HBOS", {}, 1e3),
        ("Mahalanobis", {}, 1e8),
        ("OneClassSVM", {}, 1e8),
        ("RSHash", {}, 1e3),
    ],
)
def test_a_stray_value_is_warned_of_once(name, settings, value):
    X = ROWS.copy()
    X[7, 2] = value
    detector = getattr(skad, name)(**settings)
    with pytest.warns(UserWarning, match="Feature 2 has a") as said:
        detector.fit(X)
    assert len(said) == 1
    assert f"{value:.3g}" in str(said[0].message)
    assert said[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone(detector).fit(ROWS)


@pytest.mark.parametrize(
    "detector",
    [skad.HBOS(binning="dynamic"), skad.Mahalanobis(covariance="mcd"), skad.KNN()],
)
def test_what_no_stray_value_hides_says_nothing(detector):
    X = ROWS.copy()
    X[7, 2] = 1e12
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        detector.fit(X)


def test_strays_are_counted_in_distances_between_the_quartiles():
    X = np.tile(np.arange(5.0)[:, None], (1, 4))
    X[4, 1:] = 402.0, -398.0, np.nan
    X[:, 0] = [1, 1, 1, 1, 9]  # mostly one value
    times, far = strays(X)
    np.testing.assert_allclose(times, [0, 200, 399 / 2, 2])
    np.testing.assert_allclose(far[1:3], [402, -398])


@pytest.mark.parametrize("value", [1e8, 1e15])
def test_bandwidths_are_those_of_the_rows_around(value):
    rows = np.append(ROWS, [[value] * 5], axis=0)
    found = skad.SOS(contamination=0.1).fit(rows).bandwidths_[:-1]
    expected = skad.SOS(contamination=0.1).fit(ROWS).bandwidths_
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_stray_rows_choose_nobody_where_outliers_do_not():
    rows = ROWS.copy()
    rows[:3] = 30 * np.array([[1, -1, 1, 1, -1], [-1, -1, 1, -1, 1], [1, 1, 1, 1, 1.0]])
    quiet = skad.SOS(outliers_choose=False).fit(rows).score_samples(PROBE)
    loud = skad.SOS().fit(rows).score_samples(PROBE)
    assert roc_auc_score(KNOWN, loud) < 0.85
    assert roc_auc_score(KNOWN, quiet) > 0.98


# ----------------------------------------------------- constant and dependent features


@every
def test_a_constant_feature_hides_no_other(name):
    rows, probe = (np.insert(part, 2, 7.0, axis=1) for part in (ROWS, PROBE))
    assert quality(name, rows, probe)[0] > quality(name, ROWS)[0] - 0.1


def test_a_constant_feature_changes_nothing_where_the_others_count():
    rows, probe = (np.insert(part, 2, 7.0, axis=1) for part in (ROWS, PROBE))
    plain, wider = skad.SOD().fit(ROWS), skad.SOD().fit(rows)
    expected = plain.score_samples(PROBE)
    np.testing.assert_allclose(wider.score_samples(probe), expected)
    inside, outside = wider.decision_function(
        [[0, 0, 7.0, 0, 0, 0], [0, 0, 9, 0, 0, 0]]
    )
    assert outside < 0 < inside


@every
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_feature_that_is_the_sum_of_others_leaves_the_threshold(name, dtype):
    rows, probe = (
        np.insert(part, 2, part[:, 0] + part[:, 1], axis=1).astype(dtype)
        for part in (ROWS, PROBE)
    )
    _, false, found = quality(name, rows, probe)
    assert false < 0.25 or name == "OneClassSVM"  # whose nu is 0.5
    assert found > 0.3


# SOD compares the variances of features, and says that all scores are equal
@pytest.mark.by_turns
@pytest.mark.parametrize("name", [name for name in FREE if name != "SOD"])
def test_one_feature_is_enough(name):
    _, false, found = quality(name, ROWS[:, :1], PROBE[:, :1])
    assert false < 0.25 or name == "OneClassSVM"  # whose nu is 0.5
    assert found > 0.3


# --------------------------------------------------------------- equal rows and offsets


@pytest.mark.by_turns
@pytest.mark.parametrize(
    "name",
    # whose bins there are then fewer of
    [name for name in FREE if name != "ContingencyTables"],
)
def test_most_rows_may_be_equal(name):
    rows = ROWS.copy()
    rows[50:] = rows[0]
    found, false, flagged = quality(name, rows)
    assert found > 0.9
    assert false < flagged > 0.5 or name == "OneClassSVM"  # whose nu is 0.5


@pytest.mark.parametrize("offset", [1e5, 1e8])
def test_an_offset_moves_no_row_to_another_node(offset):
    expected = skad.SOM().fit(ROWS).score_samples(PROBE)
    moved = skad.SOM().fit(ROWS + offset).score_samples(PROBE + offset)
    np.testing.assert_allclose(moved, expected, rtol=1e-4)


@pytest.mark.by_turns
@pytest.mark.parametrize("name", [*FREE, "SelfRepresentation"])
@pytest.mark.parametrize("offset", [1e3, 1e6])
def test_rows_off_the_origin_are_told_apart_or_warned_of(name, offset):
    rows, probe = ROWS[:60], PROBE[::2]
    clean, far = (fitted(name, part) for part in (rows, rows + offset))
    warned = any("looks from the origin" in one for one in far[1])
    looks = name in ("MatrixSketch", "SelfRepresentation")
    assert warned == (looks and offset == 1e6)
    if not looks:
        expected, found = (
            roc_auc_score(KNOWN[::2], one.score_samples(part))
            for one, part in ((clean[0], probe), (far[0], probe + offset))
        )
        assert found > expected - 0.05


def test_what_is_added_to_variances_is_said_to_hide_a_feature():
    with pytest.warns(UserWarning, match="Feature 0 has a variance of .*reg_covar"):
        skad.GMM().fit(1e-6 * ROWS)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        skad.GMM().fit(np.insert(ROWS, 2, 7.0, axis=1))  # nothing is hidden in it
