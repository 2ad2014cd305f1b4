"""Networks that tell views of a picture from those of others: formulas, and finds."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import mahalanobis
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf

from skad.nn.contrast import (
    RandomViews,
    corner_crops,
    cropped,
    nt_xent,
    randomly_flipped,
)
from skad.nn.pixel_moves import halves_swapped
from skad.nn.wide_resnet import WideEncoder, WideResNet
from skad.self_supervised import CSI, SSD
from skad.self_supervised._csi import CSINetwork
from skad.self_supervised._ssd import SSDNetwork, gaussian

OWN = {
    "hidden_sizes": (4, 8),
    "code_size": 8,
    "projection_size": 6,
    "batch_size": 16,
    "contamination": 0.1,
    "random_state": 0,
}
ENCODER = "auto", (4, 8), 8, 6, 0.5, 0.5


def stairs(n, seed, turned=False):
    """Return pictures with one bright corner, whose edges run as in no turned copy."""
    rng = np.random.default_rng(seed)
    X = 0.1 * rng.uniform(size=(n, 12, 12))
    X[:, 1:5, 1:9] += 0.5
    X[:, 1:9, 1:4] += 0.3
    return np.ascontiguousarray(np.rot90(X, 1, (1, 2))) if turned else X


def pictures(X):
    return torch.as_tensor(np.ascontiguousarray(X))[:, None]


# ------------------------------------------------------------------------------- views


def test_crops_of_the_middle_and_the_corners():
    x = torch.arange(64.0).reshape(1, 1, 8, 8)
    maps = corner_crops(0.25)
    expected = [x[..., i : i + 4, j : j + 4] for i, j in ((2, 2), (0, 0), (0, 4))]
    expected += [x[..., i : i + 4, j : j + 4] for i, j in ((4, 0), (4, 4))]
    for one, part in zip(maps, expected, strict=True):
        # of a linear picture the means of what is read twice are the pixels
        found = torch.nn.functional.avg_pool2d(cropped(x, one[None]), 2)
        assert_allclose(found[..., 1:-1, 1:-1], part[..., 1:-1, 1:-1], atol=1e-4)
    assert_array_equal(cropped(x, corner_crops(1.0)[:1]), x)


def test_views_are_flipped_and_blurred_as_often_as_is_asked():
    torch.manual_seed(0)
    x = torch.rand(400, 1, 4, 4)
    flipped = (randomly_flipped(x) == x.flip(3)).flatten(1).all(1)
    same = (randomly_flipped(x) == x).flatten(1).all(1)
    assert 150 < flipped.sum() < 250
    assert 150 < same.sum() < 250
    assert (RandomViews(flipped=0.0).crops(100)[:, 0, 0] > 0).all()
    turned = RandomViews(flipped=1.0).crops(100)[:, 0, 0]
    assert (turned < 0).all()
    # whole pictures, without other colours, unless they are blurred
    plain = RandomViews(least=1.0, strength=0.0, flipped=0.0, blurred=0.0)
    plain.crops = lambda n: corner_crops(1.0)[:1].expand(n, -1, -1)
    assert_allclose(plain(x), x, atol=1e-6)
    plain.blurred = 1.0
    assert (plain(x) - x).abs().flatten(1).amax(1).min() > 1e-3


def test_halves_change_places():
    x = np.arange(16).reshape(4, 4)
    a, b, c, d = (x[i : i + 2, j : j + 2] for i in (0, 2) for j in (0, 2))
    expected = [[[a, b], [c, d]], [[b, a], [d, c]], [[c, d], [a, b]], [[d, c], [b, a]]]
    assert_array_equal(halves_swapped((4, 4)), [np.block(one) for one in expected])


def test_codes_are_the_means_of_the_last_maps():
    whole, network = WideResNet((1, 8, 8), (3,), (2, 4, 6)), WideEncoder
    encoder = network((1, 8, 8), (6,), (2, 4))
    encoder.load_state_dict(whole.state_dict(), strict=False)
    x = torch.rand(5, 1, 8, 8)
    assert_array_equal(encoder(x).detach(), whole.features(x).detach())
    assert encoder.parts(x).shape == (5, 6, 4, 4)


# -------------------------------------------------------------------------- the losses


def naive_contrast(first, second, temperature):
    """Return the loss of two views (b, d), a double loop over all."""
    views = np.concatenate([first, second])
    views = views / np.linalg.norm(views, axis=1)[:, None]
    n, total = len(views), 0.0
    for i in range(n):
        others = [views[i] @ views[j] / temperature for j in range(n) if j != i]
        total += logsumexp(others) - views[i] @ views[(i + n // 2) % n] / temperature
    return total / n


def held_out_codes(net, x, shifts):
    """Return codes of pictures as they are and flipped, in all shifts."""
    pair = [shift(one) for one in (x, x.flip(3)) for shift in shifts]
    return [net.encoder(one) for one in pair]


TURNS = [lambda x, k=k: x.rot90(k, (2, 3)) for k in range(4)]


def test_turned_copies_count_as_other_pictures():
    torch.manual_seed(0)
    net = CSINetwork((1, 12, 12), *ENCODER, "turns", True).eval().double()
    net.requires_grad_(False)
    x = pictures(np.random.default_rng(0).uniform(size=(3, 12, 12)))
    codes = held_out_codes(net, x, TURNS)
    views = [
        np.concatenate([net.projection(c) for c in codes[i : i + 4]]) for i in (0, 4)
    ]
    contrast, crossed = naive_contrast(*views, 0.5), 0.0
    for i, found in enumerate(codes):
        logits = net.head(found).numpy()
        crossed += (logsumexp(logits, axis=1) - logits[:, i % 4]).mean() / 8
    assert net.loss(x, None).item() == pytest.approx(contrast + crossed)
    # the views that are found are one picture's in one turn, whatever their order
    net.head.weight.zero_()
    net.head.bias.zero_()
    assert net.loss(x, None).item() == pytest.approx(contrast + np.log(4))


def test_without_shifts_it_is_simclr():
    torch.manual_seed(0)
    net = SSDNetwork((1, 12, 12), *ENCODER, 1).eval().double().requires_grad_(False)
    x = pictures(np.random.default_rng(0).uniform(size=(3, 12, 12)))
    views = (net.projection(net.encoder(one)) for one in (x, x.flip(3)))
    assert net.loss(x, None).item() == pytest.approx(naive_contrast(*views, 0.5))


def test_views_are_flipped_before_they_are_turned():
    torch.manual_seed(0)
    net = CSINetwork((1, 12, 12), *ENCODER, "turns", True).train()
    seen = []
    assert (net.views.crops(50)[:, 0, 0] > 0).all()
    net.views.forward = lambda x: (seen.append(x), x)[1]
    x = torch.rand(20, 1, 12, 12)
    net.view_codes(x)
    both = seen[0].unflatten(0, (2, 20, 4))
    assert 0.2 < (both[:, :, 0] == x).flatten(2).all(2).float().mean() < 0.8
    for k in range(4):
        assert_array_equal(both[:, :, k], both[:, :, 0].rot90(k, (3, 4)))


# --------------------------------------------------------------------------------- CSI


def looked_at(x):
    """Yield five crops of .54 of pictures, and of the flipped ones."""
    side = np.sqrt(0.54)
    for flipped in (x, x.flip(3)):
        for turn in TURNS:
            for i, j in ((0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)):
                place = [[side, 0, j * (1 - side)], [0, side, i * (1 - side)]]
                map_ = torch.tensor(place).to(x).expand(len(x), -1, -1)
                yield turn, cropped(turn(flipped), map_)


@pytest.mark.parametrize("crops", [False, True])
def test_csi_is_the_cosine_times_the_length_and_the_logit(crops):
    X, new = stairs(40, 0), stairs(3, 1, turned=True)
    detector = CSI(**OWN, max_epochs=3, crops=crops).fit(X)
    net = detector.net_.double()

    def described(x):
        views = looked_at(x) if crops else ((turn, turn(x)) for turn in TURNS)
        codes, logits = [[] for _ in TURNS], [[] for _ in TURNS]
        for turn, view in views:
            k, found = TURNS.index(turn), net.encoder(view)
            codes[k].append(net.projection(found).numpy())
            logits[k].append(net.head(found).numpy()[:, k])
        return [np.mean(c, axis=0) for c in codes], [np.mean(f, axis=0) for f in logits]

    train, test = described(pictures(X)), described(pictures(new))
    for i, score in enumerate(detector.score_samples(new)):
        total = 0.0
        for k in range(4):
            z, known = test[0][k][i], train[0][k]
            length, lengths = np.linalg.norm(z), np.linalg.norm(known, axis=1)
            cosine = max(z @ one / np.linalg.norm(one) / length for one in known)
            total += cosine * length / lengths.mean()
            total += test[1][k][i] / abs(train[1][k].mean())
        assert score == pytest.approx(total, rel=1e-3)


def test_a_training_picture_is_as_usual_as_its_codes_are_long():
    X = stairs(40, 0)
    detector = CSI(**OWN, max_epochs=2, crops=False).fit(X)
    net = detector.net_.double()
    net.head.weight.data.zero_()
    net.head.bias.data.zero_()
    codes = net.projection(net.encoder(net.copies(pictures(X)).flatten(0, 1)))
    lengths = codes.norm(dim=1).unflatten(0, (40, 4))
    expected = (lengths / lengths.mean(0)).sum(1)
    # it is the nearest to itself, and nothing is nearer
    assert_allclose(-net.anomaly(pictures(X)), expected, rtol=1e-3)
    assert -net.anomaly(pictures(X)).mean() == pytest.approx(4, rel=1e-4)
    before = net.anomaly(pictures(stairs(5, 1)))
    net.projection[-1].weight.mul_(2)
    net.projection[-1].bias.mul_(2)
    net.lengths.mul_(2)
    assert_allclose(net.anomaly(pictures(stairs(5, 1))), before)


def test_the_bank_is_searched_in_parts(monkeypatch):
    detector = CSI(**OWN, max_epochs=1, crops=False).fit(stairs(40, 0))
    expected = detector.score_samples(stairs(5, 1))
    monkeypatch.setattr("skad.self_supervised._csi._TOGETHER", 5 * 4 * 7)
    assert_allclose(detector.score_samples(stairs(5, 1)), expected)


def test_csi_finds_turned_pictures():
    X = stairs(50, 0)
    detector = CSI(**OWN, max_epochs=15, crops=False, least_crop=0.5).fit(X)
    usual = -detector.score_samples(stairs(10, 1)).max()
    odd = -detector.score_samples(stairs(10, 2, turned=True)).min()
    assert usual < odd, (usual, odd)


def test_pictures_that_no_shift_changes_are_refused():
    for shift in ("turns", "halves"):
        with pytest.raises(ValueError, match="look the same whatever"):
            CSI(shift=shift).fit(np.random.default_rng(0).uniform(size=(20, 1, 1)))


# --------------------------------------------------------------------------------- SSD


def directions(net, X):
    codes = net.encoder(pictures(X)).numpy()
    return codes / np.linalg.norm(codes, axis=1)[:, None]


def test_ssd_is_scipys_mahalanobis_distance():
    X, new = stairs(60, 0), stairs(5, 1)
    detector = SSD(**OWN, max_epochs=3).fit(X)
    net = detector.net_.double()
    known, test = directions(net, X), directions(net, new)
    mean, scale = known.mean(axis=0), known.std(axis=0)
    scale[scale == 0] = 1
    known, test = (known - mean) / scale, (test - mean) / scale
    inverse = np.linalg.inv(LedoitWolf().fit(known).covariance_)
    expected = [mahalanobis(one, known.mean(axis=0), inverse) ** 2 for one in test]
    assert_allclose(-detector.score_samples(new), expected, rtol=1e-3)


def test_ssd_takes_the_nearest_cluster():
    odd = stairs(30, 2, turned=True)
    X, new = np.concatenate([stairs(30, 0), odd]), stairs(5, 1)
    detector = SSD(**OWN, n_clusters=2, max_epochs=3).fit(X)
    net = detector.net_.double()
    known, test = directions(net, X), directions(net, new)
    mean, scale = known.mean(axis=0), known.std(axis=0)
    scale[scale == 0] = 1
    found = []
    for part in (known[:30], known[30:]):
        rows = (part - mean) / scale
        inverse = np.linalg.inv(LedoitWolf().fit(rows).covariance_)
        centre = rows.mean(axis=0)
        found.append([mahalanobis((z - mean) / scale, centre, inverse) for z in test])
    expected = np.min(found, axis=0) ** 2
    assert_allclose(-detector.score_samples(new), expected, rtol=1e-3)


def test_ssd_knows_directions_alone():
    net = SSD(**OWN, max_epochs=1).fit(stairs(40, 0)).net_.double()
    x = pictures(stairs(5, 1))
    before, code = net.anomaly(x), net.encoder.forward
    net.encoder.forward = lambda x: code(x) * torch.arange(1, len(x) + 1)[:, None]
    assert_allclose(net.anomaly(x), before)


def test_a_cluster_of_one_picture_is_a_small_one():
    centre, white = gaussian(np.array([[1.0, 2.0]]))
    assert_allclose(centre, [1, 2])
    assert_allclose(white @ white.T, 1e6 * np.eye(2))


def test_a_contrast_of_one_picture_is_zero():
    x = torch.rand(1, 5)
    assert nt_xent(x, torch.rand(1, 5), 0.5).item() == pytest.approx(0, abs=1e-6)
