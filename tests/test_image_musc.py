"""MuSc: pictures that score one another, and those that look alike."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

from skad.embedding import ViTEmbedding
from skad.image import MuSc
from skad.image.memory._musc import local_mean, reweighted
from tests._pixels import Pixels
from tests._transformer import TinyViT

PIXELS = {"backbone": Pixels, "layers": ("pixel",)}


def pictures(n, *shape, seed=0):
    random = np.random.default_rng(seed)
    return random.uniform(size=(n, *shape)).astype(np.float32)


def embedding():
    return ViTEmbedding(TinyViT, (1, 3), norm=False)


def described(X):
    """Return of each layer the patches of pictures, each of mean 0 and deviation 1."""
    fitted, found = embedding().fit(X), []
    with torch.no_grad():
        tokens = fitted.tokens(torch.tensor(X))
    for _, maps in tokens:
        rows = maps.permute(0, 2, 3, 1).double().numpy()
        rows = rows - rows.mean(3, keepdims=True)
        found.append(rows / np.sqrt(rows.var(3, keepdims=True) + 1e-5))
    whole = tokens[-1][0].double().numpy()
    return found, whole / np.linalg.norm(whole, axis=1, keepdims=True)


def around(rows, side):
    """Return the mean of the square of places around each, as far as there are any."""
    found, reach = np.empty_like(rows), side // 2
    for i, j in np.ndindex(*rows.shape[1:3]):
        square = rows[:, max(0, i - reach) : i + reach + 1]
        square = square[:, :, max(0, j - reach) : j + reach + 1]
        found[:, i, j] = square.mean((1, 2))
    return found


def naive(asked, pool, sides, share, leave=()):
    """Return the anomaly of the patches of one picture by a loop over everything."""
    total = []
    others = [j for j in range(len(pool[0])) if j not in leave]
    for one, known in zip(asked, pool, strict=True):
        for side in sides:
            p, m = around(one[None], side)[0], around(known, side)
            away = np.empty((*p.shape[:2], len(others)))
            for i, j in np.ndindex(*p.shape[:2]):
                for column, picture in enumerate(others):
                    ways = m[picture].reshape(-1, m.shape[3]) - p[i, j]
                    away[i, j, column] = np.linalg.norm(ways, axis=1).min()
            k = max(1, int(share * len(others)))
            total.append(np.sort(away, axis=2)[:, :, :k].mean(2))
    return np.mean(total, axis=0)


def test_it_is_the_loop_over_pictures_and_patches():
    X, new = pictures(8, 16, 20, 3), pictures(2, 16, 20, 3, seed=1)
    detector = MuSc(embedding=embedding(), sides=(1, 3), n_alike=(1,)).fit(X)
    (pool, _), (asked, _) = described(X), described(new)
    found = detector._patches(torch.tensor(new))
    for i in range(2):
        expected = naive([layer[i] for layer in asked], pool, (1, 3), 0.3)
        assert_allclose(found[i], expected, atol=2e-4)
    # without smoothing and with pixels between patches the maximum is of patches
    tops = [
        naive([layer[i] for layer in pool], pool, (1, 3), 0.3, leave=(i,)).max()
        for i in range(8)
    ]
    assert_allclose(detector.mutual_anomaly_, tops, rtol=0.1)
    features, _ = detector._described(torch.tensor(X))
    assert_allclose(
        detector._away(features, torch.arange(8)).amax((1, 2)), tops, atol=2e-4
    )


def test_scores_are_averaged_with_those_that_look_alike():
    X, new = pictures(8, 16, 16, 3), pictures(3, 16, 16, 3, seed=1)
    plain = MuSc(embedding=embedding(), n_alike=(1,)).fit(X)
    detector = MuSc(embedding=embedding(), n_alike=(1, 2, 4)).fit(X)
    (_, known), (_, whole) = described(X), described(new)
    alone, mutual = -plain.score_samples(new), plain.mutual_anomaly_.numpy()
    assert_allclose(detector.mutual_anomaly_, mutual)
    for i in range(3):
        cosines = known @ whole[i]
        means = []
        for k in (1, 2, 4):
            near = np.argsort(-cosines)[: k - 1]
            weights = np.append(1, np.maximum(cosines[near], 0))
            values = np.append(alone[i], mutual[near])
            means.append(weights @ values / weights.sum())
        assert -detector.score_samples(new)[i] == pytest.approx(
            np.mean(means), abs=1e-4
        )
    low = torch.tensor([1.0, 2.0])
    cosines = torch.tensor([[-0.5, 0.0], [0.2, -1.0]])
    assert_allclose(reweighted(low, cosines, low, (3,)), [1, (2 + 0.2) / 1.2])


def test_alike_pictures_have_no_anomaly_and_an_odd_one_has_its_distance():
    one, odd = pictures(2, 16, 16, 3)
    X = np.stack([one] * 6 + [odd])
    detector = MuSc(embedding=embedding(), n_alike=(1,)).fit(X)
    mutual = detector.mutual_anomaly_.numpy()
    assert_allclose(mutual[:6], 0, atol=1e-5)
    pair = MuSc(embedding=embedding(), n_alike=(1,)).fit(np.stack([one, odd]))
    assert mutual[6] == pytest.approx(float(pair.mutual_anomaly_[1]), rel=1e-5)
    assert mutual[6] > 0.2
    # up to three in ten of the pool may be odd, and more others are no matter
    more = np.concatenate([X, odd[None]])
    again = MuSc(embedding=embedding(), n_alike=(1,)).fit(more).mutual_anomaly_
    assert float(again[6]) <= mutual[6] + 1e-5  # a copy raises nothing
    assert_allclose(again[:6], 0, atol=1e-5)


def test_a_new_picture_does_not_join_the_pool():
    X, new = pictures(8, 16, 16, 3), pictures(5, 16, 16, 3, seed=1)
    detector = MuSc(embedding=embedding()).fit(X)
    alone = [detector.score_samples(new[i : i + 1])[0] for i in range(5)]
    assert_allclose(detector.score_samples(new), alone, rtol=1e-5)
    assert [layer.shape for layer in detector.pool_] == [(8, 4, 4, 12)] * 2
    # one of the pool has a copy there
    assert (-detector.score_samples(X) < detector.mutual_anomaly_.numpy()).all()


def test_it_finds_the_defects_of_a_pool_that_holds_them():
    random = np.random.default_rng(0)
    stripes = 0.5 + 0.3 * np.sin(np.arange(32) / 2)[:, None]
    X = stripes + random.normal(0, 0.02, size=(20, 32, 32, 3))
    X = X.astype(np.float32)
    places = random.integers(0, 24, size=(4, 2))
    for picture, (row, column) in zip(X, places, strict=False):
        picture[row : row + 8, column : column + 8] = random.uniform(size=3)
    detector = MuSc(embedding=embedding()).fit(X)
    mutual = detector.mutual_anomaly_
    assert mutual[:4].min() > mutual[4:].max()


def test_means_are_of_places_that_there_are():
    features = torch.rand(2, 4, 3, 5, dtype=torch.float64)
    for side in (1, 3, 5):
        assert_allclose(local_mean(features, side), around(features.numpy(), side))


@pytest.mark.parametrize("given", [{"sides": (2,)}, {"n_alike": ()}, {"sides": (0,)}])
def test_wrong_numbers_are_named(given):
    (name, value), *_ = given.items()
    with pytest.raises(ValueError, match=f"{name}=.* has to be"):
        MuSc(**PIXELS, **given).fit(pictures(4, 6, 6))
    assert value is given[name]
