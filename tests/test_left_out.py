"""Thresholds for new rows: what leaves a row out equals a fit without the row."""

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone
from sklearn.ensemble import IsolationForest as SklearnForest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad._cross_fitting import cross_fitted
from skad.ensemble._nodes import flatten
from skad.ensemble._paths import average_path_length, lengths_without
from skad.one_class import DeepSVDD
from skad.ood import LogitNorm
from skad.reconstruction import AutoEncoder
from skad.supervised import MixedSupervision
from tests._instances import identify


def refitted(detector, X):
    """Return the anomaly of each row by a detector that was fitted without it."""
    member = clone(detector).set_params(contamination=0.5)
    return np.array(
        [
            -member.fit(np.delete(X, i, axis=0)).score_samples(X[i : i + 1])[0]
            for i in range(len(X))
        ]
    )


def honest(detector, X):
    return clone(detector).fit(X)._honest_anomaly(X, None, None)


@pytest.fixture(scope="module")
def rows():
    """Correlated rows, two clouds of them, with a rounded and a constant feature."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 5)) @ rng.normal(size=(5, 5)) + 3
    X[:15] += 20
    X[:, 1] = np.round(X[:, 1])
    return X


# reg_covar is no part of the formula; EM has to have converged
MIXTURE = {"reg_covar": 0.0, "tol": 1e-10, "max_iter": 500, "random_state": 0}
EXACT = [
    skad.Mahalanobis(),
    *(
        skad.GMM(k, covariance_type=kind, **MIXTURE)
        for k in (1, 2)
        for kind in ("full", "tied", "diag", "spherical")
    ),
    skad.KDE(),
    skad.KDE(kernel="exponential", bandwidth=3.0),
    skad.ECOD(),
    skad.ECOD("sample"),
    skad.COPOD(),
    skad.COPOD("sample"),
    skad.HBOS(),
    skad.HBOS("auto"),
    skad.HBOS(4, tol=0.0),
    skad.KNN(),
    skad.KNN(3, method="mean", metric="manhattan"),
    skad.PCAReconstruction(5, measure="hotelling"),
    skad.MatrixSketch(5),
]
# how far from refitting, in the mean over the rows, relative to it
CLOSE = [
    (skad.Mahalanobis("oas"), 0.01),
    (skad.Mahalanobis("ledoit_wolf"), 0.02),
    (skad.PCAReconstruction(2), 0.05),
    (skad.PCAReconstruction(2, measure="reconstruction"), 0.05),
    (skad.PCAReconstruction(3, measure="hotelling"), 0.05),
    (skad.PCAReconstruction(3, standardize=True), 0.05),
    (skad.MatrixSketch(2, measure="projection"), 0.05),
    (skad.MatrixSketch(2, sketch_size=4), 0.1),
    (skad.KernelPCAReconstruction(), 0.1),
    (skad.KernelPCAReconstruction(20), 0.15),
    (skad.KernelPCAReconstruction(3, kernel="linear"), 0.1),
    (skad.LOF(10), 0.1),
]


@pytest.mark.parametrize("detector", EXACT, ids=identify)
def test_leaving_a_row_out_is_fitting_without_it(detector, rows):
    expected = refitted(detector, rows)
    scale = np.abs(expected).max()
    assert_allclose(honest(detector, rows), expected, rtol=1e-8, atol=1e-10 * scale)
    if not isinstance(detector, skad.KDE | skad.KNN):  # whose scores leave it out too
        seen = -clone(detector).fit(rows).score_samples(rows)
        assert np.abs(seen - expected).mean() > 0.002 * np.abs(expected).mean()


@pytest.mark.parametrize(("detector", "error"), CLOSE, ids=str)
def test_leaving_a_row_out_is_close_to_fitting_without_it(detector, error, rows):
    expected = refitted(detector, rows)
    found = np.abs(honest(detector, rows) / expected - 1)
    seen = np.abs(-clone(detector).fit(rows).score_samples(rows) / expected - 1)
    assert found.mean() < error
    if not isinstance(detector, skad.LOF):  # whose scores leave the row out too
        assert 2 * found.mean() < seen.mean()


@pytest.mark.parametrize(
    "detector", [skad.Mahalanobis(), skad.HBOS(), skad.HBOS(4, tol=0.0)], ids=identify
)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_one_repetition_of_a_row_is_left_out(detector, dtype, rows):
    X = np.delete(rows, [1, 3], axis=1).astype(dtype)
    weights = np.random.default_rng(1).uniform(0.2, 3, size=len(X)).round(1)
    expected = []
    for i in range(len(X)):
        others = weights.copy()
        others[i] = max(others[i] - 1, 0)
        detector.fit(X, sample_weight=others)
        expected.append(-detector.score_samples(X[i : i + 1])[0])
    detector.fit(X, sample_weight=weights)
    found = detector._honest_anomaly(X, None, None, sample_weight=weights)
    rtol = 1e-8 if dtype == np.float64 else 1e-3
    assert_allclose(found, expected, rtol=rtol, atol=rtol)
    as_tensors = clone(detector).fit(torch.tensor(X), sample_weight=weights)
    assert as_tensors.offset_ == pytest.approx(detector.offset_, rel=rtol)


def test_a_row_that_makes_up_a_direction_is_scored_without_it(rows):
    X = rows.copy()
    X[:, 3] = 0
    X[7, 3] = 1
    detector = skad.Mahalanobis()
    # in units of the smallest deviation, which the row takes along
    assert_allclose(honest(detector, X)[7], refitted(detector, X)[7], rtol=0.05)
    assert honest(detector, X)[7] > 1e9
    X[:, 3] = X[:, 0] - X[:, 1]
    X[7, 3] += 1
    assert_allclose(honest(detector, X)[7], refitted(detector, X)[7], rtol=0.05)
    assert honest(detector, X)[7] > 1e9


def test_knn_leaves_rows_out_of_precomputed_distances(rows):
    distances = np.linalg.norm(rows[:, None] - rows, axis=2)
    known = skad.KNN(metric="precomputed").fit(distances)
    assert known.offset_ == pytest.approx(skad.KNN().fit(rows).offset_)


def test_forests_leave_a_row_out_of_their_trees():
    X = np.random.default_rng(1).normal(size=(60, 2)).astype(np.float32)
    forest = SklearnForest(n_estimators=10, max_samples=40, random_state=0).fit(X)
    trees = zip(forest.estimators_, forest.estimators_samples_, strict=True)
    for estimator, seen in trees:
        tree = estimator.tree_
        ends = tree.apply(X[seen])
        nodes = flatten([tree], [np.arange(2)])
        found = lengths_without(
            nodes, tree.n_node_samples, X, seen, ends, np.ones(40, dtype=int)
        )
        for i, row in enumerate(X[seen]):
            # drop the row, and every split that then has nothing on one side
            others = X[np.delete(seen, i)]
            reached = tree.decision_path(others).toarray().any(axis=0)
            node, depth = 0, 0
            while tree.children_left[node] >= 0:
                sides = [tree.children_left[node], tree.children_right[node]]
                if reached[sides].all():
                    side = int(row[tree.feature[node]] > tree.threshold[node])
                    depth += 1
                else:
                    side = int(reached[sides[1]])
                node = sides[side]
            left = np.sum(tree.apply(others) == node)
            assert found[i] == pytest.approx(depth + average_path_length(left))


@pytest.mark.parametrize("setting", [{}, {"bootstrap": True}, {"max_features": 2}])
def test_forests_leave_out_a_row_with_every_setting(setting, rows):
    forest = skad.IsolationForest(random_state=0, **setting).fit(rows)
    found = forest._honest_anomaly(rows, None, None)
    assert found.shape == (40,)
    assert found.mean() > 1.01 * -forest.score_samples(rows).mean()


@pytest.mark.parametrize("setting", [{"bootstrap": True}, {"max_samples": 20}])
def test_forests_leave_out_a_repetition_of_a_row(setting, rows):
    weights = np.random.default_rng(0).uniform(0.1, 1, size=40)
    forest = skad.IsolationForest(random_state=0, **setting)
    forest.fit(rows, sample_weight=10 * weights)
    seen = -forest.score_samples(rows)
    alone, two, many = (
        forest._honest_anomaly(rows, None, None, sample_weight=some)
        for some in (weights, np.full(40, 2), np.full(40, 1e6))
    )
    assert alone.mean() > 1.01 * seen.mean()
    assert_allclose(many, seen, rtol=1e-4)
    if not forest.bootstrap:  # half of the draws of a row were of either repetition
        assert_allclose(np.log(two), (np.log(alone) + np.log(seen)) / 2, rtol=1e-10)


def test_forests_know_what_their_trees_have_seen(rows):
    forest = skad.IsolationForest(20, max_samples=16, random_state=0)
    forest._skl_callbacks = []  # it then grows in steps
    grown = forest.fit(rows).forest_
    assert len(grown.estimators_samples_) == 20
    scaled = ((rows - forest.centre_) / forest.scale_).astype(np.float32)
    trees = zip(grown.estimators_, grown.estimators_samples_, strict=True)
    for estimator, seen in trees:
        ends = estimator.tree_.apply(scaled[seen])
        counts = np.bincount(ends, minlength=estimator.tree_.node_count)
        leaves = estimator.tree_.children_left < 0
        assert (counts[leaves] == estimator.tree_.n_node_samples[leaves]).all()


def test_bagging_combines_what_its_members_leave_out(rows):
    for combination, merge in (("average", np.mean), ("maximum", np.max)):
        bagging = skad.FeatureBagging(
            skad.Mahalanobis(), combination=combination, random_state=0
        ).fit(rows)
        members = zip(bagging.estimators_, bagging.estimators_features_, strict=True)
        parts = [m._honest_anomaly(rows[:, own], None, None) for m, own in members]
        found = bagging._honest_anomaly(rows, None, None)
        assert_allclose(found, merge(parts, axis=0))
        assert found.mean() > 1.1 * -bagging.score_samples(rows).mean()


def test_ensembles_standardise_honest_anomalies_by_the_training_scores(rows):
    members = [("a", skad.Mahalanobis()), ("b", skad.ECOD())]
    ensemble = skad.ScoreEnsemble(members, random_state=0).fit(rows)
    parts = [m._honest_anomaly(rows, None, None) for m in ensemble.detectors_]
    standard = (np.stack(parts, axis=1) - ensemble.means_) / ensemble.deviations_
    found = ensemble._honest_anomaly(rows, None, None)
    assert_allclose(found, standard.mean(axis=1))
    nested = skad.FeatureBagging(ensemble, n_estimators=2, random_state=0).fit(rows)
    assert nested._honest_anomaly(rows, None, None).shape == (40,)


def test_members_without_honest_anomalies_are_fitted_anew(rows):
    member = make_pipeline(StandardScaler(), skad.KNN())
    for ensemble in (
        skad.FeatureBagging(member, n_estimators=2, random_state=0),
        skad.ScoreEnsemble([("a", member), ("b", skad.ECOD())], random_state=0),
    ):
        ensemble.fit(rows)
        found = ensemble._honest_anomaly(rows, None, None)
        assert_allclose(found, cross_fitted(ensemble, rows, None, {}))
        listed = clone(ensemble).fit(rows.tolist())
        assert listed.offset_ == pytest.approx(ensemble.offset_)


@pytest.mark.parametrize(
    "detector",
    [skad.Mahalanobis(), skad.PCAReconstruction(2), skad.MatrixSketch(2)],
    ids=identify,
)
def test_streams_leave_rows_out_of_all_that_is_known(detector, rows):
    whole = clone(detector).fit(rows)
    stream = clone(detector).fit(rows[:25]).partial_fit(rows[25:], y=np.ones(15))
    assert stream.offset_ == pytest.approx(whole.offset_, rel=1e-6)


@pytest.mark.parametrize(
    "detector",
    [one for one in EXACT if not isinstance(one, skad.GMM)],
    ids=identify,
)
def test_tensors_have_the_threshold_of_arrays(detector, rows):
    tensor = clone(detector).fit(torch.from_numpy(rows))
    assert tensor.offset_ == pytest.approx(clone(detector).fit(rows).offset_, rel=1e-9)


@pytest.mark.parametrize("cls", [AutoEncoder, DeepSVDD, LogitNorm])
def test_copies_of_a_network_of_few_pictures_are_networks_of_pictures(cls):
    pictures = np.random.default_rng(0).uniform(size=(9, 6, 5)).astype(np.float32)
    y = np.arange(9) % 2 if cls is LogitNorm else None
    detector = cls(max_epochs=1, hidden_sizes=(4,), random_state=0)
    whole = clone(detector).fit(pictures, y)
    flat = detector.set_params(image_shape=(6, 5)).fit(pictures.reshape(9, -1), y)
    assert whole.offset_ == flat.offset_


def test_copies_of_a_network_of_few_pictures_get_masks():
    rng = np.random.default_rng(0)
    pictures, masks = rng.uniform(size=(13, 16, 16)), np.zeros((13, 16, 16))
    masks[:4, 4:10, 6:12] = 1
    detector = MixedSupervision(channels=(4, 4, 4, 4), max_epochs=1, random_state=0)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "MixedSupervision cannot be fitted without")
        detector.fit(pictures, masks=masks)
