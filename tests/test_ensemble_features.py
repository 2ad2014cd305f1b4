"""Detectors as features: the numbers, and what a classifier makes of them."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import check_estimator

from skad import ECOD, HBOS, KNN, Mahalanobis
from skad.ensemble import DetectorFeatures

MEMBERS = [("knn", KNN(3)), ("bins", HBOS(8))]


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal(size=(150, 3)), 3 * rng.normal(size=(20, 3))]
    return X, np.repeat([1, -1], [150, 20])


def test_columns_are_the_anomalies_in_their_units(table):
    X, _ = table
    features = DetectorFeatures(MEMBERS).fit(X)
    new = X[::7] + 0.5
    found = features.transform(new)
    assert_array_equal(found[:, :3], new)
    for column, member in zip(found.T[3:], (KNN(3), HBOS(8)), strict=True):
        member.fit(X)
        seen = -member.score_samples(X)
        expected = (-member.score_samples(new) - seen.mean()) / seen.std()
        assert_allclose(column, expected)
    alone = DetectorFeatures(MEMBERS, passthrough=False).fit(X)
    assert_array_equal(alone.transform(new), found[:, 3:])
    assert list(alone.get_feature_names_out()) == ["knn", "bins"]
    assert list(features.get_feature_names_out()) == ["x0", "x1", "x2", "knn", "bins"]


def test_training_rows_are_left_out(table):
    X, _ = table
    features = DetectorFeatures([("gauss", Mahalanobis())], passthrough=False)
    found = features.fit_transform(X)[:, 0]
    seen = features.transform(X)[:, 0]
    unit = features.deviations_[0]
    left = Mahalanobis().fit(X)._left_out(X)
    assert_allclose(found, (left - features.means_[0]) / unit)
    assert (found > seen - 1e-9).all()


def test_a_classifier_learns_more_from_them(table):
    X, y = table
    rng = np.random.default_rng(1)
    new = np.r_[rng.normal(size=(400, 3)), 3 * rng.normal(size=(60, 3))]
    labels = np.repeat([1, -1], [400, 60])
    plain = LogisticRegression().fit(X, y)
    model = make_pipeline(DetectorFeatures(random_state=0), clone(plain)).fit(X, y)
    before, after = (
        roc_auc_score(labels, each.decision_function(new)) for each in (plain, model)
    )
    assert after > 0.9 > 0.6 > before


def test_members_are_searched_by_name(table):
    X, y = table
    pipeline = make_pipeline(DetectorFeatures(MEMBERS), LogisticRegression())
    grid = {"detectorfeatures__knn__n_neighbors": [2, 9]}
    search = GridSearchCV(pipeline, grid, cv=2).fit(X, y)
    assert search.best_params_["detectorfeatures__knn__n_neighbors"] in (2, 9)
    replaced = DetectorFeatures(MEMBERS).set_params(knn=ECOD()).fit(X)
    assert isinstance(replaced.detectors_[0], ECOD)
    with pytest.raises(ValueError, match="not unique"):
        DetectorFeatures([("a", KNN()), ("a", HBOS())]).fit(X)


@pytest.mark.filterwarnings("ignore")
def test_it_is_a_transformer_of_scikit_learn():
    left_out = "fit_transform leaves training rows out, as scikit-learn's TargetEncoder"
    checks = "check_transformer_general", "check_transformer_data_not_an_array"
    check_estimator(
        DetectorFeatures([("bins", HBOS()), ("gauss", Mahalanobis())]),
        expected_failed_checks=dict.fromkeys(checks, left_out),
    )
