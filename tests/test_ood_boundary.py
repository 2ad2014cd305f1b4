"""BoundaryGZSL: distributions of directions, caps of classes and what codes learn."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.integrate import quad
from scipy.special import iv
from scipy.stats import ortho_group, vonmises
from torch.nn import functional as F  # noqa: N812

from skad.nn.von_mises_fisher import (
    cap_boundary,
    caps,
    concentration_of,
    draw,
    mean_length,
    outside_caps,
)
from skad.ood import BoundaryGZSL
from skad.ood._boundary_gzsl import BoundaryNetwork

SMALL = {"hidden_sizes": (8,), "hidden_size": 8, "latent_size": 4, "random_state": 0}


def directions(n, d, seed=0):
    random = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(n, d, generator=random, dtype=torch.float64), dim=1)


def classes(n=40, seed=0):
    """Return rows of three classes in their corners."""
    random = np.random.default_rng(seed)
    centres = np.repeat([[-3.0, 0, 0], [3, 0, 0], [0, 3, 0]], n, axis=0)
    return centres + random.normal(0, 0.5, (3 * n, 3)), np.repeat(list("abc"), n)


# --------------------------------------------------------------------- distributions


@pytest.mark.parametrize("d", [2, 3, 16])
@pytest.mark.parametrize("concentration", [0.5, 3.0, 100.0])
def test_draws_have_the_mean_and_the_length_of_the_distribution(d, concentration):
    torch.manual_seed(0)
    mean = directions(1, d)
    spread = torch.full((20000,), concentration, dtype=torch.float64)
    found = draw(mean.expand(20000, d), spread)
    assert_allclose(torch.linalg.vector_norm(found, dim=1), 1, rtol=1e-9)
    ratio = iv(d / 2, concentration) / iv(d / 2 - 1, concentration)
    assert mean_length(concentration, d) == pytest.approx(ratio)
    assert_allclose(found.mean(0), ratio * mean[0], atol=0.02)
    w = (found * mean).sum(1).numpy()
    for share in (0.01, 0.3, 0.9):
        assert (w < cap_boundary(concentration, d, share)).mean() == pytest.approx(
            share, abs=0.015
        )


def test_draws_move_with_mean_and_concentration():
    mean = directions(5, 4).requires_grad_()
    spread = torch.full((5,), 9.0, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    w = (draw(mean, spread) * mean.detach()).sum(1)
    w.sum().backward()
    assert mean.grad.abs().min() > 0
    assert (spread.grad > 0).all()  # more concentrated, nearer to the mean
    torch.manual_seed(0)
    turn = torch.tensor(ortho_group(4).rvs(random_state=0))
    turned = draw(mean.detach() @ turn, spread.detach())
    cosines = (turned * (mean.detach() @ turn)).sum(1)
    assert_allclose(cosines, w.detach())


@pytest.mark.parametrize("concentration", [1e-6, 1e4, 1e9, 1e25])
def test_draws_of_any_concentration_come_to_an_end(concentration):
    torch.manual_seed(0)
    mean = directions(200, 6).float()
    found = draw(mean, torch.full((200,), concentration))
    assert_allclose(torch.linalg.vector_norm(found, dim=1), 1, rtol=1e-5)
    if concentration > 1:
        # the cosine lacks (d - 1) / 2 of the inverse concentration
        away = (found - mean).square().sum(1).mean() / 2
        expected = max(2.5 / concentration, 1e-14)
        assert away == pytest.approx(expected, rel=0.2, abs=1e-12)
    assert draw(mean, torch.full((200,), torch.nan)).isnan().all()


def test_boundaries_of_caps_are_quantiles():
    k = 4.0
    for share in (1e-4, 0.05, 0.7):
        # of three dimensions the cosine has an exponential density
        expected = np.log(np.exp(-k) + share * (np.exp(k) - np.exp(-k))) / k
        assert cap_boundary(k, 3, share) == pytest.approx(expected, abs=1e-3)
        angle = vonmises(k).ppf(1 - share / 2)  # of the circle both sides
        assert cap_boundary(k, 2, share) == pytest.approx(np.cos(angle), abs=1e-3)

    def density(w):
        return np.exp(60 * (w - 1)) * (1 - w**2) ** (29 / 2)

    found = cap_boundary(60.0, 32, 0.01)
    share = quad(density, -1, found)[0] / quad(density, -1, 1)[0]
    assert share == pytest.approx(0.01, rel=0.02)
    assert cap_boundary(1e6, 64, 1e-4) > 0.999
    found = [cap_boundary(k, 64, 1e-4) for k in (10.0, 100.0, 1000.0)]
    assert found == sorted(found)


def test_caps_are_fitted_to_directions():
    torch.manual_seed(0)
    means, n = directions(2, 8), 4000
    spread = torch.tensor([20.0, 200.0], dtype=torch.float64)
    labels = torch.arange(2).repeat(n)
    centres, found = caps(draw(means[labels], spread[labels]), labels, 2)
    assert_allclose(centres, means, atol=0.01)
    assert_allclose(found, spread, rtol=0.05)
    assert concentration_of(mean_length(50.0, 8), 8) == pytest.approx(50, rel=0.02)
    assert concentration_of(mean_length(3.0, 5), 5) == pytest.approx(3, rel=0.03)
    # one code alone
    assert caps(means[:1], torch.zeros(1, dtype=torch.long), 1)[1].isfinite().all()


def test_outside_of_all_caps_is_above_zero():
    codes, centres = directions(30, 5), directions(3, 5, seed=1)
    boundaries = torch.tensor([0.9, 0.2, 0.5], dtype=torch.float64)
    cosines = codes.numpy() @ centres.numpy().T
    expected = [min(0.9 - a, 0.2 - b, 0.5 - c) for a, b, c in cosines]
    assert_allclose(outside_caps(codes, centres, boundaries), expected)
    turn = torch.tensor(ortho_group(5).rvs(random_state=0))
    turned = outside_caps(codes @ turn, centres @ turn, boundaries)
    assert_allclose(turned, expected)


# ------------------------------------------------------------------------- the network


@pytest.mark.parametrize("n_attributes", [None, 5])
def test_the_loss_has_its_terms(n_attributes):
    torch.manual_seed(0)
    table = None if n_attributes is None else torch.randn(3, n_attributes)
    # so concentrated that codes are their means
    network = BoundaryNetwork((4,), 3, table, "mlp", (6,), 7, 5, 1e9, 1e-4)
    x, y = torch.randn(10, 4), torch.arange(10) % 3
    codes = [network.encoder(x)[0]]
    if table is not None:
        codes.append(network.attribute_encoder(table[y])[0])
    expected = 0.0
    for z in codes:
        expected = expected + (
            (network.decoder(z) - x).abs().mean()
            + F.cross_entropy(network.classifier(z), y)
        ) / len(codes)
        if table is not None:
            away = (network.attribute_decoder(z) - table[y]).abs().mean()
            expected = expected + away / 2
    classes_of_both = network.loss(x, y)
    if table is not None:
        expected = expected + 0.1 * (codes[0] - codes[1]).square().sum(1).mean()
    assert_allclose(classes_of_both.detach(), expected.detach(), rtol=1e-3)


def test_caps_lie_around_the_codes_of_attributes():
    X, y = classes()
    table = np.random.default_rng(0).normal(size=(3, 6))
    detector = BoundaryGZSL(table, outside=0.02, max_epochs=2, **SMALL).fit(X, y)
    net = detector.net_
    centres, spread = net.attribute_encoder(torch.tensor(table).float())
    assert_allclose(net.centres, centres, rtol=1e-6)
    expected = [cap_boundary(float(one), 4, 0.02) for one in spread]
    assert_allclose(net.boundaries, expected, rtol=1e-6)
    codes = net.codes(torch.tensor(X[:7]).float()).numpy()
    away = net.boundaries.numpy() - codes @ centres.numpy().T
    assert_allclose(-detector.score_samples(X[:7]), away.min(1), rtol=1e-4, atol=1e-6)
    by_name = dict(zip("abc", table, strict=True))
    other = BoundaryGZSL(by_name, outside=0.02, max_epochs=2, **SMALL).fit(X, y)
    assert_array_equal(other.score_samples(X), detector.score_samples(X))


def test_without_attributes_caps_fit_the_codes_of_rows():
    X, y = classes()
    detector = BoundaryGZSL(max_epochs=30, contamination=0.1, **SMALL).fit(X, y)
    net = detector.net_
    codes = net.codes(torch.tensor(X).float())
    labels = torch.tensor(np.searchsorted(["a", "b", "c"], y))
    centres, spread = caps(codes, labels, 3)
    assert_allclose(net.centres, centres, atol=1e-5)
    expected = [cap_boundary(float(one), 4, 1e-4) for one in spread]
    assert_allclose(net.boundaries, expected, rtol=1e-4)


@pytest.mark.parametrize("table", [None, np.eye(3)])
def test_rows_of_no_class_lie_out_of_the_caps(table):
    X, y = classes()
    detector = BoundaryGZSL(table, max_epochs=80, random_state=0).fit(X, y)
    new, labels = classes(seed=1)
    odd = np.random.default_rng(2).normal([0, -4, 0], 0.5, (40, 3))
    scores, far = detector.score_samples(new), detector.score_samples(odd)
    assert np.mean(scores[:, None] > far) > 0.9
    found = detector.predict_with_rejection(new)
    assert np.mean(found == labels) > 0.8


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"a": [1.0], "b": [2.0]}, "none of the class 'c'"),
        (np.ones((2, 4)), r"shape \(2, 4\), not \(3, n_attributes\)"),
        (np.full((3, 2), np.nan), "not finite"),
        ([["x"], ["y"], ["z"]], "no table of numbers"),
    ],
)
def test_attributes_that_do_not_fit_are_named(table, message):
    X, y = classes()
    with pytest.raises(ValueError, match=message):
        BoundaryGZSL(table, **SMALL).fit(X, y)
