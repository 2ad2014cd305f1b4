"""Detectors of streams: naive loops straight from the papers, windows, closed cases."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skad.stream import HalfSpaceTrees, RSHash, XStream

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3)) * [1, 5, 0.1]
NEW = 1.5 * RNG.normal(size=(40, 3)) * [1, 5, 0.1]


def naive_half_space_tree(features, low, high, depth, limit, rows, x):
    """Return the mass times 2**depth at which one row ends, by recursion."""
    if len(rows) <= limit or depth == 0:
        return len(rows)
    q = features[0]
    middle = (low[q] + high[q]) / 2
    low, high, inner = low.copy(), high.copy(), len(features)
    right = x[q] >= middle
    (low if right else high)[q] = middle
    side = rows[(rows[:, q] >= middle) == right]
    below, first, width = [], 1, 2  # the nodes below the child, level by level
    while first < inner:
        half = width // 2
        start = first + half * right
        below.extend(features[start : start + half])
        first, width = first + width, 2 * width
    args = low, high, depth - 1, limit, side, x
    return 2 * naive_half_space_tree(below, *args)


def test_half_space_trees_are_the_recursion_of_the_paper():
    detector = HalfSpaceTrees(
        n_estimators=5, max_depth=6, window_size=100, random_state=0
    ).partial_fit(X[:250])
    first, known = X[:100], X[100:200]
    low, span = first.min(axis=0), np.ptp(first, axis=0)
    random = np.random.RandomState(0)
    centre = random.uniform(size=(5, 3))
    reach = 2 * np.maximum(centre, 1 - centre)
    expected = np.zeros(len(NEW))
    for t in range(5):
        for i, x in enumerate((NEW - low) / span):
            expected[i] -= naive_half_space_tree(
                list(detector._features_[t]),
                centre[t] - reach[t],
                centre[t] + reach[t],
                6,
                10,
                (known - low) / span,
                x,
            )
    assert_allclose(-detector.score_samples(NEW), expected / 500)


def naive_xstream(detector, known, rows):
    """Return the anomaly of rows by exact counts in dictionaries."""
    shifts, widths = detector._shifts_, detector._widths_

    def cells(x, m):
        y, place, bins, found = x @ detector._weights_ / widths, {}, {}, []
        for axis in detector._axes_[m]:
            if axis in place:
                place[axis] = 2 * place[axis] - shifts[m, axis]
            else:
                place[axis] = y[axis] + shifts[m, axis]
            bins[axis] = int(np.floor(place[axis]))
            found.append(tuple(sorted(bins.items())))
        return found

    total = np.zeros(len(rows))
    for m in range(len(detector._axes_)):
        counts = {}
        for x in known:
            for level, cell in enumerate(cells(x, m), 1):
                counts[level, cell] = counts.get((level, cell), 0) + 1
        for i, x in enumerate(rows):
            total[i] -= min(
                np.log2(1 + counts.get((level, cell), 0)) + level
                for level, cell in enumerate(cells(x, m), 1)
            )
    return total / len(detector._axes_)


def test_xstream_counts_as_dictionaries_do():
    detector = XStream(
        n_estimators=6, n_projections=4, n_columns=2**16, window_size=80, random_state=0
    ).partial_fit(X[:200])
    expected = naive_xstream(detector, X[80:160], NEW)
    assert_allclose(-detector.score_samples(NEW), expected)
    half = np.ptp(X[:80] @ detector._weights_, axis=0) / 2
    assert_allclose(detector._widths_, np.where(half > 0, half, 1))


def naive_rs_hash(detector, first, known, rows):
    """Return the anomaly of rows by exact counts in dictionaries."""
    low, span = first.min(axis=0), np.ptp(first, axis=0)

    def cell(x, i):
        return tuple(
            int(np.floor((x[j] - low[j]) / span[j] / detector.widths_[i] + shift))
            for j, shift, key in zip(
                detector._features_[i],
                detector._shifts_[i],
                detector._keys_[i],
                strict=True,
            )
            if key
        )

    total = np.zeros(len(rows))
    for i in range(detector.n_estimators):
        counts = {}
        for x in known:
            counts[cell(x, i)] = counts.get(cell(x, i), 0) + 1
        total -= [np.log2(1 + counts.get(cell(x, i), 0)) for x in rows]
    return total / detector.n_estimators


def test_rs_hash_counts_as_dictionaries_do():
    detector = RSHash(n_estimators=20, n_columns=2**16, window_size=90, random_state=0)
    detector.partial_fit(X[:200])
    expected = naive_rs_hash(detector, X[:90], X[90:180], NEW)
    assert_allclose(-detector.score_samples(NEW), expected)


def test_rs_hash_draws_widths_and_features_as_the_paper():
    detector = RSHash(n_estimators=2000, random_state=0).fit(RNG.normal(size=(9, 30)))
    s, f = 1000, detector.widths_
    assert f.min() >= s**-0.5
    assert f.max() <= 1 - s**-0.5
    most = np.log(s) / np.log(np.maximum(2, 1 / f))
    sizes = (detector._keys_ > 0).sum(axis=1)
    assert (sizes <= most).all()
    assert sizes.max() == 9
    assert (sizes >= np.minimum(1 + most / 2, np.floor(most))).all()
    assert [len(set(row)) for row in detector._features_[:50]] == [9] * 50


def test_equal_rows_all_share_their_cells():
    detector = RSHash(n_estimators=10, random_state=0)
    with pytest.warns(UserWarning, match="All 30"):
        detector.fit(np.ones((30, 2)))
    assert_allclose(detector.score_samples([[1.0, 1.0]]), [np.log2(31)])


COUNTED = [
    HalfSpaceTrees(n_estimators=5, max_depth=8, window_size=50, random_state=0),
    XStream(n_estimators=5, window_size=50, random_state=0),
    RSHash(n_estimators=20, window_size=50, random_state=0),
]


@pytest.mark.parametrize("detector", COUNTED, ids=lambda one: type(one).__name__)
def test_windows_forget_and_scoring_learns_nothing(detector):
    detector.fit(X[:50])
    before = detector.score_samples(NEW)
    assert_array_equal(detector.score_samples(NEW), before)
    detector.partial_fit(X[50:99])  # not full yet
    assert_array_equal(detector.score_samples(NEW), before)
    offset = detector.offset_
    detector.partial_fit(X[99:100])
    assert (detector.score_samples(NEW) != before).any()
    assert detector.offset_ != offset
    for _ in range(3):
        detector.partial_fit(X[:50])
    assert_array_equal(detector.score_samples(NEW), before)
    assert detector.offset_ == offset


@pytest.mark.parametrize("detector", COUNTED, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("size", [50, None])
def test_rows_are_left_out_of_their_cells(detector, size):
    detector.set_params(window_size=size).fit(X[:50])
    window = detector._known()
    honest = detector._left_out(X[:50])
    for i in range(0, 50, 10):
        window.n -= 1
        np.subtract.at(window.counts, detector._cells(X[i : i + 1]).ravel(), 1)
        assert_allclose(detector._anomaly(X[i : i + 1]), honest[i])
        np.add.at(window.counts, detector._cells(X[i : i + 1]).ravel(), 1)
        window.n += 1
    detector.set_params(window_size=50)
