"""Deep isolation forests against loops over the nodes of scikit-learn's trees."""

import numpy as np
import pytest
import sklearn.ensemble
from numpy.testing import assert_allclose

from skad.ensemble import DIF

FUNCTIONS = {"relu": lambda x: x * (x > 0), "tanh": np.tanh}
SMALL = {"n_estimators": 4, "latent_size": 5, "max_samples": 32, "random_state": 0}


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return rng.normal(size=(90, 3)), 2 * rng.normal(size=(20, 3))


def replayed(X, new, sizes, activation, r):
    """Return the scores of scikit-learn's forests and the distances to splits, a net.

    Drawn from the same seed as the detector's.
    """
    random = np.random.RandomState(0)
    weights = []
    for _ in range(r):
        layers = [random.standard_normal(size) for size in sizes]
        weights.append([layer.astype(np.float32).astype(float) for layer in layers])
    scores, distances = [], []
    for first, *others in weights:
        codes = []
        for rows in (X, new):
            code = rows @ first
            for layer in others:
                code = FUNCTIONS[activation](code) @ layer
            codes.append(code)
        mean, deviation = codes[0].mean(axis=0), codes[0].std(axis=0)
        train, test = (np.tanh((code - mean) / deviation) for code in codes)
        seed = random.randint(2**31 - 1)
        forest = sklearn.ensemble.IsolationForest(
            n_estimators=4, max_samples=32, random_state=seed
        )
        scores.append(-forest.fit(train.astype(np.float32)).score_samples(test))
        distances.append([distance(forest, row) for row in test])
    return np.array(scores), np.array(distances)


def distance(forest, row):
    """Return the mean over trees of the mean distance to the splits of the path."""
    found = []
    for tree in (one.tree_ for one in forest.estimators_):
        node, parts = 0, []
        while tree.children_left[node] >= 0:
            away = row[tree.feature[node]] - tree.threshold[node]
            parts.append(abs(away))
            node = (tree.children_left if away <= 0 else tree.children_right)[node]
        found.append(np.mean(parts))
    return np.mean(found)


@pytest.mark.parametrize("hidden", [(), (7,), (9, 4)])
@pytest.mark.parametrize("activation", FUNCTIONS)
def test_scores_are_those_of_a_replay(table, hidden, activation):
    X, new = table
    sizes = list(zip((3, *hidden), (*hidden, 5), strict=True))
    scores, distances = replayed(X, new, sizes, activation, 3)
    given = {**SMALL, "hidden_sizes": hidden, "activation": activation}
    path = DIF(3, measure="path", **given).fit(X)
    assert_allclose(-path.score_samples(new), scores.mean(axis=0), rtol=1e-12)
    both = DIF(3, **given).fit(X)
    found = (scores * distances).mean(axis=0)
    assert_allclose(-both.score_samples(new), found, rtol=1e-6)
    assert_allclose(both.means_.shape, (3, 5))


def test_equal_rows_are_not_isolated_at_all():
    X = np.ones((20, 2))
    detector = DIF(2, measure="path", contamination=0.1, **SMALL).fit(X)
    assert_allclose(-detector.score_samples(X[:3]), 0.5)
    assert_allclose(DIF(2, contamination=0.1, **SMALL).fit(X).score_samples(X), 0)


def test_the_map_is_what_is_lost_at_the_median(table):
    X, new = table
    detector = DIF(3, hidden_sizes=(8,), **SMALL).fit(X)
    changed = new.copy()
    changed[:, 1] = np.median(X[:, 1])
    lost = detector.score_samples(changed) - detector.score_samples(new)
    assert_allclose(detector.transform(new)[:, 1], lost, atol=1e-12)
    assert_allclose(detector.transform(np.median(X, axis=0)[None]), 0, atol=1e-12)
