"""IGD: its losses in NumPy, its Gaussian of codes, and the similarity of pictures."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from torch.nn import functional

from skad.nn.losses import ms_ssim, ssim_map, ssim_parts
from skad.one_class import IGD
from skad.one_class._igd import reconstruction_error

SMALL = {
    "latent_size": 3,
    "hidden_sizes": (7,),
    "max_epochs": 4,
    "contamination": 0.1,
    "random_state": 0,
}


@pytest.fixture(scope="module", name="X")
def rows():
    return np.random.default_rng(0).normal(size=(60, 4))


def network(detector):
    return copy.deepcopy(detector.net_).double().eval()


# -------------------------------------------------------------- the error of pictures


def test_similarity_over_scales_is_the_product_of_powers():
    torch.manual_seed(0)
    x = torch.rand(3, 2, 13, 12, dtype=torch.float64)
    y = (x + 0.1 * torch.rand_like(x)).clamp(0, 1)
    found, line = ms_ssim(x, y), (x[..., :1, :], y[..., :1, :])
    assert_allclose(ms_ssim(*line), ssim_map(*line).mean((1, 2, 3)))
    assert_allclose(ms_ssim(x, x), 1)
    assert_allclose(ms_ssim(x, 1 - x), 1e-4)  # negative in all scales
    powers = np.array([0.0448, 0.2856, 0.3001])  # sides of 12, 6 and 3 pixels
    expected = np.ones(3)
    for i, power in enumerate(powers / powers.sum()):
        luminance, structure = ssim_parts(x, y)
        assert_allclose(luminance * structure, ssim_map(x, y))
        part = luminance * structure if i == 2 else structure
        expected *= part.mean((1, 2, 3)).numpy() ** power
        x, y = functional.avg_pool2d(x, 2), functional.avg_pool2d(y, 2)
    assert_allclose(found, expected)


def test_errors_of_rows_and_pictures():
    x, y = torch.rand(2, 3, 1, 8, 8)
    absolute = (x - y).abs().mean((1, 2, 3))
    assert_allclose(reconstruction_error(x.flatten(1), y.flatten(1)), absolute)
    expected = 0.85 * (1 - ms_ssim(x, y)) + 0.15 * absolute
    assert_allclose(reconstruction_error(x, y), expected, rtol=1e-6)


# --------------------------------------------------------------------------- the whole


def test_anomaly_is_its_formula(X):
    detector = IGD(**SMALL).fit(X)
    net, x = network(detector), torch.as_tensor(X)
    z = net.encoder(x)
    error = np.abs(X - net.decoder(z).numpy()).mean(axis=1)
    away = ((z.numpy() - net.centre.numpy()) ** 2).sum(axis=1)
    spread = 1 - np.exp(-away / float(net.scale))
    assert_allclose(-detector.score_samples(X), (error + spread) / 2)
    near = net.centre + 1e-6 * torch.randn(5, 3).double()
    squares = (near - net.centre).square().sum(1)
    assert_allclose(net.spread(near), squares / net.scale, rtol=1e-5)


def test_losses_are_their_formulas(X):
    net, x = network(IGD(critic_weight=0.3, **SMALL).fit(X)), torch.as_tensor(X)
    torch.manual_seed(0)
    found = dict(net.updates("fit", x, None))
    torch.manual_seed(0)
    share = torch.rand(60, 1, dtype=torch.float64) / 2
    z = net.encoder(x)
    rebuilt = net.decoder(z)
    between = net.decoder(share * z + (1 - share) * z.flip(0))
    error = (x - rebuilt).abs().mean()
    expected = error + net.spread(z).mean() + 0.3 * (net.critic(between) ** 2).mean()
    assert_allclose(found["autoencoder"], expected)
    told = ((net.critic(between) - share) ** 2).mean()
    real = (net.critic(0.8 * rebuilt + 0.2 * x) ** 2).mean()
    assert_allclose(found["critic"], told + real)
    (_, alone), _ = net.updates("fit", x[:1], None)  # nothing else to lie between
    fooled = 0.3 * (net.critic(net.decoder(z[:1])) ** 2).mean()
    alone_error = (x[:1] - rebuilt[:1]).abs().mean()
    assert_allclose(alone, alone_error + net.spread(z[:1]).mean() + fooled)


@pytest.mark.parametrize(("n_epochs", "between", "anew"), [(4, 4, True), (4, 5, False)])
def test_the_gaussian_is_taken_anew_after_some_epochs(X, n_epochs, between, anew):
    own = {**SMALL, "max_epochs": n_epochs, "n_epochs_between": between, "lr": 0.03}
    net = network(IGD(**own).fit(10 * X))
    z = net.encoder(torch.as_tensor(10 * X)).numpy()
    mean = z.mean(axis=0)
    centre = np.where(np.abs(mean) < 0.1, np.where(mean < 0, -0.1, 0.1), mean)
    scale = max(1, ((z - centre) ** 2).sum(axis=1).mean())
    assert np.allclose(net.centre, centre, rtol=1e-4) == anew
    assert np.allclose(float(net.scale), scale, rtol=1e-4) == anew


def test_a_small_scale_counts_as_one(X):
    assert float(IGD(**{**SMALL, "lr": 1e-30}).fit(X / 100).net_.scale) == 1


def test_rates_fall_to_zero():
    torch.manual_seed(0)
    rates = []

    def watched(weights, lr, **options):
        made = torch.optim.Adam(weights, lr=lr)
        rates.append(made)
        return made

    X = np.random.default_rng(0).normal(size=(20, 3))
    IGD(**{**SMALL, "weight_decay": 0.0}, optimizer=watched).fit(X)
    assert len(rates) == 2
    assert all(one.param_groups[0]["lr"] == 0 for one in rates)
