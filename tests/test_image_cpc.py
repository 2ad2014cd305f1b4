"""CPC: its losses, what a patch is predicted from, and its map."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from skad.image import CPC
from skad.image.restoration._cpc import Before, CPCNetwork


def network(shape=(1, 32, 32), n_steps=2, n_negatives=5):
    torch.manual_seed(0)
    net = CPCNetwork(shape, 8, 6, n_steps, n_negatives).double().requires_grad_(False)
    net.negatives = torch.randn(n_negatives, 6, dtype=torch.float64)
    return net


def grid(height=5, width=6, n=2):
    rng = torch.Generator().manual_seed(1)
    return torch.randn(n, 6, height, width, generator=rng, dtype=torch.float64)


def pictures(n, seed=0, size=32):
    """Return pictures whose rows and columns go on as they began."""
    rng = np.random.default_rng(seed)
    stripes = 0.5 + 0.2 * np.sin(np.arange(size) / 2)
    return stripes + rng.normal(0, 0.01, size=(n, size, size))


def test_losses_are_the_naive_loop():
    net, codes = network(), grid()
    total, count = np.zeros((2, 5, 6)), np.zeros((5, 6))
    for turn in range(4):
        turned = codes.rot90(turn, (2, 3))
        context = net.contexts[turn](turned)
        places = torch.arange(30).view(5, 6).rot90(turn, (0, 1))
        for k, step in enumerate(net.predictions[turn], 2):
            weight = step.weight[:, :, 0, 0]
            for b, i, j in np.ndindex(2, turned.shape[2] - k, turned.shape[3]):
                told = weight @ context[b, :, i, j]
                right = np.exp(float(told @ turned[b, :, i + k, j]))
                wrong = sum(np.exp(float(told @ other)) for other in net.negatives)
                row, column = divmod(int(places[i + k, j]), 6)
                total[b, row, column] -= np.log(right / (right + wrong))
                count[row, column] += b == 0
    assert count.min() > 0
    found = net.losses(codes, net.negatives)
    assert_allclose(found, total / count, rtol=1e-10)


def test_what_predicts_nothing_is_at_chance():
    net, codes = network(), grid()
    for steps in net.predictions:
        for step in steps:
            step.weight.zero_()
    found = net.losses(codes, net.negatives)
    assert_allclose(found, np.full((2, 5, 6), np.log(1 + 5)))
    x = torch.rand(3, 32 * 32, dtype=torch.float64)
    assert_allclose(net.map(x), np.full((3, 32, 32), np.log(6)))


def test_contexts_see_no_row_after_theirs():
    torch.manual_seed(0)
    context, codes = Before(6).double(), grid().requires_grad_(True)
    for row in range(5):
        (gradient,) = torch.autograd.grad(context(codes)[:, :, row].sum(), codes)
        assert (gradient[:, :, row + 1 :] == 0).all()
        assert (gradient[:, :, row] != 0).any()
        for before in range(max(0, row - 3), row):  # three layers, a row each
            assert (gradient[:, :, before] != 0).any()


@pytest.mark.parametrize("turn", range(4))
def test_a_patch_is_predicted_from_its_side_alone(turn):
    """Of one side, the loss of a patch depends on what is two rows before it."""
    net, codes = network(n_steps=1), grid(6, 6)
    for other, steps in enumerate(net.predictions):
        if other != turn:
            steps[0].weight.zero_()
    codes = codes.requires_grad_(True)
    lost = net.losses(codes, net.negatives).rot90(turn, (1, 2))
    (gradient,) = torch.autograd.grad(lost[:, 4].sum(), codes)
    seen = (gradient.rot90(turn, (2, 3)) != 0).any(1).any(2)
    assert_array_equal(seen[0], [True, True, True, False, True, False])


def test_a_code_is_that_of_its_patch():
    net, rng = network(), np.random.default_rng(0)
    x = torch.as_tensor(rng.uniform(size=(1, 32 * 32)))
    x = x.requires_grad_(True)
    codes = net.codes(net.pictures(x)[0])
    assert codes.shape == (1, 6, 7, 7)
    dense, _ = net.encoder.all_codes(net.pictures(x)[0], (4, 4))
    assert_allclose(codes.detach(), dense.detach(), rtol=1e-10)
    (gradient,) = torch.autograd.grad(codes[0, :, 2, 3].sum(), x)
    used = (gradient.view(32, 32) != 0).numpy()
    assert used[8:16, 12:20].mean() > 0.5
    assert used.sum() == used[8:16, 12:20].sum()


def test_scores_do_not_depend_on_the_batch_and_the_map_is_the_network_s():
    X, new = pictures(20), pictures(5, 1)
    detector = CPC(max_epochs=2, code_size=8, n_negatives=16, random_state=0).fit(X)
    scores = detector.score_samples(new)
    alone = np.concatenate([detector.score_samples(one[None]) for one in new])
    assert_allclose(scores, alone, rtol=1e-9)
    net = detector.net_.double()
    maps = net.map(torch.as_tensor(new).flatten(1))
    assert_allclose(detector.transform(new), maps, rtol=1e-6)
    assert_allclose(-scores, detector.transform(new).max((1, 2)))
    assert net.negatives.shape == (16, 8)
    again = CPC(max_epochs=2, code_size=8, n_negatives=16, random_state=0).fit(X)
    assert_array_equal(again.score_samples(new), scores)
    other = CPC(max_epochs=2, code_size=8, n_negatives=16, random_state=1).fit(X)
    assert not np.allclose(other.score_samples(new), scores)


def test_negatives_are_patches_of_the_training_pictures():
    net = network(n_negatives=20)
    x = torch.rand(6, 32 * 32, dtype=torch.float64)
    torch.manual_seed(0)
    net.finish(lambda: iter([(x[:2], None), (x[2:], None)]))
    every = net.codes(net.pictures(x)[0]).movedim(1, 3).flatten(0, 2)
    away = torch.cdist(net.negatives, every)
    assert away.amin(1).max() < 1e-6
    which = away.argmin(1)
    assert len(which.unique()) == 20  # without repetition
    assert len((which // 49).unique()) > 2  # of all pictures
    few = network(n_negatives=1000)
    few.finish(lambda: iter([(x[:1], None)]))
    assert few.negatives.shape == (49, 6)


def test_it_finds_what_does_not_go_on():
    X, bad = pictures(40), pictures(10, 1)
    bad[:, 8:16, 16:24] = bad[:, 8:16, 16:24][:, :, ::-1] + 0.05
    detector = CPC(max_epochs=30, random_state=0).fit(X)
    good = detector.score_samples(pictures(10, 2))
    assert detector.score_samples(bad).max() < good.min()
    maps = detector.transform(bad)
    place = [np.unravel_index(one.argmax(), one.shape) for one in maps]
    assert all(4 <= row < 20 and 12 <= column < 28 for row, column in place)
    losses = [row["train_loss"] for row in detector.history_]
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("size", [(5, 40), (8, 8), (33, 47), (1, 1)])
def test_pictures_of_any_size(size):
    X = np.random.default_rng(0).uniform(size=(6, *size))
    detector = CPC(max_epochs=1, code_size=4, n_negatives=8, random_state=0).fit(X)
    maps = detector.transform(X)
    assert maps.shape == X.shape
    assert np.isfinite(maps).all()
    net = detector.net_
    x, before = net.pictures(torch.as_tensor(X, dtype=torch.float32).flatten(1))
    (top, left), (h, w) = before, size
    inside = x[:, 0, top : top + h, left : left + w]
    assert_allclose(inside, 2 * X - 1, atol=1e-6)
    assert min(net.codes(x).shape[2:]) >= 4


def test_what_is_refused():
    with pytest.raises(ValueError, match="patch_size=12 must be one of"):
        CPC(patch_size=12).fit(pictures(4))
    with pytest.raises(ValueError, match="The 'n_negatives' parameter"):
        CPC(n_negatives=0).fit(pictures(4))
