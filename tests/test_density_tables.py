"""Contingency tables against likelihoods, maximised with the row and without."""

import itertools

import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import mutual_info_score
from sklearn.preprocessing import OrdinalEncoder

import skad
from skad.density import ContingencyTables
from skad.density._contingency_tables import cut_points, widest_tree


def chain(n, rng, d=4):
    """Rows of three categories, each feature like the one before."""
    X = rng.integers(3, size=(n, d)).astype(float)
    for j in range(1, d):
        X[:, j] = np.where(rng.random(n) < 0.6, X[:, j - 1], X[:, j])
    return X


def log_likelihood(X, edges):
    """The maximal log-likelihood of rows for a tree with these edges."""

    def of(columns):
        counts = np.unique(X[:, columns], axis=0, return_counts=True)[1]
        return (counts * np.log(counts / len(X))).sum()

    cliques = sum(of(list(edge)) for edge in edges)
    nodes = [node for edge in edges for node in edge]
    inner = sum((nodes.count(j) - 1) * of([j]) for j in range(X.shape[1]))
    return cliques - inner


def lost(X, row, edges):
    return 2 * (log_likelihood(X, edges) - log_likelihood(np.r_[X, row[None]], edges))


@pytest.fixture(scope="module")
def rows():
    return chain(200, np.random.default_rng(0))


def test_scores_are_likelihood_ratios(rows):
    detector = ContingencyTables().fit(rows)
    edges = [(p, j) for j, p in enumerate(detector.parents_) if p >= 0]
    new = np.array([*itertools.product(range(3), repeat=4)], dtype=float)[::3]
    new = np.r_[new, [[0, 1, 7, 1], [9, 9, 9, 9]]]
    expected = [lost(rows, row, edges) for row in new]
    assert_allclose(-detector.score_samples(new), expected, rtol=1e-9)


def test_the_tree_has_the_most_information(rows):
    detector = ContingencyTables().fit(rows)
    edges = {frozenset((p, j)) for j, p in enumerate(detector.parents_) if p >= 0}
    assert edges == {frozenset((j, j + 1)) for j in range(3)}
    weights = np.random.default_rng(0).random((5, 5))
    weights += weights.T
    np.fill_diagonal(weights, 0)
    parents, order = widest_tree(weights)
    found = sum(weights[j, p] for j, p in enumerate(parents) if p >= 0)
    every = itertools.combinations(itertools.combinations(range(5), 2), 4)
    best = max(sum(weights[e] for e in tree) for tree in every if joins(tree))
    assert_allclose(found, best)
    assert all(order.index(p) < order.index(j) for j, p in enumerate(parents) if p >= 0)
    assert order[0] == weights.sum(axis=1).argmax()


def joins(tree):
    reached = {0}
    for _ in range(4):
        reached |= {node for edge in tree if reached & set(edge) for node in edge}
    return len(reached) == 5


def test_two_features_are_one_table_and_its_margin():
    X = np.array([[0, 0]] * 5 + [[1, 1]] * 4 + [[0, 1]] * 2, dtype=float)

    def h(n):
        return n * np.log(n) - (n - 1) * np.log(n - 1) if n > 1 else 0.0

    detector = ContingencyTables().fit(X)
    scores = -detector.score_samples([[0, 0], [1, 0], [0, 1], [1, 2]])
    expected = [2 * (h(12) - h(n + 1)) for n in (5, 0, 2, 0)]
    assert_allclose(scores, expected)
    # the root's own term, and what the pair adds
    assert_array_equal(detector.parents_, [-1, 0])
    root, child = detector.transform([[1, 0]])[0]
    assert_allclose([root, child], [2 * (h(12) - h(5)), 2 * h(5)])


def test_codes_and_order_of_features_do_not_matter(rows):
    codes = np.array([5.0, -3.0, 1e9])
    other = codes[rows.astype(int)][:, [2, 0, 3, 1]]
    one, two = ContingencyTables().fit(rows), ContingencyTables().fit(other)
    assert_allclose(two.score_samples(other), one.score_samples(rows))
    assert_allclose(two.transform(other), one.transform(rows)[:, [2, 0, 3, 1]])


def test_numbers_are_cut_where_the_counts_are_equal():
    values = np.random.default_rng(0).permutation(np.arange(20) / 7)
    edges = cut_points(values, 4)
    assert_array_equal(np.histogram(values, edges)[0], [5, 5, 5, 5])
    assert_allclose(edges[1:-1] * 7, [4.5, 9.5, 14.5])
    X = np.c_[values, np.round(values)]
    detector = ContingencyTables(4).fit(X)
    assert_array_equal(detector.are_bins_, [True, False])
    inside, outside = detector.transform([[edges[-1], 3], [edges[-1] + 0.01, 3]])
    assert outside.sum() > inside.sum()


@pytest.mark.parametrize("sign", [1, -1])
def test_a_stray_value_widens_no_bin(sign):
    values = np.random.default_rng(0).normal(size=300)
    edges = cut_points(values, 4)
    wider = cut_points(np.append(values, [sign * 30.0, sign * 31.0]), 4)
    np.testing.assert_allclose(wider, edges, atol=0.03)
    # what a fiftieth of the values or more have is no stray value
    group = cut_points(np.append(values, np.full(20, sign * 30.0)), 4)
    assert np.abs(group).max() == 30


def test_a_value_out_of_the_range_counts_zero_and_is_in_the_outer_bin_for_children():
    first = np.linspace(0.5, 9.5, 40)
    detector = ContingencyTables(n_bins=2).fit(np.c_[first, first**2])
    root = int(np.argmin(detector.parents_))
    inside, outside = np.array([[9.5, 9.5**2], [9.5, 9.5**2]])
    outside[root] *= 3
    maps = detector.transform([inside, outside])
    assert maps[1, root] == pytest.approx(2 * (41 * np.log(41) - 40 * np.log(40)))
    assert maps[1, 1 - root] == pytest.approx(maps[0, 1 - root])
    both = detector.transform([3 * outside])[0]
    assert both[1 - root] == pytest.approx(2 * (21 * np.log(21) - 20 * np.log(20)))


def test_weights_are_mutual_informations(rows):
    from skad.density._contingency_tables import mutual_information

    cells, counts = np.unique(rows[:, :2], axis=0, return_counts=True)
    sums = [[(rows[:, j] == cell[j]).sum() for cell in cells] for j in range(2)]
    expected = mutual_info_score(rows[:, 0], rows[:, 1])
    assert_allclose(mutual_information((counts, *sums)), expected)


@pytest.mark.parametrize("n", [150, 300])
def test_equal_rows_do_not_fall_below_their_own_threshold(n):
    """A third of the rows are zeros; copies, whose counts are smaller, score them."""
    flagged = []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        X = np.exp(rng.normal(size=(n + 500, 5))) * (rng.random((n + 500, 5)) >= 0.8)
        detector = ContingencyTables().fit(X[:n])
        flagged.append(np.mean(detector.predict(X[n:]) == -1))
    assert max(flagged) < 0.15


def kinds(n=200):
    """Return a frame of text, categories, times, truths and numbers."""
    rng = np.random.default_rng(0)
    fur = rng.choice(["fur", "scales", "feathers"], n)
    return pd.DataFrame(
        {
            "number": rng.normal(size=n),
            "skin": fur,
            "food": np.where(fur == "fur", "milk", "eggs"),
            "colour": pd.Categorical(rng.choice(["red", "blue"], n)),
            "day": pd.Timestamp("2024-01-01")
            + pd.to_timedelta(rng.integers(0, 4, n), "D"),
            "name": rng.choice(["Ann", None], n),
            "legs": rng.integers(0, 3, n),
            "swims": rng.random(n) < 0.5,
        }
    )


def test_text_of_frames_is_taken_as_it_comes(tmp_path):
    frame = kinds()
    coded = frame.copy()
    texts = ["skin", "food", "colour", "day", "name"]
    for name in texts:
        coded[name] = OrdinalEncoder().fit_transform(
            frame[[name]].astype(object).fillna("").astype(str)
        )
    expected = ContingencyTables().fit(coded).score_samples(coded)
    detector = ContingencyTables().fit(frame)
    assert_allclose(detector.score_samples(frame), expected)
    assert [frame.columns[j] for j in detector.categories_] == texts
    assert detector.categories_[5] == ["", "Ann"]
    of_polars = pl.from_pandas(frame)
    assert_allclose(
        ContingencyTables().fit(of_polars).score_samples(of_polars), expected
    )
    file = tmp_path / "tables.skad"
    skad.save(detector, file)
    assert_array_equal(
        skad.load(file).score_samples(frame), detector.score_samples(frame)
    )


def test_categories_that_no_training_row_has():
    frame = kinds()
    detector = ContingencyTables().fit(frame)
    new = frame.iloc[:3].assign(colour="green", legs=frame.legs[:3])
    unknown = detector.transform(new)[:, 3]
    assert (unknown > 2 * detector.transform(frame)[:, 3].max()).all()
    with pytest.raises(ValueError, match="Feature names must be in the same order"):
        detector.predict(frame[frame.columns[::-1]])
    with pytest.raises(ValueError, match=r"numbers: 'number' \(such as 'x'\)"):
        detector.predict(frame.assign(number="x"))
    assert ContingencyTables().fit(frame[["number", "legs"]]).categories_ == {}
