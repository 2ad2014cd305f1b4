"""DRA: four heads, what each of them learns from, and their sum."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skad.image import DRA
from skad.image.discriminative._dra import top_mean, with_pseudo

OWN = {"max_epochs": 2, "smoothing": 0, "random_state": 0, "lr": 0.01}


def squares(n, n_bad=0, seed=0):
    """Return pictures (n, 32, 32) of noise, some with a square first, and labels."""
    rng = np.random.default_rng(seed)
    X = rng.normal(0.5, 0.03, size=(n, 32, 32))
    for i in range(n_bad):
        top, left = rng.integers(2, 20, size=2)
        X[i, top : top + 8, left : left + 8] += 0.15
    return X, np.where(np.arange(n) < n_bad, -1, 1)


def test_the_score_of_places_is_the_mean_of_the_largest():
    parts = torch.tensor(np.random.default_rng(0).normal(size=(3, 4, 5)))
    largest = np.sort(parts.flatten(1).numpy())[:, ::-1]
    assert_allclose(top_mean(parts, 0.2), largest[:, :4].mean(axis=1))
    assert_allclose(top_mean(parts, 1.0), largest.mean(axis=1))
    assert_allclose(top_mean(parts, 1e-6), largest[:, 0])


def test_half_of_the_normal_pictures_get_a_piece_of_another():
    torch.manual_seed(0)
    x = torch.arange(9.0).view(9, 1, 1, 1).expand(9, 1, 16, 16)
    anomalous = torch.tensor([0, 1, 0, 0, 1, 0, 0, 0, 0]).bool()
    seen, kinds = with_pseudo(x, anomalous)
    assert_array_equal(kinds, [2, 1, 2, 2, 1, 0, 0, 0, 0])
    same = kinds != 2
    assert_array_equal(seen[same], x[same])
    for i, other in ((0, 8), (2, 0), (3, 2)):
        pasted = seen[i] == other
        assert 0.01 < pasted.float().mean() < 0.2
        assert (seen[i][~pasted] == i).all()
    # a single normal picture stays
    assert_array_equal(with_pseudo(x[:2], anomalous[:2])[1], [0, 1])


def naive_deviation(scores, anomalous, margin=5.0):
    return np.mean(
        [
            max(0, margin - s) if a else abs(s)
            for s, a in zip(scores, anomalous, strict=True)
        ]
    )


def heads(net, maps, reference):
    """Return the scores (4, b) of maps, from the weights alone."""
    linear = [
        torch.einsum("c,bchw->bhw", head.weight[0, :, 0, 0], maps) + head.bias
        for head in (net.seen, net.pseudo)
    ]
    linear.append(net.composite[3](net.composite[:3](reference - maps))[:, 0])
    found = [np.abs(one.detach().numpy()).reshape(len(maps), -1) for one in linear]
    k = max(1, int(net.top * found[0].shape[1]))
    tops = [np.sort(one, axis=1)[:, -k:].mean(axis=1) for one in found]
    normal = net.normality(maps.mean((2, 3))).detach().numpy()[:, 0]
    return np.array([np.abs(normal), *tops]), sum(found)


def test_each_head_learns_from_its_own_kinds():
    X, y = squares(20, 4)
    net = DRA(**OWN).fit(X, y).net_.double()
    maps = net.maps(torch.tensor(X[:9])[:, None])
    kinds = torch.tensor([1, 1, 2, 2, 2, 0, 0, 0, 0])
    normal, seen, pseudo, composite = heads(net, maps, net.reference)[0]
    expected = [
        naive_deviation(normal, np.arange(9) >= 5),
        naive_deviation(np.delete(seen, [2, 3, 4]), np.arange(6) < 2),
        naive_deviation(pseudo[2:], np.arange(7) < 3),
        naive_deviation(composite, np.arange(9) < 5),
    ]
    assert_allclose(net.losses(maps, net.reference, kinds), expected, rtol=1e-6)
    # known anomalies are nothing to the third head, made ones nothing to the second
    other = maps.clone()
    other[:2] += 1
    found = net.losses(other, net.reference, kinds)
    assert found[2] == net.losses(maps, net.reference, kinds)[2]
    other = maps.clone()
    other[2:5] += 1
    found = net.losses(other, net.reference, kinds)
    assert found[1] == net.losses(maps, net.reference, kinds)[1]


def test_the_anomaly_is_three_heads_less_the_normality():
    X, y = squares(20, 4)
    detector = DRA(**OWN, contamination=0.1).fit(X, y)
    net = detector.net_.double()
    maps = net.maps(torch.tensor(X)[:, None])
    reference = maps[torch.tensor(y) == 1][:5].mean(0)
    assert_allclose(net.reference, reference, rtol=1e-3)
    scores, places = heads(net, maps, reference)
    expected = scores[1:].sum(axis=0) - scores[0]
    assert_allclose(-detector.score_samples(X), expected, rtol=1e-4, atol=1e-5)
    rows, columns = detector._smoothers(torch.tensor(places).view(20, *maps.shape[2:]))
    expected = rows @ torch.tensor(places).view(20, *maps.shape[2:]) @ columns.T
    assert_allclose(detector.transform(X), expected, rtol=1e-4, atol=1e-5)


def test_a_picture_like_the_references_has_nothing_to_compose():
    X, y = squares(20, 4)
    net = DRA(**OWN).fit(X, y).net_.double()
    maps = net.reference[None]
    zeros = net.composite(torch.zeros_like(maps))[:, 0].abs()
    assert_allclose(net.places(maps, net.reference)[2], zeros)


def test_few_normal_pictures_are_references_again():
    X, y = squares(7, 4)
    net = DRA(**OWN, n_references=5).fit(X, y).net_
    expected = torch.tensor(X[4:][[0, 1, 2, 0, 1]]).float()
    assert_allclose(net.references[:, 0], expected)


def test_known_anomalies_are_needed_and_may_come_beside():
    X, _ = squares(20, 4)
    with pytest.raises(ValueError, match="DRA learns from known anomalies and got 0"):
        DRA(**OWN).fit(X)
    with pytest.raises(ValueError, match="y is -1 for all"):
        DRA(**OWN).fit(X, -np.ones(20))
    order = [*range(4, 20), *range(4)]
    expected = DRA(**OWN).fit(X[order], np.repeat([0, -1], [16, 4])).score_samples(X)
    found = DRA(**OWN).fit(X[4:], X_outliers=X[:4]).score_samples(X)
    assert_array_equal(found, expected)


def test_anomalies_of_the_known_kind_are_found():
    X, y = squares(60, 8)
    new, of_new = squares(40, 20, seed=5)
    untrained = DRA(**{**OWN, "lr": 1e-9}).fit(X, y).score_samples(new)
    trained = DRA(**{**OWN, "max_epochs": 20}).fit(X, y).score_samples(new)
    normal = of_new == 1
    found = [np.mean(one[~normal, None] < one[normal]) for one in (untrained, trained)]
    assert found[1] > max(0.95, found[0]), found


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_threshold_holds_on_new_pictures(seed):
    X, y = squares(108, 8, seed)
    detector = DRA(**{**OWN, "random_state": seed}).fit(X, y)
    assert detector.n_held_out_ == 20
    share = np.mean(detector.predict(squares(300, 0, 10 + seed)[0]) == -1)
    assert 0 < share < 0.2, share
