"""Methods of texture: regions, exemplars, projections and dictionaries of patches."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.transform import Rotation
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.decomposition import sparse_encode
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from skad.embedding import PatchEmbedding, RawPatches, RegionEmbedding
from skad.image import (
    CNNSelfSimilarity,
    CompressedSensingTexture,
    MultiscaleSparseCoding,
    Texems,
)
from skad.image.density._multiscale_sparse_coding import group_codes
from skad.image.density._texems import (
    agreement,
    learned_texems,
    log_densities,
    texems_of,
)
from tests._pixels import Lines


def textures(n, seed=0, side=24, channels=()):
    """Return pictures (n, side, side, ...) of one texture at random."""
    rng = np.random.default_rng(seed)
    stripes = np.sin(np.arange(side) * np.pi / 2) * 0.1
    light = rng.normal(0.5, 0.03, size=(n, side, side, *channels))
    return light + stripes.reshape(side, *[1 for _ in channels])


# -------------------------------------------------------------------------- regions


def test_a_region_is_described_as_a_picture_by_itself():
    X = textures(2)
    embedding = RegionEmbedding(size=16, stride=8)
    found = embedding.fit_transform(X)
    assert found.shape == (2, 3, 3, 148)
    inner = X[:, 4:20, 4:20]  # around the cell in the middle
    alone = PatchEmbedding(neighborhood=1).fit(inner)
    expected = np.concatenate(
        [
            each.mean((2, 3)).numpy()
            for each in alone.feature_maps(torch.tensor(inner)[..., None])
        ],
        axis=1,
    )
    assert_allclose(found[:, 1, 1], expected, rtol=1e-4, atol=1e-5)
    wider = RegionEmbedding(size=16, stride=8, region_input=32).fit_transform(X)
    assert wider.shape == found.shape
    assert not np.allclose(wider, found)


def test_regions_that_leave_pixels_out_are_an_error():
    with pytest.raises(ValueError, match="stride=8 must be at most size=4"):
        RegionEmbedding(size=4).fit(textures(2))
    with pytest.raises(ValueError, match="region_stride=8 must be at most"):
        CNNSelfSimilarity(region_size=4).fit(textures(2))


# ------------------------------------------------------------------ self-similarity

SIMILAR = {
    "backbone": Lines,
    "layers": ("fine",),
    "region_size": 6,
    "region_stride": 3,
    "random_state": 0,
}


def test_a_whole_dictionary_is_the_nearest_neighbours():
    """All regions, all components: plain distances of features of length one."""
    X, new = textures(4), textures(3, 1)
    whole = {"dictionary_size": 10**6, "explained_variance": 1.0}
    detector = CNNSelfSimilarity(**SIMILAR, **whole, n_neighbors=2).fit(X)
    embedding = RegionEmbedding(Lines, ("fine",), size=6, stride=3, normalization=None)

    def described(pictures):
        rows = embedding.fit(pictures).transform(pictures)
        return rows / np.abs(rows).sum(axis=-1, keepdims=True)

    known, asked = described(X).reshape(-1, 6), described(new)
    away = np.linalg.norm(asked[..., None, :] - known, axis=-1)
    regions = np.sort(away, axis=-1)[..., :2].mean(axis=-1)  # (3, 8, 8)
    maps, times = np.zeros((3, 24, 24)), np.zeros((24, 24))
    for i, j in np.ndindex(8, 8):
        rows, columns = (slice(max(0, 3 * k - 1), 3 * k + 5) for k in (i, j))
        maps[:, rows, columns] += regions[:, i, j, None, None]
        times[rows, columns] += 1
    assert_allclose(detector.transform(new), maps / times, rtol=1e-4, atol=1e-7)
    assert_allclose(
        -detector.score_samples(new), (maps / times).max(axis=(1, 2)), rtol=1e-4
    )


def test_the_dictionary_has_regions_near_the_centres():
    X = textures(6)
    detector = CNNSelfSimilarity(**SIMILAR, dictionary_size=7).fit(X)
    assert 1 <= len(detector.dictionary_) <= 7
    features = detector._measured(torch.tensor(X)[..., None])
    coded = (features.double().numpy() - detector.mean_) @ detector.components_
    away = np.abs(coded.reshape(-1, 1, coded.shape[-1]) - detector.dictionary_.numpy())
    assert away.max(axis=-1).min(axis=0).max() < 1e-12
    # the components hold what they should, and one fewer would not
    everything = coded.shape[-1]
    rows = features.double().numpy().reshape(-1, 6)
    variances = np.sort(np.linalg.eigvalsh(np.cov(rows.T)))[::-1]
    shares = np.cumsum(variances) / variances.sum()
    assert shares[everything - 1] >= 0.95
    assert everything == 1 or shares[everything - 2] < 0.95


def test_the_built_in_filters_keep_their_length():
    X = torch.tensor(textures(2))[..., None]
    for normalize, unit in [(None, False), (True, True), (False, False)]:
        detector = CNNSelfSimilarity(normalize=normalize, random_state=0)
        detector.fit(X[..., 0].numpy())
        lengths = detector._measured(X).abs().sum(-1)
        assert torch.allclose(lengths, torch.ones_like(lengths)) == unit


def test_maps_of_resized_pictures_have_their_own_size():
    X = textures(4)
    detector = CNNSelfSimilarity(**SIMILAR, image_size=12, smoothing=1).fit(X)
    assert detector.transform(X).shape == X.shape
    other = clone(detector).set_params(smoothing=0).fit(X)
    assert_array_equal(other.dictionary_, detector.dictionary_)
    assert other.transform(X).std() > detector.transform(X).std()


# ------------------------------------------------------------------------- projections


def test_levels_of_raw_patches_are_those_of_smaller_pictures():
    X = textures(2, channels=(2,))
    found = RawPatches(3, 2, n_levels=2, center=False).fit_transform(X)
    assert found.shape == (2, 12, 12, 36)
    kernel = np.array([1, 4, 6, 4, 1]) / 16
    wide = np.pad(X, [(0, 0), (2, 2), (2, 2), (0, 0)], "edge")
    half = np.zeros_like(X)
    for i, j in np.ndindex(5, 5):
        half += kernel[i] * kernel[j] * wide[:, i : i + 24, j : j + 24]
    half = RawPatches(3, 2, center=False).fit_transform(half[:, ::2, ::2])  # 6 x 6
    assert_allclose(found[..., :18], RawPatches(3, 2, center=False).fit_transform(X))
    expected = half.repeat(2, axis=1).repeat(2, axis=2)
    assert_allclose(found[..., 18:], expected, atol=1e-6)


def test_projections_of_one_gaussian():
    """Scores are those of a Gaussian of the projected patches, level by level."""
    X, new = textures(8), textures(3, 1)
    detector = CompressedSensingTexture(
        patch_size=3,
        stride=2,
        n_levels=2,
        n_projections=4,
        n_components=1,
        smoothing=0,
        random_state=0,
    ).fit(X)
    drawn = np.random.RandomState(0).normal(size=(9, 4)) / 2
    assert_allclose(detector.projection_, drawn)
    patches = RawPatches(3, 2, n_levels=2, center=False).fit(X)
    known, asked = patches.transform(X), patches.transform(new)
    expected = 0
    for level in (slice(0, 9), slice(9, 18)):
        rows = known[..., level].reshape(-1, 9) @ drawn
        noise = 1e-4 * np.square(drawn).sum(axis=0).mean()
        covariance = np.cov(rows.T, bias=True) + noise * np.eye(4)
        own = multivariate_normal(rows.mean(axis=0), covariance)
        expected = expected - own.logpdf(asked[..., level] @ drawn) / 2
    found = detector._patches(torch.tensor(new)[..., None])
    assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_a_square_orthogonal_projection_changes_nothing():
    """But that the densities of all patches are scaled alike."""
    X, new = textures(8), torch.tensor(textures(3, 1))[..., None]
    detector = CompressedSensingTexture(
        patch_size=2, stride=2, n_levels=1, n_projections=4, n_components=1
    )

    class Turned(CompressedSensingTexture):
        def _draw(self, random):
            super()._draw(random)
            turn = np.linalg.qr(np.random.default_rng(7).normal(size=(4, 4)))[0]
            self.projection_ = torch.as_tensor(self.turn(turn))

    found = []
    for turn in (lambda matrix: matrix, lambda matrix: np.eye(4)):
        one = Turned(**detector.get_params())
        one.turn = turn
        found.append(one.fit(X)._patches(new))
    assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-4)


# ------------------------------------------------------------------------------ texems


def test_one_texem_is_a_gaussian_of_every_pixel():
    """Its novelty is the log density of pixels whose channels vary together."""
    rng = np.random.default_rng(0)
    patches = rng.normal(size=(200, 3, 2)) @ [[1.0, 0.5], [0.0, 0.3]] + 4
    found, _ = learned_texems(torch.tensor(patches), 1, 0.01, 50, 0)
    asked = rng.normal(size=(5, 3, 2)) + 4
    expected = 0
    for j in range(3):
        own = patches[:, j]
        covariance = np.cov(own.T, bias=True) + 0.01 * np.eye(2)
        expected += multivariate_normal(own.mean(axis=0), covariance).logpdf(
            asked[:, j]
        )
    assert_allclose(log_densities(torch.tensor(asked), *found)[:, 0], expected)


def test_texems_of_grey_pictures_are_a_diagonal_mixture():
    rng = np.random.default_rng(0)
    rows = np.concatenate([rng.normal(size=(90, 4)), rng.normal(6, 2, size=(30, 4))])
    start = np.repeat([0, 1], [90, 30])
    found = texems_of(
        torch.tensor(rows)[..., None], torch.eye(2, dtype=torch.float64)[start], 1e-3
    )
    mixture = GaussianMixture(
        2,
        covariance_type="diag",
        reg_covar=1e-3,
        weights_init=found[0],
        means_init=found[1][..., 0],
        precisions_init=1 / found[2][..., 0, 0],
        tol=0,
        max_iter=30,
    )
    with pytest.warns(ConvergenceWarning):
        mixture.fit(rows)
    (weights, means, covariances), n_iter = learned_texems(
        torch.tensor(rows)[..., None], 2, 1e-3, 200, 0, tol=-1
    )
    assert n_iter == 200
    order = weights.argsort(descending=True)
    assert_allclose(weights[order], mixture.weights_, rtol=1e-3)
    assert_allclose(means[order][..., 0], mixture.means_, atol=1e-3)
    assert_allclose(covariances[order][..., 0, 0], mixture.covariances_, rtol=1e-3)


def test_a_rotation_of_colours_leaves_texems_alone():
    X, new = textures(6, channels=(3,)), textures(3, 1, channels=(3,))
    X, new = X * [1, 0.8, 0.5], new * [1, 0.8, 0.5]
    turn = Rotation.from_euler("xyz", [0.1, 0.2, -0.1]).as_matrix()
    detector = Texems(n_levels=2, n_texems=1, random_state=0)
    expected = clone(detector).fit(X).score_samples(new)
    found = clone(detector).fit(X @ turn).score_samples(new @ turn)
    assert_allclose(found, expected, rtol=1e-4)


def test_adjacent_levels_have_to_agree():
    levels = [torch.tensor(each) for each in ([5.0, 0, 0], [0.0, 2, 1], [4.0, 3, 0])]
    assert_array_equal(agreement(levels), [0, 2, 0])
    assert_array_equal(agreement(levels[:1]), levels[0])
    # above one just where two adjacent levels exceed all normal patches
    X = textures(6)
    detector = Texems(n_levels=2, n_texems=2, max_patches=None, random_state=0).fit(X)
    found = detector._patches(torch.tensor(X)[..., None])
    assert found.max() <= 1 + 1e-4
    bad = X[:1].copy()
    bad[0, 6:18, 6:18] += 0.5
    assert (detector._patches(torch.tensor(bad)[..., None]) > 1).any()


# --------------------------------------------------------------------- dictionaries


def objective(codes, rows, atoms, penalty, group_penalty):
    """Return what the codes (b, g, k) of rows cost, (b,)."""
    left = rows - torch.einsum("bgk,gkd->bd", codes, atoms)
    prices = penalty * codes.abs().sum(2) + group_penalty * codes.norm(dim=2)
    return left.square().sum(1) / 2 + prices.sum(1)


def test_orthonormal_atoms_are_shrunk_in_closed_form():
    rng = np.random.default_rng(0)
    atoms = torch.tensor(np.linalg.qr(rng.normal(size=(6, 6)))[0]).view(2, 3, 6)
    rows = torch.tensor(rng.normal(size=(20, 6)) * 2)
    found = group_codes(rows, atoms, 0.4, 0.7, 50).numpy()
    for row, code in zip(rows.numpy(), found, strict=True):
        for group, own in zip(atoms.numpy(), code, strict=True):
            products = group @ row
            soft = np.sign(products) * np.maximum(np.abs(products) - 0.4, 0)
            length = np.linalg.norm(soft)
            expected = soft * max(0, 1 - 0.7 / length) if length else soft
            assert_allclose(own, expected, atol=1e-10)


def test_group_codes_meet_the_conditions_of_a_minimum():
    rng = np.random.default_rng(0)
    atoms = rng.normal(size=(3, 8, 10))
    atoms = torch.tensor(atoms / np.linalg.norm(atoms, axis=2, keepdims=True))
    rows = torch.tensor(rng.normal(size=(15, 10)) * 3)
    penalty, group_penalty = 0.3, 0.5
    codes = group_codes(rows, atoms, penalty, group_penalty, 3000)
    left = rows - torch.einsum("bgk,gkd->bd", codes, atoms)
    products = torch.einsum("gkd,bd->bgk", atoms, left)
    lengths = codes.norm(dim=2, keepdim=True).expand_as(codes)
    used, alive = codes != 0, lengths > 0
    assert used.any()
    assert not alive.all()
    expected = penalty * codes.sign() + group_penalty * codes / lengths
    assert_allclose(products[used], expected[used], atol=1e-6)
    assert (products[alive & ~used].abs() <= penalty + 1e-6).all()
    # a group of zeros: what is left of its products is no longer than its price
    soft = (products.abs() - penalty).clamp(min=0).norm(dim=2)
    assert (soft[~alive[..., 0]] <= group_penalty + 1e-6).all()
    # without a price of groups it is the lasso of all atoms
    lasso = group_codes(rows, atoms, penalty, 0, 3000)
    expected = sparse_encode(
        rows.numpy(),
        atoms.flatten(0, 1).numpy(),
        algorithm="lasso_cd",
        alpha=penalty,
        max_iter=10000,
    )
    expected = torch.tensor(expected).view(15, 3, 8)
    assert_allclose(
        objective(lasso, rows, atoms, penalty, 0),
        objective(expected, rows, atoms, penalty, 0),
        rtol=1e-3,
    )


def test_multiscale_sparse_coding_is_the_distance_of_three_numbers():
    X, new = textures(4, channels=(2,)), textures(2, 1, channels=(2,))
    detector = MultiscaleSparseCoding(
        n_components=6,
        n_levels=2,
        patch_size=3,
        stride=2,
        n_steps=40,
        max_patches=None,
        random_state=0,
    ).fit(X)
    assert detector.atoms_.shape == (2, 6, 18)
    assert_allclose(np.linalg.norm(detector.atoms_, axis=2), 1)
    embedding = RawPatches(3, 2, n_levels=2).fit(X)  # less the mean of each patch
    known, looked = (
        embedding.transform(each).reshape(-1, 2, 18).astype(float) for each in (X, new)
    )
    known = known.transpose(1, 0, 2).reshape(-1, 18)  # of both levels
    unit = np.sqrt((known**2).mean())
    atoms = torch.tensor(detector.atoms_)

    def numbers(patches):
        rows = torch.tensor(patches / unit)
        codes = group_codes(rows, atoms, 1, 1, 40)
        left = rows - torch.einsum("bgk,gkd->bd", codes, atoms)
        lengths = [codes.abs().sum((1, 2)), codes.norm(dim=2).sum(1)]
        return torch.stack([left.square().sum(1), *lengths], 1).numpy()

    known, found = numbers(known), numbers(looked[:, 0])  # as it is, the first level
    inverse = np.linalg.inv(np.cov(known.T, bias=True))
    away = found - known.mean(axis=0)
    expected = np.einsum("ni,ij,nj->n", away, inverse, away)
    patches = detector._patches(torch.tensor(new))
    assert_allclose(patches.flatten(), expected, rtol=1e-3)


def test_a_texture_from_farther_away_stays_normal():
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:48, :48] / 8

    def woven(n, scale):
        shifts = rng.uniform(0, 2 * np.pi, size=(2, n, 1, 1))
        waves = np.sin(2 * np.pi * scale * rows + shifts[0])
        waves = waves + np.sin(2 * np.pi * scale * columns + shifts[1])
        return 0.5 + 0.1 * waves + rng.normal(0, 0.005, size=(n, 48, 48))

    X, new, far = woven(6, 1), woven(3, 1), woven(3, 2)

    def ratio(n_levels):
        detector = MultiscaleSparseCoding(
            n_components=12,
            n_levels=n_levels,
            n_steps=50,
            max_patches=500,
            pooling="mean",
            contamination=0.1,
            random_state=0,
        ).fit(X)
        return detector.score_samples(far).mean() / detector.score_samples(new).mean()

    assert ratio(2) < 1.3
    assert ratio(1) > 50


def test_pictures_of_nothing_are_coded_by_nothing():
    X = np.full((5, 16, 16), 0.5)
    detector = MultiscaleSparseCoding(n_components=4, n_levels=2, random_state=0)
    with pytest.warns(UserWarning, match="tells none of them"):
        detector.fit(X)
    bad = X[:1].copy()
    bad[0, 4:9, 4:9] = 1
    assert np.isfinite(detector.score_samples(bad)).all()
    assert (detector.predict(bad) == -1).all()
