"""Extended isolation forests against a replay by recursion, and their ghosts."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skad.ensemble import ExtendedIsolationForest, IsolationForest
from skad.ensemble._oblique import Planes
from skad.ensemble._paths import average_path_length


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return rng.normal(size=(90, 4)) + 3, 2 * rng.normal(size=(12, 4)) + 3


def replayed(detector, X, tree, row, left=None):
    """The path length of a row in a tree, by recursion over the rows in its nodes.

    With `left` the rows without that one: a split that leaves none of them on the
    row's side is none.
    """
    planes, centre = Planes(*detector._planes_), detector._centre_

    def below(node, rows, depth):
        if node >= planes.splits.shape[1] or not planes.splits[tree, node]:
            return depth + float(average_path_length(len(rows)))
        normal, point = planes.normals[tree, node], planes.points[tree, node] + centre
        right = (row - point) @ normal >= 0
        same = [i for i in rows if ((X[i] - point) @ normal >= 0) == right]
        if left in detector._drawn_[tree] and not same:
            others = [i for i in rows if i not in same]
            return below(2 * node + 1 + (not right), others, depth)
        return below(2 * node + 1 + right, same, depth + 1)

    return below(0, [i for i in detector._drawn_[tree] if i != left], 0)


@pytest.mark.parametrize("level", [0, 1, None])
def test_scores_are_the_replayed_trees(table, level):
    X, new = table
    detector = ExtendedIsolationForest(
        12, extension_level=level, max_samples=32, random_state=0
    ).fit(X)
    norm = average_path_length(32)
    for rows in (new, X[:12]):
        lengths = [
            np.mean([replayed(detector, X, t, row) for t in range(12)]) for row in rows
        ]
        assert_allclose(-detector.score_samples(rows), 2 ** -(lengths / norm))
        maps = detector.transform(rows)
        assert_allclose(maps.sum(axis=1), 1 - lengths / norm)
    left = detector._left_out(X)
    for i, row in enumerate(X):
        parts = [
            replayed(detector, X, t, row, left=i)
            / average_path_length(32 - (i in detector._drawn_[t]))
            for t in range(12)
        ]
        assert_allclose(left[i], 2 ** -np.mean(parts))


def test_planes_have_as_many_features_as_asked(table):
    X, _ = table
    for level in range(4):
        detector = ExtendedIsolationForest(5, extension_level=level).fit(X)
        planes = Planes(*detector._planes_)
        normals = planes.normals[planes.splits]
        assert_array_equal((normals != 0).sum(axis=1), level + 1)
        assert set((normals != 0).any(axis=0)) == {True}
        inside = (planes.points + detector._centre_)[planes.splits]
        assert (inside >= X.min(0)).all()
        assert (inside <= X.max(0)).all()


def test_one_feature_at_a_time_knows_no_units(table):
    X, new = table
    scale = np.array([1.0, 1024.0, 0.25, 2.0])
    scores = []
    for unit in (1.0, scale):
        detector = ExtendedIsolationForest(20, extension_level=0, random_state=0)
        scores.append(detector.fit(X * unit).score_samples(new * unit))
    assert_array_equal(*scores)


def test_ghosts_of_two_blobs_are_gone():
    rng = np.random.default_rng(0)
    X = np.r_[rng.normal([0, 10], 1, (500, 2)), rng.normal([10, 0], 1, (500, 2))]
    ghosts, centres = [[0, 0], [10, 10]], [[0, 10], [10, 0]]
    forests = [
        IsolationForest(200, random_state=0),
        *(
            ExtendedIsolationForest(200, extension_level=e, random_state=0)
            for e in (0, 1)
        ),
    ]
    found = [-forest.fit(X).score_samples(ghosts).mean() for forest in forests]
    assert_allclose(found[0], found[1], atol=0.03)
    assert found[2] > found[1] + 0.05
    for forest in forests:
        assert_allclose(-forest.score_samples(centres), 0.42, atol=0.02)


def test_equal_rows_end_together():
    X = np.repeat(np.eye(3), 20, axis=0)
    detector = ExtendedIsolationForest(30, random_state=0).fit(X)
    scores = detector.score_samples(np.eye(3))
    assert_allclose(scores, scores[0], rtol=0.1)
    assert detector.score_samples([[3.0, 3, 3]])[0] < scores.min()


def test_levels_above_the_features_are_refused(table):
    with pytest.raises(ValueError, match="extension_level=4 must be less"):
        ExtendedIsolationForest(extension_level=4).fit(table[0])


def test_few_rows_of_many_features_do_not_pass_their_threshold():
    """A row widens the boxes of all trees that have seen it, which are all here."""
    flagged = []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        X, new = rng.normal(size=(20, 60)), rng.normal(size=(300, 60))
        detector = ExtendedIsolationForest(50, random_state=seed).fit(X)
        flagged.append(np.mean(detector.predict(new) == -1))
    assert np.mean(flagged) < 0.1  # 0.25 with each row taken out of the trees
