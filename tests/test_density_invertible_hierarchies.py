"""InvertibleHierarchies: Glow, the sum over its scales, and the ratio of two."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.metrics import roc_auc_score
from torch.nn import functional

from skad.density import InvertibleHierarchies
from skad.density._invertible_hierarchies import InvertibleHierarchiesNetwork
from skad.nn.flow import InvertibleConvolution
from skad.nn.glow import ActNorm, Glow, GlowStep, Squeeze

SMALL = {"n_scales": 2, "n_steps": 2, "hidden_size": 8}
OTHERS = {
    "measure": "ratio",
    "noise": 1 / 256,
    "mutation": 0.2,
    "outlier_weight": 0.0,
    "temperature": 10.0,
}
SHAPES = [(1, 4, 4), (3, 2, 4), (1, 1, 6), (2, 3, 3), (1, 1, 5), (1, 6, 6)]


pytestmark = pytest.mark.usefixtures("own_generator")


def loosened(module):
    """Return a module in float64 with weights of its own everywhere."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return module.double()


def numbers(tensor):
    return tensor.detach().numpy()


# --------------------------------------------------------------------------- the flow


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("n_scales", [1, 3])
def test_the_terms_of_scales_are_the_log_likelihood(shape, n_scales):
    """By the Jacobian of the whole flow, and the density of all that it returns."""
    flow = loosened(Glow(shape, n_scales, 2, 5))
    x = torch.randn(1, *shape).double()

    def whole(x):
        return torch.cat([z.flatten() for z, _ in flow(x)])

    jacobian = torch.autograd.functional.jacobian(whole, x).flatten(1)
    assert jacobian.shape == (x.numel(), x.numel())
    normal = torch.distributions.Normal(0, 1).log_prob(whole(x)).sum()
    expected = normal + torch.linalg.slogdet(jacobian).logabsdet
    terms = flow.terms(x)
    assert terms.shape[1] <= n_scales
    assert_allclose(numbers(terms.sum(1)), [numbers(expected)], rtol=1e-9)
    # the last one and the earlier ones are what their own numbers say
    for term, (z, logdet) in zip(terms[0], flow(x), strict=True):
        own = torch.distributions.Normal(0, 1).log_prob(z).sum() + logdet
        assert_allclose(numbers(term), numbers(own[0]), rtol=1e-9)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_flow_is_invertible(shape):
    flow, x = loosened(Glow(shape, 3, 2, 5)), torch.randn(4, *shape).double()
    parts = [z for z, _ in flow(x)]
    assert sum(z.shape[1] for z in parts) == math.prod(shape)
    assert_allclose(numbers(flow.inverse(parts)), x, atol=1e-9)


def test_a_density_adds_up_to_one():
    flow = loosened(Glow((1, 1, 2), 2, 2, 5))
    axis = torch.linspace(-20, 20, 401).double()
    grid = torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
    density = flow.terms(grid).sum(1).exp().sum() * 0.1**2
    assert_allclose(numbers(density), 1, rtol=1e-3)


def test_of_one_number_it_is_a_normal_distribution():
    flow = loosened(Glow((1, 1, 1), 3, 2, 5))
    x = torch.tensor([0.0, 1.0, 2.5]).double().view(3, 1, 1, 1)
    ((z, _),) = flow(x)
    slope = z[1, 0] - z[0, 0]
    std, mean = 1 / slope.abs(), -z[0, 0] / slope
    expected = torch.distributions.Normal(mean, std).log_prob(x.flatten())
    assert_allclose(numbers(flow.terms(x)[:, 0]), numbers(expected), rtol=1e-9)


@pytest.mark.parametrize(
    ("shape", "squeezed"),
    [
        ((3, 4, 6), (12, 2, 3)),
        ((1, 3, 4), (2, 3, 2)),
        ((1, 4, 3), (2, 2, 3)),
        ((2, 3, 5), (30, 1, 1)),
    ],
)
def test_squares_become_channels(shape, squeezed):
    layer, x = Squeeze(shape), torch.randn(2, *shape)
    found = layer(x)
    assert layer.squeezed == squeezed
    assert found.shape[1:] == squeezed
    assert_allclose(layer.inverse(found), x)
    if shape == (3, 4, 6):
        assert_allclose(found, functional.pixel_unshuffle(x, 2))


def test_a_step_by_hand():
    step, x = loosened(GlowStep(3, 5, 3)), torch.randn(2, 3, 4, 4).double()
    z, _ = step(x)
    middle = (x + step.norm.shift) * step.norm.log_scale.exp()
    middle = torch.einsum("ij,bjhw->bihw", step.mix.matrix(), middle)
    first, second = middle[:, :1], middle[:, 1:]
    scale, shift = step.subnetwork(first).chunk(2, 1)
    second = (second + shift) / (1 + torch.exp(-scale - 2))
    assert_allclose(numbers(z), numbers(torch.cat([first, second], 1)))


def test_a_mixing_convolution_knows_its_determinant():
    layer = loosened(InvertibleConvolution(4))
    expected = torch.linalg.slogdet(layer.matrix()).logabsdet
    assert abs(float(expected.detach())) > 0.01
    assert_allclose(numbers(layer.log_determinant()), numbers(expected))


def test_a_flow_starts_with_data_of_one_scale():
    flow = Glow((1, 4, 4), 2, 3, 5).double()
    x = 5 + 3 * torch.randn(200, 1, 4, 4).double()
    flow.start(x)
    assert not any(
        part.starting for part in flow.modules() if isinstance(part, ActNorm)
    )
    first = flow.steps[0][0].norm(flow.squeezes[0](x))[0]
    assert_allclose(numbers(first.mean((0, 2, 3))), 0, atol=1e-10)
    assert_allclose(numbers(first.std((0, 2, 3), correction=0)), 1)
    for z, _ in flow(x):
        assert_allclose(numbers(z.mean(0)), 0, atol=1e-10)
        assert_allclose(numbers(z.std(0, correction=0)), 1)


# ------------------------------------------------------------------------ the network


def network_of(shape=(1, 4, 4), n=12, **others):
    network = InvertibleHierarchiesNetwork(shape, **SMALL, **{**OTHERS, **others})
    return loosened(network), torch.rand(n, *shape).double()


def test_the_ratio_is_that_of_both_flows_and_0_of_a_copy():
    network, x = network_of()
    seen = x + 0.5 / 256
    general, own = (flow.terms(seen).sum(1) for flow in (network.general, network.own))
    assert (general - own).abs().max() > 0.1
    assert_allclose(numbers(network.anomaly(x)), numbers(general - own))
    network.begin("fit", None)
    assert_allclose(numbers(network.anomaly(x)), 0, atol=1e-12)


def test_the_last_scale_is_a_part_of_the_likelihood():
    network, x = network_of(measure="last_scale")
    terms = network.own.terms(x + 0.5 / 256)
    assert_allclose(numbers(network.anomaly(x)), -numbers(terms[:, 1]))
    whole = -numbers(terms[:, 0]) + numbers(network.anomaly(x))
    assert_allclose(whole, -numbers(terms.sum(1)))


def test_each_flow_learns_what_is_its_own():
    network, x = network_of(noise=0.0)
    y = torch.tensor([1, -1, 0, -1] * 3)
    for phase, flow, rows in (
        ("general", network.general, x[y == -1]),
        ("fit", network.own, x[y != -1]),
    ):
        ((_, loss),) = network.updates(phase, x, y)
        assert_allclose(numbers(loss), -numbers(flow.terms(rows).sum(1).mean()))
        groups = network.groups(phase)
        assert {id(w) for w in groups["all"]} == {id(w) for w in flow.parameters()}
    ((_, loss),) = network.updates("fit", x, None)
    assert_allclose(numbers(loss), -numbers(network.own.terms(x).sum(1).mean()))
    ((_, loss),) = network.updates("general", x[y != -1], y[y != -1])
    assert loss == 0


def test_general_pictures_are_not_to_be_normal():
    network, x = network_of(noise=0.0, outlier_weight=7.0)
    y = torch.tensor([1, -1, 0, -1] * 3)
    ((_, loss),) = network.updates("fit", x, y)
    ratio = network.own.terms(x[y == -1]).sum(1) - network.general.terms(
        x[y == -1]
    ).sum(1)
    taken = torch.sigmoid(ratio / 10)
    expected = functional.binary_cross_entropy(taken, torch.zeros_like(taken))
    likelihood = network.own.terms(x[y != -1]).sum(1).mean()
    assert_allclose(numbers(loss), numbers(7 * expected - likelihood), rtol=1e-9)
    ((_, loss),) = network.updates("fit", x, None)
    assert_allclose(numbers(loss), -numbers(network.own.terms(x).sum(1).mean()))


def test_without_a_general_set_values_are_replaced():
    network, _ = network_of(mutation=0.25)
    x = 2 + torch.rand(50, 1, 4, 4).double()
    x[0, 0, 0, 0], x[1, 0, 0, 0] = 0.0, 10.0
    network.begin("general", lambda: iter([(x[:20], None), (x[20:], None)]))
    found = network.of_all_kinds(x, None)
    replaced = found != x
    assert abs(float(replaced.double().mean()) - 0.25) < 0.05
    values = found[replaced]
    assert values.min() < 1
    assert 9 < values.max() <= 10
    assert values.min() >= 0


def test_the_general_flow_starts_with_the_general_set():
    """Wherever it stands among the pictures."""
    network, x = network_of(n=40, noise=0.0)
    y = torch.ones(40)
    y[30:] = -1
    parts = [(x[i : i + 10], y[i : i + 10]) for i in range(0, 40, 10)]
    network.begin("general", lambda: iter(parts))
    assert_allclose(numbers(network.general(x[30:])[1][0].mean(0)), 0, atol=1e-10)


# ----------------------------------------------------------------------- the detector

TRAINED = {**SMALL, "general_epochs": 8, "max_epochs": 12, "lr": 0.005}


def pictures(n, seed, kind):
    rng = np.random.default_rng(seed)
    if kind == "noise":
        return rng.uniform(size=(n, 8, 8))
    stripes = 0.5 + 0.3 * np.sin(np.arange(8))
    return stripes + rng.normal(0, 0.1, size=(n, 8, 8))


def test_what_is_not_normal_is_told_from_what_is():
    X, general = pictures(80, 0, "stripes"), pictures(80, 1, "noise")
    detector = InvertibleHierarchies(**TRAINED, random_state=0)
    detector.fit(X, X_outliers=general)
    new = pictures(40, 2, "stripes")
    turned = pictures(40, 3, "stripes").swapaxes(1, 2)
    y = np.repeat([0, 1], 40)
    for other in (turned, pictures(40, 4, "noise")):
        scores = -detector.score_samples(np.concatenate([new, other]))
        assert roc_auc_score(y, scores) > 0.95
    assert (detector.predict(new) == -1).mean() < 0.25


def test_of_equal_data_the_ratio_is_near_0():
    """Beside what it is of other data, in nats."""
    X, same = pictures(80, 0, "stripes"), pictures(80, 1, "stripes")
    new = pictures(40, 2, "stripes")
    equal, unequal = (
        InvertibleHierarchies(**{**TRAINED, "max_epochs": 2}, random_state=0).fit(
            X, X_outliers=general
        )
        for general in (same, pictures(80, 1, "noise"))
    )
    assert np.abs(equal.score_samples(new)).mean() < 3
    assert unequal.score_samples(new).mean() > 20


def test_colours_rows_and_pictures_of_odd_sizes():
    rng = np.random.default_rng(0)
    settings = {**SMALL, "general_epochs": 1, "max_epochs": 1, "random_state": 0}
    for shape in ((5, 7, 3), (6, 5), (7,), (1,)):
        X = rng.uniform(size=(14, *shape))
        found = InvertibleHierarchies(**settings).fit(X).inspect(X)
        assert np.isfinite(found.scores).all()
        assert found.maps.shape == X.shape[:3]
