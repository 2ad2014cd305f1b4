"""SLSG: graph and attention by loops, made anomalies, the loss and the score."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.nn import functional as F  # noqa: N812

from skad.image import SLSG
from skad.image.discriminative._slsg import SLSGNetwork, segmentation_loss
from skad.nn.attention import LargeKernelAttention
from skad.nn.corruption import shuffled_cells
from skad.nn.graph import AttentiveGraph, place_likeness
from skad.nn.pasting import own_copies, with_anomalies
from skad.nn.perlin import perlin_masks


def rand(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def graph(c=6, grid=(4, 5), **given):
    torch.manual_seed(0)
    return AttentiveGraph(c, grid, **given).double().eval()


def test_likeness_of_places_is_the_product_of_their_codes():
    """Sines and cosines of differences: what codes of places multiply to."""
    found = place_likeness(8, 3, 4)
    for i, j in itertools.product(range(12), range(12)):
        ways = i // 4 - j // 4, i % 4 - j % 4
        rates = 1.0, 10000**-0.5
        expected = sum(np.cos(way * rate) for way in ways for rate in rates) * 2 / 8
        assert float(found[i, j]) == pytest.approx(expected, abs=1e-6)


def test_the_graph_is_a_loop_over_places():
    net, x = graph(n_neighbors=2, dilation=3), rand(1, 6, 4, 5)
    with torch.no_grad():
        y = net.into(x)
        q, values = (
            part(y)[0].flatten(1).T.numpy() for part in (net.project, net.value)
        )
        nodes = y[0].flatten(1).T.numpy()
        weight = net.weigh.weight[:, :, 0, 0].numpy()
        bias = net.weigh.bias.numpy()
        both = np.zeros((12, 20))
        for i in range(20):
            likeness = [
                q[i] @ q[j] / np.linalg.norm(q[i]) / np.linalg.norm(q[j])
                - float(net.near[i, j])
                for j in range(20)
            ]
            order = np.argsort(likeness)[::-1]
            share = np.exp(q @ q[i])
            seen = (share / share.sum()) @ values
            own = nodes[i] + weight @ seen + bias
            lack = np.maximum(*(nodes[j] - nodes[i] for j in (order[0], order[3])))
            both[::2, i], both[1::2, i] = own, lack
        mixed = torch.tensor(both).view(1, 12, 4, 5)
        expected = x + net.out(net.mix(mixed))
        assert_allclose(net(x), expected, atol=1e-12)


def test_without_places_the_graph_does_not_know_them():
    net, x = graph(), rand(2, 6, 4, 5)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))

    def moved(maps):
        return maps.flatten(2)[:, :, order].view_as(maps)

    with torch.no_grad():
        assert not np.allclose(net(moved(x)), moved(net(x)), atol=1e-6)
        net.near.zero_()
        middle = net.value.weight[:, :, 1:2, 1:2].clone()
        net.value.weight.zero_()
        net.value.weight[:, :, 1:2, 1:2] = middle
        assert_allclose(net(moved(x)), moved(net(x)), atol=1e-12)


def test_few_places_have_few_neighbours():
    net = graph(c=3, grid=(1, 2))
    assert net(rand(3, 3, 1, 2)).shape == (3, 3, 1, 2)
    assert net.neighbors(rand(3, 2, 1)).shape == (3, 2, 1)


def test_large_kernels_see_four_places_away():
    torch.manual_seed(0)
    net = LargeKernelAttention(3).double()
    x = rand(1, 3, 15, 15).requires_grad_()
    (gradient,) = torch.autograd.grad(net(x)[0, 0, 7, 7], x)
    seen = gradient[0].abs().sum(0) > 0
    assert_array_equal(seen.any(0).nonzero()[:, 0], range(3, 12))
    assert_array_equal(seen.any(1).nonzero()[:, 0], range(3, 12))
    with torch.no_grad():
        weights = x
        for conv, far in zip(net.around[:2], (1, 3), strict=True):
            padded = F.pad(weights, (far,) * 4)
            weights = conv.bias.view(-1, 1, 1) + sum(
                conv.weight[:, 0, i, j, None, None]
                * padded[:, :, far * i : far * i + 15, far * j : far * j + 15]
                for i, j in itertools.product(range(3), range(3))
            )
        weights = net.around[2](weights)
        assert_allclose(net(x), x + net.out(F.relu(x * weights)), atol=1e-12)


def test_cells_change_places():
    x = torch.arange(2 * 9 * 17.0).view(2, 1, 9, 17)
    torch.manual_seed(0)
    found = shuffled_cells(x, 4, 8)
    for before, after in zip(x, found, strict=True):
        cells = {
            tuple(each[0, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2].flatten().tolist())
            for i, j in itertools.product(range(4), range(8))
            for each in (before, after)
        }
        assert len(cells) == 32  # the same ones
        assert_array_equal(before[0, 8], after[0, 8])
        assert_array_equal(before[0, :, 16], after[0, :, 16])
        assert (before != after).float().mean() > 0.6
    assert ((found - x)[0] != (found - x)[1]).any()  # each in its own way
    assert shuffled_cells(x[:, :, :2, :3], 4, 8).shape == (2, 1, 2, 3)


def test_anomalies_are_inside_of_their_masks():
    torch.manual_seed(0)
    x = rand(200, 1, 16, 16)
    seen, mask = with_anomalies(x, ("shuffled",))
    assert seen.dtype == x.dtype
    assert mask.dtype == torch.bool
    assert_array_equal(seen.movedim(1, -1)[~mask], x.movedim(1, -1)[~mask])
    assert mask.flatten(1).any(1).all()  # each has one
    changed = (seen != x)[:, 0][mask].double().mean()
    assert changed > 0.9


def test_the_picture_itself_is_pasted_more_often_and_nearly_whole(monkeypatch):
    """Of 7 in 12 less than a quarter of the picture is left, of textures more."""
    module = "skad.nn.pasting."
    monkeypatch.setattr(module + "own_copies", lambda x, sources: x - 1)
    monkeypatch.setattr(module + "foreign_textures", lambda x: x + 1)
    torch.manual_seed(0)
    x = torch.zeros(3000, 1, 8, 8)
    seen, mask = with_anomalies(x, ("shuffled",))
    moved = torch.stack([each[0][own][0] for each, own in zip(seen, mask, strict=True)])
    assert float((moved < 0).float().mean()) == pytest.approx(7 / 12, abs=0.03)
    kept = 1 - moved.abs()
    assert kept[moved < 0].max() <= 0.25
    of_textures = kept[moved > 0]
    assert of_textures.max() <= 0.9
    most = (of_textures - 0.75).abs() < 1e-6
    assert float(most.float().mean()) == pytest.approx(0.25, abs=0.04)


def test_outlines_have_few_cells(monkeypatch):
    asked = []

    def drawn(n, size, threshold, most):
        asked.append((threshold, most))
        return perlin_masks(n, size, threshold, most)

    monkeypatch.setattr("skad.nn.pasting.perlin_masks", drawn)
    with_anomalies(rand(2, 1, 8, 8), ("shuffled",))
    assert asked == [(0.4, 2), (0.5, 3)]  # of copies, and of textures


def test_sources_are_what_they_say(monkeypatch):
    monkeypatch.setattr("skad.nn.pasting._CHANGED", 0.0)
    torch.manual_seed(0)
    x = rand(40, 1, 8, 8)
    assert_array_equal(own_copies(x, ("other",)), x.roll(1, 0))
    found = own_copies(x, ("flipped",))
    kinds = [x.flip(2), x.flip(3)]  # of a picture upside down they are the same two
    same = torch.stack([(found == each).flatten(1).all(1) for each in kinds])
    assert (same.sum(0) == 1).all()
    assert same.any(1).all()
    found = own_copies(x, ("shuffled",))
    for before, after in zip(x, found, strict=True):  # of cells of 2 pixels
        assert cells(after) in (cells(before), cells(before.flip(1, 2)))
    assert (found != x).double().mean() > 0.9


def cells(picture):
    """Return the pairs of pixels (1, 8, 8) that lie above one another."""
    return {tuple(pair) for pair in picture[0].T.reshape(-1, 2).tolist()}


def focal_of_two(logits, target, gamma=4, smooth=1e-5):
    """Return the focal loss of two classes with smoothed labels, by its definition."""
    p = logits.softmax(1)
    labels = torch.stack([1 - target, target], 1).clamp(smooth, 1 - smooth)
    known = (labels * p).sum(1) + smooth
    return -((1 - known) ** gamma * known.log()).mean()


def test_the_loss_is_that_of_two_classes():
    two, coarse = (6 * rand(3, 2, 5, 4, seed=seed) - 3 for seed in (1, 2))
    mask = (rand(3, 5, 4, seed=3) > 0.7).double()
    expected = (
        0.4 * focal_of_two(two, mask)
        + 0.6 * (two.softmax(1)[:, 1] - mask).abs().mean()
        + 0.3 * (coarse.softmax(1)[:, 1] - mask).abs().mean()
    )
    differences = (each[:, 1] - each[:, 0] for each in (two, coarse))
    found = segmentation_loss(*differences, mask)
    assert float(found) == pytest.approx(float(expected), rel=1e-3)
    sure = torch.full((2, 3, 3), -40.0)
    assert float(segmentation_loss(sure, sure, torch.zeros_like(sure))) < 1e-12
    assert float(segmentation_loss(sure, sure, torch.ones_like(sure))) > 0.9


def describe(pictures):
    """Return a coarse and a fine map, in this order."""
    x = pictures.movedim(3, 1)
    x = torch.cat([x**i for i in range(1, 9)], 1)
    return [F.avg_pool2d(x, 4), F.avg_pool2d(x, 2)]


SHAPES = [(1, 8, 12), (8, 2, 3), (8, 4, 6)]


def samples(n):
    x = rand(n, 1, 8, 12).float()
    maps = describe(x.movedim(1, 3))
    return torch.cat([each.flatten(1) for each in (x, *maps)], 1)


def network():
    torch.manual_seed(0)
    return SLSGNetwork(SHAPES, describe, ("shuffled",), 9, 3)


def test_training_sees_each_picture_as_it_is_and_altered(monkeypatch):
    module = "skad.image.discriminative._slsg."
    monkeypatch.setattr(module + "_LIGHT", 0.0)
    asked = []

    def kept(*parts):
        asked.append(parts)

    monkeypatch.setattr(module + "segmentation_loss", kept)
    net, x = network().eval(), samples(3)
    torch.manual_seed(1)
    net.loss(x, None)
    ((logits, coarse, mask),) = asked
    assert logits.shape == coarse.shape == mask.shape == (6, 8, 12)
    assert not mask[:3].any()
    assert mask[3:].flatten(1).any(1).all()
    # those as they are have the maps that samples have
    assert_allclose(logits[:3].detach().sigmoid(), net.map(x).detach(), atol=1e-6)
    assert (logits[:3] != logits[3:]).flatten(1).any(1).all()


def test_the_coarse_head_is_added_and_all_parts_learn():
    net, x = network(), samples(4)
    net.loss(x, None).backward()
    assert all(weight.grad is not None for weight in net.parameters())
    net.eval()
    maps = describe(x[:, : 8 * 12].view(-1, 8, 12, 1))
    with torch.no_grad():
        logits, coarse = net.both(maps)
        net.last[1].weight.zero_()
        net.last[1].bias.zero_()
        alone, same = net.both(maps)
    assert_allclose(alone, same)
    assert_allclose(same, coarse)
    assert not np.allclose(logits, alone)


def stripes(n, seed):
    rng = np.random.default_rng(seed)
    found = 0.5 + 0.2 * np.sin(np.arange(32) / 2)
    return found + rng.normal(0, 0.01, size=(n, 32, 32))


def test_it_learns_and_scores_the_mean_of_the_highest():
    good, bad = stripes(20, 0), stripes(2, 1)
    bad[:, 8:16, 16:24] = 0.9
    detector = SLSG(
        layers=["scale2", "scale3"], max_epochs=4, quantile=0.99, random_state=0
    ).fit(good)
    assert (detector.predict(bad) == -1).all()
    assert (detector.predict(stripes(20, 2)) == 1).mean() > 0.8
    maps = detector.transform(bad)
    assert maps.min() >= 0
    assert maps.max() <= 1
    inside = np.zeros((32, 32), bool)
    inside[8:16, 16:24] = True
    assert maps[:, inside].mean() > maps[:, ~inside].mean() + 0.2
    highest = np.sort(maps.reshape(2, -1))[:, -10:]
    assert_allclose(-detector.score_samples(bad), highest.mean(1), rtol=1e-6)
    assert SLSG().quantile == round(1 - 100 / 256**2, 5)


def test_sources_are_checked():
    with pytest.raises(ValueError, match="sources=\\('torn',\\) must be one or more"):
        SLSG(sources=("torn",)).fit(stripes(4, 0))
    with pytest.raises(ValueError, match="sources=\\(\\)"):
        SLSG(sources=()).fit(stripes(4, 0))
