"""PatchSVDD: codes of patches of two sizes, how they are trained, and their banks."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.spatial.distance import cdist
from torch.nn import functional as F  # noqa: N812

from skad.image import PatchSVDD
from skad.image.memory._patch_svdd import PatchSVDDNetwork
from skad.nn.patches import (
    AROUND,
    PatchEncoder,
    cut,
    filled,
    neighbours,
    shaken,
    spread,
)

SHORT = {"max_epochs": 1, "n_draws": 5, "code_size": 8, "random_state": 0}


def pictures(n, size=(32, 40), seed=0):
    rng = np.random.default_rng(seed)
    waves = 0.2 * np.sin(np.arange(size[1]) / 2 + rng.uniform(0, 6, (n, 1, 1)))
    return 0.5 + waves + rng.normal(0, 0.02, (n, *size))


pytestmark = pytest.mark.usefixtures("own_generator")


def network(shape=(2, 32, 40), side=8, **others):
    given = {"code_size": 5, "svdd_weight": 1.0, "n_draws": 4, "step_size": 8}
    return PatchSVDDNetwork(shape, side, **{**given, "ratio": 1.0, **others}).double()


# ------------------------------------------------------------------------- the encoder


@pytest.mark.parametrize("side", [8, 16, 32, 64])
def test_codes_of_a_picture_are_those_of_its_patches(side):
    encoder = PatchEncoder(2, side, 5).double()
    assert len(encoder.small) == side // 8
    x = torch.rand(1, 2, side + 12, side + 8).double()
    large, small = encoder.all_codes(x, (4, 2))
    for codes, size, stride in ((large, side, 4), (small, side // 2, 2)):
        assert codes.shape[2:] == tuple((n - size) // stride + 1 for n in x.shape[2:])
        for i, j in [(0, 0), (1, 2), (3, 1)]:
            top, left = i * stride, j * stride
            patch = x[:, :, top : top + size, left : left + size]
            assert_allclose(
                encoder.codes(patch)[0].detach(), codes[0, :, i, j].detach(), atol=1e-12
            )


def test_a_large_code_is_made_of_its_quarters_in_their_places():
    encoder = PatchEncoder(1, 16, 5).double()
    patch = torch.rand(1, 1, 16, 16).double()
    square = torch.zeros(1, 5, 2, 2).double()
    for i in (0, 1):
        for j in (0, 1):
            part = patch[..., 8 * i : 8 * i + 8, 8 * j : 8 * j + 8]
            x = F.leaky_relu(encoder.small[0](part), 0.1)
            square[..., i, j] = torch.tanh(encoder.small[1](x))[..., 0, 0]
    joined = encoder.last(F.leaky_relu(encoder.join(square), 0.1)).tanh()
    assert_allclose(encoder.codes(patch).detach(), joined[..., 0, 0].detach())


def test_patches_are_cut_where_they_lie():
    x = torch.rand(3, 2, 10, 12)
    owners, tops = torch.tensor([2, 0]), torch.tensor([1, 6])
    found = cut(x, owners, tops, torch.tensor([8, 0]), 4)
    assert_array_equal(found[0], x[2, :, 1:5, 8:12])
    assert_array_equal(found[1], x[0, :, 6:10, :4])


@pytest.mark.parametrize(("side", "stride"), [(8, 2), (4, 4), (6, 3)])
def test_a_pixel_has_the_mean_of_its_patches(side, stride):
    rng = np.random.default_rng(0)
    scores = rng.random((2, 3, 4))
    found = spread(torch.tensor(scores), side, stride).numpy()
    size = 2, 2 * stride + side, 3 * stride + side
    total, count = np.zeros(size), np.zeros(size)
    for i in range(3):
        for j in range(4):
            rows, columns = (slice(n * stride, n * stride + side) for n in (i, j))
            total[:, rows, columns] += scores[:, i, j, None, None]
            count[:, rows, columns] += 1
    assert found.shape == size
    assert_allclose(found, total / count)


def test_patches_fill_the_picture():
    x = torch.arange(7.0).expand(1, 1, 3, 7)
    found, before = filled(x, 4, 2)
    assert found.shape == (1, 1, 4, 8)
    assert before == (0, 0)
    assert found[0, 0, 3].tolist() == [0, 1, 2, 3, 4, 5, 6, 6]
    same, _ = filled(torch.rand(1, 1, 8, 12), 8, 4)
    assert same.shape == (1, 1, 8, 12)


# -------------------------------------------------------------------------- the losses


def of_place(n_rows, n_columns):
    """Return one picture whose two channels are a pixel's row and column."""
    rows, columns = np.mgrid[:n_rows, :n_columns]
    return torch.tensor(np.stack([rows, columns])[None], dtype=torch.float64)


def test_neighbours_lie_in_the_direction_that_is_asked_for():
    x = of_place(200, 200)
    first, other, way = neighbours(x, torch.zeros(400, dtype=torch.long), 8)
    away = (other - first)[:, :, 0, 0]
    inside = ((first[:, :, 0, 0] >= 8) & (first[:, :, 0, 0] <= 184)).all(1)
    assert inside.sum() > 250
    assert set(way.tolist()) == set(range(8))
    assert_array_equal(away[inside].sign(), torch.tensor(AROUND)[way][inside])
    moved = away[inside].abs()
    assert set(moved[moved > 0].tolist()) == {6, 7}  # three quarters, and a bit
    assert (other.amin() >= 0) & (other.amax() <= 199)


def test_shaken_patches_are_a_pixel_away():
    x = of_place(200, 200)
    for side, most in ((8, 1), (64, 2)):
        first, other = shaken(x, torch.zeros(500, dtype=torch.long), side)
        away = (other - first)[:, :, 0, 0]
        inside = ((first[:, :, 0, 0] > 2) & (first[:, :, 0, 0] < 130)).all(1)
        assert away.abs().max() == most
        assert (away[inside].abs().sum(1) > 0).all()
        kinds = len({tuple(one) for one in away[inside].tolist()})
        assert kinds == (2 * most + 1) ** 2 - 1


def test_it_loses_by_the_direction_and_by_the_distance_of_codes():
    net, x = network(svdd_weight=0.7), torch.rand(2, 2, 32, 40).double()
    owners = torch.tensor([0, 1, 1])
    torch.default_generator.manual_seed(5)
    found = net.drawn_loss(x, owners)
    torch.default_generator.manual_seed(5)
    total = 0.0
    for i, side in enumerate((8, 4)):
        first, other, way = neighbours(x, owners, side)
        codes = [net.encoder.codes(net.noisy(each)) for each in (first, other)]
        chances = net.heads[i](codes[0] - codes[1]).softmax(1)
        total -= chances[torch.arange(3), way].log().mean()
        a, b = (net.encoder.codes(each) for each in shaken(x, owners, side))
        total += 0.7 * ((a - b) ** 2).sum(1).sqrt().mean()
    assert_allclose(float(found.detach()), float(total.detach()))


def test_a_pass_draws_so_many_patches_of_each_picture():
    net, x = network(), torch.rand(6, 2 * 32 * 40).double()
    seen = []
    net.drawn_loss = lambda pictures, owners: seen.append(owners)
    assert len(list(net.updates("fit", x, None))) == 3
    assert [len(part) for part in seen] == [8, 8, 8]
    assert_array_equal(torch.cat(seen).bincount(), [4] * 6)
    assert seen[0].unique().numel() > 1


# -------------------------------------------------------------------------- the scores


def test_its_map_is_the_product_of_distances_to_codes_of_normal_patches():
    X, new = pictures(6), pictures(2, seed=1)
    new[:, 8:16, 20:28] = 0.9
    settings = {**SHORT, "coreset_ratio": 1.0}
    detector = PatchSVDD(**settings, patch_size=8).fit(X)
    net, mean = detector.net_.double(), X.mean(axis=0)
    assert_allclose(net.mean[0], mean, atol=1e-6)
    maps = []
    for side in (8, 4):

        def codes(pictures, side=side):
            tops, lefts = range(0, 32 - side + 1, 2), range(0, 40 - side + 1, 2)
            parts = [
                (pictures - mean)[:, None, i : i + side, j : j + side]
                for i in tops
                for j in lefts
            ]
            found = [net.encoder.codes(torch.tensor(part)).numpy() for part in parts]
            return np.stack(found, 1), len(tops), len(lefts)

        known, rows, columns = codes(X)
        asked, *_ = codes(new)
        away = cdist(asked.reshape(-1, 8), known.reshape(-1, 8)).min(axis=1)
        away = torch.tensor(away.reshape(2, rows, columns))
        maps.append(spread(away, side, 2))
    expected = (maps[0] * maps[1]).numpy()
    assert_allclose(detector.transform(new), expected, rtol=1e-4, atol=1e-9)
    scores = -detector.score_samples(new)
    assert_allclose(scores, expected.max(axis=(1, 2)), rtol=1e-4)
    assert_allclose(detector.score_samples(X), 0, atol=1e-4)


def test_banks_are_thinned_out():
    X = pictures(6)
    whole = PatchSVDD(**SHORT, coreset_ratio=1.0).fit(X)
    some = PatchSVDD(**SHORT).fit(X)
    for name in ("large", "small"):
        every, few = getattr(whole.net_, name), getattr(some.net_, name)
        assert len(few) == round(0.1 * len(every))
        assert cdist(few, every).min(axis=1).max() < 1e-6


@pytest.mark.parametrize(
    ("size", "side"), [((1, 6), 8), ((40, 60), 8), ((64, 90), 16), ((128, 130), 32)]
)
def test_patches_are_a_quarter_of_the_picture(size, side):
    X = np.random.default_rng(0).uniform(size=(3, *size))
    settings = {**SHORT, "n_draws": 1}
    detector = PatchSVDD(**settings, image_shape=(*size, 1)).fit(X)
    assert detector.net_.sides == (side, side // 2)
    assert detector.transform(X).shape == X.shape


def test_it_finds_what_is_in_no_picture():
    X = pictures(12)
    bad = pictures(3, seed=1)
    bad[:, 10:18, 20:28] = np.rot90(bad[:, 10:18, 20:28], axes=(1, 2))
    detector = PatchSVDD(random_state=0, max_epochs=2, n_draws=20).fit(X)
    assert (detector.predict(bad) == -1).all()
    found = detector.transform(bad)[0]
    rows, columns = np.nonzero(found > 0.5 * found.max())
    assert abs(rows.mean() - 13.5) < 4
    assert abs(columns.mean() - 23.5) < 4


@pytest.mark.parametrize(
    "wrong", [{"patch_size": 12}, {"n_draws": 0}, {"coreset_ratio": 0.0}]
)
def test_parameters_are_checked(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PatchSVDD(**wrong).fit(pictures(6))
