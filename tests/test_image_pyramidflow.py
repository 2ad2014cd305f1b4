"""PyramidFlow: a flow that keeps the volume, and the mean picture it compares to."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from scipy.ndimage import convolve
from torch import nn

from skad.image import PyramidFlow
from skad.image.density._pyramidflow import PyramidFlowNetwork
from skad.nn.flow import Flow, InvertibleConvolution
from skad.nn.pyramid_flow import (
    PyramidCoupling,
    build_pyramid,
    compose_pyramid,
    level_sizes,
    pyramid_flow,
)

SMALL = {"n_levels": 2, "n_steps": 1, "n_channels": 4, "max_epochs": 2}
BLOCKS = {"n_steps": 2, "kernel_size": 3, "clamp": 2.0}


pytestmark = pytest.mark.usefixtures("own_generator")


def pictures(n, seed=0, shape=(12, 16, 3)):
    rng = np.random.default_rng(seed)
    texture = np.random.default_rng(9).uniform(size=shape)
    return (0.8 * texture + 0.1 * rng.uniform(size=(n, *shape))).astype(np.float32)


def loosened(flow):
    """Return a flow in float64 that is no rotation any more."""
    with torch.no_grad():
        for weight in flow.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return flow.double()


def levels(n, channels, sizes):
    return [torch.randn(n, channels, *size).double() for size in sizes]


def jacobian_logdet(flow, x):
    """Return the log-determinant of a flow of a whole batch, by its Jacobian."""
    shapes = [each.shape for each in x]

    def whole(flat):
        parts = flat.split([each.numel() for each in x])
        parts = [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
        return torch.cat([each.flatten() for each in flow(parts)[0]])

    flat = torch.cat([each.flatten() for each in x])
    jacobian = torch.autograd.functional.jacobian(whole, flat)
    return torch.linalg.slogdet(jacobian).logabsdet


# -------------------------------------------------------------------------- the pyramid


@pytest.mark.parametrize("size", [(8, 8), (7, 10), (1, 5)])
@pytest.mark.parametrize("n_levels", [2, 4])
def test_a_pyramid_composes_what_it_was_built_of(size, n_levels):
    x = torch.randn(2, 3, *size).double()
    found = build_pyramid(x, n_levels)
    sizes = [tuple(level.shape[-2:]) for level in found]
    assert sizes == level_sizes(*size, n_levels)
    assert_allclose(compose_pyramid(found), x, atol=1e-12)


def test_a_pyramid_by_hand():
    x = np.random.default_rng(0).normal(size=(6, 4))
    kernel = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256
    blurred = convolve(x, kernel, mode="constant")
    coarse = blurred.reshape(3, 2, 2, 2).max((1, 3))
    back = convolve(coarse.repeat(2, 0).repeat(2, 1), kernel, mode="constant")
    fine, rest = build_pyramid(torch.tensor(x)[None, None], 2)
    assert_allclose(rest[0, 0], coarse)
    assert_allclose(fine[0, 0], x - back)


# --------------------------------------------------------------------------- the volume


@pytest.mark.parametrize("over", ["channels", "places"])
@pytest.mark.parametrize("n_levels", [2, 3])
def test_a_training_batch_keeps_its_volume_whatever_the_weights(over, n_levels):
    sizes = level_sizes(4, 3, n_levels)
    flow = loosened(pyramid_flow(2, sizes, over=over, **BLOCKS)).train()
    x = levels(3, 2, sizes)
    _, logdet = flow(x)
    assert logdet.abs().max() > 1e-2  # pictures by themselves do not
    assert_allclose(logdet.sum().detach(), 0, atol=1e-10)
    assert_allclose(jacobian_logdet(flow, x), 0, atol=1e-10)


@pytest.mark.parametrize("over", ["channels", "places"])
def test_the_log_determinant_is_that_of_the_jacobian(over):
    """Of a picture in scoring, where means are those that came in training."""
    sizes = level_sizes(3, 4, 2)
    flow = loosened(pyramid_flow(2, sizes, over=over, **BLOCKS))
    flow.train()(levels(4, 2, sizes))
    assert all(block.norm.mean.abs().max() > 0 for block in flow.blocks)
    x = levels(1, 2, sizes)
    _, logdet = flow.eval()(x)
    assert_allclose(logdet.detach(), [jacobian_logdet(flow, x)], atol=1e-10)


def test_a_running_mean_is_a_tenth_of_each_batch():
    block = loosened(PyramidCoupling(2, level_sizes(4, 4, 2), 0, 3))
    plain = 0.0
    for seed in range(3):
        torch.manual_seed(seed)
        x = levels(2, 2, [(4, 4), (2, 2)])
        before = block.norm.mean.clone()
        block.train()(x)
        seen = x[1].repeat_interleave(2, 2).repeat_interleave(2, 3)
        scale = block.convolutions(seen)[:, :2]
        scale = 2 * 2 / np.pi * torch.atan(scale / 2)
        own = scale.mean((0, 1), keepdim=True)
        assert_allclose(
            block.norm.mean, (0.9 * before + 0.1 * own).detach(), atol=1e-12
        )
        plain += float(own.detach().abs().max())
    assert plain > 0.01
    _, logdet = block.eval()(x)
    expected = (scale - block.norm.mean).flatten(1).sum(1)
    assert_allclose(logdet.detach(), expected.detach(), atol=1e-12)


def test_a_matrix_has_a_determinant_of_one():
    layer = InvertibleConvolution(5, keeps_volume=True)
    eye = (layer.matrix() @ layer.matrix().T).detach()
    assert_allclose(eye, np.eye(5), atol=1e-5)  # at first
    layer = loosened(layer)
    assert_allclose(torch.linalg.det(layer.matrix()).abs().detach(), 1)
    x = torch.randn(2, 5, 3, 4).double()
    z = layer(x)
    expected = torch.einsum("ij,bjhw->bihw", layer.matrix(), x)
    assert_allclose(z.detach(), expected.detach())
    assert_allclose(layer.inverse(z).detach(), x, atol=1e-10)


@pytest.mark.parametrize("n_levels", [2, 3, 4])
def test_the_flow_is_invertible(n_levels):
    sizes = level_sizes(7, 8, n_levels)
    flow = loosened(pyramid_flow(3, sizes, over="channels", **BLOCKS)).eval()
    x = levels(2, 3, sizes)
    z, _ = flow(x)
    for before, after, back in zip(x, z, flow.inverse(z), strict=True):
        assert (before - after).abs().max() > 0.1
        assert_allclose(back.detach(), before, atol=1e-8)


def test_odd_levels_are_changed_first_and_by_those_beside_them():
    flow = pyramid_flow(2, level_sizes(8, 8, 4), 2, 3, 2.0, "channels")
    order = [(block.level, block.seen) for block in flow.blocks]
    once = [(1, [0, 2]), (3, [2]), (0, [1]), (2, [1, 3])]
    assert order == 2 * once
    sizes = level_sizes(4, 4, 4)
    for level, seen in once:
        coupling = PyramidCoupling(2, sizes, level, 3)
        block = loosened(Flow([coupling])).eval()
        x = levels(1, 2, sizes)
        (before,) = [block(x)[0]]
        for i in range(4):
            moved = [each + (i == j) for j, each in enumerate(x)]
            far = [
                float((a - b).detach().abs().max())
                for a, b in zip(before, block(moved)[0], strict=True)
            ]
            changed = {j for j in range(4) if far[j] > 1e-9}
            assert changed == {i} | ({level} if i in seen else set())


# ------------------------------------------------------------------------- the network


def network_of(n_levels=3, volume="channels"):
    network = PyramidFlowNetwork([(2, 4, 6)], n_levels, 2, 3, 2.0, volume)
    return loosened(network).eval(), torch.randn(5, 48).double()


def composed(parts):
    """Return the mean over channels of composed levels."""
    return compose_pyramid(parts).mean(1)


def test_the_loss_is_that_of_the_authors():
    network, x = network_of()
    z, _ = network.transformed(x)
    found = []
    for i in range(5):
        for j in range(i):
            apart = [(level[i : i + 1] - level[j : j + 1]) ** 2 for level in z]
            found.append(np.abs(np.fft.fft2(composed(apart)[0].detach())).mean())
    assert_allclose(network.loss(x, None).detach(), np.mean(found), rtol=1e-5)
    assert network.loss(x[:1], None) == 0


def test_the_map_is_the_distance_to_the_mean_of_the_training():
    network, x = network_of()
    network.finish(lambda: iter([(x[:2], None), (x[2:], None)]))
    z, _ = network.transformed(x)
    apart = [(level - level.mean(0)).abs() for level in z]
    assert_allclose(network.map(x).detach(), composed(apart).detach(), rtol=1e-9)


def test_of_pictures_that_are_all_the_same_nothing_is_anomalous():
    network, x = network_of()
    x = x[:1].repeat(4, 1)
    network.finish(lambda: iter([(x, None)]))
    assert_allclose(network.map(x).detach(), 0, atol=1e-12)
    X = np.repeat(pictures(1), 8, 0)
    with pytest.warns(UserWarning, match="All 8 training samples"):
        detector = PyramidFlow(**SMALL, random_state=0).fit(X)
    # rounding to float32
    assert detector.transform(X).max() < 1e-4
    assert detector.transform(pictures(1, seed=3)).max() > 1e-2


# ------------------------------------------------------------------------ the detector


@pytest.mark.parametrize("n_seen", [1, 3])
def test_the_orthogonal_convolution_keeps_lengths(n_seen):
    X = pictures(6, shape=(12, 16, n_seen))
    detector = PyramidFlow(**SMALL, random_state=0).fit(X)
    found = detector.embedding_.transform(X)
    assert found.shape == (6, 12, 16, 4)
    lengths = (((X - 0.45) / 0.226) ** 2).sum(-1)
    assert_allclose((found**2).sum(-1), lengths, rtol=1e-4)
    again = PyramidFlow(**SMALL, random_state=0).fit(X)
    assert_allclose(again.transform(X), detector.transform(X), rtol=0)
    other = PyramidFlow(**SMALL, random_state=1).fit(X)
    assert np.abs(other.embedding_.transform(X) - found).max() > 0.1


def test_a_backbone_takes_the_place_of_the_pixels():
    X = pictures(6)
    settings = {**SMALL, "backbone": nn.Sequential(nn.AvgPool2d(2)), "layers": ["0"]}
    detector = PyramidFlow(**settings, normalization=None, random_state=0).fit(X)
    assert detector.net_.shape == (3, 6, 8)
    assert detector.transform(X).shape == (6, 12, 16)


def test_a_defect_is_found():
    X, bad = pictures(20), pictures(3, seed=5)
    bad[:, 4:8, 8:12] = 1.0
    detector = PyramidFlow(**SMALL, random_state=0).fit(X)
    assert detector.score_samples(bad).max() < detector.score_samples(X).min()
    for each in detector.transform(bad):
        row, column = np.unravel_index(each.argmax(), each.shape)
        assert 3 <= row <= 8
        assert 7 <= column <= 12


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_levels": 1}, "n_levels"),
        ({"kernel_size": 4}, "kernel_size=4 must be odd"),
        ({"batch_size": 1}, "batch_size=1 has no pairs"),
        ({"n_channels": 2}, "n_channels=2 is below the 3 channels of X"),
        ({"weights": "random"}, "has no weights"),
    ],
)
def test_wrong_parameters(settings, message):
    with pytest.raises(ValueError, match=message):
        PyramidFlow(**settings).fit(pictures(3))
