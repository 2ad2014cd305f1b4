"""REPEN: LeSiNN by hand, the draws of triplets, and what labels add."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score

from skad.neighbors import REPEN
from skad.neighbors._repen import (
    draw_triplets,
    nearest_distances,
    outlier_cut,
    ranking_loss,
)


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(0).normal(size=(120, 4))


@pytest.fixture(scope="module")
def fitted(rows):
    y = np.repeat([0, -1], [114, 6])
    return REPEN(max_epochs=3, n_subsamples=7, random_state=0).fit(rows, y)


def lesinn(points, subsamples):
    """Return the mean distance to the nearest of each set, by loops."""
    return [
        np.mean([min(np.linalg.norm(x - z) for z in own) for own in subsamples])
        for x in points
    ]


def test_distances_are_those_of_a_loop_and_zero_for_members(rows):
    sets = rows[:24].reshape(3, 8, 4)
    found = nearest_distances(torch.as_tensor(rows), torch.as_tensor(sets))
    assert_allclose(found, lesinn(rows, sets))
    one = nearest_distances(torch.as_tensor(rows[:8]), torch.as_tensor(sets[:1]))
    assert_array_equal(one, np.zeros(8))


def test_candidates_are_far_above_the_mean_or_the_ten_highest():
    scores = torch.tensor([0.0] * 18 + [5.0, 1.0], dtype=torch.float64)
    cut = 0.3 + np.sqrt(3) * np.std(scores.numpy())
    assert_allclose(outlier_cut(scores), cut)
    assert (scores > cut).sum() == 1
    even = torch.linspace(0, 1, 50)  # the deviation is 1 / sqrt(12): none is beyond
    assert (even > outlier_cut(even)).sum() == 10
    assert (even[:6] > outlier_cut(even[:6])).sum() == 3


def test_triplets_are_drawn_by_the_weights_of_the_paper():
    torch.manual_seed(0)
    scores = torch.tensor([1.0, 2.0, 3.0, 6.0, 10.0, 30.0, 50.0]).repeat(4000)
    known = torch.zeros(len(scores), dtype=torch.bool)
    known[6::7] = True
    first, second, third = draw_triplets(scores, torch.tensor(6.0), known)
    assert len(first) == len(scores)
    assert (first != second).all()
    kinds = [np.bincount(places % 7, minlength=7) for places in (first, second)]
    # the weights of inliers are all but the same: their sum less the score
    small = torch.tensor([1.0, 2.0, 3.0, 9.0])
    none = torch.zeros(4, dtype=torch.bool)
    found = torch.cat(
        [draw_triplets(small, torch.tensor(3.0), none)[0] for _ in range(6000)]
    )
    shares = np.bincount(found, minlength=4) / len(found)
    assert_allclose(shares, [5 / 12, 4 / 12, 3 / 12, 0], atol=0.01)
    for kind in kinds:
        assert_allclose(kind / len(first), [0.25] * 4 + [0] * 3, atol=0.01)
    assert (third[::2] % 7 == 6).all()
    candidates = np.bincount(third[1::2] % 7, minlength=7) / len(third[1::2])
    assert_allclose(candidates, [0, 0, 0, 0, 0.25, 0.75, 0], atol=0.01)


def test_a_batch_without_a_negative_or_two_inliers_has_no_triplets(rows):
    scores, none = torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3, dtype=torch.bool)
    assert not len(draw_triplets(scores, torch.tensor(4.0), none)[0])
    assert not len(draw_triplets(scores, torch.tensor(1.0), none)[0])
    alike = draw_triplets(torch.zeros(3), torch.tensor(0.0), none | (scores == 3))
    assert (alike[2] == 2).all()
    assert np.isfinite(REPEN(max_epochs=1).fit(np.ones((40, 2))).offset_)


def test_the_loss_ranks_squared_distances():
    rng = np.random.default_rng(1)
    a, p, n = (rng.normal(size=(5, 3)) for _ in range(3))
    near, far = ((a - p) ** 2).sum(1), ((a - n) ** 2).sum(1)
    tensors = [torch.as_tensor(one) for one in (a, p, n)]
    assert_allclose(ranking_loss(*tensors, 1000.0), 1000 + (near - far).mean())
    hinge = np.maximum(0, 0.5 + near - far)
    assert 0 < (hinge == 0).sum() < 5
    assert_allclose(ranking_loss(*tensors, 0.5), hinge.mean())


def test_the_score_is_lesinn_of_the_codes_of_training_rows(rows, fitted):
    drawn = fitted.net_.drawn.reshape(-1, 4).numpy()
    away = np.abs(drawn[:, None] - rows.astype(np.float32)).max(2)  # (m s, n)
    assert (away.min(1) == 0).all()
    used = set(away.argmin(1))
    assert len(used) > 30
    assert not used & set(range(114, 120))  # known anomalies
    held = fitted.n_held_out_
    assert held >= 20
    assert len(used) <= 114 - held
    net = fitted.net_.double()
    codes = np.maximum(net.encoder(torch.as_tensor(rows)).numpy(), 0)
    of_sets = np.maximum(net.encoder(net.drawn.reshape(-1, 4)).numpy(), 0)
    expected = lesinn(codes, of_sets.reshape(7, 8, -1))
    assert_allclose(-fitted.score_samples(rows), expected, rtol=1e-5)


def test_the_map_sums_to_what_is_more_than_the_mean_sample_has(rows, fitted):
    mean = fitted.net_.baseline.double().numpy()[None]
    anomaly = -fitted.score_samples(rows)
    more = anomaly + fitted.score_samples(mean)
    assert_allclose(fitted.transform(rows).sum(1), more, atol=0.1 * np.ptp(anomaly))


def test_known_anomalies_shape_the_codes():
    rng = np.random.default_rng(0)

    def draw(n, shift):
        X = rng.normal(size=(n, 6)) * [3, 3, 3, 3, 0.3, 0.3]
        X[:, 4:] += shift
        return X

    X = np.concatenate([draw(300, 0), draw(8, 1.5)])
    y = np.repeat([0, -1], [300, 8])
    new = np.concatenate([draw(200, 0), draw(50, 1.5)])
    truth = np.repeat([0, 1], [200, 50])
    detector = REPEN(max_epochs=60, lr=0.01, random_state=0)
    alone = roc_auc_score(truth, -detector.fit(X).score_samples(new))
    told = roc_auc_score(truth, -detector.fit(X, y).score_samples(new))
    outside = detector.fit(X[:300], X_outliers=X[300:])
    assert told > alone + 0.1
    assert roc_auc_score(truth, -outside.score_samples(new)) > alone + 0.1


def test_subsamples_of_few_rows_leave_some_out(rows):
    net = REPEN(max_epochs=1, n_subsamples=5, contamination=0.1).fit(rows[:4]).net_
    assert [len(np.unique(own, axis=0)) for own in net.drawn.numpy()] == [2] * 5
