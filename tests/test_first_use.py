"""What a first use meets: data on which nothing can be told apart, single rows."""

import warnings

import numpy as np
import pytest

import skad

RNG = np.random.default_rng(0)
ROWS = RNG.normal(size=(60, 4))


def warnings_of(function, *args):
    """Return the texts of the warnings of a call."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        function(*args)
    return [str(one.message) for one in said]


# ---------------------------------------------------------------- equal training scores


@pytest.mark.parametrize("contamination", ["auto", 0.1])
@pytest.mark.parametrize(
    ("name", "X"),
    [
        ("KNN", np.ones((60, 4))),
        ("FeatureBagging", np.ones((60, 4))),
        ("ScoreEnsemble", np.ones((60, 4))),
        ("IsolationForest", 1.7e9 + 1e-9 * ROWS),
        ("KDE", 1e-9 * ROWS),
    ],
)
def test_equal_training_scores_are_warned_of_once(name, X, contamination):
    detector = getattr(skad, name)(contamination=contamination)
    said = warnings_of(detector.fit, X)
    assert len([text for text in said if "60 training samples got" in text]) == 1


def test_equal_training_scores_are_warned_of_by_what_has_a_threshold_of_its_own():
    for detector in (skad.OneClassSVM(), skad.SVDD(), skad.DeepSVDD(max_epochs=1)):
        said = warnings_of(detector.fit, np.ones((60, 4)))
        assert len([text for text in said if "training samples got" in text]) == 1
    stream = skad.AutoEncoder(max_epochs=1)
    said = warnings_of(stream.partial_fit, np.ones((60, 4)))
    assert len([text for text in said if "training samples got" in text]) == 1


@pytest.mark.parametrize(
    "name", ["KNN", "KDE", "GMM", "OneClassSVM", "IsolationForest"]
)
def test_scores_that_differ_are_not_warned_of(name):
    said = warnings_of(getattr(skad, name)().fit, ROWS)
    assert not [text for text in said if "training samples got" in text]
