"""Detectors on Dask: lazy scores, exact fits over blocks, searches, lost workers."""

import os
import signal
import threading
import time

import numpy as np
import pandas as pd
import pytest
import torch
from joblib import parallel_config
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad.image import FAPM, InReaCh, PaDiM, PatchCore, SoftPatch
from skad.model_selection import excess_mass
from tests._instances import identify

da = pytest.importorskip("dask.array")
dd = pytest.importorskip("dask.dataframe")

# Those whose statistics of blocks add up to the statistics of all rows.
EXACT = [
    skad.Mahalanobis(),
    skad.Mahalanobis("oas"),
    skad.PCAReconstruction(),
    skad.MatrixSketch(n_components=2, sketch_size=4),
    skad.MatrixSketch(n_components=2, measure="projection"),
    skad.HBOS(),
    skad.HBOS(n_bins="auto"),
]
PUBLIC = ["score_samples", "decision_function", "predict", "transform"]
every_exact = pytest.mark.parametrize("detector", EXACT, ids=identify)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(2000, 6)) @ rng.normal(size=(6, 6))


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).normal(0.5, 0.05, size=(24, 16, 16))


@pytest.fixture(scope="module")
def cluster():
    """A cluster of two processes on this machine."""
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            processes=True,
            dashboard_address=None,
        ) as local,
        distributed.Client(local) as client,
    ):
        yield client


@every_exact
def test_a_fit_over_blocks_is_the_fit_on_one_machine(detector, rows):
    # blocks of one row and of some columns are fine
    lazy = da.from_array(rows, chunks=((700, 1, 299, 1000), (2, 4)))
    one, many = clone(detector).fit(rows), clone(detector).fit(lazy)
    assert vars(one).keys() == vars(many).keys()
    assert many.offset_ == pytest.approx(one.offset_, rel=1e-9)
    scores = many.score_samples(lazy)
    assert isinstance(scores, da.Array)
    assert scores.chunks == ((700, 1, 299, 1000),)
    assert_allclose(scores.compute(), one.score_samples(rows), rtol=1e-9)
    maps = many.transform(lazy)
    assert maps.shape == rows.shape
    expected = one.transform(rows)
    assert_allclose(maps.compute(), expected, atol=1e-9 * expected.max())
    assert_array_equal(many.predict(lazy).compute(), one.predict(rows))
    assert many.predict(lazy).dtype == np.int64
    assert_allclose(many.decision_function(lazy), scores - many.offset_)


@pytest.mark.parametrize(
    "detector", [one for one in EXACT if hasattr(one, "partial_fit")], ids=identify
)
def test_learning_goes_on_after_a_fit_over_blocks(detector, rows):
    lazy = da.from_array(rows, chunks=(300, 6))
    one, many = clone(detector).fit(rows), clone(detector).fit(lazy)
    more = 2 * rows[:50]
    one, many = one.partial_fit(more), many.partial_fit(more)
    assert many.offset_ == pytest.approx(one.offset_, rel=1e-9)
    assert_allclose(many.score_samples(rows), one.score_samples(rows), rtol=1e-9)


def test_frames_keep_their_names(rows):
    frame = pd.DataFrame(rows, columns=list("abcdef"))
    lazy = dd.from_pandas(frame, npartitions=5)
    detector = skad.Mahalanobis().fit(lazy)
    assert list(detector.feature_names_in_) == list("abcdef")
    expected = skad.Mahalanobis().fit(frame).score_samples(frame)
    assert_allclose(detector.score_samples(lazy).compute(), expected, rtol=1e-9)
    assert detector.transform(lazy).compute().shape == rows.shape
    with pytest.raises(ValueError, match="feature names"):
        detector.score_samples(lazy.rename(columns={"a": "z"})).compute()


def test_empty_partitions_have_no_scores(rows):
    rows = rows[rows[:, 0].argsort()]
    lazy = dd.from_pandas(pd.DataFrame(rows, columns=list("abcdef")), npartitions=4)
    most = lazy[lazy.a >= rows[600, 0]]
    detector = skad.HBOS().fit(most)
    expected = skad.HBOS().fit(rows[600:]).score_samples(rows[600:])
    assert_allclose(detector.score_samples(most).compute(), expected, rtol=1e-9)


def test_single_precision_stays(rows):
    lazy = da.from_array(rows.astype(np.float32), chunks=(500, 6))
    detector = skad.Mahalanobis().fit(lazy)
    assert detector.transform(lazy).dtype == np.float32
    assert detector.transform(lazy).compute().dtype == np.float32
    assert detector.score_samples(lazy).compute().dtype == np.float64


def test_nothing_is_computed_before_it_is_asked_for(rows):
    read = []

    def load(start):
        read.append(start)
        return rows[start : start + 500]

    lazy = da.concatenate(
        [
            da.from_delayed(_delayed(load)(start), (500, 6), float)
            for start in range(0, 2000, 500)
        ]
    )
    scores = skad.KNN().fit(rows[:300]).score_samples(lazy)
    maps = make_pipeline(StandardScaler(), skad.HBOS()).fit(rows)[-1].transform(lazy)
    assert read == []
    assert scores[:10].compute().shape == (10,)
    assert maps[1990:].compute().shape == (10, 6)
    assert sorted(read) == [0, 1500]


def _delayed(function):
    import dask

    return dask.delayed(function)


@pytest.mark.parametrize(
    "detector",
    [
        skad.IsolationForest(n_estimators=5, random_state=0),
        skad.LOF(),
        skad.SVDD(),
        skad.ConformalDetector(skad.HBOS(), random_state=0),
        skad.QuantileThreshold(),
        skad.ScoreEnsemble([("knn", skad.KNN()), ("tails", skad.ECOD())]),
    ],
    ids=identify,
)
def test_any_detector_of_rows_scores_blocks(detector, rows):
    fitted = clone(detector).fit(rows[:200])
    lazy = da.from_array(rows, chunks=(450, 6))
    for method in PUBLIC:
        found = getattr(fitted, method)(lazy)
        assert isinstance(found, da.Array)
        assert_allclose(found, getattr(fitted, method)(rows), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("n_features", [10, 100])  # less and more than pictures
def test_padim_over_blocks_is_padim(n_features, pictures):
    lazy = da.from_array(pictures, chunks=(7, 16, 8))
    detector = PaDiM(n_features=n_features, smoothing=1, random_state=0)
    one, many = clone(detector).fit(pictures), clone(detector).fit(lazy)
    assert many.offset_ == pytest.approx(one.offset_, rel=1e-9)
    assert many.image_shape_ == one.image_shape_
    scores = many.score_samples(lazy).compute()
    assert_allclose(scores, one.score_samples(pictures), rtol=1e-9)
    assert many.transform(lazy).shape == (24, 16, 16)
    assert_allclose(many.transform(lazy), one.transform(pictures), rtol=1e-9)


def test_core_sets_of_blocks_make_a_core_set(pictures):
    lazy = da.from_array(pictures, chunks=(6, 16, 16))
    detector = PatchCore(smoothing=1, projection_eps=None, random_state=0)
    one, many = clone(detector).fit(pictures), clone(detector).fit(lazy)
    assert many.bank_.shape == one.bank_.shape
    patches = one.embedding_.embed(torch.from_numpy(pictures)[..., None])
    patches = patches.flatten(0, 2)

    def radius(bank):
        return float(torch.cdist(patches, bank).min(1).values.max())

    # either has at most twice the best radius for its points, so the second core-set
    # of the first at most four times
    assert radius(many.bank_) <= 2 * radius(one.bank_)
    assert radius(many.bank_) < radius(one.bank_[: len(one.bank_) // 2])
    bad = pictures[:4].copy()
    bad[:, 5:9, 5:9] = 1.0
    assert_array_equal(many.predict(da.from_array(bad, chunks=2)), [-1] * 4)
    again = clone(detector).fit(lazy)
    assert_array_equal(again.bank_, many.bank_)


class Squares(torch.nn.Module):
    """A backbone that says what is in squares of 4 x 4 pixels."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.PixelUnshuffle(4)

    def forward(self, x):
        return self.first(x)


def test_softpatch_rates_patches_within_blocks(pictures):
    """What is planted in one picture is an outlier of its block, and in no bank."""
    mixed = pictures.copy()
    mixed[9, 4:8, 4:8] = 1.0
    lazy = da.from_array(mixed, chunks=(8, 16, 16))
    given = {"backbone": Squares, "layers": ("first",), "neighborhood": 1}
    given |= {"coreset_ratio": 0.5, "random_state": 0}
    detector, other = SoftPatch(**given).fit(lazy), PatchCore(**given).fit(lazy)
    assert len(detector.weights_) == len(detector.bank_) == len(detector.owners_) == 192
    planted = torch.ones(1, 16)
    assert torch.cdist(planted, other.bank_.float()).min() == 0
    assert torch.cdist(planted, detector.bank_.float()).min() > 1
    assert detector.score_samples(mixed).argmin() == 9


@pytest.mark.parametrize("made", [InReaCh, FAPM])
def test_what_compares_all_pictures_says_so(made, pictures):
    with pytest.raises(ValueError, match="learns from all rows at once"):
        made().fit(da.from_array(pictures, chunks=(8, 16, 16)))


@pytest.mark.parametrize(
    "detector",
    [skad.KNN(), skad.HBOS(binning="dynamic"), skad.Mahalanobis("mcd")],
    ids=identify,
)
def test_what_needs_all_rows_says_so(detector, rows):
    with pytest.raises(ValueError, match=r"all rows at once.*X\.compute\(\)"):
        clone(detector).fit(da.from_array(rows, chunks=500))


def test_errors_are_clear_and_nothing_is_lost(rows):
    lazy = da.from_array(rows, chunks=(500, 6))
    detector = skad.Mahalanobis().fit(rows)
    before = detector.score_samples(rows)
    bad = rows.copy()
    bad[1700, 2] = np.nan
    for wrong, match in (
        (da.from_array(bad, chunks=(500, 6)), "NaN"),
        (lazy[:1], "minimum of 2"),
        (lazy[:0], "0 sample"),
    ):
        with pytest.raises(ValueError, match=match):
            detector.fit(wrong)
        assert_array_equal(detector.score_samples(rows), before)
    with pytest.raises(ValueError, match="go on learning"):
        detector.partial_fit(lazy)
    with pytest.raises(ValueError, match="6 features"):
        detector.score_samples(lazy[:, :3]).compute()


@pytest.mark.parametrize(
    "detector",
    [
        skad.MatrixProfile(window_size=5),
        skad.MIDAS(),
        skad.QuantileThreshold(skad.KMeansAD(window_size=5)),
    ],
    ids=identify,
)
@pytest.mark.parametrize("method", PUBLIC)
def test_what_looks_at_other_rows_needs_them_in_memory(detector, method, rows):
    fitted = clone(detector).fit(rows[:300])
    with pytest.raises(ValueError, match=r"in memory.*X\.compute\(\)"):
        getattr(fitted, method)(da.from_array(rows, chunks=(500, 6)))


# ------------------------------------------------------------------- several processes


def test_processes_find_the_same(cluster, rows, pictures):
    lazy = da.from_array(rows, chunks=(500, 6))
    for detector in (skad.Mahalanobis(), skad.MatrixSketch(n_components=2)):
        one, many = clone(detector).fit(rows), clone(detector).fit(lazy)
        found = many.score_samples(lazy).compute()
        assert_allclose(found, one.score_samples(rows), rtol=1e-9)
    detector = PaDiM(smoothing=1, n_features=10, random_state=0)
    many = clone(detector).fit(da.from_array(pictures, chunks=(8, 16, 16)))
    expected = clone(detector).fit(pictures).score_samples(pictures)
    assert_allclose(many.score_samples(pictures), expected, rtol=1e-9)


def test_searches_run_on_the_cluster(cluster, rows):
    search = GridSearchCV(
        skad.KNN(), {"n_neighbors": [3, 10]}, scoring=excess_mass, cv=2
    )
    here = clone(search).fit(rows[:300]).cv_results_["mean_test_score"]
    with parallel_config(backend="dask"):
        there = clone(search).fit(rows[:300]).cv_results_["mean_test_score"]
    assert_array_equal(there, here)


def test_a_killed_worker_costs_nothing(cluster, rows, tmp_path):
    """Blocks leave a note when they are read, and one reader is killed in its work."""

    def load(start, folder):
        (folder / f"{start}-{os.getpid()}").touch()
        time.sleep(0.1)
        return rows[start : start + 100]

    lazy = da.concatenate(
        [
            da.from_delayed(_delayed(load)(start, tmp_path), (100, 6), float)
            for start in range(0, 2000, 100)
        ]
    )
    killed = []

    def kill():
        while len(notes := sorted(tmp_path.iterdir())) < 6:
            time.sleep(0.01)
        killed.append(int(notes[-1].name.split("-")[1]))
        os.kill(killed[0], signal.SIGKILL)

    before = set(cluster.run(os.getpid).values())
    killer = threading.Thread(target=kill)
    killer.start()
    detector = skad.Mahalanobis().fit(lazy)
    killer.join()
    assert killed[0] in before
    expected = skad.Mahalanobis().fit(rows)
    assert detector.n_samples_seen_ == 2000
    assert detector.offset_ == pytest.approx(expected.offset_, rel=1e-9)
    scores = detector.score_samples(lazy).compute()
    assert_allclose(scores, expected.score_samples(rows), rtol=1e-9)
    assert killed[0] not in cluster.run(os.getpid).values()
