"""Detectors on pictures: features of patches, maps, and the papers' formulas."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from scipy.spatial.distance import cdist
from sklearn import config_context
from sklearn.base import clone
from sklearn.neighbors import NearestNeighbors
from torch.nn import functional as F  # noqa: N812

import skad
from skad.embedding import PatchEmbedding
from skad.image import (
    PaDiM,
    PatchCore,
    PatchDetector,
    TiledDetector,
)
from skad.image._base import ImageDetector
from skad.image._upsampling import smoothers, upsample
from skad.image.memory import _search
from skad.image.memory._coreset import GreedyKCenter, project
from skad.image.memory._peaks import highest_pixels
from skad.image.memory._search import nearest


class Grid(torch.nn.Module):
    """A backbone whose features are those of squares of 4 x 4 pixels, strided."""

    def __init__(self, n_features=6, seed=0):
        super().__init__()
        torch_seed = torch.Generator().manual_seed(seed)
        self.first = torch.nn.Conv2d(1, n_features, 4, stride=4, bias=False)
        self.first.weight.data = torch.randn(n_features, 1, 4, 4, generator=torch_seed)

    def forward(self, x):
        return self.first(x)


def backbone():
    return {"backbone": Grid(), "layers": ("first",)}


def embedding():
    return PatchEmbedding(**backbone(), neighborhood=1)


@pytest.fixture(scope="module")
def pictures():
    """Ten normal pictures, three new ones and the same three with a bright square."""
    rng = np.random.default_rng(0)
    texture = rng.normal(size=(24, 32))
    normal = texture + 0.3 * rng.normal(size=(13, 24, 32))
    bad = normal[10:].copy()
    bad[:, 8:12, 20:24] += 3.0
    return normal[:10], normal[10:], bad


DETECTORS = {
    "padim": lambda: PaDiM(**backbone(), smoothing=1, random_state=0),
    "patchcore": lambda: PatchCore(
        **backbone(), neighborhood=1, smoothing=1, random_state=0
    ),
    "shared": lambda: PatchDetector(embedding(), smoothing=1),
    "each": lambda: PatchDetector(embedding(), positions="each", smoothing=1),
    "features": lambda: PatchDetector(
        embedding(), skad.KNN(), positions="features", smoothing=1
    ),
}
every_detector = pytest.mark.parametrize("make", DETECTORS.values(), ids=DETECTORS)


# ------------------------------------------------------------------------------- maps


@pytest.mark.parametrize("size", [(28, 28), (7, 30), (1, 9), (5, 1)])
@pytest.mark.parametrize("sigma", [0, 0.7, 4.0])
def test_upsampling_is_interpolation_and_gaussian_filter(size, sigma):
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(2, *size))
    found = upsample(torch.tensor(patches), (33, 40), (sigma, sigma)).numpy()
    wide = F.interpolate(torch.tensor(patches)[:, None], (33, 40), mode="bilinear")
    expected = wide[:, 0].numpy()
    if sigma:
        expected = ndimage.gaussian_filter(expected, (0, sigma, sigma))
    assert_allclose(found, expected, atol=1e-12)


def test_a_wide_gaussian_is_mirrored_more_than_once():
    patches = np.random.default_rng(0).normal(size=(1, 3, 4))
    found = upsample(torch.tensor(patches), (3, 4), (5.0, 5.0)).numpy()
    expected = ndimage.gaussian_filter(patches, (0, 5.0, 5.0))
    assert_allclose(found, expected, atol=1e-12)


@every_detector
def test_the_square_is_found_where_it_is(make, pictures):
    train, normal, bad = pictures
    detector = make().fit(train)
    assert detector.score_samples(bad).max() < detector.score_samples(normal).min()
    maps = detector.transform(bad)
    assert maps.shape == bad.shape
    for each in maps:
        row, column = np.unravel_index(each.argmax(), each.shape)
        assert 7 <= row <= 12
        assert 19 <= column <= 24


@every_detector
def test_a_shift_by_the_stride_moves_the_map(make, pictures):
    """Away from the border, and for detectors that do not look at the place."""
    detector = make()
    if getattr(detector, "positions", "each" if "PaDiM" in repr(detector) else "") in (
        "each",
        "features",
    ):
        pytest.skip("one model for each place")
    detector.set_params(smoothing=0).fit(pictures[0])
    bad = pictures[2]
    moved = np.roll(bad, (4, 8), axis=(1, 2))
    maps, moved_maps = detector.transform(bad), detector.transform(moved)
    assert_allclose(moved_maps[:, 8:-4, 12:-4], maps[:, 4:-8, 4:-12], atol=1e-9)


@every_detector
def test_the_score_is_the_largest_value_of_the_map(make, pictures):
    detector = make().fit(pictures[0])
    scores, maps = detector.score_samples(pictures[2]), detector.transform(pictures[2])
    assert_allclose(-scores, maps.max(axis=(1, 2)))


@every_detector
@pytest.mark.parametrize("kind", ["uint8", "colour", "tensor", "float32", "one"])
def test_kinds_of_pictures(make, pictures, kind):
    train = pictures[0]
    grey = np.clip(128 + 40 * train, 0, 255).astype(np.uint8)
    if kind == "one":
        detector = make()
        if getattr(detector, "positions", "") == "each":
            with pytest.raises(ValueError, match="needs two pictures"):
                detector.fit(train[:1])
            return
        scores = detector.fit(train[:1]).score_samples(pictures[2])
        assert np.isfinite(scores).all()
    elif kind == "colour":
        detector = make().set_params()
        name = "backbone" if hasattr(detector, "backbone") else "embedding__backbone"
        other = "layers" if hasattr(detector, "layers") else "embedding__layers"
        detector.set_params(**{name: "gabor", other: None})
        colour = np.stack([grey, grey[:, ::-1], grey], axis=3)
        assert detector.fit(colour).transform(colour[:2]).shape == (2, 24, 32)
        with pytest.raises(ValueError, match="expected"):
            detector.transform(colour[:, :12])
    elif kind == "uint8":
        exact = make().fit(grey / np.float32(255)).score_samples(grey / np.float32(255))
        assert_allclose(make().fit(grey).score_samples(grey), exact, rtol=1e-6)
        rows = make().set_params(image_shape=(24, 32)).fit(grey.reshape(10, -1))
        assert_allclose(rows.score_samples(grey), exact, rtol=1e-6)
        assert rows.transform(grey.reshape(10, -1)).shape == (10, 24, 32)
    elif kind == "tensor":
        detector = make().fit(torch.tensor(train))
        maps = detector.transform(torch.tensor(train))
        assert torch.is_tensor(maps)
        assert_allclose(maps.numpy(), make().fit(train).transform(train), rtol=1e-6)
    else:
        double = make().fit(train).score_samples(pictures[2])
        single = make().fit(train.astype(np.float32))
        scores = single.score_samples(pictures[2].astype(np.float32))
        assert_allclose(scores, double, rtol=1e-3)


@every_detector
def test_wrong_pictures_are_refused(make, pictures):
    train = pictures[0]
    with pytest.raises(ValueError, match="contains NaN: picture between 0 and"):
        make().fit(np.where(train > 1, np.nan, train))
    with pytest.raises(ValueError, match="dtype int64; accepted are uint8"):
        make().fit((100 * train).astype(np.int64))
    with pytest.raises(ValueError, match="no picture or no pixel"):
        make().fit(train[:0])
    with pytest.raises(ValueError, match=r"X\[1\] has shape \(23, 32\)"):
        make().fit([train[0], train[1][1:]])
    with pytest.raises(ValueError, match="image_shape"):
        make().set_params(image_shape=(5, 5)).fit(train)


@every_detector
def test_a_fit_in_bounded_memory_is_the_same_or_covers_the_same(make, pictures):
    train, normal, bad = pictures
    whole = make().fit(train)
    with config_context(working_memory=1e-3):
        parts = make().fit(train)
    if isinstance(whole, PatchCore):  # a core-set of core-sets
        assert parts.score_samples(bad).max() < parts.score_samples(normal).min()
        assert len(parts.bank_) == len(whole.bank_)
    else:
        assert_allclose(parts.score_samples(bad), whole.score_samples(bad))
        assert_allclose(parts.offset_, whole.offset_)


# ------------------------------------------------------------------------------- PaDiM


def padim_by_loop(train, test, regularization=0.01):
    """Return distances (b, gh, gw) as the paper defines them, place by place."""
    n, height, width, d = train.shape
    found = np.empty(test.shape[:3])
    for i in range(height):
        for j in range(width):
            mean = train[:, i, j].mean(axis=0)
            covariance = np.zeros((d, d))
            if n > 1:
                covariance = np.cov(train[:, i, j], rowvar=False).reshape(d, d)
            inverse = np.linalg.inv(covariance + regularization * np.eye(d))
            for b in range(len(test)):
                rest = test[b, i, j] - mean
                found[b, i, j] = np.sqrt(rest @ inverse @ rest)
    return found


@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 10])
@pytest.mark.parametrize("d", [1, 6])
def test_padim_is_the_mahalanobis_distance_of_each_place(pictures, n, d):
    """Fewer pictures than features, as many, and more."""
    train, _, bad = pictures
    detector = PaDiM(**backbone(), n_features=d, random_state=0).fit(train[:n])
    train, bad = torch.tensor(train)[..., None], torch.tensor(bad)[..., None]
    features = detector._features(train[:n]).numpy()
    assert features.shape == (n, 6, 8, d)
    expected = padim_by_loop(features, detector._features(bad).numpy())
    assert_allclose(detector._patches(bad).numpy(), expected, rtol=1e-9)
    assert_allclose(detector.location_.numpy(), features.mean(axis=0), atol=1e-12)


def test_padim_in_float32_keeps_its_digits(pictures):
    """Both forms of the covariance, on features far from zero."""
    rng = np.random.default_rng(0)
    probe = np.abs(pictures[2]) / np.abs(pictures[2]).max()
    for n in (5, 40):
        train = 30 + rng.normal(size=(n, 24, 32)) * np.linspace(0.05, 3, 32)
        train /= 40
        detector = PaDiM(**backbone()).fit(train)
        single = PaDiM(**backbone()).fit(train.astype(np.float32))
        found = single.transform(probe.astype(np.float32))
        assert_allclose(found, detector.transform(probe), rtol=2e-3)


def test_padim_draws_features_once(pictures):
    train = pictures[0]
    first = PaDiM(**backbone(), n_features=3, random_state=0).fit(train)
    again = PaDiM(**backbone(), n_features=3, random_state=0).fit(train)
    other = PaDiM(**backbone(), n_features=3, random_state=4).fit(train)
    assert_array_equal(first.features_, again.features_)
    assert first.features_.tolist() != other.features_.tolist()
    assert len(set(first.features_.tolist())) == 3


@pytest.mark.parametrize("n", [5, 10])  # fewer pictures than features, and more
def test_padim_of_all_orthogonal_directions_is_that_of_all_features(pictures, n):
    """The added variance is the same in every direction."""
    whole = PaDiM(**backbone(), n_features=None).fit(pictures[0][:n])
    turned = PaDiM(**backbone(), n_features=6, reduction="orthogonal", random_state=0)
    turned.fit(pictures[0][:n])
    assert turned.features_.shape == (6, 6)
    assert not np.allclose(abs(turned.features_).amax(0), 1)
    assert_allclose(turned.transform(pictures[2]), whole.transform(pictures[2]), 1e-4)
    assert turned.offset_ == pytest.approx(whole.offset_, rel=1e-4)


def test_the_semi_orthogonal_embedding_is_padim_on_directions(pictures):
    train, _, bad = pictures
    given = {**backbone(), "n_features": 3, "random_state": 0}
    named = skad.SemiOrthogonal(**given).fit(train)
    turned = PaDiM(**given, reduction="orthogonal").fit(train)
    assert_allclose(named.score_samples(bad), turned.score_samples(bad))
    assert named.features_.shape == (6, 3)


def test_padim_of_some_orthogonal_directions(pictures):
    train, _, bad = pictures
    settings = {"n_features": 3, "reduction": "orthogonal", "smoothing": 0}
    detector = PaDiM(**backbone(), **settings, random_state=0).fit(train)
    matrix = detector.features_.numpy()
    assert_allclose(matrix.T @ matrix, np.eye(3), atol=1e-12)
    rows, new = (
        detector.embedding_.embed(torch.tensor(X)[..., None]).numpy()[:, 2, 5] @ matrix
        for X in (train, bad)
    )
    covariance = np.cov(rows, rowvar=False) + 0.01 * np.eye(3)
    away = new - rows.mean(axis=0)
    expected = np.sqrt(np.sum(away @ np.linalg.inv(covariance) * away, axis=1))
    found = detector._patches(torch.tensor(bad)[..., None])[:, 2, 5]
    assert_allclose(found, expected, rtol=1e-4)


# --------------------------------------------------------------------------- PatchCore


def k_center_by_loop(points, n_picks, start):
    """Return the greedy choices, one by one."""
    picks = [start]
    distances = cdist(points, points)
    while len(picks) < n_picks:
        nearest = distances[picks].min(axis=0)
        nearest[picks] = -1
        picks.append(int(nearest.argmax()))
    return picks


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 80),
    d=st.integers(1, 5),
    block=st.integers(1, 20),
    seed=st.integers(0, 10**6),
)
def test_the_core_set_is_what_the_naive_loop_selects(n, d, block, seed):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, d))
    n_picks, start = rng.integers(1, n + 1), int(rng.integers(n))
    chosen = GreedyKCenter(torch.tensor(points), n_picks, start, block)
    assert list(chosen)[-1] == n_picks
    assert chosen.picks.tolist() == k_center_by_loop(points, n_picks, start)
    owner = cdist(points, points[chosen.picks.numpy()]).argmin(axis=1)
    assert_array_equal(chosen.owner, owner)


def test_the_core_set_covers_clusters_and_repetitions():
    """One point of each of 30 places that repeat; then nothing is left to choose."""
    centres = np.random.default_rng(0).normal(size=(30, 4))
    points = torch.tensor(np.tile(centres, (20, 1)))
    chosen = GreedyKCenter(points, 100, block=7)
    assert list(chosen)[-1] < 100
    picks = chosen.picks
    assert len(picks) < 100
    assert set((picks[:30] % 30).tolist()) == set(range(30))


def test_a_projection_keeps_distances():
    rng = np.random.default_rng(0)
    points = torch.tensor(rng.normal(size=(200, 2000)))
    small = project(points, 0)
    assert small.shape == (200, 130)  # Johnson-Lindenstrauss at 0.9
    ratio = torch.pdist(small) / torch.pdist(points)
    assert 0.7 < ratio.min() <= ratio.max() < 1.3
    assert project(points[:, :50], 0).shape == (200, 50)


@pytest.mark.parametrize("n_neighbors", [1, 2, 5, 1000])
def test_patchcore_scores_are_the_papers_formula(pictures, n_neighbors):
    train, _, bad = pictures
    detector = PatchCore(**backbone(), n_neighbors=n_neighbors, random_state=0)
    detector.fit(train)
    bank = detector.bank_.numpy()
    features = detector.embedding_.embed(torch.tensor(bad)[..., None]).numpy()
    for score, patches in zip(detector.score_samples(bad), features, strict=True):
        patches = patches.reshape(-1, bank.shape[1])
        distances = cdist(patches, bank)
        worst = distances.min(axis=1).argmax()
        expected = distances[worst].min()
        if n_neighbors > 1:
            closest = bank[distances[worst].argmin()]
            around = np.argsort(cdist(closest[None], bank)[0])[:n_neighbors]
            far = np.exp(distances[worst, around])
            expected *= 1 - np.exp(distances[worst].min()) / far.sum()
        assert_allclose(-score, expected, rtol=1e-9)


def test_the_bank_is_part_of_the_training_patches(pictures):
    detector = PatchCore(**backbone(), bank_size=17, random_state=0).fit(pictures[0])
    train = torch.tensor(pictures[0])[..., None]
    patches = detector.embedding_.embed(train).flatten(0, 2).numpy()
    assert detector.bank_.shape == (17, 6)
    assert_allclose(cdist(detector.bank_.numpy(), patches).min(axis=1), 0, atol=1e-12)
    shared = PatchCore(**backbone(), coreset_ratio=0.05, random_state=0)
    assert len(shared.fit(pictures[0]).bank_) == round(0.05 * 10 * 48)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"smoothing": 0},
        {"smoothing": 30},
        {"pooling": "top"},
        {"pooling": "mean"},
        {"n_neighbors": 1},
        {"n_neighbors": 5},
    ],
)
@pytest.mark.parametrize("eps", [None, 0.9])
def test_the_threshold_comes_from_the_training_scores(settings, eps):
    """The search in the order of bounds finds what the whole search finds."""
    rng = np.random.default_rng(0)
    train = rng.normal(size=(12, 32, 40))
    detector = PatchCore(
        backbone=Grid(300), layers=("first",), **settings, random_state=0
    )
    detector.set_params(projection_eps=eps, coreset_ratio=0.05, contamination=0.1)
    scores = detector.fit(train).score_samples(train)
    assert_allclose(detector.offset_, np.quantile(scores, 0.1), rtol=1e-12)


def test_a_patch_of_the_bank_is_at_distance_zero():
    """Whatever the product of matrices makes of points far from the origin."""
    rng = np.random.default_rng(0)
    bank = torch.tensor(1000 + rng.normal(size=(50, 8)), dtype=torch.float32)
    distances, indices = nearest(bank, bank, bank.square().sum(1))
    exact = torch.cdist(bank.double(), bank.double())
    assert (distances < 1).all()
    assert_allclose(distances, exact.gather(1, indices), atol=1e-5)


@pytest.mark.parametrize("k", [1, 3])
def test_the_nearest_are_those_of_scikit_learn(k, monkeypatch):
    """In their order, in blocks, and without a picture's own."""
    monkeypatch.setattr(_search, "_DISTANCES", 200)
    rng = np.random.default_rng(0)
    queries, bank = rng.normal(size=(30, 4)), rng.normal(size=(20, 4))
    owners, own = rng.integers(4, size=20), rng.integers(4, size=30)
    known = torch.tensor(bank), torch.tensor(bank).square().sum(1)
    distances, indices = nearest(torch.tensor(queries), *known, k=k)
    expected = NearestNeighbors(n_neighbors=k).fit(bank).kneighbors(queries)
    assert_allclose(distances, expected[0], rtol=1e-12)
    assert_array_equal(indices, expected[1])
    pictures = torch.tensor(own), torch.tensor(owners)
    distances, indices = nearest(torch.tensor(queries), *known, *pictures, k=k)
    away = np.where(own[:, None] == owners, np.inf, cdist(queries, bank))
    assert_allclose(distances, np.sort(away, axis=1)[:, :k])
    assert (owners[indices] != own[:, None]).all()
    alone = torch.zeros(20, dtype=torch.long)
    distances, _ = nearest(torch.tensor(bank), *known, alone, alone, k=k)
    assert distances.isinf().all()


# ----------------------------------------------------------------------- PatchDetector


def test_one_detector_for_each_place_is_padim_with_another_covariance(pictures):
    detector = PatchDetector(
        embedding(),
        skad.Mahalanobis(),
        positions="each",
    ).fit(pictures[0])
    assert len(detector.detectors_) == 48
    bad = torch.tensor(pictures[2])[..., None]
    features = detector.embedding_.embed(bad).numpy()
    train = detector.embedding_.embed(torch.tensor(pictures[0])[..., None]).numpy()
    inner = skad.Mahalanobis().fit(train[:, 2, 5])
    expected = -inner.score_samples(features[:, 2, 5])
    assert_allclose(detector._patches(bad)[:, 2, 5], expected, rtol=1e-7)


class Layers(Grid):
    """The same, and the means of two by two of them."""

    def __init__(self):
        super().__init__(3)
        self.second = torch.nn.AvgPool2d(2)

    def forward(self, x):
        return self.second(self.first(x))


@pytest.mark.parametrize("positions", ["shared", "each", "features"])
def test_a_detector_for_each_layer(pictures, positions):
    """Their anomalies are added at the grid of the first layer."""
    settings = {"layers": ("first", "second"), "neighborhood": 1}
    detector = PatchDetector(
        PatchEmbedding(Layers, **settings),
        skad.KNN(2),
        positions=positions,
        scales="each",
        contamination=0.5,
    ).fit(pictures[0])
    assert len(detector.detectors_) == {"each": 2 * 48}.get(positions, 2)
    train, new = (
        detector.embedding_.embed(torch.tensor(X)[..., None]).numpy()
        for X in (pictures[0], pictures[2])
    )
    place = 2, 5  # of 6 x 8
    expected = np.zeros(len(new))
    for layer in (slice(3), slice(3, 6)):
        rows, queries = train[..., layer], new[:, *place, layer]
        if positions == "each":
            rows = rows[:, *place]
        elif positions == "features":
            where = np.stack(np.meshgrid(*map(np.arange, (6, 8)), indexing="ij"), -1)
            where = (2 * where / [5, 7] - 1) * 3**0.5 * rows.std(ddof=1)
            rows = np.concatenate([rows, np.tile(where, (10, 1, 1, 1))], -1)
            queries = np.concatenate([queries, np.tile(where[place], (3, 1))], -1)
        rows = rows.reshape(-1, rows.shape[-1])
        expected += np.sort(cdist(queries, rows), axis=1)[:, 1]
    found = detector._patches(torch.tensor(pictures[2])[..., None])[:, *place]
    assert_allclose(found, expected, rtol=1e-4)


def test_gaussian_clusters_of_each_layer(pictures):
    """GCPF: with one cluster the Mahalanobis distances of the layers, added."""
    given = PatchEmbedding(Layers, ("first", "second"), neighborhood=1)
    one, other = (
        PatchDetector(given, head, scales="each", contamination=0.5)
        .fit(pictures[0])
        ._patches(torch.tensor(pictures[2])[..., None])
        for head in (skad.GMM(1, reg_covar=1e-12), skad.Mahalanobis())
    )
    rest = one - other / 2
    assert_allclose(rest, torch.full_like(rest, rest.mean()), rtol=1e-9)
    assert other.std() > 1


def test_of_repeated_layers_the_anomaly_is_that_on_their_own_grid(pictures):
    settings = {"neighborhood": 1, "interpolation": "nearest"}
    found, second = (
        PatchDetector(
            PatchEmbedding(Layers, layers, **settings), skad.KNN(1), scales="each"
        )
        .fit(pictures[0])
        ._patches(torch.tensor(pictures[2])[..., None])
        for layers in (("first", "second"), ("second",))
    )
    first = PatchDetector(PatchEmbedding(Layers, ("first",), **settings), skad.KNN(1))
    first = first.fit(pictures[0])._patches(torch.tensor(pictures[2])[..., None])
    second = second.repeat_interleave(2, 1).repeat_interleave(2, 2)
    assert_allclose(found, first + second, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["max", "top", "quantile", "mean"])
@every_detector
def test_pooling(pictures, make, pooling):
    detector = make().set_params(pooling=pooling, quantile=0.9, smoothing=0)
    detector.fit(pictures[0])
    values = np.sort(detector.transform(pictures[2]).reshape(3, -1), axis=1)
    largest = values[:, -round(0.1 * values.shape[1]) :]
    expected = {
        "max": values[:, -1],
        "top": largest.mean(axis=1),
        "quantile": largest[:, 0],
        "mean": values.mean(axis=1),
    }
    assert_allclose(-detector.score_samples(pictures[2]), expected[pooling])
    found = detector.inspect(pictures[2])
    assert_array_equal(found.scores, detector.score_samples(pictures[2]))


OF_WHOLE_PICTURES = {
    *(
        "AnomalyDINO",
        "CSFlow",
        "DFM",
        "DifferNet",
        "DOC",
        "DRA",
        "FRE",
        "GaussianAD",
        "HTDG",
        "MKD",
        "MeanShifted",
    ),
    *(
        "OCRGAN",
        "PANDA",
        "REB",
        "RFS",
        "SPADE",
        "SelFormaly",
        "SetFeatures",
        "SuperSimpleNet",
        "UniADet",
    ),
}


def test_every_picture_detector_pools_its_map():
    """All but those whose score is of the picture as a whole, and the lift of tiles."""
    every = [each for _, each in skad.all_detectors()]
    of_pictures = [each for each in every if issubclass(each, ImageDetector)]
    assert len(of_pictures) >= 10
    for each in of_pictures:
        known = {"pooling", "quantile"} <= set(each().get_params())
        assert known == (each.__name__ not in OF_WHOLE_PICTURES), each


def test_the_highest_pixel_is_found_from_few_patches():
    rng = np.random.default_rng(0)
    patches = torch.tensor(rng.random((5, 20, 30)))
    patches[:, 4:8, 10:15] += 2
    bounds = patches + 0.5 * torch.tensor(rng.random((5, 20, 30)))
    axes = smoothers(patches, (80, 90), (4.0, 4.0))
    asked = []

    def exact(*places):
        asked.append(len(places[0]))
        return patches[places]

    found = highest_pixels(bounds, exact, *axes)
    expected = (axes[0] @ patches @ axes[1].T).flatten(1).amax(1)
    assert_allclose(found, expected, rtol=1e-12)
    assert sum(asked) < 0.3 * patches.numel()
    bounds[2] = torch.inf
    assert_allclose(highest_pixels(bounds, exact, *axes)[2], torch.inf)


def test_places_as_features_find_what_is_normal_elsewhere():
    """A bright left half is normal, a bright right half is not."""
    rng = np.random.default_rng(0)
    train = 0.05 * rng.normal(size=(12, 16, 16))
    train[:, :, :8] += 1
    swapped = train[:, :, ::-1].copy()
    plain = PatchDetector(embedding(), skad.KNN(), smoothing=0, max_patches=None)
    placed = PatchDetector(
        embedding(), skad.KNN(), positions="features", smoothing=0, max_patches=None
    )
    ratio = {}
    for name, detector in {"plain": plain, "placed": placed}.items():
        detector.fit(train)
        normal = detector.score_samples(train[:2]).mean()
        ratio[name] = detector.score_samples(swapped[:2]).mean() / normal
    assert ratio["placed"] > 3 * ratio["plain"]


def test_scikit_learns_detectors_are_lifted_as_well(pictures):
    from sklearn.ensemble import IsolationForest

    detector = PatchDetector(
        PatchEmbedding(**backbone()), IsolationForest(n_estimators=10), random_state=0
    ).fit(pictures[0])
    assert detector.score_samples(pictures[2]).shape == (3,)
    assert detector.detectors_[0].random_state is not None


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (PatchDetector(positions="some"), "positions"),
        (PatchDetector(quantile=1.0), "quantile"),
        (PatchDetector(detector=object()), "detector"),
        (PatchCore(coreset_ratio=0.0), "coreset_ratio"),
        (PatchCore(n_neighbors=0), "n_neighbors"),
        (PatchCore(pooling="sum"), "pooling"),
        (PaDiM(quantile=1.0), "quantile"),
        (PatchCore(neighborhood=2), "neighborhood=2 must be odd"),
        (PaDiM(regularization=0.0), "regularization"),
        (PaDiM(backbone="resnet18"), "weights"),
        (PaDiM(backbone="nothing"), "backbone='nothing' is unknown"),
    ],
)
def test_wrong_parameters(detector, message, pictures):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        detector.fit(pictures[0])


# ------------------------------------------------------------------------------- tiles


def local_detector():
    """Return a detector whose patches see 4 x 4 pixels and nothing else."""
    return PatchCore(
        **backbone(), neighborhood=1, n_neighbors=1, smoothing=0, random_state=0
    )


def test_tiles_give_the_map_of_the_whole_picture(pictures):
    """Where tiles lie on the stride of the backbone, away from their own borders."""
    train, _, bad = pictures
    tiled = TiledDetector(local_detector(), tile=(16, 16), overlap=8).fit(train)
    whole = local_detector().set_params(coreset_ratio=1.0).fit(train)
    tiled.set_params(detector__coreset_ratio=1.0).fit(train)
    assert_allclose(tiled.score_samples(bad), whole.score_samples(bad), rtol=0.1)
    difference = np.abs(tiled.transform(bad) - whole.transform(bad))
    assert np.median(difference) < 1e-9
    row, column = np.unravel_index(tiled.transform(bad)[0].argmax(), bad[0].shape)
    assert 7 <= row <= 12
    assert 19 <= column <= 24


def test_the_score_is_that_of_the_worst_tile(pictures):
    train, _, bad = pictures
    tiled = TiledDetector(local_detector(), tile=(10, 13), overlap=3).fit(train)
    tiles = [
        bad[:, top : top + 10, left : left + 13]
        for top in (0, 7, 14)
        for left in (0, 10, 19)
    ]
    scores = [tiled.detector_.score_samples(tile) for tile in tiles]
    assert_allclose(tiled.score_samples(bad), np.min(scores, axis=0))


def test_a_picture_of_one_tile_is_not_cut(pictures):
    tiled = TiledDetector(local_detector(), random_state=0).fit(pictures[0])
    plain = clone(tiled.detector_).fit(pictures[0])
    assert tiled.tile_ == (24, 32)
    assert_allclose(tiled.transform(pictures[2]), plain.transform(pictures[2]))


def test_tiles_of_tensors_are_those_of_arrays(pictures):
    train, _, bad = (part / part.max() for part in pictures)
    tiled = TiledDetector(local_detector(), tile=(10, 13), overlap=3, random_state=0)
    expected = tiled.fit(train).transform(bad)
    on_tensors = clone(tiled).fit(torch.from_numpy(train))
    found = on_tensors.transform(torch.from_numpy(bad))
    assert_allclose(found.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"tile": 8, "overlap": 8}, "tile=8 must be one side .* larger than overlap=8"),
        ({"tile": (8, 9, 10)}, "tile"),
        ({"tile": 0}, "tile"),
        ({"detector": 3}, "detector"),
    ],
)
def test_wrong_tiles(parameters, message, pictures):
    with pytest.raises(ValueError, match=message):
        TiledDetector(**parameters).fit(pictures[0])


def test_tiles_are_cut_a_batch_at_a_time():
    """Of a picture with 48 tiles, and of several, no more than four are in memory."""
    picture = np.random.default_rng(0).integers(0, 255, (2, 96, 128), dtype=np.uint8)
    detector = local_detector().set_params(batch_size=4, bank_size=10)
    tiled = TiledDetector(detector, tile=16, overlap=0).fit(picture)
    seen = []
    inner = tiled.detector_
    embed = inner.embedding_.embed
    inner.embedding_.embed = lambda x: seen.append(tuple(x.shape)) or embed(x)
    assert tiled.transform(picture).shape == (2, 96, 128)
    assert seen == [(4, 16, 16, 1)] * 24
