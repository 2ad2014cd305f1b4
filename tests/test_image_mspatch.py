"""MSPatch: patches of several sizes, their losses, banks and maps."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.spatial.distance import cdist
from torch.nn import functional as F  # noqa: N812

from skad.image import MSPatch
from skad.image.memory._mspatch import MSPatchNetwork
from skad.nn.patches import CIRCLE, near_and_far, neighbours, spread
from tests.test_image_patch_svdd import of_place, pictures

SHORT = {"max_epochs": 1, "n_draws": 5, "code_size": 8, "random_state": 0}


pytestmark = pytest.mark.usefixtures("own_generator")


def network(shape=(2, 48, 40), sizes=(8, 16), **others):
    given = {"code_size": 5, "svdd_weight": 0.7, "n_draws": 4, "step_size": 8}
    return MSPatchNetwork(shape, sizes, **{**given, "ratio": 1.0, **others}).double()


def test_twelve_ways_lie_thirty_degrees_apart():
    assert_allclose(np.linalg.norm(CIRCLE, axis=1), 1)
    following = np.roll(CIRCLE, -1, axis=0)
    assert_allclose((np.array(CIRCLE) * following).sum(1), np.cos(np.pi / 6))
    x = of_place(300, 300)
    first, other, way = neighbours(x, torch.zeros(600, dtype=torch.long), 16, CIRCLE)
    away = (other - first)[:, :, 0, 0]
    inside = ((first[:, :, 0, 0] >= 16) & (first[:, :, 0, 0] <= 268)).all(1)
    assert set(way.tolist()) == set(range(12))
    # each axis has its own step of 12 to 15 pixels
    steps = torch.tensor(CIRCLE)[way].abs()
    low, high = (12 * steps).round(), (15 * steps).round()
    assert ((away.abs() >= low) & (away.abs() <= high))[inside].all()
    signs = torch.tensor(CIRCLE)[way].round(decimals=6).sign()
    assert (away.sign() == signs)[inside].all()


@pytest.mark.parametrize(("side", "most"), [(8, 1), (32, 2), (64, 4)])
def test_some_are_a_few_pixels_away_and_some_beyond_the_neighbours(side, most):
    x = of_place(500, 500)
    parts = near_and_far(x, torch.zeros(800, dtype=torch.long), side)
    first, near, far = (each[:, :, 0, 0] for each in parts)
    middle = ((first > 2 * side) & (first < 500 - 3 * side)).all(1)
    assert middle.sum() > 100
    away = (near - first)[middle]
    assert away.abs().max() == most
    assert (away.abs().sum(1) > 0).all()
    lengths = (far - first)[middle].norm(dim=1) / side
    assert (lengths.min() > 1.4) & (lengths.max() < 1.8)
    # none overlap
    assert ((far - first)[middle].abs().amax(1) >= side).all()


def test_it_loses_by_ways_by_distances_and_by_angles():
    net, x = network(), torch.rand(2, 2, 48, 40).double()
    owners = torch.tensor([0, 1, 1])
    torch.default_generator.manual_seed(5)
    found = net.drawn_loss(x, owners)
    torch.default_generator.manual_seed(5)
    total = 0.0
    for i, side in enumerate((16, 8)):
        encoder, head = net.encoders[i], net.heads[i]
        first, other, way = neighbours(x, owners, side, CIRCLE)
        first, other = net.noisy(first), net.noisy(other)
        logits = head(encoder.codes(first) - encoder.codes(other))
        total = total - logits.log_softmax(1)[range(3), way].mean()
        codes, near, far = map(encoder.codes, near_and_far(x, owners, side))
        unit = [F.normalize(each, dim=1) for each in (codes, near, far)]
        total = total + 0.7 * (codes - near).square().sum(1).sqrt().mean()
        total = total - 0.7 * (unit[0] * unit[1]).sum(1).mean()
        total = total + 0.7 * (unit[0] * unit[2]).sum(1).mean()
    assert_allclose(found.item(), total.item())


def test_each_size_has_its_own_encoder_and_stride():
    net = network(sizes=(8, 32, 16))
    assert net.sides == (32, 16, 8)
    assert net.strides == (8, 4, 2)
    x = torch.rand(1, 2 * 48 * 40).double()
    pictures, _ = net.pictures(x)
    for codes, encoder, side, stride in zip(
        net.codes(x), net.encoders, net.sides, net.strides, strict=True
    ):
        assert encoder.side == side
        for i, j in [(0, 0), (1, 0), (2, 1)]:
            top, left = i * stride, j * stride
            patch = pictures[:, :, top : top + side, left : left + side]
            assert_allclose(
                codes[0, i, j].detach(), encoder.codes(patch)[0].detach(), atol=1e-12
            )


def test_the_map_is_the_sum_of_distances_spread_over_patches():
    X = pictures(6, (48, 40))
    detector = MSPatch(patch_sizes=(8, 16), smoothing=0, coreset_ratio=1.0, **SHORT)
    detector.fit(X)
    net = detector.net_.double()
    x = torch.tensor(pictures(2, (48, 40), seed=1)).flatten(1)
    total = 0.0
    for codes, side, stride in zip(net.codes(x), (16, 8), (4, 2), strict=True):
        bank = getattr(net, f"bank_{side}")
        away = cdist(codes.detach().flatten(0, 2), bank).min(1)
        away = torch.tensor(away).view(codes.shape[:3])
        total = total + spread(away, side, stride)
    assert_allclose(net.map(x).detach(), total, rtol=1e-5, atol=1e-6)
    scores = detector.score_samples(x.numpy().reshape(2, 48, 40))
    assert_allclose(-scores, total.flatten(1).amax(1), rtol=1e-5)


@pytest.mark.parametrize(
    ("size", "sizes"),
    [((64, 80), (16, 8)), ((20, 20), (8,)), ((260, 256), (64, 32, 16))],
)
def test_sizes_fit_the_picture(size, sizes):
    detector = MSPatch()
    assert detector._network([(1, *size)]).sides == sizes


@pytest.mark.parametrize("wrong", [(), (8, 12), (4,)])
def test_other_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="patch_sizes"):
        MSPatch(patch_sizes=wrong).fit(pictures(4))
