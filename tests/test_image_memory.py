"""Memories of patches: SoftPatch and InReaCh for defects in training, FAPM by place."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from sklearn import config_context
from sklearn.base import clone
from sklearn.neighbors import LocalOutlierFactor

from skad.image import FAPM, InReaCh, PatchCore, SoftPatch, TiledDetector
from skad.image.memory import _factors
from skad.image.memory._factors import outlier_factors
from skad.image.memory._fapm import adaptive_core_sets
from skad.image.memory._inreach import association, recurring


class Squares(torch.nn.Module):
    """A backbone that says what is in squares of 4 x 4 pixels."""

    def __init__(self):
        super().__init__()
        self.first = torch.nn.PixelUnshuffle(4)

    def forward(self, x):
        return self.first(x)


GIVEN = {
    "backbone": Squares,
    "layers": ("first",),
    "neighborhood": 1,
    "smoothing": 0,
    "random_state": 0,
}


def pictures(n, seed=0, side=24):
    """Return pictures (n, side, side) of one texture with noise."""
    rng = np.random.default_rng(seed)
    texture = np.random.default_rng(9).normal(0.5, 0.1, size=(side, side))
    return texture + rng.normal(0, 0.02, size=(n, side, side))


def patches_of(detector, X):
    """Return the features (n, gh, gw, d) of pictures."""
    return detector.embedding_.embed(torch.tensor(X)[..., None]).numpy()


# --------------------------------------------------------------------- outlier factors


@pytest.mark.parametrize("k", [1, 3, 19, 50])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_factors_are_scikit_learn_s_at_each_place(k, dtype, monkeypatch):
    monkeypatch.setattr(_factors, "blocks", lambda n, *_: [slice(0, 3), slice(3, n)])
    rows = 5 + np.random.default_rng(0).normal(size=(7, 20, 4)).astype(dtype)
    rows *= np.arange(1, 8, dtype=dtype)[:, None, None]
    found = outlier_factors(torch.tensor(rows), k)
    assert found.numpy().dtype == dtype
    for place, factors in zip(rows.astype(float), found, strict=True):
        judge = LocalOutlierFactor(n_neighbors=min(k, 19)).fit(place)
        assert_allclose(factors, -judge.negative_outlier_factor_, rtol=1e-6)


def test_rows_that_are_equally_far_from_each_other_have_the_factor_one():
    simplex = torch.eye(9, dtype=torch.float64)[None]
    assert_allclose(outlier_factors(simplex, 4), 1, rtol=1e-12)
    assert_allclose(outlier_factors(simplex[:, :1], 4), 1)


def test_factors_stay_finite_where_rows_repeat():
    """A background that is the same in all pictures but one, and in all."""
    rows = torch.zeros(2, 12, 3)
    rows[0, 4], rows[0, 7] = 0.1, 0.5
    found = outlier_factors(rows, 5)
    assert_allclose(found[1], 1)
    # the others reach 0.1, it one neighbour at 0.4 and four at 0.5
    assert_allclose(found[0], np.where(np.arange(12) == 7, 4.8, 1), rtol=1e-6)


# --------------------------------------------------------------------------- SoftPatch


def test_softpatch_is_the_naive_loop():
    """Rates by scikit-learn at each place, and squared distances by them."""
    X, new = pictures(12), pictures(3, 1)
    settings = {"outlier_ratio": 0.3, "n_neighbors": 4, "coreset_ratio": 1.0}
    detector = SoftPatch(**GIVEN, **settings).fit(X)
    features = patches_of(detector, X)
    factors = np.empty(features.shape[:3])
    for place in np.ndindex(features.shape[1:3]):
        rows = features[:, *place]
        judge = LocalOutlierFactor(n_neighbors=4).fit(rows)
        factors[:, *place] = -judge.negative_outlier_factor_
    kept = factors.ravel() <= np.sort(factors.ravel())[-int(0.3 * factors.size) - 1]
    bank, weights = features.reshape(-1, 16)[kept], factors.ravel()[kept]
    assert len(detector.bank_) == len(bank) == factors.size - int(0.3 * factors.size)
    found = detector._patches(torch.tensor(new)[..., None])
    for patches, each in zip(found, patches_of(detector, new), strict=True):
        away = cdist(each.reshape(-1, 16), bank, "sqeuclidean")
        expected = away.min(axis=1) * weights[away.argmin(axis=1)]
        assert_allclose(patches.flatten(), expected, rtol=1e-5)


@pytest.mark.filterwarnings("ignore:All 9 training samples")
def test_softpatch_of_rows_equally_far_apart_is_patchcore_squared():
    X = np.zeros((9, 12, 12))
    for i, each in enumerate(X):
        each[i // 3 :: 4, i % 3 :: 4] = 1.0  # at every place a corner of the simplex
    soft = SoftPatch(**GIVEN, coreset_ratio=1.0, contamination=0.5).fit(X)
    hard = PatchCore(**GIVEN, coreset_ratio=1.0, contamination=0.5).fit(X)
    assert_allclose(soft.weights_, 1, rtol=1e-6)
    new = pictures(4, side=12)
    squares = hard._patches(torch.tensor(new)[..., None]).square()
    assert_allclose(soft._patches(torch.tensor(new)[..., None]), squares, rtol=1e-5)


@pytest.mark.parametrize("memory", [1024, 0.02], ids=["kept", "in parts"])
def test_a_planted_patch_is_not_in_the_bank_of_softpatch(memory):
    X = pictures(20)
    X[7, 8:12, 8:12] += 0.5
    soft, hard = SoftPatch(**GIVEN), PatchCore(**GIVEN)
    with config_context(working_memory=memory):
        soft.fit(X)
        hard.fit(X)
    planted = patches_of(soft, X)[7, 2, 2]
    assert cdist(planted[None], hard.bank_).min() == 0
    assert cdist(planted[None], soft.bank_).min() > 1
    assert soft.score_samples(X).argmin() == 7
    assert len(soft.bank_) == len(soft.weights_) == len(soft.owners_) == 72


@pytest.mark.parametrize("made", [SoftPatch, InReaCh])
def test_a_picture_s_own_patches_are_left_out(made):
    """For the threshold, against a bank without its entries."""
    X = pictures(10)
    detector = made(**GIVEN).fit(X)
    expected = []
    for i in range(10):
        without, others = clone(detector), detector.owners_ != i
        without.__dict__.update(vars(detector))
        without.bank_ = detector.bank_[others]
        without._squares_ = detector._squares_[others]
        if made is SoftPatch:
            without.weights_ = detector.weights_[others]
        expected.append(-without.score_samples(X[i : i + 1])[0])
    assert_allclose(detector._threshold_anomaly_, expected, rtol=1e-9)


def test_softpatch_keeps_everything_of_one_picture():
    with pytest.warns(UserWarning, match="learned from one picture"):
        detector = SoftPatch(**GIVEN, coreset_ratio=1.0).fit(pictures(1))
    assert_array_equal(detector.weights_, np.ones(36))


# ----------------------------------------------------------------------------- InReaCh


def channels_by_loop(X, seeds):
    """Return {(picture, patch) of a seed: list of (picture, patch)}, seeds included."""
    n_patches = X.shape[1]
    best = {}
    for seed in seeds:
        for other in range(len(X)):
            if other == seed:
                continue
            away = cdist(X[seed], X[other])
            for a in range(n_patches):
                b = int(away[a].argmin())
                if away[:, b].argmin() == a:
                    found = (away[a, b], (seed, a))
                    best[other, b] = min(best.get((other, b), found), found)
    channels = {(seed, a): [(seed, a)] for seed in seeds for a in range(n_patches)}
    for patch, (_, seed) in best.items():
        channels[seed].append(patch)
    return channels


def kept_by_loop(X, channels, min_length, max_deviation):
    """Return the set of patches in channels that are kept."""
    kept = set()
    for members in channels.values():
        rows = np.array([X[member] for member in members])
        away = np.linalg.norm(rows - rows.mean(axis=0), axis=1)
        near = away <= max_deviation * np.sqrt(np.mean(away**2))
        if len(members) > min_length and near.sum() > min_length:
            kept |= {m for m, is_near in zip(members, near, strict=True) if is_near}
    return kept


@pytest.mark.parametrize("max_deviation", [1.5, 5.0])
@pytest.mark.parametrize("min_length", [0, 3, 6])
def test_channels_are_the_naive_loop_s(min_length, max_deviation):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(8, 3)) + 0.4 * rng.normal(size=(9, 8, 3))
    seeds = [4, 1, 7]
    channels = channels_by_loop(X, seeds)
    joined = association(torch.tensor(X), torch.tensor(seeds))
    for (seed, a), members in channels.items():
        number = seeds.index(seed) * 8 + a
        found = {tuple(each) for each in (joined == number).nonzero().tolist()}
        assert found == set(members[1:])
    kept = recurring(torch.tensor(X), torch.tensor(seeds), min_length, max_deviation)
    expected = kept_by_loop(X, channels, min_length, max_deviation)
    assert {tuple(each) for each in kept.nonzero().tolist()} == expected
    assert 0 < len(expected) < 72


@pytest.mark.filterwarnings("ignore:All 6 training samples")
def test_of_equal_pictures_every_patch_is_kept_and_the_score_is_zero():
    X = np.repeat(pictures(1), 6, axis=0)
    detector = InReaCh(**GIVEN, n_seeds=2, coreset_ratio=1.0, contamination=0.5)
    detector.fit(X)
    assert len(detector.bank_) == 6 * 36
    assert_allclose(detector.score_samples(X), 0, atol=1e-10)


def test_the_anomaly_is_the_squared_distance_to_what_recurs():
    X, new = pictures(9), pictures(3, 1)
    detector = InReaCh(**GIVEN, coreset_ratio=1.0).fit(X)
    rows = patches_of(detector, X).reshape(9, 36, 16)
    seeds = np.random.RandomState(0).permutation(9)
    kept = sorted(kept_by_loop(rows, channels_by_loop(rows, seeds.tolist()), 3, 5.0))
    bank = np.array([rows[each] for each in kept])
    assert_allclose(np.unique(detector.bank_, axis=0), np.unique(bank, axis=0))
    each = patches_of(detector, new).reshape(-1, 16)
    expected = cdist(each, bank, "sqeuclidean").min(axis=1)
    found = detector._patches(torch.tensor(new)[..., None]).flatten()
    assert_allclose(found, expected, rtol=1e-5)


def test_what_is_in_one_picture_is_in_no_channel_even_of_a_seed():
    X = pictures(20)
    X[7, 8:12, 8:12] += 0.5
    detector = InReaCh(**GIVEN, n_seeds=20, coreset_ratio=1.0).fit(X)
    planted = patches_of(detector, X)[7, 2, 2]
    assert cdist(planted[None], detector.bank_).min() > 1
    assert detector.score_samples(X).argmin() == 7


def test_too_few_pictures_for_a_channel_are_an_error():
    with pytest.raises(ValueError, match=r"min_length=3 has .* n_samples=3"):
        InReaCh(**GIVEN).fit(pictures(3))
    rng = np.random.default_rng(0)
    with pytest.raises(
        ValueError, match=r"No patch recurs .* min_length=9 .* n_seeds=1"
    ):
        InReaCh(**GIVEN, n_seeds=1, min_length=9).fit(rng.normal(size=(10, 24, 24)))


# -------------------------------------------------------------------------------- FAPM


class Layers(Squares):
    """The same, and means of two by two of them."""

    def __init__(self):
        super().__init__()
        self.second = torch.nn.AvgPool2d(2)

    def forward(self, x):
        return self.second(self.first(x))


def test_core_sets_of_places_are_the_naive_loop_s():
    """The farthest of all places, one by one; a place that varies more keeps more."""
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(4, 12, 3)) * np.array([1, 1, 3, 0.1])[:, None, None]
    owners = np.repeat(np.arange(6), 2)
    kept = adaptive_core_sets(torch.tensor(rows), torch.tensor(owners), 20, 4)
    banks = []
    for place in rows:
        away = cdist(place[[4]], place)[0]
        away[owners == owners[4]] = -1
        banks.append([4, int(away.argmax())])
    while sum(map(len, banks)) < 20:
        away = [cdist(r, r[b]).min(axis=1) for r, b in zip(rows, banks, strict=True)]
        place, row = np.unravel_index(np.argmax(away), (4, 12))
        banks[place].append(int(row))
    found = [set(np.flatnonzero(each)) for each in kept]
    assert found == [set(bank) for bank in banks]
    assert len(banks[2]) > len(banks[0]) > len(banks[3]) == 2


def test_fapm_of_all_patches_is_the_nearest_at_the_place():
    X, new = pictures(9), np.roll(pictures(4, 1), 4, axis=1)
    given = {**GIVEN, "backbone": Layers, "layers": ("first", "second")}
    detector = FAPM(**given, coreset_ratio=1.0).fit(X)
    train, queries = patches_of(detector, X), patches_of(detector, new)
    away = [
        np.linalg.norm(queries[:, None, ..., part] - train[None, ..., part], axis=-1)
        for part in (slice(16), slice(16, 32))
    ]
    expected = sum(each.min(axis=1) for each in away)
    found = detector._patches(torch.tensor(new)[..., None]).numpy()
    assert_allclose(found, expected, rtol=1e-5)
    first = {**GIVEN, "coreset_ratio": 1.0}
    single = FAPM(**first).fit(X)._patches(torch.tensor(new)[..., None])
    whole = PatchCore(**first).fit(X)._patches(torch.tensor(new)[..., None])
    assert (single >= whole - 1e-9).all()
    assert (single > whole).any()
    own = torch.tensor(patches_of(detector, X))
    left = detector._found(own, torch.arange(9))[0].numpy()
    among = [
        np.linalg.norm(train[:, None, ..., part] - train[None, ..., part], axis=-1)
        for part in (slice(16), slice(16, 32))
    ]
    for each in among:
        each[np.arange(9), np.arange(9)] = np.inf
    assert_allclose(left, sum(each.min(axis=1) for each in among), rtol=1e-5)


def test_fapm_leaves_something_of_every_place_to_others():
    """However few entries there are, so that every picture has a threshold."""
    detector = FAPM(**GIVEN, coreset_ratio=0.01).fit(pictures(12))
    assert [len(bank[0]) for bank in detector.bank_] == [2]
    assert len(detector._threshold_anomaly_) == 12
    tiled = TiledDetector(FAPM(**GIVEN, coreset_ratio=0.01), tile=12, overlap=0)
    tiled.fit(pictures(5))
    assert np.isfinite(tiled.offset_)
    with pytest.raises(ValueError, match="needs two pictures"):
        FAPM(**GIVEN).fit(pictures(1))
