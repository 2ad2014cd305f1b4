"""AAE, ADAE, ALOCC, GANomaly and SkipGANomaly against losses and scores by hand."""

import math

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from skad.adversarial import AAE, ADAE, ALOCC, GANomaly, SkipGANomaly
from skad.adversarial._adae import balance
from skad.nn.unet import SkipMLP, UNet, build_with_skips

CHEAP = {"max_epochs": 2, "hidden_sizes": (8, 4), "batch_size": 16, "random_state": 0}
METHODS = [AAE, ADAE, ALOCC, GANomaly, SkipGANomaly]
every_method = pytest.mark.parametrize("method", METHODS)


def latent(method, size):
    return {} if method is SkipGANomaly else {"latent_size": size}


@pytest.fixture(scope="module")
def rows():
    rng = np.random.default_rng(0)
    return rng.normal(size=(60, 3)) @ rng.normal(size=(3, 5))


@pytest.fixture(scope="module")
def pictures():
    """Colour pictures of an odd size, a bright bar at a changing place."""
    rng = np.random.default_rng(1)
    X = 0.1 * rng.random((40, 7, 10, 2))
    for picture, column in zip(X, rng.integers(9, size=40), strict=True):
        picture[:, column : column + 2] += 0.7
    return X


@pytest.fixture(scope="module", params=["rows", "pictures"])
def data(request, rows, pictures):
    return rows if request.param == "rows" else pictures


@pytest.fixture(scope="module")
def fit():
    known = {}

    def fitted(method, X, **options):
        key = method, X.shape, tuple(sorted(options.items()))
        if key not in known:
            known[key] = method(**{**CHEAP, **latent(method, 3), **options}).fit(X)
        return known[key]

    return fitted


def dense(x, module):
    """Return what linear layers and leaky ReLUs make of rows, in NumPy."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            weight, bias = layer.weight.double().numpy(), layer.bias.double().numpy()
            x = x @ weight.T + bias
        elif isinstance(layer, nn.LeakyReLU):
            x = np.where(x > 0, x, layer.negative_slope * x)
    return x


def judged(x, discriminator):
    """Return logits and features of rows, in NumPy."""
    inner = dense(x, discriminator.body)
    features = np.where(inner > 0, inner, 0.1 * inner)
    return dense(features, discriminator.head)[:, 0], features


# ----------------------------------------------------------------------- scores by hand


def test_aae_scores_and_map_by_hand(fit, rows):
    detector = fit(AAE, rows)
    net = detector.net_
    code = dense(rows, net.encoder)
    errors = (rows - dense(code, net.decoder)) ** 2
    assert_allclose(detector.transform(rows), errors, rtol=1e-9)
    assert_allclose(-detector.score_samples(rows), errors.sum(axis=1), rtol=1e-9)
    detector = fit(AAE, rows, measure="likelihood")
    code = dense(rows, detector.net_.encoder)
    density = np.prod(np.exp(-(code**2) / 2) / math.sqrt(2 * math.pi), axis=1)
    assert_allclose(detector.score_samples(rows), np.log(density), rtol=1e-9)
    assert not detector._map_sums_to_score


def test_adae_score_and_map_by_hand(fit, rows):
    detector = fit(ADAE, rows)
    made = rows
    for part in (*detector.net_.generator, *detector.net_.discriminator):
        made = dense(made, part)
    norms = np.linalg.norm(rows - made, axis=1)
    assert_allclose(-detector.score_samples(rows), norms, rtol=1e-9)
    assert_allclose(detector.transform(rows), (rows - made) ** 2, rtol=1e-9)


@pytest.mark.parametrize("measure", ["refined", "direct", "reconstruction"])
def test_alocc_score_and_map_by_hand(fit, rows, measure):
    detector = fit(ALOCC, rows, measure=measure)
    refined = rows
    for part in detector.net_.refiner:
        refined = dense(refined, part)
    seen = refined if measure == "refined" else rows
    errors = (rows - refined) ** 2
    assert_allclose(detector.transform(rows), errors, rtol=1e-9)
    if measure == "reconstruction":
        assert_allclose(-detector.score_samples(rows), errors.sum(axis=1), rtol=1e-9)
        return
    assert not detector._map_sums_to_score
    probability = 1 / (1 + np.exp(-judged(seen, detector.net_.discriminator)[0]))
    expected = np.log((1 - probability) / probability)
    assert_allclose(-detector.score_samples(rows), expected, rtol=1e-8, atol=1e-12)


def test_ganomaly_score_and_map_by_hand(fit, rows):
    detector = fit(GANomaly, rows)
    net = detector.net_
    code = dense(rows, net.encoder)
    made = dense(code, net.decoder)
    distance = np.abs(code - dense(made, net.second_encoder)).sum(axis=1)
    assert_allclose(-detector.score_samples(rows), distance, rtol=1e-9)
    assert_allclose(detector.transform(rows), abs(rows - made), rtol=1e-9)


@pytest.mark.parametrize("weight", [0.0, 0.9, 1.0])
def test_skip_ganomaly_score_and_map_by_hand(fit, rows, weight):
    detector = fit(SkipGANomaly, rows, score_weight=weight)
    net = detector.net_
    assert isinstance(net.generator, SkipMLP)
    (first, second), (up,) = net.generator.down, net.generator.up
    wide = dense(rows, first)
    joined = np.concatenate([dense(dense(wide, second), up), wide], axis=1)
    made = dense(joined, net.generator.last)
    error = ((rows - made) ** 2).mean(axis=1)
    gap = judged(rows, net.discriminator)[1] - judged(made, net.discriminator)[1]
    expected = weight * error + (1 - weight) * (gap**2).mean(axis=1)
    assert_allclose(-detector.score_samples(rows), expected, rtol=1e-9)
    assert_allclose(detector.transform(rows), (rows - made) ** 2, rtol=1e-9)


def rebuilt(method, net, x):
    """Return what a method compares with `x`."""
    return {
        AAE: lambda: net.decoder(net.encoder(x)),
        ADAE: lambda: net.discriminator(net.generator(x)),
        ALOCC: lambda: net.refiner(x),
        GANomaly: lambda: net.decoder(net.encoder(x)),
        SkipGANomaly: lambda: net.generator(x),
    }[method]()


@every_method
def test_maps_of_pictures_are_the_residual_over_channels(fit, pictures, method):
    detector = fit(method, pictures)
    x = torch.tensor(pictures).permute(0, 3, 1, 2)
    with torch.no_grad():
        residual = (x - rebuilt(method, detector.net_.double(), x)).abs()
    detector.net_.float()
    if method is not GANomaly:
        residual = residual**2
    maps = detector.transform(pictures)
    assert maps.shape == (40, 7, 10)
    assert_allclose(maps, residual.sum(1), rtol=1e-9)
    flat = method(**{**CHEAP, **latent(method, 3)}, image_shape=(7, 10, 2))
    flat.fit(pictures.reshape(40, -1))
    assert_allclose(
        flat.score_samples(pictures.reshape(40, -1)), detector.score_samples(pictures)
    )


# ----------------------------------------------------------------------- losses by hand


class Scale(nn.Module):
    """Multiplies by one weight."""

    def __init__(self, factor):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x):
        return self.factor * x


class Judge(nn.Module):
    """The logit is the sum of the sample, the features are twice the sample."""

    def __init__(self):
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(1.0))

    def forward(self, x):
        return self.factor * x.sum(1), 2 * self.factor * x


def losses(net, x):
    return [(name, loss.item()) for name, loss in net.updates("fit", x, None)]


def cross_entropy(real, fake):
    sigmoid = [1 / (1 + math.exp(-value)) for value in (*real, *fake)]
    parts = [math.log(p) for p in sigmoid[: len(real)]]
    others = [math.log(1 - p) for p in sigmoid[len(real) :]]
    return -sum(parts) / len(real) - sum(others) / len(fake)


X = torch.tensor([[1.0, -2.0], [0.5, 0.25]])


def test_ganomaly_losses_by_hand():
    net = GANomaly(
        latent_size=2, adversarial_weight=2.0, context_weight=3.0, encoder_weight=5.0
    )._network((2,))
    net.encoder, net.decoder = Scale(2.0), Scale(0.25)  # rebuilds x / 2
    net.second_encoder, net.discriminator = Scale(3.0), Judge()  # second code 3 x / 2
    found = losses(net, X)
    squares = (1 + 4 + 0.25 + 0.0625) / 4
    absolute = (1 + 2 + 0.5 + 0.25) / 4
    # features differ by x, samples by x / 2, codes by 2 x - 3 x / 2
    total = 2 * squares + 3 * absolute / 2 + 5 * squares / 4
    assert [name for name, _ in found] == ["generator", "discriminator"]
    assert found[0][1] == pytest.approx(total)
    expected = cross_entropy([-1.0, 0.75], [-0.5, 0.375])
    assert found[1][1] == pytest.approx(expected)


def test_skip_ganomaly_losses_by_hand():
    net = SkipGANomaly(
        adversarial_weight=2.0, context_weight=3.0, latent_weight=5.0
    )._network((2,))
    net.generator, net.discriminator = Scale(0.5), Judge()
    found = losses(net, X)
    fooled = (math.log(1 + math.exp(0.5)) + math.log(1 + math.exp(-0.375))) / 2
    context, squares = 3.75 / 4 / 2, 5.3125 / 4
    assert [name for name, _ in found] == ["generator", "discriminator"]
    assert found[0][1] == pytest.approx(2 * fooled + 3 * context + 5 * squares)
    assert found[1][1] == pytest.approx(cross_entropy([-1.0, 0.75], [-0.5, 0.375]))


def test_adae_losses_by_hand():
    net = ADAE()._network((2,))
    net.generator, net.discriminator = Scale(0.5), Scale(3.0)
    mean = 3.75 / 4
    found = losses(net, X)
    # |x - 3 x| and |x / 2 - 3 x / 2|, then |x - x / 2| + |x / 2 - 3 x / 2|
    weight = 1 / (1 + math.exp(-10 * (2 - 1) / 2))
    assert [name for name, _ in found] == ["discriminator", "generator"]
    expected = [2 * mean - weight * mean, 1.5 * mean]
    assert_allclose([found[0][1], found[1][1]], expected, rtol=1e-5)


def test_adae_balance_stays_below_one_and_vanishes():
    errors = torch.tensor([0.5, 1.0, 1.1, 3.0], requires_grad=True)
    weights = balance(torch.tensor(1.0), errors)
    expected = [1 / (1 + math.exp(power)) for power in (-5, 0, 1, 20)]
    assert_allclose(weights.tolist(), expected, rtol=1e-5)
    assert not weights.requires_grad
    assert torch.isfinite(balance(torch.tensor(0.0), torch.tensor([0.0, 1.0]))).all()


def test_alocc_losses_by_hand():
    net = ALOCC(noise=0.0, reconstruction_weight=0.4)._network((2,))
    net.refiner, net.discriminator = Scale(0.5), Judge()
    found = losses(net, X)
    fooled = (math.log(1 + math.exp(0.5)) + math.log(1 + math.exp(-0.375))) / 2
    assert [name for name, _ in found] == ["discriminator", "refiner"]
    assert found[0][1] == pytest.approx(cross_entropy([-1.0, 0.75], [-0.5, 0.375]))
    # squared norms of x / 2, averaged over two samples
    assert found[1][1] == pytest.approx(fooled + 0.4 * 5.3125 / 4 / 2)


def test_alocc_refines_noisy_samples():
    """The error of a refiner that does nothing is the noise's variance."""
    net = ALOCC(noise=0.5, reconstruction_weight=1.0)._network((2,))
    net.refiner, net.discriminator = Scale(1.0), Judge()
    with torch.random.fork_rng(), torch.no_grad():
        torch.default_generator.manual_seed(0)
        net.discriminator.factor.zero_()  # the game adds log 2
        (_, _), (_, loss) = losses(net, torch.zeros(20_000, 2))
    assert loss - math.log(2) == pytest.approx(2 * 0.25, rel=0.03)


def test_aae_losses_by_hand():
    net = AAE(latent_size=2)._network((2,))
    net.encoder, net.decoder, net.discriminator = Scale(0.5), Scale(1.0), Judge()
    with torch.random.fork_rng():
        torch.default_generator.manual_seed(3)
        found = losses(net, X)
        torch.default_generator.manual_seed(3)
        prior = torch.randn(2, 2).sum(1).tolist()
    names = [name for name, _ in found]
    assert names == ["reconstruction", "discriminator", "generator"]
    assert found[0][1] == pytest.approx(5.3125 / 4 / 4)
    assert found[1][1] == pytest.approx(cross_entropy(prior, [-0.5, 0.375]), rel=1e-5)
    fooled = (math.log(1 + math.exp(0.5)) + math.log(1 + math.exp(-0.375))) / 2
    assert found[2][1] == pytest.approx(fooled)


@pytest.mark.parametrize("shape", [(5,), (2, 7, 10)])
@every_method
def test_each_loss_moves_the_weights_of_its_group_alone(method, shape):
    net = method(hidden_sizes=(8, 4))._network(shape)
    names = {id(weight): name for name, weight in net.named_parameters()}
    groups = {
        name: {id(weight) for weight in weights}
        for name, weights in net.groups("fit").items()
    }
    assert set(names) == set.union(*groups.values()), "weights that nothing trains"
    x = torch.rand(6, *shape)
    seen = []
    for group, loss in net.updates("fit", x, None):
        seen.append(group)
        assert loss.ndim == 0
        net.zero_grad()
        gradients = torch.autograd.grad(loss, list(net.parameters()), allow_unused=True)
        reached = {
            id(weight)
            for weight, gradient in zip(net.parameters(), gradients, strict=True)
            if gradient is not None
        }
        wrong = {names[key] for key in reached ^ groups[group]}
        assert not wrong, (group, wrong)
    assert sorted(seen) == sorted(groups)
    assert all(weight.requires_grad for weight in net.parameters())


# ------------------------------------------------------------------------- the training


@every_method
def test_training_moves_every_weight(fit, data, method):
    still = fit(method, data, lr=1e-30, max_epochs=1).net_
    moved = fit(method, data).net_
    for (name, before), after in zip(
        still.named_parameters(), moved.parameters(), strict=True
    ):
        assert (before != after).any(), name


@every_method
def test_training_rebuilds_better(fit, data, method):
    """What is compared with the samples comes closer to them."""
    untrained = fit(method, data, lr=1e-30, max_epochs=1)
    trained = fit(method, data, lr=2e-3, max_epochs=40, hidden_sizes=(16, 16))
    assert trained.transform(data).mean() < 0.8 * untrained.transform(data).mean()
    assert all(np.isfinite(list(row.values())[2:]).all() for row in trained.history_)


def test_aae_codes_follow_the_prior(blobs):
    train, normal, _ = blobs
    options = {"latent_size": 2, "random_state": 0, "lr": 2e-3}
    detector = AAE(max_epochs=150, **options).fit(train)
    before = AAE(max_epochs=1, **options).fit(train)

    def moments(fitted):
        code = dense(normal, fitted.net_.encoder)
        return code.mean(axis=0), np.cov(code.T)

    mean, covariance = moments(detector)
    assert_allclose(mean, 0, atol=0.35)
    assert_allclose(covariance, np.eye(2), atol=0.5)
    distance = np.abs(covariance - np.eye(2)).max()
    assert np.abs(moments(before)[1] - np.eye(2)).max() > 1.5 * distance


@every_method
@pytest.mark.parametrize("n", [2, 33])
def test_odd_numbers_of_samples_train(data, method, n):
    """Fewer than a batch, and one row left over by batches of 16."""
    data = data[:33]
    detector = method(**{**CHEAP, **latent(method, 3)}).fit(data[:n])
    still = method(**{**CHEAP, **latent(method, 3), "lr": 1e-30}).fit(data[:n])
    assert np.isfinite(detector.score_samples(data)).all()
    first = next(detector.net_.parameters()), next(still.net_.parameters())
    assert (first[0] != first[1]).any()


@every_method
def test_scores_repeat_and_belong_to_one_sample(fit, data, method):
    detector = fit(method, data)
    scores = detector.score_samples(data)
    assert_array_equal(detector.score_samples(data), scores)
    single = [detector.score_samples(data[i : i + 1])[0] for i in range(10)]
    assert_allclose(single, scores[:10], rtol=1e-7)
    again = method(**{**CHEAP, **latent(method, 3)}).fit(data)
    assert_array_equal(again.score_samples(data), scores)
    single_precision = detector.score_samples(data.astype(np.float32))
    assert_allclose(single_precision, scores, atol=1e-3 * np.ptp(scores), rtol=1e-3)


@every_method
def test_partial_fit_goes_on(rows, method):
    detector = method(**{**CHEAP, **latent(method, 3)}).partial_fit(rows[:30])
    first = next(detector.net_.parameters()).clone()
    detector.partial_fit(rows[30:])
    assert detector.n_samples_seen_ == 60
    assert len(detector.history_) == 2
    assert (next(detector.net_.parameters()) != first).any()


@every_method
@pytest.mark.parametrize("optimizer", ["sgd", "rmsprop"])
def test_any_optimizer_trains(rows, method, optimizer):
    """The betas of the papers are Adam's alone."""
    options = {**CHEAP, **latent(method, 3), "lr": 1e-4}
    detector = method(**options, optimizer=optimizer).fit(rows)
    assert np.isfinite(detector.score_samples(rows)).all()


@every_method
def test_maps_find_the_spot(fit, pictures, method):
    options = {"lr": 2e-3, "max_epochs": 40, "hidden_sizes": (16, 16)}
    detector = fit(method, pictures, **options)
    spoiled = pictures.copy()
    spoiled[:, 3, 6] = 2.0
    places = detector.transform(spoiled).reshape(40, -1).argmax(axis=1)
    assert (places == 3 * 10 + 6).mean() > 0.8


@every_method
def test_parameters_out_of_range_are_named(rows, method):
    bad = {
        AAE: {"latent_size": 0, "feature_size": 0, "measure": "codes"},
        ADAE: {"latent_size": 0},
        ALOCC: {
            "latent_size": 0,
            "feature_size": 0,
            "noise": -0.1,
            "reconstruction_weight": -1.0,
            "measure": "noisy",
        },
        GANomaly: {
            "latent_size": 0,
            "feature_size": 0,
            "adversarial_weight": -1.0,
            "context_weight": -1.0,
            "encoder_weight": -1.0,
        },
        SkipGANomaly: {
            "feature_size": 0,
            "adversarial_weight": -1.0,
            "context_weight": -1.0,
            "latent_weight": -1.0,
            "score_weight": 1.1,
        },
    }
    for name, value in bad[method].items():
        with pytest.raises(ValueError, match=f"'{name}'"):
            method(**{name: value}).fit(rows)


# ---------------------------------------------------------------------------- the skips


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 7), (28, 28), (33, 12)])
@pytest.mark.parametrize("channels", [(4,), (4, 8), (4, 8, 8)])
def test_unet_keeps_any_size(size, channels):
    net = UNet((2, *size), (3, *size), channels).eval()
    x = torch.rand(2, 2, *size)
    assert net(x).shape == (2, 3, *size)


@pytest.mark.parametrize("shape", [(5,), (2, 7, 10)])
def test_skips_carry_what_the_middle_forgets(shape):
    net = build_with_skips("auto", shape, (8, 4)).eval()
    x = torch.rand(2, *shape)
    with torch.no_grad():
        for weight in net.down[-1].parameters():
            weight.zero_()
        assert (net(x) - net(2 * x)).abs().max() > 1e-4
        for weight in net.down[0].parameters():
            weight.zero_()
        assert (net(x) - net(2 * x)).abs().max() == 0


def test_skips_by_architecture(rows, pictures):
    assert isinstance(build_with_skips("auto", (5,)), SkipMLP)
    assert isinstance(build_with_skips("auto", (1, 6, 6)), UNet)
    assert isinstance(build_with_skips("mlp", (1, 6, 6)), SkipMLP)
    assert isinstance(build_with_skips(UNet, (1, 6, 6)), UNet)
    assert build_with_skips("mlp", (1, 6, 6))(torch.rand(2, 1, 6, 6)).shape[1:] == (
        1,
        6,
        6,
    )
    with pytest.raises(ValueError, match="images"):
        SkipGANomaly(architecture="conv", max_epochs=1).fit(rows)
