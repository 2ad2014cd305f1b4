"""LSTMAutoEncoder, USAD and OmniAnomaly: their mathematics, and planted breaks."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.stats import multivariate_normal
from sklearn.metrics import average_precision_score

from skad.nn.flow import Flow, Planar
from skad.nn.state_space import NoisyWalk
from skad.series import USAD, LSTMAutoEncoder, OmniAnomaly
from skad.series._lstm_autoencoder import EncoderDecoder
from skad.series._omni_anomaly import OmniAnomalyNetwork
from skad.series._usad import USADNetwork, first_loss, second_loss

pytestmark = pytest.mark.usefixtures("own_generator")


# ------------------------------------------------------------ flows and hidden states


@pytest.mark.parametrize("n_features", [1, 3, 5])
def test_the_log_determinant_of_planar_blocks_is_that_of_the_jacobian(n_features):
    flow = Flow([Planar(n_features) for _ in range(4)]).double()
    for weight in flow.parameters():
        torch.nn.init.normal_(weight, std=2.0)
    z = torch.randn(2, 6, n_features).double()
    image, logdet = flow(z)
    assert image.shape == z.shape
    assert logdet.shape == z.shape[:-1]
    for i, j in ((0, 0), (0, 5), (1, 3)):
        jacobian = torch.autograd.functional.jacobian(lambda v: flow(v)[0], z[i, j])
        expected = torch.linalg.slogdet(jacobian).logabsdet
        assert_allclose(logdet[i, j].detach(), expected, atol=1e-10)


@pytest.mark.parametrize("size", [0.1, 1.0, 10.0])
def test_planar_blocks_are_invertible_wherever_their_weights_point(size):
    """The product of w and the direction stays above -1, so f rises along w."""
    block = Planar(3).double()
    with torch.no_grad():
        block.normal[:] = torch.tensor([size, -size, 0.5 * size])
        block.push[:] = -3 * block.normal / size  # against w: would fold space
    direction, allowed = block.direction()
    assert -1 < allowed < 0
    assert_allclose((direction @ block.normal).detach(), allowed.detach(), atol=1e-12)
    # moved along w alone
    rest = (direction - block.push).detach().numpy()
    assert_allclose(np.cross(rest, block.normal.detach()), 0, atol=1e-10)
    along = torch.linspace(-3, 3, 500).double()[:, None] * block.normal.detach()
    along = along / block.normal.norm().detach()
    heights = (block(along)[0] @ block.normal).detach()
    assert (heights.diff() > 0).all()


def test_a_free_direction_would_fold_space():
    """What the test above forbids happens without the constraint."""
    block = Planar(3).double()
    with torch.no_grad():
        block.normal[:] = torch.tensor([1.0, -1.0, 0.5])
        block.push[:] = -3 * block.normal
    along = torch.linspace(-3, 3, 500).double()[:, None] * block.normal.detach()
    bend = torch.tanh(along @ block.normal)
    heights = (along + bend[:, None] * block.push) @ block.normal
    assert (heights.diff() < 0).any()


@pytest.mark.parametrize("n_steps", [1, 2, 7])
def test_the_noisy_walk_has_the_density_of_its_covariance(n_steps):
    z = 3 * torch.randn(4, n_steps, 2)
    found = NoisyWalk(n_steps).log_density(z)
    # built from the noises themselves: z = sum of the walk's steps, plus what is seen
    walk = np.tril(np.ones((n_steps, n_steps)))
    covariance = walk @ walk.T + np.eye(n_steps)
    density = multivariate_normal(np.zeros(n_steps), covariance)
    expected = [
        sum(density.logpdf(series[:, j].numpy()) for j in range(2)) for series in z
    ]
    assert_allclose(found, expected, rtol=1e-5)


def test_the_noisy_walk_is_a_kalman_filter():
    """Prediction errors one step after the other, and their variances."""
    z = torch.randn(9, 1)
    mean, variance, total = 0.0, 1.0, 0.0
    for value in z[:, 0].tolist():
        seen = variance + 1.0
        total -= 0.5 * ((value - mean) ** 2 / seen + math.log(2 * math.pi * seen))
        gain = variance / seen
        mean, variance = mean + gain * (value - mean), variance * (1 - gain) + 1.0
    assert_allclose(NoisyWalk(9).log_density(z), total, rtol=1e-5)


# ---------------------------------------------------------------- LSTM encoder-decoder


def make_encoder_decoder(n_channels=2):
    return EncoderDecoder(n_channels, 5, True, 0.01).double().eval()


def test_the_decoder_is_taught_the_window_from_its_end():
    """Step by step with LSTM cells: the code says x_l, then x_l says x_(l-1), ..."""
    network, x = make_encoder_decoder(), torch.randn(3, 4, 2).double()
    encoder, decoder = (torch.nn.LSTMCell(2, 5).double() for _ in range(2))
    for cell, lstm in ((encoder, network.encoder), (decoder, network.decoder)):
        cell.load_state_dict(
            {k.removesuffix("_l0"): v for k, v in lstm.state_dict().items()}
        )
    state = None
    for t in range(4):
        state = encoder(x[:, t], state)
    code, told, own = state, [network.output(state[0])], [network.output(state[0])]
    for t in (3, 2, 1):
        state = decoder(x[:, t], state)
        told.append(network.output(state[0]))
    assert_allclose(network.taught(x).detach(), torch.stack(told, 1).detach())
    # the target is reversed too: what is told first is compared with the last step
    target = torch.stack([x[:, t] for t in (3, 2, 1, 0)], 1)
    loss = ((torch.stack(told, 1) - target) ** 2).mean()
    assert_allclose(network.loss(x, None).detach(), loss.detach())
    # in scoring it sees its own steps, and they come out in the order of the window
    for _ in range(3):
        code = decoder(own[-1], code)
        own.append(network.output(code[0]))
    expected = torch.stack(own[::-1], 1).detach()
    assert_allclose(network.reconstruct(x).detach(), expected)
    network.teacher_forcing = False
    loss = ((x - expected) ** 2).mean()
    assert_allclose(network.loss(x, None).detach(), loss)


def test_distances_of_errors_are_those_of_their_gaussian():
    network, x = make_encoder_decoder(3), torch.randn(50, 4, 3).double()
    with torch.no_grad():
        network.finish(lambda: iter([(x[:20], None), (x[20:], None)]))
        errors = network.errors(x).flatten(0, 1).numpy()
        found = network.map(x)
    covariance = np.cov(errors.T, bias=True) + 1e-4 * np.eye(3)
    centred = errors - errors.mean(0)
    expected = np.einsum("ij,jk,ik->i", centred, np.linalg.inv(covariance), centred)
    assert found.shape == x.shape
    assert_allclose(found.sum(2).flatten(), expected, rtol=1e-6)


# --------------------------------------------------------------------------------- USAD


def test_losses_of_two_autoencoders_by_hand():
    """In epoch 4, with mean squared errors 1, 4 and 9."""
    x = torch.zeros(2, 3, 1)
    assert first_loss(x, x + 1, x - 3, 4) == pytest.approx(1 / 4 + 3 / 4 * 9)
    assert second_loss(x, x + 2, x - 3, 4) == pytest.approx(4 / 4 - 3 / 4 * 9)
    # in the first epoch nothing is adversarial
    assert first_loss(x, x + 1, x - 3, 1) == 1
    assert second_loss(x, x + 2, x - 3, 1) == 4


def test_updates_of_two_autoencoders_follow_their_losses():
    network = USADNetwork((3, 2), 2, (4,), 0.25, 0.75)
    x = torch.rand(5, 3, 2)
    network.begin("fit", lambda: iter([(x, None)]))
    network.n_epochs += 2  # this is the third
    scaled = (x - x.amin((0, 1))) / (x.amax((0, 1)) - x.amin((0, 1)))
    first = network.first(network.encoder(scaled))
    second = network.second(network.encoder(scaled))
    both = network.second(network.encoder(first))
    one, two, three = (((scaled - y) ** 2).mean() for y in (first, second, both))
    weights = dict(network.named_parameters())
    own = {"first": "second.", "second": "first."}  # the decoder that stands still
    expected = {
        "first": one / 3 + two * 0 + three * 2 / 3,
        "second": two / 3 - three * 2 / 3,
    }
    for group, loss in network.updates("fit", x, None):
        assert_allclose(loss.detach(), expected[group].detach(), rtol=1e-5)
        names = [name for name in weights if not name.startswith(own[group])]
        found = torch.autograd.grad(loss, [weights[name] for name in names])
        wanted = torch.autograd.grad(
            expected[group], [weights[name] for name in names], retain_graph=True
        )
        for gradient, other in zip(found, wanted, strict=True):
            assert_allclose(gradient, other, atol=1e-7)
        updated = {id(weight) for weight in network.groups("fit")[group]}
        assert updated == {id(weights[name]) for name in names}
    errors = 0.25 * (scaled - first) ** 2 + 0.75 * (scaled - both) ** 2
    assert_allclose(network.map(x).detach(), errors.detach(), rtol=1e-5)


def test_usad_counts_its_epochs_and_keeps_its_range():
    X = np.random.default_rng(0).normal(size=(40, 2))
    detector = USAD(latent_size=2, max_epochs=3, warm_start=True, random_state=0)
    detector.fit(X)
    assert int(detector.net_.n_epochs) == 3
    low = detector.net_.low.clone()
    detector.fit(10 * X)
    assert int(detector.net_.n_epochs) == 6
    assert torch.equal(detector.net_.low, low)


# -------------------------------------------------------------------------- OmniAnomaly


def make_omni(n_draws=1, n_steps=4):
    return OmniAnomalyNetwork((n_steps, 2), 6, 3, 2, 1e-2, n_draws).eval()


def test_hidden_states_have_the_density_of_the_map_from_noise():
    """Change of variables over the whole window, with autograd's Jacobian."""
    network = make_omni().double()
    seen, noise = torch.randn(1, 4, 6).double(), torch.randn(4, 3).double()
    z, log_density = network.hidden(seen, noise)
    jacobian = torch.autograd.functional.jacobian(
        lambda flat: network.hidden(seen, flat.reshape(4, 3))[0].flatten(),
        noise.flatten(),
    )
    normal = multivariate_normal(np.zeros(12)).logpdf(noise.flatten().numpy())
    expected = normal - torch.linalg.slogdet(jacobian).logabsdet
    assert z.shape == (1, 4, 3)
    assert_allclose(log_density.detach(), [expected], rtol=1e-10)


def test_the_bound_is_put_together_from_three_densities():
    network, x = make_omni(), torch.randn(3, 4, 2)
    torch.default_generator.manual_seed(3)
    found = network.loss(x, None).detach()
    torch.default_generator.manual_seed(3)
    with torch.no_grad():
        seen = network.seen(network.encoder(x))
        z, log_q = network.hidden(seen, torch.randn(3, 4, 3))
        mean, deviation = network.output(network.decoder(z)).chunk(2, dim=2)
        deviation = torch.nn.functional.softplus(deviation) + 1e-2
        log_p = torch.distributions.Normal(mean, deviation).log_prob(x).sum((1, 2))
        bound = log_p + network.prior.log_density(z) - log_q
    assert_allclose(found, -bound.mean() / 4, rtol=1e-5)


def test_the_score_is_the_mean_over_fixed_draws():
    network, x = make_omni(n_draws=3), torch.randn(5, 4, 2)
    with torch.no_grad():
        network.finish(None)
        seen = network.seen(network.encoder(x))
        parts = []
        for noise in network.draws:
            z, _ = network.hidden(seen, noise)
            mean, deviation = network.gaussian(network.output(network.decoder(z)))
            parts.append(-torch.distributions.Normal(mean, deviation).log_prob(x))
        assert_allclose(network.map(x), sum(parts) / 3, rtol=1e-4, atol=1e-5)
        # the same for a window alone
        assert_allclose(network.map(x[2:3]), network.map(x)[2:3], rtol=1e-4)


# -------------------------------------------------------------------- on whole series

DETECTORS = {
    "LSTMAutoEncoder": partial(
        LSTMAutoEncoder,
        window_size=16,
        hidden_size=16,
        max_epochs=8,
        batch_size=16,
        lr=0.01,
    ),
    # the adversary gains weight with every epoch, so that the first has to do much
    "USAD": partial(USAD, max_epochs=2, batch_size=4),
    "OmniAnomaly": partial(
        OmniAnomaly,
        window_size=16,
        hidden_size=16,
        n_flows=2,
        max_epochs=8,
        batch_size=16,
        lr=0.01,
    ),
}


@pytest.fixture(scope="module")
def broken_sine():
    """Two clean sines to learn from, and a third with a flat piece in channel 1.

    The flat piece lies at the channel's mean, where no value is far from others.
    """
    rng = np.random.default_rng(0)
    phase = np.arange(400)[:, None] / 2.5 + [0.0, 1.0]
    train = np.sin(phase) + 0.05 * rng.normal(size=(400, 2))
    test = np.sin(phase + 0.3) + 0.05 * rng.normal(size=(400, 2))
    test[250:258, 1] = 0.05 * rng.normal(size=8)
    y = np.zeros(400, dtype=int)
    y[250:258] = 1
    return train, test, y


@pytest.fixture(scope="module", params=DETECTORS)
def fitted(request, broken_sine):
    train, n_times = broken_sine[0], 4 if request.param == "USAD" else 1
    series = np.concatenate([train] * n_times)
    groups = np.repeat(np.arange(n_times), len(train))
    detector = DETECTORS[request.param](random_state=0)
    # of all steps: the breaks are found after few epochs
    return detector.set_params(contamination=0.1).fit(series, groups=groups)


def test_a_break_is_found_where_its_values_are_ordinary(fitted, broken_sine):
    train, test, y = broken_sine
    z = np.abs((test - train.mean(0)) / train.std(0)).max(1)
    baseline = average_precision_score(y, z)
    found = average_precision_score(y, -fitted.score_samples(test))
    assert baseline < 0.05
    assert found > 0.5


def test_the_map_names_the_channel_that_breaks(fitted, broken_sine):
    maps = fitted.transform(broken_sine[1])
    calm = np.median(maps, axis=0)
    parts = (maps[250:258] - calm).sum(0)
    assert parts[1] > 2 * parts[0]


def test_maps_of_steps_sum_to_their_scores(fitted, broken_sine):
    X, step = broken_sine[1][:60], np.arange(60)
    maps, anomaly = fitted.transform(X).sum(1), -fitted.score_samples(X)
    if isinstance(fitted, USAD):  # whole windows are scored: only totals agree
        covered = np.minimum(np.minimum(step + 1, 60 - step), fitted.window_size_)
        assert_allclose(covered @ maps, covered @ anomaly, rtol=1e-9)
    else:
        assert_allclose(maps, anomaly, rtol=1e-9)


def test_scores_depend_on_no_other_window(fitted, broken_sine):
    """On the window alone: not on how many are scored, nor on when."""
    X, l = broken_sine[1], fitted.window_size_  # noqa: E741
    whole = fitted.score_samples(X)
    assert_allclose(fitted.score_samples(X), whole, rtol=0)
    later = fitted.score_samples(X[100:])
    assert_allclose(later[l:], whole[100 + l :], rtol=1e-7)


@pytest.mark.parametrize("name", DETECTORS)
def test_a_seed_decides_everything(name, broken_sine):
    X = broken_sine[0][:120]
    torch.default_generator.manual_seed(1)
    before = torch.get_rng_state()
    make = partial(DETECTORS[name], max_epochs=2)
    first, again, other = (make(random_state=seed).fit(X) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), before)
    assert_allclose(first.score_samples(X), again.score_samples(X), rtol=0)
    assert np.abs(first.score_samples(X) - other.score_samples(X)).max() > 1e-6


def test_a_stream_of_pieces_has_the_scores_of_the_whole(broken_sine):
    """OmniAnomaly's default is causal."""
    train, test, _ = broken_sine
    detector = DETECTORS["OmniAnomaly"](max_epochs=1, random_state=0).fit(train[:80])
    whole = detector.score_samples(test[:50])
    detector.reset_stream()
    pieces = [detector.score_stream(test[a:b]) for a, b in ((0, 1), (1, 30), (30, 50))]
    assert_allclose(np.concatenate(pieces), whole, rtol=1e-9)
    assert_allclose(detector.score_samples(test[:31]), whole[:31], rtol=1e-9)


@pytest.mark.parametrize("name", DETECTORS)
@pytest.mark.parametrize("align", ["mean", "center", "end", "max"])
def test_every_alignment_scores_every_step(name, align, broken_sine):
    X = broken_sine[0][:41].astype(np.float32)
    detector = DETECTORS[name](
        window_size=5, stride=3, align=align, max_epochs=1, random_state=0
    ).fit(X)
    scores, maps = detector.score_samples(X), detector.transform(X)
    assert scores.shape == (41,)
    assert maps.shape == (41, 2)
    assert maps.dtype == np.float32
    double = detector.score_samples(X.astype(float))
    assert_allclose(scores, double, rtol=1e-3, atol=1e-3)


def test_a_flow_may_have_no_blocks(broken_sine):
    X = broken_sine[0][:40]
    detector = OmniAnomaly(hidden_size=4, n_flows=0, window_size=4, max_epochs=1)
    assert np.isfinite(detector.fit(X).score_samples(X)).all()


@pytest.mark.parametrize(
    ("n_steps", "n_windows", "n_epochs"),
    [(300, 201, 45), (1_000, 901, 10), (10_000, 4951, 2), (100_000, 8326, 1)],
)
def test_the_default_of_omni_ends(n_steps, n_windows, n_epochs):
    """However long the series are, a few thousand windows are seen, all over them."""
    detector = OmniAnomaly().set_params(window_size=100)
    detector.window_size_, detector._lengths_ = 100, [n_steps]
    starts = detector._training_starts()
    assert (len(starts), detector._epochs("")) == (n_windows, n_epochs)
    assert len(starts) * n_epochs < 10_000
    assert np.ptp(np.diff(starts)) == 0
    assert starts[-1] >= n_steps - 100 - np.diff(starts)[0]
    whole = detector.set_params(max_epochs=3)
    assert len(whole._training_starts()) == n_steps - 99
    assert whole._epochs("") == 3


@pytest.mark.parametrize(
    ("n_steps", "n_windows", "n_epochs"),
    [(1_019, 1_000, 50), (10_019, 10_000, 10), (200_019, 200_000, 6)],
)
def test_a_small_omni_has_a_thousand_steps(n_steps, n_windows, n_epochs):
    detector = OmniAnomaly(hidden_size=20, window_size=20, align="end")
    detector.window_size_, detector._lengths_ = 20, [n_steps]
    assert len(detector._training_starts()) == n_windows
    assert detector._epochs("") == n_epochs


def test_epochs_of_omni_are_those_that_auto_stands_for():
    X = np.random.default_rng(0).normal(size=(90, 2))
    settings = {"hidden_size": 4, "n_flows": 1, "window_size": 5, "random_state": 0}
    settings["stride"] = 5
    auto, given = (
        OmniAnomaly(**settings, max_epochs=epochs).fit(X) for epochs in ("auto", 100)
    )
    assert len(auto.history_) == len(given.history_) == 100
    assert_allclose(auto.score_samples(X), given.score_samples(X), rtol=1e-12)


@pytest.mark.parametrize(("n", "most"), [(200, 250), (2200, 800)])
def test_training_steps_are_not_scored_in_vain(monkeypatch, n, most):
    """The threshold comes from windows that were held out of the training.

    Where they are few the others are scored as well.
    """
    scored = []
    whole = OmniAnomaly._anomaly

    def anomaly(self, x):
        scored.append(len(x))
        return whole(self, x)

    monkeypatch.setattr(OmniAnomaly, "_anomaly", anomaly)
    X = np.random.default_rng(0).normal(size=(n, 2))
    detector = OmniAnomaly(hidden_size=4, n_flows=1, window_size=1, max_epochs=1)
    detector.fit(X)
    assert 0 < sum(scored) < most
    offset = detector.offset_
    assert 0 < (detector.predict(X) == -1).mean() < 0.5
    assert detector.set_params(contamination=0.1).fit(X).offset_ != offset
    assert sum(scored) > 2 * n
