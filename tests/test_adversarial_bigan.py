"""AnoGAN, FAnoGAN, EGBAD and ALAD against their formulas and their generators."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score
from torch import nn

from skad.adversarial import ALAD, EGBAD, AnoGAN, FAnoGAN
from skad.nn.adversarial import (
    Discriminator,
    SpectralNorm,
    discriminator_loss,
    frozen,
    generator_loss,
    gradient_penalty,
    judged_together,
)
from skad.nn.architecture import build

SMALL = {"max_epochs": 2, "hidden_sizes": (8, 6), "latent_size": 2, "random_state": 0}
DETECTORS = [
    AnoGAN(**SMALL, n_search_steps=15),
    FAnoGAN(**SMALL, n_critic=2),
    EGBAD(**SMALL),
    ALAD(**SMALL),
]
every = pytest.mark.parametrize("detector", DETECTORS, ids=lambda d: type(d).__name__)


def rows(n=40, d=5, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def images(n=12, c=1, seed=0):
    shape = (n, 8, 8) if c == 1 else (n, 8, 8, c)
    return np.random.default_rng(seed).uniform(size=shape)


def log_sigmoid(logits):
    return -np.log1p(np.exp(-logits.detach().numpy().astype(np.float64)))


# ------------------------------------------------------------------------------- parts


def test_losses_are_cross_entropies_of_logits():
    real = torch.tensor([0.3, -1.2, 2.0], dtype=torch.float64)
    fake = torch.tensor([-0.5, 0.9], dtype=torch.float64)
    expected = -log_sigmoid(real).mean() - log_sigmoid(-fake).mean()
    assert_allclose(discriminator_loss(real, fake), expected)
    assert_allclose(generator_loss(fake), -log_sigmoid(fake).mean())
    undecided = torch.zeros(4)
    assert_allclose(discriminator_loss(undecided, undecided), 2 * np.log(2), rtol=1e-6)
    sure = torch.tensor([800.0])  # no overflow, and a gradient where fakes are told
    assert generator_loss(-sure) == 800


@pytest.mark.parametrize("shape", [(6,), (2, 4, 4)])
def test_gradient_penalty_of_linear_critics(shape):
    torch.manual_seed(0)
    direction = torch.randn(shape)
    direction /= direction.norm()
    real, fake = torch.randn(7, *shape), torch.randn(7, *shape)
    for slope in (1.0, 3.0, 0.0):

        def critic(x, slope=slope):
            return slope * (x * direction).flatten(1).sum(1)

        assert_allclose(
            gradient_penalty(critic, real, fake), (slope - 1) ** 2, atol=1e-6
        )


def test_gradient_penalty_looks_between_real_and_fake():
    seen = []

    def critic(x):
        seen.append(x)
        return (x**2).sum(1)

    real, fake = torch.zeros(50, 3), torch.ones(50, 3)
    penalty = gradient_penalty(critic, real, fake)
    share = seen[0][:, :1]
    assert ((share > 0) & (share < 1)).all()
    assert share.std() > 0.2  # every sample has its own
    assert_allclose(seen[0].detach(), share.detach().expand(-1, 3))
    # the gradient is 2 x, so its norm is 2 sqrt(3) times the share
    expected = ((2 * np.sqrt(3) * share - 1) ** 2).mean()
    assert_allclose(penalty.detach(), expected.detach(), rtol=1e-5)


def test_gradient_penalty_trains_the_critic():
    critic = nn.Linear(3, 1)
    penalty = gradient_penalty(lambda x: critic(x)[:, 0], *torch.randn(2, 4, 3))
    (found,) = torch.autograd.grad(penalty, critic.weight)
    size = critic.weight.detach().norm()
    assert_allclose(found, 2 * (size - 1) * critic.weight.detach() / size, rtol=1e-4)


def test_frozen_passes_gradients_and_restores():
    layer = nn.Linear(3, 1)
    layer.bias.requires_grad_(False)
    x = torch.randn(4, 3, requires_grad=True)
    with frozen(layer):
        loss = layer(x).sum()
    assert layer.weight.requires_grad
    assert not layer.bias.requires_grad
    gradients = torch.autograd.grad(loss, [x, layer.weight], allow_unused=True)
    assert gradients[0].abs().min() > 0
    assert gradients[1] is None


def test_discriminators_judge_each_sample_alone():
    torch.manual_seed(0)
    judge = Discriminator((1, 8, 8), "auto", (4, 6), code_size=3).train()
    x, code = torch.randn(5, 1, 8, 8), torch.randn(5, 3)
    logits, features = judge(x, code)
    assert (logits.shape, features.shape) == ((5,), (5, 64))
    alone = torch.cat([judge(x[[i]], code[[i]])[0] for i in range(5)])
    assert_allclose(alone.detach(), logits.detach(), atol=1e-6)
    head = features @ judge.head.weight[0] + judge.head.bias
    assert_allclose(head.detach(), logits.detach(), atol=1e-6)


@pytest.mark.parametrize("shape", [(7,), (2, 8, 8)])
def test_spectral_norm_divides_by_the_largest_singular_value(shape):
    torch.manual_seed(0)
    plain = build("auto", shape, (5,), (6, 9))
    tamed = SpectralNorm(plain).train()
    x = torch.randn(20, *shape)
    for _ in range(200):
        tamed(x)
    found = tamed.normalized()
    assert len(found) == 3
    for name, weight in found.items():
        matrix = weight.detach().flatten(1).numpy()
        assert_allclose(np.linalg.svd(matrix)[1][0], 1, rtol=1e-3)
        before = plain.get_parameter(name).detach().flatten(1).numpy()
        assert_allclose(matrix * np.linalg.svd(before)[1][0], before, atol=2e-3)
    tamed.eval()
    state = copy.deepcopy(tamed.state_dict())
    scores = tamed(x)
    assert all(torch.equal(tamed.state_dict()[k], v) for k, v in state.items())
    for again in (copy.deepcopy(tamed), pickle.loads(pickle.dumps(tamed))):
        assert torch.equal(again(x), scores)


def test_spectral_norm_hides_weights_from_one_thread_only():
    torch.manual_seed(0)
    plain = build("auto", (7,), (5,), (6, 9))
    tamed, x = SpectralNorm(plain).eval(), torch.randn(20, 7)
    expected = torch.func.functional_call(plain, tamed.normalized(), (x,)).detach()
    with ThreadPoolExecutor(8) as threads:
        for found in threads.map(lambda _: tamed(x), range(64)):
            assert_allclose(found.detach(), expected, rtol=1e-6)
    assert not any("weight" in vars(layer) for layer in plain.modules())


def test_batches_judged_together_get_the_same_logits():
    torch.manual_seed(0)
    judge = Discriminator((1, 8, 8), "auto", (4, 6), code_size=3).train()
    real = torch.randn(5, 1, 8, 8), torch.randn(5, 3)
    fake = torch.randn(4, 1, 8, 8), torch.randn(4, 3)
    for found, pair in zip(
        judged_together(judge, real, fake), (real, fake), strict=True
    ):
        assert_allclose(found.detach(), judge(*pair)[0].detach(), atol=1e-6)


# ---------------------------------------------------------------------------- training


def network_of(detector, shape, seed=0):
    torch.manual_seed(seed)
    return detector._network(shape)


def updates_of(network, phase, x, seed=1):
    """Return the updates of one batch, all from the same weights and numbers."""
    torch.manual_seed(seed)
    return list(network.updates(phase, x, None))


@every
@pytest.mark.parametrize("shape", [(5,), (1, 8, 8)])
def test_every_update_moves_its_own_group_and_lowers_its_own_loss(detector, shape):
    network = network_of(detector, shape).eval()
    x = torch.randn(16, *shape)
    for phase in network.phases:
        groups = {k: list(v) for k, v in network.groups(phase).items()}
        listed = [id(weight) for group in groups.values() for weight in group]
        assert len(listed) == len(set(listed))  # no weight has two optimizers
        order = [group for group, _ in updates_of(network, phase, x)]
        assert set(order) == set(groups)
        for i, group in enumerate(order):
            before = copy.deepcopy(network.state_dict())
            name, loss = updates_of(network, phase, x)[i]
            everything = list(network.parameters())
            gradients = torch.autograd.grad(loss, everything, allow_unused=True)
            steps = [
                (weight, gradient)
                for weight, gradient in zip(everything, gradients, strict=True)
                if gradient is not None
            ]
            assert {id(weight) for weight, _ in steps} == {
                id(weight) for weight in groups[group]
            }
            with torch.no_grad():
                for weight, gradient in steps:
                    weight -= 1e-3 * gradient
            again = updates_of(network, phase, x)[i]
            assert name == again[0] == group
            assert again[1] < loss
            network.load_state_dict(before)


def test_alad_losses_in_closed_form():
    network = network_of(ALAD(**SMALL), (5,)).eval()
    x = torch.randn(9, 5)
    losses = dict(updates_of(network, "fit", x, seed=3))
    torch.manual_seed(3)
    z = torch.randn(9, 2)
    generator, encoder = network.generator, network.encoder
    code, made = encoder(x), generator(z)
    pairs = {
        "xz": [(x, code), (made, z)],
        "xx": [(torch.cat([x, x], 1),), (torch.cat([x, generator(code)], 1),)],
        "zz": [(torch.cat([z, z], 1),), (torch.cat([z, encoder(made)], 1),)],
    }
    fooling = 0.0
    for name, (real, fake) in pairs.items():
        judge = getattr(network, f"discriminator_{name}")
        real, fake = judge(*real)[0], judge(*fake)[0]
        expected = -log_sigmoid(real).mean() - log_sigmoid(-fake).mean()
        found = losses[f"discriminator_{name}"].item()
        assert_allclose(found, expected, rtol=1e-5)
        fooling -= log_sigmoid(fake).mean()
        if name == "xz":
            fooling -= log_sigmoid(-real).mean()
    assert_allclose(losses["generator"].item(), fooling, rtol=1e-5)


def test_egbad_and_anogan_losses_in_closed_form():
    x = torch.randn(9, 5)
    network = network_of(EGBAD(**SMALL), (5,)).eval()
    losses = dict(updates_of(network, "fit", x, seed=3))
    torch.manual_seed(3)
    z = torch.randn(9, 2)
    real = network.discriminator(x, network.encoder(x))[0]
    fake = network.discriminator(network.generator(z), z)[0]
    expected = -log_sigmoid(real).mean() - log_sigmoid(-fake).mean()
    assert_allclose(losses["discriminator"].item(), expected, rtol=1e-5)
    expected = -log_sigmoid(fake).mean() - log_sigmoid(-real).mean()
    assert_allclose(losses["generator"].item(), expected, rtol=1e-5)

    network = network_of(AnoGAN(**SMALL), (5,)).eval()
    losses = dict(updates_of(network, "fit", x, seed=3))
    torch.manual_seed(3)
    first, second = 2 * torch.rand(9, 2) - 1, 2 * torch.rand(9, 2) - 1
    judge, generator = network.discriminator, network.generator
    real, fake = judge(x)[0], judge(generator(first))[0]
    expected = -log_sigmoid(real).mean() - log_sigmoid(-fake).mean()
    assert_allclose(losses["discriminator"].item(), expected, rtol=1e-5)
    expected = -log_sigmoid(judge(generator(second))[0]).mean()
    assert_allclose(losses["generator"].item(), expected, rtol=1e-5)


def test_fanogan_losses_in_closed_form():
    network = network_of(FAnoGAN(**SMALL, n_critic=3, kappa=0.5), (5,)).eval()
    x = torch.randn(9, 5)
    losses = updates_of(network, "generator", x, seed=3)
    assert [group for group, _ in losses] == 3 * ["critic"] + ["generator"]
    torch.manual_seed(3)
    made = network.generator(torch.randn(9, 2)).detach()
    share = torch.rand(9, 1)
    between = (share * x + (1 - share) * made).requires_grad_(True)
    (slope,) = torch.autograd.grad(network.critic(between)[0].sum(), between)
    expected = network.critic(made)[0].mean() - network.critic(x)[0].mean()
    expected += 10 * ((slope.norm(dim=1) - 1) ** 2).mean()
    assert_allclose(losses[0][1].item(), expected.item(), rtol=1e-4)
    rebuilt = network.generator(network.encoder(x))
    residual = ((x - rebuilt) ** 2).mean()
    features = ((network.critic(x)[1] - network.critic(rebuilt)[1]) ** 2).mean()
    ((group, loss),) = updates_of(network, "encoder", x)
    assert group == "encoder"
    assert_allclose(loss.item(), (residual + 0.5 * features).item(), rtol=1e-5)


def test_fanogan_encoders_learn_samples_or_codes():
    x, losses = torch.randn(9, 5), {}
    for encoder in ("izif", "izi", "ziz"):
        detector = FAnoGAN(**SMALL, kappa=0.5, encoder=encoder)
        network = network_of(detector, (5,)).eval()
        ((_, loss),) = updates_of(network, "encoder", x, seed=3)
        losses[encoder] = loss.item()
    rebuilt = network.generator(network.encoder(x))
    assert_allclose(losses["izi"], ((x - rebuilt) ** 2).mean().item(), rtol=1e-5)
    features = ((network.critic(x)[1] - network.critic(rebuilt)[1]) ** 2).mean()
    expected = losses["izi"] + 0.5 * features.item()
    assert_allclose(losses["izif"], expected, rtol=1e-5)
    torch.manual_seed(3)
    code = torch.randn(9, 2)
    recoded = network.encoder(network.generator(code))
    assert_allclose(losses["ziz"], ((code - recoded) ** 2).mean().item(), rtol=1e-5)
    found = network.anomaly(x).mean().item()
    assert_allclose(found, losses["izif"], rtol=1e-5)  # whatever was learned


@pytest.mark.parametrize("X", [rows(), images()], ids=["rows", "images"])
def test_fanogan_encoder_phase_leaves_the_rest(X):
    long, short = (
        FAnoGAN(**SMALL, n_critic=2, encoder_epochs=epochs).fit(X).net_.state_dict()
        for epochs in (4, 1)
    )
    for name, value in long.items():
        same = torch.equal(value, short[name])
        assert same or name.startswith("encoder."), name
    moved = [k for k in long if k.startswith("encoder.") and k.endswith("weight")]
    assert not any(torch.equal(long[k], short[k]) for k in moved)


@every
@pytest.mark.parametrize("X", [rows(), images()], ids=["rows", "images"])
def test_training_moves_every_weight(detector, X):
    detector = copy.deepcopy(detector).set_params(warm_start=True).fit(X)
    before = copy.deepcopy(detector.net_)
    groups = before.groups(before.phases[0])
    detector.fit(X)
    after = dict(detector.net_.named_parameters())
    for name, weight in before.named_parameters():
        # a critic's last bias has no part in a difference of means
        if weight.ndim > 1:
            assert not torch.equal(weight, after[name]), name
    recorded = {name for row in detector.history_ for name in row}
    assert {f"{group}_loss" for group in groups} <= recorded
    assert all(np.isfinite(row["train_loss"]) for row in detector.history_)


# ------------------------------------------------------------------------------ scores


def fitted(detector, X):
    detector = copy.deepcopy(detector).fit(X)
    return detector, copy.deepcopy(detector.net_).double()


def tensor(X):
    return torch.tensor(X if X.ndim == 2 else X[:, None])


@pytest.mark.parametrize("X", [rows(), images()], ids=["rows", "images"])
@pytest.mark.parametrize("measure", ["features", "logits", "l1", "l2"])
def test_alad_score_by_hand(X, measure):
    detector, net = fitted(ALAD(**SMALL, measure=measure), X)
    x = tensor(X)
    rebuilt = net.generator(net.encoder(x))
    residual = (x - rebuilt).flatten(1)
    logit, features = net.discriminator_xx(torch.cat([x, rebuilt], 1))
    expected = {
        "features": (net.discriminator_xx(torch.cat([x, x], 1))[1] - features).abs(),
        "logits": -log_sigmoid(logit)[:, None],
        "l1": residual.abs(),
        "l2": (residual**2).sum(1, keepdim=True).sqrt(),
    }[measure].sum(1)
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-9)
    maps = detector.transform(X)
    assert_allclose(maps.reshape(len(X), -1), residual.abs(), atol=1e-12)


@pytest.mark.parametrize("X", [rows(), images()], ids=["rows", "images"])
@pytest.mark.parametrize("discrimination", ["features", "cross_entropy"])
def test_egbad_score_by_hand(X, discrimination):
    detector, net = fitted(EGBAD(**SMALL, alpha=0.7, discrimination=discrimination), X)
    x = tensor(X)
    code = net.encoder(x)
    rebuilt = net.generator(code)
    logit, features = net.discriminator(x, code)
    second = {
        "features": (features - net.discriminator(rebuilt, code)[1])
        .abs()
        .sum(1)
        .numpy(),
        "cross_entropy": -log_sigmoid(logit),
    }[discrimination]
    residual = (x - rebuilt).abs().flatten(1).numpy()
    expected = 0.7 * residual.sum(1) + 0.3 * second
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-9)
    maps = detector.transform(X)
    assert_allclose(maps.reshape(len(X), -1), residual, atol=1e-12)


@pytest.mark.parametrize("X", [rows(), images()], ids=["rows", "images"])
def test_fanogan_score_by_hand(X):
    detector, net = fitted(FAnoGAN(**SMALL, kappa=2.5), X)
    x = tensor(X)
    rebuilt = net.generator(net.encoder(x))
    residual = (x - rebuilt).flatten(1)
    features = net.critic(x)[1] - net.critic(rebuilt)[1]
    expected = (residual**2).mean(1) + 2.5 * (features**2).mean(1)
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-9)
    maps = detector.transform(X)
    assert_allclose(maps.reshape(len(X), -1), residual.abs(), atol=1e-12)


@pytest.mark.parametrize("X", [rows(), images()], ids=["rows", "images"])
def test_anogan_score_by_hand(X):
    detector, net = fitted(
        AnoGAN(**SMALL, n_search_steps=15, discrimination_weight=0.3), X
    )
    x = tensor(X)
    # Adam itself, on all codes at once, with the schedule of a half cosine
    code = net.start.repeat(len(x), 1).requires_grad_(True)
    adam = torch.optim.Adam([code], lr=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(adam, 15)

    def parts():
        made = net.generator(code)
        features = net.discriminator(x)[1] - net.discriminator(made)[1]
        return (x - made).abs().flatten(1), features.abs().sum(1)

    for _ in range(15):
        residual, features = parts()
        loss = (0.7 * residual.sum(1) + 0.3 * features).sum()
        (code.grad,) = torch.autograd.grad(loss, code)
        adam.step()
        schedule.step()
    residual, features = (part.detach().numpy() for part in parts())
    expected = 0.7 * residual.sum(1) + 0.3 * features
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-6)
    maps = detector.transform(X)
    assert_allclose(maps.reshape(len(X), -1), residual, atol=1e-6)


@pytest.fixture(scope="module")
def searching():
    """An AnoGAN on a curve, with its network in double precision."""
    angle = np.random.default_rng(0).uniform(0, 3, size=(300, 1))
    X = np.c_[np.cos(angle), np.sin(angle), angle - 1.5, 0.3 * angle]
    detector = AnoGAN(latent_size=1, n_search_steps=300, random_state=0).fit(X)
    return X, detector, copy.deepcopy(detector.net_).double()


def test_anogan_search_lowers_its_loss(searching):
    X, _, net = searching
    net = copy.deepcopy(net)
    x = torch.tensor(X)
    features = net.discriminator(x)[1]
    start = net.search_loss(x, features, net.start.expand(len(x), -1))
    means = [start.mean()]
    for steps in (10, 30, 100, 300):
        net.n_search_steps = steps
        found = net.search_loss(x, features, net.search(x).detach())
        means.append(found.mean())
    assert (np.diff(means) < 1e-3 * float(start.mean())).all(), means
    assert means[-1] < 0.5 * means[0]
    assert (found <= start + 1e-3).all()


def test_anogan_search_finds_the_code_of_a_generated_sample(searching):
    _, detector, net = searching
    code = torch.linspace(-0.95, 0.95, 20, dtype=torch.float64)[:, None]
    made = net.generator(code).detach()
    found = net.search(made).detach()
    assert_allclose(found, code, atol=1e-2)
    scores = -detector.score_samples(made.numpy())
    assert scores.max() < 0.05
    assert scores.max() < -detector.offset_


def test_anogan_search_is_the_same_in_both_precisions_and_alone(searching):
    X, detector, _ = searching
    X = X[:30] + 0.2 * rows(30, 4, seed=1)
    scores = detector.score_samples(X)
    alone = np.concatenate([detector.score_samples(row[None]) for row in X[:5]])
    assert_allclose(alone, scores[:5], rtol=1e-7)
    single = detector.score_samples(X.astype(np.float32))
    assert_allclose(single, scores, rtol=2e-3, atol=2e-3 * np.ptp(scores))


def test_anogan_threshold_of_many_rows_is_of_some():
    X = rows(2500, 2)
    detector = AnoGAN(**SMALL, n_search_steps=2)
    detector.set_params(max_epochs=1, contamination=0.1).fit(X)
    scores = detector.score_samples(X[::3])
    assert_allclose(detector.offset_, np.quantile(scores, 0.1))
    few = detector.fit(X[:1024])
    scores = few.score_samples(X[:1024])
    assert_allclose(few.offset_, np.quantile(scores, 0.1))


# --------------------------------------------------------------------- shapes, quality


@every
@pytest.mark.parametrize("n", [2, 3, 9, 17])  # batches of 8: a last one with one row
def test_batches_of_any_size_train(detector, n):
    for X in (rows(n), images(n)):
        fresh = copy.deepcopy(detector).set_params(batch_size=8, max_epochs=1)
        scores = fresh.fit(X).score_samples(X)
        assert np.isfinite(scores).all()
        assert_array_equal(scores, fresh.score_samples(X))
        longer = copy.deepcopy(fresh).set_params(max_epochs=2).fit(X).net_
        after = dict(longer.named_parameters())
        for name, weight in fresh.net_.named_parameters():
            assert weight.ndim == 1 or not torch.equal(weight, after[name]), name


@every
@pytest.mark.parametrize("c", [1, 3])
def test_images_and_rows_of_images_are_one(detector, c):
    X = images(12, c)
    whole = copy.deepcopy(detector).fit(X)
    flat = copy.deepcopy(detector).set_params(image_shape=(8, 8, c))
    flat.fit(X.reshape(12, -1))
    scores = whole.score_samples(X)
    assert_array_equal(flat.score_samples(X.reshape(12, -1)), scores)
    maps = whole.transform(X)
    assert maps.shape == (12, 8, 8)
    assert maps.min() >= 0
    as_mlp = copy.deepcopy(detector).set_params(architecture="mlp").fit(X)
    assert np.isfinite(as_mlp.score_samples(X)).all()


@every
def test_patience_watches_held_out_samples(detector):
    detector = copy.deepcopy(detector).set_params(patience=1, max_epochs=4)
    detector.fit(rows())
    watched = [
        row["valid_loss"]
        for row in detector.history_
        if row["phase"] not in detector.net_.unwatched_phases
    ]
    assert watched
    assert np.isfinite(watched).all()


@pytest.mark.parametrize("detector", DETECTORS[1:], ids=lambda d: type(d).__name__)
def test_partial_fit_goes_on(detector):
    detector = copy.deepcopy(detector).partial_fit(rows(20))
    before = copy.deepcopy(detector.net_.generator)
    detector.partial_fit(rows(20, seed=1))
    assert detector.n_samples_seen_ == 40
    after = dict(detector.net_.generator.named_parameters())
    for name, weight in before.named_parameters():
        assert not torch.equal(weight, after[name])


@pytest.mark.parametrize(
    ("detector", "floor"),
    [
        (AnoGAN(batch_size=32, n_search_steps=50, random_state=0), 0.85),
        (FAnoGAN(batch_size=32, random_state=0), 0.95),
        (EGBAD(batch_size=32, random_state=0), 0.8),
        (ALAD(batch_size=32, random_state=0), 0.9),
    ],
    ids=lambda value: type(value).__name__,
)
def test_digits_other_than_zero_are_anomalies(detector, floor):
    X, y = load_digits(return_X_y=True)
    X = X / 16
    zeros, others = X[y == 0], X[y != 0][::5]
    detector = copy.deepcopy(detector).fit(zeros[:120])
    scores = -detector.score_samples(np.r_[zeros[120:], others])
    labels = np.r_[np.zeros(len(zeros) - 120), np.ones(len(others))]
    assert roc_auc_score(labels, scores) > floor
