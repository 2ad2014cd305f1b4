"""Which samples to look at next."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad.model_selection import query

X = np.array([[0.0], [0.1], [-0.1], [0.2], [5.0], [-0.2], [-6.0], [0.3]])


@pytest.fixture(scope="module")
def detector():
    return skad.Mahalanobis(contamination=0.25).fit(X)


def test_the_most_anomalous_come_first(detector):
    expected = np.argsort(detector.score_samples(X))
    assert_array_equal(query(detector, X, 8), expected)
    assert query(detector, X, 3).dtype == np.int64


def test_the_boundary_is_the_threshold(detector):
    found = query(detector, X, 8, strategy="boundary")
    away = np.abs(detector.decision_function(X))[found]
    assert np.all(np.diff(away) >= 0)


def test_both_takes_turns_and_names_nobody_twice(detector):
    low = query(detector, X, 8)
    near = query(detector, X, 8, strategy="boundary")
    both = query(detector, X, 8, strategy="both")
    assert sorted(both) == list(range(8))
    assert list(both[:2]) == [low[0], near[0]]


def test_what_is_known_is_not_named_again(detector):
    y = np.zeros(8)
    y[[6, 4, 0]] = [-1, 1, 1]
    assert sorted(query(detector, X, 99, y=y)) == [1, 2, 3, 5, 7]
    y[:] = 1
    assert len(query(detector, X, 2, y=y)) == 0


def test_pipelines_and_tensors_are_taken():
    model = make_pipeline(StandardScaler(), skad.KNN(n_neighbors=2)).fit(X)
    assert set(query(model, X, 2)) == {4, 6}
    x = torch.as_tensor(X)
    assert set(query(skad.KNN(n_neighbors=2).fit(x), x, 2)) == {4, 6}


@pytest.mark.parametrize("n", [0, 1.5, True, "2"])
def test_a_number_of_samples_is_whole(detector, n):
    with pytest.raises(ValueError, match="must be a whole number of at least 1"):
        query(detector, X, n)


def test_errors_say_what_is_accepted(detector):
    with pytest.raises(ValueError, match="'anomalous', 'boundary', 'both'"):
        query(detector, X, 1, strategy="random")
    with pytest.raises(ValueError, match="y has 2 labels for 8 samples"):
        query(detector, X, 1, y=[0, 1])
