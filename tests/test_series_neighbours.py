"""Windows whose neighbours lie elsewhere in time: `exclude` of every such detector."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad import KNN, LOF, SubsequenceKNN, SubsequenceLOF, WindowDetector
from skad.neighbors._apart import Apart
from skad.neighbors._search import NeighborSearch

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(0)
WALK = RNG.normal(size=(260, 2)).cumsum(axis=0)
OTHER = RNG.normal(size=(90, 2)).cumsum(axis=0)
PLAIN = {"window_size": 10, "align": "center", "contamination": 0.1}


def windows_of(x, size, stride=1):
    """Return the windows of a series as rows, and where they start."""
    starts = np.arange(0, len(x) - size + 1, stride)
    return np.array([x[i : i + size].ravel() for i in starts]), starts


def naive_distances(queries, bank, near):
    """Return distances (b, n) in a plain loop, infinite where `near(i, j)` says so."""
    found = np.empty((len(queries), len(bank)))
    for i, query in enumerate(queries):
        for j, row in enumerate(bank):
            found[i, j] = np.inf if near(i, j) else np.linalg.norm(query - row)
    return found


def at_centre(anomaly, n_steps, size):
    """Return what each step takes of windows that start at each step."""
    return anomaly[np.clip(np.arange(n_steps) - size // 2, 0, len(anomaly) - 1)]


@pytest.mark.parametrize(("exclude", "gap"), [(0, 0), (0.25, 2), (0.5, 5), (1.0, 10)])
@pytest.mark.parametrize("k", [1, 4])
def test_windows_near_one_are_no_neighbours(exclude, gap, k):
    detector = SubsequenceKNN(n_neighbors=k, exclude=exclude, **PLAIN).fit(WALK)
    rows, _ = windows_of(WALK, 10)
    distance = naive_distances(rows, rows, lambda i, j: abs(i - j) <= gap)
    expected = at_centre(np.sort(distance, axis=1)[:, k - 1], len(WALK), 10)
    assert_allclose(-detector.score_samples(WALK), expected)
    assert_allclose(-detector.score_samples(torch.from_numpy(WALK)), expected)
    # any part of the training series has its scores
    part = -detector.score_samples(WALK[100:150])
    assert_allclose(part[5:-5], expected[105:145])
    # and a series that is not the training series is compared with all of it
    fresh = naive_distances(windows_of(OTHER, 10)[0], rows, lambda i, j: False)
    expected = at_centre(np.sort(fresh, axis=1)[:, k - 1], len(OTHER), 10)
    assert_allclose(-detector.score_samples(OTHER), expected)


def test_new_series_are_scored_the_same_whatever_is_excluded():
    for kind in (SubsequenceKNN, WindowDetector):
        found = [
            kind(exclude=exclude, **PLAIN).fit(WALK).score_samples(OTHER)
            for exclude in (0, 1.0)
        ]
        assert_array_equal(*found)


def test_series_strides_and_samples_keep_their_places():
    groups = np.repeat([0, 1, 2], [100, 60, 100])
    detector = SubsequenceKNN(
        n_neighbors=2, stride=2, max_windows=70, exclude=0.5, **PLAIN
    ).fit(WALK, groups=groups)
    rows, places = [], []
    for label in range(3):
        own, starts = windows_of(WALK[groups == label], 10, 2)
        rows.append(own)
        places.append(1000 * label + starts)
    rows, places = np.concatenate(rows), np.concatenate(places)
    picked = np.arange(70) * len(rows) // 70
    bank, places = rows[picked], places[picked]
    assert_array_equal(detector.detector_._search_.bank, bank)
    distance = naive_distances(bank, bank, lambda i, j: abs(places[i] - places[j]) <= 5)
    expected = np.sort(distance, axis=1)[:, 1]
    found, _ = detector.detector_._search_.neighbors(bank, 2)
    assert_allclose(found[:, 1], expected)


def test_a_stuck_sensor_is_no_neighbour_of_itself():
    x = np.sin(np.arange(600) / 5)[:, None] + 0.1 * RNG.normal(size=(600, 1))
    x[300:340] = x[300]  # twice as long as a window
    plain = {"window_size": 20, "contamination": 0.1}
    for kind in (SubsequenceKNN, SubsequenceLOF):
        blind = kind(exclude=0, **plain).fit(x).score_samples(x)
        seeing = kind(exclude=1.0, **plain).fit(x).score_samples(x)
        assert blind[310:330].mean() > np.quantile(blind, 0.5) or kind is SubsequenceLOF
        assert seeing[310:330].max() < np.quantile(seeing, 0.1)


def test_the_discord_is_the_nearest_neighbour_apart():
    detector = skad.Discord(**PLAIN).fit(WALK)
    same = SubsequenceKNN(n_neighbors=1, **PLAIN).fit(WALK)
    assert_array_equal(detector.score_samples(WALK), same.score_samples(WALK))
    shifted = WALK.copy()
    shifted[100:130] += 30  # a level that does not come again
    assert (
        95 <= skad.Discord(**PLAIN).fit(shifted).score_samples(shifted).argmin() < 135
    )


def test_the_z_score_of_a_step():
    z = (OTHER - WALK.mean(axis=0)) / WALK.std(axis=0)
    detector = skad.ZScore().fit(WALK)
    expected = np.linalg.norm(z, axis=1)
    assert_allclose(-detector.score_samples(OTHER), expected)
    assert_allclose(detector.transform(OTHER), z**2 / expected[:, None])
    constant = np.column_stack([WALK, np.full(260, 0.1)])
    moved = constant + np.array([0, 0, 0.5])
    assert skad.ZScore().fit(constant).transform(moved)[:, 2].min() > 0


@pytest.mark.parametrize("k", [1, 5])
def test_local_outlier_factors_of_windows_apart(k):
    detector = SubsequenceLOF(n_neighbors=k, exclude=0.5, **PLAIN).fit(WALK)
    rows, _ = windows_of(WALK, 10)
    distance = naive_distances(rows, rows, lambda i, j: abs(i - j) <= 5)
    order = np.argsort(distance, axis=1)[:, :k]
    near = np.take_along_axis(distance, order, axis=1)
    reach = np.maximum(near[order][:, :, -1], near)
    density = 1 / (reach.mean(axis=1) + 1e-10)
    expected = density[order].mean(axis=1) / density
    assert_allclose(-detector.score_samples(WALK), at_centre(expected, len(WALK), 10))


@pytest.mark.parametrize(
    "head",
    [
        KNN(n_neighbors=3),
        KNN(n_neighbors=3, algorithm="kd_tree"),
        KNN(n_neighbors=3, metric="cosine"),
        KNN(n_neighbors=3, metric="manhattan"),
        KNN(n_neighbors=3, algorithm="brute", metric="manhattan"),
        KNN(n_neighbors=3, metric="minkowski", p=3),
        make_pipeline(StandardScaler(), KNN(n_neighbors=3)),
    ],
    ids=repr,
)
def test_every_search_leaves_out_what_is_near(head):
    detector = WindowDetector(head, exclude=0.5, **PLAIN).fit(WALK)
    rows, _ = windows_of(WALK, 10)
    metric, p = "euclidean", 2
    if isinstance(head, KNN):
        metric, p = head.metric, head.p
    else:
        rows = StandardScaler().fit_transform(rows)
    known = NearestNeighbors(
        n_neighbors=len(rows), metric=metric, p=p, algorithm="brute"
    ).fit(rows)
    distance, indices = known.kneighbors(rows)
    apart = abs(indices - np.arange(len(rows))[:, None]) > 5
    expected = [own[far][2] for own, far in zip(distance, apart, strict=True)]
    assert_allclose(
        -detector.score_samples(WALK), at_centre(np.array(expected), len(WALK), 10)
    )
    assert not hasattr(detector, "_apart")


def test_other_heads_take_no_notice():
    found = [
        WindowDetector(skad.Mahalanobis(), exclude=exclude, **PLAIN)
        .fit(WALK)
        .score_samples(WALK)
        for exclude in (0, 1.0)
    ]
    assert_array_equal(*found)
    # nor does a head that was there before know of windows
    head = LOF(n_neighbors=5)
    WindowDetector(head, **PLAIN).fit(WALK)
    assert head._apart is None


@pytest.mark.parametrize("n", [300, 5000])
def test_close_calls_are_decided_exactly(n, monkeypatch):
    monkeypatch.setattr("skad.neighbors._smallest._BANK_ROWS", 700)
    bank = np.round(RNG.normal(size=(n, 12)), 1) * 1e-3 + 50  # products cancel
    apart = Apart(np.arange(n), 20)
    search = NeighborSearch(bank, "euclidean", 2, "brute", None, None, 3, apart)
    some = np.arange(0, n, 97)
    found, indices = search.neighbors(bank[some], 3)
    distance = np.linalg.norm(bank[some, None] - bank, axis=2)
    distance[abs(some[:, None] - np.arange(n)) <= 20] = np.inf
    assert_allclose(found, np.sort(distance, axis=1)[:, :3], atol=1e-12)
    assert (abs(indices - some[:, None]) > 20).all()


def test_few_windows_apart_are_an_error_that_says_what_to_write():
    with pytest.raises(ValueError, match=r"window_size=100 .* pass fewer n_neighbors"):
        SubsequenceKNN(window_size=100).fit(WALK[:140])
    with pytest.warns(UserWarning, match="takes all 79 neighbours"):
        SubsequenceLOF(n_neighbors=150, **PLAIN).fit(WALK[:99])
    with pytest.raises(ValueError, match="'exclude' parameter"):
        SubsequenceKNN(exclude=1.5).fit(WALK)


def test_a_saved_detector_leaves_out_the_same(tmp_path):
    detector = SubsequenceKNN(**PLAIN).fit(WALK)
    skad.save(detector, tmp_path / "knn.skad")
    loaded = skad.load(tmp_path / "knn.skad")
    assert_array_equal(loaded.score_samples(WALK), detector.score_samples(WALK))
