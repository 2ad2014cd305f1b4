"""PNI: what is around a patch, where rows of the bank are, and the masked search."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn.base import clone

from skad.image import PNI, PatchCore
from skad.image.memory._pni import Context, likely, position_histogram
from skad.image.memory._search import nearest
from tests.test_image_networks import GRID, as_batch, pictures

SMALL = PNI(
    **GRID,
    n_codes=6,
    context_size=3,
    n_layers=3,
    hidden_size=8,
    neighborhood=1,
    coreset_ratio=0.1,
    max_epochs=2,
    smoothing=0,
    random_state=0,
)


pytestmark = pytest.mark.usefixtures("own_generator")


@pytest.mark.parametrize("size", [3, 5])
def test_the_context_is_all_around_a_patch_but_the_patch(size):
    layer, r = Context(4, 7, size).double(), size // 2
    x = torch.randn(2, 4, 5, 6, dtype=torch.float64)
    found = layer(x).detach().numpy()
    padded = np.pad(x.numpy(), [(0, 0), (0, 0), (r, r), (r, r)])
    weight = layer.weight.detach().numpy().reshape(7, 4, size * size)
    weight = np.delete(weight, size * size // 2, axis=2)
    for b, i, j in np.ndindex(2, 5, 6):
        window = padded[b, :, i : i + size, j : j + size].reshape(4, size * size)
        around = np.delete(window, size * size // 2, axis=1)
        expected = np.einsum("odk,dk->o", weight, around) + layer.bias.detach().numpy()
        assert_allclose(found[b, :, i, j], expected)


def test_the_classifier_does_not_see_the_patch_it_predicts():
    network = clone(SMALL).fit(pictures(12)).net_.double()
    features = torch.randn(1, 8, 8, 14, dtype=torch.float64, requires_grad=True)
    logits = network.logits(features)[0, network.is_code, 3, 4]
    (gradient,) = torch.autograd.grad(logits.square().sum(), features)
    seen = gradient[0].abs().sum(-1) > 0
    expected = torch.zeros(8, 8, dtype=torch.bool)
    expected[2:5, 3:6] = True
    expected[3, 4] = False
    assert torch.equal(seen, expected)


@pytest.mark.parametrize("size", [3, 5, 9])
def test_positions_are_the_naive_count(size):
    rows, r = torch.randint(0, 6, (4, 5, 7)), size // 2
    found = position_histogram(rows, 6, size)
    for i, j in np.ndindex(5, 7):
        window = rows[:, max(0, i - r) : i + r + 1, max(0, j - r) : j + r + 1]
        counts = np.bincount(window.flatten(), minlength=6)
        assert_allclose(found[i, j], counts / counts.sum(), rtol=1e-6)


def test_the_most_probable_rows_are_always_allowed():
    p = torch.tensor([[0.1, 0.3, 0.3, 0.3], [0.7, 0.1, 0.1, 0.1]])
    expected = [[False, True, True, True], [True, False, False, False]]
    assert likely(p, 0.2).tolist() == expected
    assert likely(p, 0.9).tolist() == expected
    assert likely(p, 0.0).all()


def test_the_search_leaves_out_what_is_not_allowed():
    queries, bank = torch.randn(9, 3), torch.randn(5, 3)
    allowed = torch.rand(9, 5) < 0.5
    allowed[:, 2] = True
    found, rows = nearest(
        queries, bank, bank.square().sum(1), allowed=lambda part: allowed[part]
    )
    away = torch.cdist(queries, bank).masked_fill(~allowed, torch.inf)
    assert_allclose(found[:, 0], away.min(1).values, rtol=1e-5)
    assert torch.equal(rows[:, 0], away.argmin(1))


def test_the_map_is_the_formula():
    X, new = pictures(12), pictures(3, seed=5)
    given = {"min_probability": 13.0, "temperature": 0.5, "contamination": 0.1}
    detector = clone(SMALL).set_params(**given).fit(X)
    network = detector.net_.double()
    features = detector.embedding_.embed(as_batch(new)).double()
    bank, codes = network.bank.numpy(), network.codes[network.is_code].numpy()
    logits = network.classifier(features.movedim(-1, 1))[:, : len(codes)]
    by_code = (logits / 0.5).softmax(1).detach().numpy()
    code_of = [np.linalg.norm(codes - row, axis=1).argmin() for row in bank]
    assert 1 < len(set(code_of)) == len(codes) < len(bank)
    rows = detector.embedding_.embed(as_batch(X).float()).double().numpy()
    rows = np.array(
        [np.linalg.norm(bank - one, axis=1).argmin() for one in rows.reshape(-1, 14)]
    ).reshape(12, 8, 8)
    both = [each.numpy() for each in network.both(features.flatten(1))]
    masked = np.zeros(2)
    for b, i, j in np.ndindex(3, 8, 8):
        window = rows[:, max(0, i - 1) : i + 2, max(0, j - 1) : j + 2].flatten()
        position = np.bincount(window, minlength=len(bank)) / len(window)
        away = np.linalg.norm(bank - features[b, i, j].numpy(), axis=1)
        for k, p in enumerate((by_code[b, code_of, i, j], position)):
            allowed = p >= min(13 / len(bank), p.max())
            masked[k] += away[allowed].min() > away.min()
            assert_allclose(both[k][b, i, j], away[allowed].min(), rtol=1e-5)
    assert (masked >= 10).all()
    assert_allclose(network.map(features.flatten(1)), (both[0] + both[1]) / 2)


def test_where_all_is_allowed_it_is_patchcore():
    X, new = pictures(12), pictures(3, seed=5)
    given = {"coreset_ratio": 1.0, "contamination": 0.1, "smoothing": 0}
    detector = clone(SMALL).set_params(**given, min_probability=0).fit(X)
    other = PatchCore(**GRID, **given, neighborhood=1, random_state=0).fit(X)
    assert_allclose(detector.transform(new), other.transform(new), rtol=1e-4)
    strict = clone(SMALL).set_params(**given, min_probability=1.0).fit(X)
    assert (strict.transform(new) >= other.transform(new) * (1 - 1e-4)).all()
    assert not np.allclose(strict.transform(new), other.transform(new), rtol=0.1)


def halves(n, seed):
    """Return aligned pictures (n, 32, 32), dark on the left and bright on the right."""
    rng = np.random.default_rng(seed)
    found = np.full((n, 32, 32), 0.2)
    found[:, :, 16:] = 0.8
    return found + rng.normal(0, 0.01, size=found.shape)


def test_halves_that_are_swapped_are_known_patches_in_the_wrong_place():
    X, new = halves(12, 0), halves(4, 1)
    swapped = np.roll(new, 16, axis=2)
    given = {"coreset_ratio": 0.5, "contamination": 0.1}
    other = PatchCore(**GRID, **given, neighborhood=1, smoothing=0, random_state=0)
    away, away_swapped = (other.fit(X).transform(each) for each in (new, swapped))
    detector = clone(SMALL).set_params(**given).fit(X)
    far, far_swapped = (detector.transform(each) for each in (new, swapped))
    # the seam aside
    inner = np.r_[2:8, 24:30]
    assert away_swapped[:, :, inner].max() < 1.5 * away[:, :, inner].max()
    assert far_swapped[:, :, inner].min() > 3 * far[:, :, inner].max()


def test_training_learns_what_is_around():
    X = halves(20, 0)
    given = {"n_codes": 2, "dropout": 0.0, "max_epochs": 12, "lr": 0.01}
    detector = clone(SMALL).set_params(**given, batch_size=4).fit(X)
    # two codes, of about as many patches each
    losses = [row["train_loss"] for row in detector.history_]
    assert losses[-1] < 0.25 < 0.5 < losses[0]


@pytest.mark.parametrize("seen", [12, 3])
def test_codes_are_of_training_patches_and_no_more_than_these(seen):
    X = pictures(seen)
    given = {"n_codes": 500, "coreset_ratio": 0.2, "contamination": 0.1}
    detector = clone(SMALL).set_params(**given).fit(X)
    network = detector.net_
    n_codes = int(network.is_code.sum())
    assert n_codes == round(0.2 * seen * 64)
    patches = detector.embedding_.embed(as_batch(X).float()).flatten(0, 2)
    away = (network.codes[:n_codes, None] - patches).square().sum(2)
    assert away.min(1).values.max() < 1e-8
    found = network.logits(network.features(detector._describe(as_batch(X).float())))
    assert (found[:, n_codes:] == -torch.inf).all()


def test_a_warm_start_keeps_the_codes_that_the_classifier_knows():
    detector = clone(SMALL).set_params(warm_start=True).fit(pictures(12))
    codes, bank = detector.net_.codes.clone(), detector.net_.bank.clone()
    detector.fit(pictures(12, seed=3))
    assert torch.equal(detector.net_.codes, codes)
    assert not torch.equal(detector.net_.bank, bank)


def test_the_rate_falls_twice():
    detector = clone(SMALL).set_params(max_epochs=15)
    (callback,) = detector._own_callbacks("fit", 15)
    assert callback.kwargs["milestones"] == [5, 10]
    assert callback.kwargs["gamma"] == 0.1


def test_an_even_context_has_no_middle():
    with pytest.raises(ValueError, match="context_size=4 must be odd"):
        clone(SMALL).set_params(context_size=4).fit(pictures(4))
