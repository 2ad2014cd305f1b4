"""PCA, kernel PCA and sketches against closed forms, naive loops and bounds."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import sqrtm
from scipy.stats import chi2
from sklearn.decomposition import PCA, KernelPCA
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import pairwise_kernels
from sklearn.preprocessing import StandardScaler

from skad.density import Mahalanobis
from skad.subspace import KernelPCAReconstruction, MatrixSketch, PCAReconstruction
from skad.subspace._left_out import left_out
from skad.subspace._pca import compress, residual_limit, scatter_factor
from skad.subspace._sketch import shrink
from tests._shared import peer_figures, tables

AS = pytest.mark.parametrize("as_array", [np.asarray, torch.as_tensor])
MEASURES = ["both", "reconstruction", "hotelling"]


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(3, 6))
    train = rng.normal(size=(150, 3)) @ mixing + rng.normal(size=(150, 6)) * 0.3 + 5
    test = rng.normal(size=(20, 3)) @ mixing * 2 + rng.normal(size=(20, 6)) + 5
    return train, test


# ---------------------------------------------------------------------------------- PCA


def pca_statistics(train, test, k):
    """Q, T2 and their control limits from scikit-learn's PCA."""
    pca = PCA(svd_solver="full").fit(train)
    along = (test - pca.mean_) @ pca.components_.T
    variances = pca.explained_variance_
    squared = (along[:, k:] ** 2).sum(axis=1)
    hotelling = (along[:, :k] ** 2 / variances[:k]).sum(axis=1)
    first, second = variances[k:].sum(), (variances[k:] ** 2).sum()
    box = second / first * chi2(first**2 / second).ppf(0.99)
    return squared, hotelling, squared / box + hotelling / chi2(k).ppf(0.99)


@AS
@pytest.mark.parametrize("k", [1, 3, 5])
def test_pca_statistics_by_hand(rows, k, as_array):
    train, test = rows
    expected = pca_statistics(train, test, k)
    for measure, truth in zip(
        ["reconstruction", "hotelling", "both"], expected, strict=True
    ):
        detector = PCAReconstruction(k, measure=measure).fit(as_array(train))
        assert_allclose(-detector.score_samples(as_array(test)), truth, rtol=1e-9)


def test_pca_map_is_residual_and_complete_decomposition(rows):
    train, test = rows
    pca = PCA(2).fit(train)
    residual = test - pca.inverse_transform(pca.transform(test))
    detector = PCAReconstruction(2, measure="reconstruction").fit(train)
    assert_allclose(detector.transform(test), residual**2, atol=1e-10)
    # (e_i' M^(1/2) x)^2 with the symmetric root of M = P diag(1 / variances) P'
    M = pca.components_.T / pca.explained_variance_ @ pca.components_
    contributions = ((test - pca.mean_) @ np.real(sqrtm(M))) ** 2
    detector = PCAReconstruction(2, measure="hotelling").fit(train)
    assert_allclose(detector.transform(test), contributions, atol=1e-6)


@pytest.mark.parametrize("measure", MEASURES)
def test_pca_map_is_never_negative_and_sums_to_the_score(rows, measure):
    train, test = rows
    detector = PCAReconstruction(2, measure=measure).fit(train)
    maps = detector.transform(test)
    assert (maps >= 0).all()
    assert_allclose(maps.sum(axis=1), -detector.score_samples(test))


def test_hotelling_of_all_components_is_mahalanobis(rows):
    train, test = rows
    detector = PCAReconstruction(6, measure="hotelling").fit(train)
    sample = Mahalanobis().fit(train).score_samples(test) * 149 / 150
    assert_allclose(detector.score_samples(test), sample)


def test_pca_number_of_components(rows):
    train, _ = rows
    share = np.cumsum(PCA().fit(train).explained_variance_ratio_)
    for wanted in (0.2, 0.5, 0.9, 0.95):
        found = PCAReconstruction(wanted).fit(train).n_components_
        assert share[found - 1] >= wanted
        assert found == 1 or share[found - 2] < wanted
    variances = PCA().fit(train).explained_variance_
    kaiser = (variances > train.var(axis=0, ddof=1).mean()).sum()
    assert PCAReconstruction(None).fit(train).n_components_ == kaiser
    # a share leaves the residual a direction, Hotelling's statistic one of its own
    assert PCAReconstruction(0.9999).fit(train[:, :2]).n_components_ == 1
    assert PCAReconstruction(0.5).fit(train[:, :1]).n_components_ == 0
    assert (
        PCAReconstruction(0.5, measure="hotelling").fit(train[:, :1]).n_components_ == 1
    )
    with pytest.raises(ValueError, match="n_components=6 must be at most 5"):
        PCAReconstruction(6).fit(train)
    with pytest.raises(ValueError, match="n_components=7 must be at most 6"):
        PCAReconstruction(7, measure="hotelling").fit(train)


@pytest.mark.parametrize("measure", MEASURES)
def test_pca_standardize_is_a_scaler_before(rows, measure):
    train, test = rows
    scale = np.array([1, 1e3, 1e-3, 1, 1e6, 1])
    scaler = StandardScaler().fit(train)
    inside = PCAReconstruction(2, measure=measure, standardize=True).fit(train * scale)
    before = PCAReconstruction(2, measure=measure).fit(scaler.transform(train))
    expected = before.score_samples(scaler.transform(test))
    assert_allclose(inside.score_samples(test * scale), expected, rtol=1e-9)
    constant = np.c_[train, np.full(150, 0.1)]
    wider = PCAReconstruction(2, measure=measure, standardize=True).fit(constant)
    found = wider.score_samples(np.c_[test, np.full(20, 0.1)])
    assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("measure", MEASURES)
def test_pca_on_rank_deficient_data_still_ranks(measure):
    rng = np.random.default_rng(2)
    train = rng.normal(size=(100, 3)) @ rng.normal(size=(3, 8))
    for k in (2, 0.9, 5):
        detector = PCAReconstruction(k, measure=measure).fit(train)
        assert detector.n_components_ <= 3
        inside, outside = train[:20], train[:20] + rng.normal(size=(20, 8))
        scores = detector.score_samples(np.concatenate([inside, outside]))
        assert np.isfinite(scores).all()
        if measure != "hotelling":
            assert scores[:20].min() > scores[20:].max() or k == 2


def test_pca_resolves_variances_far_below_the_largest():
    rng = np.random.default_rng(3)
    basis, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    latent = rng.normal(size=(400, 6)) * np.logspace(0, -10, 6)  # variances to 1e-20
    latent -= latent.mean(axis=0)
    X = latent @ basis
    detector = PCAReconstruction(6, measure="hotelling", tol=1e-25).fit(X)
    _, values, vectors = np.linalg.svd(latent, full_matrices=False)
    truth = ((latent @ vectors.T / values) ** 2).sum(axis=1) * 399
    assert_allclose(-detector.score_samples(X), truth, rtol=1e-3)


@AS
@pytest.mark.parametrize("measure", MEASURES)
def test_pca_with_more_features_than_rows(measure, as_array):
    rng = np.random.default_rng(4)
    train, test = rng.normal(size=(2, 12, 300))
    detector = PCAReconstruction(3, measure=measure).fit(as_array(train))
    assert detector._factor_.shape == (12, 300)
    _, hotelling, _ = pca_statistics(train, test, 3)
    missing = ((test - train.mean(0)) ** 2).sum(1)
    components = PCA(svd_solver="full").fit(train).components_[:3]
    missing -= (((test - train.mean(0)) @ components.T) ** 2).sum(1)
    found = -detector.score_samples(as_array(test))
    if measure == "reconstruction":
        assert_allclose(found, missing)
    if measure == "hotelling":
        assert_allclose(found, hotelling)
    if measure == "both":
        assert (np.asarray(found) > missing / detector.residual_limit_).all()


@AS
@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("d", [6, 90])
def test_pca_in_batches_and_merged_is_fit(measure, d, as_array):
    rng = np.random.default_rng(5)
    train = as_array(rng.normal(size=(150, d)) @ rng.normal(size=(d, d)) + 100)
    test = as_array(rng.normal(size=(9, d)) + 100)
    whole = PCAReconstruction(3, measure=measure, standardize=True).fit(train)
    stream = PCAReconstruction(3, measure=measure, standardize=True)
    for start in range(0, 150, 40):
        stream.partial_fit(train[start : start + 40])
    first = PCAReconstruction(3, measure=measure, standardize=True).fit(train[:70])
    before = first.score_samples(test)
    second = PCAReconstruction(3, measure=measure, standardize=True).fit(train[70:])
    merged = first.merge(second)
    assert_array_equal(first.score_samples(test), before)
    for other in (stream, merged):
        assert other.n_samples_seen_ == 150
        assert_allclose(other.score_samples(test), whole.score_samples(test), rtol=1e-8)
        assert_allclose(other.offset_, whole.offset_, rtol=1e-8)
    with pytest.raises(ValueError, match="features"):
        whole.merge(PCAReconstruction().fit(train[:, :3]))


def test_scatter_factor_in_blocks(monkeypatch):
    rng = np.random.default_rng(6)
    X = rng.normal(size=(1000, 5)) + 3
    mean = X.mean(axis=0)
    monkeypatch.setattr("skad._array._BLOCK_ELEMENTS", 35)
    factor = scatter_factor(X, mean)
    assert factor.shape == (5, 5)
    assert_allclose(factor.T @ factor, (X - mean).T @ (X - mean), atol=1e-9)


def test_residual_limit_of_equal_variances_is_exact():
    found = residual_limit(np.full(4, 2.5), 0.95)
    assert found == pytest.approx(2.5 * chi2(4).ppf(0.95))


def test_pca_limits_hold_their_share_of_normal_rows():
    rng = np.random.default_rng(7)
    train = rng.normal(size=(20_000, 5)) * [5, 3, 1, 0.8, 0.5]
    detector = PCAReconstruction(2, confidence=0.9).fit(train)
    for measure, limit in (
        ("reconstruction", detector.residual_limit_),
        ("hotelling", detector.hotelling_limit_),
    ):
        one = PCAReconstruction(2, measure=measure).fit(train)
        inside = (-one.score_samples(train) < limit).mean()
        assert inside == pytest.approx(0.9, abs=0.01)


def test_pca_reaches_the_peer_on_real_tables(shared):
    figures = peer_figures(shared, "PCA")
    found = {
        key: roc_auc_score(y, -PCAReconstruction().fit(train).score_samples(test))
        for key, train, test, y in tables(shared)
    }
    # a few sets prefer fewer directions, all sets together do not
    assert all(found[key] > figures[key] - 0.06 for key in found)
    assert (
        found["cardio", "unsup"] > 0.85
    )  # rank deficient: the peer's scores are equal
    gain = [found[key] - figures[key] for key in found]
    assert np.mean(gain) > 0.04


# --------------------------------------------------------------------------- kernel PCA


def naive_error(train, test, kernel, k, **parameters):
    """Hoffmann's reconstruction error, sum by sum."""

    def value(x, y):
        return pairwise_kernels(x[None], y[None], metric=kernel, **parameters)[0, 0]

    n = len(train)
    K = np.array([[value(x, y) for y in train] for x in train])
    centred = np.empty((n, n))
    for i in range(n):
        for j in range(n):
            centred[i, j] = K[i, j] - K[i].mean() - K[:, j].mean() + K.mean()
    values, vectors = np.linalg.eigh(centred)
    alphas = (vectors[:, -k:] / np.sqrt(values[-k:])).T
    errors = []
    for z in test:
        kz = np.array([value(z, x) for x in train])
        potential = value(z, z) - 2 * kz.mean() + K.mean()
        scores = [
            sum(a[i] * (kz[i] - K[i].mean() - kz.mean() + K.mean()) for i in range(n))
            for a in alphas
        ]
        errors.append(potential - np.square(scores).sum())
    return np.array(errors)


@AS
@pytest.mark.parametrize(
    ("kernel", "parameters"),
    [
        ("rbf", {"gamma": 0.1}),
        ("poly", {"gamma": 0.1, "degree": 2, "coef0": 0.5}),
        ("linear", {}),
        ("sigmoid", {"gamma": 0.001, "coef0": 0.1}),
    ],
)
def test_kernel_pca_is_hoffmanns_error(rows, kernel, parameters, as_array):
    train, test = rows[0][:25], rows[1][:6]
    detector = KernelPCAReconstruction(3, kernel=kernel, **parameters)
    found = -detector.fit(as_array(train)).score_samples(as_array(test))
    naive = naive_error(train, test, kernel, 3, **parameters)
    assert_allclose(found, naive, rtol=1e-7)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_linear_kernel_is_pca(rows, k):
    train, test = rows
    kernel = KernelPCAReconstruction(k, kernel="linear").fit(train)
    linear = PCAReconstruction(k, measure="reconstruction").fit(train)
    expected = linear.score_samples(test)
    assert_allclose(kernel.score_samples(test), expected, rtol=1e-8)
    assert_allclose(kernel.transform(test), linear.transform(test), atol=1e-8)


def test_kernel_pca_scores_agree_with_scikit_learns(rows):
    train, test = rows
    peer = KernelPCA(4, kernel="rbf", gamma=0.05).fit(train)
    detector = KernelPCAReconstruction(4, gamma=0.05).fit(train)
    assert_allclose(detector.eigenvalues_, peer.eigenvalues_)
    kernel = pairwise_kernels(test, train, metric="rbf", gamma=0.05)
    mean = pairwise_kernels(train, metric="rbf", gamma=0.05).mean()
    distance = 1 - 2 * kernel.mean(axis=1) + mean
    expected = distance - (peer.transform(test) ** 2).sum(axis=1)
    assert_allclose(-detector.score_samples(test), expected)


def rbf_by_hand(X, Y):
    xp = torch if isinstance(X, torch.Tensor) else np
    return xp.exp(-0.1 * ((X[:, None] - Y[None]) ** 2).sum(2))


@AS
@pytest.mark.parametrize("kernel", ["rbf", "poly", "linear", "sigmoid", rbf_by_hand])
def test_kernel_pca_map_follows_the_squared_gradient(rows, kernel, as_array):
    train, test = rows
    gamma = 0.1 if kernel == "rbf" else 0.002
    detector = KernelPCAReconstruction(3, kernel=kernel, gamma=gamma, degree=2)
    detector.fit(as_array(train))
    step = 1e-5
    gradient = np.stack(
        [
            detector.score_samples(test + step * axis)
            - detector.score_samples(test - step * axis)
            for axis in np.eye(6)
        ],
        axis=1,
    )
    share = gradient**2 / (gradient**2).sum(axis=1, keepdims=True)
    score = -detector.score_samples(test)
    maps = np.asarray(detector.transform(as_array(test)))
    assert_allclose(maps, score[:, None] * share, atol=1e-4 * np.abs(score).max())
    assert_allclose(maps.sum(axis=1), score)


def test_callable_kernel_is_the_named_one(rows):
    train, test = rows
    named = KernelPCAReconstruction(3, gamma=0.1).fit(train)
    own = KernelPCAReconstruction(3, kernel=rbf_by_hand).fit(train)
    assert_allclose(own.score_samples(test), named.score_samples(test), rtol=1e-9)
    assert_allclose(own.transform(test), named.transform(test), atol=1e-6)


def test_rbf_map_points_far_beyond_the_kernels_reach(rows):
    train, _ = rows
    far = np.repeat(train[:1], 6, axis=0) + 1e4 * np.eye(6)
    maps = KernelPCAReconstruction(gamma=1.0).fit(train).transform(far)
    assert_array_equal(maps.argmax(axis=1), np.arange(6))
    assert (maps.max(axis=1) > 0.9 * maps.sum(axis=1)).all()


def test_kernel_pca_learns_from_a_sample_of_many_rows(rows):
    train, test = rows
    some = KernelPCAReconstruction(
        2, max_samples=40, contamination=0.1, random_state=3
    ).fit(train)
    assert some.rows_.shape == (40, 6)
    assert {tuple(row) for row in some.rows_} <= {tuple(row) for row in train}
    same = KernelPCAReconstruction(2, gamma=some.gamma_).fit(some.rows_)
    assert_allclose(some.score_samples(test), same.score_samples(test))
    assert (some.predict(train) == -1).sum() == 15  # all rows set the threshold
    other = KernelPCAReconstruction(2, max_samples=40, random_state=4).fit(train)
    assert abs(other.score_samples(test) - some.score_samples(test)).max() > 1e-4


def test_kernel_pca_gamma(rows):
    train, _ = rows
    assert KernelPCAReconstruction().fit(train).gamma_ == pytest.approx(
        1 / 6 / train.var()
    )
    assert KernelPCAReconstruction(gamma="auto").fit(train).gamma_ == 1 / 6


def test_kernel_pca_share_of_variance(rows):
    train, _ = rows
    every = KernelPCAReconstruction(149, tol=0.0).fit(train)
    share = np.cumsum(every.eigenvalues_) / every.eigenvalues_.sum()
    for wanted in (0.3, 0.7, 0.95):
        found = KernelPCAReconstruction(wanted).fit(train).n_components_
        assert share[found - 1] >= wanted > (share[found - 2] if found > 1 else 0)


# ------------------------------------------------------------------------------- sketch


def exact_scores(A, X, k):
    """Leverage and projection distance from the singular value decomposition."""
    _, values, vectors = np.linalg.svd(A, full_matrices=False)
    along = X @ vectors[:k].T
    leverage = (along**2 / values[:k] ** 2).sum(axis=1)
    return leverage, (X**2).sum(axis=1) - (along**2).sum(axis=1)


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 60),
    st.integers(2, 12),
    st.integers(1, 10),
    st.floats(0, 3),
    st.integers(0, 10**6),
)
def test_sketch_keeps_the_bounds_of_frequent_directions(n, d, size, decay, seed):
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(n + 1, d)) * np.arange(1, d + 1) ** -decay + rng.normal(size=d)
    size = size + 1
    detector = MatrixSketch(1, sketch_size=size).fit(A)
    assert len(detector.sketch_) <= size
    B = np.concatenate([detector.sketch_, detector._buffer_])
    gap = np.linalg.eigvalsh(A.T @ A - B.T @ B)
    total = np.linalg.norm(A) ** 2
    assert gap.min() >= -1e-9 * total
    assert gap.max() <= detector.sketch_error_ + 1e-9 * total
    # Ghashami et al. 2016, theorem 1.1, for every rank below the size of the sketch
    tails = np.cumsum(np.linalg.svd(A, compute_uv=False)[::-1] ** 2)[::-1]
    for k in range(min(size, len(tails))):
        assert detector.sketch_error_ <= tails[k] / (size - k) + 1e-9 * total


@AS
@pytest.mark.parametrize("measure", ["leverage", "projection"])
def test_sketch_is_exact_where_it_has_the_rank(measure, as_array):
    rng = np.random.default_rng(8)
    A = rng.normal(size=(300, 5)) @ rng.normal(size=(5, 12))
    X = rng.normal(size=(10, 12))
    detector = MatrixSketch(3, measure=measure, sketch_size=5).fit(as_array(A))
    leverage, projection = exact_scores(A, X, 3)
    expected = leverage if measure == "leverage" else projection
    assert_allclose(-detector.score_samples(as_array(X)), expected, rtol=1e-8)
    assert detector.sketch_error_ <= 1e-9 * np.linalg.norm(A) ** 2
    maps = np.asarray(detector.transform(as_array(X)))
    assert (maps >= 0).all()
    assert_allclose(maps.sum(axis=1), expected, rtol=1e-8)


@pytest.mark.parametrize("size", [10, 20, 40])
def test_sketch_scores_are_within_the_perturbation_bound(size):
    """The directions turn by at most the sketch's error over the spectral gap."""
    rng = np.random.default_rng(9)
    k = 4
    A = rng.normal(size=(2000, k)) * 3 @ np.linalg.qr(rng.normal(size=(60, k)))[0].T
    A += rng.normal(size=A.shape) * 0.1
    X = rng.normal(size=(50, 60))
    values = np.linalg.svd(A, compute_uv=False)
    gap = values[k - 1] ** 2 - values[k] ** 2
    for measure, exact in zip(
        ["leverage", "projection"], exact_scores(A, X, k), strict=True
    ):
        detector = MatrixSketch(k, measure=measure, sketch_size=size).fit(A)
        error = np.abs(-detector.score_samples(X) - exact)
        assert detector.sketch_error_ > 0
        turn = detector.sketch_error_ / gap  # Davis and Kahan 1970
        assert turn < 0.1
        if measure == "projection":
            assert (error <= turn * (X**2).sum(axis=1)).all()
        else:
            assert (error <= 0.05 * exact.mean()).all()
            assert np.corrcoef(-detector.score_samples(X), exact)[0, 1] > 0.999


def test_sketch_does_not_know_where_batches_end():
    rng = np.random.default_rng(10)
    A = rng.normal(size=(333, 30))
    whole = MatrixSketch(5, sketch_size=12).fit(A)
    for step in (2, 12, 13, 100):
        stream = MatrixSketch(5, sketch_size=12)
        for start in range(0, 333, step):
            stream.partial_fit(A[start : start + step])
        assert_array_equal(stream.components_, whole.components_)
        assert_array_equal(stream.sketch_, whole.sketch_)
        assert stream.sketch_error_ == whole.sketch_error_
        assert stream.n_samples_seen_ == 333
        assert stream.offset_ == whole.offset_


def test_failed_partial_fit_changes_nothing():
    rng = np.random.default_rng(11)
    A = rng.normal(size=(50, 8))
    for detector in (MatrixSketch(3, sketch_size=5), PCAReconstruction(2)):
        detector.partial_fit(A)
        before = detector.score_samples(A)
        with pytest.raises(ValueError, match="NaN"):
            detector.partial_fit(np.where(A > 2, np.nan, A))
        with pytest.raises(ValueError, match="features"):
            detector.partial_fit(A[:, :4])
        assert_array_equal(detector.score_samples(A), before)
        assert detector.n_samples_seen_ == 50


@AS
def test_merged_sketches_keep_the_bound(as_array):
    rng = np.random.default_rng(12)
    A = rng.normal(size=(500, 40)) * np.arange(1, 41) ** -0.5
    parts = [
        MatrixSketch(4, sketch_size=15).fit(as_array(A[rows]))
        for rows in (slice(0, 100), slice(100, 333), slice(333, 500))
    ]
    before = parts[0].score_samples(A)
    merged = parts[0].merge(parts[1]).merge(parts[2])
    assert_array_equal(parts[0].score_samples(A), before)
    assert merged.n_samples_seen_ == 500
    B = np.concatenate([merged.sketch_, merged._buffer_])
    gap = np.linalg.eigvalsh(A.T @ A - B.T @ B)
    assert gap.min() >= -1e-9
    assert gap.max() <= merged.sketch_error_ + 1e-9
    tails = np.cumsum(np.linalg.svd(A, compute_uv=False)[::-1] ** 2)[::-1]
    for k in range(15):
        assert merged.sketch_error_ <= tails[k] / (15 - k)
    with pytest.raises(ValueError, match="features"):
        merged.merge(MatrixSketch(2, sketch_size=15).fit(A[:, :5]))


def test_shrink_lowers_every_squared_singular_value_alike():
    rows = np.diag([5.0, 4.0, 3.0, 1.0])
    found, loss = shrink(rows, 2)
    assert loss == 9
    assert_allclose(np.linalg.svd(found, compute_uv=False) ** 2, [16, 7])
    assert shrink(rows, 4)[1] == 0


def test_sketch_refuses_what_does_not_fit():
    X = np.random.default_rng(0).normal(size=(20, 4))
    with pytest.raises(
        ValueError, match="n_components=5 must be less than sketch_size=5"
    ):
        MatrixSketch(5, sketch_size=5).fit(X)
    with pytest.raises(
        ValueError, match="n_components=4 must be less than n_features=4"
    ):
        MatrixSketch(4, measure="projection").fit(X)
    assert MatrixSketch(10).fit(X).n_components_ == 4


def test_factors_through_products_keep_what_orthogonal_ones_do():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5)) * [1e2, 1.0, 1e-2, 10, 0.1]  # units of their own
    expected = np.linalg.svd(X, compute_uv=False)
    assert_allclose(np.linalg.svd(compress(X), compute_uv=False), expected, rtol=1e-11)
    X[:, 4] = X[:, 3] * (1 + 1e-7 * rng.normal(size=400))  # all but the same
    expected = np.linalg.svd(X / np.linalg.norm(X, axis=0), compute_uv=False)
    found = compress(X / np.linalg.norm(X, axis=0))
    assert_allclose(np.linalg.svd(found, compute_uv=False), expected, rtol=1e-6)
    # of squares nothing of that direction would be left
    assert expected[-1] < 1e-6


def test_rows_are_factored_without_orthogonal_factors_where_they_can(monkeypatch):
    X = np.random.default_rng(0).normal(size=(400, 5))
    expected = np.linalg.qr(X)[1]
    monkeypatch.delattr(np.linalg, "qr")
    assert_allclose(np.abs(compress(X)), np.abs(expected), atol=1e-12)


@pytest.mark.parametrize("far", [1, 30, 1000])
def test_left_out_finds_the_smallest_eigenvector_however_far_a_row(far):
    rng = np.random.default_rng(6)
    X = rng.normal(size=(60, 8)) * np.logspace(0, -3, 8)
    X[0] *= far
    X -= X.mean(axis=0)
    _, values, vectors = np.linalg.svd(X, full_matrices=False)
    squares, variances, k, gain = (X @ vectors.T) ** 2, values**2, 5, 60 / 59
    residual, around = squares[:, k:].sum(axis=1), squares[:, k:] @ variances[k:]
    found, _ = left_out(squares[:, :k], variances[:k], residual, around, gain)
    for i in range(60):
        z = np.sqrt([*squares[i, :k], residual[i]])
        poles = np.diag([*variances[:k], around[i] / residual[i]])
        vector = np.linalg.eigh(poles - gain * np.outer(z, z))[1][:, 0]
        assert_allclose(found[i], (vector @ z) ** 2, rtol=1e-5)
