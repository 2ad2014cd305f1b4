"""Flows, DFR and SPADE: invertibility, determinants, formulas by hand."""

import math
from functools import partial

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from sklearn.base import clone
from skorch.callbacks import Callback
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.image import CFLOW, DFR, SPADE, FastFlow
from skad.image.restoration._dfr import explaining_components
from skad.nn.attention import CBAM
from skad.nn.flow import AllInOne, Coupling, Flow, sinusoids
from tests.test_image import backbone, pictures  # noqa: F401 (a fixture)


def linear(n_in, n_out):
    return nn.Sequential(nn.Linear(n_in, 16), nn.Tanh(), nn.Linear(16, n_out))


def convolution(n_in, n_out):
    return nn.Conv2d(n_in, n_out, 3, padding=1)


def loosened(block):
    """Return a block of FrEIA's kind with gains, offsets and scales of its own."""
    if isinstance(block, AllInOne):
        with torch.no_grad():
            block.gain.add_(10 * torch.randn_like(block.gain))
            block.offset.add_(torch.randn_like(block.offset))
            for weight in block.subnetwork.parameters():
                weight.mul_(5)
    return block


BLOCKS = {
    "coupling": Coupling,
    "soft": AllInOne,
    "hard": partial(AllInOne, soft=False),
}
every_block = pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)


def make_flow(subnetwork, n_channels, n_conditions=0, block=Coupling):
    torch.default_generator.manual_seed(0)
    return Flow(
        [loosened(block(n_channels, subnetwork, n_conditions)) for _ in range(4)]
    ).double()


@pytest.fixture(autouse=True)
def own_generator():
    with torch.random.fork_rng():
        yield


# ------------------------------------------------------------------------------- flows


@every_block
@pytest.mark.parametrize("n_channels", [2, 3, 6])
def test_the_log_determinant_is_that_of_the_jacobian(n_channels, block):
    """On vectors with a condition, against autograd's whole Jacobian."""
    flow = make_flow(linear, n_channels, 5, block)
    x, condition = torch.randn(3, n_channels).double(), torch.randn(3, 5).double()
    _, logdet = flow(x, condition)
    for i in range(3):
        jacobian = torch.autograd.functional.jacobian(
            lambda row, i=i: flow(row[None], condition[i : i + 1])[0][0], x[i]
        )
        expected = torch.linalg.slogdet(jacobian).logabsdet
        # a rotation is rounded to float32
        atol = 1e-10 if block is Coupling else 1e-5
        assert_allclose(logdet[i].detach(), expected, atol=atol)


@every_block
def test_the_log_determinant_of_maps_is_that_of_the_jacobian(block):
    flow = make_flow(convolution, 3, block=block)
    x = torch.randn(1, 3, 3, 4).double()
    _, logdet = flow(x)
    jacobian = torch.autograd.functional.jacobian(
        lambda flat: flow(flat.reshape(1, 3, 3, 4))[0].flatten(), x.flatten()
    )
    expected = torch.linalg.slogdet(jacobian).logabsdet
    atol = 1e-10 if block is Coupling else 1e-4  # a rotation is rounded to float32
    assert_allclose(logdet.sum().detach(), expected, atol=atol)


@every_block
@pytest.mark.parametrize("n_channels", [2, 5])
def test_a_flow_is_invertible(n_channels, block):
    flow = make_flow(convolution, n_channels, block=block)
    x = torch.randn(2, n_channels, 4, 5).double()
    z, _ = flow(x)
    assert (z - x).abs().max() > 0.1
    assert_allclose(flow.inverse(z).detach(), x, atol=1e-10)
    assert_allclose(flow(flow.inverse(x))[0].detach(), x, atol=1e-10)


@every_block
def test_one_channel_cannot_be_split(block):
    with pytest.raises(ValueError, match="layers with one channel"):
        block(1, linear)


def test_the_block_of_freia_by_hand():
    """At first a coupling of a tenth, then the rotation, which keeps lengths."""
    block = AllInOne(5, linear, clamp=1.9).double()
    x = torch.randn(4, 5).double()
    z, logdet = block(x)
    scale, shift = (block.subnetwork(x[:, :3]) / 10).chunk(2, dim=1)
    scale = 1.9 * torch.tanh(scale)
    inner = torch.cat([x[:, :3], x[:, 3:] * scale.exp() + shift], 1)
    assert_allclose(z.detach(), (inner @ block.rotation.T).detach(), rtol=1e-5)
    assert_allclose(logdet.detach(), scale.sum(1).detach(), atol=1e-5)
    eye = block.rotation @ block.rotation.T
    assert_allclose(eye, np.eye(5), atol=1e-6)
    hard = AllInOne(5, linear, soft=False).rotation
    assert set(hard.flatten().tolist()) == {0.0, 1.0}
    assert_allclose(hard.sum(0), 1)


def test_scales_are_clamped():
    """However large the subnetwork's answer, a scale stays within e^1.9."""
    block = Coupling(4, linear).double()
    with torch.no_grad():
        block.subnetwork[-1].bias.fill_(1e6)
        _, logdet = block(torch.randn(5, 4).double())
    assert_allclose(logdet, 2 * 1.9, rtol=1e-4)  # of two channels


def test_sinusoids_by_hand():
    codes = sinusoids(8, 3, 5).numpy()
    assert codes.shape == (8, 3, 5)
    for channel, (axis, rate, wave) in enumerate(
        (axis, rate, wave)
        for axis in (1, 0)
        for rate in (1, 0.01)
        for wave in (np.sin, np.cos)
    ):
        place = np.indices((3, 5))[axis]
        assert_allclose(codes[channel], wave(place * rate), atol=1e-6)


# --------------------------------------------------------------------------- detectors

CHEAP = {
    "fastflow": lambda **k: FastFlow(
        **backbone(), n_steps=2, max_epochs=30, random_state=0, **k
    ),
    "cflow": lambda **k: CFLOW(
        **backbone(),
        n_steps=2,
        condition_size=8,
        max_epochs=60,
        lr=5e-3,
        smoothing=1,
        random_state=0,
        **k,
    ),
    "dfr": lambda **k: DFR(
        **backbone(), neighborhood=1, max_epochs=30, lr=0.01, random_state=0, **k
    ),
    "spade": lambda **k: SPADE(**backbone(), n_pictures=3, smoothing=1, **k),
}
every_detector = pytest.mark.parametrize("make", CHEAP.values(), ids=CHEAP)


@every_detector
def test_the_square_is_found(make, pictures):  # noqa: F811
    detector = make()
    # CFLOW takes features as they are, and learns their unit slowly
    unit = 0.25 if isinstance(detector, CFLOW) else 1.0
    train, normal, bad = (unit * each for each in pictures)
    detector.fit(train)
    if not isinstance(detector, SPADE):  # whose score looks at whole pictures
        assert (
            detector.score_samples(bad).mean() < detector.score_samples(normal).mean()
        )
    for each in detector.transform(bad):
        row, column = np.unravel_index(each.argmax(), each.shape)
        assert 4 <= row <= 15
        assert 16 <= column <= 27


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", ["fastflow", "cflow", "dfr"])
def test_training_moves_loss_and_weights(name, pictures):  # noqa: F811
    train = pictures[0]
    short = CHEAP[name]().set_params(max_epochs=1).fit(train)
    detector = CHEAP[name]().fit(train)
    losses = [row["train_loss"] for row in detector.history_]
    assert losses[-1] < losses[0]
    pairs = zip(short.net_.parameters(), detector.net_.parameters(), strict=True)
    assert all(not torch.equal(*pair) for pair in pairs)
    again = CHEAP[name]().fit(train)
    assert_allclose(again.score_samples(train), detector.score_samples(train), rtol=0)


def samples(detector, x):
    with torch.no_grad():
        return detector._describe(torch.tensor(x)[..., None]).float()


def test_the_loss_of_fastflow_is_the_negative_log_likelihood(pictures):  # noqa: F811
    detector = CHEAP["fastflow"]().fit(pictures[0])
    x = samples(detector, pictures[1])
    (flow,), (norm,) = detector.net_.flows, detector.net_.norms
    with torch.no_grad():
        loss = detector.net_.loss(x, None)
        maps = norm(x.reshape(3, 6, 6, 8))
        z, logdet = flow(maps)
        assert_allclose(flow.inverse(z), maps, atol=1e-4)
    normal = torch.distributions.Normal(0, 1).log_prob(z).sum((1, 2, 3))
    constant = 0.5 * z[0].numel() * math.log(2 * math.pi)
    expected = -(normal + logdet.sum((1, 2))).mean() - constant
    assert_allclose(loss, expected, rtol=1e-5)


def test_the_map_of_fastflow_by_hand(pictures):  # noqa: F811
    detector = CHEAP["fastflow"]().fit(pictures[0])
    x = samples(detector, pictures[2]).double()
    network = detector.net_.double()
    with torch.no_grad():
        z, _ = network.flows[0](network.norms[0](x.reshape(3, 6, 6, 8)))
        coarse = 1 - torch.exp(-(z**2).sum(1) / (2 * 6))
        wide = F.interpolate(coarse[:, None], (24, 32), mode="bilinear")[:, 0]
    assert_allclose(detector.transform(pictures[2]), wide, rtol=1e-6)
    assert_allclose(-detector.score_samples(pictures[2]), wide.amax((1, 2)), rtol=1e-6)


def test_attention_that_weighs_all_alike_changes_nothing(pictures):  # noqa: F811
    """With weights of 1, as far as a sigmoid goes."""
    plain = CHEAP["fastflow"](hidden_ratio=2.0).set_params(max_epochs=1)
    other = clone(plain).set_params(attention="cbam").fit(pictures[0])
    plain.fit(pictures[0])
    state, weights = other.net_.state_dict(), dict(plain.net_.named_parameters())
    added = [name for name in state if ".2.channels" in name or ".2.places" in name]
    assert len(added) == 5 * 2
    taken = {}
    for name in state:
        if name in added:
            at = 100.0 if name.endswith("channels.2.bias") else 0.0
            taken[name] = torch.full_like(state[name], at)
        else:
            taken[name] = weights.get(name.replace("subnetwork.3", "subnetwork.2"))
            taken[name] = state[name] if taken[name] is None else taken[name]
    x = samples(plain, pictures[1])
    # places by a sigmoid of 0, half of all, which the next convolution makes up for
    for name in taken:
        if name.endswith("subnetwork.3.weight"):
            taken[name] = 2 * taken[name]
    for name, value in plain.net_.state_dict().items():
        taken |= {name: value} if name in taken and ".subnetwork." not in name else {}
    other.net_.load_state_dict(taken)
    assert_allclose(other.net_.map(x).detach(), plain.net_.map(x).detach(), rtol=1e-4)


def test_cbam_weighs_channels_then_places_by_hand():
    part, x = CBAM(4, reduction=2).double(), torch.randn(3, 4, 5, 6).double()
    first, _, last = part.channels

    def mlp(v):
        hidden = np.maximum(v @ first.weight.T.numpy() + first.bias.numpy(), 0)
        return hidden @ last.weight.T.numpy() + last.bias.numpy()

    with torch.no_grad():
        maps = x.numpy()
        weights = mlp(maps.mean((2, 3))) + mlp(maps.max((2, 3)))
        maps = maps / (1 + np.exp(-weights))[:, :, None, None]
        seen = np.stack([maps.mean(1), maps.max(1)], 1)
        padded = np.pad(seen, ((0, 0), (0, 0), (3, 3), (3, 3)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (7, 7), (2, 3))
        logits = np.einsum("bchwij,cij->bhw", windows, part.places.weight[0].numpy())
        expected = maps / (1 + np.exp(-logits))[:, None]
        assert_allclose(part(x), expected)


def test_a_learned_base_is_the_most_likely_one(pictures):  # noqa: F811
    """The gradient of the likelihood in its means and deviations is zero."""
    detector = CHEAP["fastflow"](base="learned", base_period=5).fit(pictures[0])
    (base,), network = detector.net_.bases, detector.net_
    assert base.mean.abs().max() > 1e-3
    x = samples(detector, pictures[0])
    base.learn(iter([network.flowed(x)[0][0].detach()]))
    base.mean.requires_grad_(), base.std.requires_grad_()
    loss = network.loss(x, None)
    for gradient in torch.autograd.grad(loss, [base.mean, base.std]):
        assert gradient.abs().max() < 1e-3 * abs(loss.item())
    # and the density is that of a normal distribution with that mean and deviation
    with torch.no_grad():
        z, logdet = network.flowed(x)[0]
        shape = (-1, 1, 1)
        normal = torch.distributions.Normal(base.mean.view(shape), base.std.view(shape))
        constant = z[0].numel() * math.log(2 * math.pi) / 2
        expected = -(normal.log_prob(z).sum((1, 2, 3)) + logdet.sum((1, 2))) - constant
        assert_allclose(network.loss(x, None), expected.mean(), rtol=1e-5)


def test_a_base_is_taken_at_its_period(pictures):  # noqa: F811
    make = CHEAP["fastflow"]
    early, late = (
        make(base="learned", base_period=n).set_params(max_epochs=3).fit(pictures[0])
        for n in (2, 4)
    )
    assert (late.net_.bases[0].mean == 0).all()
    assert (early.net_.bases[0].mean != 0).any()
    plain = make().set_params(max_epochs=3).fit(pictures[0])
    assert_allclose(
        late.score_samples(pictures[1]), plain.score_samples(pictures[1]), rtol=1e-6
    )


def test_a_learned_base_of_cflow_is_the_most_likely_one(pictures):  # noqa: F811
    """Of all places of the training; its period is that of FastFlow's."""
    settings = {"max_epochs": 4, "lr": 1e-3}
    make = CHEAP["cflow"]
    detector = make(base="learned", base_period=4).set_params(**settings)
    detector.fit(pictures[0])
    network, (base,) = detector.net_, detector.net_.bases
    x = samples(detector, pictures[0])
    rows, codes = network.fibers(x, 0)
    z, logdet = network.flows[0](rows, codes)
    assert_allclose(base.mean, z.mean(0), atol=1e-5)  # so few are all trained on
    assert_allclose(base.std, z.std(0, correction=0), rtol=1e-4)
    assert base.mean.abs().max() > 1e-3
    normal = torch.distributions.Normal(base.mean, base.std).log_prob(z).sum(1)
    found = network.log_likelihood(rows, codes, 0)
    assert_allclose(found, (normal + logdet) / 6, rtol=1e-4)
    late, plain = (
        make(**base).set_params(**settings).fit(pictures[0])
        for base in ({"base": "learned", "base_period": 5}, {})
    )
    assert (late.net_.bases[0].mean == 0).all()
    assert_allclose(
        late.score_samples(pictures[1]), plain.score_samples(pictures[1]), rtol=1e-5
    )


def test_fastflow_has_small_convolutions_at_every_other_step():
    def sizes(only_3x3):
        detector = FastFlow(
            **backbone(), n_steps=4, only_3x3=only_3x3, hidden_ratio=0.5, max_epochs=1
        ).fit(np.random.default_rng(0).normal(size=(4, 16, 16)))
        flow = detector.net_.flows[0]
        return [block.subnetwork[0].kernel_size[0] for block in flow.blocks]

    assert sizes(False) == [3, 1, 3, 1]
    assert sizes(True) == [3, 3, 3, 3]


def test_the_loss_and_map_of_cflow_by_hand(pictures):  # noqa: F811
    detector = CHEAP["cflow"]().set_params(smoothing=0).fit(pictures[0])
    network = detector.net_
    x = samples(detector, pictures[0])
    rows, codes = network.fibers(x, 0)
    assert rows.shape == (10 * 48, 6)
    # the code of a patch is that of its own place
    assert_allclose(codes[48 + 11], sinusoids(8, 6, 8)[:, 1, 3])
    assert_allclose(rows[48 + 11], x.reshape(10, 6, 6, 8)[1, :, 1, 3])
    with torch.no_grad():
        z, logdet = network.flows[0](rows, codes)
        normal = torch.distributions.Normal(0, 1).log_prob(z).sum(1)
        likelihood = (normal + logdet) / 6
        assert_allclose(network.log_likelihood(rows, codes, 0), likelihood, rtol=1e-5)
        losses = [float(loss) for _, loss in network.updates("fit", x, None)]
        assert len(losses) == 2  # 480 patches, 256 at a time
        weighted = (256 * losses[0] + 224 * losses[1]) / 480
        assert_allclose(weighted, -F.logsigmoid(likelihood).mean(), rtol=1e-5)
        assert_allclose(network.highest[0], likelihood.max(), rtol=1e-6)
        maps = network.map(x).flatten(1)
        expected = 1 - torch.exp(likelihood - likelihood.max())
        assert_allclose(maps, expected.reshape(10, 48), atol=1e-5)


class Rates(Callback):
    """Notes the rates of all optimizers."""

    noted = []

    def on_epoch_begin(self, net, **parameters):
        Rates.noted.append([one.param_groups[0]["lr"] for one in net.updaters.values()])


def test_the_rates_of_cflow_may_fall(pictures):  # noqa: F811
    for schedule, factors in ((None, [1, 1]), ("cosine", [1, 0.5005])):
        Rates.noted.clear()
        detector = CHEAP["cflow"]().set_params(schedule=schedule, max_epochs=2)
        detector.set_params(lr=0.01, callbacks=[Rates()], contamination=0.1).fit(
            pictures[0]
        )
        for rates, factor in zip(Rates.noted, factors, strict=True):
            assert_allclose(rates, 0.01 * factor)


def test_the_code_of_dfr_has_the_length_of_the_principal_components(pictures):  # noqa: F811
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 20))
    rows = torch.tensor(rows + 1e-3 * rng.normal(size=(500, 20)))
    assert explaining_components(rows, 0.999) == 3
    assert explaining_components(torch.zeros(5, 4), 0.9) in (1, 4, 5)
    detector = CHEAP["dfr"](explained_variance=0.9).fit(pictures[0])
    x = samples(detector, pictures[0]).double().reshape(10, 6, 48)
    features = x.transpose(1, 2).flatten(0, 1)
    variance = np.linalg.svd(features - features.mean(0), compute_uv=False) ** 2
    share = np.cumsum(variance) / variance.sum()
    assert detector.latent_size_ == np.argmax(share >= 0.9) + 1
    assert CHEAP["dfr"](latent_size=2).fit(pictures[0]).latent_size_ == 2


def test_the_map_of_dfr_is_the_mean_error_of_the_features(pictures):  # noqa: F811
    detector = CHEAP["dfr"](smoothing=0.0).fit(pictures[0])
    x = samples(detector, pictures[2])
    features = x.reshape(3, 6, 6, 8)
    network = detector.net_
    with torch.no_grad():
        rest = features - network.decoder(network.encoder(features))
        assert_allclose(network.map(x), (rest**2).mean(1), rtol=1e-5)
        assert_allclose(network.loss(x, None), (rest**2).mean(), rtol=1e-5)


@pytest.mark.parametrize("n_pictures", [1, 4, 100])
def test_spade_by_hand(pictures, n_pictures):  # noqa: F811
    train, _, bad = pictures
    detector = SPADE(**backbone(), n_pictures=n_pictures, smoothing=0).fit(train)

    def places(x):
        maps = detector.embedding_.feature_maps(torch.tensor(x)[..., None])
        return maps[0].permute(0, 2, 3, 1).numpy()

    known, new = places(train), places(bad)
    whole = cdist(new.mean(axis=(1, 2)), known.mean(axis=(1, 2)), "sqeuclidean")
    k = min(n_pictures, 10)
    chosen = np.argsort(whole, axis=1)[:, :k]
    expected = np.take_along_axis(whole, chosen, axis=1).mean(axis=1)
    assert_allclose(-detector.score_samples(bad), expected, rtol=1e-9)
    found = detector._patches(torch.tensor(bad)[..., None])
    for i in range(3):
        bank = known[chosen[i]].reshape(-1, 6)
        nearest = cdist(new[i].reshape(-1, 6), bank, "sqeuclidean").min(axis=1)
        assert_allclose(found[i].flatten(), nearest, rtol=1e-7)


@pytest.mark.parametrize(
    ("detector", "message"),
    [
        (CFLOW(condition_size=10), "condition_size=10 must be a multiple of four"),
        (FastFlow(n_steps=0), "n_steps"),
        (DFR(explained_variance=1.0), "explained_variance"),
        (SPADE(n_pictures=0), "n_pictures"),
    ],
)
def test_wrong_parameters(detector, message, pictures):  # noqa: F811
    with pytest.raises(ValueError, match=message):
        detector.fit(pictures[0])
