"""IsolationForest against scikit-learn's, FeatureBagging against its members."""

import csv
from copy import deepcopy
from time import perf_counter

import joblib
import numpy as np
import pytest
import sklearn.ensemble
import torch
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skad.density import Mahalanobis
from skad.ensemble import FeatureBagging, IsolationForest
from skad.ensemble._grow import grow
from skad.marginal import ECOD
from skad.neighbors import KNN, LOF

FORESTS = [
    {},
    {"bootstrap": True},
    {"max_features": 0.5},
    {"max_features": 2, "max_samples": 40, "n_estimators": 23},
    {"max_samples": 0.5, "n_estimators": 3},
    {"max_samples": 2, "n_estimators": 7},
    {"max_samples": 1},
]
each_forest = pytest.mark.parametrize("setting", FORESTS, ids=repr)


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 5))
    X[:, 2] = np.round(X[:, 2])  # ties
    return X


def naive_path(tree, own, row, n_features):
    """Return the expected path length of a row in a tree, and its gains by feature."""

    def rest(n):
        if n <= 2:
            return float(n - 1)
        return 2 * (np.log(n - 1) + np.euler_gamma) - 2 * (n - 1) / n

    node, depth, gains = 0, 0, np.zeros(n_features)
    while tree.children_left[node] >= 0:
        feature = own[tree.feature[node]]
        left = np.float32(row[feature]) <= tree.threshold[node]
        child = (tree.children_left if left else tree.children_right)[node]
        sizes = tree.n_node_samples
        gains[feature] += 1 + rest(sizes[child]) - rest(sizes[node])
        node, depth = child, depth + 1
    return depth + rest(tree.n_node_samples[node]), gains


@each_forest
@pytest.mark.parametrize("seed", [0, np.random.RandomState(7)], ids=["int", "state"])
def test_forest_scores_are_scikit_learns(setting, seed, rows):
    theirs = sklearn.ensemble.IsolationForest(
        contamination=0.1, random_state=deepcopy(seed), **setting
    ).fit(rows[:700])
    ours = IsolationForest(
        contamination=0.1, random_state=deepcopy(seed), **setting
    ).fit(rows[:700])
    expected = theirs.score_samples(rows)
    assert ours.offset_ == theirs.offset_
    np.testing.assert_array_equal(ours.predict(rows), theirs.predict(rows))
    for part in (rows, rows[:400], rows[:1], rows[:400].astype(np.float32)):
        np.testing.assert_allclose(
            ours.score_samples(part), expected[: len(part)], rtol=1e-12
        )
    tensor = ours.score_samples(torch.from_numpy(rows))
    np.testing.assert_allclose(tensor.numpy(), expected, rtol=1e-12)
    single = ours.score_samples(torch.from_numpy(rows[:50]).float())
    np.testing.assert_allclose(single.numpy(), expected[:50], rtol=1e-5)


@each_forest
def test_forest_map_sums_to_the_logarithm(setting, rows):
    forest = IsolationForest(random_state=0, **setting).fit(rows[:700])
    maps, score = forest.transform(rows), forest.score_samples(rows)
    np.testing.assert_allclose(maps.sum(axis=1), 1 + np.log2(-score), atol=1e-12)
    tensor = forest.transform(torch.from_numpy(rows[:50]))
    np.testing.assert_allclose(tensor.numpy(), maps[:50], atol=1e-12)


def test_forest_map_follows_the_paths(rows):
    forest = IsolationForest(13, max_samples=50, max_features=3, random_state=1)
    forest.fit(rows)
    maps = forest.transform(rows[:30])
    trees, norm = forest.forest_.estimators_, forest._norm_
    for row, found in zip(rows, maps, strict=False):
        seen = ((row - forest.centre_) / forest.scale_).astype(np.float32)
        paths = [
            naive_path(tree.tree_, own, seen, 5)
            for tree, own in zip(
                trees, forest.forest_.estimators_features_, strict=True
            )
        ]
        np.testing.assert_allclose(found, -sum(g for _, g in paths) / norm, atol=1e-12)
        np.testing.assert_allclose(
            -forest.score_samples(row[None]), 2 ** (-sum(h for h, _ in paths) / norm)
        )


def test_forest_map_finds_the_feature():
    rng = np.random.default_rng(0)
    forest = IsolationForest(random_state=0).fit(rng.normal(size=(500, 6)))
    far = np.diag(np.full(6, 8.0))
    np.testing.assert_array_equal(forest.transform(far).argmax(axis=1), np.arange(6))


def test_forest_walks_in_bounded_blocks(rows, monkeypatch):
    forest = IsolationForest(random_state=0).fit(rows)
    expected = forest.transform(rows), forest.score_samples(rows[:300])
    monkeypatch.setattr("skad._array._BLOCK_ELEMENTS", 3000)
    np.testing.assert_array_equal(forest.transform(rows), expected[0])
    np.testing.assert_array_equal(forest.score_samples(rows[:300]), expected[1])


def test_a_watched_forest_is_the_same(rows):
    pytest.importorskip("sklearn.callback")

    class Watch:
        """Counts the trees that are there after each step."""

        def __init__(self):
            self.names = []

        def setup(self, estimator, context):
            pass

        def teardown(self, estimator, context):
            pass

        def on_fit_task_begin(self, *args, **kwargs):
            pass

        def on_fit_task_end(self, *args, **kwargs):
            context = next(
                a for a in (*args, *kwargs.values()) if hasattr(a, "task_name")
            )
            self.names.append(context.task_name)

    for seed in (3, np.random.RandomState(5)):
        watch = Watch()
        watched = IsolationForest(45, random_state=deepcopy(seed)).set_callbacks(watch)
        plain = IsolationForest(45, random_state=deepcopy(seed)).fit(rows)
        np.testing.assert_array_equal(
            watched.fit(rows).score_samples(rows), plain.score_samples(rows)
        )
        assert watch.names.count("grow trees step") == 10


@pytest.mark.parametrize("seed", [0, np.random.RandomState(1)], ids=["int", "state"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "setting",
    [{}, {"bootstrap": True}, {"max_features": 2, "n_jobs": 2}, {"n_estimators": 1}],
    ids=str,
)
def test_trees_grow_as_in_scikit_learn(setting, weighted, seed, rows):
    rows = np.tile(rows, (3, 1)).astype(np.float32)
    rows += np.random.RandomState(0).normal(size=rows.shape).astype(np.float32)
    weights = np.arange(1.0, len(rows) + 1) if weighted else None
    peer = sklearn.ensemble.IsolationForest(
        max_samples=40, warm_start=True, random_state=deepcopy(seed), **setting
    )
    forest, samples = deepcopy(peer), []
    for more in (0, 3):
        for each in (peer, forest):
            each.set_params(n_estimators=each.n_estimators + more)
        peer.fit(rows, sample_weight=weights)
        samples = grow(forest, rows, weights)
        seen = peer.estimators_samples_[-len(samples) :]
        np.testing.assert_array_equal(samples, seen)
    for found, tree in zip(forest.estimators_, peer.estimators_, strict=True):
        assert found.get_params() == tree.get_params()
        found, tree = found.tree_.__getstate__(), tree.tree_.__getstate__()
        np.testing.assert_array_equal(found["nodes"], tree["nodes"])
        np.testing.assert_array_equal(found["values"], tree["values"])
    np.testing.assert_array_equal(forest.score_samples(rows), peer.score_samples(rows))
    assert vars(forest).keys() == vars(peer).keys()


def test_forest_random_state_advances_like_scikit_learns(rows):
    ours, theirs = np.random.RandomState(1), np.random.RandomState(1)
    IsolationForest(5, random_state=ours).fit(rows)
    sklearn.ensemble.IsolationForest(n_estimators=5, random_state=theirs).fit(rows)
    assert ours.randint(2**31 - 1) == theirs.randint(2**31 - 1)


def test_one_row_is_ten_times_faster(rows):
    ours = IsolationForest(random_state=0).fit(rows)
    theirs = sklearn.ensemble.IsolationForest(random_state=0).fit(rows)

    def fastest(score):
        times = []
        for _ in range(20):
            start = perf_counter()
            score(rows[:1])
            times.append(perf_counter() - start)
        return min(times)

    assert fastest(theirs.score_samples) > 10 * fastest(ours.score_samples)


def test_forest_takes_what_float32_does_not_hold():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(100, 2))
    forest = IsolationForest(contamination=0.1, random_state=0).fit(X)
    assert forest.predict([[1e120, 0.0], [0.0, -1e120]]).tolist() == [-1, -1]
    scores = forest.score_samples(X)
    np.testing.assert_allclose(
        forest.fit(X * 1e100).score_samples(X * 1e100), scores, atol=1e-3
    )


@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    ("scale", "shift"),
    [(1e-9, 0), (1e-30, 0), (1e12, 0), (1, 1e8), (1, 1.7e9), (1e-3, -1.7e9), (1, 1e12)],
)
def test_forest_in_any_units(scale, shift, library):
    rng = np.random.default_rng(0)
    X, probe = rng.normal(size=(300, 3)), rng.normal(size=(600, 3))
    probe[:10] += 8
    plain = IsolationForest(random_state=0).fit(X).score_samples(probe)
    forest = IsolationForest(random_state=0).fit(library(X * scale + shift))
    for rows in (probe, probe[:100]):
        scores = forest.score_samples(library(rows * scale + shift))
        np.testing.assert_allclose(scores, plain[: len(rows)], atol=0.02)


def test_forest_with_a_stray_value_sees_the_others():
    rng = np.random.default_rng(0)
    X, probe = rng.normal(size=(300, 3)), rng.normal(size=(100, 3))
    probe[:10] += 8
    X[7, 2] = 1e12
    scores = IsolationForest(random_state=0).fit(X).score_samples(probe)
    assert roc_auc_score(np.arange(100) >= 10, scores) > 0.99


@pytest.mark.parametrize(
    ("setting", "name"),
    [
        ({"n_estimators": 0}, "n_estimators"),
        ({"max_samples": 1e-4}, "max_samples=0.0001"),
        ({"max_samples": 1.5}, "max_samples"),
        ({"max_features": 6}, "max_features=6"),
        ({"max_features": 0.0}, "max_features"),
        ({"contamination": "some"}, "contamination"),
    ],
)
def test_forest_parameters_out_of_range(setting, name, rows):
    with pytest.raises(ValueError, match=name):
        IsolationForest(**setting).fit(rows)


def test_more_rows_than_there_are_is_a_warning(rows):
    with pytest.warns(UserWarning, match="max_samples=1501 .* set to n_samples"):
        detector = IsolationForest(2, max_samples=1501).fit(rows)
    assert detector.max_samples_ == len(rows)


def shared_sets(folder):
    for path in sorted((folder / "tabular").glob("*.npz")):
        table = np.load(path)
        X = StandardScaler().fit_transform(table["X"].astype(float))
        yield path.stem.split("_", 1)[1], X, table["y"].astype(int)


def test_forest_roc_auc_reaches_the_peers(shared):
    with open(shared / "tabular" / "peers.tsv") as file:
        theirs = {
            row["dataset"]: float(row["roc_auc"])
            for row in csv.DictReader(file, delimiter="\t")
            if row["method"] == "skl.IForest" and row["setting"] == "unsup"
        }
    for name, X, y in shared_sets(shared):
        score = -IsolationForest(random_state=0).fit(X).score_samples(X)
        assert roc_auc_score(y, score) > theirs.pop(name) - 0.01
    assert not theirs


PIPELINE = make_pipeline(StandardScaler(), KNN())
BASES = [None, Mahalanobis(), KNN(metric="sqeuclidean"), ECOD(), PIPELINE]
each_base = pytest.mark.parametrize("base", BASES, ids=repr)
each_combination = pytest.mark.parametrize(
    "combination", ["average", "cumulative", "maximum"]
)


@each_base
@each_combination
def test_bagging_is_its_members_combined(base, combination, blobs):
    train, normal, anomalies = blobs
    bagging = FeatureBagging(base, combination=combination, random_state=0)
    bagging.fit(train)
    X = np.concatenate([normal, anomalies])
    scores, maps = [], []
    for features in bagging.estimators_features_:
        # nothing in these members is random, so that they can be fitted again
        member = clone(LOF() if base is None else base).fit(train[:, features])
        scores.append(-member.score_samples(X[:, features]))
        maps.append(np.zeros(X.shape))
        maps[-1][:, features] = member.transform(X[:, features])
    scores, maps = np.array(scores), np.array(maps)
    if combination == "maximum":
        expected = scores.max(axis=0)
        expected_map = maps[scores.argmax(axis=0), np.arange(len(X))]
    else:
        total = {"average": len(scores), "cumulative": 1}[combination]
        expected = scores.sum(axis=0) / total
        expected_map = maps.sum(axis=0) / total
    np.testing.assert_allclose(-bagging.score_samples(X), expected, rtol=1e-10)
    np.testing.assert_allclose(bagging.transform(X), expected_map, rtol=1e-10)
    if base is not PIPELINE:
        assert bagging._map_sums_to_score
        np.testing.assert_allclose(bagging.transform(X).sum(axis=1), expected)


@pytest.mark.parametrize("library", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("combination", ["standard", "rank"])
def test_bagging_of_members_on_one_scale(combination, library, blobs):
    train, normal, anomalies = blobs
    bagging = FeatureBagging(
        Mahalanobis(), combination=combination, contamination=0.1, random_state=0
    )
    bagging.fit(library(train))
    X = np.concatenate([normal, anomalies])
    scores, maps = [], np.zeros(X.shape)
    for features in bagging.estimators_features_:
        member = Mahalanobis().fit(train[:, features])
        known, found = (-member.score_samples(Z[:, features]) for Z in (train, X))
        if combination == "rank":
            scores.append([np.mean(known < value) for value in found])
        else:
            scores.append((found - known.mean()) / known.std())
        maps[:, features] += member.transform(X[:, features]) / known.std() / 10
    found = np.asarray(bagging.score_samples(library(X)))
    np.testing.assert_allclose(-found, np.mean(scores, axis=0), atol=1e-8)
    found = np.asarray(bagging.transform(library(X)))
    np.testing.assert_allclose(found, maps, atol=1e-8)


@pytest.mark.parametrize(
    ("n_features", "sizes"), [(1, {1}), (2, {1}), (3, {1, 2}), (9, {4, 5, 6, 7, 8})]
)
def test_bagging_draws_between_half_and_all_but_one(n_features, sizes):
    X = np.random.default_rng(0).normal(size=(30, n_features))
    bagging = FeatureBagging(ECOD(), n_estimators=200, random_state=0).fit(X)
    drawn = bagging.estimators_features_
    assert {len(own) for own in drawn} == sizes
    assert set(np.concatenate(drawn)) == set(range(n_features))
    assert all(np.all(np.diff(own) > 0) for own in drawn)


def test_bagging_improves_on_its_detector(shared):
    rank = FeatureBagging(combination="rank", random_state=0)
    detectors = [LOF(), FeatureBagging(random_state=0), rank]
    found = []
    for name, X, y in shared_sets(shared):
        if name in ("letter", "thyroid", "cardio"):
            scores = [-each.fit(X).score_samples(X) for each in detectors]
            found.append([roc_auc_score(y, score) for score in scores])
    assert len(found) == 3
    alone, standard, rank = np.mean(found, axis=0)
    assert standard > alone
    assert rank > alone + 0.02


def test_bagging_seeds_its_members(blobs):
    inner = make_pipeline(StandardScaler(), IsolationForest(5))
    bagging = FeatureBagging(inner, n_estimators=3, random_state=4).fit(blobs[0])
    seeds = [
        m.get_params()["isolationforest__random_state"] for m in bagging.estimators_
    ]
    assert len(set(seeds)) == 3
    assert inner.get_params()["isolationforest__random_state"] is None
    again = clone(bagging).fit(blobs[0])
    np.testing.assert_array_equal(
        bagging.score_samples(blobs[1]), again.score_samples(blobs[1])
    )
    bagging.set_params(detector__isolationforest__n_estimators=7).fit(blobs[0])
    assert len(bagging.estimators_[0][-1].forest_.estimators_) == 7


@pytest.mark.parametrize("backend", ["threading", "loky"])
@pytest.mark.parametrize("library", ["numpy", "torch"])
def test_bagging_in_parallel_is_the_same(backend, library, blobs):
    train, normal = (
        torch.from_numpy(X) if library == "torch" else X for X in blobs[:2]
    )
    base = KNN(metric="sqeuclidean", algorithm="brute")
    alone = FeatureBagging(base, n_estimators=4, random_state=0).fit(train)
    before = torch.get_num_threads()
    with joblib.parallel_config(backend=backend):
        bagging = FeatureBagging(base, n_estimators=4, random_state=0, n_jobs=2)
        bagging.fit(train)
    assert torch.get_num_threads() == before
    assert bagging.offset_ == pytest.approx(alone.offset_, rel=1e-12)
    np.testing.assert_allclose(
        bagging.score_samples(normal), alone.score_samples(normal), rtol=1e-12
    )


def test_bagging_shares_the_cores_between_threads(blobs, monkeypatch):
    import threadpoolctl

    torch.ones(2) + 1  # its OpenMP library is loaded
    seen = []

    class Spy(ECOD):
        def _fit(self, X, y):
            seen.append(
                [
                    pool["num_threads"]
                    for pool in threadpoolctl.threadpool_info()
                    if pool["user_api"] == "openmp"
                ]
            )
            return super()._fit(X, y)

    monkeypatch.setattr(joblib, "cpu_count", lambda: 6)
    FeatureBagging(Spy(), n_estimators=4, n_jobs=2).fit(blobs[0])
    assert seen == [[3] * len(seen[0])] * 4
    assert len(seen[0]) > 0


def test_bagging_checks_its_members_parameters(blobs):
    with pytest.raises(ValueError, match="n_neighbors"):
        FeatureBagging(KNN(n_neighbors=0)).fit(blobs[0])
    with pytest.raises(ValueError, match="detector"):
        FeatureBagging("LOF").fit(blobs[0])
    with pytest.raises(ValueError, match="combination"):
        FeatureBagging(combination="sum").fit(blobs[0])


def test_bagging_works_with_frames_everywhere(blobs):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(blobs[0], columns=list("abcdef"))
    with sklearn.config_context(transform_output="pandas"):
        bagging = FeatureBagging(ECOD(), combination="average", random_state=0)
        bagging.fit(frame)
        maps = bagging.transform(frame)
    assert list(maps.columns) == list("abcdef")
    np.testing.assert_allclose(maps.sum(axis=1), -bagging.score_samples(frame))


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_bagging_passes_callbacks_on(n_jobs, blobs, capsys):
    pytest.importorskip("rich")
    callback = pytest.importorskip("sklearn.callback")
    bar = callback.ProgressBar(max_propagation_depth=None)
    bagging = FeatureBagging(KNN(), n_estimators=3, n_jobs=n_jobs).set_callbacks(bar)
    bagging.fit(blobs[0])
    shown = capsys.readouterr().out
    assert "FeatureBagging - fit member" in shown
    assert "KNN - fit" in shown
    assert not any("callback" in name for name in vars(bagging.estimators_[0]))
