"""HTDG: moves, scales, the chain of generators, losses, scores and maps."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import log_softmax, softmax
from sklearn.metrics import roc_auc_score
from torch.nn import functional as F  # noqa: N812

import skad.export
from skad.image import HTDG
from skad.image.discriminative._htdg import HTDGNetwork
from skad.nn.few_shot import Moves, scale_sizes

SMALL = {
    "transformations": "all",
    "shift": 0.15,
    "n_scales": 2,
    "min_size": 14,
    "channels": 3,
    "n_steps": 1,
    "noise": 0.1,
    "reconstruction_weight": 100.0,
    "fraction": 1.0,
}


def network(shape=(1, 18, 18), **others):
    torch.manual_seed(0)
    net = HTDGNetwork(shape, **{**SMALL, **others}).double().eval()
    for part in (*net.critics, *net.generators):  # as large as of trained ones
        for name, weight in part.named_parameters():
            if name.endswith("weight") and weight.ndim > 1:
                weight.data *= 20
    return net


def samples(net, n=3, seed=0):
    return torch.tensor(np.random.default_rng(seed).random((n, np.prod(net.shape))))


# ------------------------------------------------------------------------------- moves


def moved(x, grey, flip, down, right, turn):
    """Return a picture (c, h, w) after a move of the authors' list, by NumPy."""
    x = x[:, :, ::-1] if flip else x
    by = [max(1, int(0.15 * n)) for n in x.shape[1:]]
    (h, w), (a, b) = x.shape[1:], by
    wide = np.pad(x, [(0, 0), (a, a), (b, b)], mode="symmetric")
    top, left = a - down * a, b - right * b
    x = np.rot90(wide[:, top : top + h, left : left + w], turn, (1, 2))
    if grey:
        r, g, b = x
        x = np.stack([0.299 * r + 0.587 * g + 0.114 * b] * 3)
    return x


def listed(turns, colours):
    """Return the moves as the authors list them."""
    product, both = itertools.product, (False, True)
    found = [
        *product((0,), both, (-1, 1, 0), (-1,), (0,)),
        *product((0,), both, (0, 1), (0, 1), turns),
        *product((0,), both, (-1,), (1, 0), (0,)),
    ]
    if colours:
        found += [
            *product((1,), both, (0,), (0,), turns),
            *product((1,), (False,), (1, -1), (0,), (0,)),
            *product((1,), (False,), (0,), (1, -1), (0,)),
        ]
    return found


@pytest.mark.parametrize(
    ("shape", "n"), [((3, 16, 16), 54), ((1, 25, 25), 42), ((3, 12, 20), 34)]
)
def test_moves_are_those_of_numpy(shape, n):
    square = shape[1] == shape[2]
    moves = Moves(shape, "all", 0.15, square)
    x = np.random.default_rng(0).random((2, *shape))
    found = moves(torch.tensor(x)).numpy()
    assert found.shape == (2, n, *shape)
    turns = range(4) if square else (0, 2)
    for picture, own in zip(x, found, strict=True):
        expected = [moved(picture, *one) for one in listed(turns, shape[0] == 3)]
        order = [
            np.argmin([np.abs(each - one).max() for each in own]) for one in expected
        ]
        assert sorted(order) == list(range(n))
        assert_allclose(own[order], expected, atol=1e-15)
        assert_allclose(own[0], picture)  # none is the first
    parts = [moves(torch.tensor(x), i, min(n, i + 5)) for i in range(0, n, 5)]
    assert_array_equal(torch.cat(parts, 1), found)


def test_turns_alone():
    x = torch.rand(2, 3, 11, 11)
    expected = torch.stack([x.rot90(i, (2, 3)) for i in range(4)], 1)
    assert_array_equal(Moves((3, 11, 11), "turns", 0.15, True)(x), expected)
    assert len(Moves((3, 11, 13), "turns", 0.15, False)) == 2


def test_values_come_back_to_the_pixels_they_are_of():
    moves = Moves((1, 12, 12), "all", 0.3, True)
    numbers = torch.arange(144.0).view(1, 1, 12, 12)
    of = moves(numbers)[0, :, 0].int().numpy()  # which pixel stands where
    values = np.random.default_rng(0).random((2, 42, 12, 12))
    found = moves.back(torch.tensor(values))
    for own, result in zip(values, found, strict=True):
        at = [[] for _ in range(144)]
        for place in np.ndindex(of.shape):
            at[of[place]].append(own[place])
        expected = np.reshape([np.mean(each) for each in at], (12, 12))
        assert_allclose(result, expected)


# ------------------------------------------------------------------------------ scales


def test_scales_grow_by_one_factor():
    assert scale_sizes((64, 64), 5, 25) == [(n, n) for n in (25, 32, 40, 51, 64)]
    assert scale_sizes((128, 64), 2, 32) == [(64, 32), (128, 64)]
    assert scale_sizes((64, 64), 1, 25) == [(64, 64)]
    assert scale_sizes((1, 30), 5, 25) == [(11, 30)]  # none is narrower than a patch
    assert scale_sizes((20, 20), 3, 25) == [(20, 20)]
    assert scale_sizes((40, 40), 3, 1) == [(11, 11), (40, 40)]


def test_pictures_of_scales_are_resized_and_between_ends():
    net = network((1, 28, 28))
    x = samples(net)
    assert net.sizes == [(14, 14), (28, 28)]
    assert_allclose(net.pictures(x, 1), 2 * x.view(3, 1, 28, 28) - 1, atol=1e-12)
    flat = torch.full((1, 784), 0.75).double()
    assert_allclose(net.pictures(flat, 0), np.full((1, 1, 14, 14), 0.5), atol=1e-6)
    expected = F.interpolate(
        x.view(3, 1, 28, 28), (14, 14), mode="bilinear", antialias=True
    )
    assert_allclose(net.pictures(x, 0), 2 * expected - 1, atol=1e-6)


def test_a_scale_begins_with_the_weights_of_the_coarser():
    net = network((1, 40, 40), n_scales=6, channels=2)
    assert [part[0].out_channels for part in net.critics] == [2, 2, 2, 2, 4, 4]
    before = [part[0].weight.clone() for part in net.critics]
    for phase in net.phases:
        net.begin(phase, None)
    for i, (old, part) in enumerate(zip(before, net.critics, strict=True)):
        own = 4 * (i // 4)  # the first of as many channels
        assert torch.equal(part[0].weight, before[own])
        for name in ("critics", "generators"):
            pair = getattr(net, name)[own], getattr(net, name)[i]
            states = [one.state_dict() for one in pair]
            assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
        assert (i == own) == torch.equal(old, part[0].weight)
    with torch.no_grad():
        net.critics[1][0].weight += 1
    net.begin(net.phases[1], None)  # it is no beginner any more
    assert not torch.equal(net.critics[1][0].weight, before[0])


# ------------------------------------------------------------------------------ losses


def padded(x):
    return F.pad(x, (5, 5, 5, 5))


def rebuilt_by_hand(net, x, number):
    """Return what the second of two scales gets for a picture, and rebuilds of it."""
    scales = [net.pictures(x[None], i) for i in range(2)]
    c, zeros = net.shape[0], torch.zeros_like(scales[0])

    def make(i, noise, before):
        seen = padded(before + noise)
        channel = torch.full_like(seen[:, :1], number)
        out = net.generators[i](torch.cat([seen, channel], 1))
        return torch.tanh(out) + before

    first = make(0, net.fixed_0.expand(1, c, -1, -1), zeros)
    size = tuple(net.sizes[1])
    before = F.interpolate(first, size, mode="bilinear", align_corners=False)
    amplitude = 0.1 * np.abs((scales[1] - before).numpy(force=True)).mean()
    made = make(1, amplitude * net.fixed_1.expand(1, c, -1, -1), before)
    return scales[1], before, amplitude, made


def losses(net, x, which, seed=1):
    torch.manual_seed(seed)
    return dict(net.updates("scale 2", x, which))


def test_the_reconstruction_is_that_by_hand():
    found = []
    for weight in (0.0, 100.0, 7.0):
        net = network((3, 18, 18), reconstruction_weight=weight)
        x, which = samples(net), torch.tensor([4, 0, 2])
        found.append(losses(net, x, which))
    errors = []
    for one, number in zip(x, which, strict=True):
        real, _, _, made = rebuilt_by_hand(net, one, int(number))
        errors.append((made - real).square().mean().item())
    first, second, third = (each["generator"].item() for each in found)
    assert_allclose(second - first, 100 * np.mean(errors), rtol=1e-9)
    assert_allclose(third - first, 7 * np.mean(errors), rtol=1e-9)
    assert_allclose(found[0]["critic"].item(), found[1]["critic"].item())


def test_noise_has_the_size_of_what_the_coarser_scale_lacks():
    net = network()
    x, which = samples(net), torch.tensor([4, 0, 2])
    with torch.no_grad():
        before, sizes = net.rebuilding(1, x, which)
    assert_array_equal(sizes[0].flatten(), np.ones(3))
    for i, number in enumerate(which):
        _, own, amplitude, _ = rebuilt_by_hand(net, x[i], int(number))
        assert_allclose(before[i], own[0].numpy(force=True), rtol=1e-9)
        assert_allclose(float(sizes[1][i]), amplitude, rtol=1e-9)


def test_losses_are_cross_entropies_of_all_patches():
    net = network(n_scales=1)
    x, which = samples(net, 2), torch.tensor([0, 1])
    torch.manual_seed(1)
    noise = torch.randn(2, 1, 18, 18)
    made = net.make(0, noise.double(), torch.zeros(2, 1, 18, 18).double(), which)
    found = {}
    for name, pictures in (("real", net.pictures(x, 0)), ("fake", made)):
        for one in pictures.numpy(force=True):
            for t, move in enumerate(net.moves[0](torch.tensor(one)[None])[0]):
                logits = net.critics[0](move[None])[0].numpy(force=True)
                logs = log_softmax(logits, axis=0)
                found.setdefault((name, "move"), []).append(-logs[t].mean())
                found.setdefault((name, "fake"), []).append(-logs[42].mean())
    found = {key: np.mean(value) for key, value in found.items()}
    torch.manual_seed(1)
    steps = dict(net.updates("scale 1", x, which))
    critic = found["real", "move"] + found["fake", "fake"]
    assert_allclose(steps["critic"].item(), critic, rtol=1e-6)
    fixed = net.make(0, net.fixed_0, torch.zeros(2, 1, 18, 18).double(), which)
    error = 100 * (fixed - net.pictures(x, 0)).square().mean()
    assert_allclose(
        steps["generator"].item(), found["fake", "move"] + error.item(), rtol=1e-6
    )
    assert_allclose(net.watched("scale 1", x, which).item(), found["real", "move"])


@pytest.mark.parametrize("n_steps", [1, 3])
def test_steps_take_turns_and_each_moves_its_own_weights(n_steps):
    net = network(n_steps=n_steps).train()
    x, names = samples(net), []
    for name, loss in net.updates("scale 2", x, torch.arange(3)):
        names.append(name)
        net.zero_grad()
        loss.backward()
        own = {"critic": net.critics[1], "generator": net.generators[1]}[name]
        for key, weight in net.named_parameters():
            moves = weight.grad is not None and bool(weight.grad.any())
            assert not moves or any(weight is each for each in own.parameters()), key
        assert all(weight.grad is not None for weight in own.parameters())
    assert names == n_steps * ["critic"] + n_steps * ["generator"]
    assert not net.generators[0].training  # the coarser scale stays as it is


def test_a_picture_has_one_number_for_good(monkeypatch):
    seen, updates = {}, HTDGNetwork.updates

    def kept(self, phase, x, y):
        for one, number in zip(x, y, strict=True):
            seen.setdefault(int(number), set()).add(tuple(one.tolist()))
        return updates(self, phase, x, y)

    monkeypatch.setattr(HTDGNetwork, "updates", kept)
    X = np.random.default_rng(0).random((5, 12, 12))
    tiny = {"transformations": "turns", "channels": 2, "n_scales": 1, "n_steps": 1}
    given = {"image_size": None, "batch_size": 2, "max_epochs": 3, "random_state": 0}
    HTDG(**tiny, **given, contamination=0.1).fit(X)
    assert sorted(seen) == list(range(5))
    for number, pictures in seen.items():
        (own,) = pictures
        assert_allclose(own, X[number].ravel(), rtol=1e-6)


def test_the_rate_of_the_critic_falls_half_way():
    from skad._training import lower_one

    class Net:
        updaters = {
            name: torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
            for name in ("critic", "generator")
        }

    (callback,), rates = HTDG()._own_callbacks("scale 1", 5), []
    for _ in range(5):
        rates.append([one.param_groups[0]["lr"] for one in Net.updaters.values()])
        callback.on_epoch_end(Net)
    assert_allclose(rates, [[1, 1]] * 2 + [[0.1, 1]] * 3)
    (other,) = lower_one("critic", 5, 0.5, 0.1)
    other.load_state_dict(callback.state_dict())
    other.on_epoch_end(Net)
    assert Net.updaters["critic"].param_groups[0]["lr"] == pytest.approx(0.1)


def test_norms_of_critics_are_those_of_the_training_pictures():
    X = np.random.default_rng(0).random((7, 12, 12))
    tiny = {"channels": 2, "n_scales": 1, "n_steps": 1, "max_epochs": 1}
    detector = HTDG(**tiny, image_size=None, contamination=0.1, random_state=0).fit(X)
    net = detector.net_
    x = net.pictures(torch.tensor(X).float().flatten(1), 0)
    first, norm = net.critics[0][0], net.critics[0][1]
    out = first(net.moves[0](x).flatten(0, 1))
    assert_allclose(norm.running_mean, out.mean((0, 2, 3)), atol=1e-5)
    assert_allclose(norm.running_var, out.var((0, 2, 3)), rtol=0.02)


# ------------------------------------------------------------------------------ scores


@pytest.mark.parametrize("fraction", [1.0, 0.3, 0.01])
@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 13, 17)])
def test_the_score_is_the_naive_loop_over_patches(shape, fraction):
    """Each of 11 x 11 pixels by itself, so that no patch sees more."""
    net = network(shape, min_size=12, fraction=fraction)
    x = samples(net, 2)
    expected = np.zeros(2)
    for n in range(2):
        for i, (h, w) in enumerate(net.sizes):
            moves = net.moves[i](net.pictures(x[n : n + 1], i))[0]
            for t, picture in enumerate(moves):
                chances = []
                for top, left in np.ndindex(h - 10, w - 10):
                    patch = picture[None, :, top : top + 11, left : left + 11]
                    logits = net.critics[i](patch).flatten().numpy(force=True)
                    chances.append(softmax(logits[: len(moves)])[t])
                lowest = np.sort(chances)[: max(1, int(fraction * len(chances)))]
                expected[n] += (1 - lowest.mean()) / len(moves) / len(net.sizes)
    assert np.ptp(expected) > 1e-5
    assert_allclose(net.anomaly(x).numpy(force=True), expected, rtol=1e-7)


@pytest.mark.parametrize("fake", [0.0, 50.0])
def test_what_says_the_same_of_all_is_as_good_as_chance(fake):
    net = network((3, 16, 16))
    for critic in net.critics:
        critic[-1].weight.data.zero_()
        critic[-1].bias.data.zero_()
        critic[-1].bias.data[-1] = fake  # which is left out
    maps, anomaly = net.both(samples(net))
    assert_allclose(anomaly.numpy(force=True), np.full(3, 1 - 1 / 54))
    assert_allclose(maps.numpy(force=True), np.full((3, 16, 16), 1 - 1 / 54))


@pytest.mark.parametrize("shape", [(1, 24, 24), (1, 20, 26)])
def test_maps_show_patches_where_their_centre_was(shape, monkeypatch):
    net = network(shape, n_scales=1, shift=0.1)

    def middle(i, x):  # the pixel in the middle of each patch
        return net.moves[i](x)[:, :, 0, 5:-5, 5:-5]

    monkeypatch.setattr(net, "wrong", middle)
    x = samples(net, 2)
    maps, _ = net.both(x)
    pictures = net.pictures(x, 0)[:, 0]
    inside = maps[:, 8:-8, 8:-8], pictures[:, 8:-8, 8:-8]
    assert_allclose(*inside, atol=1e-9)
    # nearer to the border some moves show the nearest patch instead
    assert not np.allclose(maps[:, 0], pictures[:, 0])


@pytest.mark.parametrize("shape", [(1, 13, 13), (3, 12, 15)])
def test_the_map_is_the_naive_loop_over_moves(shape):
    net = network(shape, n_scales=1)
    (_, h, w), x = shape, samples(net, 1)
    numbers = torch.arange(h * w).view(1, 1, h, w).expand(-1, shape[0], -1, -1)
    of = net.moves[0](numbers.double())[0, :, 0].round().int()
    moves, at = net.moves[0](net.pictures(x, 0))[0], [[] for _ in range(h * w)]
    for t, picture in enumerate(moves):
        logits = net.critics[0](picture[None])[0].numpy(force=True)
        wrong = 1 - softmax(logits[: len(moves)], axis=0)[t]
        for row, column in np.ndindex(h, w):
            nearest = np.clip(row - 5, 0, h - 11), np.clip(column - 5, 0, w - 11)
            at[of[t, row, column]].append(wrong[nearest])
    expected = np.reshape([np.mean(each) for each in at], (h, w))
    assert np.ptp(expected) > 1e-3
    assert_allclose(net.map(x)[0].numpy(force=True), expected, rtol=1e-6)


def test_maps_of_scales_are_averaged(monkeypatch):
    net = network((1, 22, 22))
    values = {14: 0.2, 22: 0.6}

    def flat(i, x):
        n = x.shape[2]
        return torch.full((len(x), 42, n - 10, n - 10), values[n]).double()

    monkeypatch.setattr(net, "wrong", flat)
    maps, anomaly = net.both(samples(net))
    assert_allclose(maps, np.full((3, 22, 22), 0.4))
    assert_allclose(anomaly, np.full(3, 0.4))


@pytest.mark.parametrize("fraction", [1.0, 0.2])
def test_it_goes_into_a_graph(fraction, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    X = np.random.default_rng(0).random((4, 20, 20, 3)).astype(np.float32)
    given = {"channels": 2, "n_scales": 2, "min_size": 14, "n_steps": 1}
    given |= {"max_epochs": 1, "contamination": 0.1, "random_state": 0}
    detector = HTDG(**given, image_size=18, fraction=fraction).fit(X)
    skad.export.to_onnx(detector, tmp_path / "one.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "one.onnx")
    for few in (X[:1], X):
        decisions, maps = session.run(None, {"pictures": few})
        assert_allclose(decisions, detector.decision_function(few), atol=1e-4)
        assert_allclose(maps, detector.transform(few), atol=1e-4)


def arrows(n, seed=0):
    """Return pictures that are brighter downwards, with a texture of one direction."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:16, :16] / 16
    phase = rng.random((n, 1, 1))
    waves = 0.2 * np.sin(6 * np.pi * (y + phase)) * x
    return 0.3 + 0.4 * y + waves + 0.02 * rng.normal(size=(n, 16, 16))


def test_few_pictures_tell_which_way_up_others_are():
    few, good = arrows(4), arrows(30, seed=1)
    bad = good.transpose(0, 2, 1)
    y, both = np.repeat([0, 1], 30), np.concatenate([good, bad])
    given = {"transformations": "turns", "channels": 8, "n_scales": 1, "n_steps": 1}
    given |= {"image_size": None, "contamination": 0.1, "random_state": 0}
    detector = HTDG(**given, lr=2e-3, max_epochs=40).fit(few)
    assert roc_auc_score(y, -detector.score_samples(both)) > 0.95
    untrained = HTDG(**given, lr=1e-9, max_epochs=1).fit(few)
    assert roc_auc_score(y, -untrained.score_samples(both)) < 0.9
