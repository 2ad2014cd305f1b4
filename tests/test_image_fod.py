"""FOD: correlations and their targets, two losses in one step, errors they weigh."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.special import rel_entr, softmax
from torch import nn

from skad.image import FOD
from skad.image.density._fod import DiscrepancyTransformer, FODNetwork
from skad.nn.correlation import CorrelatedAttention, both_ways, divergence, entropy

SHAPES = [(6, 4, 3), (5, 2, 2)]
SMALL = {"hidden_size": 8, "n_layers": 2, "n_heads": 2}
WEIGHTS = {"target_weight": 0.3, "entropy_weight": 0.7}


pytestmark = pytest.mark.usefixtures("own_generator")


def network_of(**others):
    network = FODNetwork(SHAPES, **{**SMALL, **WEIGHTS, **others}).double()
    x = torch.randn(3, 6 * 12 + 5 * 4).double()
    network.begin("fit", lambda: iter([(x[:1], None), (x[1:], None)]))
    return network, x


def rows_of(x):
    """Return the features of both layers, (b, p, c), by hand."""
    first, second = x.split([72, 20], 1)
    return first.reshape(3, 6, 12).mT, second.reshape(3, 5, 4).mT


def numbers(tensor):
    return tensor.detach().numpy()


# ----------------------------------------------------------------------- the attention


def test_widths_lie_between_0_and_2():
    layer = CorrelatedAttention((4, 3), 8, 2).double()
    widths = layer.widths(1000 * torch.randn(5, 12, 8).double())
    assert widths.shape == (5, 2, 12, 2)
    assert 0 < widths.min() < 1e-4
    assert_allclose(widths.max().detach(), 2, rtol=1e-4)
    with torch.no_grad():
        layer.width.weight.zero_(), layer.width.bias.fill_(0.2)
    widths = layer.widths(torch.zeros(1, 12, 8).double())
    assert_allclose(numbers(widths), 3 ** (1 / (1 + np.exp(-1))) - 1, rtol=1e-4)


def test_targets_are_gaussians_of_the_distance():
    layer, x = (
        CorrelatedAttention((4, 3), 8, 2).double(),
        torch.randn(2, 12, 8).double(),
    )
    widths, targets = numbers(layer.widths(x)), numbers(layer.targets(x))
    assert_allclose(targets.sum(-1), 1)
    for b, k, i in np.ndindex(2, 2, 12):
        row, column = divmod(i, 3)
        rows, columns = np.indices((4, 3))
        tall, wide = widths[b, k, i]
        density = np.exp(-((rows - row) ** 2) / (2 * tall**2))
        density = density * np.exp(-((columns - column) ** 2) / (2 * wide**2))
        assert_allclose(targets[b, k, i], (density / density.sum()).ravel(), atol=1e-12)


def test_attention_is_that_of_torch():
    layer = CorrelatedAttention((4, 3), 8, 2).double()
    x, others = torch.randn(2, 2, 12, 8).double()
    whole = nn.MultiheadAttention(8, 2, batch_first=True).double()
    with torch.no_grad():
        parts = (layer.query, layer.key, layer.value)
        whole.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        whole.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        whole.out_proj.weight.copy_(torch.eye(8)), whole.out_proj.bias.zero_()
        expected, weights = whole(x, others, others, average_attn_weights=False)
        values, correlations = layer(x, others)
    assert_allclose(values, expected, atol=1e-12)
    assert_allclose(correlations, weights, atol=1e-12)


def test_divergence_and_entropy_are_those_of_scipy_up_to_the_floor():
    p, q = torch.randn(2, 3, 2, 5, 7).double().softmax(-1)
    expected = rel_entr(numbers(p), numbers(q)).sum(-1).mean(1)
    assert_allclose(divergence(p, q), expected, atol=5e-3)
    assert_allclose(both_ways(p, q), divergence(p, q) + divergence(q, p))
    assert_allclose(both_ways(p, p), 0)
    own = -(numbers(p) * np.log(numbers(p))).sum(-1).mean(1)
    assert_allclose(entropy(p), own, atol=5e-3)
    assert_allclose(entropy(torch.full((1, 1, 1, 4), 0.25)), np.log(4), atol=5e-3)


# --------------------------------------------------------------------- the transformer


def test_what_a_place_carries_itself_cancels_out():
    """A layer goes on with what is seen inside less what is seen outside."""
    model = DiscrepancyTransformer(SHAPES[0], 8, 1, 2).double()
    rows, normal = torch.randn(2, 12, 6).double(), torch.randn(12, 6).double()
    (layer,) = model.layers
    x = model.embed(rows) + model.codes
    reference = (model.embed_normal(normal) + model.codes).expand_as(x)
    inside, outside = layer.intra(x, x)[0] + x, layer.inter(x, reference)[0] + x
    middle = layer.first(inside - outside)
    middle = layer.second(middle + layer.wide(middle))
    expected = model.project(model.norm(middle))
    found, intra, inter = model(rows, normal)
    assert_allclose(numbers(found), numbers(expected), atol=1e-10)
    assert len(intra) == len(inter) == 1
    assert found.shape == rows.shape


@pytest.mark.parametrize(("channels", "expected"), [(37, 16), (64, 32), (3, 8)])
def test_vectors_have_half_the_channels(channels, expected):
    model = DiscrepancyTransformer((channels, 2, 2), None, 1, 8)
    assert model.embed.out_features == expected


# ------------------------------------------------------------------------- the network


def test_normal_features_are_the_mean_of_the_training():
    network, x = network_of()
    for i, rows in enumerate(rows_of(x)):
        assert_allclose(getattr(network, f"normal_{i}"), rows.mean(0))


def test_without_weights_it_is_a_transformer_autoencoder():
    network, x = network_of(target_weight=0.0, entropy_weight=0.0)
    for (name, loss), rows, model, i in zip(
        network.updates("fit", x, None),
        rows_of(x),
        network.transformers,
        (0, 1),
        strict=True,
    ):
        found = numbers(model(rows, getattr(network, f"normal_{i}"))[0])
        rows = rows.numpy()
        lengths = np.linalg.norm(rows, axis=-1) * np.linalg.norm(found, axis=-1)
        cosine = (rows * found).sum(-1) / lengths
        expected = ((rows - found) ** 2).mean() + 1 - cosine.mean()
        assert name == f"layer{i}"
        assert_allclose(numbers(loss), 2 * expected)


def test_one_step_takes_the_gradients_of_two_losses():
    """Of the two losses of the authors, each taken backwards by itself."""
    network, x = network_of()
    for i, (rows, found, intra, inter) in enumerate(network.rebuilt_rows(x)):
        plain = network.errors(rows, found).mean()

        def apart(pairs, fixed):
            total = 0.0
            for pair in pairs:
                p, q = (
                    part.detach() if fixed == n else part for n, part in enumerate(pair)
                )
                total = total + divergence(p, q).mean() + divergence(q, p).mean()
            return total / len(pairs)

        wide, narrow = (
            sum(entropy(p).mean() for p, _ in s) / 2 for s in (intra, inter)
        )
        of_targets = plain + 0.3 * apart(intra, 0) - 0.3 * apart(inter, 0)
        of_both = plain - 0.3 * apart(intra, 1) - 0.7 * wide
        of_both = of_both + 0.3 * apart(inter, 1) + 0.7 * narrow
        weights = list(network.transformers[i].parameters())
        of_targets.backward(retain_graph=True)
        of_both.backward()
        expected = [weight.grad.clone() for weight in weights]
        network.zero_grad()
        loss = dict(network.updates("fit", x, None))[f"layer{i}"]
        assert_allclose(numbers(loss), numbers(of_targets + of_both))
        found = torch.autograd.grad(loss, weights)
        for one, other in zip(found, expected, strict=True):
            assert_allclose(one, other, atol=1e-10)


def test_the_map_by_hand():
    network, x = network_of()
    total = 0.0
    for rows, found, _, inter in network.rebuilt_rows(x):
        error = numbers(network.errors(rows, found))
        apart = sum(both_ways(p, q) for p, q in inter) / 2
        alike = softmax(-numbers(apart), axis=1)
        maps = error * (alike.max(1, keepdims=True) - alike)
        n_rows = 4 if maps.shape[1] == 12 else 2
        maps = torch.tensor(maps.reshape(3, n_rows, -1))
        if n_rows == 2:  # corners stay where they are
            shares = [np.linspace(0, 1, n) for n in (4, 3)]
            tall, wide = (torch.tensor(np.stack([1 - u, u], 1)) for u in shares)
            maps = tall @ maps @ wide.T
        total = total + maps
    assert_allclose(numbers(network.map(x)), total / 2, rtol=1e-9)


# ------------------------------------------------------------------------ the detector


def pictures(n, seed=0):
    rng = np.random.default_rng(seed)
    texture = np.random.default_rng(9).uniform(size=(16, 24, 3))
    return 0.8 * texture + 0.1 * rng.uniform(size=(n, 16, 24, 3))


def test_layers_are_averaged_by_themselves():
    X = pictures(4)
    backbone = nn.Sequential(nn.AvgPool2d(2), nn.AvgPool2d(2))
    settings = {"backbone": backbone, "layers": ["0", "1"], "normalization": None}
    detector = FOD(**settings, **SMALL, max_epochs=1, random_state=0).fit(X)
    assert detector.net_.shapes == [(3, 8, 12), (3, 4, 6)]
    fine, coarse = detector._layers(torch.tensor(X))
    means = X.reshape(4, 8, 2, 12, 2, 3).mean((2, 4))
    assert_allclose(fine[:, :, 3, 4], means[:, 2:5, 3:6].mean((1, 2)))
    means = means.reshape(4, 4, 2, 6, 2, 3).mean((2, 4))
    assert_allclose(coarse[:, :, 1, 1], means[:, :3, :3].mean((1, 2)))
    assert_allclose(coarse[:, :, 0, 0], means[:, :2, :2].sum((1, 2)) / 9)


def test_a_defect_is_found():
    X, bad = pictures(16), pictures(3, seed=5)
    bad[:, 4:12, 8:16] = 1.0
    backbone = {"backbone": nn.Sequential(nn.AvgPool2d(2)), "layers": ["0"]}
    detector = FOD(
        **backbone,
        **SMALL,
        normalization=None,
        max_epochs=15,
        lr=1e-3,
        smoothing=1,
        random_state=0,
    ).fit(X)
    losses = [row["train_loss"] for row in detector.history_]
    assert losses[-1] < losses[0]
    assert detector.score_samples(bad).max() < detector.score_samples(X).min()
    for each in detector.transform(bad):
        row, column = np.unravel_index(each.argmax(), each.shape)
        assert 3 <= row <= 12
        assert 7 <= column <= 16


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_heads": 3, "hidden_size": 16}, "hidden_size=16 must be a multiple of 12"),
        ({"n_layers": 0}, "n_layers"),
        ({"neighborhood": 2}, "neighborhood=2 must be odd"),
    ],
)
def test_wrong_parameters(settings, message):
    with pytest.raises(ValueError, match=message):
        FOD(**settings).fit(pictures(3))
