"""KNN and LOF against naive loops, scikit-learn and hostile geometry."""

import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.base import clone
from sklearn.metrics import pairwise_distances, roc_auc_score
from sklearn.neighbors import LocalOutlierFactor, NearestNeighbors

from skad.neighbors import CBLOF, KNN, LDKNN, LOF
from skad.neighbors._cblof import n_large
from skad.neighbors._search import NeighborSearch
from skad.neighbors._smallest import _candidates, coarse_smallest, smallest
from tests import _naive

METRICS = ["euclidean", "sqeuclidean", "manhattan", "cosine", "minkowski"]
POOL = {
    "largest": lambda d: d[:, -1],
    "mean": lambda d: d.mean(axis=1),
    "median": lambda d: np.median(d, axis=1),
    "weighted": lambda d: np.average(d, axis=1, weights=np.arange(d.shape[1], 0, -1)),
}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    return rng.normal(size=(120, 4)) + 2, 3 * rng.normal(size=(15, 4)) + 2


@pytest.mark.parametrize("as_array", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("algorithm", ["brute", "kd_tree"])
@pytest.mark.parametrize("metric", METRICS)
def test_knn_equals_naive_loop(rows, metric, algorithm, as_array):
    train, test = rows
    detector = KNN(n_neighbors=6, metric=metric, p=3, algorithm=algorithm)
    detector.set_params(method="mean").fit(as_array(train))
    naive = _naive.neighbor_distances(train, test, 6, metric, p=3)
    assert_allclose(-detector.score_samples(as_array(test)), naive.mean(1), rtol=1e-9)
    naive = _naive.neighbor_distances(train, train, 6, metric, p=3, own=True)
    own = -detector.score_samples(as_array(train))
    assert_allclose(own, naive.mean(1), rtol=1e-7, atol=1e-12)


@pytest.mark.parametrize("method", POOL)
@pytest.mark.parametrize("k", [1, 4, 5])
def test_knn_methods(rows, method, k):
    train, test = rows
    naive = _naive.neighbor_distances(train, test, k, "euclidean")
    detector = KNN(n_neighbors=k, method=method).fit(train)
    assert_allclose(-detector.score_samples(test), POOL[method](naive))


@pytest.mark.parametrize("metric", METRICS)
def test_knn_map_is_the_share_of_each_feature(rows, metric):
    train, test = rows
    detector = KNN(n_neighbors=1, metric=metric, p=3).fit(train)
    maps = detector.transform(test)
    assert (maps >= 0).all()
    assert_allclose(maps.sum(axis=1), -detector.score_samples(test))
    if metric == "sqeuclidean":
        nearest = pairwise_distances(test, train).argmin(axis=1)
        assert_allclose(maps, (test - train[nearest]) ** 2)


def test_map_finds_the_feature_that_left(rows):
    train, _ = rows
    row = train[:1].copy()
    row[0, 2] += 30
    for detector in (KNN(), LOF()):
        assert detector.fit(train).transform(row).argmax() == 2


def test_knn_precomputed_equals_euclidean(rows):
    train, test = rows
    plain = KNN().fit(train)
    given = KNN(metric="precomputed").fit(pairwise_distances(train))
    assert_allclose(
        given.score_samples(pairwise_distances(test, train)),
        plain.score_samples(test),
        rtol=1e-6,
    )
    assert_allclose(given.offset_, plain.offset_, rtol=1e-6)
    maps = given.transform(pairwise_distances(test, train))
    assert maps.shape == (15, 120)
    assert ((maps > 0).sum(axis=1) == 1).all()  # all weight on the fifth neighbour


@pytest.mark.parametrize(
    ("X", "message"),
    [
        (np.ones((4, 3)), "square matrix"),
        (np.ones((4, 4)), "zeros on the diagonal"),
        (-np.ones((4, 4)), "Negative values"),
    ],
)
def test_knn_precomputed_refuses_what_is_no_distance(X, message):
    with pytest.raises(ValueError, match=message):
        KNN(n_neighbors=2, metric="precomputed").fit(X)


def test_no_row_is_its_own_neighbour_with_duplicates():
    X = np.repeat(np.arange(10.0), 3)[:, None]
    one = KNN(n_neighbors=2).fit(X)
    assert_array_equal(one.score_samples(X), 0)  # two twins each
    three = KNN(n_neighbors=3).fit(X)
    assert_array_equal(three.score_samples(X), -1)


def test_n_neighbors_must_leave_a_row():
    with pytest.raises(ValueError, match=r"n_neighbors=5 .* n_samples=5"):
        KNN(n_neighbors=5).fit(np.arange(5.0)[:, None])
    with pytest.warns(UserWarning, match=r"n_neighbors=20 .* 4 neighbours"):
        detector = LOF().fit(np.arange(5.0)[:, None])
    assert detector.n_neighbors_ == 4


@pytest.mark.parametrize("algorithm", ["brute", "kd_tree"])
@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_lof_equals_scikit_learn(rows, metric, algorithm):
    train, test = rows
    detector = LOF(n_neighbors=7, metric=metric, algorithm=algorithm).fit(train)
    peer = LocalOutlierFactor(n_neighbors=7, metric=metric).fit(train)
    assert_allclose(detector.score_samples(train), peer.negative_outlier_factor_)
    peer = LocalOutlierFactor(n_neighbors=7, metric=metric, novelty=True).fit(train)
    assert_allclose(detector.score_samples(test), peer.score_samples(test))
    on_tensors = LOF(n_neighbors=7, metric=metric).fit(torch.as_tensor(train))
    assert_allclose(
        on_tensors.score_samples(torch.as_tensor(test)), peer.score_samples(test)
    )


def test_lof_with_duplicates_equals_scikit_learn():
    X = np.random.default_rng(0).integers(0, 3, size=(200, 2)).astype(float)
    peer = LocalOutlierFactor(n_neighbors=30).fit(X)
    detector = LOF(n_neighbors=30).fit(X)
    assert_allclose(detector.score_samples(X), peer.negative_outlier_factor_)
    assert_allclose(detector.transform(X).sum(axis=1), -detector.score_samples(X))


HOSTILE = {
    "far from the origin": lambda rng, X: X + 1e7,
    "one far outlier": lambda rng, X: np.concatenate(
        [X, np.full((1, X.shape[1]), 1e6)]
    ),
    "tight clusters far apart": lambda rng, X: (
        1e-4 * X + 1e3 * rng.integers(0, 9, size=(len(X), 1))
    ),
    "many duplicates": lambda rng, X: X[rng.integers(0, 50, size=len(X))],
    "all equal": lambda rng, X: np.ones_like(X),
    "wide range of scales": lambda rng, X: X * np.logspace(-6, 6, X.shape[1]),
}


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("kind", HOSTILE)
def test_products_find_the_nearest(kind, dtype):
    """The coarse pass in float32 never costs a neighbour."""
    rng = np.random.default_rng(3)
    X = HOSTILE[kind](rng, rng.normal(size=(3000, 20))).astype(dtype)
    detector = KNN(n_neighbors=4, algorithm="brute").fit(X)
    Q = X[:200]
    tree = NearestNeighbors(n_neighbors=5, algorithm="kd_tree").fit(X.astype(float))
    expected = tree.kneighbors(Q.astype(float))[0][:, -1]
    found = -detector.score_samples(Q)
    assert_allclose(found, expected, rtol=1e-12 if dtype == np.float64 else 1e-4)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("method", ["score_samples", "transform"])
def test_rows_in_float64_are_made_once_for_all_blocks(monkeypatch, method, dtype):
    """Every block has rows that float32 products cannot tell apart."""
    made, made_products = [], NeighborSearch._products

    def counted(self, dtype):
        made.append(np.dtype(dtype))
        return made_products(self, dtype)

    def never(*arguments):
        raise AssertionError("searched without products")

    monkeypatch.setattr(NeighborSearch, "_products", counted)
    monkeypatch.setattr(NeighborSearch, "_query_distances", never)
    monkeypatch.setattr("skad._array._BLOCK_ELEMENTS", 2**13)
    rng = np.random.default_rng(0)
    levels = np.repeat([[0.0], [1.0]], 100, axis=0) * np.ones(55)
    X = (levels + 1e-4 * rng.normal(size=levels.shape)).astype(dtype)
    detector = KNN(n_neighbors=3, algorithm="brute", device="cpu").fit(X)
    getattr(detector, method)(X)
    assert detector._block_rows("cpu") < 40
    assert made == [np.float32, np.float64]
    truth = np.sort(pairwise_distances(X.astype(float)), axis=1)[:, 3]
    assert_allclose(-detector.score_samples(X), truth, rtol=1e-6)
    copy = pickle.loads(pickle.dumps(detector))
    assert copy._search_.exact is None  # what is kept twice is not written twice
    assert_allclose(copy.score_samples(X), detector.score_samples(X), rtol=0)


def test_what_a_search_finds_may_be_written_to():
    # else torch warns of it: of as many rows as are asked for, all are the nearest
    for k in (3, 5):
        found = smallest(np.arange(10.0).reshape(2, 5), k)
        assert found.shape == (2, k)
        assert found.flags.writeable


@pytest.mark.parametrize("n_values", [3, 10**9])  # equal values, and none
@pytest.mark.parametrize("n", [9, 90, 1003])
def test_candidates_hold_the_smallest(n, n_values):
    values = np.random.default_rng(0).integers(0, n_values, size=(50, n))
    values = values.astype(np.float32)
    found, columns = _candidates(values, 7)
    assert found.shape[1] < n or n < 10
    there = np.take_along_axis(values, columns, axis=1)
    assert_array_equal(there[found < np.inf], found[found < np.inf])
    expected = np.sort(values, axis=1)[:, :7]
    assert_array_equal(np.sort(found, axis=1)[:, :7], expected)
    known = [len(np.unique(c[f < np.inf])) for f, c in zip(found, columns, strict=True)]
    assert_array_equal(known, np.sum(found < np.inf, axis=1))


def test_coarse_pass_keeps_the_smallest_over_column_blocks(monkeypatch):
    monkeypatch.setattr("skad.neighbors._smallest._BANK_ROWS", 700)
    rng = np.random.default_rng(0)
    queries, matrix = rng.normal(size=(9, 5)), rng.normal(size=(5, 3001))
    columns, bound = coarse_smallest(queries, matrix, 11)
    values = queries @ matrix
    least = np.sort(values, axis=1)[:, :11]
    found = np.sort(np.take_along_axis(values, columns, axis=1), axis=1)
    assert_allclose(found, least)
    assert_allclose(bound, least[:, -1])


@settings(max_examples=50, deadline=None)
@given(
    arrays(np.float64, (12, 3), elements=st.floats(-1e6, 1e6, width=32)),
    st.integers(1, 11),
)
def test_search_agrees_with_sorting(X, k):
    search = NeighborSearch(X, "euclidean", 2, "brute", None, None, k)
    distance, indices = search.query(X, k)
    truth = np.sqrt(((X[:, None] - X[None]) ** 2).sum(-1))
    assert_allclose(distance, np.sort(truth, axis=1)[:, :k], rtol=1e-12)
    assert_allclose(distance, np.take_along_axis(truth, indices, 1), rtol=1e-12)


def test_zero_rows_have_a_cosine_distance():
    X = np.concatenate([np.zeros((1, 3)), np.eye(3)])
    scores = KNN(n_neighbors=1, metric="cosine").fit(X).score_samples(X)
    assert_allclose(scores, [-0.5, -0.5, -0.5, -0.5])


@pytest.mark.full
def test_pynndescent_recalls_the_nearest():
    threads = torch.get_num_threads()
    # one test for both metrics: what pynndescent compiles first serves both
    for metric in ("euclidean", "cosine"):
        check_recall(metric)
    assert torch.get_num_threads() == threads


def check_recall(metric):
    pytest.importorskip("pynndescent")
    rng = np.random.default_rng(0)
    X, Q = rng.normal(size=(4000, 10)), rng.normal(size=(200, 10))
    graph = KNN(
        metric=metric, algorithm="pynndescent", contamination=0.1, random_state=0
    ).fit(X)
    found = graph._search_.query(Q, 5)[1]
    truth = NearestNeighbors(n_neighbors=5, metric=metric, algorithm="brute").fit(X)
    truth = truth.kneighbors(Q, return_distance=False)
    recall = (found[:, :, None] == truth[:, None, :]).any(axis=2).mean()
    assert recall > 0.95
    assert (graph.predict(X) == -1).mean() == pytest.approx(0.1, abs=0.002)
    again = pickle.loads(pickle.dumps(graph))
    assert_array_equal(again.score_samples(Q), graph.score_samples(Q))
    same = clone(graph).fit(X)
    assert same.offset_ == graph.offset_


@pytest.mark.parametrize("name", ["6_cardio", "18_Ionosphere", "40_vowels"])
def test_auc_on_real_tables(shared, name):
    """The peers' figures with their defaults, see the table beside the data."""
    data = np.load(shared / "tabular" / f"{name}.npz")
    X = (data["X"] - data["X"].mean(0)) / np.where(
        data["X"].std(0), data["X"].std(0), 1
    )
    figures = {}
    for line in (shared / "tabular" / "peers.tsv").read_text().splitlines()[1:]:
        dataset, setting, method, _, _, auc, *_ = line.split("\t")
        figures[dataset, setting, method] = float(auc)
    dataset = name.split("_")[1]
    for detector, peer in ((KNN(), "KNN"), (LOF(), "LOF")):
        auc = roc_auc_score(data["y"], -detector.fit(X).score_samples(X))
        assert auc >= figures[dataset, "unsup", peer] - 0.005


@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("algorithm", ["kd_tree", "brute"])
def test_lof_beside_repeated_rows(algorithm, library):
    rng = np.random.default_rng(0)
    X = np.concatenate([rng.normal(size=(200, 3)), np.zeros((30, 3))])
    if algorithm == "kd_tree" and library is torch.as_tensor:
        algorithm = "auto"
    detector = LOF(algorithm=algorithm, contamination=0.1).fit(library(X))
    probe = library(np.array([[0.0, 0, 0], [0.1, 0, 0], [0, 0.5, 0], [9.0, 9, 9]]))
    found = -np.asarray(detector.score_samples(probe))
    assert (found[:3] < 5).all()
    assert found.argmax() == 3
    assert np.abs(np.asarray(detector.score_samples(library(X)))).max() < 20
    same = LOF(n_neighbors=5).fit(library(np.ones((20, 3))))
    assert_allclose(np.asarray(same.score_samples(library(np.ones((2, 3))))), -1)


# ------------------------------------------------------------------------------- CBLOF


@pytest.fixture(scope="module")
def on_a_line():
    """50 rows around 0, 45 around 10 and 5 around 3."""
    rng = np.random.default_rng(0)
    sizes, centres = [50, 45, 5], [0, 10, 3]
    return np.repeat(centres, sizes)[:, None] + rng.uniform(-0.3, 0.3, size=(100, 1))


def test_cblof_judges_rows_of_small_clusters_by_the_nearest_large_one(on_a_line):
    detector = CBLOF(3, random_state=0).fit(on_a_line)
    assert_array_equal(detector.cluster_sizes_, [50, 45, 5])
    assert detector.n_large_ == 2
    X = np.array([[3.2], [0.5], [9.0], [7.9], [5.5]])
    middle, right, _ = (m.mean() for m in np.split(on_a_line[:, 0], [50, 95]))
    expected = [3.2 - middle, 0.5 - middle, right - 9, right - 7.9, right - 5.5]
    assert_allclose(-detector.score_samples(X), expected)
    weighted = CBLOF(3, use_weights=True, random_state=0).fit(on_a_line)
    # 5.5 is nearest to the centre of the small cluster
    sizes = [5, 50, 45, 45, 5]
    assert_allclose(-weighted.score_samples(X), np.multiply(sizes, expected))


def test_cblof_with_one_cluster_is_the_distance_to_the_mean(rows):
    train, test = rows
    detector = CBLOF(1).fit(train)
    expected = np.linalg.norm(test - train.mean(axis=0), axis=1)
    assert_allclose(-detector.score_samples(test), expected)
    # and without a row it is that to the mean of the others
    left = [
        np.linalg.norm(row - np.delete(train, i, axis=0).mean(axis=0))
        for i, row in enumerate(train)
    ]
    assert_allclose(detector._left_out(train), left)


@pytest.mark.parametrize("use_weights", [False, True])
def test_cblof_leaves_rows_out_of_their_cluster(on_a_line, use_weights):
    X = np.concatenate([on_a_line, [[100.0]]])  # a cluster of one row
    detector = CBLOF(4, alpha=0.99, use_weights=use_weights, random_state=0).fit(X)
    assert detector.n_large_ == 3
    expected, cluster = [], np.repeat(range(4), [50, 45, 5, 1])
    for i, row in enumerate(X):
        others = np.arange(len(X)) != i
        groups = [X[others & (cluster == j)] for j in range(4)]
        apart = [abs(row - g.mean()).item() if len(g) else np.inf for g in groups]
        size = len(groups[np.argmin(apart)]) if use_weights else 1
        expected.append(size * min(apart[:3]))
    assert_allclose(detector._left_out(X), expected)


@pytest.mark.parametrize(
    ("sizes", "alpha", "beta", "expected"),
    [
        ([50, 45, 5], 0.9, 5, 2),  # both
        ([60, 10, 10, 10, 10], 0.9, 5, 4),  # the share of rows alone
        ([60, 35, 3, 2], 0.6, 5, 2),  # the first with both, not that with the share
        ([40, 3, 3, 3, 3], 0.99, 5, 1),  # the drop alone
        ([5, 5, 5], 0.9, 5, 3),  # neither
        ([7], 0.9, 5, 1),
    ],
)
def test_cblof_tells_large_clusters(sizes, alpha, beta, expected):
    assert n_large(np.array(sizes), alpha, beta) == expected


def test_cblof_with_more_clusters_than_different_rows():
    X = np.array([[0.0], [0.0], [1.0], [5.0]])
    with pytest.warns(UserWarning, match="3 clusters are made"):
        detector = CBLOF().fit(X)
    assert_allclose(-detector.score_samples([[0.0], [2.0], [5.5]]), [0, 1, 0.5])


# -------------------------------------------------------------------------------- LDKNN


@pytest.mark.parametrize("algorithm", ["brute", "kd_tree"])
@pytest.mark.parametrize(("k", "weight"), [(1, 1.0), (4, 0.5), (9, 0.0)])
def test_ldknn_is_the_naive_loop(algorithm, k, weight):
    rng = np.random.default_rng(0)
    X, new = rng.normal(size=(40, 3)), rng.normal(size=(15, 3))
    settings = {"density_weight": weight, "algorithm": algorithm}
    detector = LDKNN(k, **settings).fit(X)
    among = cdist(X, X, "sqeuclidean")
    np.fill_diagonal(among, np.inf)
    usual = np.sort(among, axis=1)[:, :k].mean(axis=1)
    for rows, away in ((new, cdist(new, X, "sqeuclidean")), (X, among)):
        expected = away.min(axis=1) - weight * usual[away.argmin(axis=1)]
        assert_allclose(-detector.score_samples(rows), expected, rtol=1e-9, atol=1e-12)
        maps = detector.transform(rows)
        assert_allclose(maps.sum(axis=1), expected, rtol=1e-9, atol=1e-12)
        nearest = X[away.argmin(axis=1)]
        assert_allclose(
            maps + weight * detector.spread_[away.argmin(axis=1)], (rows - nearest) ** 2
        )


def test_ldknn_on_a_lattice_orders_as_knn_does():
    """Away from the border every row has the same neighbours."""
    X = np.stack(np.meshgrid(*[np.arange(9.0)] * 2), -1).reshape(-1, 2)
    new = np.random.default_rng(0).uniform(3, 5, size=(30, 2))
    found = LDKNN(4).fit(X).score_samples(new)
    expected = KNN(1, metric="sqeuclidean").fit(X).score_samples(new)
    assert_allclose(found, expected + 1, rtol=1e-12)


def test_ldknn_minds_that_clusters_are_of_different_density():
    """A row as far out of a thick cluster is nearer to normal in a thin one."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 2))
    X[200:] = 10 * X[200:] + 200
    new = np.array([[6.0, 0.0], [200 + 30.0, 200.0]])
    ldknn, knn = (
        detector.fit(X).score_samples(new)
        for detector in (LDKNN(), KNN(1, metric="sqeuclidean"))
    )
    assert ldknn[1] / ldknn[0] < 0.9 * knn[1] / knn[0]
