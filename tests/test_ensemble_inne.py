"""INNE against loops over its definitions, and closed cases."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from skad.ensemble import INNE


def isolation(row, centres):
    """The isolation of a row in one set, by definition, and the centre it is due to."""
    away = [np.linalg.norm(row - c) for c in centres]
    between = [
        [np.linalg.norm(c - o) if i != j else np.inf for j, o in enumerate(centres)]
        for i, c in enumerate(centres)
    ]
    radii = [min(own) for own in between]
    inside = [i for i in range(len(centres)) if away[i] <= radii[i]]
    if not inside:
        return 1.0, int(np.argmin(away))
    smallest = min(inside, key=lambda i: radii[i])
    other = int(np.argmin(between[smallest]))
    return 1 - radii[other] / radii[smallest], smallest


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 3)), 2 * rng.normal(size=(15, 3))


@pytest.mark.parametrize("m", [2, 8])
def test_scores_and_maps_are_the_naive_loop(table, m):
    X, new = table
    detector = INNE(20, max_samples=m, random_state=0).fit(X)
    maps = detector.transform(new)
    scores = detector.score_samples(new)
    for row, score, found in zip(new, scores, maps, strict=True):
        total, parts = 0, np.zeros(3)
        for centres in detector.centres_:
            one, place = isolation(row, centres)
            total += one / 20
            away = (row - centres[place]) ** 2
            parts += one / 20 * away / away.sum()
        assert_allclose(-score, total)
        assert_allclose(found, parts)


def test_training_rows_are_left_out_of_their_sets(table):
    X, _ = table
    detector = INNE(30, random_state=0).fit(X)
    left = detector._honest_anomaly(X, None, None)
    for row, found in zip(X, left, strict=True):
        sets = [own for own in detector.centres_ if not (own == row).all(axis=1).any()]
        assert 0 < len(sets) < 30
        assert_allclose(found, np.mean([isolation(row, own)[0] for own in sets]))
    few = INNE(5, random_state=0).fit(X[:8])
    assert_allclose(few._honest_anomaly(X[:8], None, None), 1)


def test_two_rows_make_equal_balls(table):
    X, new = table
    detector = INNE(1, max_samples=2, random_state=0).fit(X)
    assert set(detector.score_samples(np.r_[X, new])) == {-1.0, 0.0}
    assert_allclose(detector.ratios_, 0)


def test_scale_and_place_change_nothing(table):
    X, new = table
    scores = INNE(random_state=0).fit(X).score_samples(new)
    moved = INNE(random_state=0).fit(32 * X + 4).score_samples(32 * new + 4)
    assert_allclose(moved, scores)


def test_sets_add_up(table):
    X, new = table
    whole = INNE(40, random_state=0).fit(X)
    halves = []
    for rows in (slice(0, 20), slice(20, 40)):
        half = INNE(20).fit(X)
        half.centres_ = whole.centres_[rows]
        half._squares_, half.ratios_ = whole._squares_[rows], whole.ratios_[rows]
        halves.append(half.score_samples(new))
    assert_allclose(whole.score_samples(new), np.mean(halves, axis=0))


def test_balls_of_duplicates_hold_their_equals_alone():
    X = np.array([[0.0, 0.0]] * 6 + [[1.0, 0.0], [0.0, 1.0]])
    detector = INNE(3, random_state=0).fit(X)
    assert detector.score_samples([[0.0, 0.0]]) == 0
    # another ball holds it, whose neighbour's has no radius
    assert detector.score_samples([[0.0, 1e-3]]) == -1
