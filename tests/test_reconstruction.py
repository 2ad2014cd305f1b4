"""The reconstruction detectors and the mixture of codes against independent truth."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.linalg import subspace_angles
from scipy.ndimage import gaussian_filter
from scipy.stats import multivariate_normal, norm
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from skad.density import DAGMM
from skad.density._dagmm import mixture
from skad.nn.architecture import Conv
from skad.nn.losses import element_errors, ssim_map
from skad.nn.memory import Memory, entropy, hard_shrink
from skad.reconstruction import RSRAE, VAE, AutoEncoder, MemAE, RaPP
from skad.reconstruction._rapp import leading_directions

FAST = {"max_epochs": 3, "device": "cpu", "random_state": 0}


def factors(n=400, d=8, k=2, noise=0.3, seed=0):
    """Return rows of a factor model: k strong directions and equal noise."""
    rng = np.random.default_rng(seed)
    loadings = rng.normal(size=(k, d)) * np.linspace(2, 1, k)[:, None]
    X = rng.normal(size=(n, k)) @ loadings + noise * rng.normal(size=(n, d))
    return X - X.mean(axis=0)


def pictures(n=12, h=9, w=7, c=None, seed=0):
    """Return smooth pictures of odd size with values in 0..1."""
    rng = np.random.default_rng(seed)
    shape = (n, h, w) if c is None else (n, h, w, c)
    blur = (0, 1, 1) if c is None else (0, 1, 1, 0)
    X = gaussian_filter(rng.normal(size=shape), blur)
    return (X - X.min()) / np.ptp(X)


def network(detector):
    """Return the fitted network in double precision."""
    return detector.net_.double()


# ------------------------------------------------------------------------- AutoEncoder


def test_linear_autoencoder_spans_the_principal_components():
    X = factors()
    detector = AutoEncoder(
        latent_size=2,
        hidden_sizes=(),
        max_epochs=150,
        batch_size=100,
        lr=0.01,
        weight_decay=0.0,
        random_state=0,
    ).fit(X)
    decoder = network(detector).decoder.layers[-1].weight.numpy()  # (d, k)
    learned = np.linalg.qr(decoder)[0]
    true = PCA(2).fit(X).components_.T
    cosines = np.linalg.svd(learned.T @ true, compute_uv=False)
    assert np.degrees(np.arccos(cosines.min())) < 2
    left = X - PCA(2).fit(X).inverse_transform(PCA(2).fit_transform(X))
    assert_allclose(
        -detector.score_samples(X).mean(), (left**2).sum(axis=1).mean(), rtol=0.01
    )


def test_map_is_the_error_of_every_element():
    X = factors(60)
    for loss, error in {"mse": np.square, "l1": np.abs}.items():
        detector = AutoEncoder(loss=loss, **FAST).fit(X)
        with torch.no_grad():
            rebuilt = network(detector).reconstruct(torch.tensor(X)).numpy()
        assert_allclose(detector.transform(X), error(X - rebuilt))
        assert_allclose(-detector.score_samples(X), error(X - rebuilt).sum(axis=1))


def test_ssim_map_equals_filtered_moments():
    x, y = pictures(2, 16, 15)
    found = ssim_map(*(torch.tensor(image)[None, None] for image in (x, y)))[0, 0]

    def blur(image):
        return gaussian_filter(image, 1.5, mode="mirror", truncate=5 / 1.5)

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    expected = (2 * mean_x * mean_y + 1e-4) * (2 * covariance + 9e-4)
    expected /= (mean_x**2 + mean_y**2 + 1e-4) * (var_x + var_y + 9e-4)
    assert_allclose(found, expected, atol=1e-12)
    same = torch.tensor(x)[None, None]
    assert_allclose(element_errors(same, same, "ssim"), 0, atol=1e-12)


@pytest.mark.parametrize("c", [None, 3])
def test_ssim_loss_of_pictures(c):
    X = pictures(c=c)
    detector = AutoEncoder(loss="ssim", hidden_sizes=(4, 8), **FAST).fit(X)
    maps = detector.transform(X)
    assert maps.shape == (12, 9, 7)
    assert_allclose(maps.sum(axis=(1, 2)), -detector.score_samples(X))
    x = torch.tensor(X.reshape(12, 9, 7, -1)).permute(0, 3, 1, 2)
    net = network(detector)
    with torch.no_grad():
        expected = (1 - ssim_map(x, net.reconstruct(x))).sum(1)
    assert_allclose(maps, expected)


def test_ssim_loss_needs_pictures():
    with pytest.raises(ValueError, match="loss='ssim' is for images"):
        AutoEncoder(loss="ssim", **FAST).fit(factors(20))


def test_denoising_learns_to_remove_noise():
    X = factors(400, d=12, noise=0.0)
    rng = np.random.default_rng(1)
    noisy = X + 0.7 * rng.normal(size=X.shape)
    errors = {}
    for noise in (0.0, 0.7):
        detector = AutoEncoder(
            latent_size=12,
            hidden_sizes=(),
            max_epochs=50,
            lr=1e-3,
            noise=noise,
            weight_decay=0.0,
            random_state=0,
        ).fit(X)
        with torch.no_grad():
            rebuilt = network(detector).reconstruct(torch.tensor(noisy)).numpy()
        errors[noise] = ((rebuilt - X) ** 2).mean()
    assert errors[0.7] < 0.7 * errors[0.0]


@pytest.mark.parametrize("size", [(1, 1), (1, 5), (7, 9), (28, 27)])
def test_conv_leads_from_any_size_and_back(size):
    shape = (2, *size)
    down, up = Conv(shape, (3,), (4, 6)), Conv((3,), shape, (4, 6))
    x = torch.randn(5, *shape)
    code = down(x)
    assert code.shape == (5, 3)
    assert up(code).shape == x.shape
    assert Conv(shape, shape, (4, 6))(x).shape == x.shape


def test_activations_end_with_the_output():
    for net in (Conv((1, 8, 8), (3,), (4, 6)), Conv((3,), (1, 8, 8), (4, 6))):
        net.eval()
        x = torch.randn(
            2, *((1, 8, 8) if net.parts[0].__class__ is not torch.nn.Linear else (3,))
        )
        assert_allclose(
            list(net.activations(x))[-1].detach(), net(x).flatten(1).detach()
        )


# -------------------------------------------------------------------------------- RaPP


def naive_differences(net, x):
    """Return the differences of all hidden activations, layer by layer."""
    y = net.reconstruct(x)
    found = [(x - y).flatten(1)]
    if hasattr(net.encoder, "layers"):
        layers = list(net.encoder.layers)
    else:
        layers = [*net.encoder.parts[0].layers, *net.encoder.parts[1:]]
    for i, layer in enumerate(layers):
        x, y = layer(x), layer(y)
        if isinstance(layer, torch.nn.LeakyReLU) or i == len(layers) - 1:
            found.append((x - y).flatten(1))
    return found


@pytest.mark.parametrize("images", [False, True])
def test_sap_is_the_sum_over_layers(images):
    X = pictures() if images else factors(50)
    detector = RaPP(measure="sap", hidden_sizes=(6, 5, 4), **FAST).fit(X)
    net = network(detector)
    x = torch.tensor(X)[:, None] if images else torch.tensor(X)
    with torch.no_grad():
        differences = naive_differences(net, x)
    assert len(differences) == 5  # the input, three layers and the code
    expected = sum((part**2).sum(1) for part in differences)
    assert_allclose(-detector.score_samples(X), expected)


def test_nap_whitens_the_training_differences():
    X = factors(500, noise=1.0)
    detector = RaPP(latent_size=3, hidden_sizes=(16,), max_epochs=20, random_state=0)
    detector.set_params(contamination=0.1).fit(X)
    net = network(detector)
    with torch.no_grad():
        d = torch.cat(naive_differences(net, torch.tensor(X)), 1).numpy()
    kept = net.weights.numpy() > 0
    white = (d - d.mean(axis=0)) @ net.directions.numpy()[:, kept]
    white *= np.sqrt(net.weights.numpy()[kept])
    assert 10 < kept.sum() <= 27
    assert_allclose(white.T @ white / len(X), np.eye(kept.sum()), atol=1e-3)
    # the paper's form: singular values of the centred matrix
    _, values, vt = np.linalg.svd(d - d.mean(axis=0), full_matrices=False)
    rows = slice(0, kept.sum())
    expected = ((d - d.mean(axis=0)) @ vt[rows].T / values[rows]) ** 2
    expected = len(X) * expected.sum(axis=1)
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-2)
    assert_allclose(-detector.score_samples(X).mean(), kept.sum(), rtol=1e-3)


def test_directions_beyond_the_leading_share_their_variance():
    X = factors(300, noise=1.0)
    detector = RaPP(hidden_sizes=(8,), n_directions=5, **FAST)
    detector.set_params(contamination=0.1).fit(X)
    net = network(detector)
    with torch.no_grad():
        d = torch.cat(naive_differences(net, torch.tensor(X)), 1).numpy()
    d -= d.mean(axis=0)
    _, values, vt = np.linalg.svd(d, full_matrices=False)
    variances = values**2 / len(X)
    rest = variances[5:].sum() / (d.shape[1] - 5)
    weights = 1 / np.r_[variances[:5], np.full(d.shape[1] - 5, rest)]
    assert_allclose(-detector.score_samples(X), (d @ vt.T) ** 2 @ weights, rtol=5e-3)


def test_leading_directions_are_the_singular_vectors():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(90, 60)) * 0.9 ** np.arange(60)
    rows = rows @ np.linalg.qr(rng.normal(size=(60, 60)))[0]
    mean = torch.tensor(rows.mean(axis=0))
    _, values, vt = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    for k in (10, 60):
        blocks = torch.tensor(rows).split(37)
        directions, variances = leading_directions(lambda b=blocks: iter(b), mean, k)
        assert_allclose(variances, values[:k] ** 2 / 90, rtol=1e-6)
        assert_allclose(np.abs((vt[:k] @ directions.numpy()).diagonal()), 1, atol=1e-6)
        assert_allclose(directions.T @ directions, np.eye(k), atol=1e-12)


def test_map_of_rapp_sums_to_the_way_from_the_reconstruction():
    X = factors(200)
    for score, tolerance in {"sap": 0.005, "nap": 0.05}.items():
        detector = RaPP(measure=score, device="cpu", random_state=0).fit(X)
        with torch.no_grad():
            rebuilt = network(detector).reconstruct(torch.tensor(X)).numpy()
        change = detector.score_samples(rebuilt) - detector.score_samples(X)
        gap = detector.transform(X).sum(axis=1) - change
        assert np.abs(gap).mean() < tolerance * np.abs(change).mean()


class Bare(torch.nn.Linear):
    """An architecture that shows no hidden layers."""

    def __init__(self, input_shape, output_shape):
        super().__init__(input_shape[0], output_shape[0])


def test_rapp_without_hidden_layers_compares_codes():
    X = factors(60)
    detector = RaPP(measure="sap", architecture=Bare, latent_size=2, **FAST).fit(X)
    net, x = network(detector), torch.tensor(X)
    with torch.no_grad():
        y = net.reconstruct(x)
        expected = ((x - y) ** 2).sum(1) + (
            (net.encoder(x - y) - net.encoder.bias) ** 2
        ).sum(1)
    assert_allclose(-detector.score_samples(X), expected)


# ------------------------------------------------------------------------------- MemAE


def test_addressing_is_sparse_and_sums_to_one():
    torch.manual_seed(0)
    queries = torch.randn(50, 4, dtype=torch.float64)
    memory = Memory(20, 4, 1 / 20).double()
    weights = memory.address(queries).detach()
    assert_allclose(weights.sum(1), 1)
    assert (weights >= 0).all()
    assert 0.2 < (weights == 0).double().mean() < 0.8
    unshrunk = Memory(20, 4, 0.0).double()
    unshrunk.load_state_dict(memory.state_dict())
    assert (unshrunk.address(queries) > 0).all()


def test_addressing_equals_the_paper_s_equations():
    torch.manual_seed(1)
    memory, queries = Memory(7, 3, 0.15).double(), torch.randn(5, 3).double()
    items = memory.items.detach().numpy()
    for z, found in zip(queries.numpy(), memory(queries).detach(), strict=True):
        cosine = [z @ m / np.linalg.norm(z) / np.linalg.norm(m) for m in items]
        w = np.exp(cosine) / np.exp(cosine).sum()  # (4), (5)
        w = np.maximum(w - 0.15, 0) * w / (np.abs(w - 0.15) + 1e-15)  # (7)
        assert_allclose(found, w / w.sum() @ items)  # (3)


def test_nothing_above_the_threshold_keeps_everything():
    weights = torch.full((2, 4), 0.25)
    assert_allclose(hard_shrink(weights, 0.25), weights)
    assert_allclose(entropy(weights), math.log(4), rtol=1e-6)


def test_score_of_memae_is_the_error_from_memory():
    X = factors(80)
    detector = MemAE(n_items=10, **FAST).fit(X)
    net, x = network(detector), torch.tensor(X)
    with torch.no_grad():
        weights = net.memory.address(net.encoder(x))
        rebuilt = net.decoder(weights @ net.memory.items)
    assert_allclose(weights.sum(1), 1)
    assert_allclose(-detector.score_samples(X), ((x - rebuilt) ** 2).sum(1))
    loss = ((x - rebuilt) ** 2).sum(1).mean() + 2e-4 * entropy(weights).mean()
    with torch.no_grad():
        assert_allclose(net.loss(x, None), loss)


# --------------------------------------------------------------------------------- VAE


def test_linear_vae_reaches_the_likelihood_of_probabilistic_pca():
    X = factors(500, d=6, noise=0.5)
    detector = VAE(
        latent_size=2,
        hidden_sizes=(),
        variance="shared",
        min_deviation=0.0,
        measure="elbo",
        n_draws=200,
        max_epochs=120,
        batch_size=100,
        lr=0.01,
        random_state=0,
    ).fit(X)
    truth = PCA(2).fit(X)
    # scikit-learn divides by n - 1, the maximum of the likelihood has n
    best = truth.score(X)
    assert_allclose(detector.score_samples(X).mean(), best, rtol=0.01)
    # more draws: the importance weighted bound is tighter, never above the likelihood
    weighted = detector.set_params(measure="iwae").fit(X).score_samples(X).mean()
    assert_allclose(weighted, best, rtol=0.01)


@pytest.mark.parametrize("variance", ["element", "shared"])
def test_loss_of_the_vae_is_minus_the_bound(variance):
    X = factors(40)
    detector = VAE(latent_size=2, variance=variance, **FAST).fit(X)
    net, x = network(detector), torch.tensor(X)
    with torch.no_grad():
        torch.manual_seed(0)
        loss = net.loss(x, None)
        torch.manual_seed(0)
        mean, log_variance = net.encode(x)
        z = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        m, v = (part.numpy() for part in net.decode(z))
    normal = torch.distributions.Normal
    gap = torch.distributions.kl_divergence(
        normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0)
    )
    log_p = norm.logpdf(X, m, np.sqrt(v)).sum(axis=1)
    expected = gap.sum(1).numpy() - log_p
    assert_allclose(loss, expected.mean(), rtol=1e-6)


@pytest.mark.parametrize("variance", ["element", "shared"])
def test_scores_of_the_vae_are_their_formulas(variance):
    X = factors(40)
    detector = VAE(latent_size=2, n_draws=4, variance=variance, **FAST)
    scores, maps = {}, {}
    for score in (
        "reconstruction_probability",
        "elbo",
        "kl",
        "iwae",
        "iwae_reconstruction",
        "iwae_kl",
    ):
        fit = detector.set_params(measure=score).fit(X)  # same seed, same weights
        scores[score], maps[score] = -fit.score_samples(X), fit.transform(X)
    net, x = network(detector), torch.tensor(X)
    log_p, log_ratio, elements = [], [], []
    with torch.no_grad():
        mean, log_variance = (part.numpy() for part in net.encode(x))
        s = np.exp(log_variance / 2)
        for noise in net.draws.numpy():
            z = mean + s * noise
            m, v = (part.numpy() for part in net.decode(torch.tensor(z)))
            assert v.min() >= 0.2**2
            elements.append(norm.logpdf(X, m, np.sqrt(v)))
            log_p.append(elements[-1].sum(axis=1))
            prior, posterior = norm.logpdf(z), norm.logpdf(z, mean, s)
            log_ratio.append((prior - posterior).sum(axis=1))
    log_p, log_ratio, elements = map(np.array, (log_p, log_ratio, elements))
    kl = ((mean**2 + s**2 - 1) / 2 - np.log(s)).sum(axis=1)
    w = np.exp(log_p + log_ratio)
    expected = {
        "reconstruction_probability": -log_p.mean(axis=0),
        "elbo": -log_p.mean(axis=0) + kl,
        "kl": kl,
        "iwae": -np.log(w.mean(axis=0)),
        "iwae_reconstruction": -np.log(np.exp(log_p).mean(axis=0)),
        "iwae_kl": -np.log(np.exp(log_ratio).mean(axis=0)),
    }
    for score, values in expected.items():
        assert_allclose(scores[score], values, rtol=1e-6, atol=1e-9)
    assert (scores["iwae"] <= scores["elbo"] + 0.3 * np.abs(scores["elbo"])).all()
    assert_allclose(maps["reconstruction_probability"], -elements.mean(axis=0))
    assert_allclose(maps["elbo"], -elements.mean(axis=0))
    weights = (w / w.sum(axis=0))[:, :, None]
    assert_allclose(maps["iwae"], -(weights * elements).sum(axis=0), rtol=1e-6)


def test_two_calls_and_any_batch_score_alike():
    X = factors(60)
    for kind in (VAE, RaPP, MemAE, DAGMM):
        detector = kind(**FAST).fit(X)
        first = detector.score_samples(X)
        torch.rand(3)  # what others draw does not matter
        assert (detector.score_samples(X) == first).all()
        assert_allclose(detector.score_samples(X[7:8]), first[7:8], rtol=1e-9)


@pytest.mark.parametrize("c", [None, 3])
@pytest.mark.parametrize("kind", [AutoEncoder, RaPP, MemAE, VAE, DAGMM])
def test_pictures_of_odd_size(kind, c):
    X = pictures(c=c)
    detector = kind(hidden_sizes=(4, 8), **FAST).fit(X)
    maps = detector.transform(X)
    assert maps.shape == (12, 9, 7)
    assert np.isfinite(maps).all()
    if detector._map_sums_to_score:
        assert_allclose(maps.sum(axis=(1, 2)), -detector.score_samples(X))
    rows = kind(hidden_sizes=(4, 8), image_shape=X.shape[1:], **FAST)
    rows.fit(X.reshape(12, -1))
    assert_allclose(rows.score_samples(X), detector.score_samples(X))


@pytest.mark.parametrize("kind", [AutoEncoder, MemAE, VAE])
def test_partial_fit_goes_on(kind):
    X = factors(200)
    detector = kind(hidden_sizes=(8,), device="cpu", random_state=0)
    detector.partial_fit(X)
    early = detector.score_samples(X).mean()
    for _ in range(20):
        detector.partial_fit(X)
    assert detector.score_samples(X).mean() > early
    assert detector.n_samples_seen_ == 21 * 200
    assert len(detector.history_) == 21


# ------------------------------------------------------------------------------- DAGMM


def gaussian_mixture(net):
    """Return scikit-learn's mixture with the parameters of the network."""
    truth = GaussianMixture(len(net.weights), covariance_type="full")
    truth.weights_, truth.means_ = net.weights.numpy(), net.means.numpy()
    truth.covariances_ = net.covariances.numpy()
    truth.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(truth.covariances_))
    return truth


@pytest.mark.parametrize("latent_size", [1, 3])
def test_energy_is_minus_the_log_likelihood(latent_size):
    X = factors(300)
    detector = DAGMM(
        latent_size=latent_size, n_components=3, max_epochs=10, random_state=0
    ).fit(X)
    net = network(detector)
    with torch.no_grad():
        z = net.features(torch.tensor(X))[0].numpy()
    truth = gaussian_mixture(net)
    assert_allclose(
        -detector.score_samples(X), -truth.score_samples(z), rtol=1e-4, atol=1e-5
    )
    logs = [
        np.log(w) + multivariate_normal(m, c).logpdf(z)
        for w, m, c in zip(
            truth.weights_, truth.means_, truth.covariances_, strict=True
        )
    ]
    expected = np.logaddexp.reduce(logs, axis=0)
    assert_allclose(detector.score_samples(X), expected, rtol=1e-4, atol=1e-5)


def test_mixture_is_a_weighted_step_of_expectation_maximisation():
    rng = np.random.default_rng(0)
    z, memberships = rng.normal(size=(50, 3)), rng.dirichlet([1, 1], size=50)
    weights, means, covariances = mixture(torch.tensor(z), torch.tensor(memberships))
    for k in range(2):
        g = memberships[:, k]
        assert_allclose(weights[k], g.mean())
        assert_allclose(means[k], np.average(z, axis=0, weights=g))
        expected = np.cov(z.T, aweights=g, ddof=0)
        assert_allclose(covariances[k], expected, atol=1e-5)


def test_features_of_dagmm():
    X = factors(50)
    detector = DAGMM(**FAST).fit(X)
    net, x = network(detector), torch.tensor(X)
    with torch.no_grad():
        z, rebuilt = (part.numpy() for part in net.features(x))
        code = net.encoder(x).numpy()
    norms = np.linalg.norm(X, axis=1)
    assert_allclose(z[:, :2], code)
    assert_allclose(z[:, 2], np.linalg.norm(X - rebuilt, axis=1) / norms)
    cosine = (X * rebuilt).sum(axis=1) / norms / np.linalg.norm(rebuilt, axis=1)
    assert_allclose(z[:, 3], cosine)


def test_objective_of_dagmm():
    X = factors(50)
    detector = DAGMM(n_components=2, dropout=0.0, **FAST).fit(X)
    net, x = network(detector), torch.tensor(X)
    with torch.no_grad():
        z, rebuilt = net.features(x)
        truth = GaussianMixture(2)
        parts = mixture(z, net.estimator(z))
        truth.weights_, truth.means_, truth.covariances_ = (p.numpy() for p in parts)
        truth.precisions_cholesky_ = np.linalg.cholesky(
            np.linalg.inv(truth.covariances_)
        )
        found = net.loss(x, None)
    inverse = sum((1 / np.diag(c)).sum() for c in truth.covariances_)
    errors = ((X - rebuilt.numpy()) ** 2).sum(axis=1).mean()
    energy = -truth.score_samples(z.numpy()).mean()
    assert_allclose(found, errors + 0.1 * energy + 0.005 * inverse, rtol=1e-6)


def test_equal_codes_have_a_mixture():
    X = np.ones((30, 4))
    detector = DAGMM(n_components=3, **FAST).fit(X)
    assert np.isfinite(detector.score_samples(X)).all()
    assert np.isfinite(detector.score_samples(np.zeros((1, 4)))).all()


# ------------------------------------------------------------------------------- RSRAE


class OneLayer(torch.nn.Module):
    """The identity between vectors of one size, else a linear layer."""

    def __init__(self, input_shape, output_shape):
        super().__init__()
        same = input_shape == output_shape
        linear = torch.nn.Linear(*input_shape, *output_shape, bias=False)
        self.layer = torch.nn.Identity() if same else linear

    def forward(self, x):
        return self.layer(x)


@pytest.mark.parametrize("alternating", [True, False])
def test_rsrae_finds_the_plane_of_most_rows(alternating):
    # with squared distances the layer would turn towards the outliers, as PCA does
    rng = np.random.default_rng(0)
    plane = np.linalg.qr(rng.normal(size=(10, 2)))[0]
    inliers = rng.normal(size=(140, 2)) @ plane.T
    X = np.concatenate([inliers, 3 * rng.normal(size=(60, 10))])
    detector = RSRAE(
        latent_size=2,
        code_size=10,
        architecture=OneLayer,
        normalize=False,
        alternating=alternating,
        robust_weight=1.0,
        contamination=0.3,
        max_epochs=100,
        batch_size=20,
        lr=0.003 if alternating else 0.005,
        random_state=0,
    ).fit(X)
    A = detector.net_.projection.weight.numpy().T
    assert np.rad2deg(subspace_angles(A, plane)).max() < 5
    assert_allclose(A.T @ A, np.eye(2), atol=0.1)
    directions = PCA(2).fit(X).components_.T
    assert np.rad2deg(subspace_angles(directions, plane)).max() > 45


def test_rsrae_losses_are_the_formulas():
    X = factors(n=50)
    detector = RSRAE(latent_size=3, code_size=6, **FAST).fit(X)
    net, x = network(detector), torch.as_tensor(X)
    A = net.projection.weight.numpy().T
    rows = X / np.linalg.norm(X, axis=1, keepdims=True)
    code = net.encoder(torch.as_tensor(rows)).numpy()
    low = code @ A
    unit = torch.as_tensor(low / np.linalg.norm(low, axis=1, keepdims=True))
    rebuilt = net.decoder(unit).numpy()
    expected = {
        "reconstruction": np.mean(np.linalg.norm(rows - rebuilt, axis=1)),
        "orthogonal": np.mean((A.T @ A - np.eye(3)) ** 2),
        "subspace": np.mean(np.linalg.norm(code - low @ A.T, axis=1)),
    }
    found = {group: float(loss) for group, loss in net.updates("fit", x, None)}
    assert list(found) == list(expected)
    assert_allclose(list(found.values()), list(expected.values()))
    net.alternating = False
    [(_, loss)] = net.updates("fit", x, None)
    first, *robust = expected.values()
    assert_allclose(float(loss), first + 0.1 * sum(robust))
    cosine = np.sum(rows * rebuilt, axis=1) / np.linalg.norm(rebuilt, axis=1)
    assert_allclose(-detector.score_samples(X), 1 - cosine)
    assert_allclose(detector.transform(X).sum(axis=1), 1 - cosine)


def test_rsrae_steps_have_their_weights_and_rates():
    detector = RSRAE(**FAST).fit(factors(n=30))
    net = detector.net_
    groups = {name: {id(w) for w in found} for name, found in net.groups("fit").items()}
    assert groups["reconstruction"] == {id(w) for w in net.parameters()}
    assert groups["orthogonal"] == {id(net.projection.weight)}
    encoder = {id(w) for w in net.encoder.parameters()}
    assert groups["subspace"] == encoder | groups["orthogonal"]
    rates = [detector._optimizer_of("fit", name).get("lr") for name in groups]
    assert rates == [None, 0.0025, 0.0025]


def test_rsrae_does_not_see_how_long_a_sample_is():
    X = factors(n=40)
    detector = RSRAE(**FAST).fit(X)
    assert_allclose(detector.score_samples(7 * X), detector.score_samples(X))
    assert np.isfinite(detector.score_samples(np.zeros((1, 8)))).all()


def test_rsrae_subspace_is_within_the_codes():
    with pytest.raises(ValueError, match="latent_size=5 must be at most code_size=4"):
        RSRAE(latent_size=5, code_size=4).fit(factors(n=20))
