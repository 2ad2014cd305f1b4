"""The anomaly contract, held to by every public detector in every covered setting.

Every class is held to it in its cheapest setting by each run, in its other settings by
turns. What is fitted is fitted once: the detector, another one of the same seed that
has seen something else before, and one with another threshold. Networks among them
hardly train; how well one detects is asked of another one, which trains.
"""

import copy
import functools
import io
import pickle
import re

import joblib
import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score

import skad
from skad.base import BaseDetector
from tests._instances import (
    OVER_WINDOWS,
    brief,
    default_instances,
    excused,
    identify,
    looks_around,
    seeded,
    self_labelling_instances,
    variant_instances,
)

OF_CLASSES = [*default_instances(), *self_labelling_instances()]
every_class = pytest.mark.parametrize("detector", OF_CLASSES, ids=identify)
every_setting = pytest.mark.parametrize(
    "detector",
    OF_CLASSES
    + [pytest.param(one, marks=pytest.mark.sampled(8)) for one in variant_instances()],
    ids=identify,
)

PUBLIC = ["score_samples", "decision_function", "predict", "transform"]
COLUMNS = list("abcdef")
_KEPT = {}


def frame(X):
    """Return rows as a frame, in the very memory where they are."""
    return pd.DataFrame(X, columns=COLUMNS, copy=False)


def once(make):
    """Make a function of (detector, blobs) keep what it made of the latest ones."""

    @functools.wraps(make)
    def kept(detector, blobs):
        key = make.__name__, identify(detector)
        if key not in _KEPT:
            while len(_KEPT) > 30:
                del _KEPT[next(iter(_KEPT))]
            _KEPT[key] = make(detector, blobs)
        return _KEPT[key]

    return kept


def reads_missing(detector):
    """Tell whether NaN stands for a missing value."""
    return detector.__sklearn_tags__().input_tags.allow_nan


def fresh(detector):
    """Return a seeded copy of `detector` that hardly trains where it is a network."""
    return seeded(brief([detector])[0])


@once
def fitted(detector, blobs):
    """Return a copy of `detector` fitted on the blobs."""
    return fresh(detector).fit(blobs[0])


@once
def trained(detector, blobs):
    """Return one that has trained, with a threshold that takes no second training."""
    if identify(brief([detector])[0]) == identify(detector):
        return fitted(detector, blobs)
    again = seeded(detector)
    if "contamination" in detector.get_params(deep=False):
        again.set_params(contamination=0.1)
    return again.fit(blobs[0])


@once
def refitted(detector, blobs):
    """Return it fitted to other rows first, then to a frame, and the labels of that."""
    other = np.random.default_rng(5).normal(size=(60, 4))
    again = fresh(detector).fit(other)
    return again, again.fit_predict(frame(blobs[0]))


@once
def loosened(detector, blobs):
    """Return it with a share of training rows below its threshold, or None."""
    if "contamination" not in detector.get_params(deep=False):
        return None
    return fresh(detector).set_params(contamination=0.3).fit(blobs[0])


def fitted_state(detector):
    """Return which objects were learned, and the contents of the arrays."""
    state = {
        name: value for name, value in vars(detector).items() if name.endswith("_")
    }
    return {
        name: (id(value), value.tobytes() if isinstance(value, np.ndarray) else None)
        for name, value in state.items()
    }


def test_all_detectors_finds_every_subclass():
    names = {name for name, _ in skad.all_detectors()}
    assert names == {
        detector.__name__
        for detector in _leaves(BaseDetector)
        if detector.__module__.startswith("skad.")
        and not detector._only_scores  # what a transformer trains
    }
    assert names == set(dir(skad)) & names
    assert all(getattr(skad, name) is found for name, found in skad.all_detectors())


def _leaves(cls):
    below = [c for c in cls.__subclasses__() if not c.__module__.startswith("tests.")]
    return {leaf for sub in below for leaf in _leaves(sub)} if below else {cls}


@every_setting
def test_sign_anomalies_score_lower(detector, blobs):
    if excused(detector, "sign"):
        pytest.skip(excused(detector, "sign"))
    _, normal, anomalies = blobs
    X = np.concatenate([normal, anomalies])
    scores = trained(detector, blobs).score_samples(X)
    assert scores.shape == (140,)
    assert scores.dtype == np.float64
    labels = np.repeat([1, -1], [100, 40])
    assert roc_auc_score(labels, scores) > 0.8


@every_setting
def test_labels_are_signs_of_scores_less_the_threshold(detector, blobs):
    train = blobs[0]
    loose = loosened(detector, blobs)
    for one in (fitted(detector, blobs), loose):
        if one is None:
            continue
        decision = one.decision_function(train[:60])
        assert_allclose(decision, one.score_samples(train[:60]) - one.offset_)
        assert_array_equal(one.predict(train[:60]), np.where(decision < 0, -1, 1))
    if loose is not None:
        assert set(loose.predict(train[:60])) == {-1, 1}
        scores = loose.score_samples(train)
        share = (scores < loose.offset_).mean()
        ties = (scores == loose.offset_).mean()
        assert share <= 0.3 <= share + ties + 1 / len(train)


@every_setting
def test_inspect_is_the_four_answers(detector, blobs):
    detector = fitted(detector, blobs)
    found = detector.inspect(blobs[1])
    assert_array_equal(found.scores, detector.score_samples(blobs[1]))
    assert_array_equal(found.decision, detector.decision_function(blobs[1]))
    assert_array_equal(found.labels, detector.predict(blobs[1]))
    assert_array_equal(found.maps, detector.transform(blobs[1]))


@every_class
def test_auto_follows_the_rate_of_false_alarms(detector, blobs):
    params = detector.get_params(deep=False)
    if "false_alarm_rate" not in params or "contamination" not in params:
        pytest.skip("has a threshold of its own")
    detector = fitted(detector, blobs)
    assert detector.contamination == "auto"
    assert detector.false_alarm_rate == params["false_alarm_rate"]
    more = fresh(detector).set_params(false_alarm_rate=0.5).fit(blobs[0])
    assert more.offset_ > detector.offset_


@every_setting
def test_fit_predict_is_fit_then_predict(detector, blobs):
    _, labels = refitted(detector, blobs)
    assert_array_equal(labels, fitted(detector, blobs).predict(blobs[0]))


@every_setting
def test_map_belongs_to_the_table_and_to_the_score(detector, blobs):
    _, normal, anomalies = blobs
    X = np.concatenate([normal[:20], anomalies[:20]])
    detector = trained(detector, blobs)
    maps = detector.transform(X)
    assert maps.shape == X.shape
    assert np.isfinite(maps).all()
    assert maps.std() > 0
    if detector._map_sums_to_score:
        scale = np.abs(maps).sum(axis=1).max()
        assert_allclose(maps.sum(axis=1), -detector.score_samples(X), atol=1e-9 * scale)


@every_setting
def test_map_points_at_the_feature_that_left(detector, blobs):
    """Moving one feature of normal rows far out makes that feature stand out."""
    if getattr(detector, "metric", None) == "cosine":
        pytest.skip("a direction has no feature that is far out")
    if excused(detector, "feature"):
        pytest.skip(excused(detector, "feature"))
    train, normal, _ = blobs
    detector = trained(detector, blobs)
    hits = 0
    for feature in range(train.shape[1]):
        moved = normal[:10].copy()
        moved[:, feature] = train[:, feature].max() + 3 * train[:, feature].std()
        hits += (detector.transform(moved).argmax(axis=1) == feature).sum()
    assert hits / (10 * train.shape[1]) > 0.4  # chance: 1/6


@every_setting
def test_same_seed_same_result(detector, blobs):
    normal = frame(blobs[1])
    detector, (again, _) = fitted(detector, blobs), refitted(detector, blobs)
    assert_array_equal(again.score_samples(normal), detector.score_samples(blobs[1]))
    assert_array_equal(again.transform(normal), detector.transform(blobs[1]))
    assert again.offset_ == detector.offset_


@every_setting
def test_scores_do_not_depend_on_the_batch(detector, blobs):
    if looks_around(detector):
        pytest.skip(OVER_WINDOWS["check_methods_subset_invariance"])
    _, normal, anomalies = blobs
    X = np.concatenate([normal[:8], anomalies[:8]])
    detector = fitted(detector, blobs)
    for method in ("score_samples", "transform"):
        whole = getattr(detector, method)(X)
        scale = np.abs(whole).max()
        single = np.concatenate([getattr(detector, method)(row[None]) for row in X])
        assert_allclose(single, whole, rtol=1e-7, atol=1e-9 * scale)
        backwards = getattr(detector, method)(X[::-1])
        assert_allclose(backwards[::-1], whole, rtol=1e-7, atol=1e-9 * scale)


@every_setting
def test_float32_agrees_with_float64(detector, blobs):
    train, normal, _ = blobs
    detector = fitted(detector, blobs)
    single = fresh(detector).fit(train.astype(np.float32))
    scores = single.score_samples(normal.astype(np.float32))
    assert scores.dtype == np.float64
    truth = detector.score_samples(normal)
    assert_allclose(scores, truth, atol=2e-3 * np.ptp(truth), rtol=2e-3)
    assert single.transform(normal.astype(np.float32)).dtype == np.float32
    assert detector.transform(normal).dtype == np.float64


@every_setting
def test_tensors_in_tensors_out(detector, blobs):
    if excused(detector, "tensors"):
        pytest.skip(excused(detector, "tensors"))
    train, normal, _ = blobs
    plain = fitted(detector, blobs)
    on_tensors = fresh(detector).fit(torch.from_numpy(train))
    for method in PUBLIC:
        expected = getattr(plain, method)(normal)
        for fit_on in (plain, on_tensors):
            found = getattr(fit_on, method)(torch.from_numpy(normal))
            assert isinstance(found, torch.Tensor)
            assert found.numpy().dtype == expected.dtype
            scale = np.abs(expected).max()
            assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * scale)
        back = getattr(on_tensors, method)(normal)
        assert isinstance(back, np.ndarray)


@every_setting
def test_round_trips_keep_scores(detector, blobs):
    normal = blobs[1]
    detector = fitted(detector, blobs)
    scores, maps = detector.score_samples(normal), detector.transform(normal)
    buffer = io.BytesIO()
    joblib.dump(detector, buffer)
    buffer.seek(0)
    copies = [
        pickle.loads(pickle.dumps(detector)),
        joblib.load(buffer),
        copy.deepcopy(detector),
    ]
    for again in copies:
        assert_array_equal(again.score_samples(normal), scores)
        assert_array_equal(again.transform(normal), maps)
        assert again.offset_ == detector.offset_


@every_class
def test_clone_and_set_params_take_effect(detector, blobs):
    params = detector.get_params(deep=False)
    again = clone(detector)
    assert again.get_params(deep=False).keys() == params.keys()
    assert not [name for name in vars(again) if name.endswith("_")]
    if "contamination" in params:
        strict = fresh(detector).set_params(contamination=0.05).fit(blobs[0])
        assert loosened(detector, blobs).offset_ > strict.offset_


@every_setting
def test_second_fit_forgets_the_first(detector, blobs):
    (twice, _), first = refitted(detector, blobs), fitted(detector, blobs)
    assert vars(twice).keys() - vars(first).keys() == {"feature_names_in_"}
    assert not vars(first).keys() - vars(twice).keys()
    assert twice.n_features_in_ == 6


@every_class
def test_failed_fit_leaves_everything_as_it_was(detector, blobs):
    train, normal, _ = blobs
    detector = copy.copy(fitted(detector, blobs))
    before, scores = fitted_state(detector), detector.score_samples(normal)
    bad = train.copy()
    bad[7, 3] = np.inf if reads_missing(detector) else np.nan
    one_is_enough = detector._data == "pictures" or detector._least_rows == 1
    short = train[:0] if one_is_enough else train[:1]
    for X in (bad, bad[:, 2:], short, train[:0], "rows", None, train[0]):
        with pytest.raises((ValueError, TypeError)):
            detector.fit(X)
    with pytest.raises(ValueError, match="contain"):
        detector.fit(frame(bad))
    assert fitted_state(detector) == before
    assert_array_equal(detector.score_samples(normal), scores)
    untouched = seeded(detector)
    with pytest.raises(ValueError, match=r"NaN|infinity"):
        untouched.fit(bad)
    with pytest.raises(NotFittedError):
        untouched.score_samples(normal)


@every_class
def test_scoring_changes_nothing(detector, blobs):
    detector = fitted(detector, blobs)
    before = fitted_state(detector)
    X = blobs[1].copy()
    for method in PUBLIC:
        getattr(detector, method)(X)
    assert fitted_state(detector) == before
    assert_array_equal(X, blobs[1])


@pytest.mark.parametrize("method", [*PUBLIC, "inspect"])
@every_class
def test_bad_rows_are_refused(detector, blobs, method):
    call = getattr(fitted(detector, blobs), method)
    normal = blobs[1]
    nan, infinite, huge = normal.copy(), normal.copy(), normal.copy()
    nan[3, 2], infinite[3, 2], huge[3, 2] = np.nan, -np.inf, 1e300
    if not reads_missing(detector):
        with pytest.raises(ValueError, match="NaN"):
            call(nan)
    with pytest.raises(ValueError, match="infinity"):
        call(infinite)
    with pytest.raises(ValueError, match="too large"):
        call(huge)
    with pytest.raises(ValueError, match="features"):
        call(normal[:, :5])
    with pytest.raises(ValueError, match="2D array"):
        call(normal[0])
    with pytest.raises(ValueError, match=r"0 sample|at least one"):
        call(normal[:0])
    with pytest.raises(ValueError, match="Complex"):
        call(normal.astype(complex))
    with pytest.raises(ValueError, match="convert"):
        call(normal.astype(str)[:, :].astype(object) + "x")
    with pytest.raises(NotFittedError):
        getattr(clone(detector), method)(normal)


@every_class
def test_bad_tensors_are_refused(detector, blobs):
    detector = fitted(detector, blobs)
    rows = torch.from_numpy(blobs[1])
    nan = rows.clone()
    nan[2, 1] = torch.nan
    if not reads_missing(detector):
        with pytest.raises(ValueError, match="NaN"):
            detector.score_samples(nan)
    with pytest.raises(ValueError, match="infinity"):
        detector.score_samples(rows / 0)
    with pytest.raises(ValueError, match="features"):
        detector.score_samples(rows[:, :5])
    with pytest.raises(ValueError, match="2D array"):
        detector.score_samples(rows[0])
    with pytest.raises(ValueError, match="0 sample"):
        detector.score_samples(rows[:0])
    with pytest.raises(ValueError, match="Complex"):
        detector.score_samples(rows + 0j)


@every_class
def test_frames_with_other_columns_are_refused(detector, blobs):
    detector, _ = refitted(detector, blobs)
    rows = frame(blobs[1])
    detector.score_samples(rows)
    for wrong in (rows[COLUMNS[::-1]], rows.rename(columns={"a": "z"})):
        for method in PUBLIC:
            with pytest.raises(ValueError, match="feature names"):
                getattr(detector, method)(wrong)
    assert list(detector.get_feature_names_out()) == COLUMNS


LARGE = {"large", "large float32", "mixed scales", "far from zero", "one far row"}


def _hard_tables():
    rng = np.random.default_rng(11)
    rows = rng.normal(size=(40, 3))
    return {
        "two rows": rows[:2],
        "two equal rows": np.ones((2, 3)),
        "three rows": rows[:3],
        "one feature": rows[:, :1],
        "constant table": np.full((40, 3), 7.0),
        "zeros": np.zeros((40, 3)),
        "constant column": np.c_[rows, np.ones(40)],
        "duplicated column": rows[:, [0, 0, 1, 1]],
        "duplicated rows": rows[[0, 1, 2] * 12],
        "two values": (rows > 0).astype(float),
        "integers": rng.integers(0, 5, size=(40, 3)),
        "booleans": rows > 0,
        "more features than rows": rng.normal(size=(12, 60)),
        "large": rows * 1e100,
        "large float32": (rows * 1e12).astype(np.float32),
        "small": rows * 1e-100,
        "mixed scales": rows * [1e-30, 1.0, 1e30],
        "far from zero": rows + 1e9,
        "one far row": np.concatenate([rows, np.full((1, 3), 1e15)]),
        "fortran order": np.asfortranarray(rows),
        "not contiguous": np.repeat(rows, 2, axis=0)[::2, ::-1],
        "list": rows.tolist(),
        "float16": rows.astype(np.float16),
        "objects that are numbers": rows.astype(object),
    }


HARD_TABLES = _hard_tables()


@pytest.mark.filterwarnings("ignore")  # a warning is a fair answer to such tables
@pytest.mark.sampled(12)
@pytest.mark.parametrize("kind", HARD_TABLES)
@every_setting
def test_hard_tables_give_an_error_or_finite_answers(detector, kind):
    X = HARD_TABLES[kind]
    tried = fresh(detector)
    try:
        tried.fit(X)
        refusal = None
    except ValueError as error:
        refusal = str(error)
    if refusal is not None:
        # only for too few rows or features, and then the parameter is named, or the
        # labels, or for values too large for the arithmetic of the method
        if kind not in LARGE or "too large" not in refusal:
            assert min(np.shape(X)) < 20, refusal
            words = set(re.findall(r"\w+", refusal))
            assert words & {"y", *tried.get_params()}, refusal
        assert not [name for name in vars(tried) if name.endswith("_")]
        return
    probe = np.concatenate([np.asarray(X)[:5], np.asarray(X)[:2] + 1])
    for rows in (X, probe):
        scores, maps = tried.score_samples(rows), tried.transform(rows)
        assert np.isfinite(scores).all()
        assert np.isfinite(maps).all()
        assert maps.shape == np.shape(rows)
        assert set(np.unique(tried.predict(rows))) <= {-1, 1}


@every_class
def test_contamination_is_checked(detector, blobs):
    if "contamination" not in detector.get_params():
        pytest.skip("has a threshold of its own")
    for value in (0, 0.51, -0.1, 1, np.nan, "share", None):
        with pytest.raises(ValueError, match="contamination"):
            clone(detector).set_params(contamination=value).fit(blobs[0])
