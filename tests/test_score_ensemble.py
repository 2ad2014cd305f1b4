"""ScoreEnsemble against its members combined by hand, and LSCP against a loop."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.stats import pearsonr, percentileofscore
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.random_projection import GaussianRandomProjection

import skad
from skad import ECOD, KNN, IsolationForest, Mahalanobis, PCAReconstruction
from skad._members import costliest_first
from skad.ensemble import ScoreEnsemble
from skad.ensemble._local_competence import voted
from tests._pixels import Pixels
from tests._shared import tables

MEMBERS = [
    ("knn", KNN()),
    ("gauss", Mahalanobis()),
    ("tails", ECOD()),
    ("forest", IsolationForest(20, random_state=3)),
    ("plane", PCAReconstruction(2)),
]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(150, 4)) @ rng.normal(size=(4, 4))
    return X, np.concatenate([X[:20] + 0.1, rng.normal(size=(15, 4)) * 4])


@pytest.fixture(scope="module")
def by_hand(rows):
    """Return the members' anomalies of training and other rows, and both standard."""
    X, _ = rows
    fitted = [clone(member).fit(X) for _, member in MEMBERS]
    known, new = (
        np.stack([-member.score_samples(part) for member in fitted], axis=1)
        for part in rows
    )
    mean, deviation = known.mean(axis=0), known.std(axis=0)
    return known, new, (known - mean) / deviation, (new - mean) / deviation


def ensemble(**settings):
    return ScoreEnsemble(MEMBERS, random_state=0, **settings)


def test_average(rows, by_hand):
    X, Q = rows
    found = ensemble().fit(X)
    assert_allclose(-found.score_samples(Q), by_hand[3].mean(axis=1))
    weights = [3, 0, 1, 1, 0.5]
    found = ensemble(weights=weights, contamination=0.1).fit(X)
    expected = np.average(by_hand[3], axis=1, weights=weights)
    assert_allclose(-found.score_samples(Q), expected)
    assert_allclose(found.means_, by_hand[0].mean(axis=0))
    assert_allclose(found.deviations_, by_hand[0].std(axis=0))
    own = -np.average(by_hand[2], axis=1, weights=weights)
    assert_allclose(found.offset_, np.quantile(own, 0.1))


def test_maximum(rows, by_hand):
    found = ensemble(combination="maximum").fit(rows[0])
    assert_allclose(-found.score_samples(rows[1]), by_hand[3].max(axis=1))


@pytest.mark.parametrize("weights", [None, [1, 2, 3, 4, 0]])
def test_rank_is_scipys(weights, rows, by_hand):
    known, new, _, _ = by_hand
    new = np.concatenate([new, known[:10]])  # ties
    shares = [
        [percentileofscore(known[:, j], a, kind="mean") / 100 for a in new[:, j]]
        for j in range(5)
    ]
    found = ensemble(combination="rank", weights=weights).fit(rows[0])
    Q = np.concatenate([rows[1], rows[0][:10]])
    assert_allclose(
        -found.score_samples(Q), np.average(shares, axis=0, weights=weights)
    )


@pytest.mark.parametrize("n_buckets", [1, 2, 5])
def test_buckets(n_buckets, rows, by_hand):
    _, _, _, new = by_hand
    aom = ensemble(combination="aom", n_buckets=n_buckets).fit(rows[0])
    assert sorted(np.concatenate(aom.buckets_)) == [0, 1, 2, 3, 4]
    assert len(aom.buckets_) == n_buckets
    expected = np.mean([new[:, own].max(axis=1) for own in aom.buckets_], axis=0)
    assert_allclose(-aom.score_samples(rows[1]), expected)
    moa = ensemble(combination="moa", n_buckets=n_buckets).fit(rows[0])
    expected = np.max([new[:, own].mean(axis=1) for own in moa.buckets_], axis=0)
    assert_allclose(-moa.score_samples(rows[1]), expected)
    maps = moa.transform(rows[1]), aom.transform(rows[1])
    extreme = ensemble(combination="maximum").fit(rows[0]).transform(rows[1])
    average = ensemble().fit(rows[0]).transform(rows[1])
    if n_buckets == 1:
        assert_allclose(maps[0], average)
        assert_allclose(maps[1], extreme)
    if n_buckets == 5:
        assert_allclose(maps[0], extreme)
        assert_allclose(maps[1], average)


# -------------------------------------------------------------------------------- LSCP


def naive_region(X, q, subsets, k):
    """Return the rows that are near in more than half of the subspaces."""
    votes = np.zeros(len(X), dtype=int)
    for own in subsets:
        distance = ((X[:, own] - q[own]) ** 2).sum(axis=1)
        votes[np.argsort(distance, kind="stable")[:k]] += 1
    needed = len(subsets) // 2 + 1
    while (votes >= needed).sum() < 2:
        needed -= 1
    return np.flatnonzero(votes >= needed)


def naive_lscp(X, Q, known, new, subsets, k, truth, n_bins):
    anomaly = []
    for q, scores in zip(Q, new, strict=True):
        region = naive_region(X, q, subsets, k)
        target = getattr(known[region], truth)(axis=1)
        competence = np.array(
            [pearsonr(target, known[region, j])[0] for j in range(known.shape[1])]
        )
        if n_bins is None:
            weights = np.maximum(competence, 0)
        else:
            edges = np.histogram_bin_edges(competence, n_bins)
            weights = (competence >= edges[-2] - 1e-9).astype(float)
        anomaly.append(weights @ scores / weights.sum())
    return np.array(anomaly)


@pytest.mark.parametrize(
    ("truth", "n_bins", "k"),
    [
        ("maximum", 10, None),
        ("average", 3, 40),
        ("maximum", None, 30),
        ("average", None, 7),
    ],
)
def test_lscp_is_the_loop(truth, n_bins, k, rows, by_hand):
    X, Q = rows
    found = ensemble(
        combination="lscp", truth=truth, n_bins=n_bins, n_neighbors=k, n_subspaces=7
    ).fit(X)
    subsets = [own for own, _ in found._competence_.searches]
    assert len(subsets) == 7
    assert {len(own) for own in subsets} <= {2, 3}
    naive = {"maximum": "max", "average": "mean"}[truth]
    expected = naive_lscp(X, Q, *by_hand[2:], subsets, k or 30, naive, n_bins)
    assert_allclose(-found.score_samples(Q), expected, rtol=1e-9)
    tensor = found.score_samples(torch.from_numpy(Q))
    assert_allclose(-tensor.numpy(), expected, rtol=1e-9)
    again = clone(found).fit(X)
    assert_array_equal(again.score_samples(Q), found.score_samples(Q))


def test_lscp_between_its_limits(rows):
    X, Q = rows
    everyone = ensemble(combination="lscp", n_bins=1).fit(X)
    assert_allclose(everyone.score_samples(Q), ensemble().fit(X).score_samples(Q))
    alone = ScoreEnsemble(MEMBERS[:1], combination="lscp").fit(X)
    one = ScoreEnsemble(MEMBERS[:1]).fit(X)
    assert_allclose(alone.score_samples(Q), one.score_samples(Q))


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_regions_are_voted_for(data):
    t, k = data.draw(st.integers(1, 6)), data.draw(st.integers(2, 5))
    n = data.draw(st.integers(k, 12))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    near = [rng.permutation(n)[:k] for _ in range(t)]
    ordered, inside = voted(np.concatenate(near)[None], t // 2 + 1)
    votes = np.bincount(np.concatenate(near), minlength=n)
    needed = t // 2 + 1
    while (votes >= needed).sum() < 2:
        needed -= 1
    assert_array_equal(ordered[0][inside[0]], np.flatnonzero(votes >= needed))


def test_regions_of_constant_scores_make_all_members_equal(rows):
    X = np.repeat(rows[0][:2], 40, axis=0)
    members = [("knn", KNN(2)), ("gauss", ECOD())]
    for n_bins in (None, 10):
        found = ScoreEnsemble(members, combination="lscp", n_bins=n_bins).fit(X)
        average = ScoreEnsemble(members).fit(X)
        assert_allclose(found.score_samples(X), average.score_samples(X))


# -------------------------------------------------------------------------------- maps


def test_the_map_sums_to_the_score_where_the_members_do(rows):
    X, Q = rows
    members = [pair for pair in MEMBERS if pair[0] != "forest"]
    for combination in ("average", "lscp", "maximum"):
        found = ScoreEnsemble(members, combination=combination, random_state=0).fit(X)
        parts = np.stack([member.score_samples(Q) for member in found.detectors_])
        standard = (-parts.T - found.means_) / found.deviations_
        weights = found._weights(standard, Q)
        assert_allclose(weights.sum(axis=1), 1)
        shift = (weights * found.means_ / found.deviations_).sum(axis=1)
        assert_allclose(
            found.transform(Q).sum(axis=1), -found.score_samples(Q) + shift, rtol=1e-9
        )


def test_maps_have_the_members_units(rows):
    X, Q = rows
    found = ensemble().fit(X)
    total = 0
    for j, (_, member) in enumerate(MEMBERS):
        member = clone(member).fit(X)
        if member._map_sums_to_score:
            assert_allclose(found.map_units_[j], found.deviations_[j])
        assert_allclose(found.map_units_[j], member.transform(X).sum(axis=1).std())
        total = total + member.transform(Q) / found.map_units_[j] / 5
    assert_allclose(found.transform(Q), total)


# -------------------------------------------------------------------------- the members


def test_scores_come_from_training_statistics_only(rows):
    X, Q = rows
    for combination in ("average", "maximum", "rank", "aom", "moa", "lscp"):
        found = ensemble(combination=combination, n_subspaces=3, contamination=0.1).fit(
            X
        )
        whole, maps = found.score_samples(Q), found.transform(Q)
        far = np.concatenate([Q, 1e3 * Q])  # other rows change nothing
        assert_allclose(found.score_samples(far)[: len(Q)], whole, rtol=1e-9)
        assert_allclose(found.score_samples(Q[3:4]), whole[3:4], rtol=1e-9)
        assert_allclose(found.transform(Q[3:4]), maps[3:4], rtol=1e-9)
        tensor = found.transform(torch.from_numpy(Q))
        assert_allclose(tensor.numpy(), maps, rtol=1e-6)
        assert np.mean(found.predict(X) == -1) == pytest.approx(0.1, abs=0.01)


def test_parameters_of_members_by_name(rows):
    X, _ = rows
    found = ensemble()
    assert found.get_params()["knn__n_neighbors"] == 5
    assert found.get_params()["tails"] is MEMBERS[2][1]
    again = clone(found).set_params(knn__n_neighbors=9, tails=KNN(3), forest="drop")
    assert again.get_params()["knn__n_neighbors"] == 9
    assert found.get_params()["knn__n_neighbors"] == 5
    again.fit(X)
    assert list(again.named_detectors_) == ["knn", "gauss", "tails", "plane"]
    assert again.named_detectors_.tails.n_neighbors == 3
    again.set_params(weights=[1, 1, 0, 5, 1]).fit(X)  # one for each, dropped or not
    three = [("a", KNN(9)), ("b", Mahalanobis()), ("c", PCAReconstruction(2))]
    assert_allclose(
        again.score_samples(X), ScoreEnsemble(three).fit(X).score_samples(X)
    )
    y = np.where(np.arange(len(X)) % 10, 1, -1)
    grid = {"knn__n_neighbors": [2, 5], "combination": ["average", "rank"]}
    search = GridSearchCV(ensemble(), grid, scoring="roc_auc", cv=2).fit(X, y)
    assert len(set(search.cv_results_["mean_test_score"])) == 4


def test_seeds_reach_the_members_that_have_none(rows):
    X, Q = rows
    members = [("a", IsolationForest(5)), ("b", IsolationForest(5, random_state=7))]
    found = ScoreEnsemble(members, random_state=0, n_jobs=2).fit(X)
    seeds = [member.random_state for member in found.detectors_]
    assert isinstance(seeds[0], int)
    assert seeds[1] == 7
    assert members[0][1].random_state is None
    again = ScoreEnsemble(members, random_state=0).fit(X)
    assert_array_equal(found.score_samples(Q), again.score_samples(Q))
    other = ScoreEnsemble(members, random_state=1).fit(X)
    assert not np.array_equal(found.score_samples(Q), other.score_samples(Q))


def test_the_default_members(rows):
    found = ScoreEnsemble(random_state=0).fit(rows[0])
    kinds = [type(member) for member in found.detectors_]
    assert kinds == [KNN, IsolationForest, ECOD]
    assert found.predict([[20.0, -20.0, 20.0, -20.0]])[0] == -1
    weighted = clone(found).set_params(weights=[0, 0, 1]).fit(rows[0])
    only = ScoreEnsemble([("tails", ECOD())]).fit(rows[0])
    assert_allclose(weighted.score_samples(rows[1]), only.score_samples(rows[1]))


def test_one_far_member_does_not_overflow():
    X = np.random.default_rng(0).normal(size=(50, 3)) * 1e120
    members = [
        ("gauss", Mahalanobis()),
        ("line", PCAReconstruction(1, measure="reconstruction")),
    ]
    found = ScoreEnsemble(members).fit(X)
    assert np.isfinite(found.score_samples(X)).all()
    assert found.deviations_[1] > 1e239


def test_a_constant_member_says_nothing_of_training_rows():
    X = np.random.default_rng(0).normal(size=(50, 2))
    X[:, 0] = 0.1
    first = make_pipeline(make_column_transformer(("passthrough", [0])), KNN(3))
    second = make_pipeline(make_column_transformer(("passthrough", [1])), KNN(3))
    both = ScoreEnsemble([("constant", first), ("other", second)]).fit(X)
    assert both.deviations_[0] == 1.0
    other = second.fit(X).score_samples(X)
    standard = (other - other.mean()) / other.std()
    assert_allclose(both.score_samples(X), standard / 2, rtol=1e-9)
    assert both.predict([[5.0, 0.0]])[0] == -1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"detectors": []}, "detectors=.* no member"),
        ({"detectors": [("a", "drop")]}, "detectors=.* no member"),
        ({"detectors": [KNN()]}, r"detectors has KNN\(\), which is no pair .* such as"),
        ({"detectors": [("a", KNN)]}, "detectors has <class"),
        ({"detectors": [("a", StandardScaler())]}, "detectors has StandardScaler"),
        ({"detectors": [("a", KNN()), ("a", KNN())]}, "not unique"),
        ({"detectors": [("a__b", KNN())]}, "must not contain __"),
        ({"detectors": [("weights", KNN())]}, "conflict"),
        ({"detectors": {"a": KNN()}}, "'detectors' parameter"),
        ({"combination": "median"}, "'combination' parameter"),
        ({"weights": [1, 1]}, r"weights=\[1, 1\] must be 5"),
        ({"weights": [1, 1, 1, 1, -1]}, "weights=.* not negative"),
        ({"weights": [0] * 5}, "weights=.* not all 0"),
        ({"weights": [1] * 5, "combination": "lscp"}, "weights=.* has no use"),
        ({"combination": "aom", "n_buckets": 6}, "n_buckets=6 must be at most .* 5"),
        ({"combination": "lscp", "n_neighbors": 151}, "n_neighbors=151 .* at most 150"),
        ({"knn__n_neighbors": 0}, "'n_neighbors' parameter"),
    ],
)
def test_parameters_out_of_range(settings, message, rows):
    detector = clone(ensemble())  # set_params reaches into the members
    with pytest.raises((ValueError, TypeError), match=message):
        detector.set_params(**settings).fit(rows[0])
    assert not [name for name in vars(detector) if name.endswith("_")]


# ------------------------------------------------------------------------- other inputs


def test_frames_reach_pipelines_by_name(rows):
    frame = pd.DataFrame(rows[0], columns=list("abcd"))
    ordinary = make_column_transformer((StandardScaler(), ["a", "b", "c", "d"]))
    members = [("scaled", make_pipeline(ordinary, KNN())), ("gauss", Mahalanobis())]
    found = ScoreEnsemble(members).set_output(transform="pandas").fit(frame)
    maps = found.transform(frame)
    assert list(maps.columns) == list("abcd")
    scaled = StandardScaler().fit_transform(rows[0])
    knn = KNN().fit(scaled).score_samples(scaled)
    gauss = Mahalanobis().fit(rows[0]).score_samples(rows[0])
    expected = sum((part - part.mean()) / part.std() for part in (knn, gauss)) / 2
    assert_allclose(found.score_samples(frame), expected)
    assert list(found.feature_names_in_) == list("abcd")


def test_maps_of_other_shapes_are_an_error(rows):
    from sklearn.decomposition import PCA

    members = [("two", make_pipeline(PCA(2), KNN())), ("all", KNN())]
    found = ScoreEnsemble(members).fit(rows[0])
    assert np.isfinite(found.score_samples(rows[1])).all()
    with pytest.raises(ValueError, match=r"shapes \(35, 2\) and \(35, 4\)"):
        found.transform(rows[1])


def test_pictures_go_through():
    pictures = np.random.default_rng(0).random((12, 8, 8, 3)).astype(np.float32)
    odd = pictures[:2].copy()
    odd[:, 2:5, 2:5] = 2.0
    settings = {"backbone": Pixels, "layers": ("pixel",), "smoothing": 0}
    members = [
        ("gauss", skad.PaDiM(**settings)),
        ("memory", skad.PatchCore(**settings, neighborhood=1, random_state=0)),
    ]
    for combination in ("average", "maximum"):
        found = ScoreEnsemble(members, combination=combination).fit(pictures)
        maps = found.transform(odd)
        assert maps.shape == (2, 8, 8)
        inside = maps[:, 2:5, 2:5].mean()
        assert inside > 2 * (maps.sum() - 9 * 2 * inside) / (2 * (64 - 9))
        assert found.score_samples(odd).max() < found.score_samples(pictures).min()
        assert found.image_shape_ == (8, 8, 3)


def test_series_go_through():
    rng = np.random.default_rng(0)
    series = np.sin(np.arange(200) / 4)[:, None] + 0.05 * rng.normal(size=(200, 1))
    series[120:124] += 3
    members = [
        ("near", skad.WindowDetector(KNN(), window_size=8)),
        ("shape", skad.KMeansAD(window_size=8, n_clusters=4, random_state=0)),
    ]
    found = ScoreEnsemble(members).fit(series)
    assert found.transform(series).shape == (200, 1)
    assert 110 < found.score_samples(series).argmin() < 132
    parts = np.stack([m.score_samples(series) for m in found.detectors_])
    standard = (parts - parts.mean(axis=1)[:, None]) / parts.std(axis=1)[:, None]
    assert_allclose(found.score_samples(series), standard.mean(axis=0))


def test_files_keep_nested_members(rows, tmp_path):
    X, Q = rows
    inner = ScoreEnsemble(MEMBERS[:3], combination="rank")
    members = [("inner", inner), ("scaled", make_pipeline(StandardScaler(), KNN()))]
    found = ScoreEnsemble(members, combination="lscp", random_state=0).fit(X)
    skad.save(found, tmp_path / "one.skad")
    loaded = skad.load(tmp_path / "one.skad")
    assert_array_equal(loaded.score_samples(Q), found.score_samples(Q))
    assert_array_equal(loaded.transform(Q), found.transform(Q))
    assert loaded.get_params()["inner__knn__n_neighbors"] == 5


# ------------------------------------------------------------------------------ quality


def test_no_worse_than_the_members_on_real_tables(shared):
    members = [("knn", KNN()), ("tails", ECOD()), ("gauss", Mahalanobis())]
    gaps = {}
    for _, train, test, y in tables(shared, largest=300):
        fitted = [clone(member).fit(train).score_samples(test) for _, member in members]
        mean = np.mean([roc_auc_score(y, -scores) for scores in fitted])
        for combination in ("average", "maximum", "rank", "lscp"):
            found = ScoreEnsemble(members, combination=combination, random_state=0)
            auc = roc_auc_score(y, -found.fit(train).score_samples(test))
            gaps.setdefault(combination, []).append(auc - mean)
    for combination, found in gaps.items():
        # one member's mistake is enough to mislead a maximum
        least = 0.0 if combination in ("average", "rank") else -0.02
        assert np.mean(found) > least, (combination, found)


def test_members_that_take_longest_begin_first():
    X = np.random.default_rng(0).normal(size=(300, 3))
    members = [
        ("bins", skad.HBOS()),
        ("knn", skad.KNN()),
        ("forest", skad.IsolationForest(10)),
        ("pipeline", make_pipeline(StandardScaler(), skad.ECOD())),
        ("net", skad.AutoEncoder(max_epochs=2)),
    ]
    order = costliest_first([member for _, member in members], X)
    names = [members[i][0] for i in order]
    assert names == ["pipeline", "net", "knn", "forest", "bins"]
    # and each is in its place, with the seed that it has alone
    one, two = (
        skad.ScoreEnsemble(members[:4], n_jobs=n, random_state=0).fit(X) for n in (1, 2)
    )
    assert list(two.named_detectors_) == ["bins", "knn", "forest", "pipeline"]
    assert isinstance(two.named_detectors_["knn"], skad.KNN)
    assert_array_equal(two.score_samples(X), one.score_samples(X))
    assert_array_equal(two.means_, one.means_)


def test_members_behind_random_projections_see_each_their_own(rows):
    train, new = rows
    members = [
        (name, make_pipeline(GaussianRandomProjection(n_components=2), detector))
        for name, detector in [("knn", KNN()), ("near", KNN(2))]
    ]
    ensemble = ScoreEnsemble([*members, ("tails", ECOD())], random_state=0).fit(train)
    matrices = [one[0].components_ for one in ensemble.detectors_[:2]]
    assert not np.allclose(*matrices)
    expected = 0
    heads = [(KNN(), matrices[0]), (KNN(2), matrices[1]), (ECOD(), np.eye(4))]
    for detector, matrix in heads:
        detector.fit(train @ matrix.T)
        known, found = (-detector.score_samples(X @ matrix.T) for X in rows)
        expected = expected + (found - known.mean()) / known.std() / 3
    assert_allclose(-ensemble.score_samples(new), expected)
    assert set(ensemble.predict(new)) == {-1, 1}
    with pytest.raises(ValueError, match="maps of shapes"):
        ensemble.transform(new)
