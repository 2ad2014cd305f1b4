"""Backbones that are trained on normal pictures, and the nearest of their features."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.neighbors import NearestNeighbors
from torch import nn

from skad.embedding import PatchEmbedding
from skad.embedding._resnet import ResNet
from skad.image import PANDA, MeanShifted
from skad.image._tuned import stages
from skad.image.memory._mean_shifted import MeanShiftedNetwork
from skad.image.memory._panda import PANDANetwork
from skad.nn.contrast import RandomViews, nt_xent

both = pytest.mark.parametrize("method", [PANDA, MeanShifted])


class Small(nn.Module):
    """Two convolutions, the second with a batch norm."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 4, 3, 2, 1)
        self.second = nn.Sequential(nn.Conv2d(4, 6, 3, 2, 1), nn.BatchNorm2d(6))
        self.second[1].running_mean += 0.1

    def forward(self, x):
        return self.second(self.first(x).relu())


OWN = {
    "backbone": Small(),
    "layers": ("second",),
    "normalization": (0.4, 0.3),
    "contamination": 0.1,
    "random_state": 0,
}


def pictures(n, seed):
    return np.random.default_rng(seed).uniform(size=(n, 12, 12, 3))


def features(X, layers=None, **others):
    """Return the mean features of pictures, from layers of a frozen network."""
    embedding = PatchEmbedding(**others).fit(X)
    maps = embedding.feature_maps(torch.as_tensor(X if X.ndim == 4 else X[..., None]))
    return maps[-1].mean((2, 3)).numpy()


def distances(train, new):
    found = NearestNeighbors(n_neighbors=2).fit(train).kneighbors(new)[0]
    return (found**2).sum(axis=1)


# ------------------------------------------------------------------------ what is kept


@both
def test_without_weights_it_is_the_nearest_of_frozen_features(method):
    X, new = pictures(20, 0)[..., 0], pictures(5, 1)[..., 0]
    detector = method(max_epochs=1, contamination=0.1).fit(X)
    train, test = features(X), features(new)
    if method is MeanShifted:
        train, test = (f / np.linalg.norm(f, axis=1)[:, None] for f in (train, test))
    expected = distances(train, test)
    assert_allclose(-detector.score_samples(new), expected, rtol=1e-3)


@both
def test_trained_features_are_those_of_the_trained_network(method):
    X, new = pictures(20, 0), pictures(5, 1)
    detector = method(**OWN, max_epochs=3, lr=0.1).fit(X)
    encoder = detector.net_.double().encoder

    def described(pictures):
        x = (torch.as_tensor(pictures).permute(0, 3, 1, 2) - 0.4) / 0.3
        found = encoder(x)[-1].mean((2, 3)).numpy()
        if method is MeanShifted:
            found /= np.linalg.norm(found, axis=1)[:, None]
        return found

    expected = distances(described(X), described(new))
    assert_allclose(-detector.score_samples(new), expected, rtol=1e-3)
    assert np.abs(described(X)).sum() > 0
    parts = detector.net_.inspect(detector._describe(torch.as_tensor(new)))[1]
    assert parts.shape == (5, 3, 3)
    assert_allclose(parts.sum((1, 2)), expected, rtol=1e-3)


@both
def test_only_what_is_asked_for_is_trained(method):
    own = {**OWN, "max_epochs": 2, "lr": 0.1}
    before = Small().state_dict()
    for parts, moved in (
        (None, {"first.weight", "first.bias"}),
        (("second",), set()),
        (("second.0",), set()),
    ):
        net = method(**own, trained_parts=parts).fit(pictures(20, 0)).net_
        state = net.encoder.module.state_dict()
        changed = {name for name in state if not torch.equal(state[name], before[name])}
        moved = moved | {"second.0.weight"}
        moved |= (
            {"second.1.weight", "second.1.bias"} if parts != ("second.0",) else set()
        )
        assert changed - {"second.0.bias"} == moved


def test_the_last_two_stages_of_a_resnet_are_trained():
    assert stages(ResNet("resnet18", ("layer4",))) == ("layer3", "layer4")
    assert stages(ResNet("resnet18", ("layer2", "layer3"))) == ("layer2", "layer3")
    assert stages(ResNet("resnet18", ("layer1",))) == ("layer1",)
    assert stages(Small()) is None


def test_unknown_parts_are_refused():
    with pytest.raises(ValueError, match=r"trained_parts=.*third"):
        PANDA(**OWN, trained_parts=("third",)).fit(pictures(10, 0))


# ------------------------------------------------------------------------------- PANDA


def test_panda_takes_small_steps_to_the_mean():
    X = pictures(20, 0)
    own = {**OWN, "weight_decay": 0.0, "batch_size": 20}
    detector = PANDA(**own, max_epochs=1, lr=0.01).fit(X)
    before = dict(Small().named_parameters())
    change = [
        (weight - before[name]).square().sum()
        for name, weight in detector.net_.encoder.module.named_parameters()
    ]
    assert 0 < torch.stack(change).sum().sqrt() <= 0.01 * 1e-3 * 1.01
    losses = [
        one["train_loss"] for one in PANDA(**own, max_epochs=60, lr=3.0).fit(X).history_
    ]
    assert losses[-1] < 0.5 * losses[0]


def test_panda_draws_to_the_mean_before_the_training():
    X = pictures(20, 0)
    net = PANDA(**OWN, max_epochs=3, lr=1.0).fit(X).net_
    x = (torch.as_tensor(X).permute(0, 3, 1, 2).float() - 0.4) / 0.3
    with torch.no_grad():
        centre = Small().eval()(x).mean((2, 3)).mean(0)
    assert_allclose(net.centre, centre, rtol=1e-4, atol=1e-6)
    samples = torch.as_tensor(X).permute(0, 3, 1, 2).float().flatten(1)
    away = net.features(net.pictures(samples)) - centre
    assert net.loss(samples, None).item() == pytest.approx(
        away.square().mean().item(), rel=1e-4
    )
    one = samples[:1].expand(4, -1)
    net.centre.copy_(net.features(net.pictures(one))[0])
    assert net.loss(one, None).item() == pytest.approx(0, abs=1e-10)


# ------------------------------------------------------------------- mean-shifted loss


def naive_contrast(first, second, temperature):
    views, total = [*first, *second], 0.0
    n = len(views)
    units = [view / np.linalg.norm(view) for view in views]
    for i, one in enumerate(units):
        shares = [
            np.exp(one @ other / temperature) for m, other in enumerate(units) if m != i
        ]
        total -= np.log(
            np.exp(one @ units[(i + n // 2) % n] / temperature) / sum(shares)
        )
    return total / n


def test_the_contrast_is_its_double_loop():
    first, second = np.random.default_rng(0).normal(size=(2, 5, 3))
    found = nt_xent(torch.as_tensor(first), torch.as_tensor(second), 0.25)
    assert found.item() == pytest.approx(naive_contrast(first, second, 0.25))


def shifted(centre, angular):
    given = [(3, 12, 12)], PatchEmbedding(Small(), ("second",), normalization=None)
    encoder = given[1].fit(pictures(2, 0)).backbone_
    net = MeanShiftedNetwork(given[0], encoder, None, 1, None, 2, 0.25, angular)
    net.centre = torch.as_tensor(centre)
    return net


def test_the_loss_is_that_of_angles_around_the_middle():
    rng = np.random.default_rng(0)
    pair = rng.normal(size=(2, 5, 6))
    pair /= np.linalg.norm(pair, axis=2, keepdims=True)
    centre, views = 0.3 * rng.normal(size=6), torch.as_tensor(pair)
    found = shifted(centre, False).contrast(*views)
    expected = naive_contrast(*(pair - centre), 0.25)
    assert found.item() == pytest.approx(expected)
    assert shifted(0 * centre, False).contrast(*views).item() == pytest.approx(
        naive_contrast(*pair, 0.25)
    )
    turn = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    again = shifted(centre @ turn, False).contrast(*torch.as_tensor(pair @ turn))
    assert again.item() == pytest.approx(expected)
    unit = centre / np.linalg.norm(centre)
    more = shifted(unit, True).contrast(*views) - shifted(unit, False).contrast(*views)
    assert more.item() == pytest.approx(np.sum(2 - 2 * (pair @ unit).mean(axis=1)))


@pytest.mark.parametrize("angular", [False, True])
def test_the_middle_is_the_mean_direction_before(angular):
    X = pictures(20, 0)
    net = MeanShifted(**OWN, max_epochs=2, lr=0.1, angular=angular).fit(X).net_
    with torch.no_grad():
        x = (torch.as_tensor(X).permute(0, 3, 1, 2).float() - 0.4) / 0.3
        found = Small().eval()(x).mean((2, 3))
    centre = (found / found.norm(dim=1, keepdim=True)).mean(0)
    centre = centre / centre.norm() if angular else centre
    assert_allclose(net.centre, centre, rtol=1e-4, atol=1e-5)


# -------------------------------------------------------------------------------- views


def test_crops_lie_inside():
    torch.manual_seed(0)
    maps = RandomViews().crops(2000)
    wide, right = maps[:, 0, 0], maps[:, 0, 2]
    high, down = maps[:, 1, 1], maps[:, 1, 2]
    assert (wide.abs() + right.abs() <= 1 + 1e-6).all()
    assert (high + down.abs() <= 1 + 1e-6).all()
    share = wide.abs() * high
    assert 0.19 < share.min() < 0.23
    assert share.max() > 0.9
    assert 0.45 < (wide < 0).float().mean() < 0.55
    assert not maps[:, 0, 1].any()
    assert not maps[:, 1, 0].any()


def test_views_of_plain_pictures_are_plain():
    torch.manual_seed(0)
    seen = RandomViews()(torch.full((50, 3, 8, 8), 0.5))
    assert_allclose(seen.flatten(1).std(1), 0, atol=1e-6)
    means = seen.mean((1, 2, 3))
    assert 0.29 < means.min() < 0.36
    assert 0.64 < means.max() < 0.71


def test_views_are_drawn_with_the_generator():
    x = torch.rand(4, 1, 8, 8)
    torch.manual_seed(0)
    found = RandomViews()(x)
    torch.manual_seed(0)
    assert_array_equal(found, RandomViews()(x))
    assert not torch.equal(found, RandomViews()(x))
    assert torch.isfinite(found).all()


def test_panda_network_has_nothing_frozen_but_the_rest():
    net = PANDANetwork([(3, 32, 32)], ResNet("resnet18", ("layer4",)), None, 1, None, 2)
    assert net.frozen_parts == (
        "encoder.conv1",
        "encoder.bn1",
        "encoder.layer1",
        "encoder.layer2",
    )
