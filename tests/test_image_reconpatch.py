"""ReConPatch: what is alike, the loss, and the bank."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose
from sklearn import config_context
from sklearn.base import clone

from skad.image import PatchCore, ReConPatch
from skad.image.memory._reconpatch import contextual_similarity, relaxed_contrast
from tests.test_image_networks import GRID, as_batch, pictures

SMALL = ReConPatch(
    **GRID,
    code_size=16,
    projection_size=4,
    step_size=40,
    max_epochs=2,
    smoothing=0,
    random_state=0,
)


pytestmark = pytest.mark.usefixtures("own_generator")


def table(n, d=3):
    """Return squared distances (n, n) of drawn rows."""
    rows = torch.randn(n, d, dtype=torch.float64)
    return (rows[:, None] - rows).square().sum(2)


def naive_context(distances, k):
    """Return the contextual similarity, place by place."""
    n = len(distances)

    def around(i, k):
        k = max(1, min(k, n))
        return set(np.flatnonzero(distances[i] <= np.sort(distances[i])[k - 1]))

    shared = np.zeros((n, n))
    for i in range(n):
        for j in around(i, k):
            common = around(i, k) & around(j, k)
            shared[i, j] = len(common) / len(around(i, k))
    mean = np.zeros((n, n))
    for i in range(n):
        mutual = [j for j in around(i, k // 2) if i in around(j, k // 2)]
        assert i in mutual
        mean[i] = np.mean(shared[mutual], axis=0)
    return (mean + mean.T) / 2


@pytest.mark.parametrize("k", [1, 2, 5, 8, 30])
def test_context_is_the_naive_loop(k):
    distances = table(12)
    found = contextual_similarity(distances, k)
    assert_allclose(found, naive_context(distances.numpy(), k))
    assert (found.diagonal() > 0).all()


def test_the_loss_is_the_papers_and_has_no_scale():
    codes = torch.randn(7, 4, dtype=torch.float64, requires_grad=True)
    w = torch.rand(7, 7, dtype=torch.float64)
    expected, rows = 0, codes.detach().numpy()
    for i in range(7):
        away = np.linalg.norm(rows - rows[i], axis=1)
        delta = away / away.mean()
        for j in range(7):
            attracts = w[i, j].item() * delta[j] ** 2
            repels = (1 - w[i, j].item()) * max(0, 1 - delta[j]) ** 2
            expected += (attracts + repels) / 7
    loss = relaxed_contrast(codes, w)
    # a distance of zero counts as one millionth
    assert_allclose(loss.item(), expected, rtol=1e-5)
    assert_allclose(relaxed_contrast(9 * codes, w).item(), loss.item(), rtol=1e-5)
    loss.backward()
    assert codes.grad.isfinite().all()


def test_what_is_alike_is_weighed():
    network = clone(SMALL).set_params(pair_weight=0.3, bandwidth=2.0)
    network = network.fit(pictures(12)).net_.double()
    patches = torch.randn(9, 14, dtype=torch.float64)
    codes = network.targets(patches)
    away = (codes[:, None] - codes).square().sum(2).numpy()
    pairs = np.exp(-away / (2 * away.mean()))
    expected = 0.3 * pairs + 0.7 * naive_context(away, 5)
    assert_allclose(network.similarity(patches), expected, rtol=1e-6)
    same = network.similarity(torch.ones(5, 14, dtype=torch.float64))
    assert_allclose(same, 1)


def test_targets_follow_slowly():
    X = pictures(12)
    moved, kept = (
        clone(SMALL).set_params(momentum=m, lr=0.01).fit(X).net_ for m in (0.0, 1.0)
    )
    assert torch.equal(moved.targets[0].weight, moved.adaptor.weight)
    weight = kept.targets[0].weight  # of the beginning, where columns are orthogonal
    assert_allclose(weight.T @ weight, np.eye(14), atol=1e-5)
    assert not np.allclose(weight, kept.adaptor.weight, atol=1e-3)


@pytest.mark.parametrize("memory", [1024, 0.02])
def test_the_bank_is_of_training_patches(memory):
    X = pictures(12)
    with config_context(working_memory=memory):
        detector = clone(SMALL).set_params(coreset_ratio=0.05, contamination=0.1)
        network = detector.fit(X).net_
    patches = detector.embedding_.embed(as_batch(X).float()).flatten(0, 2)
    codes = network.adaptor(patches)
    assert len(network.bank) == round(0.05 * len(codes))
    away = (network.bank[:, None] - codes).square().sum(2)
    assert away.min(1).values.max() < 1e-8
    assert len(network.bank.unique(dim=0)) == len(network.bank)


def test_without_training_it_is_patchcore():
    X, new = pictures(12), pictures(3, seed=5)
    given = {"coreset_ratio": 1.0, "contamination": 0.1, "smoothing": 0}
    detector = clone(SMALL).set_params(**given, max_epochs=1, lr=1e-12).fit(X)
    other = PatchCore(**GRID, **given, random_state=0).fit(X)
    assert_allclose(detector.transform(new), other.transform(new), rtol=1e-4)
    trained = clone(SMALL).set_params(**given, lr=0.01).fit(X)
    assert not np.allclose(trained.transform(new), other.transform(new), rtol=0.1)
