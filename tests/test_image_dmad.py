"""Reverse distillation of bent pictures: fields, codes, and how maps are joined."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone

from skad.image import DMAD, ReverseDistillation
from skad.nn.codebook import Codebook
from skad.nn.deformation import (
    Deformation,
    coordinates,
    lengths,
    roughness,
    warped,
)
from tests.test_image_networks import GRID, RESNET, as_batch, pictures

SMALL = {"max_epochs": 2, "batch_size": 4, "random_state": 0, "smoothing": 0}
BENT = DMAD(**SMALL, **GRID, field_channels=4, n_codes=5)


pytestmark = pytest.mark.usefixtures("own_generator")


@pytest.fixture(scope="module")
def good():
    return pictures(20)


# ------------------------------------------------------------------------------- fields


def shift(size, right, down, n=1):
    """Return a field that reads pixels from further to the right and down."""
    field = torch.zeros(n, 2, *size, dtype=torch.float64)
    field[:, 0], field[:, 1] = 2 * right / (size[1] - 1), 2 * down / (size[0] - 1)
    return field


def test_a_field_reads_pixels_from_elsewhere():
    x = torch.rand(2, 3, 9, 12, dtype=torch.float64)
    found = warped(x, shift((9, 12), 3, 2))
    assert_allclose(found[..., :7, :9], x[..., 2:, 3:])
    # what lies beyond is the border
    assert_allclose(found[..., 7:, :9], x[..., 8:, 3:].expand(-1, -1, 2, -1))
    half = warped(x, shift((9, 12), 0.5, 0))
    assert_allclose(half[..., :11], (x[..., 1:] + x[..., :-1]) / 2)
    assert_allclose(warped(x, torch.zeros(1, 2, 9, 12)), x)
    row = warped(x[:, :, :1], shift((2, 12), 3, 0)[:, :, :1])
    assert_allclose(row[..., :9], x[:, :, :1, 3:])


def test_the_length_of_a_shift_is_its_own():
    field = shift((9, 12), 3, 0)
    assert_allclose(lengths(field) * 11 / 2, 3)
    assert_allclose(lengths(torch.tensor([3.0, -4]).view(1, 2, 1, 1)), 5)
    zero = torch.zeros(1, 2, 3, 3, requires_grad=True)
    lengths(zero).mean().backward()
    assert_array_equal(zero.grad, 0)


def test_roughness_is_the_distance_from_the_eight_around():
    field = torch.randn(2, 2, 4, 5, dtype=torch.float64)
    wide = np.pad(field.numpy(), ((0, 0), (0, 0), (1, 1), (1, 1)))
    total = 0
    for i in range(4):
        for j in range(5):
            square = wide[:, :, i : i + 3, j : j + 3]
            around = (square.sum((2, 3)) - square[:, :, 1, 1]) / 8
            total += np.abs(square[:, :, 1, 1] - around).sum()
    assert_allclose(roughness(field).item(), total / field.numel())
    flat = shift((5, 5), 1, 1)
    assert roughness(flat) < roughness(torch.randn(1, 2, 5, 5, dtype=torch.float64))


def test_coordinates_are_of_blocks_and_within():
    found = coordinates((8, 12))
    for k, axis in ((0, 0), (2, 1)):
        line = found[k : k + 2].select(2 - axis, 0)  # along the axis
        assert_allclose(
            line.sum(0), 2 * torch.linspace(0, 1, (8, 12)[axis]) - 2, atol=1e-6
        )
        assert len(line[1].unique()) == (2, 3)[axis]
        assert_allclose(line[1][[0, 3, -1]], [-1, -1, 1])
    assert coordinates((1, 6)).isfinite().all()


def test_fields_stay_within_their_shifts():
    made = Deformation(1, (32, 48), width=6).double().eval()
    for weights in made.heads.parameters():
        weights.data *= 50  # as far as they go
    fields = made(torch.rand(2, 1, 32, 48, dtype=torch.float64))
    for field, most in zip(fields, (1 / 32, 3 / 256) * 2, strict=True):
        assert field.shape == (2, 2, 32, 48)
        # in pixels of a picture of 256
        assert_allclose(field.detach().abs().amax() * 128, 256 * most, rtol=1e-3)


# -------------------------------------------------------------------------------- codes


def test_a_place_is_its_nearest_code_and_both_learn():
    book = Codebook(4, 3).double()
    book.codes.data = torch.randn(4, 3, dtype=torch.float64)
    x = torch.randn(2, 3, 2, 5, dtype=torch.float64, requires_grad=True)
    found, loss = book(x)
    codes, total = book.codes.detach().numpy(), 0
    for b, i, j in np.ndindex(2, 2, 5):
        place = x[b, :, i, j].detach().numpy()
        squares = ((codes - place) ** 2).sum(1)
        assert_allclose(found[b, :, i, j].detach(), codes[squares.argmin()])
        total += squares.min()
    assert_allclose(loss.item(), 1.25 * total / x.numel())
    (passed,) = torch.autograd.grad(found.sum(), x, retain_graph=True)
    assert_array_equal(passed, 1)
    own, ours = torch.autograd.grad(loss, (x, book.codes))
    nearest = found.detach()
    assert_allclose(own, 0.25 * 2 * (x.detach() - nearest) / x.numel())
    expected = np.zeros_like(codes)
    for b, i, j in np.ndindex(2, 2, 5):
        code = nearest[b, :, i, j].numpy()
        k = ((codes - code) ** 2).sum(1).argmin()
        expected[k] += 2 * (code - x[b, :, i, j].detach().numpy()) / x.numel()
    assert_allclose(ours, expected)


# ---------------------------------------------------------------------- the whole thing


def still(network):
    """Make the fields of a network zero."""
    for head in network.deformation.heads:
        for weights in head[-2].parameters():
            weights.data.zero_()


def test_without_fields_and_codes_it_is_reverse_distillation(good):
    plain = ReverseDistillation(**SMALL, **GRID, similarity="maps").fit(good)
    detector = clone(BENT).set_params(n_codes=None).fit(good)
    network = detector.net_.double()
    still(network)
    for name in ("bottleneck", "decoder"):
        state = getattr(plain.net_, name).state_dict()
        getattr(network, name).load_state_dict(state)
    x, y = (one._describe(as_batch(good[:4])) for one in (detector, plain))
    other = plain.net_.double()
    assert_allclose(network.raw_maps(x)[0], other.map(y), rtol=1e-5, atol=1e-8)
    assert_allclose(network.raw_maps(x)[1], 0, atol=1e-12)
    assert_allclose(network.loss(x, None).item(), other.loss(y, None).item(), rtol=1e-6)


def constant(network, shifts):
    """Make the fields of a network shifts to the right, in pixels of 32."""
    still(network)
    sizes = [2 * s for s in network.deformation.shifts] * 2
    for head, by, most in zip(network.deformation.heads, shifts, sizes, strict=True):
        head[-2].bias.data[0] = np.arctanh(2 * by / 31 / most)


def test_the_field_map_is_the_length_of_the_way_back_and_maps_go_back(good):
    network = clone(BENT).fit(good).net_.double()
    constant(network, (0.5, 0.2, -0.5, -0.2))
    x = torch.tensor(good[:3]).flatten(1)
    picture, bent, fields = network.bent(x)
    assert_allclose(bent, warped(picture, shift((32, 32), 0.7, 0)), atol=0.1)
    error, field = network.raw_maps(x)
    assert_allclose(field * 31 / 2, 0.7)
    # a map of the bent picture is read from where its pixels came from
    maps = network.seen(bent)
    pairs = zip(maps, network.decoder(network.bottleneck(maps)), strict=True)
    there = network.map_of(pairs)[:, None]
    expected = warped(warped(there, fields[3]), fields[2])
    assert_allclose(error, expected[:, 0])
    assert not np.allclose(error, there[:, 0], rtol=1e-3)


class Given(torch.nn.Module):
    """Fields that are known."""

    def forward(self, x):
        draw = torch.Generator().manual_seed(0)
        shape = 4, len(x), 2, *x.shape[2:]
        return list(0.2 * torch.randn(shape, generator=draw, dtype=torch.float64))


def test_the_loss_is_the_papers(good):
    detector = clone(BENT).set_params(inverse_weight=0.7).fit(good)
    network = detector.net_.double()
    x = detector._describe(as_batch(good[:3]))
    picture, found = torch.tensor(good[:3, None]), network.deformation
    network.deformation = Given()
    fields = network.deformation(picture)
    bent = warped(warped(picture, fields[0]), fields[1])
    again = warped(warped(bent, fields[3]), fields[2])
    maps = network.ordered(network.teacher(bent))
    code, own = network.bottleneck.coded(maps)
    expected = own + 0.7 * ((again - picture) ** 2).mean()
    for i, field in enumerate(fields):
        expected = expected + roughness(field)
        if i < 2:
            expected = expected + field.square().sum(1).sqrt().mean()
    for theirs, made in zip(maps, network.decoder(code), strict=True):
        cosines = torch.nn.functional.cosine_similarity
        expected = expected + (1 - cosines(theirs.flatten(1), made.flatten(1))).mean()
    assert_allclose(network.loss(x, None).item(), expected.item())
    # and the fields learn from what is rebuilt
    network.deformation = found
    network.requires_grad_(True)
    rebuilt = network.error(network.pairs(x))
    last = network.deformation.heads[0][-2].weight
    assert torch.autograd.grad(rebuilt, last)[0].abs().sum() > 0


def test_the_bottleneck_has_few_channels_beside_the_codes(good):
    detector = DMAD(**SMALL, **RESNET, field_channels=4, n_codes=7)
    colour = np.repeat(good[:6, ..., None], 3, axis=3)
    network = detector.set_params(max_epochs=1).fit(colour).net_
    bottleneck = network.bottleneck
    assert bottleneck.codebook.codes.shape == (7, 256)
    assert [each[0][0].out_channels for each in bottleneck.fusion] == [16, 16, 16]
    maps = network.seen(network.bent(torch.rand(2, 3 * 32 * 32))[1])
    fused = bottleneck.fused(maps)
    coded = bottleneck.codebook(maps[-1])[0]
    expected = bottleneck.embedding(torch.cat([*fused, coded], 1))
    assert_allclose(bottleneck(maps), expected)
    assert sum(each.shape[1] for each in fused) + 256 == 304


def test_maps_are_joined_on_the_range_of_held_out_pictures(good):
    detector = clone(BENT).set_params(field_weight=0.3).fit(good)
    network = detector.net_
    assert detector.n_held_out_ > 0
    x, rest = torch.tensor(good).float().flatten(1).split([5, 15])
    with torch.no_grad():
        network.finish(lambda: [(rest, None)], lambda: [(x, None)])
    raw = network.raw_maps(x)
    low, high = raw.flatten(1).amin(1), raw.flatten(1).amax(1)
    assert_allclose(network.calibration.low, low, rtol=1e-5)
    assert_allclose(network.calibration.high, high, rtol=1e-5)
    new = torch.tensor(pictures(3, seed=4)).float().flatten(1)
    one, other = network.raw_maps(new)
    expected = (one - low[0]) / (high[0] - low[0])
    expected = expected + 0.3 * (other - low[1]) / (high[1] - low[1])
    assert_allclose(network.map(new), expected, rtol=1e-4, atol=1e-6)
    assert_allclose(
        detector.transform(pictures(3, seed=4)), expected, rtol=1e-3, atol=1e-4
    )


def test_the_rate_falls_to_zero(good):
    detector = clone(BENT).set_params(max_epochs=4).fit(good)
    (callback,) = detector._own_callbacks("fit", 4)
    factor = callback.kwargs["lr_lambda"]
    assert_allclose([factor(i) for i in (0, 1, 2, 4)], [1, 0.853553, 0.5, 0], atol=1e-6)
