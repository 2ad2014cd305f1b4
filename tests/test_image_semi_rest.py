"""SemiREST: windows and matches by loops, labels of blocks, and the loss."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch.nn import functional as F  # noqa: N812

from skad.image import SemiREST
from skad.image.memory._semi_rest import SemiRESTNetwork, block_targets
from skad.nn.losses import focal_errors
from skad.nn.window import WindowBlock, grid_of, windows

GRID, PICTURE = (3, 4), (1, 6, 8)


def rand(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(shape, generator=generator, dtype=torch.float64)


def test_windows_are_pieces_of_the_grid():
    x = rand(2, 4, 6, 5)
    found = windows(x, (2, 3))
    assert found.shape == (8, 6, 5)
    for b, i, j in itertools.product(range(2), range(2), range(2)):
        piece = x[b, 2 * i : 2 * i + 2, 3 * j : 3 * j + 3].flatten(0, 1)
        assert_array_equal(found[4 * b + 2 * i + j], piece)
    assert_array_equal(grid_of(found, (2, 3), (4, 6)), x)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("grid", [(4, 8), (5, 7), (3, 9), (2, 3)])
def test_attention_is_a_loop_over_places_of_a_window(grid, shifted):
    torch.manual_seed(0)
    net = WindowBlock(6, 2, grid, window=4, shifted=shifted).double()
    x = rand(2, *grid, 6)
    sides = tuple(min(4, n) for n in grid)
    by = [s // 2 if shifted and n > s else 0 for n, s in zip(grid, sides, strict=True)]
    qkv = net.qkv(x).unflatten(3, (3, 2, 3)).detach()

    def window(place):
        # a shift moves windows; those at the border end there
        return tuple((p - d) // s for p, d, s in zip(place, by, sides, strict=True))

    expected = torch.zeros_like(x)
    places = list(itertools.product(*map(range, grid)))
    for b, at in itertools.product(range(2), places):
        near = [each for each in places if window(each) == window(at)]
        heads = []
        for head in range(2):
            q, weights = qkv[b, at[0], at[1], 0, head], []
            for each in near:
                way = [i - j + s - 1 for i, j, s in zip(at, each, sides, strict=True)]
                bias = net.bias[way[0] * (2 * sides[1] - 1) + way[1], head]
                k = qkv[b, each[0], each[1], 1, head]
                weights.append(q @ k / 3**0.5 + bias)
            weights = torch.stack(weights).softmax(0)
            values = torch.stack([qkv[b, i, j, 2, head] for i, j in near])
            heads.append(weights @ values)
        expected[b, at[0], at[1]] = torch.cat(heads)
    with torch.no_grad():
        assert_allclose(net.attended(x), net.out(expected), atol=1e-12)
        y = x + net.attended(net.norms[0](x))
        assert_allclose(net(x), y + net.mlp(net.norms[1](y)), atol=1e-12)


def describe(pictures):
    """Return three features of places of 2 x 2 pixels."""
    x = F.avg_pool2d(pictures.movedim(3, 1), 2)
    return torch.cat([x, x**2, x**3], 1).movedim(1, 3)


def samples(n, seed=0):
    x = rand(n, *PICTURE, seed=seed).float()
    return torch.cat([describe(x.movedim(1, 3)).flatten(1), x.flatten(1)], 1)


def network(**given):
    torch.manual_seed(0)
    given = {"n_references": 64, "reach": 0.3, "n_blocks": 2, "hidden_size": 8, **given}
    shapes = [(*GRID, 3), PICTURE]
    return SemiRESTNetwork(shapes, describe, PICTURE[1:], attention_size=2, **given)


def filled(n=6, **given):
    """Return a network whose memory is that of n pictures, the last one anomalous."""
    net, x = network(**given), samples(n)
    labels = torch.tensor([0.0] * (n - 1) + [-1.0])
    y = torch.stack([labels, torch.arange(10.0, 10 + n)], 1)
    parts = slice(0, 4), slice(4, n)
    net.begin("fit", lambda: ((x[rows], y[rows]) for rows in parts))
    return net, x, y


def test_the_memory_is_of_normal_patches_with_their_places():
    net, x, _ = filled()
    features = x[:5, :36].view(5, 12, 3)
    assert int(net.used.sum()) == 60  # all of five pictures
    bank, at, owners = (each[net.used] for each in (net.bank, net.at, net.owners))
    for row, place, owner in zip(bank, at, owners, strict=True):
        i = int(place[0] * 3) * 4 + int(place[1] * 4)
        assert_array_equal(row, features[int(owner) - 10, i])
    small, _, _ = filled(n_references=7)
    assert int(small.used.sum()) == 7


@pytest.mark.parametrize("reach", [0.0, 0.3, 1.0])
def test_residuals_are_of_the_nearest_patch_nearby(reach):
    net, x, y = filled(n_references=20, reach=reach)
    net.scale.copy_(torch.tensor([1.0, 2.0, 4.0]))
    features = x[:, :36].view(6, *GRID, 3)
    bank, at, owners = (each[net.used] for each in (net.bank, net.at, net.owners))
    for own in (None, y[:, 1].long()):
        found = net.residuals(features, own)
        for b, i, j in itertools.product(range(6), range(3), range(4)):
            away = (at - torch.tensor([(i + 0.5) / 3, (j + 0.5) / 4])).abs().amax(1)
            if own is not None:
                away[owners == own[b]] = torch.inf
            may = away <= max(reach, float(away.min()) + 1e-6)
            distance = (bank - features[b, i, j]).norm(dim=1)
            distance[~may] = torch.inf
            expected = (features[b, i, j] - bank[distance.argmin()]).abs()
            assert_allclose(found[b, i, j], expected / net.scale, atol=1e-6)


def test_training_pictures_have_no_residuals_but_without_themselves():
    net, x, y = filled()
    features = x[:5, :36].view(5, *GRID, 3)
    assert net.residuals(features).abs().max() == 0
    without = net.residuals(features, y[:5, 1].long())
    assert_allclose(without.mean((0, 1, 2)), 1, rtol=1e-5)  # which is their scale


def test_blocks_are_what_their_pixels_are():
    masks = torch.zeros(4, 4, 10)
    masks[0, 0, 0] = 1  # a tenth of the first of two blocks: as many as in any
    masks[1, :2, 3:5] = 1  # a fifth of it
    masks[1, 0, 5] = 1  # a twentieth of the second: does not count
    masks[2] = torch.nan
    targets, counts = block_targets(masks, (1, 2))
    assert_array_equal(targets[:2, 0], [[1, 0], [1, 0]])
    assert_array_equal(targets[3, 0], [0, 0])
    assert_array_equal(counts[:, 0], [[1, 1], [1, 0], [0, 0], [1, 1]])


def test_the_loss_is_focal_over_blocks_of_all_pictures():
    net, x, y = filled()
    net.eval()
    masks = torch.zeros(6, *PICTURE[1:])
    masks[5, :2, :2] = 1
    y = torch.cat([y, masks.flatten(1)], 1)
    torch.manual_seed(1)
    found = net.loss(x, y).detach()
    torch.manual_seed(1)
    residuals, (known, made) = net.seen(x, y)
    assert_array_equal(known, masks)
    assert made.shape == (5, *PICTURE[1:])  # of normal ones
    assert made.flatten(1).any(1).all()
    with torch.no_grad():
        logits = net.logits(residuals)
    assert len(logits) == 11
    # those as they are stand first
    features = x[:, :36].view(6, *GRID, 3)
    assert_allclose(residuals[:6], net.residuals(features, y[:, 1].long()))
    total, n = 0.0, 0
    for i, mask in enumerate([*known, *made]):
        share = F.avg_pool2d(mask[None], 2)[0]
        least = min(0.2, float(share.max()))
        for at in itertools.product(range(3), range(4)):
            if 0 < share[at] < least:
                continue
            anomalous = float(share[at]) > 0
            p = float(torch.sigmoid(logits[i][at]))
            p = p if anomalous else 1 - p
            total, n = total - (1 - p) ** 2 * np.log(p), n + 1
    assert float(found) == pytest.approx(total / n, rel=1e-5)


def test_what_is_not_known_teaches_nothing():
    net, x, y = filled()
    masks = torch.full((1, 48), torch.nan)
    y = torch.cat([y[5:], masks], 1)
    loss = net.loss(x[5:], y)  # a batch of one known anomaly without a mask
    loss.backward()
    assert float(loss) == 0
    assert all(float(one.grad.abs().max()) == 0 for one in net.head.parameters())


def test_focal_errors_are_their_formula():
    p = torch.tensor([0.1, 0.6, 0.9])
    found = focal_errors(p.logit(), torch.tensor([1.0, 1.0, 0.0]), 2)
    expected = [0.81 * -np.log(0.1), 0.16 * -np.log(0.6), 0.81 * -np.log(0.1)]
    assert_allclose(found, expected, rtol=1e-5)


SMALL = {
    "layers": ("scale2",),
    "n_references": 256,
    "hidden_size": 16,
    "n_blocks": 2,
    "max_epochs": 8,
    "lr": 2e-3,
    "smoothing": 1,
    "random_state": 0,
}


def stripes(n, n_bad=0, seed=0):
    """Return pictures (n, 32, 32), some with a faint square first, and masks."""
    rng = np.random.default_rng(seed)
    X = 0.5 + 0.2 * np.sin(np.arange(32) / 2) + rng.normal(0, 0.02, size=(n, 32, 32))
    masks = np.zeros(X.shape)
    for i in range(n_bad):
        top, left = rng.integers(4, 20, size=2)
        masks[i, top : top + 8, left : left + 8] = 1
    return np.where(masks == 1, X + 0.15, X), masks


def test_masks_and_boxes_teach():
    X, masks = stripes(24, 4)
    test, where = stripes(16, 8, seed=1)
    boxes = []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        ends = rows.max(initial=0) + 1, columns.max(initial=0) + 1
        boxes.append([(rows.min(), columns.min(), *ends)] if len(rows) else [])
    by_masks = SemiREST(**SMALL).fit(X, masks=masks)
    by_boxes = SemiREST(**SMALL).fit(X, boxes=boxes)
    scores = by_masks.score_samples(test)
    assert_array_equal(scores, by_boxes.score_samples(test))
    assert scores[:8].max() < scores[8:].min()
    maps = by_masks.transform(test)[:8]
    assert maps[where[:8] == 1].mean() > maps[where[:8] == 0].mean() + 0.3
    y = np.repeat([-1, 1], [4, 20])
    by_labels = SemiREST(**SMALL).fit(X, y)
    assert not np.allclose(by_labels.score_samples(test), scores)
    owners = by_labels.net_.owners[by_labels.net_.used]
    assert owners.min() >= 4  # known anomalies are not in the memory


def test_without_labels_it_learns_from_made_anomalies():
    test, _ = stripes(16, 8, seed=1)
    detector = SemiREST(**SMALL).fit(stripes(20)[0])
    scores = detector.score_samples(test)
    assert np.mean(scores[:8][:, None] < scores[8:]) > 0.8
