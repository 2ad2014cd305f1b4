"""AVID and PositiveSamples: made defects, patterns, losses, scores and maps."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn
from torch.nn import functional as F  # noqa: N812

from skad.image import AVID, PositiveSamples
from skad.image.restoration._avid import AVIDNetwork
from skad.image.restoration._positive_samples import PositiveSamplesNetwork
from skad.nn.drawn import DrawnShapes
from skad.nn.local_patterns import local_patterns, pattern_difference
from skad.nn.restorers import EncoderCritic, PatchCritic, SkipGenerator
from tests._restoration import SIZES, pictures

pytestmark = pytest.mark.usefixtures("own_generator")


# -------------------------------------------------------------------------- the shapes


@pytest.mark.parametrize("size", SIZES)
def test_shapes_are_drawn_over_every_picture(size):
    x = torch.rand(60, 3, *size)
    seen, mask = DrawnShapes()(x, -1.0, 2.0)
    assert_array_equal(mask, (seen != x).any(1))
    assert mask.flatten(1).any(1).all()
    assert seen.min() >= -1
    assert seen.max() <= 2


def test_shapes_are_up_to_three_of_one_colour_each():
    x = torch.zeros(300, 1, 64, 64)
    seen, _ = DrawnShapes(3)(x, 1.0, 2.0)
    colours = [len(one.unique()) - 1 for one in seen]
    assert set(colours) == {1, 2, 3}
    alone = DrawnShapes(1)(x)[1].float().sum((1, 2))
    side = 0.3 * 64 + 1
    assert alone.min() >= 1
    assert side < alone.max() <= side**2


def test_shapes_are_round_straight_and_thin():
    masks = DrawnShapes(1, (0.4, 0.4)).masks(400, (65, 65))[:, 0]
    inside = [m for m in masks if not (m[0] | m[-1] | m[:, 0] | m[:, -1]).any()]
    areas = {round(float(m.sum())) for m in inside}
    # of a circle, a square and a line of 26 pixels, turned by any angle
    kinds = {
        min((np.pi * 169, 676, 67.6), key=lambda a, n=n: abs(a - n)) for n in areas
    }
    assert len(kinds) == 3
    near = [min(abs(n / a - 1) for a in (np.pi * 169, 676, 67.6)) for n in areas]
    assert max(near) < 0.2


# ------------------------------------------------------------------------ the patterns


def naive_difference(x, y, reach):
    """Return what `pattern_difference` does, pixel by pixel."""
    h, w = x.shape

    def bits(x, i, j):
        around = [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if a or b]
        places = [
            (min(max(i + a, 0), h - 1), min(max(j + b, 0), w - 1)) for a, b in around
        ]
        return [x[place] >= x[i, j] for place in places]

    found = np.empty(x.shape)
    for i, j in np.ndindex(h, w):
        own = bits(x, i, j)
        others = [
            bits(y, a, b)
            for a in range(max(0, i - reach), min(h, i + reach + 1))
            for b in range(max(0, j - reach), min(w, j + reach + 1))
        ]
        found[i, j] = min(
            sum(p != q for p, q in zip(own, other, strict=True)) for other in others
        )
    return found / 8


@pytest.mark.parametrize("reach", [0, 1, 2])
def test_bits_are_counted_as_one_by_one(reach):
    x, y = np.random.default_rng(0).integers(0, 4, (2, 3, 7, 9)).astype(float)
    found = pattern_difference(torch.tensor(x), torch.tensor(y), reach)
    expected = [naive_difference(a, b, reach) for a, b in zip(x, y, strict=True)]
    assert_allclose(found, expected)
    assert found.max() > 0


def test_patterns_do_not_see_light():
    x = torch.rand(2, 9, 7).double()
    for changed in (2 * x + 3, x.exp(), x**3):
        assert_array_equal(local_patterns(changed), local_patterns(x))
        assert not pattern_difference(x, changed).any()
    assert pattern_difference(x, -x).min() > 0
    assert_allclose(pattern_difference(x, -x)[:, 1:-1, 1:-1], np.ones((2, 7, 5)))


@pytest.mark.parametrize("size", SIZES)
def test_patterns_have_the_size_of_the_picture(size):
    x, y = torch.rand(2, 3, *size)
    assert local_patterns(x).shape == (3, 8, *size)
    assert pattern_difference(x, y, 2).shape == (3, *size)


# --------------------------------------------------------------------- PositiveSamples


class Template(nn.Module):
    """Returns one picture, whatever it is shown."""

    def __init__(self, picture):
        super().__init__()
        self.picture = picture

    def forward(self, x):
        return (2 * self.picture - 1).atanh().expand_as(x)


def positive(size=(16, 16), reach=0):
    net = PositiveSamplesNetwork((3, *size), 2, 3, 0.3, reach).double().eval()
    net.bound.low.fill_(0.0)
    net.bound.high.fill_(1.0)
    return net


def test_all_goes_through_one_code():
    generator = SkipGenerator((1, 16, 16), 1, 2, skips=False).eval()
    with_skips = SkipGenerator((1, 16, 16), 1, 2).eval()
    x = torch.rand(2, 1, 16, 16)
    for one, across in ((generator, False), (with_skips, True)):
        seen = []
        made = x
        for layer in one.down:
            made = layer(made)
            seen.append(made)
        same = [torch.zeros_like(each) for each in seen[:-1]] + [seen[-1]]
        assert torch.equal(one.rise(same), one.rise(seen)) != across
    for size in SIZES:
        x = torch.rand(2, 3, *size)
        assert SkipGenerator((3, *size), 2, 2, skips=False)(x).shape == (2, 2, *size)


def test_a_repair_that_knows_the_picture_leaves_patterns_of_the_defect():
    net, clean = positive(), 0.2 + 0.6 * torch.rand(3, 16, 16).double()
    net.generator = Template(clean)
    x = torch.stack([clean, 0.1 + 0.5 * clean, clean])
    x[2, :, 4:8, 9:13] = x[2, :, 8:12, 2:6].clone()
    found = net.map(x.flatten(1))
    assert found[:2].max() < 1e-3  # less contrast is no defect
    assert found[2, 3:9, 8:14].mean() > 0.2
    outside = found[2].clone()
    outside[3:9, 8:14] = 0
    assert_allclose(outside, 0, atol=1e-12)
    # three channels are one grey picture, in which a pattern is looked for nearby
    net.reach = 1
    weights = torch.tensor([0.299, 0.587, 0.114]).double().view(3, 1, 1)
    greys = [(each * weights).sum(-3) for each in (x, clean.expand_as(x))]
    expected = pattern_difference(*greys, 1) + 1e-3 * (greys[0] - greys[1]).abs()
    assert_allclose(net.map(x.flatten(1)), expected, atol=1e-12)


def test_drawings_are_to_be_taken_out():
    net, x = positive(), torch.rand(6, 768).double()
    shown, seen = [], []
    net.critic.register_forward_hook(lambda module, given, out: shown.append(given[0]))
    net.generator.register_forward_hook(
        lambda module, given, out: seen.append((given[0], out))
    )
    (_, critic), (_, generator) = net.updates("fit", x, None)
    given = x.view(6, 3, 16, 16)
    ((drawn, out),) = seen
    assert (drawn != given).flatten(1).any(1).all()
    assert (drawn == given).double().mean() > 0.5
    made = (1 + out.tanh()) / 2
    assert_allclose(shown[0], given)
    assert_allclose(shown[1].detach(), made.detach())
    bce, one = F.binary_cross_entropy_with_logits, torch.ones(6).double()
    first, second = net.critic(given)[0], net.critic(made)[0]
    assert_allclose(critic.item(), (bce(first, one) + bce(second, 0 * one)).item())
    expected = (made - given).abs().mean() + 0.3 * bce(second, one)
    assert_allclose(generator.item(), expected.item())
    assert isinstance(net.critic, EncoderCritic)
    assert not net.generator.skips


# -------------------------------------------------------------------------------- AVID


def avid(size=(16, 16), **others):
    given = {"channels": 2, "noise": 0.4, "adversarial_weight": 0.7}
    given |= {"error_weight": 3.0, "measure": "both", **others}
    net = AVIDNetwork((2, *size), **given).double().eval()
    net.bound.low.fill_(0.0)
    net.bound.high.fill_(1.0)
    return net


def test_the_inpainter_sees_noise_and_the_detector_patches():
    net, x = avid(), torch.rand(8, 2 * 64 * 64).double()
    net = avid((64, 64))
    shown, seen = [], []
    net.critic.register_forward_hook(lambda module, given, out: shown.append(given[0]))
    net.generator.register_forward_hook(
        lambda module, given, out: seen.append((given[0], out))
    )
    (_, critic), (_, generator) = net.updates("fit", x, None)
    given = x.view(8, 2, 64, 64)
    ((noisy, out),) = seen
    away = noisy - given
    middle = (given > 0.4) & (given < 0.6)
    assert (noisy.min(), noisy.max()) == (0, 1)
    # within half of the range .79 of the noise is left, its deviation .31
    assert abs(away[middle].std() - 0.31) < 0.02
    made = (1 + out.tanh()) / 2
    first, second = net.critic(given)[0], net.critic(made)[0]
    assert first.shape[2:] == (6, 6)
    bce = F.binary_cross_entropy_with_logits
    expected = bce(first, torch.ones_like(first)) + bce(second, 0 * second)
    assert_allclose(critic.item(), expected.item())
    expected = 3 * (made - given).square().mean()
    expected = expected + 0.7 * bce(second, torch.ones_like(second))
    assert_allclose(generator.item(), expected.item())


def test_a_patch_is_judged_by_its_own_pixels():
    net = avid((128, 256), measure="detector")
    left, right = torch.rand(2, 1, 2, 128, 128).double()
    both = net.critic(torch.cat([left, right], 3))[0]
    assert both.shape == (1, 1, 14, 30)
    # logits of patches of 70 pixels, eight from each other: not of those at the seam
    whole = net.critic(torch.cat([left, left], 3))[0]
    assert_allclose(both[..., :10].detach(), whole[..., :10].detach())
    assert not np.allclose(both[..., 20:].detach(), whole[..., 20:].detach())
    assert isinstance(net.critic, PatchCritic)


@pytest.mark.parametrize("measure", ["both", "detector", "inpainter"])
def test_a_pixel_counts_where_both_say_so(measure):
    net, x = avid((32, 32), measure=measure), torch.rand(3, 2048).double()
    given = x.view(3, 2, 32, 32)
    made = (1 + net.generator(given).tanh()) / 2
    changed = (given - made).abs().mean(1)
    logits = net.critic(given)[0]
    odds = -F.interpolate(logits, (32, 32), mode="bilinear")[:, 0]
    expected = {
        "both": changed / (1 + (-odds).exp()),
        "detector": odds,
        "inpainter": changed,
    }[measure]
    assert_allclose(net.map(x).detach(), expected.detach())


def test_it_inpaints_what_it_has_not_seen():
    X = pictures(24)
    new = pictures(6, seed=1)
    bad = new.copy()
    bad[:, 4:8, 9:13] = 1.0
    settings = {"channels": 8, "batch_size": 4, "max_epochs": 40, "lr": 2e-3}
    settings |= {"contamination": 0.1, "random_state": 0}
    for detector in (AVID(**settings), PositiveSamples(**settings, smoothing=1.0)):
        maps = detector.fit(X).transform(np.concatenate([new, bad]))
        inside = maps[:, 3:9, 8:14].mean((1, 2))
        assert inside[6:].mean() > 1.2 * inside[:6].mean(), detector
