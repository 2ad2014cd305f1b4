"""Mahalanobis, GMM and KDE against closed forms, naive sums and scikit-learn."""

import warnings

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy.linalg import sqrtm
from scipy.spatial.distance import cdist
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.covariance import OAS, EllipticEnvelope, LedoitWolf, MinCovDet
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import KernelDensity

from skad._organising import batch_step
from skad.density import GMM, KDE, SOM, Mahalanobis
from skad.density._gmm import corr_max
from skad.density._kde import row_keys
from skad.density._som import start_of_map
from tests._shared import peer_figures, tables

AS = pytest.mark.parametrize("as_array", [np.asarray, torch.as_tensor])


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(1)
    mixing = rng.normal(size=(4, 4))
    train = rng.normal(size=(200, 4)) @ mixing + [1, -2, 0, 30]
    test = 3 * rng.normal(size=(25, 4)) @ mixing + [1, -2, 0, 30]
    return train, test


# -------------------------------------------------------------------------- Mahalanobis


@AS
def test_mahalanobis_is_the_quadratic_form(rows, as_array):
    train, test = rows
    centred = test - train.mean(axis=0)
    precision = np.linalg.inv(np.cov(train.T, bias=True))
    detector = Mahalanobis().fit(as_array(train))
    found = detector.score_samples(as_array(test))
    assert_allclose(-found, np.einsum("ni,ij,nj->n", centred, precision, centred))


def test_mahalanobis_map_is_the_corr_max_partition(rows):
    train, test = rows
    covariance = np.cov(train.T, bias=True)
    deviation = np.sqrt(np.diag(covariance))
    root = sqrtm(np.linalg.inv(covariance / np.outer(deviation, deviation)))
    white = (test - train.mean(axis=0)) / deviation @ root.T
    assert_allclose(Mahalanobis().fit(train).transform(test), white**2, rtol=1e-8)


@pytest.mark.parametrize(
    ("covariance", "peer"),
    [
        ("ledoit_wolf", LedoitWolf()),
        ("oas", OAS()),
        ("mcd", MinCovDet(random_state=0)),
    ],
)
def test_mahalanobis_is_scikit_learns(rows, covariance, peer):
    train, test = rows
    detector = Mahalanobis(covariance, random_state=0).fit(train)
    peer.fit(train)
    assert_allclose(detector.covariance_, peer.covariance_, rtol=1e-7)
    assert_allclose(detector.location_, peer.location_, rtol=1e-9)
    assert_allclose(-detector.score_samples(test), peer.mahalanobis(test), rtol=1e-6)


def test_mahalanobis_mcd_labels_as_elliptic_envelope(rows):
    train, test = rows
    peer = EllipticEnvelope(random_state=0, support_fraction=0.8).fit(train)
    detector = Mahalanobis(
        "mcd", support_fraction=0.8, contamination=0.1, random_state=0
    ).fit(train)
    assert_allclose(detector.score_samples(test), peer.score_samples(test), rtol=1e-6)
    assert_array_equal(detector.predict(test), peer.predict(test))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_mahalanobis_over_ten_decades_of_variance(dtype):
    rng = np.random.default_rng(2)
    basis, _ = np.linalg.qr(rng.normal(size=(6, 6)))
    latent = rng.normal(size=(500, 6))
    latent = (latent - latent.mean(0)) @ np.linalg.inv(
        np.linalg.cholesky(np.cov(latent.T, bias=True)).T
    )
    rtol = 1e-9 if dtype is np.float64 else 1e-3
    scales = np.logspace(0, -5, 6)  # variances from 1 to 1e-10
    # scales along the features: the correlation stays well conditioned in any dtype
    X = (latent * scales).astype(dtype)
    found = -Mahalanobis().fit(X).score_samples(X)
    assert_allclose(found, (latent**2).sum(axis=1), rtol=rtol)
    if dtype is np.float64:  # mixed, they need the digits of double precision
        X = latent * scales @ basis
        found = -Mahalanobis().fit(X).score_samples(X)
        assert_allclose(found, (latent**2).sum(axis=1), rtol=1e-4)


def test_mahalanobis_on_rank_deficient_data():
    rng = np.random.default_rng(3)
    latent = rng.normal(size=(100, 3))
    X = latent @ rng.normal(size=(3, 7))
    truth = Mahalanobis().fit(latent).score_samples(latent)
    detector = Mahalanobis().fit(X)
    assert_allclose(detector.score_samples(X), truth, rtol=1e-6)
    probe = rng.normal(size=(10, 7))  # leaves the three dimensions
    standard = (probe - X.mean(axis=0)) / X.std(axis=0)
    values, vectors = np.linalg.eigh(np.corrcoef(X.T))
    values = np.maximum(values, 1e-12 * values.max())
    expected = np.sum((standard @ vectors) ** 2 / values, axis=1)
    assert_allclose(-detector.score_samples(probe), expected, rtol=1e-6)
    assert expected.min() > 1e9


def test_mahalanobis_of_few_rows_is_the_pseudo_inverse():
    rng = np.random.default_rng(3)
    X, probe = rng.normal(size=(6, 8)), rng.normal(size=(10, 8))
    detector = Mahalanobis(contamination=0.1).fit(X)
    standard = (probe - X.mean(axis=0)) / X.std(axis=0)
    inverse = np.linalg.pinv(np.corrcoef(X.T), rcond=1e-10, hermitian=True)
    expected = np.einsum("ni,ij,nj->n", standard, inverse, standard)
    assert_allclose(-detector.score_samples(probe), expected, rtol=1e-6)


@AS
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("scale", [1.0, 1e-6, 1e5])
def test_mahalanobis_sees_a_broken_relation(scale, dtype, as_array):
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 200))
    X = np.c_[a, 2 * a, b, np.full(200, 7.0), np.zeros(200)] * scale
    X = X.astype(dtype)
    detector = Mahalanobis().fit(as_array(X))
    assert np.mean(np.asarray(detector.predict(as_array(X))) == -1) < 0.1
    kept = np.array([1.0, 2.0, 0.0, 7.0, 0.0])
    moves = [[0, 0, 0, 0, 0], [0, -4, 0, 0, 0], [0, 0, 0, 1, 0], [0, 0, 0, 0, 1]]
    rows = ((kept + np.array(moves)) * scale).astype(dtype)
    scores = np.asarray(detector.score_samples(as_array(rows)))
    assert scores[0] > -10
    assert (scores[1:] < -1e9).all()


def test_mahalanobis_ignores_constant_columns(rows):
    train, test = rows
    for n in (200, 20_000):
        long = np.tile(train, (n // 200, 1))
        constant = np.full((len(long), 1), 0.1)
        plain = Mahalanobis().fit(long)
        wider = Mahalanobis().fit(np.c_[long, constant])
        scores = wider.score_samples(np.c_[test, np.full(25, 0.1)])
        assert_allclose(scores, plain.score_samples(test), rtol=1e-9)


@pytest.mark.parametrize(("detector", "scale"), [(KDE(), 1e-9), (GMM(), 1e-12)])
def test_one_score_for_all_is_warned_of(detector, scale):
    X = np.random.default_rng(0).normal(size=(300, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        clone(detector).fit(X)
    with pytest.warns(UserWarning, match="300 training samples got the score"):
        clone(detector).fit(X * scale)


@AS
def test_mahalanobis_low_rank_is_the_dense_inverse(as_array):
    rng = np.random.default_rng(4)
    X = rng.normal(size=(30, 5)) @ rng.normal(size=(5, 80))
    X += rng.normal(size=(30, 80)) * rng.uniform(0.1, 2, size=80)
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    standard = (X - mean) / deviation
    values, vectors = np.linalg.eigh(standard.T @ standard / 30)
    factors = vectors[:, -4:] * np.sqrt(values[-4:])  # (d, rank)
    noise = 1 - (factors**2).sum(axis=1)
    dense = factors @ factors.T + np.diag(noise)
    assert_allclose(np.diag(dense), 1)
    probe = (rng.normal(size=(10, 80)) - mean) / deviation
    truth = np.einsum("ni,ij,nj->n", probe, np.linalg.inv(dense), probe)
    detector = Mahalanobis("low_rank", rank=4).fit(as_array(X))
    found = detector.score_samples(as_array(probe * deviation + mean))
    assert_allclose(-found, truth, rtol=1e-9)
    with pytest.raises(ValueError, match="rank=30"):
        Mahalanobis("low_rank", rank=30).fit(X)


def test_mahalanobis_warns_of_no_more_rows_than_features():
    rows = np.random.default_rng(0).normal(size=(60, 40))
    for n in (10, 41):
        with pytest.warns(UserWarning, match="every new row opens a direction"):
            Mahalanobis().fit(rows[:n])
    plane = rows[:, :3] @ rows[:3]  # the rows span three directions, and so do others
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Mahalanobis().fit(rows[:42])
        Mahalanobis().fit(plane[:30])
        Mahalanobis("ledoit_wolf").fit(rows[:10])


def test_mahalanobis_of_thousands_of_features_says_what_to_take():
    X = np.random.default_rng(0).normal(size=(20, 5001))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Mahalanobis("low_rank", rank=3).fit(X).transform(X[:1])
        Mahalanobis()._check_parameters(X[:, :5000])
    assert found.shape == (1, 5001)
    with pytest.warns(UserWarning, match="covariance='low_rank' takes seconds"):
        Mahalanobis()._check_parameters(X)


@AS
@pytest.mark.parametrize("covariance", ["empirical", "oas"])
def test_mahalanobis_in_batches_and_merged_is_fit(rows, covariance, as_array):
    train, test = as_array(rows[0] + 1e4), as_array(rows[1] + 1e4)
    whole = Mahalanobis(covariance).fit(train)
    stream = Mahalanobis(covariance)
    for start in range(0, 200, 30):
        stream.partial_fit(train[start : start + 30])
    first = Mahalanobis(covariance).fit(train[:70])
    before = first.score_samples(test)
    merged = first.merge(Mahalanobis(covariance).fit(train[70:]))
    assert_array_equal(first.score_samples(test), before)
    for other in (stream, merged):
        assert other.n_samples_seen_ == 200
        assert_allclose(other.location_, whole.location_, rtol=1e-9)
        assert_allclose(other.covariance_, whole.covariance_, rtol=1e-9)
        assert_allclose(other.score_samples(test), whole.score_samples(test), rtol=1e-9)
        assert_allclose(other.offset_, whole.offset_, rtol=1e-9)
    with pytest.raises(ValueError, match="features"):
        whole.merge(Mahalanobis(covariance).fit(train[:, :3]))


def test_mahalanobis_learns_in_batches_only_where_it_can():
    for covariance in ("ledoit_wolf", "mcd", "low_rank"):
        assert not hasattr(Mahalanobis(covariance), "partial_fit")
        assert not hasattr(Mahalanobis(covariance), "merge")


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(-8, 8), min_size=3, max_size=3),
    st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=3),
    st.integers(0, 10**6),
)
def test_mahalanobis_map_does_not_know_units(decades, shift, seed):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 3))
    other = (X + shift) * 10.0 ** np.array(decades)
    one, two = Mahalanobis().fit(X), Mahalanobis().fit(other)
    maps = one.transform(X)
    assert (maps >= 0).all()
    assert_allclose(maps.sum(axis=1), -one.score_samples(X))
    condition = np.linalg.cond(np.corrcoef(X.T))
    tolerance = 1e-11 * condition * (1 + np.abs(shift).max())
    assert_allclose(two.transform(other), maps, atol=tolerance * maps.max())


# ---------------------------------------------------------------------------------- GMM

KINDS = ["full", "tied", "diag", "spherical"]


@pytest.fixture(scope="module")
def clouds():
    rng = np.random.default_rng(5)
    X = np.concatenate(
        [rng.normal(size=(80, 3)) * [1, 2, 0.1] + 4 * i for i in range(3)]
    )
    return X, np.concatenate([X[::10] + 0.5, rng.normal(size=(10, 3)) * 20])


@AS
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_gmm_scores_are_scikit_learns(clouds, kind, k, as_array):
    train, test = clouds
    peer = GaussianMixture(k, covariance_type=kind, random_state=0).fit(train)
    detector = GMM(k, covariance_type=kind, random_state=0).fit(as_array(train))
    found = detector.score_samples(as_array(test))
    assert isinstance(found, type(as_array(test)))
    assert_allclose(found, peer.score_samples(test), rtol=1e-9)
    assert detector.n_iter_ == peer.n_iter_


@pytest.mark.parametrize(
    "parameters",
    [
        {"n_init": 4},
        {"init_params": "random_from_data"},
        {"tol": 1e-9, "max_iter": 500},
        {"reg_covar": 0.5},
    ],
    ids=str,
)
def test_gmm_parameters_take_effect(clouds, parameters):
    train, test = clouds
    train = train + np.random.default_rng(0).normal(size=train.shape) * 3
    base = GMM(5, random_state=0).fit(train).score_samples(test)
    found = GMM(5, random_state=0, **parameters).fit(train).score_samples(test)
    peer = GaussianMixture(5, random_state=np.random.RandomState(0), **parameters)
    assert_allclose(found, peer.fit(train).score_samples(test), rtol=1e-9)
    assert np.abs(found - base).max() > 1e-3


def test_gmm_of_a_cloud_without_volume_says_what_to_do():
    X = np.random.default_rng(0).normal(size=(20, 3))
    X[:, 2] = 0.0
    with pytest.raises(ValueError, match="ill-defined"):
        GMM(reg_covar=0).fit(X)


def test_gmm_is_the_sum_of_densities(clouds):
    train, test = clouds
    detector = GMM(3, random_state=0).fit(train)
    density = sum(
        weight * multivariate_normal(mean, covariance).pdf(test[:24])
        for weight, mean, covariance in zip(
            detector.mixture_.weights_,
            detector.mixture_.means_,
            detector.mixture_.covariances_,
            strict=True,
        )
    )
    assert_allclose(detector.score_samples(test[:24]), np.log(density))


@pytest.mark.parametrize("kind", KINDS)
def test_gmm_map_of_one_cloud_sums_to_the_score_above_the_mean(clouds, kind):
    train, test = clouds
    detector = GMM(covariance_type=kind).fit(train)
    maps = detector.transform(test)
    assert (maps >= 0).all()
    lowest = -detector.score_samples(detector.mixture_.means_)
    assert_allclose(maps.sum(axis=1), -detector.score_samples(test) - lowest)


def test_gmm_map_of_one_cloud_is_half_of_mahalanobis(clouds):
    train, test = clouds
    detector = GMM(reg_covar=0).fit(train)
    expected = Mahalanobis().fit(train).transform(test) / 2
    assert_allclose(detector.transform(test), expected, rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_gmm_map_relates_to_the_score_as_documented(clouds, kind):
    train, test = clouds
    detector = GMM(3, covariance_type=kind, random_state=0).fit(train)
    mixture = detector.mixture_
    shares = mixture.predict_proba(test)
    entropy = -(shares * np.log(np.where(shares > 0, shares, 1))).sum(axis=1)
    covariances = {
        "full": lambda c: c,
        "tied": lambda c: [c] * 3,
        "diag": lambda c: [np.diag(row) for row in c],
        "spherical": lambda c: [np.eye(3) * value for value in c],
    }[kind](mixture.covariances_)
    height = [
        np.linalg.slogdet(2 * np.pi * c)[1] / 2 - np.log(weight)
        for c, weight in zip(covariances, mixture.weights_, strict=True)
    ]
    expected = -detector.score_samples(test) + entropy - shares @ height
    assert_allclose(detector.transform(test).sum(axis=1), expected, rtol=1e-8)


def test_corr_max_is_the_symmetric_root():
    rng = np.random.default_rng(6)
    factors = rng.normal(size=(2, 5, 3))
    covariance = np.einsum("kni,knj->kij", factors, factors)
    cholesky = np.linalg.cholesky(np.linalg.inv(covariance))
    for found, matrix in zip(corr_max(cholesky), covariance, strict=True):
        deviation = np.sqrt(np.diag(matrix))
        root = sqrtm(np.linalg.inv(matrix / np.outer(deviation, deviation)))
        assert_allclose(found.T, root / deviation, rtol=1e-8)


def test_gmm_refuses_more_clouds_than_rows():
    with pytest.raises(ValueError, match="n_components=9 must be at most n_samples=5"):
        GMM(9).fit(np.random.default_rng(0).normal(size=(5, 2)))


# ---------------------------------------------------------------------------------- KDE


def naive_log_density(train, test, kernel, h):
    d = train.shape[1]
    distance = cdist(test, train)
    if kernel == "gaussian":
        logs = multivariate_normal(np.zeros(d), np.eye(d) * h**2).logpdf
        offset = logs(np.zeros(d))
        return (
            logsumexp(-(distance**2) / (2 * h**2), axis=1) + offset - np.log(len(train))
        )
    # the integral of exp(-r / h): the sphere's surface times gamma(d) h^d
    unit = {1: 2, 2: 2 * np.pi, 3: 4 * np.pi, 4: 2 * np.pi**2}[d]
    volume = unit * {1: 1, 2: 1, 3: 2, 4: 6}[d] * h**d
    return logsumexp(-distance / h, axis=1) - np.log(volume * len(train))


@AS
@pytest.mark.parametrize("h", [0.1, 1.0, 30.0])
@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
def test_kde_is_the_naive_sum(rows, kernel, h, as_array):
    train, test = rows
    for d in (1, 2, 4):
        detector = KDE(h, kernel=kernel).fit(as_array(train[:, :d]))
        found = detector.score_samples(as_array(test[:, :d]))
        naive = naive_log_density(train[:, :d], test[:, :d], kernel, h)
        assert_allclose(found, naive, rtol=1e-9)


@pytest.mark.parametrize("bandwidth", [0.5, 2.0, "scott", "silverman"])
@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
def test_kde_is_scikit_learns(kernel, bandwidth):
    rng = np.random.default_rng(7)
    train, test = rng.normal(size=(700, 3)), rng.normal(size=(300, 3))
    peer = KernelDensity(bandwidth=bandwidth, kernel=kernel).fit(train)
    detector = KDE(bandwidth, kernel=kernel).fit(train)
    assert detector.bandwidth_ == pytest.approx(peer.bandwidth_, rel=1e-12)
    near = np.linalg.norm(test, axis=1) < 2.5  # farther out scikit-learn loses digits
    found = detector.score_samples(test[near])
    assert_allclose(found, peer.score_samples(test[near]), atol=1e-8)


@AS
@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
def test_kde_leaves_a_training_row_out_of_its_own_density(rows, kernel, as_array):
    train = np.concatenate([rows[0], rows[0][:3]])  # three rows twice
    detector = KDE(0.7, kernel=kernel, contamination=0.2).fit(as_array(train))
    found = detector.score_samples(as_array(train[:20]))
    naive = [
        naive_log_density(np.delete(train, i, axis=0), train[i : i + 1], kernel, 0.7)[0]
        for i in range(20)
    ]
    # the distance of equal rows is that of rounding, under a root for "exponential"
    assert_allclose(found, naive, rtol=1e-7)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_kde_threshold_holds_for_the_training_rows_and_for_new_ones(dtype):
    rng = np.random.default_rng(8)
    train, test = rng.normal(size=(2, 2000, 20)).astype(dtype)
    detector = KDE(contamination=0.1).fit(train)
    assert (detector.predict(train) == -1).mean() == 0.1
    assert (detector.predict(test) == -1).mean() == pytest.approx(0.1, abs=0.03)
    plain = KernelDensity().fit(train)
    offset = np.quantile(plain.score_samples(train), 0.1)
    assert (plain.score_samples(test) < offset).mean() > 0.5
    # the flagged training rows are those of the plain estimate
    flagged = plain.score_samples(train) < offset
    assert_array_equal(detector.predict(train) == -1, flagged)


def test_kde_knows_its_rows_in_another_precision():
    rng = np.random.default_rng(9)
    train = rng.normal(size=(300, 10))
    double = KDE().fit(train)
    for other in (double.score_samples(train.astype(np.float32)),):
        assert_allclose(other, double.score_samples(train), rtol=1e-4)
    single = KDE().fit(train.astype(np.float32))
    back = train.astype(np.float32).astype(np.float64)
    assert_allclose(single.score_samples(back), double.score_samples(train), rtol=1e-4)


def test_kde_in_tiles_is_kde_whole(rows, monkeypatch):
    train, test = rows
    both = np.concatenate([test, train])
    whole = KDE(0.5).fit(train)
    scores, maps = whole.score_samples(both), whole.transform(both)
    monkeypatch.setattr("skad.density._kde._TILE_ELEMENTS", 150)
    monkeypatch.setattr("skad.density._kde._TILE_ROWS", 7)
    tiled = KDE(0.5).fit(train)
    assert_allclose(tiled.score_samples(both), scores, rtol=1e-12)
    assert_allclose(tiled.transform(both), maps, rtol=1e-9, atol=1e-12)


@AS
@pytest.mark.parametrize("kernel", ["gaussian", "exponential"])
def test_kde_map_is_the_weighted_difference(rows, kernel, as_array):
    train, test = rows
    h = 0.8
    detector = KDE(h, kernel=kernel).fit(as_array(train))
    maps = np.asarray(detector.transform(as_array(test)))
    distance = cdist(test, train)
    exponent = distance**2 / 2 / h**2 if kernel == "gaussian" else distance / h
    weight = np.exp(-exponent - logsumexp(-exponent, axis=1, keepdims=True))
    square = (test[:, None] - train) ** 2  # (b, n, d)
    scale = 2 * h**2 if kernel == "gaussian" else (h * distance)[:, :, None]
    assert_allclose(maps, (weight[:, :, None] * square / scale).sum(axis=1), rtol=1e-8)
    # the documented relation to the score
    entropy = -(weight * np.log(np.where(weight > 0, weight, 1))).sum(axis=1)
    log_norm = naive_log_density(train[:1], train[:1], kernel, h)[0]
    expected = -detector.score_samples(test) + entropy - np.log(200) + log_norm
    assert_allclose(maps.sum(axis=1), expected, rtol=1e-8)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.floats(0.05, 20))
def test_kde_map_sums_to_between_score_and_score_plus_log_n(seed, d, h):
    rng = np.random.default_rng(seed)
    train, test = rng.integers(0, 3, size=(15, d)) * 1.0, rng.normal(size=(5, d)) * 9
    detector = KDE(h).fit(train)
    maps = detector.transform(test)
    assert (maps >= 0).all()
    above = (
        -detector.score_samples(test) - np.log(15) - d * np.log(h * (2 * np.pi) ** 0.5)
    )
    assert (maps.sum(axis=1) >= above - 1e-9 * (1 + abs(above))).all()
    assert (maps.sum(axis=1) <= above + np.log(15) + 1e-9 * (1 + abs(above))).all()


def test_row_keys_tell_rows_apart_and_ignore_the_sign_of_zero():
    rng = np.random.default_rng(10)
    X = np.array(np.meshgrid(*[[0.0, 1.0]] * 12)).reshape(12, -1).T  # all binary rows
    for table in (X, X.astype(np.float32), rng.normal(size=(5000, 3))):
        keys = row_keys(table)
        assert len(np.unique(keys)) == len(table)
        assert_array_equal(row_keys(torch.from_numpy(table)), keys)
    assert_array_equal(row_keys(-np.zeros((1, 3))), row_keys(np.zeros((1, 3))))


# ---------------------------------------------------------------------------- real data


@pytest.mark.filterwarnings("ignore")  # of MinCovDet: features with few values
@pytest.mark.parametrize(
    ("detector", "peer"),
    [
        (Mahalanobis("mcd", random_state=0), "MCD"),
        (GMM(4, random_state=0), "GMM"),  # the figures are those of four clouds
    ],
    ids=["MCD", "GMM"],
)
def test_ranks_real_anomalies_as_well_as_the_peer(shared, detector, peer):
    figures = peer_figures(shared, peer)
    for key, train, test, labels in tables(shared, largest=4000):
        auc = roc_auc_score(labels, -detector.fit(train).score_samples(test))
        assert auc > figures[key] - 0.01, key


def test_kde_ranks_as_scikit_learns(shared):
    for key, train, test, labels in tables(shared, largest=2000):
        peer = roc_auc_score(labels, -KernelDensity().fit(train).score_samples(test))
        found = roc_auc_score(labels, -KDE().fit(train).score_samples(test))
        assert found > peer - 0.005, key


# ---------------------------------------------------------------------------------- SOM


def test_a_map_of_one_node_is_the_mahalanobis_distance(rows):
    train, test = rows
    found = SOM(map_shape=(1, 1), reg_covar=1e-12).fit(train)
    expected = Mahalanobis().fit(train)
    assert_allclose(found.score_samples(test), expected.score_samples(test), rtol=1e-6)
    assert_allclose(found.transform(test), expected.transform(test), rtol=1e-6)


def test_a_step_without_width_is_one_of_k_means(rows):
    train, _ = rows
    start = start_of_map(train, (3, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # one iteration is not enough
        lloyd = KMeans(6, init=start, n_init=1, max_iter=1).fit(train)
    # what scikit-learn returns are the means of the labels before
    labels = cdist(train, start).argmin(axis=1)
    found = batch_step(train, start, 0, (3, 2))
    expected = [
        train[labels == i].mean(axis=0) if (labels == i).any() else start[i]
        for i in range(6)
    ]
    assert_allclose(found, expected)
    assert_allclose(found[labels], lloyd.cluster_centers_[labels])


@AS
def test_som_is_the_naive_loop(rows, as_array):
    train, test = rows
    shape, epochs, last = (2, 3), 4, 0.5
    detector = SOM(map_shape=shape, n_epochs=epochs, final_width=last, prior_count=7.0)
    detector.fit(as_array(train))
    nodes = start_of_map(train, shape)
    for width in np.geomspace(1.5, last, epochs):
        best = cdist(train, nodes).argmin(axis=1)
        moved = nodes.copy()
        for j in range(6):
            away = [
                (j // 3 - b // 3) ** 2 + (j % 3 - b % 3) ** 2 for b in best.tolist()
            ]
            moved[j] = np.average(
                train, axis=0, weights=np.exp(-np.array(away) / (2 * width**2))
            )
        nodes = moved
    assert_allclose(detector.nodes_, nodes)
    best = cdist(train, nodes).argmin(axis=1)
    rest = train - nodes[best]
    ridge = 1e-6 * train.var(axis=0).mean() * np.eye(4)
    for found, row in zip(detector.score_samples(as_array(test)), test, strict=True):
        node = np.linalg.norm(row - nodes, axis=1).argmin()
        own = rest[best == node]
        covariance = (own.T @ own + 7 * rest.T @ rest / len(rest)) / (len(own) + 7)
        away = row - nodes[node]
        expected = away @ np.linalg.solve(covariance + ridge, away)
        assert_allclose(-float(found), expected, rtol=1e-7)
    assert_allclose(
        -np.asarray(detector.transform(as_array(test))).sum(axis=1),
        np.asarray(detector.score_samples(as_array(test))),
    )


def test_neighbours_on_the_map_are_neighbours_among_rows():
    """On an arc, which is where a mixture of as many Gaussians has no order."""
    angle = np.random.default_rng(0).uniform(0, 3, size=400)
    nodes = (
        SOM(map_shape=(8, 1)).fit(np.stack([np.cos(angle), np.sin(angle)], 1)).nodes_
    )
    order = np.argsort(np.arctan2(nodes[:, 1], nodes[:, 0]))
    assert order.tolist() in (list(range(8)), list(range(8))[::-1])


def test_a_map_needs_rows_and_columns():
    with pytest.raises(ValueError, match=r"map_shape=\(3,\) must be two numbers"):
        SOM(map_shape=(3,)).fit(np.eye(4))
    with pytest.raises(ValueError, match=r"map_shape=\(3, 0\) must be two numbers"):
        SOM(map_shape=(3, 0)).fit(np.eye(4))
