"""DPNoveltySGD: gradients of samples, what of them is kept, and what that is worth."""

import copy
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score
from torch import nn

from skad._training._private import Privacy, set_private_gradients
from skad.reconstruction import DPNoveltySGD
from skad.reconstruction._dp_novelty_sgd import concentration, privacy_spent

SMALL = {"max_epochs": 4, "hidden_sizes": (6,), "latent_size": 2, "random_state": 0}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(40, 5)) + 2


def fitted(X=X, **settings):
    detector = DPNoveltySGD(**{**SMALL, "contamination": 0.1, **settings})
    return detector.fit(X)


def gradients(network, x, privacy, seed=0):
    """Return the private gradients of all weights, side by side."""
    weights = dict(network.named_parameters())
    torch.manual_seed(seed)
    set_private_gradients(network, weights, x, None, privacy)
    return torch.cat([one.grad.flatten() for one in weights.values()])


def trainable(detector):
    return copy.deepcopy(detector.net_).double().requires_grad_(True)


def of_each(network, x):
    """Return the gradients (b, p) of samples, one after the other."""
    found = []
    for row in x:
        alone = torch.autograd.grad(network.loss(row[None], None), network.parameters())
        found.append(torch.cat([one.flatten() for one in alone]))
    return torch.stack(found)


@pytest.mark.parametrize("shape", [(5,), (8, 8, 2)])
def test_gradients_of_samples_are_clipped_and_averaged(shape):
    given = RNG.normal(size=(40, *shape))
    sizes = {"hidden_sizes": (4, 8)} if len(shape) > 1 else {}
    detector = fitted(given, **sizes)
    network = trainable(detector)
    x = detector._samples(given.reshape(40, -1)[:9])
    each = of_each(network, x)
    norms = each.norm(dim=1)
    limit = float(norms.median())
    expected = (each * (limit / norms).clamp(max=1)[:, None]).mean(0)
    assert_allclose(gradients(network, x, Privacy(limit, 0.0)), expected, atol=1e-12)
    # without a limit they are those of the mean loss
    whole = torch.autograd.grad(network.loss(x, None), network.parameters())
    whole = torch.cat([one.flatten() for one in whole])
    assert_allclose(gradients(network, x, Privacy(1e30, 0.0)), whole, atol=1e-12)


def test_noise_has_the_deviation_of_the_limit():
    network = trainable(fitted())
    x = torch.as_tensor(X[:8])
    bare = gradients(network, x, Privacy(0.5, 0.0))
    noisy = [gradients(network, x, Privacy(0.5, 3.0), seed) for seed in range(40)]
    away = torch.stack(noisy) - bare
    assert float(away.std()) == pytest.approx(3.0 * 0.5 / 8, rel=0.05)
    assert abs(float(away.mean())) < 0.01
    assert_allclose(noisy[3], gradients(network, x, Privacy(0.5, 3.0), 3))


def test_one_row_moves_a_step_by_no_more_than_its_share():
    one = {"max_epochs": 1, "batch_size": 40, "optimizer": "sgd", "lr": 0.1}
    settings = {**one, "noise_multiplier": 0.0, "max_grad_norm": 0.01}
    other = X.copy()
    other[7] = 1e6

    def weights(rows, **changed):
        net = fitted(rows, **{**settings, **changed}).net_
        return torch.cat([w.flatten() for w in net.parameters()])

    with pytest.warns(UserWarning, match="root mean square|no better than their mean"):
        moved = (weights(X) - weights(other)).norm()
    assert 0 < float(moved) <= 2 * 0.1 * 0.01 / 40 * (1 + 1e-3)


def test_without_clipping_it_is_plain_descent():
    plain = type(
        "Plain",
        (DPNoveltySGD,),
        {"_privacy": lambda self: None, "__module__": __name__},
    )
    settings = {**SMALL, "optimizer": "sgd", "lr": 0.05, "batch_size": 16}
    settings |= {"noise_multiplier": 0.0, "max_grad_norm": 1e30}
    expected = plain(**settings).fit(X).score_samples(X)
    found = DPNoveltySGD(**settings).fit(X).score_samples(X)
    assert_allclose(found, expected, rtol=1e-5)


def test_epsilon_adds_up_over_epochs():
    # closed form: rho = 4 / (2 * 2^2) = 1/2
    detector = fitted(noise_multiplier=2.0, warm_start=True)
    expected = 0.5 + 2 * math.sqrt(0.5 * math.log(1e5))
    assert detector.epsilon_ == pytest.approx(expected)
    detector.set_params(noise_multiplier=4.0).fit(X)  # rho = 1/2 + 1/8
    expected = 0.625 + 2 * math.sqrt(0.625 * math.log(1e5))
    assert detector.epsilon_ == pytest.approx(expected)
    detector.set_params(warm_start=False, on_interrupt="keep").fit(X)
    assert detector.epsilon_ == pytest.approx(privacy_spent(5 / 32, 1e-5))
    assert fitted(noise_multiplier=0.0).epsilon_ == math.inf


def test_epsilon_bounds_how_far_two_gaussians_can_be_told_apart():
    """The steps together are one Gaussian, moved by one in units of its deviation."""
    normal = torch.distributions.Normal(0.0, 1.0)
    for n_epochs, noise in [(1, 1.0), (10, 1.0), (10, 5.0)]:
        delta = 1e-3
        epsilon = privacy_spent(concentration(n_epochs, noise), delta)
        moved = math.sqrt(n_epochs) / noise
        # B. Balle and Y.-X. Wang, ICML, 2018, theorem 8: the exact delta
        ends = torch.tensor([moved / 2 - epsilon / moved, -moved / 2 - epsilon / moved])
        first, second = normal.cdf(ends.double()).tolist()
        assert first - math.exp(epsilon) * second <= delta


def test_no_norm_looks_at_other_samples():
    pictures = RNG.uniform(size=(20, 8, 8))
    detector = fitted(pictures, hidden_sizes=(6, 8))
    kinds = {type(part) for part in detector.net_.modules()}
    assert nn.GroupNorm in kinds
    assert nn.BatchNorm2d not in kinds


def test_scaled_losses_are_refused():
    with pytest.raises(ValueError, match="amp='fp16' scales losses"):
        fitted(amp="fp16")


def test_few_rows_far_out_teach_it_less():
    """Outliers in one direction, which all gradients together follow."""

    def found(limit, seed):
        rng = np.random.default_rng(seed)
        plane, odd = np.split(np.linalg.qr(rng.normal(size=(8, 8)))[0][:3], [2])

        def rows(n, n_odd):
            inside = rng.normal(size=(n, 2)) @ plane
            outside = rng.normal(2, 1, size=(n_odd, 1)) * odd * 4
            both = np.concatenate([inside, outside])
            labels = np.repeat([0, 1], [n, n_odd])
            return both + 0.1 * rng.normal(size=both.shape), labels

        detector = DPNoveltySGD(
            latent_size=2,
            max_grad_norm=limit,
            noise_multiplier=0.0,
            max_epochs=30,
            lr=3e-3,
            batch_size=16,
            contamination=0.1,
            random_state=0,
        ).fit(rows(300, 20)[0])
        new, y = rows(100, 100)
        return roc_auc_score(y, -detector.score_samples(new))

    clipped, free = (
        np.mean([found(limit, seed) for seed in range(3)]) for limit in (0.1, 1e6)
    )
    assert clipped > max(0.97, free + 0.02)
