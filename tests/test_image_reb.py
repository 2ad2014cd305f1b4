"""REB: made defects, a backbone that tells them, and nearest patches."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.ndimage import binary_erosion
from torch import nn

from skad import LDKNN
from skad.embedding import PatchEmbedding
from skad.image import REB, PatchDetector
from skad.nn.defects import (
    FILLS,
    SHAPES,
    clump,
    filled,
    of_all_kinds,
    outline,
    scar,
    softened,
    spot,
    with_defect,
)


class Small(nn.Module):
    """Two convolutions, the second with a batch norm."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(1, 8, 3, 2, 1)
        self.second = nn.Sequential(
            nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU()
        )

    def forward(self, x):
        return self.second(self.first(x))


GIVEN = {
    "backbone": Small,
    "layers": ("first", "second"),
    "normalization": None,
    "contamination": 0.2,
    "random_state": 0,
}
# Steps so small that weights stay as they are.
STILL = {"max_epochs": 1, "lr": 1e-30}


def pictures(n, seed=0, size=32):
    """Return pictures (n, size, size, 1) of one smooth texture with noise."""
    rng = np.random.default_rng(seed)
    wave = np.sin(np.arange(size) / 3)
    texture = 0.5 + 0.2 * wave[:, None] * wave
    return (texture + rng.normal(0, 0.03, size=(n, size, size)))[..., None]


# ------------------------------------------------------------------------ made defects


@pytest.mark.parametrize("smoothness", [0.0, 0.4])
def test_an_outline_is_one_smooth_curve_through_its_corners(smoothness):
    corners = torch.tensor([[0.0, 0.0], [0.0, 4.0], [3.0, 5.0], [6.0, 1.0]]).double()
    found = outline(corners, smoothness, torch.zeros(4, dtype=torch.bool))
    at = torch.cdist(corners, found).argmin(1)
    assert_allclose(found[at], corners)
    assert (at.diff() > 0).all()
    # the way into a corner is the way out of it: no steps turn sharply
    steps = found.roll(-1, 0) - found
    turns = torch.cosine_similarity(steps, steps.roll(1, 0))
    if smoothness < 0.1:
        assert turns.min() > 0.6
    # a piece is the cubic of its corners and handles
    middles = (corners + corners.roll(-1, 0)) / 2
    d = (corners.roll(-1, 0) - corners).norm(dim=1)
    handles = []
    for i, side in ((0, 0), (1, -1)):
        split = middles[i - 1] + (middles[i] - middles[i - 1]) * d[i - 1] / (
            d[i - 1] + d[i]
        )
        moved = middles[i + side] + corners[i] - split
        handles.append(moved + (corners[i] - moved) * smoothness)
    t = 5 / 11
    expected = (
        (1 - t) ** 3 * corners[0]
        + 3 * t * (1 - t) ** 2 * handles[0]
        + 3 * t**2 * (1 - t) * handles[1]
        + t**3 * corners[1]
    )
    assert_allclose(found[5], expected)


def test_straight_edges_have_no_points_but_their_corner():
    corners = torch.tensor([[0.0, 0.0], [0.0, 4.0], [3.0, 5.0]])
    assert_array_equal(outline(corners, 0.3, torch.ones(3, dtype=torch.bool)), corners)
    mixed = outline(corners, 0.3, torch.tensor([False, True, False]))
    assert len(mixed) == 11 + 1 + 11


def test_filled_is_what_lies_behind_an_odd_number_of_edges():
    rng = np.random.default_rng(0)
    points = rng.uniform(0, 9, size=(7, 2))
    found = filled(torch.as_tensor(points), 10, 10)
    for y in range(10):
        for x in range(10):
            edges = 0
            for (y0, x0), (y1, x1) in zip(points, np.roll(points, -1, 0), strict=True):
                if (y0 > y) != (y1 > y):
                    edges += x0 + (y - y0) / (y1 - y0) * (x1 - x0) > x
            assert bool(found[y, x]) == (edges % 2 == 1)


def test_sizes_of_shapes():
    torch.manual_seed(0)
    for draw, most in ((spot, 0.15), (clump, 0.15), (scar, 22 * 31 / 128**2)):
        masks = [draw((128, 128)) for _ in range(40)]
        shares = [mask.sum() / 128**2 for mask in masks]
        assert 0 < np.mean(shares) < max(shares) < most
        assert len({mask.shape for mask in masks}) > 20
    longest = [max(scar((256, 256)).shape) for _ in range(40)]
    assert 15 <= min(longest) <= max(longest) <= 38


def test_softened_is_drawn_in_and_blurred():
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[2:7, 2:7] = True
    found = softened(mask, 3)
    cross = [[0, 1, 0], [1, 1, 1], [0, 1, 0]]
    inside = binary_erosion(mask.numpy(), cross).astype(float)
    side = np.exp(-np.array([1, 0, 1]) / 18)
    kernel = np.outer(side, side) / side.sum() ** 2
    expected = sum(
        kernel[i + 1, j + 1] * np.roll(inside, (i, j), (0, 1))
        for i in (-1, 0, 1)
        for j in (-1, 0, 1)
    )
    assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("shape", SHAPES)
def test_a_defect_changes_the_picture_where_it_is(shape, fill):
    torch.manual_seed(1)
    x, other = torch.full((3, 64, 64), 0.9), torch.full((3, 64, 64), 0.2)
    altered = 0
    for _ in range(10):
        found, weight = with_defect(x, other, shape, fill)
        assert_array_equal(found[:, weight == 0], x[:, weight == 0])
        assert 0 <= found.min() <= found.max() <= 1
        altered += bool((found != x).any())
        if fill == "piece" and (weight == weight.max()).any():
            full = found[:, weight == weight.max()]
            # the other picture, a tenth lighter or darker at most
            pasted = (full - (1 - weight.max()) * 0.9) / weight.max()
            assert ((pasted - 0.2).abs() < 0.021 + 1e-3 / weight.max()).all()
    assert altered > 5
    assert_array_equal(x, torch.full((3, 64, 64), 0.9))


def test_all_kinds_of_each_picture():
    torch.manual_seed(0)
    x = torch.rand(3, 1, 32, 32)
    found, kinds = of_all_kinds(x)
    assert found.shape == (21, 1, 32, 32)
    assert_array_equal(kinds, np.repeat(np.arange(7), 3))
    assert_array_equal(found[:3], x)
    # most of each is the picture that it was made of
    same = (found.view(7, 3, -1) == x.view(1, 3, -1)).float().mean(2)
    assert same.min() > 0.8


# -------------------------------------------------------------------------- the method


class Frozen(Small):
    """The same without a norm, whose statistics would move with the first step."""

    def __init__(self):
        super().__init__()
        self.second[2] = nn.Identity()


@pytest.mark.parametrize("density_weight", [0.0, 1.5])
def test_without_training_it_is_the_local_density_of_patches(density_weight):
    X, new = pictures(8), pictures(3, 1)
    new[0, 8:14, 10:20] = 0.9
    given = GIVEN | {"backbone": Frozen, "smoothing": 2}
    head = LDKNN(3, density_weight=density_weight)
    detector = REB(
        **given,
        **STILL,
        max_patches=None,
        n_neighbors=3,
        density_weight=density_weight,
    ).fit(X)
    embedding = PatchEmbedding(
        Frozen, ("first", "second"), normalization=None, neighborhood=3
    )
    expected = PatchDetector(
        embedding, head, max_patches=None, smoothing=2, contamination=0.2
    ).fit(X)
    assert_allclose(
        detector.transform(new), expected.transform(new), rtol=1e-3, atol=1e-5
    )


def test_norms_learn_statistics_of_made_defects():
    detector = REB(**GIVEN, **STILL).fit(pictures(8))
    norm = detector.net_.encoder.get_submodule("module.second.2")
    assert norm.num_batches_tracked == 1
    assert (
        detector.embedding_.backbone_.get_submodule(
            "module.second.2"
        ).num_batches_tracked
        == 0
    )


def test_scores_are_means_over_cells_of_patches():
    X, new = pictures(8), pictures(3, 1)
    new[0, 8:14, 10:20] = 0.9
    detector = REB(**GIVEN, **STILL, n_neighbors=2, smoothing=0).fit(X)
    x = torch.as_tensor(new).float().permute(0, 3, 1, 2)
    maps = detector.net_.map(x.flatten(1)).detach().numpy()  # (3, 16, 16)
    expected = [
        max(
            each[i : i + 3, j : j + 3].mean()
            for i in range(0, 15, 3)
            for j in range(0, 15, 3)
        )
        for each in maps
    ]
    assert_allclose(-detector.score_samples(new), expected, rtol=1e-3)
    assert np.argmax(expected) == 0


def test_the_loss_is_of_each_kind_by_itself():
    X = pictures(4)
    net = REB(**GIVEN, **STILL).fit(X).net_.eval()
    x = torch.as_tensor(X).float().permute(0, 3, 1, 2).flatten(1)
    torch.manual_seed(3)
    found = net.loss(x, None)
    torch.manual_seed(3)
    made, kinds = of_all_kinds(net.pictures(x))
    said = torch.sigmoid(net.logits(made)).detach().double().numpy()
    right = np.eye(7)[kinds]
    expected = -np.mean(right * np.log(said) + (1 - right) * np.log(1 - said))
    assert_allclose(float(found.detach()), expected, rtol=1e-5)


def test_kinds_of_defects_are_learned():
    """Also where the backbone, a bank of filters, has nothing to learn."""
    X, new = (
        0.5 + np.random.default_rng(seed).normal(0, 0.01, size=(n, 32, 32, 1))
        for seed, n in ((0, 24), (1, 60))
    )
    detector = REB(
        contamination=0.2, random_state=0, max_epochs=30, batch_size=12, max_patches=50
    ).fit(X)
    net = detector.net_.eval()
    torch.manual_seed(0)
    made, kinds = of_all_kinds(torch.as_tensor(new).float().permute(0, 3, 1, 2))
    with torch.no_grad():
        told = (net.logits(made).argmax(1) == kinds).double().mean()
    assert told > 1 / 7 + 3 * np.sqrt(6 / 49 / len(kinds))  # chance, 3 deviations
    losses = [each["train_loss"] for each in detector.history_]
    assert np.mean(losses[-5:]) < 0.9 * np.mean(losses[:5])


def test_the_backbone_learns_and_the_embedding_stays():
    X = pictures(6)
    given = GIVEN | {"backbone": Frozen}
    detector = REB(**given, max_epochs=1, lr=0.1).fit(X)
    start = detector.embedding_.backbone_.state_dict()
    moved = detector.net_.encoder.state_dict()
    assert start.keys() == moved.keys()
    assert all(not torch.equal(start[name], moved[name]) for name in start)


def test_the_same_seed_draws_the_same_defects():
    X, new = pictures(6), pictures(2, 1)
    given = GIVEN | {"max_epochs": 2}
    one, again = (REB(**given).fit(X).score_samples(new) for _ in range(2))
    assert_array_equal(one, again)
    other = REB(**given | {"random_state": 1}).fit(X).score_samples(new)
    assert not np.allclose(one, other)
