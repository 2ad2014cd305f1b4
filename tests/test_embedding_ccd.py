"""Codes of CCD: the loss, what the heads are asked, and where the codes stand."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer
from sklearn.utils.estimator_checks import check_estimator

import skad
from skad.embedding import CCD, SimCLR
from skad.embedding._ccd import CCDNetwork
from skad.embedding._simclr import CodesNetwork
from skad.nn.patches import AROUND, around, neighbours
from tests.test_embedding_simclr import SMALL, stairs
from tests.test_self_supervised_contrast import naive_contrast

ENCODER = "auto", (4, 8), 8, 6, 0.2, 0.5


def network(shift="halves", weight=1.0, size=4):
    torch.manual_seed(0)
    net = CCDNetwork((1, 12, 12), *ENCODER, shift, weight, size)
    return net.eval().double().requires_grad_(False)


def pictures(n=3, seed=0):
    X = np.random.default_rng(seed).uniform(size=(n, 12, 12))
    return torch.as_tensor(X)[:, None]


def crossed(logits, kinds):
    logits = np.asarray(logits)
    return np.mean(logsumexp(logits, axis=1) - logits[np.arange(len(kinds)), kinds])


def test_the_loss_is_the_formula():
    """Of pictures that are held out, where nothing is drawn."""
    net, x = network(weight=0.7), pictures()
    views, logits = [], []
    for one in (x, x.flip(3)):
        halves = [one.roll((i, j), (2, 3)) for i in (0, 6) for j in (0, 6)]
        codes = torch.stack([net.encoder(half) for half in halves], 1)  # (b, K, d)
        views.append(net.projection(codes.flatten(0, 1)).numpy())
        logits.append(net.head(codes.flatten(0, 1)).numpy())
    shifts = crossed(np.concatenate(logits), list(range(4)) * 6)
    ways, found = [], []
    for one in x:
        middle = one[:, 4:8, 4:8]
        for way, (i, j) in enumerate([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]):
            if way == 4:
                continue
            top, left = 4 + 3 * i, 4 + 3 * j
            pair = torch.stack([middle, one[:, top : top + 4, left : left + 4]])
            first, other = net.encoder(
                torch.nn.functional.interpolate(pair, (12, 12), mode="bilinear")
            )
            found.append(net.position(first - other).numpy())
            ways.append(way - (way > 4))
    expected = naive_contrast(*views, 0.2) + shifts + 0.7 * crossed(found, ways)
    assert net.loss(x, None).item() == pytest.approx(expected)


def test_heads_that_know_nothing_are_at_chance():
    x, net = pictures(), network()
    without = network(weight=0.0)
    for head in (net.head, net.position[-1], without.head):
        head.weight.zero_()
        head.bias.zero_()
    turned = without.loss(x, None).item() - net.loss(x, None).item()
    assert turned == pytest.approx(-np.log(8))
    codes = net.view_codes(x)
    assert without.loss(x, None).item() == pytest.approx(
        net.contrast(codes).item() + np.log(4)
    )


def test_without_shifts_and_places_it_is_simclr():
    x, net = pictures(), network(shift=None, weight=0.0)
    plain = CodesNetwork((1, 12, 12), *ENCODER).eval().double()
    plain.load_state_dict(net.state_dict(), strict=False)
    assert net.loss(x, None).item() == pytest.approx(plain.loss(x, None).item())
    torch.manual_seed(3)
    drawn = net.train().loss(x, None).item()
    torch.manual_seed(3)
    assert drawn == pytest.approx(plain.train().loss(x, None).item())


@pytest.mark.parametrize("side", [4, 8])
def test_patches_lie_where_they_are_said_to(side):
    torch.manual_seed(0)
    places = torch.stack(torch.meshgrid(*[torch.arange(32.0)] * 2, indexing="ij"))
    x = places.expand(50, 2, 32, 32)  # of each pixel its row and column
    middle, other, way = around(x, side)
    assert_array_equal(way, list(range(8)) * 50)
    moves = (other - middle)[:, :, 0, 0]
    assert_array_equal(moves, 7 * side // 8 * torch.tensor(AROUND)[way])
    assert_array_equal(middle[:, :, 0, 0], np.full((400, 2), (32 - side) // 2))
    first, second, way = neighbours(x, torch.arange(50), side)
    moves, towards = (second - first)[:, :, 0, 0], torch.tensor(AROUND)[way]
    assert (moves * towards >= 0).all()  # none where the picture ends
    assert (moves[towards == 0] == 0).all()
    assert moves.abs().max() < side


def test_it_learns_where_patches_lie():
    """Of pictures that get brighter to the right and down, all places are told."""
    rng = np.random.default_rng(0)
    ramp = np.arange(24) / 24
    X = 0.4 * ramp[:, None, None] ** 2 * [1, 0] + 0.4 * ramp[:, None] ** 2 * [0, 1]
    X = X + 0.01 * rng.uniform(size=(48, 24, 24, 2))
    codes = CCD(
        shift=None,
        hidden_sizes=(4,),
        code_size=16,
        max_epochs=25,
        patch_size=8,
        lr=0.05,
        random_state=0,
    ).fit(X)
    net = codes.net_.double().eval()
    x = torch.as_tensor(X[:20]).movedim(3, 1)
    told = net.position_loss(*net.drawn(x)).item()
    assert told < 0.6 * np.log(8)


def test_the_transformer_is_its_network(tmp_path):
    X, new = stairs(30, 0), stairs(4, 1)
    codes = CCD(**SMALL).fit(X)
    x = torch.as_tensor(new)[:, None]
    assert_allclose(codes.transform(new), codes.net_.double().encoder(x), rtol=1e-5)
    assert codes.get_feature_names_out()[0] == "ccd0"
    again = CCD(**SMALL).fit(X)
    assert_array_equal(again.transform(new), codes.transform(new))
    skad.save(codes, tmp_path / "codes")
    assert_array_equal(
        skad.load(tmp_path / "codes").transform(new), again.transform(new)
    )
    watched = CCD(**{**SMALL, "patience": 1, "validation_fraction": 0.3}).fit(X)
    assert "valid_loss" in watched.history_[0]
    other = CCD(**SMALL, shift="turns", patch_size=3).fit(X)
    assert len(other.net_.shifts) == 4
    assert other.net_.patch_size == 3


def test_it_stands_before_detectors_of_rows_and_of_patches():
    X, new = stairs(60, 0), stairs(10, 1)
    codes = CCD(**{**SMALL, "max_epochs": 10, "lr": 0.1, "shift": "turns"})
    whole = make_pipeline(codes, Normalizer(), skad.KNN()).fit(X)
    odd = whole.score_samples(stairs(10, 2, turned=True))
    assert odd.max() < whole.score_samples(new).min()
    assert make_pipeline(codes, Normalizer(), skad.IGD(max_epochs=1)).fit(X)
    encoder = whole[0].net_.encoder
    inspector = skad.PaDiM(backbone=encoder, layers=("parts.1",), normalization=None)
    maps = inspector.fit(X).transform(new)
    assert maps.shape == new.shape


def test_sides_of_patches_by_the_size_of_pictures():
    for size, side in (((256, 300), 32), ((28, 28), 8), ((12, 40), 6), ((1, 9), 1)):
        net = CCDNetwork((1, *size), *ENCODER, "halves", 1.0, None)
        assert net.patch_size == side
    with pytest.raises(ValueError, match="patch_size=13 is more than pictures of 12"):
        CCD(**SMALL, patch_size=13).fit(stairs(10, 0))
    for params in ({"shift": "noise"}, {"position_weight": -1.0}, {"patch_size": 0}):
        with pytest.raises(ValueError, match=f"The '{next(iter(params))}' parameter"):
            CCD(**SMALL, **params).fit(stairs(10, 0))


def test_simclr_has_none_of_it():
    assert not {"shift", "position_weight", "patch_size"} & set(SimCLR().get_params())


def test_scikit_learns_checks():
    check_estimator(CCD(**{**SMALL, "max_epochs": 1}))
