"""Missing values and sparse rows, where scikit-learn takes them and beyond."""

import pickle
import tracemalloc

import numpy as np
import pytest
import scipy.sparse
import sklearn.ensemble
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import skad
from skad import COPOD, ECOD, HBOS, KDE, KNN, LOF, IsolationForest, Mahalanobis
from skad.persistence._file import from_bytes, to_bytes
from tests._instances import default_instance, labels_for

RNG = np.random.default_rng(0)
X = RNG.gamma(2, size=(200, 4))
HOLES = np.where(RNG.random(X.shape) < 0.15, np.nan, X)
HOLES[7] = np.nan
WORDS = RNG.choice(["red", "green", "blue", "grey"], size=(40, 3))

MARGINAL = [
    ECOD(),
    ECOD("sample"),
    COPOD(),
    COPOD("sample"),
    HBOS(),
    HBOS("auto", binning="dynamic"),
]
ROWS = [
    name
    for name, detector in skad.all_detectors()
    if detector._data == "rows" and detector().__sklearn_tags__().input_tags.sparse
]


@pytest.mark.parametrize("detector", MARGINAL, ids=repr)
def test_missing_values_are_skipped(detector):
    detector.fit(HOLES)
    scores, maps = detector.score_samples(HOLES), detector.transform(HOLES)
    assert_allclose(maps.sum(axis=1), -scores)
    assert scores[7] == 0
    assert not maps[np.isnan(HOLES)].any()
    assert_array_equal(detector.inspect(HOLES).maps, maps)
    again = type(detector)(**detector.get_params()).fit(torch.tensor(HOLES))
    assert_allclose(again.score_samples(torch.tensor(HOLES)), scores)
    assert_allclose(again.offset_, detector.offset_)


@pytest.mark.parametrize("detector", MARGINAL, ids=repr)
def test_a_feature_that_is_always_missing_is_as_if_it_were_not_there(detector):
    holes, three = X.copy(), X[:, [0, 1, 3]]
    holes[:, 2] = np.nan
    other = type(detector)(**detector.get_params()).fit(three)
    detector.fit(holes)
    expected = other.score_samples(three) * 4 / 3
    assert_allclose(detector.score_samples(holes), expected)
    assert_allclose(detector.score_samples(X), expected)
    assert_allclose(detector.offset_, other.offset_ * 4 / 3)


def test_weights_are_repetitions_where_values_are_missing():
    weights = RNG.integers(1, 3, size=len(X))
    one = HBOS().fit(HOLES, sample_weight=weights)
    other = HBOS().fit(np.repeat(HOLES, weights, axis=0))
    assert_allclose(one.score_samples(HOLES), other.score_samples(HOLES))
    assert_allclose(one.offset_, other.offset_)


@pytest.mark.parametrize("detector", [*MARGINAL, IsolationForest(random_state=0)])
def test_the_threshold_holds_where_values_are_missing(detector):
    new = RNG.gamma(2, size=(5000, 4))
    new[RNG.random(new.shape) < 0.15] = np.nan
    flagged = np.mean(detector.fit(HOLES).predict(new) == -1)
    assert 0.01 < flagged < 0.1


@pytest.mark.parametrize("settings", [{}, {"max_features": 0.5}, {"bootstrap": True}])
@pytest.mark.parametrize("train", [X, HOLES], ids=["whole", "holes"])
def test_a_forest_sends_missing_values_where_scikit_learn_does(settings, train):
    there = sklearn.ensemble.IsolationForest(random_state=0, **settings).fit(train)
    here = IsolationForest(random_state=0, **settings).fit(train)
    for rows in (HOLES, np.tile(HOLES, (4, 1))):  # all trees at once, and one by one
        assert_allclose(here.score_samples(rows), there.score_samples(rows))
    assert_allclose(
        here.transform(HOLES).sum(axis=1), 1 + np.log2(-here.score_samples(HOLES))
    )
    tensor = torch.tensor(HOLES)
    assert_allclose(here.score_samples(tensor), here.score_samples(HOLES))


@pytest.mark.parametrize("settings", [{}, {"max_features": 0.5}, {"bootstrap": True}])
def test_a_forest_grows_from_sparse_rows_as_from_dense_ones(settings):
    rows = np.where(RNG.random((300, 20)) < 0.2, RNG.integers(1, 4, (300, 20)), 0.0)
    sparse = scipy.sparse.csc_array(rows)
    there = sklearn.ensemble.IsolationForest(random_state=0, **settings).fit(sparse)
    here = IsolationForest(random_state=0, **settings).fit(sparse)
    dense = IsolationForest(random_state=0, **settings).fit(rows)
    assert_allclose(here.score_samples(sparse), there.score_samples(sparse))
    assert_allclose(here.score_samples(rows), dense.score_samples(sparse))
    assert_allclose(here.offset_, dense.offset_)
    assert_allclose(here.transform(sparse), dense.transform(rows))


def test_a_forest_fitted_to_dense_rows_reads_sparse_ones():
    detector = IsolationForest(random_state=0).fit(X)  # whose medians are not 0
    sparse = scipy.sparse.csr_array(X)
    assert_allclose(detector.score_samples(sparse), detector.score_samples(X))
    assert_allclose(detector.transform(sparse), detector.transform(X))


def test_a_forest_that_goes_on_is_the_one_of_a_single_fit():
    parts = IsolationForest(4, random_state=0, warm_start=True).fit(X)
    first = parts.estimators_[0]
    parts.set_params(n_estimators=10).fit(X)
    whole = IsolationForest(10, random_state=0).fit(X)
    assert parts.estimators_[0] is first
    assert_allclose(parts.score_samples(X), whole.score_samples(X))
    assert parts.offset_ == whole.offset_
    parts.set_params(n_estimators=12).fit(X[:150] + 1)
    assert len(parts.estimators_) == len(parts.estimators_samples_) == 12
    with pytest.warns(UserWarning, match="does not fit new trees"):
        parts.fit(X)
    with pytest.raises(ValueError, match="at least the 12 trees"):
        parts.set_params(n_estimators=3).fit(X)


@pytest.mark.sampled(6)
@pytest.mark.parametrize("name", ROWS)
@pytest.mark.filterwarnings("ignore")
def test_an_encoder_may_stand_before_any_detector(name):
    detector = default_instance(name)
    if "n_neighbors" in detector.get_params():
        detector.set_params(n_neighbors=3)
    if "random_state" in detector.get_params():
        detector.set_params(random_state=0)
    encoded = OneHotEncoder(sparse_output=False).fit_transform(WORDS)
    y = labels_for(name, encoded)
    pipeline = make_pipeline(OneHotEncoder(), detector).fit(WORDS, y)
    dense = make_pipeline(OneHotEncoder(sparse_output=False), detector)
    scores, maps = pipeline.score_samples(WORDS), pipeline.transform(WORDS)
    assert_allclose(scores, dense.fit(WORDS, y).score_samples(WORDS), atol=1e-9)
    if not isinstance(detector, KNN | LOF):  # of equally near words any is taken
        assert_allclose(maps, dense.transform(WORDS), atol=1e-9)


def test_the_encoder_is_before_every_detector_of_rows():
    assert len(ROWS) > 20


def test_rows_that_are_too_many_as_dense_ones_are_refused_with_a_way_out():
    sparse = scipy.sparse.random_array((3000, 100), density=0.01, rng=0).tocsr()
    detector = Mahalanobis().fit(sparse)
    expected = detector.score_samples(sparse)
    with config_context(working_memory=1):
        with pytest.raises(ValueError, match=r"dense rows: .*working_memory=3"):
            Mahalanobis().fit(sparse)
        assert_allclose(detector.score_samples(sparse), expected)  # block by block
        with pytest.raises(ValueError, match="a dense map"):
            detector.transform(sparse)
        assert IsolationForest(5).fit(sparse).predict(sparse).shape == (3000,)
    with pytest.raises(ValueError, match="NaN"):
        KNN().fit(scipy.sparse.csr_array(HOLES))


# Read as they are: none of these makes all training rows dense.
READERS = {
    "KNN": KNN(),
    "KNN sqeuclidean": KNN(method="mean", metric="sqeuclidean"),
    "KNN cosine": KNN(metric="cosine"),
    "KNN manhattan": KNN(metric="manhattan"),
    "KNN minkowski": KNN(metric="minkowski", p=3, contamination=0.1),
    "LOF": LOF(),
    "LOF cosine": LOF(metric="cosine", contamination=0.1),
    "OneClassSVM": skad.OneClassSVM(tol=1e-10),
    "OneClassSVM linear": skad.OneClassSVM("linear", nu=0.2, tol=1e-10),
    "OneClassSVM poly": skad.OneClassSVM("poly", coef0=1.0, gamma=0.1, tol=1e-10),
    "OneClassSVM sigmoid": skad.OneClassSVM("sigmoid", tol=1e-10),
    "HBOS": HBOS(),
    "HBOS dynamic": HBOS(binning="dynamic"),
}


def drawn(n, d, density, seed):
    """Return sparse rows, the first three without any value, the next two equal."""
    rows = scipy.sparse.random_array((n, d), density=density, rng=seed).tolil()
    rows[:3] = 0
    rows[4] = rows[3]
    return rows.tocsr()


@pytest.mark.parametrize("name", READERS)
def test_sparse_rows_give_what_dense_ones_do(name):
    train, new = drawn(300, 80, 0.06, 1), drawn(60, 80, 0.1, 2)
    if name == "LOF cosine":  # rows at right angles tie, and each choice is right
        train, new = drawn(300, 80, 0.4, 1)[3:], drawn(60, 80, 0.5, 2)[3:]
    detector = READERS[name]
    dense = type(detector)(**detector.get_params()).fit(train.toarray())
    detector.fit(train)
    assert getattr(detector, "_reads_sparse", False) or "HBOS" in name
    assert_allclose(detector.offset_, dense.offset_, rtol=1e-9)
    for rows in (train, new):
        expected = dense.score_samples(rows.toarray())
        # whatever kind of rows one was fitted on, both can be scored
        for found in (detector, dense):
            for X in (rows, rows.toarray(), rows.tocsc(), torch.tensor(rows.toarray())):
                assert_allclose(found.score_samples(X), expected, rtol=1e-9, atol=1e-12)
        maps, own = dense.transform(rows.toarray()), detector.transform(rows)
        # rows of zeros are at right angles to all, and any of them is taken
        told = np.diff(rows.indptr) > (0 if "cosine" in name else -1)
        assert_allclose(own[told], maps[told], rtol=1e-9, atol=1e-12)
    if hasattr(detector, "kneighbors"):
        distance, _ = detector.kneighbors(new)
        assert_allclose(distance, dense.kneighbors(new.toarray())[0], rtol=1e-9)
        own = detector.kneighbors()[0], dense.kneighbors()[0]
        assert_allclose(*own, rtol=1e-9, atol=1e-12)
    again = pickle.loads(pickle.dumps(detector))
    assert_array_equal(again.score_samples(new), detector.score_samples(new))
    again = from_bytes(to_bytes(detector))
    assert_array_equal(again.score_samples(new), detector.score_samples(new))
    detector.fit(train.toarray())  # and forgets that it was sparse
    assert_allclose(detector.score_samples(new), dense.score_samples(new))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", ["KNN", "LOF", "OneClassSVM", "HBOS"])
def test_sparse_rows_are_never_dense_together(name):
    train = drawn(700, 10_000, 0.0005, 3)  # 56 MB
    settings = {"HBOS": {"n_bins": 10}, "OneClassSVM": {"tol": 1e-10}}
    detector = type(READERS[name])(**settings.get(name, {}))
    dense = type(detector)(**detector.get_params()).fit(train.toarray())
    with config_context(working_memory=1):
        tracemalloc.start()
        try:
            scores = detector.fit(train).score_samples(train[:200])
            assert tracemalloc.get_traced_memory()[1] < 40 * 2**20
        finally:
            tracemalloc.stop()
        with pytest.raises(ValueError, match="a dense map"):
            detector.transform(train)
    expected = dense.score_samples(train[:200])
    assert_allclose(scores, expected, rtol=1e-9)


def test_a_density_holds_the_dense_rows_and_twice_what_it_keeps_of_them():
    train = drawn(1000, 5000, 0.0005, 3)  # 40 MB
    tracemalloc.start()
    try:
        KDE().fit(train)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    blocks = 40e6  # of a few times 8 MB
    assert peak < 3 * 40e6 + blocks


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "minkowski"])
@pytest.mark.parametrize("moved", [0, 1e7])
def test_neighbours_are_exact_where_products_are_not(metric, moved):
    # counts, whose distances tie, and a feature beside which they are rounding
    rows = RNG.integers(0, 3, size=(150, 6)).astype(float)
    rows[::2, 5] += moved
    settings = {"metric": metric, "p": 1.5, "n_neighbors": 3}
    sparse = KNN(**settings).fit(scipy.sparse.csr_array(rows))
    dense = KNN(**settings).fit(rows)
    expected = dense.score_samples(rows)
    assert_allclose(sparse.score_samples(rows), expected, rtol=1e-9, atol=1e-15)


def test_weights_are_repetitions_of_sparse_rows():
    train = drawn(100, 30, 0.1, 4)
    weights = RNG.integers(0, 3, size=100)
    often = train[np.repeat(np.arange(100), weights)]
    for one in (HBOS(), skad.OneClassSVM(tol=1e-10, nu=0.3)):
        other = type(one)(**one.get_params()).fit(often)
        one.fit(train, sample_weight=weights)
        assert_allclose(one.score_samples(train), other.score_samples(train), rtol=1e-7)
        assert_allclose(one.offset_, other.offset_, rtol=1e-7)


def test_what_cannot_read_sparse_rows_makes_them_dense():
    train = drawn(100, 30, 0.1, 5)
    for detector in (
        KNN(algorithm="kd_tree"),
        skad.OneClassSVM(solver="nystroem", random_state=0),
        skad.OneClassSVM(lambda a, b: a @ b.T),
    ):
        expected = type(detector)(**detector.get_params()).fit(train.toarray())
        found = detector.fit(train).score_samples(train)
        assert_array_equal(found, expected.score_samples(train.toarray()))
        with config_context(working_memory=0), pytest.raises(ValueError, match="dense"):
            detector.fit(train)


def test_wide_indices_of_sparse_rows_become_narrow_and_stay_the_users():
    sparse = scipy.sparse.csr_array(np.where(X > 2, X, 0.0))
    wide = sparse.copy()
    wide.indices, wide.indptr = (
        part.astype(np.int64) for part in (wide.indices, wide.indptr)
    )
    forest = IsolationForest(5, random_state=0)
    expected = forest.fit(sparse).score_samples(sparse)
    assert_array_equal(forest.fit(wide).score_samples(wide), expected)
    assert wide.indices.dtype == np.int64
