"""Detectors of streams: naive loops straight from the papers, windows, closed cases."""

import copy
import itertools
import json
import pathlib

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from skad.marginal import LODA
from skad.neighbors import KNN
from skad.stream import RRCF, STORM, HalfSpaceTrees, RSHash, XStream, stream_scores
from skad.stream._cut_forest import displacements, grow

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
        n_estimators=5, max_depth=6, window_size=100, size_limit=0.1, random_state=0
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


def naive_rs_hash(detector, first, known, rows, decay=0):
    """Return the anomaly of rows by exact counts in dictionaries."""
    low, span = first.min(axis=0), np.ptp(first, axis=0)

    def cell(x, i):
        return tuple(
            int(np.floor((x[j] - low[j]) / span[j] / detector._cuts_[i] + shift))
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
        for age, x in enumerate(known[::-1], 1):
            counts[cell(x, i)] = counts.get(cell(x, i), 0) + 2 ** (-decay * age)
        total -= [np.log2(1 + counts.get(cell(x, i), 0)) for x in rows]
    return total / detector.n_estimators


def test_rs_hash_counts_as_dictionaries_do():
    detector = RSHash(
        n_estimators=20, n_columns=2**16, window_size=90, decay=0, random_state=0
    ).partial_fit(X[:200])
    expected = naive_rs_hash(detector, X[:90], X[90:180], NEW)
    assert_allclose(-detector.score_samples(NEW), expected)


@pytest.mark.parametrize("sizes", [[400], [1, 30, 59, 10, 300], [89, 2, 309]])
@pytest.mark.parametrize("decay", [0.015, 1.0])
def test_rows_fade_from_one_to_the_next(decay, sizes):
    detector = RSHash(
        n_estimators=9, n_columns=2**16, window_size=90, decay=decay, random_state=0
    )
    for piece in np.split(X[: sum(sizes)], np.cumsum(sizes)[:-1]):
        detector.partial_fit(piece)
    expected = naive_rs_hash(detector, X[:90], X, NEW, decay)
    assert_allclose(-detector.score_samples(NEW), expected)
    known = detector._known()
    assert known.counts.max() < 2.0**1000
    recent, honest = known.sample[1], []
    assert_array_equal(recent, X[-90:])
    for i in range(0, 90, 30):  # each is gone, and the others as old as they were
        rest, place = X.copy(), 400 - 90 + i
        rest[place] = 1e6
        expected = naive_rs_hash(detector, X[:90], rest, recent[i : i + 1], decay)
        honest.append(expected[0])
    found = detector._honest_anomaly(recent, None, None)
    assert_allclose(found[::30], honest)


def test_the_threshold_of_fading_rows_moves_on():
    detector = RSHash(
        n_estimators=30, window_size=100, decay=0.015, random_state=0
    ).fit(X[:150])
    offset = detector.offset_
    assert detector.partial_fit(X[150:199]).offset_ == offset
    assert detector.partial_fit(X[199:201]).offset_ != offset
    long = detector.partial_fit(np.tile(X, (100, 1)))  # counts in other units
    assert np.isfinite(long.score_samples(NEW)).all()
    fresh = RSHash(n_estimators=30, window_size=100, decay=0.015, random_state=0).fit(
        X[:150]
    )
    fresh.partial_fit(X[150:201]).partial_fit(np.tile(X, (10, 1)))
    assert_allclose(long.score_samples(NEW), fresh.score_samples(NEW), rtol=1e-9)


def test_rs_hash_draws_widths_and_features_as_the_paper():
    detector = RSHash(n_estimators=2000, random_state=0).fit(RNG.normal(size=(9, 30)))
    s, f = 1000, detector._cuts_
    assert f.min() >= s**-0.5
    assert f.max() <= 1 - s**-0.5
    most = np.log(s) / np.log(np.maximum(2, 1 / f))
    sizes = (detector._keys_ > 0).sum(axis=1)
    assert (sizes <= most).all()
    assert sizes.max() == 9
    assert (sizes >= np.minimum(1 + most / 2, np.floor(most))).all()
    assert [len(set(row)) for row in detector._features_[:50]] == [9] * 50


def test_equal_rows_all_share_their_cells():
    detector = RSHash(n_estimators=10, window_size=None, random_state=0)
    with pytest.warns(UserWarning, match="All 30"):
        detector.fit(np.ones((30, 2)))
    assert_allclose(detector.score_samples([[1.0, 1.0]]), [np.log2(31)])


COUNTED = [
    HalfSpaceTrees(n_estimators=5, max_depth=8, window_size=50, random_state=0),
    XStream(n_estimators=5, window_size=50, random_state=0),
    RSHash(n_estimators=20, window_size=50, decay=0, random_state=0),
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


class NaiveTree:
    """A random cut tree by the paper's insertion and deletion, one row at a time."""

    def __init__(self, random):
        self.random, self.root = random, None

    def insert(self, x, node=None):
        """Insert a row below a node, the root at first; return what stands there."""
        x = np.asarray(x)
        if self.root is None:
            self.root = {"rows": [x]}
            return self.root
        if node is None:
            self.root = self.insert(x, self.root)
            return self.root
        rows = np.array(node["rows"])
        low, high = rows.min(axis=0), rows.max(axis=0)
        wide_low, wide_high = np.minimum(low, x), np.maximum(high, x)
        lengths = wide_high - wide_low
        if lengths.sum() > 0:
            q = self.random.choice(len(x), p=lengths / lengths.sum())
            cut = self.random.uniform(wide_low[q], wide_high[q])
            if cut < low[q] or cut >= high[q]:
                leaf = {"rows": [x]}
                pair = (leaf, node) if x[q] <= cut else (node, leaf)
                rows = [*node["rows"], x]
                return {"rows": rows, "q": q, "cut": cut, "pair": list(pair)}
            side = int(x[node["q"]] > node["cut"])
            node["pair"][side] = self.insert(x, node["pair"][side])
        node["rows"].append(x)
        return node

    def delete(self, x, node=None):
        """Delete a row below a node, the root at first; return what stands there."""
        if node is None:
            self.root = self.delete(x, self.root)
            return self.root
        if "q" in node:
            side = int(x[node["q"]] > node["cut"])
            child = self.delete(x, node["pair"][side])
            if child is None:
                return node["pair"][1 - side]
            node["pair"][side] = child
        at = next(i for i, row in enumerate(node["rows"]) if (row == x).all())
        node["rows"].pop(at)
        return node if node["rows"] else None

    def displacement(self, x):
        """Return the collusive displacement of a row of the tree."""
        node, largest = self.root, 0.0
        while "q" in node:
            side = int(x[node["q"]] > node["cut"])
            child, sibling = node["pair"][side], node["pair"][1 - side]
            largest = max(largest, len(sibling["rows"]) / len(child["rows"]))
            node = child
        return largest


def test_displacements_are_means_over_insertions():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(11, 2)), np.ones((3, 2))])
    new = np.array([[0.0, 0.1], [3.0, 0.0], [1.0, 1.0], rows[0]])
    forest = grow(np.tile(rows, (4000, 1, 1)), np.random.RandomState(0))
    found = displacements(forest, new).mean(axis=1)
    random, drawn = np.random.default_rng(1), np.zeros((300, 4))
    for trial, (i, x) in itertools.product(range(300), enumerate(new)):
        tree = NaiveTree(random)
        for row in random.permutation(rows):
            tree.insert(row)
        tree.insert(x)
        drawn[trial, i] = tree.displacement(x)
    error = drawn.std(axis=0) / 300**0.5
    assert (np.abs(found - drawn.mean(axis=0)) < 4 * error + 0.05).all()


def test_trees_grown_anew_are_like_those_that_rows_came_into_and_left():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(12, 2)) * [1, 4]
    gone, kept = rows[:6], rows[6:]
    forest = grow(np.tile(kept, (4000, 1, 1)), np.random.RandomState(0))
    found = forest.displaced[forest.leaves].mean(axis=0)
    random, drawn = np.random.default_rng(1), np.zeros((800, 6))
    for trial in range(800):
        tree = NaiveTree(random)
        for row in rows[:9]:
            tree.insert(row)
        for old, row in zip(gone, [*rows[9:], None, None, None], strict=True):
            tree.delete(old)
            if row is not None:
                tree.insert(row)
        assert len(tree.root["rows"]) == 6
        drawn[trial] = [tree.displacement(row) for row in kept]
    error = drawn.std(axis=0) / 800**0.5
    assert (np.abs(found - drawn.mean(axis=0)) < 4 * error + 0.05).all()


def test_the_first_cut_is_drawn_by_the_extents():
    rows = np.random.default_rng(0).uniform(size=(9, 3)) * [1, 3, 6]
    forest = grow(np.tile(rows, (10_000, 1, 1)), np.random.RandomState(0))
    share = np.bincount(forest.feature[:10_000], minlength=3) / 10_000
    extent = np.ptp(rows, axis=0)
    assert_allclose(share, extent / extent.sum(), atol=0.02)


def test_a_row_beside_equal_ones_displaces_all():
    rows = np.ones((20, 2))
    forest = grow(rows[None], np.random.RandomState(0))
    new = np.array([[5.0, 1.0], [1.0, 1.0]])
    assert_allclose(displacements(forest, new), [[20], [0]])
    shares = displacements(forest, new, by_feature=True)
    assert_allclose(shares, [[[20, 0]], [[0, 0]]])
    forest = grow(np.concatenate([rows, new[:1]])[None], np.random.RandomState(0))
    assert forest.displaced[forest.leaves[0, -1]] == 20
    assert len(forest.count) == 3


def test_reservoirs_are_uniform_or_of_late_rows():
    stream = np.arange(2000.0)[:, None]
    uniform = RRCF(n_estimators=200, max_samples=50, random_state=0)
    uniform.partial_fit(stream[:900]).partial_fit(stream[900:])
    assert abs(uniform.samples_.mean() - 1000) < 30
    late = RRCF(n_estimators=200, max_samples=50, window_size=20, random_state=0)
    late.partial_fit(stream)
    assert late.samples_.mean() > 1900
    assert (np.sort(late.samples_[0, :, 0]) == np.unique(late.samples_[0])).all()


def test_storm_counts_neighbours_in_the_last_rows():
    detector = STORM(radius=1.5, window_size=60).partial_fit(X[:70])
    detector.partial_fit(X[70:100])
    window = X[40:100]
    expected = [
        -sum(np.sqrt(sum((x - row) ** 2)) > 1.5 for row in window) / 60 for x in NEW
    ]
    assert_allclose(detector.score_samples(NEW), expected)
    left_out = [
        sum(np.sqrt(sum((x - row) ** 2)) > 1.5 for row in window) / 59 for x in window
    ]
    assert_allclose(detector._left_out(window), left_out)


def test_half_of_the_rows_have_as_many_neighbours():
    detector = STORM(n_neighbors=7, window_size=101).fit(X)
    distance = np.sqrt(((X[-101:, None] - X[None, -101:]) ** 2).sum(axis=-1))
    assert detector.radius_ == pytest.approx(np.median(np.sort(distance)[:, 7]))


@pytest.mark.parametrize("batch", [1, 30, 1000])
def test_stream_scores_score_and_then_learn(batch):
    rows, expected = X[:70], []
    detector = STORM(window_size=20)
    for start in range(0, 70, batch):
        piece = rows[start : start + batch]
        if start == 0:
            detector.partial_fit(piece)
            expected.extend(detector.score_samples(piece))
        else:
            expected.extend(detector.score_samples(piece))
            detector.partial_fit(piece)
    found = stream_scores(STORM(window_size=20), rows, batch=batch)
    assert_array_equal(found, expected)


def test_stream_scores_lose_nothing_between_windows():
    detector = HalfSpaceTrees(
        n_estimators=3, max_depth=6, window_size=40, random_state=0
    ).fit(X[:40])
    one = stream_scores(copy.deepcopy(detector), X[40:200])
    assert_array_equal(stream_scores(detector, X[40:200], batch=20), one)


def test_stream_scores_say_what_is_wrong():
    with pytest.raises(TypeError, match="KNN, which has no partial_fit"):
        stream_scores(KNN(), X)
    with pytest.raises(ValueError, match="batch=0"):
        stream_scores(STORM(), X, batch=0)
    with pytest.raises(ValueError, match="no rows"):
        stream_scores(STORM(), X[:0])


def test_loda_knows_the_last_rows_as_if_it_were_fitted_to_them():
    stream = LODA(window_size=60, random_state=0)
    for piece in np.array_split(X, 7):
        stream.partial_fit(piece)
    batch = LODA(random_state=0).fit(X[-60:])
    assert_allclose(stream.score_samples(NEW), batch.score_samples(NEW))
    assert stream.offset_ == pytest.approx(batch.offset_)
    whole = LODA(window_size=60, random_state=0).fit(X)
    expected = LODA(random_state=0).fit(X).score_samples(NEW)
    assert_array_equal(whole.score_samples(NEW), expected)
    whole.partial_fit(X[-10:])  # goes on with the last rows of what was fitted
    batch.fit(np.concatenate([X[-50:], X[-10:]]))
    assert_allclose(whole.score_samples(NEW), batch.score_samples(NEW))


FILES = pathlib.Path(__file__).parent / "files"


@pytest.fixture(scope="module")
def pysad():
    """Return rows, PySAD's scores of new ones, and what its models have drawn."""
    found = json.loads((FILES / "pysad-0.7.json").read_text("utf-8"))
    drawn = {
        name: value if name in ("features", "offsets") else np.array(value)
        for name, value in found["drawn"].items()
    }
    return np.array(found["X"]), np.array(found["new"]), found["scores"], drawn


def test_xstream_scores_as_in_pysad(pysad):
    rows, new, scores, drawn = pysad

    class Same(XStream):
        def _draw(self, random, n_features):
            n_cells = super()._draw(random, n_features)
            self._weights_, self._axes_ = drawn["weights"], drawn["axes"]
            self._shifts_ = drawn["shifts"]
            same = self._axes_[:, :, None] == self._axes_[:, None, :]
            self._slots_ = np.argmax(same, axis=2)
            return n_cells

    detector = Same(
        n_estimators=4, n_projections=5, max_depth=6, window_size=40, random_state=0
    ).partial_fit(rows)
    assert_allclose(detector._widths_, drawn["widths"])
    assert_allclose(-detector.score_samples(new), scores["xStream"])


def test_rs_hash_scores_as_in_pysad(pysad):
    rows, new, scores, drawn = pysad

    class Same(RSHash):
        def _draw(self, random, n_features):
            n_cells = super()._draw(random, n_features)
            self._cuts_, width = drawn["cuts"], max(map(len, drawn["features"]))
            shape = self.n_estimators, width
            self._features_ = np.zeros(shape, dtype=int)
            self._shifts_, self._keys_ = np.zeros(shape), np.zeros(shape, dtype="u8")
            keys = np.random.RandomState(0).randint(2**63, size=shape).astype("u8")
            for i, own in enumerate(drawn["features"]):
                k = np.s_[i, : len(own)]
                self._features_[k], self._keys_[k] = own, 2 * keys[k] + 1
                self._shifts_[k] = np.array(drawn["offsets"][i]) / self._cuts_[i]
            return n_cells

    detector = Same(n_estimators=6, window_size=None, random_state=0).fit(rows)
    assert_allclose(-detector.score_samples(new), scores["RSHash"], rtol=1e-6)


def test_storm_scores_as_in_pysad(pysad):
    rows, new, scores, _ = pysad
    detector = STORM(radius=1.0, window_size=100).partial_fit(rows)
    assert_allclose(-detector.score_samples(new), scores["ExactStorm"])
