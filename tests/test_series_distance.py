"""Matrix profiles, PASAD, the spectral residual: loops and published values."""

import itertools
import pickle
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from skad.series import (
    PASAD,
    LeftMatrixProfile,
    MatrixProfile,
    SpectralResidual,
    _join,
    _similarity,
)
from skad.series._pasad import signal_subspace
from skad.series._spectral_residual import predicted_step, saliency, trailing_mean
from tests._series_data import load_series

# ------------------------------------------------------------------- the naive profiles


def naive_distances(x, y, size):
    """Return the distances (w, v) of all windows of two series.

    Constant and missing values count as in STUMPY.
    """
    shapes, constant = [], []
    for series in (x, y):
        windows = [series[i : i + size] for i in range(len(series) - size + 1)]
        constant.append([np.ptp(window) == 0 for window in windows])
        windows = [window - window[0] for window in windows]
        windows = [window - window.mean() for window in windows]
        shapes.append(
            [window / (window.std() if window.any() else 1) for window in windows]
        )
    gap = np.array(shapes[0])[:, None] - np.array(shapes[1])[None]  # (w, v, l)
    distance = np.sqrt((gap**2).sum(axis=2))
    n_constant = np.add.outer(*(np.array(flags, dtype=int) for flags in constant))
    distance = np.choose(n_constant, [distance, size**0.5, 0.0])
    return np.where(np.isnan(gap).any(axis=2), np.inf, distance)


def naive_profile(x, size, k=1, past=False):
    """Return the distance to the k-th nearest window that is no trivial match."""
    distance = naive_distances(x, x, size)
    return profile_of(distance, -(-size // 4), k, past)


def profile_of(distance, exclusion, k=1, past=False):
    i, j = np.indices(distance.shape)
    near = i - j <= exclusion if past else abs(i - j) <= exclusion
    return np.sort(np.where(near, np.inf, distance), axis=1)[:, k - 1]


def hard_series(n=150):
    rng = np.random.default_rng(3)
    noise = rng.normal(size=n)
    constant, missing, spike = noise.copy(), noise.copy(), noise.copy()
    constant[20:45], constant[80:99], constant[120:124] = 2.0, -1.0, 5.0
    missing[[50, 51, 120]] = np.nan
    spike[70] = 1e6
    both = constant.copy()
    both[30] = np.nan
    return {
        "walk": noise.cumsum(),
        "constant stretches": constant,
        "all constant": np.full(n, 3.0),
        "missing": missing,
        "constant and missing": both,
        "repeats": np.tile(noise[:50], 3)[:n],
        "nearly repeats": np.tile(noise[:30], 5)[:n] + 1e-7 * noise,
        "sine": np.sin(np.arange(n) / 7),
        "far from zero": noise + 1e6,
        "spike": spike,
        "few values": np.round(noise),
        "small": noise * 1e-90,
        "large": noise * 1e90,
    }


def units(x, size):
    """Return UnitWindows of a series without its mean, as the detectors take it."""
    return _similarity.unit_windows(x - np.nanmean(x), size)


def distance_to(query, reference, index):
    return _similarity.gaps(query, reference, index)[1]


every_series = pytest.mark.parametrize("kind", hard_series())


@pytest.fixture(params=[1024, 16], ids=["one tile", "many tiles"])
def tiles(request, monkeypatch):
    monkeypatch.setattr(_similarity, "_TILE", request.param)


@every_series
@pytest.mark.parametrize("size", [5, 16])
def test_self_join_is_the_naive_profile(kind, size, tiles):
    x = hard_series()[kind]
    own = units(x, size)
    exclusion = -(-size // 4)
    index = _join.nearest_one(own, own, exclusion=exclusion)
    found = distance_to(own, own, index)
    assert_allclose(found, naive_profile(x, size), atol=1e-6)
    assert (abs(index - np.arange(len(index)))[index >= 0] > exclusion).all()
    index = _join.nearest(_similarity.Correlations(own, own), 3, exclusion=exclusion)
    for k in (1, 2, 3):
        found = distance_to(own, own, index[:, k - 1])
        assert_allclose(found, naive_profile(x, size, k), atol=1e-6)


@every_series
def test_left_profile_is_the_naive_one(kind, tiles):
    x, size = hard_series()[kind], 8
    own = units(x, size)
    index = _join.nearest_one(own, own, exclusion=2, past=True)
    assert_allclose(
        distance_to(own, own, index), naive_profile(x, size, past=True), atol=1e-6
    )
    rows = np.arange(40, len(index), 7)
    some = _join.nearest_one(own, own, exclusion=2, past=True, rows=rows)
    assert_allclose(
        _similarity.gaps(own, own, some, rows)[1],
        naive_profile(x, size, past=True)[rows],
        atol=1e-6,
    )


@every_series
def test_join_of_two_series_is_the_naive_one(kind, tiles):
    x, y = hard_series()[kind], hard_series()["walk"][:90]
    x = x / np.nanmax(np.abs(x))
    query, reference = units(x, 9), units(y, 9)
    index = _join.nearest_one(query, reference)
    expected = naive_distances(x, y, 9).min(axis=1)
    assert_allclose(distance_to(query, reference, index), expected, atol=1e-6)


def test_profiles_are_those_of_stumpy():
    """Every third value of stump, stump with T_B and stumpi.left_P_, version 1.14.1."""
    i = np.arange(72)
    x = np.sin(i * i / 23.0) + 0.5 * np.cos(i / 3.0)
    x[20:32], x[50], x[60:70] = 0.25, np.nan, x[5:15]
    y = np.cos(i * i / 31.0)
    inf = np.inf
    # fmt: off
    profile = [
        1.498876633, 0.76366329, 0, 0.579807798, 1.179284817, 0.933985006, 2.58242752,
        0, 0, 1.76970619, 2.40421881, 2.067219548, 1.758258527, 2.487435096,
        2.390257289, inf, inf, 1.627820014, 0.937402519, 1.024362936, 0, 0.555631797,
    ]
    joined = [
        0.83253981, 0.405305347, 1.05264406, 0.927932628, 1.125356565, 2.228525598,
        2.096508805, 2.828427125, 2.828427125, 2.741933611, 2.114395278, 2.092157417,
        1.763515417, 1.919644167, 0.99952388, inf, inf, 1.270216031, 2.101924018,
        0.936240023, 0.871165148, 1.685137605,
    ]
    left = [
        inf, 4.303955674, 4.308280502, 1.498876633, 2.777713694, 1.807764215,
        2.58242752, 2.828427125, 0, 2.651637243, 2.455511445, 2.067219548, 1.758258527,
        2.696639432, 2.390257289, inf, inf, 1.627820014, 0.937402519, 1.024362936, 0,
        0.555631797,
    ]
    # fmt: on
    own, other = units(x, 8), units(y, 8)
    for index, reference, expected in (
        (_join.nearest_one(own, own, exclusion=2), own, profile),
        (_join.nearest_one(own, other), other, joined),
        (_join.nearest_one(own, own, exclusion=2, past=True), own, left),
    ):
        assert_allclose(distance_to(own, reference, index)[::3], expected, atol=1e-6)


def test_double_precision_decides_where_single_cannot(monkeypatch):
    monkeypatch.setattr(_similarity, "_TILE", 32)
    compared = []
    nearest = _join.nearest

    def watched(*args, rows=None, **options):
        compared.append(len(rows))
        return nearest(*args, rows=rows, **options)

    monkeypatch.setattr(_join, "nearest", watched)
    rng = np.random.default_rng(0)
    x = np.tile(rng.normal(size=40), 8) + 1e-6 * rng.normal(size=320)
    own = units(x, 12)
    index = _join.nearest_one(own, own, exclusion=3)
    assert sum(compared) > 100
    assert_allclose(distance_to(own, own, index), naive_profile(x, 12), atol=1e-8)
    compared.clear()
    own = units(rng.normal(size=320).cumsum(), 12)
    _join.nearest_one(own, own, exclusion=3)
    assert sum(compared) < 10


@given(st.integers(0, 2**32 - 1), st.integers(3, 300))
@settings(max_examples=20, deadline=None)
def test_error_of_single_precision_is_bounded(seed, size):
    rng = np.random.default_rng(seed)
    own = units(rng.standard_t(1.5, size=size + 60).cumsum(), size)
    rough = _similarity.Correlations(own, own, single=True)
    exact = _similarity.Correlations(own, own)
    everything = slice(0, own.n_windows)
    gap = rough.tile(rough.rows(everything), everything).astype(float) - exact.tile(
        exact.rows(everything), everything
    )
    assert abs(gap).max() <= rough.error


@pytest.mark.parametrize("n_largest", [1, 2, 3])
def test_joint_channels_are_the_naive_mean(n_largest, tiles):
    X = np.stack([hard_series()[kind] for kind in ("walk", "sine", "missing")])
    size = 8
    channels = [units(x, size) for x in X]
    distance = np.stack([naive_distances(x, x, size) for x in X])
    mean = np.sort(distance, axis=0)[-n_largest:].mean(axis=0)
    similarity = _similarity.MeanDistances(channels, channels, n_largest)
    index = _join.nearest(similarity, 2, exclusion=2)
    for k in (1, 2):
        expected = profile_of(mean, 2, k)
        there = index[:, k - 1] >= 0
        assert_array_equal(there, np.isfinite(expected))
        rows = np.flatnonzero(there)
        assert_allclose(mean[rows, index[rows, k - 1]], expected[rows], atol=1e-6)


def test_memory_is_linear():
    x = np.random.default_rng(0).normal(size=8192)[:, None]
    tracemalloc.start()
    MatrixProfile(window_size=20).fit(x)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 60e6  # all products are 537 MB


# ------------------------------------------------------------------------ MatrixProfile


def table(*kinds):
    return np.stack([hard_series()[kind] for kind in kinds], axis=1)


@pytest.mark.parametrize("k", [1, 3])
def test_matrix_profile_keeps_the_profile(k):
    X = table("walk", "constant stretches")
    detector = MatrixProfile(window_size=10, n_neighbors=k).fit(X)
    expected = np.mean([naive_profile(x, 10, k) for x in X.T], axis=0)
    assert_allclose(detector.profile_, expected, atol=1e-6)
    for i, x in enumerate(X.T):
        distance = naive_distances(x, x, 10)[np.arange(141), detector.neighbors_[:, i]]
        assert_allclose(distance, naive_profile(x, 10, k), atol=1e-6)


def test_score_is_the_mean_of_the_windows_over_a_step():
    X = table("walk")
    detector = MatrixProfile(window_size=10).fit(X)
    profile = naive_profile(X[:, 0], 10)
    expected = [profile[max(0, t - 9) : t + 1].mean() for t in range(150)]
    assert_allclose(-detector.score_samples(X), expected, atol=1e-6)
    late = MatrixProfile(window_size=10, align="end").fit(X)
    assert_allclose(-late.score_samples(X)[9:], profile, atol=1e-6)


@pytest.mark.parametrize(
    "kind", ["walk", "constant stretches", "repeats", "few values"]
)
def test_training_windows_are_recognised(kind):
    """Any part of the training series has the training scores, but for its ends."""
    X, size = table(kind), 10
    detector = MatrixProfile(window_size=size).fit(X)
    whole = detector.score_samples(X)
    part = detector.score_samples(X[37:101])
    assert_array_equal(part[size:-size], whole[37 + size : 101 - size])
    # rounding in another place is no recognition
    other = detector.score_samples(X * (1 + 1e-12))
    assert (other >= whole - 1e-5).all()


def test_equal_training_windows_score_alike():
    x = np.random.default_rng(2).normal(size=80)
    x[20:26] = x[50:56] = 1.0  # two windows of five steps are constant in each
    detector = MatrixProfile(window_size=5).fit(x[:, None])
    end = detector.set_params(align="end").score_samples(x[:, None])
    windows = np.lib.stride_tricks.sliding_window_view(x, 5)
    anomaly = -end[4:]
    for i, j in zip(*np.triu_indices(len(windows), 1), strict=True):
        if (windows[i] == windows[j]).all():
            assert anomaly[i] == anomaly[j]
    assert (anomaly <= naive_profile(x, 5) + 1e-6).all()


def test_other_series_are_compared_with_the_training_series():
    X, other = table("walk", "sine"), table("missing", "walk")[60:120]
    other = np.nan_to_num(other)
    detector = MatrixProfile(window_size=10, align="end").fit(X)
    expected = [
        naive_distances(theirs, own, 10).min(axis=1)
        for own, theirs in zip(X.T, other.T, strict=True)
    ]
    found = -detector.score_samples(other)[9:]
    assert_allclose(found, np.mean(expected, axis=0), atol=1e-6)


def test_series_of_groups_do_not_touch():
    X = table("walk", "sine")
    groups = np.repeat([5, 1], [70, 80])
    detector = MatrixProfile(window_size=10).fit(X, groups=groups)
    inside = np.r_[0:61, 70:141]
    expected = 0
    for x in X.T:
        distance = naive_distances(x, x, 10)[np.ix_(inside, inside)]
        i, j = np.meshgrid(inside, inside, indexing="ij")
        distance[abs(i - j) <= 3] = np.inf
        expected = expected + distance.min(axis=1) / 2
    assert_allclose(detector.profile_, expected, atol=1e-6)
    assert detector.neighbors_.min() >= 0
    assert detector.neighbors_.max() < len(inside)
    parts = [detector.score_samples(X[:70]), detector.score_samples(X[70:])]
    whole = detector.score_samples(X, groups=groups)
    assert_array_equal(whole, np.concatenate(parts))


@pytest.mark.parametrize("Detector", [MatrixProfile, LeftMatrixProfile])
@pytest.mark.parametrize(
    "setting", [{}, {"channels": "joint"}, {"n_largest": 1}, {"missing": "skip"}]
)
def test_window_maps_sum_to_the_windows_anomaly(Detector, setting):
    X = table("walk", "constant stretches", "sine")
    if "missing" in setting:
        X[40, 1] = np.nan
    detector = Detector(window_size=10, align="end", **setting).fit(X)
    maps = detector.transform(X)
    x = detector._prepared(X)
    total = np.zeros(len(X))

    def add(maps, i, first, anomaly):
        ends = detector._cut(x)[i].starts()[first : first + len(maps)] + 9
        total[ends] = maps.sum(axis=(1, 2))

    detector._visit(detector._window_map_alone, x, detector._cut(x), add)
    assert_allclose(total, -detector.score_samples(X), atol=1e-9)
    assert (maps >= 0).all()


def test_map_names_the_channel_and_the_steps():
    t = np.arange(600)
    X = np.stack([np.sin(t / 5), np.cos(t / 7), np.sin(t / 9)], axis=1)
    X += 0.02 * np.random.default_rng(0).normal(size=X.shape)
    X[400:410, 1] += np.sin(np.arange(10) * 2)
    for detector in (MatrixProfile(window_size=40), LeftMatrixProfile(window_size=40)):
        maps = detector.fit(X).transform(X)[100:]
        assert maps.sum(axis=0).argmax() == 1
        assert 400 <= 100 + maps[:, 1].argmax() < 410


def test_missing_values_are_skipped_when_allowed():
    X = table("missing")
    with pytest.raises(ValueError, match="NaN"):
        MatrixProfile(window_size=8).fit(X)
    detector = MatrixProfile(window_size=8, missing="skip", align="end").fit(X)
    profile = naive_profile(X[:, 0], 8)
    expected = np.where(np.isfinite(profile), profile, 0)
    assert_allclose(-detector.score_samples(X)[7:], expected, atol=1e-6)
    assert_allclose(
        detector.score_samples(torch.from_numpy(X)), detector.score_samples(X)
    )
    for bad in (np.where(np.isnan(X), np.inf, X), torch.from_numpy(X) / 0):
        with pytest.raises(ValueError, match="infinity"):
            detector.score_samples(bad)
    with pytest.raises(ValueError, match="too large"):
        detector.score_samples(np.where(X[3] == X, 1e300, X))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("channels", ["separate", "joint"])
@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_gap_in_one_channel_makes_no_window_new(missing, channels):
    X = np.random.default_rng(0).normal(size=(120, 3)).cumsum(axis=0)
    X[[30, *range(80, 84)], missing] = np.nan
    X[76:90, (missing + 1) % 3] = 0.5  # stuck beside the gap
    detector = MatrixProfile(
        window_size=10, missing="skip", channels=channels, align="end"
    ).fit(X)
    assert_array_equal(-detector.score_samples(X)[9:], detector.profile_)
    if channels == "separate":
        assert detector.profile_[74] > 0.5  # of the channels that are there


@pytest.mark.parametrize("Detector", [MatrixProfile, LeftMatrixProfile])
def test_tensors_and_single_precision_agree(Detector):
    X = table("walk", "spike")
    detector = Detector(window_size=10).fit(X)
    tensors = Detector(window_size=10).fit(torch.from_numpy(X))
    expected, maps = detector.score_samples(X), detector.transform(X)
    assert_allclose(tensors.score_samples(torch.from_numpy(X)), expected, atol=1e-9)
    assert_allclose(tensors.transform(X), maps, atol=1e-9)
    single = X.astype(np.float32)
    again = Detector(window_size=10).fit(single)
    double = single.astype(float)
    doubled = Detector(window_size=10).fit(double)
    assert_array_equal(again.score_samples(single), doubled.score_samples(double))
    assert again.transform(single).dtype == np.float32


@pytest.mark.parametrize(
    ("setting", "n", "words"),
    [
        ({"window_size": 2}, 50, "window_size=2 is too short"),
        ({"window_size": 60}, 50, "50 time steps, fewer than window_size=60"),
        ({"window_size": 20}, 25, "n_neighbors=1 with window_size=20 needs 31"),
        ({"window_size": 5, "n_neighbors": 44}, 50, "n_neighbors=44"),
        ({"window_size": 5, "n_largest": 3}, 50, "n_largest=3 .* channels, 2"),
    ],
)
def test_unfit_parameters_are_named(setting, n, words):
    X = np.random.default_rng(0).normal(size=(n, 2))
    with pytest.raises(ValueError, match=words):
        MatrixProfile(**setting).fit(X)


def test_fewest_steps_are_enough():
    X = np.random.default_rng(0).normal(size=(31, 2))
    assert np.isfinite(MatrixProfile(window_size=20).fit(X).profile_).all()


# -------------------------------------------------------------------- LeftMatrixProfile


@pytest.fixture
def stream():
    X = table("walk", "constant stretches")
    X[110:120] = X[60:70]
    return X


def test_left_scores_are_the_naive_profile(stream):
    detector = LeftMatrixProfile(window_size=10).fit(stream)
    profile = np.mean([naive_profile(x, 10, past=True) for x in stream.T], axis=0)
    expected = np.where(np.isfinite(profile), profile, 0)
    found = -detector.score_samples(stream)
    assert_allclose(found[9:], expected, atol=1e-6)
    assert (found[:9] == 0).all()
    centred = LeftMatrixProfile(window_size=10, align="center").fit(stream)
    assert_allclose(-centred.score_samples(stream)[5:146], expected, atol=1e-6)


def test_stream_in_pieces_is_the_whole(stream):
    detector = LeftMatrixProfile(window_size=10).fit(stream[:77])
    whole = detector.score_samples(stream)
    cuts = [77, 78, 85, 100, 149, 150]
    pieces = [detector.score_stream(stream[a:b]) for a, b in itertools.pairwise(cuts)]
    assert_allclose(np.concatenate(pieces), whole[77:], atol=1e-9)
    once = LeftMatrixProfile(window_size=10).fit(stream).score_samples(stream)
    assert_allclose(whole, once, atol=1e-9)
    kept = pickle.loads(pickle.dumps(detector))
    assert_array_equal(kept.score_stream(stream[:5]), detector.score_stream(stream[:5]))


@pytest.mark.parametrize("n_common", [0, 5, 30, 77])
def test_scores_do_not_depend_on_what_comes_later(stream, n_common):
    detector = LeftMatrixProfile(window_size=10).fit(stream[:77])
    X = np.concatenate([stream[:n_common], stream[40:130] + 0.01])
    whole = detector.score_samples(X)
    for t in (10, 11, 28, 31, 60, 79, 100, len(X)):
        if t <= len(X):
            assert_allclose(detector.score_samples(X[:t]), whole[:t], atol=1e-9)


def test_other_series_know_all_training_windows(stream):
    detector = LeftMatrixProfile(window_size=10).fit(stream)
    X = np.sin(np.arange(80)[:, None] ** 1.5 / [5, 9])
    expected = 0
    for a, b in zip(stream.T, X.T, strict=True):
        trained = naive_distances(b, a, 10).min(axis=1)
        expected = expected + np.minimum(trained, naive_profile(b, 10, past=True)) / 2
    assert_allclose(-detector.score_samples(X)[9:], expected, atol=1e-6)


def test_training_series_know_those_before(stream):
    groups = np.repeat([1, 0], [60, 90])
    detector = LeftMatrixProfile(window_size=10).fit(stream, groups=groups)
    whole = -detector.score_samples(stream, groups=groups)
    assert_array_equal(
        whole,
        -np.concatenate(
            [detector.score_samples(stream[:60]), detector.score_samples(stream[60:])]
        ),
    )
    alone = LeftMatrixProfile(window_size=10).fit(stream[:60])
    assert_allclose(whole[:60], -alone.score_samples(stream[:60]), atol=1e-9)
    expected = 0
    for x in stream.T:
        first = naive_distances(x[60:], x[:60], 10).min(axis=1)
        own = naive_profile(x[60:], 10, past=True)
        expected = expected + np.minimum(first, own) / 2
    assert_allclose(whole[69:], expected, atol=1e-6)


# -------------------------------------------------------------------------------- PASAD


def trajectory(x, size):
    return np.array([x[i : i + size] for i in range(len(x) - size + 1)]).T


def test_pasad_is_the_paper_s_projection():
    """Section 4 of the paper, with the singular value decomposition written out."""
    rng = np.random.default_rng(0)
    x = np.sin(np.arange(200) / 5) + 0.3 * rng.normal(size=200) + 2
    size, rank = 20, 4
    matrix = trajectory(x[:120], size)
    U = np.linalg.svd(matrix)[0][:, :rank]
    centre = U.T @ matrix.mean(axis=1)
    expected = [
        ((centre - U.T @ window) ** 2).sum() for window in trajectory(x, size).T
    ]
    detector = PASAD(rank=rank, window_size=size, align="end").fit(x[:120, None])
    assert_allclose(-detector.score_samples(x[:, None])[size - 1 :], expected)
    outside = PASAD(rank=rank, window_size=size, align="end", measure="residual")
    outside = -outside.fit(x[:120, None]).score_samples(x[:, None])[size - 1 :]
    distance = trajectory(x, size).T - matrix.mean(axis=1)
    assert_allclose(outside + expected, (distance**2).sum(axis=1))


def test_subspace_of_pieces_is_that_of_the_whole(monkeypatch):
    import skad._array

    windows = np.random.default_rng(0).normal(size=(90, 7)) @ np.diag(np.arange(1, 8))
    whole = np.linalg.svd(windows)[2]
    monkeypatch.setattr(skad._array, "_BLOCK_ELEMENTS", 70)
    for rank in (1, 3, 7):
        found = signal_subspace([windows[:31], windows[31:]], rank)
        assert_allclose(found.T @ found, whole[:rank].T @ whole[:rank], atol=1e-12)
    squares = np.linalg.svd(windows)[1] ** 2
    share = squares.cumsum() / squares.sum()
    assert len(signal_subspace([windows], share[2] - 1e-9)) == 3
    assert len(signal_subspace([windows], share[2] + 1e-9)) == 4


def test_pasad_sees_a_level_and_the_channel_of_it():
    rng = np.random.default_rng(1)
    X = 5 + 0.1 * rng.normal(size=(400, 3))
    detector = PASAD(rank=2, window_size=25).fit(X[:200])
    X[300:330, 2] += 0.5
    assert 300 <= detector.score_samples(X).argmin() < 330
    maps = detector.transform(X)
    assert maps.sum(axis=0).argmax() == 2
    assert detector.components_[0].shape == (2, 25)
    with pytest.raises(
        ValueError, match="rank=30 must be at most window_size, here 25"
    ):
        detector.set_params(rank=30).fit(X)


def test_pasad_learns_from_several_series():
    X = np.random.default_rng(2).normal(size=(100, 2))
    groups = np.repeat([0, 1], [40, 60])
    detector = PASAD(rank=3, window_size=8).fit(X, groups=groups)
    windows = [trajectory(X[:40, 1], 8).T, trajectory(X[40:, 1], 8).T]
    windows = np.concatenate(windows)
    assert_allclose(detector.mean_[:, 1], windows.mean(axis=0))
    V = np.linalg.svd(windows)[2][:3]
    own = detector.components_[1]
    assert_allclose(own.T @ own, V.T @ V, atol=1e-12)


# --------------------------------------------------------------------- SpectralResidual


def published_saliency(values, window=3):
    """The authors' transform, step by step, of a series with its five added steps."""
    past = values[-7:-1]
    n = len(past)
    slopes = [(past[-1] - past[i]) / (n - 1 - i) for i in range(n - 1)]
    values = np.append(values, [past[1] + sum(slopes)] * 5)
    spectrum = np.fft.fft(values)
    logarithm = np.log(np.abs(spectrum))
    residual = [
        logarithm[i] - logarithm[max(0, i - window + 1) : i + 1].mean()
        for i in range(len(values))
    ]
    back = np.fft.ifft(np.exp(residual) * spectrum / np.abs(spectrum))
    return np.abs(back)


def published_score(salient, window):
    """The authors' score of each step, from 0 to 1."""
    scores = []
    for i, value in enumerate(salient):
        mean = salient[max(0, i - window + 1) : i + 1].mean()
        scores.append(min(abs(value - mean) / mean / 10, 1.0))
    return np.array(scores)


def published_example():
    """The series of the authors' tests: 1 to 100."""
    return np.linspace(1, 100, 100)


@pytest.mark.parametrize("kind", ["example", "walk", "spike"])
def test_saliency_is_the_published_one(kind):
    x = published_example() if kind == "example" else hard_series()[kind]
    expected = published_saliency(x)
    assert_allclose(saliency(x), expected, rtol=1e-9, atol=1e-12)
    detector = SpectralResidual().fit(x[:, None])
    found = -detector.score_samples(x[:, None])
    assert_allclose(found, expected[:-5] * len(expected) ** 0.5, rtol=1e-9, atol=1e-12)
    detector = SpectralResidual(measure="relative", score_window=21).fit(x[:, None])
    relative = np.minimum(-detector.score_samples(x[:, None]) / 10, 1)
    assert_allclose(relative, published_score(expected, 21)[:-5], atol=1e-9)


def test_online_scores_are_those_of_the_last_step():
    x = hard_series()["walk"]
    detector = SpectralResidual(window_size=30, score_window=10, measure="relative")
    detector.fit(x[:50, None])
    found = -detector.score_samples(x[:, None])
    for t in (6, 15, 29, 30, 31, 80, 149):
        salient = published_saliency(x[max(0, t - 29) : t + 1])[:-5]
        assert_allclose(found[t], 10 * _unclipped(salient, 10)[-1], rtol=1e-6)
    for t in (1, 2, 3, 40, 90):
        assert_allclose(-detector.score_samples(x[:t, None]), found[:t], rtol=1e-9)
    pieces = [detector.score_stream(x[a:b, None]) for a, b in ((50, 51), (51, 150))]
    assert_allclose(-np.concatenate(pieces), found[50:], rtol=1e-9)
    assert not hasattr(SpectralResidual(), "score_stream")


def _unclipped(salient, window):
    means = [
        salient[max(0, i - window + 1) : i + 1].mean() for i in range(len(salient))
    ]
    return np.abs(salient - means) / means / 10


def test_spectral_residual_does_not_see_scale_nor_rounding():
    x = hard_series()["walk"]
    for measure in ("saliency", "relative"):
        detector = SpectralResidual(measure=measure).fit(x[:, None])
        found = detector.score_samples(np.stack([x], axis=1))
        for scale in (1e-80, 1e6, 1e80):
            assert_allclose(
                detector.score_samples(scale * x[:, None]), found, rtol=1e-6, atol=1e-9
            )
    constant = SpectralResidual(measure="relative").fit(np.full((90, 1), 0.1))
    assert abs(constant.score_samples(np.full((200, 1), 1e9 / 3))).max() < 1e-6


def test_channels_of_the_spectral_residual_add_up():
    X = table("walk", "spike")
    detector = SpectralResidual(magnitude_window=5, n_extended=3, n_slopes=2).fit(X)
    maps = detector.transform(X)
    for i in range(2):
        alone = SpectralResidual(magnitude_window=5, n_extended=3, n_slopes=2)
        alone.fit(X[:, [i]])
        assert_allclose(maps[:, i], -alone.score_samples(X[:, [i]]))
    assert_allclose(maps.sum(axis=1), -detector.score_samples(X))
    assert maps[:, 1].argmax() == 70
    tensor = detector.score_samples(torch.from_numpy(X))
    assert_allclose(tensor, detector.score_samples(X))


def test_predicted_step_and_trailing_mean_by_hand():
    line = np.array([1.0, 2, 3, 4, 5, 6, 7, 99])
    assert predicted_step(line, 5) == pytest.approx(8)  # 3 + 5 slopes of 1
    assert predicted_step(line[:2], 5) == 2
    assert predicted_step(line[:4], 5) == pytest.approx(2 + 1 + 1)
    assert_allclose(trailing_mean(line[:5], 3), [1, 1.5, 2, 3, 4])


# ---------------------------------------------------------------------------- real data


def test_discords_of_real_series_are_found(shared):
    X, y = load_series(shared, "ucr_136")
    window = np.flatnonzero(y)
    for detector in (
        MatrixProfile(window_size=183),
        PASAD(measure="residual", window_size=183),
        SpectralResidual(),
    ):
        found = detector.fit(X).score_samples(X).argmin()
        assert window[0] - 100 <= found <= window[-1] + 100, detector
