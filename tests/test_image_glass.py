"""GLASS: the ascent, the shell, made defects and the losses of places."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.nn import functional as F  # noqa: N812

import skad
from skad.image import GLASS
from skad.image.discriminative._glass import GLASSNetwork, hard_focal, of_length
from skad.nn.corruption import foreign_textures, shuffled_bands

SHAPES = [(4, 3, 5), (3, 8, 6)]  # of features, and of pictures


def describe(pictures):
    """Return five features of places of 2 x 2 pixels."""
    x = F.avg_pool2d(pictures.movedim(3, 1), 2).movedim(1, 3)
    return torch.cat([x, x[..., :2] ** 2], 3)


def network(**given):
    torch.manual_seed(0)
    given = {
        "hidden_size": 8,
        "noise": 0.015,
        "distribution": "manifold",
        "radius": 0.5,
        "radius_quantile": 0.75,
        "n_ascent_steps": 5,
        "ascent_lr": 1e-3,
        "hard_quantile": 0.5,
        "adaptor_lr": 1e-4,
        **given,
    }
    return GLASSNetwork(SHAPES, describe, **given)


def samples(n, seed=1):
    """Return samples (n, m): what pictures are described by, and they themselves."""
    x = torch.rand(n, 3, 8, 6, generator=torch.Generator().manual_seed(seed))
    return torch.cat([describe(x.movedim(1, 3)).flatten(1), x.flatten(1)], 1)


def linear(net):
    """Make the discriminator linear; return its weight."""
    net.discriminator = torch.nn.Linear(5, 1)
    return net.discriminator.weight.detach()[0]


@pytest.mark.parametrize("n_steps", [1, 3])
def test_a_step_uphill_lowers_a_linear_logit_by_its_length(n_steps):
    net = network(n_ascent_steps=n_steps)
    weight = linear(net)
    normal = torch.randn(24, 5)
    torch.manual_seed(2)
    found = net.around(normal, 2)
    torch.manual_seed(2)
    start = normal + 0.015 * torch.randn(24, 5)
    fall = (net.discriminator(found) - net.discriminator(start))[:, 0].detach()
    assert_allclose(fall, -n_steps * 1e-3 * weight.norm(), rtol=1e-3)
    with torch.no_grad():  # also where losses are watched
        torch.manual_seed(2)
        assert_allclose(net.around(normal, 2), found.detach())


def test_without_steps_there_is_the_noise_alone():
    net, normal = network(n_ascent_steps=0), torch.randn(2400, 5)
    away = net.around(normal, 200) - normal
    assert float(away.std()) == pytest.approx(0.015, rel=0.03)


def test_shifts_end_in_the_shell():
    normal = torch.randn(24, 5)
    ways = network().around(normal, 2) - normal
    lengths = ways.norm(dim=1)
    assert_allclose(lengths, 0.5, rtol=1e-5)  # noise is shorter than the shell
    away = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.9, 1.2]])
    found = of_length(away, 1.0, 2.0)
    assert_allclose(found, [[1.2, 1.6], [0.6, 0.8], [0.9, 1.2]], rtol=1e-6)
    assert not of_length(torch.zeros(1, 2), 1.0, 2.0).isnan().any()


def test_in_a_hypersphere_they_are_around_the_means_of_places():
    net, x = network(distribution="hypersphere"), samples(6)
    net.begin("fit", lambda: ((x[rows], None) for rows in (slice(2), slice(2, 6))))
    normal = net.adapted(x).detach()
    expected = normal.reshape(6, 4, 3, 5).mean(0)
    assert_allclose(net.centers, expected, atol=1e-6)
    origin = expected.flatten(0, 1).repeat(6, 1)
    assert_allclose(net.origins(normal, 6), origin, atol=1e-6)
    away = (net.around(normal, 6) - origin).norm(dim=1)
    reach = float(away.min())
    # a quarter of them was farther out than the quantile, and the others moved onto it
    assert 0.7 < float((away < reach * 1.0001).float().mean()) < 0.8
    assert float(away.max()) <= 2 * reach * 1.0001
    lengths = (normal - origin).norm(dim=1)
    assert reach == pytest.approx(float(lengths.quantile(0.75)), rel=0.1)
    # made defects are farther by another factor of two
    torch.manual_seed(6)
    defects, mask = net.defects(x, net.adapted(x))
    torch.manual_seed(6)
    seen, _ = net.altered(x[:, 60:].reshape(6, 3, 8, 6))
    raw = net.adaptor(describe(seen.movedim(1, 3)).flatten(0, 2)).detach()
    ways, moved = ((each - origin)[mask == 1].detach() for each in (raw, defects))
    rank = int(0.75 * (len(ways) - 1))
    reach = float(ways.norm(dim=1).sort().values[rank])
    expected = ways.norm(dim=1).clamp(2 * reach, 4 * reach)
    assert_allclose(moved.norm(dim=1), expected, rtol=1e-4)
    assert_allclose(torch.cosine_similarity(moved, ways), 1, rtol=1e-4)
    own = net.adapted(x)
    assert_allclose(defects[mask == 0].detach(), own[mask == 0].detach(), atol=1e-6)


def test_defects_are_where_the_mask_says():
    net, x = network(), samples(12)
    pictures = x[:, 60:].reshape(12, 3, 8, 6)
    seen, mask = net.altered(pictures)
    changed = (seen != pictures).any(1)
    assert not (changed & ~mask).any()
    assert float((changed == mask).float().mean()) > 0.95
    torch.manual_seed(4)
    defects, places = net.defects(x, net.adapted(x))
    torch.manual_seed(4)
    seen, mask = net.altered(pictures)
    expected = mask.reshape(12, 4, 2, 3, 2).any(4).any(2)
    assert_array_equal(places.reshape(12, 4, 3) == 1, expected)
    assert_allclose(
        defects.detach(),
        net.adaptor(describe(seen.movedim(1, 3)).flatten(0, 2)).detach(),
        atol=1e-6,
    )


def test_textures_are_the_pixels_of_others_in_other_places():
    x = torch.rand(5, 3, 16, 20)
    moved = shuffled_bands(x)
    assert (moved != x).any()
    for one, other in zip(x, moved, strict=True):
        assert_array_equal(one.flatten(1).sort(1).values, other.flatten(1).sort(1)[0])
    assert_array_equal(shuffled_bands(x, 1), x)
    assert foreign_textures(x[:, :1, :1, :1]).shape == (5, 1, 1, 1)


def test_the_worse_half_counts():
    logits = torch.tensor([3.0, -1.0, 0.5, -4.0], dtype=torch.float64)
    labels = torch.tensor([1.0, 1.0, 0.0, 0.0], dtype=torch.float64)
    p = torch.sigmoid(torch.tensor([-1.0, -0.5], dtype=torch.float64))
    expected = ((1 - p) ** 2 * -p.log()).mean()
    assert float(hard_focal(logits, labels, 0.5)) == pytest.approx(float(expected))


def test_the_loss_is_the_sum_of_three():
    net, x = network().eval(), samples(3)
    torch.manual_seed(5)
    found = net.loss(x, None)
    torch.manual_seed(5)
    normal = net.adapted(x)
    around = net.discriminator(net.around(normal, 3))[:, 0]
    defects, mask = net.defects(x, normal)
    expected = F.softplus(net.discriminator(normal)).mean() + F.softplus(-around).mean()
    expected = expected + hard_focal(net.discriminator(defects)[:, 0], mask, 0.5)
    assert float(found.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert_allclose(
        net.map(x).detach().flatten(), net.discriminator(normal)[:, 0].detach()
    )


@pytest.mark.sampled(3)
def test_it_finds_what_is_planted_and_goes_into_a_graph(tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    random = np.random.default_rng(0)
    stripes = 0.5 + 0.2 * np.sin(np.arange(24) / 2)
    X = stripes + random.normal(0, 0.01, size=(20, 24, 24))
    X = X.astype(np.float32)
    bad = X[:4].copy()
    bad[:, 6:14, 6:14] = 0.9
    detector = GLASS(
        layers=["scale2"],
        hidden_size=32,
        n_ascent_steps=5,
        max_epochs=30,
        lr=2e-3,
        smoothing=1,
        random_state=0,
    ).fit(X[4:])
    assert detector.score_samples(bad).max() < detector.score_samples(X[:4]).min()
    skad.export.to_onnx(detector, tmp_path / "one.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx")
    decisions, maps = session.run(None, {"pictures": bad[..., None]})
    assert_allclose(decisions, detector.decision_function(bad), atol=1e-3)
    assert_allclose(maps, detector.transform(bad), atol=1e-3)
