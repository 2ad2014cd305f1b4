"""RefinedDetector against its rule by hand, and what it leaves to its detector."""

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skad
from skad import KNN, DevNet, Mahalanobis, RefinedDetector
from skad._cross_fitting import cross_fitted
from skad.ensemble._refined import most_anomalous
from tests._pixels import Pixels


@pytest.fixture(scope="module")
def rows():
    """A hundred normal rows, then ten far away on one side."""
    rng = np.random.default_rng(0)
    return np.r_[rng.normal(size=(100, 3)), rng.normal(100.0, 1.0, size=(10, 3))]


class Labelled(KNN):
    """A detector that leaves rows out in a closed form, and is told of anomalies."""

    _uses_labels = True


def honest(member, X, part):
    """Return the anomaly of all rows, of the member's own as if they were new."""
    found = -member.score_samples(X)
    found[part] = member._honest_anomaly(X[part], None, None)
    return found


def test_at_most_the_fraction_is_rejected_and_ties_stay():
    anomaly = np.array([3.0, 1.0, 4.0, 1.5, 9.0, 2.6, 5.0, 3.5, 8.0, 7.0])
    assert_array_equal(np.flatnonzero(most_anomalous(anomaly, 0.3)), [4, 8, 9])
    assert_array_equal(np.flatnonzero(most_anomalous(anomaly, 0.39)), [4, 8, 9])
    assert not most_anomalous(anomaly, 0.09).any()
    assert not most_anomalous(np.ones(10), 0.5).any()
    assert_array_equal(
        most_anomalous(np.array([1.0, 2.0, 2.0, 3.0]), 0.5), [0, 0, 0, 1]
    )


def test_one_copy_rejects_the_fraction_that_is_most_anomalous(rows):
    refined = RefinedDetector(KNN(), n_splits=1, outlier_fraction=0.2).fit(rows)
    found = KNN().fit(rows)._honest_anomaly(rows, None, None)
    gone = np.argsort(-found)[:22]
    assert_array_equal(np.flatnonzero(~refined.support_), np.sort(gone))
    left = KNN().fit(rows[refined.support_])
    assert_allclose(refined.score_samples(rows), left.score_samples(rows))
    assert_allclose(refined.transform(rows), left.transform(rows))


@pytest.mark.parametrize("vote", ["any", "all"])
@pytest.mark.parametrize("rounds", [1, 2])
def test_copies_of_parts_vote_as_in_a_loop(rows, vote, rounds):
    refined = RefinedDetector(
        Mahalanobis(),
        outlier_fraction=0.15,
        n_splits=3,
        vote=vote,
        n_refinements=rounds,
        random_state=4,
    ).fit(rows)
    parts = np.array_split(np.random.RandomState(4).permutation(110), 3)
    left = np.ones(110, dtype=bool)
    for _ in range(rounds):
        votes = np.zeros(110, dtype=int)
        for part in parts:
            own = np.sort([i for i in part if left[i]])
            found = honest(Mahalanobis().fit(rows[own]), rows, own)
            votes[np.argsort(-found)[: int(0.15 * 110)]] += 1
        left = votes < {"any": 1, "all": 3}[vote]
    assert_array_equal(refined.support_, left)


def test_far_anomalies_go_and_few_others(rows):
    alone = Mahalanobis().fit(rows)
    refined = RefinedDetector(Mahalanobis(), random_state=0).fit(rows)
    assert not refined.support_[100:].any()
    assert refined.support_[:100].sum() >= 100 - 5 * 11 + 10
    near = np.random.default_rng(1).normal(4.0, 0.5, size=(20, 3))
    new = np.r_[np.random.default_rng(2).normal(size=(50, 3)), near]
    truth = np.repeat([0, 1], [50, 20])
    gained = [roc_auc_score(truth, -one.score_samples(new)) for one in (alone, refined)]
    assert gained[0] < 0.9 < 0.99 < gained[1]


def test_nothing_to_reject_is_the_detector_alone(rows):
    refined = RefinedDetector(KNN(), outlier_fraction=0).fit(rows)
    alone = KNN().fit(rows)
    assert refined.support_.all()
    assert_array_equal(refined.score_samples(rows), alone.score_samples(rows))
    assert refined.offset_ == alone.offset_


def test_the_threshold_counts_rejected_rows_as_new_ones(rows):
    refined = RefinedDetector(KNN(), random_state=0).fit(rows)
    member, left = refined.detector_, refined.support_
    expected = np.empty(110)
    expected[left] = member._honest_anomaly(rows[left], None, None)
    expected[~left] = -member.score_samples(rows[~left])
    seen = -refined.score_samples(rows)
    assert_allclose(refined._honest_anomaly(rows, None, seen), expected)
    piped = RefinedDetector(make_pipeline(StandardScaler(), KNN()), random_state=0)
    piped.fit(rows)
    assert_allclose(
        piped._honest_anomaly(rows, None, seen), cross_fitted(piped, rows, None, {})
    )


def test_known_anomalies_are_learned_from_by_all_copies(rows):
    y = np.zeros(110, dtype=int)
    y[100:103] = -1
    detector = DevNet(max_epochs=3, hidden_sizes=(8,))
    refined = RefinedDetector(detector, n_splits=2, random_state=0, contamination=0.1)
    refined.fit(rows, y)
    assert refined.support_[100:103].all()
    assert not refined.support_.all()
    assert len(refined._honest_anomaly(rows, y, -refined.score_samples(rows))) == 107
    with pytest.raises(ValueError, match="known anomalies"):
        refined.fit(rows)
    closed = RefinedDetector(Labelled(), random_state=0).fit(rows, y)
    assert len(closed._honest_anomaly(rows, y, -closed.score_samples(rows))) == 107
    # a detector without labels does not see them
    assert not RefinedDetector(KNN(), random_state=0).fit(rows, y).support_[100:].any()


def test_lists_frames_and_pictures_go_through(rows):
    expected = RefinedDetector(random_state=0).fit(rows)
    listed = RefinedDetector(random_state=0).fit(rows.tolist())
    assert listed.offset_ == expected.offset_
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(rows, columns=list("abc"))
    framed = RefinedDetector(random_state=0).set_output(transform="pandas").fit(frame)
    assert_array_equal(framed.support_, expected.support_)
    assert list(framed.transform(frame).columns) == list("abc")

    pictures = np.random.default_rng(0).uniform(0.1, 0.3, size=(30, 6, 8))
    pictures[:2] += 0.6
    padim = skad.PaDiM(backbone=Pixels, layers=("pixel",), smoothing=0)
    refined = RefinedDetector(padim, n_splits=2, random_state=0).fit(pictures)
    assert not refined.support_[:2].any()
    assert refined.transform(pictures).shape == (30, 6, 8)


def test_series_are_refined_by_windows(rows):
    series = skad.SubsequenceKNN(window_size=5)
    with pytest.raises(ValueError, match="WindowDetector"):
        RefinedDetector(series).fit(rows)
    windows = skad.WindowDetector(RefinedDetector(KNN(), random_state=0), window_size=5)
    assert windows.fit(rows).transform(rows).shape == rows.shape


def test_copies_fitted_at_a_time_are_the_same(rows):
    forest = skad.IsolationForest(10)
    one, two = (
        RefinedDetector(forest, n_jobs=n, random_state=0).fit(rows) for n in (1, 2)
    )
    assert_array_equal(one.support_, two.support_)
    assert_array_equal(one.score_samples(rows), two.score_samples(rows))


def test_parts_too_small_for_the_detector_are_told_of(rows):
    with pytest.raises(ValueError, match="n_neighbors") as raised:
        RefinedDetector(KNN(30)).fit(rows)
    assert "n_splits=5" in raised.value.__notes__[0]
    assert "22" in raised.value.__notes__[0]
