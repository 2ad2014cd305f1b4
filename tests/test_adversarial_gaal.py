"""SOGAAL and MOGAAL: their losses in NumPy, and which way the score points."""

import copy

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skad.adversarial import MOGAAL, SOGAAL
from skad.adversarial._gaal import Maker, shares

SMALL = {"contamination": 0.1, "random_state": 0}


@pytest.fixture(scope="module", name="X")
def rows():
    return np.random.default_rng(0).normal(3.0, [1, 2, 5], size=(150, 3))


def judged(net, rows):
    """Return the logits of rows in 0..1, by the formula."""
    first, _, last = net.discriminator.layers
    hidden = rows @ first.weight.numpy().T + first.bias.numpy()
    hidden = np.where(hidden > 0, hidden, 0.1 * hidden)
    return hidden @ last.weight.numpy()[0] + last.bias.numpy()


@pytest.mark.parametrize("kind", [SOGAAL, MOGAAL])
def test_anomaly_is_the_logit_of_rows_in_the_range_of_training(X, kind):
    detector = kind(max_epochs=2, play_epochs=2, **SMALL).fit(X)
    net = copy.deepcopy(detector.net_).double()
    assert net.discriminator.layers[0].out_features == 13  # the root of 150, rounded up
    low, high = X.min(axis=0), X.max(axis=0)
    anomaly = -judged(net, (X - low) / (high - low))
    assert_allclose(-detector.score_samples(X), anomaly, rtol=1e-5, atol=1e-6)


def cross_entropy(logits, target):
    p = 1 / (1 + np.exp(-logits))
    return -np.mean(target * np.log(p) + (1 - target) * np.log(1 - p))


@pytest.mark.parametrize("k", [1, 4])
def test_losses_are_the_formula(X, k):
    detector = SOGAAL() if k == 1 else MOGAAL(n_generators=k)
    net = detector.set_params(max_epochs=1, **SMALL).fit(X).net_
    net = copy.deepcopy(net).double().requires_grad_(True)
    x = torch.as_tensor(X)
    torch.manual_seed(0)
    (one, first), (two, second) = net.updates("play", x, None)
    assert (one, two) == ("discriminator", "generators")
    torch.manual_seed(0)
    net.requires_grad_(False)
    rows = net.inside(x).numpy()
    noise = torch.rand_like(x).split(shares(150, k))
    made = [make(z).numpy() for make, z in zip(net.generators, noise, strict=True)]
    fake = [judged(net, own) for own in made]
    real = judged(net, rows)
    expected = cross_entropy(real, 1) + cross_entropy(np.concatenate(fake), 0)
    assert_allclose(first.item(), expected, rtol=1e-6)
    p = 1 / (1 + np.exp(-real))
    goals = [np.quantile(p, i / k) for i in range(k)] if k > 1 else [1.0]
    parts = [cross_entropy(own, goal) for own, goal in zip(fake, goals, strict=True)]
    assert_allclose(second.item(), sum(parts), rtol=1e-5)
    ((name, alone),) = net.updates("fit", x, None)
    assert name == "discriminator"
    assert alone.item() > 0


def test_each_step_teaches_its_own_part(X):
    net = MOGAAL(n_generators=3, max_epochs=1, **SMALL).fit(X).net_
    net.requires_grad_(True)
    for name, loss in net.updates("play", torch.as_tensor(X).float(), None):
        net.zero_grad()
        loss.backward()
        for part in ("discriminator", "generators"):
            moved = [p.grad for p in getattr(net, part).parameters()]
            assert all((g is not None) == (part == name) for g in moved)


def test_generators_stop_when_the_discriminator_goes_on(X):
    made = [
        MOGAAL(n_generators=2, play_epochs=2, max_epochs=n, **SMALL).fit(X).net_
        for n in (1, 20)
    ]
    for one, two in zip(*(net.generators.parameters() for net in made), strict=True):
        assert_allclose(one, two)
    weights = [net.discriminator.layers[0].weight for net in made]
    assert not torch.equal(*weights)


def test_a_maker_begins_with_noise_as_it_is():
    noise = torch.rand(5, 2, 1, 2)
    maker = Maker(4)
    for layer in maker.layers[::2]:
        torch.nn.init.zeros_(layer.bias)
    assert torch.equal(maker(noise), noise)


def test_first_makers_make_more():
    assert shares(55, 10) == [10, 9, 8, 7, 6, 5, 4, 3, 2, 1]
    assert shares(7, 1) == [7]
    for n in (1, 13, 500):
        assert sum(shares(n, 10)) == n
        assert min(shares(n, 10)) >= 0


@pytest.mark.parametrize("kind", [SOGAAL, MOGAAL])
def test_the_probability_of_being_real_is_no_anomaly(kind):
    X = np.random.default_rng(0).normal(size=(400, 2))
    X = X[np.abs(X).max(axis=1) < 2.5]
    detector = kind(random_state=0, batch_size=64).fit(X)
    scores = detector.score_samples(X)
    corners = detector.score_samples([[-4, -4], [4, 4], [4, -4], [-4, 4.0]])
    assert np.mean(corners) < np.median(scores)
