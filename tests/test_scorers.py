"""Scorers by name: the anomaly is the positive class."""

import numpy as np
import pytest
import sklearn.metrics
from numpy.testing import assert_allclose
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skad import KNN
from skad.metrics import get_scorer, get_scorer_names, precision_at_n
from skad.model_selection import NoveltyKFold, excess_mass, mass_volume

RNG = np.random.default_rng(0)
X = np.concatenate([RNG.normal(size=(200, 2)), RNG.normal(size=(20, 2)) * 3])
Y = np.repeat([1, -1], [200, 20])


def test_the_anomaly_is_the_positive_class():
    detector = KNN().fit(X[:200])
    anomaly = -detector.score_samples(X)
    expected = sklearn.metrics.average_precision_score(Y == -1, anomaly)
    assert_allclose(get_scorer("average_precision")(detector, X, Y), expected)
    theirs = sklearn.metrics.get_scorer("average_precision")(detector, X, Y)
    assert theirs > 0.95 > expected  # which rates the normal class
    expected = sklearn.metrics.roc_auc_score(Y == -1, anomaly)
    assert_allclose(get_scorer("roc_auc")(detector, X, Y), expected)
    largest = np.argsort(-anomaly)[:20]
    assert get_scorer("precision_at_n")(detector, X, Y) == np.mean(Y[largest] == -1)


@pytest.mark.parametrize("name", get_scorer_names())
def test_a_search_takes_each(name):
    search = GridSearchCV(
        make_pipeline(StandardScaler(), KNN()),
        {"knn__n_neighbors": [1, 5]},
        scoring=get_scorer(name),
        cv=NoveltyKFold(2),
    ).fit(X, Y)
    assert -1 < search.best_score_ <= 1
    assert search.best_score_ != 0  # what a fold gets for which it is not defined


@pytest.mark.parametrize("scorer", [excess_mass, mass_volume])
def test_searches_without_labels_find_their_scorers_by_name(scorer):
    name = {excess_mass: "excess_mass", mass_volume: "mass_volume"}[scorer]
    assert name in get_scorer_names()
    assert get_scorer(name) is scorer
    grid = {"n_neighbors": [1, 5, 100]}
    search, expected = (
        GridSearchCV(KNN(), grid, scoring=scoring).fit(X)  # no labels anywhere
        for scoring in (get_scorer(name), scorer)
    )
    found = search.cv_results_["mean_test_score"]
    assert np.ptp(found) > 0
    assert_allclose(found, expected.cv_results_["mean_test_score"])


def test_ties_count_to_equal_parts():
    assert precision_at_n([-1, 1, 1, -1], [2.0, 1.0, 1.0, 0.0]) == 0.5
    assert precision_at_n([-1, -1, 1, 1], [2.0, 1.0, 1.0, 0.0]) == 0.75
    assert precision_at_n([-1, 1, 1, 1], [2.0, 1.0, 1.0, 0.0], n=2) == 0.5
    assert precision_at_n([0, 1], [0.0, 1.0], pos_label=1) == 1
    with pytest.warns(sklearn.exceptions.UndefinedMetricWarning):
        assert np.isnan(precision_at_n([1, 1], [0.0, 1.0]))
    with pytest.raises(ValueError, match="n=3 must be at most"):
        precision_at_n([-1, 1], [0.0, 1.0], n=3)


def test_a_wrong_name_says_the_right_ones():
    with pytest.raises(ValueError, match=r"excess_mass, .*precision_at_n"):
        get_scorer("f1")
