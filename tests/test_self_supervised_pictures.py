"""Networks that learn a task of their own from pictures: formulas, and finds."""

import itertools

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy import ndimage
from scipy.special import log_softmax, softmax
from sklearn.covariance import LedoitWolf

from skad.nn.cut_paste import cut_and_paste, move_pieces, rectangles, scars
from skad.nn.dirichlet import fit_dirichlet
from skad.nn.pixel_moves import (
    PixelMoves,
    mirrored,
    rearranged,
    regular,
    turned,
    without_repetitions,
)
from skad.nn.wide_resnet import WideResNet
from skad.self_supervised import GEOM, CutPaste, E3Outlier, RotNet
from skad.self_supervised._cutpaste import CutPasteNetwork, ResNet18
from skad.self_supervised._e3outlier import E3OutlierNetwork
from skad.self_supervised._geom import GEOMNetwork
from skad.self_supervised._rotnet import RotNetNetwork

MOVED = [GEOM, RotNet, E3Outlier]
every = pytest.mark.parametrize("method", MOVED, ids=lambda cls: cls.__name__)
SMALL = {"hidden_sizes": (4, 8), "random_state": 0}


def stairs(n, seed, turned=False):
    """Return pictures with one bright corner, whose edges run as in no turned copy."""
    rng = np.random.default_rng(seed)
    X = 0.1 * rng.uniform(size=(n, 12, 12))
    X[:, 1:5, 1:9] += 0.5
    X[:, 1:9, 1:4] += 0.3
    return np.ascontiguousarray(np.rot90(X, 1, (1, 2))) if turned else X


# -------------------------------------------------------------------- pixels that move


@pytest.mark.parametrize("by", [0, 2, -2, 5, -5, 9])
def test_shifts_mirror_what_lies_outside(by):
    x = np.arange(5)
    for twice, mode in ((True, "symmetric"), (False, "reflect")):
        wide = np.pad(x, 10, mode=mode)
        assert_array_equal(mirrored(5, by, twice), wide[10 - by : 15 - by])
    assert mirrored(1, by).tolist() == mirrored(1, by, False).tolist() == [0]


def naive_moves(x, by):
    """Yield a picture (h, w) after each of the 72 maps."""
    h, w = x.shape
    wide = np.pad(x, 8, mode="symmetric")
    flipped = np.pad(x[:, ::-1], 8, mode="symmetric")
    shifts = (0, -by, by)
    for picture, down, right in itertools.product((wide, flipped), shifts, shifts):
        top, left = 8 - down, 8 - right
        for turn in range(4):
            yield np.rot90(picture[top : top + h, left : left + w], turn)


def test_the_72_maps_are_flips_shifts_and_turns():
    x = np.random.default_rng(0).normal(size=(2, 8, 8))
    tables, kinds = regular((8, 8), 0.25)
    moves = PixelMoves((1, 8, 8), tables)
    found = moves(torch.as_tensor(x)[:, None], slice(0, 72))[:, :, 0]
    for one, many in zip(x, found, strict=True):
        assert_array_equal(many, list(naive_moves(one, 2)))
    assert len(without_repetitions(tables)) == len(kinds) == 72
    which = torch.tensor([5, 71])
    each = moves.each(torch.as_tensor(x)[:, None], which)
    assert_array_equal(each[:, 0], found[[0, 1], which])


def test_maps_that_do_the_same_count_once():
    assert len(regular((1, 6), 0.25)[0]) == 2 * 3 * 2
    # a picture of one line is flipped by a half turn
    assert len(without_repetitions(regular((1, 6), 0.25)[0])) == 6
    assert len(regular((4, 6), 0.0)[0]) == 4


def test_quarters_change_places():
    x = np.arange(36.0).reshape(6, 6)
    tables = rearranged((6, 6))
    assert len(without_repetitions(tables)) == len(tables) == 23
    found = {x.ravel()[table.numpy()].tobytes() for table in tables}
    quarters = [x[i : i + 3, j : j + 3] for i in (0, 3) for j in (0, 3)]
    expected = {
        np.block([[a, b], [c, d]]).tobytes()
        for a, b, c, d in itertools.permutations(quarters)
    }
    assert found == expected - {x.tobytes()}
    odd = rearranged((5, 4))
    assert (odd[:, 4] == torch.arange(16, 20)).all()


@pytest.mark.parametrize("size", [(9, 9), (8, 8), (7, 10)])
def test_turns_are_those_of_scipy(size):
    x = np.random.default_rng(0).normal(size=size)
    for angle, flip in ((30, False), (210, True)):
        tables, weights = turned(size, np.deg2rad(angle), flip)
        found = (x.ravel()[tables.numpy()] * weights.numpy()).sum(0)
        given = x[:, ::-1] if flip else x
        expected = ndimage.rotate(
            np.pad(given, 20), angle, reshape=False, order=1, mode="constant"
        )[20:-20, 20:-20]
        assert_allclose(found, expected, atol=1e-5)


# ---------------------------------------------------------------------------- Dirichlet


def test_dirichlet_of_drawn_probabilities():
    alpha = np.array([2.0, 5.0, 1.5])
    drawn = torch.as_tensor(np.random.default_rng(0).dirichlet(alpha, size=20000))
    logs = drawn.log().mean(0)[None]
    found = fit_dirichlet(drawn.mean(0)[None], logs)
    assert_allclose(found[0], alpha, rtol=0.03)
    moments = torch.digamma(found) - torch.digamma(found.sum(1, keepdim=True))
    assert_allclose(moments, logs, atol=1e-9)


def test_dirichlet_of_what_never_varies_is_finite():
    means = torch.tensor([[0.2, 0.8], [1.0, 1e-30]], dtype=torch.float64)
    found = fit_dirichlet(means, means.log())
    assert torch.isfinite(found).all()
    assert (found > 0).all()
    assert_allclose(found[0] / found[0].sum(), means[0])


# ------------------------------------------------------------------------ wide networks


def test_a_wide_network_is_wrn_10_4():
    network = WideResNet((3, 32, 32), (10,))
    # as counted by hand from the paper's table: ten layers with weights
    convolutions = 9 * 3 * 16
    for into, out in ((16, 64), (64, 128), (128, 256)):
        convolutions += 9 * into * out + 9 * out * out + into * out
    norms = 2 * (16 + 64 + 64 + 128 + 128 + 256 + 256)
    found = sum(weight.numel() for weight in network.parameters())
    assert found == convolutions + norms + 256 * 10 + 10
    assert network.parts(torch.zeros(1, 3, 32, 32)).shape == (1, 256, 8, 8)
    assert WideResNet((1, 4, 4), (2,), (2, 3), bias=False).head.bias is None


# ---------------------------------------------------------------------------- the tasks


@every
def test_turned_pictures_are_found(method):
    X, own = stairs(50, 0), {**SMALL, "batch_size": 16, "measure": "probability"}
    own |= {} if method is RotNet else {"lr": 0.01}
    own |= {"kinds": ["permutation"]} if method is E3Outlier else {"shift": 0.0}
    detector = method(**own, max_epochs=60, contamination=0.1).fit(X)
    usual = -detector.score_samples(stairs(10, 1)).max()
    odd = -detector.score_samples(stairs(10, 2, turned=True)).min()
    # of what is right, the network is sure; of the others it was told nothing
    assert usual < odd - 0.15, (usual, odd)


@pytest.fixture(scope="module")
def fitted():
    own = {**SMALL, "batch_size": 32, "max_epochs": 3, "contamination": 0.1}
    return {cls: cls(**own).fit(stairs(60, 0)) for cls in MOVED}


def logits_of(net, pictures):
    return net.classifier(torch.as_tensor(np.array(pictures))[:, None]).numpy()


def test_geom_is_the_density_of_what_is_said_of_all_maps(fitted):
    detector, new = fitted[GEOM], stairs(3, 1)
    net = detector.net_.double()
    said = log_softmax(
        [logits_of(net, list(naive_moves(x, 3))) for x in stairs(60, 0)], axis=2
    )
    alpha = net.alpha.numpy()
    psi = torch.digamma(net.alpha) - torch.digamma(net.alpha.sum(1, keepdim=True))
    assert_allclose(psi, said.mean(0), atol=2e-3)
    for x, score in zip(new, detector.score_samples(new), strict=True):
        said = log_softmax(logits_of(net, list(naive_moves(x, 3))), axis=1)
        expected = np.mean([(a - 1) @ p for a, p in zip(alpha, said, strict=True)])
        assert score == pytest.approx(expected)


def test_geom_of_even_densities_tells_nothing():
    torch.manual_seed(0)
    net = GEOMNetwork((1, 8, 8), "dirichlet", "auto", (4, 8), 0.25).eval()
    assert not net.anomaly(torch.rand(3, 1, 8, 8)).any()


def test_rotnet_adds_up_its_heads(fitted):
    detector, new = fitted[RotNet], stairs(3, 1)
    net = detector.net_.double()
    for x, score in zip(new, detector.score_samples(new), strict=True):
        wide, total = np.pad(x, 8, mode="reflect"), 0.0
        for i, j in itertools.product(range(3), range(3)):
            top, left = 8 - (0, -3, 3)[i], 8 - (0, -3, 3)[j]
            moved = wide[top : top + 12, left : left + 12]
            for turn in range(4):
                logits = logits_of(net, [np.rot90(moved, turn)])[0]
                heads = np.split(logits, [4, 7])
                for head, right in zip(heads, (turn, i, j), strict=True):
                    total += softmax(head)[right]
        assert -score == pytest.approx(1 - total / (36 * 3))


def test_rotnet_without_an_idea():
    net = RotNetNetwork((1, 8, 8), "probability", "auto", (4, 8), 0.25).eval()
    net.classifier.head.weight.data.zero_()
    net.classifier.head.bias.data.zero_()
    found = net.anomaly(torch.rand(2, 1, 8, 8))
    assert_allclose(found.detach(), 1 - (1 / 4 + 1 / 3 + 1 / 3) / 3, rtol=1e-5)
    loss = net.loss(torch.rand(2, 1, 8, 8), None).item()
    # the joint label of independent heads has the sum of their cross-entropies
    assert loss == pytest.approx((np.log(4) + 2 * np.log(3)) / 3, rel=1e-5)
    assert 3 * loss == pytest.approx(np.log(36), rel=1e-5)
    assert net.train().loss(torch.rand(5, 1, 8, 8), None).item() == pytest.approx(loss)


def test_rotnet_without_shifts_is_one_head():
    net = RotNetNetwork((1, 8, 8), "probability", "auto", (4, 8), 0.0)
    assert net.counts == [4]
    assert len(net.transforms) == 4
    assert RotNetNetwork((1, 1, 6), "probability", "auto", (4,), 0.2).counts == [2, 3]


def test_e3outlier_tells_111_maps_apart(fitted):
    net = fitted[E3Outlier].net_.double()
    assert len(net.transforms) == 111
    x = torch.as_tensor(stairs(3, 1))[:, None]
    logits = net.classifier(net.transforms(x, slice(0, 111)).flatten(0, 1))
    p = softmax(logits.numpy().reshape(3, 111, 111), axis=2)
    expected = -(p * np.log(p)).sum(2).mean(1)
    assert_allclose(-fitted[E3Outlier].score_samples(stairs(3, 1)), expected)
    net = E3OutlierNetwork((1, 8, 8), "entropy", "auto", (4,), 0.25, ("permutation",))
    net.classifier.head.weight.data.zero_()
    net.classifier.head.bias.data.zero_()
    net.eval().requires_grad_(False)
    assert_allclose(net.anomaly(torch.rand(2, 1, 8, 8)), np.log(23), rtol=1e-5)
    net.classifier.head.bias[3] = 1e3  # it is sure, and wrong
    assert_allclose(net.anomaly(torch.rand(2, 1, 8, 8)), 0, atol=1e-5)


def test_e3outlier_of_regular_maps_is_geom():
    given = (1, 8, 8), "probability", "auto", (4, 8), 0.25
    geom, other = GEOMNetwork(*given), E3OutlierNetwork(*given, ("regular",))
    other.classifier.load_state_dict(geom.classifier.state_dict())
    x = torch.rand(3, 1, 8, 8)
    assert_array_equal(
        geom.eval().anomaly(x).detach(), other.eval().anomaly(x).detach()
    )


@every
def test_the_mean_picture_is_where_maps_begin(method, fitted):
    detector, new = fitted[method], stairs(5, 1)
    mean = detector.net_.baseline.numpy()
    assert_allclose(mean[0], stairs(60, 0).mean(0), atol=1e-5)
    more = detector.score_samples(np.float64(mean)) - detector.score_samples(new)
    found = detector.transform(new).sum(axis=(1, 2))
    assert_allclose(found, more, atol=0.1 * np.abs(more).max())


@every
def test_too_small_pictures_are_refused(method):
    with pytest.raises(ValueError, match="look the same whatever"):
        method().fit(np.random.default_rng(0).uniform(size=(20, 1, 1)))


def test_unknown_kinds_are_refused():
    for kinds in ((), ("turns",), ("regular", "turns")):
        with pytest.raises(ValueError, match="kinds="):
            E3Outlier(kinds=kinds).fit(stairs(10, 0))


# ----------------------------------------------------------------------------- CutPaste


def test_pieces_are_cut_and_pasted():
    x = torch.rand(2, 3, 8, 10, dtype=torch.float64)
    # rows 1 to 3 and columns 2 to 5 come to lie at row 4 and column 6
    pieces = torch.tensor([[2.0, 3.5, 5.0, 7.5, 3.0, 4.0, 0.0]]).expand(2, -1)
    seen, mask = move_pieces(x, 2 * x, pieces)
    expected = x.clone()
    expected[:, :, 4:7, 6:10] = 2 * x[:, :, 1:4, 2:6]
    assert_array_equal(seen, expected)
    assert mask.sum() == 2 * 12
    assert mask[:, 4:7, 6:10].all()


def test_turned_pieces_are_those_of_a_quarter_turn():
    x = torch.rand(1, 1, 9, 9)
    pieces = torch.tensor([[4.0, 4.0, 4.0, 4.0, 9.0, 9.0, np.pi / 2]])
    seen = move_pieces(x, x, pieces)[0]
    assert_array_equal(seen, x.rot90(1, (2, 3)))


@pytest.mark.parametrize("size", [(256, 256), (64, 200)])
def test_rectangles_have_the_papers_sizes(size):
    torch.manual_seed(0)
    shape = 1000, 3, *size
    from_y, from_x, to_y, to_x, high, wide, angle = rectangles(shape).T
    share = high * wide / np.prod(size)
    assert 0.018 < share.min() < 0.03
    assert 0.14 < share.max() < 0.16
    longer = high / wide
    assert 0.28 < longer.min() < 0.32
    assert 1 / 0.32 < longer.max() < 1 / 0.28
    # logarithms are even: half of the pieces are higher than wide
    assert 0.45 < (longer > 1).float().mean() < 0.55
    assert abs(longer.log().abs().mean() - np.log(1 / 0.3) / 2) < 0.05
    assert not angle.any()
    for middle, extent, side in (
        (from_y, high, size[0]),
        (to_y, high, size[0]),
        (from_x, wide, size[1]),
        (to_x, wide, size[1]),
    ):
        assert (middle - (extent - 1) / 2 >= 0).all()
        assert (middle + (extent - 1) / 2 <= side - 1).all()


def test_scars_have_the_papers_sizes():
    torch.manual_seed(0)
    *_, high, wide, angle = scars((1000, 3, 256, 256)).T
    assert (wide.min(), wide.max(), high.min(), high.max()) == (2, 16, 10, 25)
    assert 0.97 * np.pi / 4 < angle.abs().max() <= np.pi / 4
    assert abs(angle.mean()) < 0.05
    *_, high, wide, angle = scars((1000, 1, 8, 8)).T
    assert high.max() == wide.max() == 1


@pytest.mark.parametrize("draw", [rectangles, scars])
def test_what_is_outside_of_a_piece_stays(draw):
    torch.manual_seed(0)
    x = torch.rand(20, 1, 32, 32)
    seen, mask = cut_and_paste(x, draw)
    assert mask.flatten(1).any(1).all()
    assert_array_equal(seen[~mask[:, None]], x[~mask[:, None]])
    assert (seen[mask[:, None]] <= 1.1).all()


PASTED = {
    "architecture": "conv",
    "hidden_sizes": (8, 16),
    "code_size": 8,
    "contamination": 0.1,
    "random_state": 0,
}


def test_cutpaste_is_the_mahalanobis_distance_of_codes():
    X, new = stairs(60, 0), stairs(5, 1)
    detector = CutPaste(**PASTED, max_epochs=3).fit(X)
    net = detector.net_.double()
    codes = [net.encoder(torch.as_tensor(x)[:, None]).numpy() for x in (X, new)]
    expected = LedoitWolf().fit(codes[0]).mahalanobis(codes[1])
    assert_allclose(-detector.score_samples(new), expected, rtol=1e-3)


@pytest.mark.parametrize(("variant", "n"), [("3way", 3), ("cutpaste", 2), ("scar", 2)])
def test_cutpaste_learns_to_tell_kinds(variant, n):
    net = CutPasteNetwork((1, 12, 12), variant, "conv", (4,), 8)
    net.head[-1].weight.data.zero_()
    net.head[-1].bias.data.zero_()
    loss = net.loss(torch.rand(4, 1, 12, 12), None)
    assert loss.item() == pytest.approx(np.log(n), rel=1e-5)
    detector = CutPaste(**PASTED, variant=variant, max_epochs=40).fit(stairs(60, 0))
    losses = [epoch["train_loss"] for epoch in detector.history_]
    assert losses[-1] < 0.95 * np.log(n)


def test_the_encoder_is_a_resnet18():
    net = ResNet18((1, 32, 32), (512,))
    weights = {name: each.numel() for name, each in net.named_parameters()}
    # 11,176,512 of the paper's ResNet-18 without its classifier, for three channels
    assert sum(weights.values()) == 11_176_512 - 2 * 64 * 49
    assert net(torch.rand(2, 1, 32, 32)).shape == (2, 512)
    assert ResNet18((1, 32, 32), (7,))(torch.rand(2, 1, 32, 32)).shape == (2, 7)
