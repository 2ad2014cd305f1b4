"""ALAE, GPND, HADGAN, OCGAN, OGNet and RGI against their formulas and closed cases."""

import copy
import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.base import clone
from torch import nn
from torch.nn import functional

from skad.adversarial import ALAE, ALOCC, GPND, HADGAN, OCGAN, RGI, AnoGAN, OGNet
from skad.adversarial._gpnd import generalized_normal
from skad.density import Mahalanobis
from skad.nn.adversarial import r1_penalty
from skad.nn.search import descend
from skad.nn.statistics import quantile

SMALL = {"max_epochs": 2, "hidden_sizes": (8, 6), "latent_size": 2, "random_state": 0}
DETECTORS = [
    ALAE(**SMALL),
    GPND(**SMALL),
    HADGAN(**SMALL),
    OCGAN(**SMALL, mining_epochs=1),
    OGNet(**SMALL, quality_epochs=1, measure="refined"),
    RGI(**SMALL, n_search_steps=10),
]
every = pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: type(d).__name__)


def rows(n=60, d=5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 3)) @ rng.normal(size=(3, d))


def pictures(n=16):
    return np.random.default_rng(1).uniform(size=(n, 7, 10, 2))


def network_of(detector, shape, seed=0):
    torch.manual_seed(seed)
    return detector._network(shape)


def updates_of(network, phase, x, seed=1):
    """Return the updates of one batch, all from the same weights and numbers."""
    torch.manual_seed(seed)
    return list(network.updates(phase, x, None))


def entropy(real, fake):
    return (functional.softplus(-real).mean() + functional.softplus(fake).mean()).item()


class Linear(nn.Module):
    """The product with a matrix (d, k)."""

    def __init__(self, matrix):
        super().__init__()
        self.matrix = nn.Parameter(torch.as_tensor(matrix))

    def forward(self, x):
        return x @ self.matrix.to(x).T


class Judge(nn.Module):
    """Logits that are a product with a vector (d,)."""

    def __init__(self, vector):
        super().__init__()
        self.vector = nn.Parameter(torch.as_tensor(vector))

    def forward(self, x):
        return x @ self.vector.to(x), x


# ----------------------------------------------------------------------- what all have


@every
@pytest.mark.parametrize("shape", [(5,), (2, 7, 10)])
def test_every_update_lowers_its_loss_by_weights_of_its_group_alone(detector, shape):
    network = network_of(detector, shape).eval()
    x = torch.randn(12, *shape)
    for phase in network.phases:
        groups = {k: list(v) for k, v in network.groups(phase).items()}
        order = [group for group, _ in updates_of(network, phase, x)]
        assert set(order) == set(groups)
        for i, group in enumerate(order):
            before = copy.deepcopy(network.state_dict())
            _, loss = updates_of(network, phase, x)[i]
            found = torch.autograd.grad(loss, groups[group], allow_unused=True)
            assert all(each is not None for each in found)
            length = sum(each.square().sum() for each in found).sqrt()
            with torch.no_grad():
                for weight, gradient in zip(groups[group], found, strict=True):
                    weight -= 1e-3 * gradient / length
            assert updates_of(network, phase, x)[i][1] < loss
            network.load_state_dict(before)


@every
def test_maps_of_pictures_have_their_size_and_one_pass_gives_both(detector):
    X = pictures()
    detector = copy.deepcopy(detector).fit(X)
    found = detector.inspect(X)
    assert found.maps.shape == (16, 7, 10)
    assert_allclose(found.maps, detector.transform(X))
    assert_allclose(found.scores, detector.score_samples(X))
    if detector._map_sums_to_score:
        assert_allclose(found.maps.sum((1, 2)), -found.scores, rtol=1e-6)


@every
def test_it_goes_on_from_what_it_learned(detector):
    X = rows()
    going = copy.deepcopy(detector)
    if not hasattr(going, "partial_fit"):
        going.set_params(warm_start=True).fit(X).fit(X)
        assert len(going.history_) == 4
        return
    for _ in range(2):
        going.partial_fit(X)
    assert len(going.history_) == 2 * len(going.net_.phases)
    assert np.isfinite(going.score_samples(X)).all()


# -------------------------------------------------------------------------------- ALAE


def test_r1_penalty_of_a_linear_critic_is_its_squared_length():
    vector = torch.tensor([1.0, -2.0, 0.5])
    penalty = r1_penalty(lambda x: x @ vector, torch.randn(7, 3))
    assert_allclose(penalty, 5.25, rtol=1e-6)
    picture = r1_penalty(lambda x: (x**2).flatten(1).sum(1) / 2, torch.ones(4, 2, 3, 3))
    assert_allclose(picture.detach(), 18, rtol=1e-6)  # the gradient is the picture


def test_alae_losses_in_closed_form():
    net = network_of(ALAE(latent_size=2, penalty_weight=10.0), (3,))
    matrix = torch.randn(2, 3)
    vector = torch.tensor([0.5, -1.0])
    net.encoder, net.discriminator = Linear(matrix), Judge(vector)
    x = torch.randn(9, 3)
    losses = dict(updates_of(net, "fit", x, seed=3))
    torch.manual_seed(3)
    first, second, third = (torch.randn(9, 2) for _ in range(3))
    logits = x @ matrix.T @ vector, net.judge(net.generator(net.mapping(first)))
    expected = entropy(*logits) + 5 * ((vector @ matrix) ** 2).sum().item()
    assert_allclose(losses["discriminator"].item(), expected, rtol=1e-5)
    fake = net.judge(net.generator(net.mapping(second)))
    assert_allclose(
        losses["generator"].item(), functional.softplus(-fake).mean().item(), rtol=1e-5
    )
    code = net.mapping(third)
    back = net.encoder(net.generator(code))
    error = ((back - code) ** 2).mean().item()
    assert_allclose(losses["reciprocity"].item(), error, rtol=1e-5)


def test_alae_codes_that_come_back_do_not_move_the_mapping():
    net = network_of(ALAE(**SMALL), (5,))
    loss = dict(updates_of(net, "fit", torch.randn(9, 5)))["reciprocity"]
    mapping = list(net.mapping.parameters())
    found = torch.autograd.grad(loss, mapping, allow_unused=True)
    assert all(each is None for each in found)


@pytest.mark.parametrize("measure", ["reconstruction", "code"])
def test_alae_scores_by_hand(measure):
    X = rows()
    detector = ALAE(**SMALL, measure=measure).fit(X)
    net, x = copy.deepcopy(detector.net_).double(), torch.tensor(X)
    code = net.encoder(x)
    rebuilt = net.generator(code)
    errors = ((x - rebuilt) ** 2).numpy()
    expected = errors.sum(1)
    if measure == "code":
        expected = ((code - net.encoder(rebuilt)) ** 2).sum(1).numpy()
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-9)
    assert_allclose(detector.transform(X), errors, rtol=1e-9)


# -------------------------------------------------------------------------------- GPND


@pytest.mark.parametrize("shape", [0.7, 1.0, 2.0, 6.0])
def test_generalized_normals_are_of_greatest_likelihood(shape):
    rng = np.random.default_rng(0)
    values = stats.gennorm.rvs(shape, 30, 4, size=400, random_state=rng)
    location, scale, found = generalized_normal(values)
    cost = stats.gennorm.nnlf((found, location, scale), values)
    assert cost <= stats.gennorm.nnlf((shape, 30, 4), values)
    for a, b, c in ((1.02, 1, 1), (1, 1.02, 1), (1, 1, 1.02), (0.98, 0.99, 0.98)):
        moved = stats.gennorm.nnlf((found * a, location * b, scale * c), values)
        assert moved > cost - 1e-6
    assert abs(location - 30) < 1.5


def test_generalized_normals_of_constant_codes_are_narrow():
    location, scale, _ = generalized_normal(np.full(20, 3.0))
    assert location == 3
    assert 0 < scale < 1e-4


def test_gpnd_is_the_likelihood_of_a_linear_gaussian():
    rng = np.random.default_rng(0)
    matrix, spread = rng.normal(size=(6, 2)), 0.3
    detector = GPND(latent_size=2, perpendicular_power=1.0)
    net = network_of(detector, (6,)).double()
    net.encoder, net.decoder = Linear(np.linalg.pinv(matrix)), Linear(matrix)
    # standard normal codes, and lengths of normal errors in the other four dimensions
    net.codes.copy_(torch.tensor(3 * [[1.0, 1.0]]))
    net.codes.mul_(torch.tensor([[0.0], [2**0.5], [2.0]], dtype=torch.float64))
    net.log_radius_density = lambda r: torch.tensor(
        stats.chi.logpdf(r.numpy(), 4, scale=spread)
    )
    x = rng.normal(size=(20, 6))
    across = np.eye(6) - matrix @ np.linalg.pinv(matrix)
    covariance = matrix @ matrix.T + spread**2 * across
    expected = -stats.multivariate_normal.logpdf(x, cov=covariance)
    with torch.no_grad():
        found = net.anomaly(torch.tensor(x)).numpy()
    assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("shape", [(5,), (2, 7, 10)])
def test_gpnd_stretch_is_the_volume_of_the_jacobian(shape):
    net = network_of(GPND(**SMALL), shape).double().eval()
    code = torch.randn(3, 2, dtype=torch.float64)
    for one, found in zip(code, net.stretch(code), strict=True):
        jacobian = torch.autograd.functional.jacobian(
            lambda z: net.decoder(z[None]).flatten(), one
        )
        expected = torch.linalg.slogdet(jacobian.T @ jacobian)[1] / 2
        assert_allclose(found.detach(), expected, rtol=1e-7)


def test_gpnd_directions_that_make_nothing_count_alike_in_both_dtypes():
    X = rows(d=6)
    settings = {**SMALL, "latent_size": 5, "hidden_sizes": (3,)}
    detector = GPND(**settings, contamination=0.1).fit(X)  # two directions are flat
    found = detector.score_samples(X)
    assert_allclose(detector.score_samples(X.astype(np.float32)), found, rtol=1e-3)


def test_gpnd_densities_are_those_of_the_training_data():
    X = rows()
    detector = GPND(**SMALL, contamination=0.1).fit(X)
    net, x = copy.deepcopy(detector.net_).double(), torch.tensor(X)
    errors = (x - net.decoder(net.encoder(x))).norm(dim=1).numpy()
    heights, edges = np.histogram(errors, bins=30, density=True)
    inside = (edges[1:] + edges[:-1]) / 2
    tries = np.concatenate([inside, [edges[0] / 2, edges[-1] * 2]])
    found = net.log_radius_density(torch.tensor(tries)).numpy()
    filled = heights > 0
    assert_allclose(found[:30][filled], np.log(heights[filled]), rtol=1e-3, atol=1e-3)
    assert_allclose(found[:30][~filled], math.log(1e-308), rtol=1e-3)
    assert_allclose(found[30], np.log(heights[0] / 2), rtol=1e-3, atol=1e-3)
    assert_allclose(found[31], math.log(1e-308), rtol=1e-3)


def test_gpnd_without_code_and_tangent_ranks_as_a_falling_density_of_errors():
    X = rows()
    net = copy.deepcopy(GPND(**SMALL).fit(X).net_).double()
    net.log_code_density = net.stretch = lambda code: 0.0
    net.log_radius_density = lambda radius: -radius
    x = torch.tensor(X)
    order = np.argsort(net.anomaly(x).numpy())
    net.measure = "reconstruction"
    assert (np.argsort(net.anomaly(x).numpy()) == order).all()


def test_gpnd_losses_in_closed_form():
    net = network_of(GPND(latent_size=2, reconstruction_weight=3.0), (3,))
    x = torch.randn(9, 3)
    losses = dict(updates_of(net, "fit", x, seed=3))
    torch.manual_seed(3)
    first, second, prior = (torch.randn(9, 2) for _ in range(3))
    code, critic, judge = net.encoder(x), net.critic, net.discriminator
    found = {name: loss.item() for name, loss in losses.items()}
    expected = {
        "critic": entropy(critic(x)[0], critic(net.decoder(first))[0]),
        "generator": functional.softplus(-critic(net.decoder(second))[0]).mean().item(),
        "discriminator": entropy(judge(prior)[0], judge(code)[0]),
    }
    fooled = functional.softplus(-judge(code)[0]).mean()
    error = ((x - net.decoder(code)) ** 2).mean()
    expected["autoencoder"] = (3 * error + fooled).item()
    assert found == pytest.approx(expected, rel=1e-5)


# ------------------------------------------------------------------------------ HADGAN


def test_hadgan_without_reconstruction_is_the_mahalanobis_distance():
    X = rows(d=3) + 0.1 * np.random.default_rng(1).normal(size=(60, 3))
    new = rows(d=3, seed=2)
    net = network_of(HADGAN(**SMALL), (3,)).double()
    net.decoder = Linear(np.zeros((3, 2)))
    with torch.no_grad():
        net.finish(lambda: [(x, None) for x in torch.tensor(X).split(7)])
        maps = net.map(torch.tensor(new)).numpy()
    reference = Mahalanobis().fit(X)
    assert_allclose(maps, reference.transform(new), rtol=1e-7)
    assert_allclose(-reference.score_samples(new), maps.sum(1), rtol=1e-7)


def test_hadgan_scores_the_residual_of_the_rows_it_was_trained_on():
    X = rows() + 0.1 * np.random.default_rng(1).normal(size=(60, 5))
    detector = HADGAN(**SMALL, contamination=0.1).fit(X)
    net, x = copy.deepcopy(detector.net_).double(), torch.tensor(X)
    residual = (x - net.decoder(net.encoder(x))).numpy()
    away = residual - residual.mean(0)
    inverse = np.linalg.inv(np.cov(residual.T, bias=True))
    expected = np.einsum("ni,ij,nj->n", away, inverse, away)
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-3)


def test_hadgan_losses_in_closed_form():
    net = network_of(HADGAN(latent_size=2, code_weight=0.5), (3,))
    x = torch.randn(9, 3)
    losses = dict(updates_of(net, "fit", x, seed=3))
    torch.manual_seed(3)
    prior = torch.randn(9, 2)
    code = net.encoder(x)
    rebuilt = net.decoder(code)
    judged = net.discriminator(code)[0], net.critic(rebuilt)[0]
    expected = {
        "discriminator": entropy(net.discriminator(prior)[0], judged[0]),
        "critic": entropy(net.critic(x)[0], judged[1]),
    }
    fooled = sum(functional.softplus(-logits).mean() for logits in judged)
    errors = ((x - rebuilt) ** 2).mean() + ((code - net.encoder(rebuilt)) ** 2).mean()
    expected["autoencoder"] = (errors + 0.5 * (code**2).mean() + fooled).item()
    found = {name: loss.item() for name, loss in losses.items()}
    assert found == pytest.approx(expected, rel=1e-5)


# ------------------------------------------------------------------------------- OCGAN


def test_ocgan_codes_stay_in_the_cube():
    net = OCGAN(**SMALL, mining_epochs=0).fit(rows()).net_
    for size in (1.0, 1e6):
        assert net.encoder(size * torch.randn(50, 5)).abs().max() <= 1


def test_ocgan_mining_goes_along_the_gradient_of_each_sample():
    net = network_of(OCGAN(latent_size=3, mining_lr=0.7), (3,))
    vector = torch.tensor([1.0, -2.0, 0.5])
    net.decoder, net.classifier = Linear(torch.eye(3)), Judge(vector)
    start = 2 * torch.rand(6, 3) - 1
    code = start.tanh()
    told = torch.sigmoid(code @ vector)[:, None]
    expected = start - 0.7 * told * (1 - code**2) * vector
    with torch.no_grad():  # whoever calls
        assert_allclose(net.mined(start), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("phase", ["fit", "mining"])
def test_ocgan_losses_in_closed_form(phase):
    detector = OCGAN(
        latent_size=2,
        noise=0.3,
        reconstruction_weight=20.0,
        latent_weight=3.0,
        visual_weight=5.0,
    )
    net = network_of(detector, (4,))
    with torch.no_grad():  # so that it matters what it sees
        for weight in (*net.decoder.parameters(), *net.visual_critic.parameters()):
            weight.mul_(3)
    x = torch.randn(9, 4)
    losses = dict(updates_of(net, phase, x, seed=3))
    torch.manual_seed(3)
    noisy = x + 0.3 * torch.randn(9, 4)
    uniform, sought = (2 * torch.rand(9, 2) - 1 for _ in range(2))
    if phase == "mining":
        sought = net.mined(sought)
    code = net.encoder(noisy)
    made, rebuilt = net.decoder(uniform), net.decoder(code)
    hidden = net.latent_critic(code)[0]
    expected = {
        "latent_critic": entropy(net.latent_critic(uniform)[0], hidden) / 2,
        "visual_critic": entropy(*(net.visual_critic(one)[0] for one in (x, made))) / 2,
        "classifier": entropy(*(net.classifier(one)[0] for one in (rebuilt, made))) / 2,
    }
    likely = net.visual_critic(net.decoder(sought.tanh()))[0]
    error = ((x - rebuilt) ** 2).mean() / 2
    fooled = [functional.softplus(-one).mean() for one in (hidden, likely)]
    expected["autoencoder"] = (20 * error + 3 * fooled[0] + 5 * fooled[1]).item()
    found = {name: loss.item() for name, loss in losses.items()}
    assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("measure", ["reconstruction", "discriminator"])
def test_ocgan_scores_by_hand(measure):
    X = rows()
    detector = OCGAN(**SMALL, mining_epochs=1, measure=measure).fit(X)
    net, x = copy.deepcopy(detector.net_).double(), torch.tensor(X)
    rebuilt = net.decoder(net.encoder(x))
    errors = ((x - rebuilt) ** 2).numpy()
    expected = errors.sum(1)
    if measure == "discriminator":
        real = torch.sigmoid(net.visual_critic(rebuilt)[0])
        expected = ((1 - real) / real).log().numpy()
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-7)
    assert_allclose(detector.transform(X), errors, rtol=1e-9)
    assert {row["phase"] for row in detector.history_} == {"fit", "mining"}


# ------------------------------------------------------------------------------- OGNet


def test_ognet_without_a_second_training_is_alocc():
    X = rows()
    found = OGNet(**SMALL, quality_epochs=0, measure="refined").fit(X)
    expected = ALOCC(**SMALL, measure="refined").fit(X)
    assert_allclose(found.score_samples(X), expected.score_samples(X), rtol=0)


@pytest.mark.parametrize("X", [rows(), pictures()], ids=["rows", "pictures"])
def test_ognet_second_training_moves_the_discriminator_alone(X):
    long, short = (
        OGNet(**SMALL, early_epochs=1, quality_epochs=epochs).fit(X).net_.state_dict()
        for epochs in (3, 1)
    )
    for name, value in long.items():
        same = torch.equal(value, short[name])
        assert same or name.startswith("discriminator"), name
    moved = [k for k in long if k.startswith("discriminator") and k.endswith("weight")]
    assert not any(torch.equal(long[k], short[k]) for k in moved)


def test_ognet_scores_of_the_paper_come_from_the_second_training():
    X = rows()
    found = OGNet(**SMALL, quality_epochs=3).fit(X)
    before = OGNet(**SMALL, quality_epochs=0).fit(X)
    assert_allclose(found.score_samples(X), before.score_samples(X), rtol=0)
    own, other = (
        clone(one).set_params(measure="refined").fit(X) for one in (found, before)
    )
    assert not np.allclose(own.score_samples(X), other.score_samples(X), rtol=1e-4)


@pytest.mark.parametrize(("early", "epochs"), [(1, 1), (2, 2), (7, 3)])
def test_ognet_keeps_the_state_after_the_early_epochs(early, epochs):
    X = pictures()
    settings = {**SMALL, "quality_epochs": 0}
    long = OGNet(**{**settings, "max_epochs": 3}, early_epochs=early).fit(X).net_
    short = OGNet(**{**settings, "max_epochs": epochs}).fit(X).net_.refiner
    for name, value in short.state_dict().items():
        assert torch.equal(long.early.state_dict()[name], value), name


class Table(nn.Module):
    """Logits of two points, the origin and any other."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(2))

    def forward(self, x):
        return torch.where(x[:, 0] == 0, *self.logits), x


def test_ognet_is_as_sure_as_the_weights_where_good_and_bad_are_one():
    net = network_of(OGNet(real_weight=0.2, early_weight=0.3), (2,))
    net.discriminator = Table()
    optimizer = torch.optim.Adam(net.discriminator.parameters(), lr=0.05)
    x = torch.zeros(1, 2)
    for _ in range(400):
        optimizer.zero_grad()
        net.quality_loss(x, x, x, x + 1).backward()  # the pseudo anomaly is elsewhere
        optimizer.step()
    real = torch.sigmoid(net.discriminator(x)[0]).item()
    assert_allclose(real, 1 / 1.3, rtol=1e-3)


def test_ognet_second_loss_in_closed_form():
    net = network_of(OGNet(**SMALL, real_weight=0.2, early_weight=0.3), (5,))
    with torch.no_grad():
        for weight in net.early.parameters():
            weight.add_(0.1)
    x = torch.randn(9, 5)
    ((group, loss),) = updates_of(net, "quality", x, seed=3)
    assert group == "discriminator"
    torch.manual_seed(3)
    bad = net.early(x)
    between = net.refiner((bad + bad[torch.randperm(9)]) / 2)
    parts = {0.2: x, 0.8: net.refiner(x), -0.3: bad, -0.7: between}
    expected = 0.0
    for weight, samples in parts.items():
        real = torch.sigmoid(net.discriminator(samples)[0])
        likely = real if weight > 0 else 1 - real
        expected -= abs(weight) * likely.log().mean().item()
    assert_allclose(loss.item(), expected, rtol=1e-5)


# --------------------------------------------------------------------------------- RGI


def test_descent_is_that_of_each_point_alone():
    targets = torch.tensor([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.0]])

    def away(wanted):
        return lambda point, done: ((point - wanted) ** 2).sum(1) * (1 + done)

    together = descend(away(targets), torch.zeros(3, 2), 400, 0.1)
    assert_allclose(together, targets, atol=1e-3)
    for one, found in zip(targets, together, strict=True):
        alone = descend(away(one), torch.zeros(1, 2), 400, 0.1)
        assert_allclose(alone[0], found, atol=1e-6)


def linear_rgi(fraction, limit):
    """Return a network with a linear generator, a code, its sample and gross errors."""
    torch.manual_seed(0)
    detector = RGI(
        latent_size=3, mask_fraction=fraction, n_search_steps=3000, search_lr=0.1
    )
    net = detector._network((40,)).double()
    matrix = torch.randn(40, 3, dtype=torch.float64)
    net.generator, net.limit = Linear(matrix), torch.tensor(limit)
    code = torch.tensor([[0.5, -1.0, 0.25]], dtype=torch.float64)
    gross = torch.zeros(1, 40, dtype=torch.float64)
    gross[0, [3, 17, 30]] = torch.tensor([5.0, -4.0, 6.0], dtype=torch.float64)
    return net.requires_grad_(False), code, code @ matrix.T + gross, gross


def test_rgi_finds_the_code_behind_gross_errors():
    net, code, x, gross = linear_rgi(0.05, 0.5)
    assert_allclose(net.search(x), code, atol=1e-6)
    assert_allclose(net.map(x), gross**2, atol=1e-5)
    plain, _, x, _ = linear_rgi(0.0, torch.inf)
    least = x @ torch.linalg.pinv(plain.generator.matrix).T
    assert (least - code).abs().max() > 0.1  # what the errors make of it
    assert_allclose(plain.search(x), least, atol=1e-6)


def test_rgi_limit_is_a_quantile_of_the_training_errors():
    X = rows()
    settings = {**SMALL, "n_search_steps": 20, "contamination": 0.1}
    plain = RGI(**settings, mask_fraction=0.0).fit(X)
    masked = RGI(**settings, mask_fraction=0.1).fit(X)
    assert plain.net_.limit == torch.inf
    errors = plain.transform(X.astype(np.float32))
    assert_allclose(masked.net_.limit, np.quantile(errors, 0.9), rtol=1e-4)


@pytest.mark.parametrize("n", [1, 2, 10, 2**24 + 1])  # torch refuses the last
def test_quantiles_of_any_number_of_values(n):
    values = torch.rand(n, generator=torch.Generator().manual_seed(0))
    for share in (0.0, 0.37, 1.0):
        expected = np.quantile(values.numpy(), share)
        assert_allclose(quantile(values, share), expected, rtol=1e-5)


def test_rgi_learns_the_generator_of_anogan():
    X = rows()
    settings = {**SMALL, "n_search_steps": 5}
    own, other = RGI(**settings).fit(X), AnoGAN(**settings, batch_size=64).fit(X)
    for name, weight in other.net_.generator.state_dict().items():
        assert torch.equal(own.net_.generator.state_dict()[name], weight)
    x = torch.tensor(X)
    code = torch.zeros(60, 2)
    expected = (x.float() - own.net_.generator(code)) ** 2
    assert_allclose(own.net_.errors(x.float(), code), expected)
